/**
 * What tokens are verified with, and which algorithms go with it.
 *
 * The algorithm is a property of the key, never of the token: a token that names another one is refused before any
 * key is touched (RFC 8725, sections 2.1 and 3.1). Everything that can be wrong with a key is found at construction, and
 * no message quotes one.
 */
import { createPublicKey, type JsonWebKey, KeyObject, type webcrypto } from 'node:crypto';
import { SseError } from '../core/errors.js';

/** A public key: PEM text (SPKI or PKCS#1), a JWK, Node's `KeyObject`, or a WebCrypto `CryptoKey`. */
export type PublicKey = string | JsonWebKey | KeyObject | webcrypto.CryptoKey;

/** A key and the algorithms it is used with. */
export interface VerificationKey {
  readonly key: Uint8Array | KeyObject | webcrypto.CryptoKey;
  readonly algorithms: readonly string[];
}

/** Algorithms of secrets, with the shortest secret in bytes: as long as the hash (RFC 7518, section 3.2). */
const SECRET_BYTES: Readonly<Record<string, number>> = { HS256: 32, HS384: 48, HS512: 64 };

const RSA = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] as const;
// The second name of the same algorithm is RFC 9864's.
const ED25519 = ['EdDSA', 'Ed25519'] as const;
const CURVES: Readonly<Record<string, string>> = {
  'P-256': 'ES256',
  'P-384': 'ES384',
  'P-521': 'ES512',
  // The names that OpenSSL has for them.
  prime256v1: 'ES256',
  secp384r1: 'ES384',
  secp521r1: 'ES512',
};
const PUBLIC_KEY_ALGORITHMS: readonly string[] = [...RSA, 'ES256', 'ES384', 'ES512', ...ED25519];

/**
 * For a key set, unless told otherwise: one of each kind of key. The key's own `kty`, `crv` and `alg` narrow it further.
 */
const KEY_SET_DEFAULT: readonly string[] = ['RS256', 'ES256', ...ED25519];

/** @throws {SseError} `SSE_ERR_INVALID_OPTION`, without the secret */
export function secretKey(secret: unknown, algorithms: unknown): VerificationKey {
  const key = typeof secret === 'string' ? new TextEncoder().encode(secret) : secret;
  if (!(key instanceof Uint8Array)) return refuse('secret must be a string or a Uint8Array');
  if (typeof secret === 'string' && secret.includes('-----BEGIN')) {
    // Verifying HMAC with it would let everybody who knows the public key sign (RFC 8725, section 2.1).
    return refuse('secret must not be a PEM key; give a public key as publicKey');
  }
  const names = namesOf(algorithms, Object.keys(SECRET_BYTES), 'secret') ?? ['HS256'];
  for (const name of names) {
    const least = SECRET_BYTES[name]!;
    if (key.byteLength < least) {
      refuse(`secret must have at least ${least} bytes for ${name} (RFC 7518, section 3.2); it has ${key.byteLength}`);
    }
  }
  // A copy: the caller may wipe or reuse theirs.
  return { key: key.slice(), algorithms: names };
}

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
export function publicKey(given: unknown, algorithms: unknown): VerificationKey {
  if (isCryptoKey(given)) {
    if (given.type !== 'public') refuse(`publicKey must be public; got a ${given.type} CryptoKey`);
    if (!given.usages.includes('verify')) refuse("publicKey must allow the usage 'verify'");
    return { key: given, algorithms: choose(algorithmsOfCryptoKey(given), undefined, algorithms) };
  }
  const { key, alg } = keyObjectOf(given);
  if (key.type !== 'public') return refuse(`publicKey must be public; got a ${key.type} key`);
  return { key, algorithms: choose(algorithmsOfKeyObject(key), alg, algorithms) };
}

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
export function keySetAlgorithms(algorithms: unknown): readonly string[] {
  return namesOf(algorithms, PUBLIC_KEY_ALGORITHMS, 'jwksUrl') ?? KEY_SET_DEFAULT;
}

function choose(fitting: readonly string[], ownAlgorithm: unknown, algorithms: unknown): readonly string[] {
  const allowed = ownAlgorithm === undefined ? fitting : fitting.filter((name) => name === ownAlgorithm);
  if (allowed.length === 0) refuse(`publicKey has an alg that does not fit it; ${fitting.join(', ')} do`);
  // An RSA key fits six; the one that practically all issuers use is enough until somebody says otherwise.
  const usual = allowed === RSA ? ['RS256'] : allowed;
  return namesOf(algorithms, allowed, 'publicKey') ?? usual;
}

function namesOf(given: unknown, fitting: readonly string[], option: string): readonly string[] | undefined {
  if (given === undefined) return undefined;
  if (!Array.isArray(given) || given.length === 0) {
    return refuse(`algorithms must be a list of ${fitting.join(', ')}`);
  }
  for (const name of given) {
    if (!fitting.includes(name)) {
      const known = Object.hasOwn(SECRET_BYTES, name) || PUBLIC_KEY_ALGORITHMS.includes(name);
      const what = known ? `${name}, which does not go with this ${option}` : 'an unknown or unsafe one';
      refuse(`algorithms must be of ${fitting.join(', ')} here; got ${what}`);
    }
  }
  return [...given];
}

function keyObjectOf(given: unknown): { key: KeyObject; alg?: unknown } {
  if (given instanceof KeyObject) return { key: given };
  try {
    if (typeof given === 'string') {
      // createPublicKey would take a private key as well, and nobody who only verifies should have one.
      if (/-----BEGIN (RSA )?PUBLIC KEY-----/.test(given)) return { key: createPublicKey(given) };
    } else if (typeof given === 'object' && given !== null && 'kty' in given) {
      const { kty, d, use, key_ops: operations, alg } = given as Record<string, unknown>;
      const isPublic = kty !== 'oct' && d === undefined;
      const isForSignatures = use === undefined || use === 'sig';
      const verifies = operations === undefined || (Array.isArray(operations) && operations.includes('verify'));
      if (isPublic && isForSignatures && verifies) {
        return { key: createPublicKey({ key: given as JsonWebKey, format: 'jwk' }), alg };
      }
    }
  } catch (cause) {
    return refuse('publicKey could not be read; check that its lines end in newlines, not in \\n', cause);
  }
  return refuse('publicKey must be PEM (BEGIN PUBLIC KEY), a public JWK for signatures, a KeyObject or a CryptoKey');
}

function algorithmsOfKeyObject(key: KeyObject): readonly string[] {
  const { modulusLength = 0, namedCurve = '' } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case 'rsa':
      checkModulus(modulusLength);
      return RSA;
    case 'ec':
      return curveAlgorithm(namedCurve);
    case 'ed25519':
      return ED25519;
    default:
      return refuse(`publicKey must be an RSA, EC or Ed25519 key; got ${key.asymmetricKeyType}`);
  }
}

function algorithmsOfCryptoKey({ algorithm }: webcrypto.CryptoKey): readonly string[] {
  const { name, hash, namedCurve, modulusLength } = algorithm as webcrypto.KeyAlgorithm & {
    hash?: { name: string };
    namedCurve?: string;
    modulusLength?: number;
  };
  const bits = hash?.name.replace('SHA-', '');
  switch (name) {
    case 'RSASSA-PKCS1-v1_5':
    case 'RSA-PSS': {
      checkModulus(modulusLength ?? 0);
      // WebCrypto binds the hash to the key.
      const bound = `${name === 'RSA-PSS' ? 'PS' : 'RS'}${bits}`;
      return RSA.some((known) => known === bound) ? [bound] : refuse('publicKey must use SHA-256, SHA-384 or SHA-512');
    }
    case 'ECDSA':
      return curveAlgorithm(namedCurve ?? '');
    case 'Ed25519':
      return ED25519;
    default:
      return refuse(`publicKey must be an RSA, ECDSA or Ed25519 key; got ${name}`);
  }
}

function curveAlgorithm(curve: string): readonly string[] {
  const algorithm = CURVES[curve];
  return algorithm === undefined ? refuse(`publicKey must be on P-256, P-384 or P-521; got ${curve}`) : [algorithm];
}

function checkModulus(bits: number): void {
  if (bits < 2048) refuse(`publicKey must have at least 2048 bits (RFC 7518, section 3.3); it has ${bits}`);
}

function isCryptoKey(value: unknown): value is webcrypto.CryptoKey {
  return Object.prototype.toString.call(value) === '[object CryptoKey]';
}

function refuse(message: string, cause?: unknown): never {
  throw new SseError('SSE_ERR_INVALID_OPTION', message, { cause });
}
