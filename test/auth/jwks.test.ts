import type { JsonWebKey } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { expect, test } from 'vitest';
import type { JwtAuthenticatorOptions } from '../../src/auth/index.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';
import { expectNoTraceOf, forged, type Guarded, guarded } from './guarded.js';

interface Issuer {
  /** What the key set says from now on. */
  keys: JsonWebKey[];
  /** How many times it was fetched. */
  fetches: number;
  /** Answers instead of the key set, as long as it is set. */
  failure: ((res: ServerResponse, req: IncomingMessage) => void) | undefined;
  readonly url: string;
  /** A new key of that kid, not yet in the set: its public part, and a way to sign. */
  key(kid: string | undefined, alg?: string): Promise<SigningKey>;
}

interface SigningKey {
  readonly jwk: JsonWebKey;
  sign(header?: Record<string, unknown>): Promise<string>;
}

async function issuer(): Promise<Issuer> {
  const { url } = await serve((req, res) => {
    made.fetches++;
    if (made.failure !== undefined) return made.failure(res, req);
    res.writeHead(200, { 'Content-Type': 'application/jwk-set+json' });
    res.end(JSON.stringify({ keys: made.keys }));
  });
  const made: Issuer = {
    keys: [],
    fetches: 0,
    failure: undefined,
    url: `${url}/jwks.json`,
    key: async (kid, alg = 'ES256') => {
      const { publicKey, privateKey } = await generateKeyPair(alg);
      const named = kid === undefined ? {} : { kid };
      return {
        jwk: { ...(await exportJWK(publicKey)), ...named, alg, use: 'sig' } as JsonWebKey,
        sign: (header = {}) =>
          new SignJWT({ sub: 'alice' }).setProtectedHeader({ alg, ...named, ...header }).sign(privateKey),
      };
    },
  };
  return made;
}

async function guardedBy(issuer: Issuer, options: JwtAuthenticatorOptions = {}): Promise<Guarded> {
  return guarded({ jwksUrl: issuer.url, ...options });
}

test('a key set is fetched once, when the first token comes, for any number of tokens', async () => {
  const login = await issuer();
  const key = await login.key('one');
  login.keys = [key.jwk];
  const { open } = await guardedBy(login);
  expect(login.fetches).toBe(0);
  const token = await key.sign();
  const streams = await Promise.all(Array.from({ length: 20 }, () => open(token)));
  expect(streams.map(({ status }) => status)).toEqual(Array(20).fill(200));
  expect((await open(await key.sign())).status).toBe(200);
  expect(login.fetches).toBe(1);
});

test('RSA, EC and Ed25519 keys of one set are told apart', async () => {
  const login = await issuer();
  const keys = await Promise.all([login.key('r', 'RS256'), login.key('e', 'ES256'), login.key('o', 'Ed25519')]);
  login.keys = keys.map(({ jwk }) => jwk);
  const { open } = await guardedBy(login);
  for (const key of keys) expect((await open(await key.sign())).status).toBe(200);
});

test('after a rotation the new key is fetched and the old one is worth nothing', async () => {
  const login = await issuer();
  const [old, next] = [await login.key('old'), await login.key('next')];
  login.keys = [old.jwk];
  const { open, errors } = await guardedBy(login, { jwksCooldown: 0 });
  expect((await open(await old.sign())).status).toBe(200);
  login.keys = [next.jwk];
  expect((await open(await next.sign())).status).toBe(200);
  expect(login.fetches).toBe(2);
  const token = await old.sign();
  expect((await open(token)).status).toBe(401);
  expect(errors[0]!.error.message).toMatch(/no applicable key/);
  expectNoTraceOf(token, errors);
});

test('a set is fetched again when it is older than jwksCacheMaxAge', async () => {
  const login = await issuer();
  const key = await login.key('one');
  login.keys = [key.jwk];
  const { open } = await guardedBy(login, { jwksCacheMaxAge: 0 });
  await open(await key.sign());
  await open(await key.sign());
  expect(login.fetches).toBe(2);
});

test('forged key ids do not make us fetch within the cooldown', async () => {
  const login = await issuer();
  const key = await login.key('one');
  login.keys = [key.jwk];
  const { open, refused } = await guardedBy(login);
  for (let n = 0; n < 10; n++) await refused(await key.sign({ kid: `forged-${n}` }));
  expect(login.fetches).toBe(1);
  expect((await open(await key.sign())).status).toBe(200);
});

test('forged key ids do not make us ask an issuer that fails again and again', async () => {
  for (const failure of [failures['answers 500']!, failures['answers no JSON']!, failures['breaks the connection']!]) {
    const login = await issuer();
    const key = await login.key('one');
    login.keys = [key.jwk];
    const { open, refused } = await guardedBy(login);
    login.failure = failure;
    const start = performance.now();
    for (let n = 0; n < 20; n++) await refused(await key.sign({ kid: `forged-${n}` }), 503);
    expect(login.fetches).toBeLessThanOrEqual(1 + (performance.now() - start) / 1_000);
    login.failure = undefined;
    await until(async () => (await open(await key.sign())).status === 200, 'the issuer to be back');
  }
});

test('a token without a key id is tried with every key that fits', async () => {
  const login = await issuer();
  const keys = await Promise.all([login.key(undefined), login.key(undefined), login.key(undefined)]);
  login.keys = keys.map(({ jwk }) => jwk);
  const stranger = await login.key(undefined);
  const { open, refused } = await guardedBy(login);
  expect((await refused(await stranger.sign())).message).toMatch(/signature verification failed/);
  for (const key of keys) expect((await open(await key.sign())).status).toBe(200);
});

test('the public key used as an HMAC secret opens nothing (algorithm confusion)', async () => {
  const login = await issuer();
  const key = await login.key('one', 'RS256');
  login.keys = [key.jwk];
  const { refused } = await guardedBy(login);
  for (const secret of [JSON.stringify(key.jwk), key.jwk.n!, Buffer.from(key.jwk.n!, 'base64url')]) {
    await refused(forged({ alg: 'HS256', kid: 'one' }, { sub: 'mallory' }, secret));
  }
  await refused(forged({ alg: 'none', kid: 'one' }, { sub: 'mallory' }));
});

test('a symmetric key that an issuer published by mistake opens nothing', async () => {
  const login = await issuer();
  const k = Buffer.alloc(32, 7);
  login.keys = [{ kty: 'oct', kid: 'one', k: k.toString('base64url') }];
  const { refused } = await guardedBy(login);
  await refused(forged({ alg: 'HS256', kid: 'one' }, { sub: 'mallory' }, k));
});

const failures: Record<string, NonNullable<Issuer['failure']>> = {
  'answers 500': (res) => res.writeHead(500).end('oops'),
  'answers 404': (res) => res.writeHead(404).end('{}'),
  'redirects elsewhere': (res) => res.writeHead(302, { Location: 'http://127.0.0.1:9/' }).end(),
  'answers no JSON': (res) => res.writeHead(200).end('<html>down for maintenance</html>'),
  'answers JSON that is no key set': (res) => res.writeHead(200).end('{"keys":"none"}'),
  'breaks the connection': (res) => res.destroy(),
  'never answers': () => {},
};
for (const [name, failure] of Object.entries(failures)) {
  test(`an issuer that ${name} is 503, to be tried again, and comes back by itself`, async () => {
    const login = await issuer();
    const key = await login.key('one');
    login.keys = [key.jwk];
    login.failure = failure;
    const { open, refused } = await guardedBy(login, { jwksTimeout: 200 });
    const token = await key.sign();

    const error = await refused(token, 503);
    expect(error).toMatchObject({ code: 'SSE_ERR_AUTHENTICATION_UNAVAILABLE', status: 503, retryable: true });
    expect(error.message).toContain(login.url);
    expect(error.cause).toBeInstanceOf(Error);

    const again = await open(token);
    await again.ended();
    expect(Number(again.headers['retry-after'])).toBeGreaterThan(0);
    expect(again.text()).not.toContain(login.url);

    login.failure = undefined;
    await until(async () => (await open(token)).status === 200, 'the issuer to be back');
  });
}

test("a browser's EventSource is told to come back while the issuer is away, not refused for good", async () => {
  const login = await issuer();
  login.failure = (res) => res.writeHead(500).end();
  const key = await login.key('one');
  const { url } = await guardedBy(login, { tokenFrom: [{ query: 'access_token' }] });
  const response = await fetch(`${url}/?access_token=${await key.sign()}`, {
    headers: { accept: 'text/event-stream', 'cache-control': 'no-cache' },
  });
  expect(response.status).toBe(200);
  expect(await response.text()).toMatch(/^retry: \d+\n/);
});

test('an issuer that is known keeps serving known keys while it is away', async () => {
  const login = await issuer();
  const key = await login.key('one');
  login.keys = [key.jwk];
  const { open } = await guardedBy(login, { jwksCooldown: 0 });
  expect((await open(await key.sign())).status).toBe(200);
  login.failure = (res) => res.writeHead(500).end();
  expect((await open(await key.sign())).status).toBe(200);
  // A key that nobody knows cannot be judged now.
  const other = await login.key('two');
  expect((await open(await other.sign())).status).toBe(503);
});
