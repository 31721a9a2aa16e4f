import { generateKeyPairSync, webcrypto } from 'node:crypto';
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { type JwtAuthenticatorOptions, jwtAuthenticator } from '../../src/auth/index.js';
import type { RequestLike } from '../../src/index.js';
import { isSseError, type SseError } from '../../src/index.js';

const SECRET = 'do-not-print-me-do-not-print-me-do-not-print-me';
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const weak = generateKeyPairSync('rsa', { modulusLength: 1024 });
const pss = generateKeyPairSync('rsa-pss', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const koblitz = generateKeyPairSync('ec', { namedCurve: 'secp256k1' });
const x25519 = generateKeyPairSync('x25519');
const publicPem = rsa.publicKey.export({ format: 'pem', type: 'spki' }) as string;
const privatePem = rsa.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string;
const publicJwk = rsa.publicKey.export({ format: 'jwk' });
const jwksUrl = 'https://login.example/jwks.json';

function problemOf(options: unknown): SseError {
  try {
    jwtAuthenticator(options as JwtAuthenticatorOptions);
  } catch (error) {
    if (isSseError(error)) return error;
    throw error;
  }
  throw new Error('it was taken');
}

describe('nonsense throws at construction and names the option', () => {
  const cases: Record<string, [options: unknown, message: RegExp]> = {
    'no options': [undefined, /^options must be an object/],
    'no key': [{}, /exactly one of secret, publicKey, jwksUrl; got none/],
    'a key from an unset variable': [{ secret: undefined }, /is an environment variable unset\?/],
    'two keys': [{ secret: SECRET, publicKey: publicPem }, /got secret and publicKey$/],
    'three keys': [{ secret: SECRET, publicKey: publicPem, jwksUrl }, /got secret and publicKey and jwksUrl$/],
    'an unknown option': [{ secret: SECRET, algorithm: 'HS256' }, /unknown option "algorithm".*known are.*algorithms/],
    'a short secret': [{ secret: 'x'.repeat(31) }, /at least 32 bytes for HS256.*it has 31$/],
    'a secret that is short for its algorithm': [
      { secret: SECRET, algorithms: ['HS256', 'HS512'] },
      /at least 64 bytes for HS512/,
    ],
    'short bytes': [{ secret: new Uint8Array(31) }, /at least 32 bytes/],
    'an empty secret': [{ secret: '' }, /it has 0$/],
    'a secret of another type': [{ secret: { k: SECRET } }, /^secret must be a string or a Uint8Array$/],
    'a number as secret': [{ secret: 1234567890 }, /^secret must be a string or a Uint8Array$/],
    'a public key as secret': [{ secret: publicPem }, /^secret must not be a PEM key; give a public key as publicKey$/],
    'a private key as secret': [{ secret: privatePem }, /^secret must not be a PEM key/],
    'a private key as publicKey': [{ publicKey: privatePem }, /^publicKey must be PEM \(BEGIN PUBLIC KEY\)/],
    'a private KeyObject': [{ publicKey: rsa.privateKey }, /^publicKey must be public; got a private key$/],
    'a private JWK': [{ publicKey: rsa.privateKey.export({ format: 'jwk' }) }, /public JWK for signatures/],
    'a symmetric JWK': [{ publicKey: { kty: 'oct', k: SECRET } }, /public JWK for signatures/],
    'a JWK for encryption': [{ publicKey: { ...publicJwk, use: 'enc' } }, /public JWK for signatures/],
    'a JWK that does not verify': [{ publicKey: { ...publicJwk, key_ops: ['sign'] } }, /public JWK for signatures/],
    'a JWK with an alg that is not its own': [{ publicKey: { ...publicJwk, alg: 'ES256' } }, /alg that does not fit/],
    'a JWK with holes': [{ publicKey: { kty: 'RSA', n: 7 } }, /^publicKey could not be read/],
    'PEM whose lines were lost': [
      { publicKey: publicPem.replaceAll('\n', '\\n') },
      /could not be read; check that its lines/,
    ],
    'text that is no key': [{ publicKey: 'hello' }, /^publicKey must be PEM/],
    'a weak RSA key': [{ publicKey: weak.publicKey }, /at least 2048 bits.*it has 1024$/],
    'an RSA-PSS key': [{ publicKey: pss.publicKey }, /must be an RSA, EC or Ed25519 key; got rsa-pss$/],
    'a curve that JOSE has not': [{ publicKey: koblitz.publicKey }, /must be on P-256, P-384 or P-521; got secp256k1$/],
    'a key that cannot sign': [{ publicKey: x25519.publicKey }, /got x25519$/],
    'HMAC with a public key': [{ publicKey: publicPem, algorithms: ['HS256'] }, /got HS256, which does not go with/],
    'HMAC among others with a public key': [
      { publicKey: publicPem, algorithms: ['RS256', 'HS256'] },
      /got HS256, which does not go with/,
    ],
    'HMAC with a key set': [{ jwksUrl, algorithms: ['HS256'] }, /got HS256, which does not go with this jwksUrl/],
    'RS256 with a secret': [{ secret: SECRET, algorithms: ['RS256'] }, /got RS256, which does not go with this secret/],
    'ES256 with an RSA key': [{ publicKey: publicPem, algorithms: ['ES256'] }, /got ES256, which does not go/],
    'ES384 with a key on P-256': [{ publicKey: ec.publicKey, algorithms: ['ES384'] }, /of ES256 here; got ES384/],
    'none with a secret': [{ secret: SECRET, algorithms: ['none'] }, /got an unknown or unsafe one$/],
    'none with a key set': [{ jwksUrl, algorithms: ['RS256', 'none'] }, /got an unknown or unsafe one$/],
    'no algorithm': [{ secret: SECRET, algorithms: [] }, /^algorithms must be a list of HS256, HS384, HS512$/],
    'an algorithm outside a list': [{ secret: SECRET, algorithms: 'HS256' }, /^algorithms must be a list of/],
    'a key set over http': [{ jwksUrl: 'http://login.example/' }, /must be https:.*got http:\/\/login\.example$/],
    'a host that looks like loopback': [{ jwksUrl: 'http://localhost.evil.example/' }, /must be https:/],
    'an address that looks like loopback': [{ jwksUrl: 'http://127.0.0.1.evil.example/' }, /must be https:/],
    'a file as key set': [{ jwksUrl: 'file:///etc/passwd' }, /must be https:/],
    'a relative URL': [{ jwksUrl: '/jwks.json' }, /^jwksUrl must be an absolute URL$/],
    'a URL with a password': [{ jwksUrl: `https://u:${SECRET}@login.example/` }, /must not carry a user name/],
    'an empty issuer': [{ secret: SECRET, issuer: '' }, /^issuer must be a string that is not empty/],
    'a list of no audience': [{ secret: SECRET, audience: [] }, /^audience must be .*; got an array$/],
    'a RegExp as issuer': [{ secret: SECRET, issuer: /x/ }, /^issuer must be/],
    'a type that is none': [{ secret: SECRET, type: '' }, /^type must be/],
    'required claims that are none': [{ secret: SECRET, requiredClaims: [7] }, /^requiredClaims must be/],
    'a tolerance below 0': [{ secret: SECRET, clockTolerance: -1 }, /^clockTolerance must be .*seconds.*got -1$/],
    'a tolerance in words': [{ secret: SECRET, clockTolerance: '5 s' }, /^clockTolerance must be .*got "5 s"$/],
    'no tolerance at all': [{ secret: SECRET, clockTolerance: Number.NaN }, /got NaN$/],
    'an endless tolerance': [{ secret: SECRET, clockTolerance: Number.POSITIVE_INFINITY }, /got Infinity$/],
    'an age of 0': [{ secret: SECRET, maxTokenAge: 0 }, /^maxTokenAge must be .*1 or more; got 0$/],
    'a length of 0': [{ secret: SECRET, maxTokenLength: 0 }, /^maxTokenLength must be/],
    'no place for the token': [{ secret: SECRET, tokenFrom: [] }, /^tokenFrom must be/],
    'an empty claim name': [{ secret: SECRET, userClaim: '' }, /^userClaim must be the name of a claim; got ""$/],
    'a claim name that is none': [{ secret: SECRET, tenantClaim: null }, /^tenantClaim must be/],
    'a mapper that is none': [{ secret: SECRET, mapIdentity: 'sub' }, /^mapIdentity must be a function/],
    'a mapper and a claim name': [
      { secret: SECRET, mapIdentity: () => null, userClaim: 'sub' },
      /^userClaim cannot go with mapIdentity/,
    ],
    'times of a key set without one': [{ secret: SECRET, jwksTimeout: 5 }, /^jwksTimeout goes with jwksUrl only/],
    'a cooldown that is none': [{ jwksUrl, jwksCooldown: '30s' }, /^jwksCooldown must be .*ms/],
    'no time to fetch a key set': [{ jwksUrl, jwksTimeout: 0 }, /^jwksTimeout must be .*ms, 1 or more; got 0$/],
    'a clock that is none': [{ secret: SECRET, clock: Date.now }, /^clock must be an object with now\(\)/],
  };
  for (const [name, [options, message]] of Object.entries(cases)) {
    test(name, () => {
      const error = problemOf(options);
      expect(error.code).toBe('SSE_ERR_INVALID_OPTION');
      expect(error.message).toMatch(message);
      expect(inspect(error, { depth: null, showHidden: true })).not.toMatch(/do-not-print-me|MII[A-Z]/);
    });
  }

  test('private and otherwise unfit CryptoKeys', async () => {
    const rsaOf = (hash: string, modulusLength = 2048) => ({
      name: 'RSASSA-PKCS1-v1_5',
      hash,
      modulusLength,
      publicExponent: new Uint8Array([1, 0, 1]),
    });
    const make = (algorithm: webcrypto.RsaHashedKeyGenParams) =>
      webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
    const { privateKey } = await make(rsaOf('SHA-256'));
    expect(problemOf({ publicKey: privateKey }).message).toMatch(/must be public; got a private CryptoKey$/);
    const weakKey = await make(rsaOf('SHA-256', 1024));
    expect(problemOf({ publicKey: weakKey.publicKey }).message).toMatch(/at least 2048 bits/);
    const sha1 = await make(rsaOf('SHA-1'));
    expect(problemOf({ publicKey: sha1.publicKey }).message).toMatch(/must use SHA-256/);
    const sha384 = await make(rsaOf('SHA-384'));
    expect(problemOf({ publicKey: sha384.publicKey, algorithms: ['RS256'] }).message).toMatch(
      /of RS384 here; got RS256/,
    );
    const dh = await webcrypto.subtle.generateKey({ name: 'ECDH', namedCurve: 'P-256' }, true, ['deriveBits']);
    expect(problemOf({ publicKey: dh.publicKey }).message).toMatch(/must allow the usage 'verify'/);
    const hmac = await webcrypto.subtle.generateKey({ name: 'HMAC', hash: 'SHA-256' }, true, ['sign', 'verify']);
    expect(problemOf({ publicKey: hmac }).message).toMatch(/must be public; got a secret CryptoKey$/);
  });
});

test.each<[JwtAuthenticatorOptions]>([
  [{ secret: SECRET }],
  [{ secret: new TextEncoder().encode(SECRET), algorithms: ['HS256', 'HS384'].slice(0, 1) }],
  [{ secret: SECRET, issuer: undefined, mapIdentity: undefined, tenantClaim: undefined }],
  [{ publicKey: publicPem, algorithms: ['RS256', 'PS512'] }],
  [{ jwksUrl }],
  [{ jwksUrl: new URL(jwksUrl), jwksCooldown: 0, jwksCacheMaxAge: 0, jwksTimeout: 1 }],
  [{ jwksUrl: 'http://localhost:8080/jwks.json' }],
  [{ jwksUrl: 'http://127.0.0.1/jwks.json' }],
  [{ jwksUrl: 'http://[::1]:8080/jwks.json' }],
])('%o is taken', (options) => {
  expect(jwtAuthenticator(options)).toBeTypeOf('function');
});

test('a secret can be wiped by the caller after construction', async () => {
  const { signed } = await import('./guarded.js');
  const secret = new TextEncoder().encode(SECRET);
  const authenticate = jwtAuthenticator<RequestLike>({ secret });
  secret.fill(0);
  const token = await signed({}, { secret: SECRET });
  const req = { url: '/', headers: { authorization: `Bearer ${token}` } };
  expect(await authenticate(req, undefined)).toMatchObject({ userId: 'alice' });
});
