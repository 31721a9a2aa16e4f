/** What `jwtAuthenticator` can be told, and one function that fills in and checks. No message quotes a secret. */
import { type Clock, systemClock } from '../core/clock.js';
import { SseError, shown } from '../core/errors.js';
import type { Identity } from '../core/identity.js';
import { checkOptionNames } from '../core/option-names.js';
import { keySetAlgorithms, type PublicKey, publicKey, secretKey, type VerificationKey } from './jwt-key.js';
import { type TokenReader, type TokenSource, tokenReader } from './token.js';

/** The claims of a token whose signature and times were found good. */
export type JwtClaims = Readonly<Record<string, unknown>> & {
  readonly iss?: string;
  readonly sub?: string;
  readonly aud?: string | string[];
  /** Seconds since 1970. */
  readonly exp?: number;
  /** Seconds since 1970. */
  readonly nbf?: number;
  /** Seconds since 1970. */
  readonly iat?: number;
  readonly jti?: string;
};

/** Options of `jwtAuthenticator`. Exactly one of `secret`, `publicKey` and `jwksUrl` is needed. */
export interface JwtAuthenticatorOptions {
  /**
   * A secret shared with the issuer, for HMAC: text (its UTF-8 is used) or bytes. At least as long as the hash: 32 bytes
   * for HS256 (RFC 7518, section 3.2). A secret that was handed out as base64 is given as bytes:
   * `Buffer.from(text, 'base64')`.
   */
  secret?: string | Uint8Array | undefined;
  /** The issuer's public key: RSA of 2048 bits or more, EC on P-256, P-384 or P-521, or Ed25519. */
  publicKey?: PublicKey | undefined;
  /**
   * Where the issuer publishes its key set (RFC 7517); `https:`, on the loopback interface also `http:`. Fetched when the
   * first token comes. While it cannot be had, requests are refused with 503, and clients come back.
   */
  jwksUrl?: string | URL | undefined;
  /**
   * Accepted algorithms; a token that names another one is refused (RFC 8725, section 3.1). Default: what the key
   * is for. `secret`: HS256. `publicKey`: its `alg` where a JWK has one, else RS256, ES256/ES384/ES512 by the curve, or
   * EdDSA. `jwksUrl`: RS256, ES256 and EdDSA, each for keys of its kind only. `none` is impossible.
   */
  algorithms?: readonly string[] | undefined;
  /** Accepted `iss`, one or several. Default: not looked at. Give it for `jwksUrl` (RFC 8725, section 3.8). */
  issuer?: string | readonly string[] | undefined;
  /** Accepted `aud`, one or several; one in common is enough. Default: not looked at (RFC 8725, section 3.9). */
  audience?: string | readonly string[] | undefined;
  /** Accepted `typ` of the header, for example `at+jwt` (RFC 9068; RFC 8725, section 3.11). Default: not looked at. */
  type?: string | undefined;
  /** Claims that must be present. Default: none, beyond those that other options need. */
  requiredClaims?: readonly string[] | undefined;
  /** How far clocks may be apart, in **seconds**; the stream ends that much after `exp`. Default 0. */
  clockTolerance?: number | undefined;
  /** Oldest token by its `iat`, in **seconds**; the stream ends at that age too. Default: no limit. */
  maxTokenAge?: number | undefined;
  /** Where to look for the token, in this order; the first place that has one counts. Default `['header']`. */
  tokenFrom?: readonly TokenSource[] | undefined;
  /** Longest token, in characters; longer ones are refused unread. Default 16 384. */
  maxTokenLength?: number | undefined;
  /** Claim that is the user's id. It must be there, as a string that can be a name. Default `sub`. */
  userClaim?: string | undefined;
  /** Claim that is the tenant's id. Where it is given it must be there: nobody is without a tenant. Default: no tenants. */
  tenantClaim?: string | undefined;
  /** Claim that is the session's id, for example `sid` or `jti`. It may be absent. Default: none. */
  sessionClaim?: string | undefined;
  /**
   * Makes the identity from the claims, instead of the three claim names; null refuses with 401. `expiresAt` and `claims`
   * are filled in, and a stream never outlives its token.
   */
  mapIdentity?: ((claims: JwtClaims) => Identity | null | Promise<Identity | null>) | undefined;
  /** How long a key set is used before it is fetched again, in ms; 0: for one token. Default 600 000. */
  jwksCacheMaxAge?: number | undefined;
  /**
   * How long after a fetch a key id that the set does not have is refused without looking again, in ms: it bounds what
   * forged tokens can make us fetch. 0: it is looked for at once. Default 30 000.
   */
  jwksCooldown?: number | undefined;
  /** How long a fetch of the key set may take, in ms; 1 or more. Default 5 000. */
  jwksTimeout?: number | undefined;
  /** Tells the time, for tests. Default: the system's. */
  clock?: Pick<Clock, 'now'> | undefined;
}

/** Which claims are whose id; undefined where `mapIdentity` decides. */
export interface ClaimNames {
  readonly user: string;
  readonly tenant: string | undefined;
  readonly session: string | undefined;
}

/** A key set to be fetched. */
export interface KeySet {
  readonly url: URL;
  readonly algorithms: readonly string[];
  readonly cacheMaxAge: number;
  readonly cooldown: number;
  readonly timeout: number;
}

/** Options, checked and filled in. */
export interface ResolvedJwtOptions {
  readonly source: VerificationKey | KeySet;
  readonly readToken: TokenReader;
  readonly maxTokenLength: number;
  /** In the form that `jose` takes. */
  readonly expected: {
    readonly issuer?: string[];
    readonly audience?: string[];
    readonly typ?: string;
    readonly requiredClaims?: string[];
    readonly maxTokenAge?: number;
    readonly clockTolerance: number;
  };
  readonly claims: ClaimNames;
  readonly mapIdentity: JwtAuthenticatorOptions['mapIdentity'];
  readonly clock: Pick<Clock, 'now'>;
}

const DEFAULTS = Object.freeze({
  tokenFrom: ['header'] as readonly TokenSource[],
  maxTokenLength: 16 * 1024,
  clockTolerance: 0,
  userClaim: 'sub',
  jwksCacheMaxAge: 600_000,
  jwksCooldown: 30_000,
  jwksTimeout: 5_000,
  clock: systemClock as Pick<Clock, 'now'>,
});

const KEYS = ['secret', 'publicKey', 'jwksUrl'] as const;
const CLAIMS = ['userClaim', 'tenantClaim', 'sessionClaim'] as const;
const KEY_SET_TIMES = ['jwksCacheMaxAge', 'jwksCooldown', 'jwksTimeout'] as const;
const KNOWN: readonly (keyof JwtAuthenticatorOptions)[] = [
  ...KEYS,
  ...CLAIMS,
  ...KEY_SET_TIMES,
  'algorithms',
  'issuer',
  'audience',
  'type',
  'requiredClaims',
  'clockTolerance',
  'maxTokenAge',
  'tokenFrom',
  'maxTokenLength',
  'mapIdentity',
  'clock',
];

/** @throws {SseError} `SSE_ERR_INVALID_OPTION`, naming the option, the value unless it is a key, and what is allowed */
export function resolveJwtOptions(options: JwtAuthenticatorOptions): ResolvedJwtOptions {
  if (typeof options !== 'object' || options === null) return refuse('options', options, 'an object');
  checkOptionNames('jwtAuthenticator', options, KNOWN);
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const settings = { ...DEFAULTS, ...given } as JwtAuthenticatorOptions & typeof DEFAULTS;
  const { issuer, audience, type, requiredClaims, clockTolerance, maxTokenAge, mapIdentity, clock } = settings;

  checkNumber('maxTokenLength', settings.maxTokenLength, 1, 'characters');
  checkNumber('clockTolerance', clockTolerance, 0, 'seconds');
  if (maxTokenAge !== undefined) checkNumber('maxTokenAge', maxTokenAge, 1, 'seconds');
  if (type !== undefined && !isText(type)) refuse('type', type, "a media type such as 'at+jwt'");
  if (typeof clock?.now !== 'function') refuse('clock', clock, 'an object with now()');
  if (mapIdentity !== undefined && typeof mapIdentity !== 'function') refuse('mapIdentity', mapIdentity, 'a function');
  for (const name of CLAIMS) {
    if (given[name] === undefined) continue;
    if (!isText(given[name])) refuse(name, given[name], 'the name of a claim');
    if (mapIdentity !== undefined) invalid(`${name} cannot go with mapIdentity, which makes the whole identity`);
  }

  return {
    source: sourceOf(settings, given),
    readToken: tokenReader(settings.tokenFrom),
    maxTokenLength: settings.maxTokenLength,
    expected: {
      ...(issuer !== undefined && { issuer: textsOf('issuer', issuer) }),
      ...(audience !== undefined && { audience: textsOf('audience', audience) }),
      ...(requiredClaims !== undefined && { requiredClaims: textsOf('requiredClaims', requiredClaims) }),
      ...(type !== undefined && { typ: type }),
      ...(maxTokenAge !== undefined && { maxTokenAge }),
      clockTolerance,
    },
    claims: { user: settings.userClaim, tenant: settings.tenantClaim, session: settings.sessionClaim },
    mapIdentity,
    clock,
  };
}

function sourceOf(
  settings: JwtAuthenticatorOptions & typeof DEFAULTS,
  given: Record<string, unknown>,
): VerificationKey | KeySet {
  const keys = KEYS.filter((name) => given[name] !== undefined);
  if (keys.length !== 1) {
    const got = keys.length === 0 ? 'none; is an environment variable unset?' : keys.join(' and ');
    return invalid(`jwtAuthenticator needs exactly one of ${KEYS.join(', ')}; got ${got}`);
  }
  const { algorithms } = settings;
  if (keys[0] === 'jwksUrl') {
    for (const name of KEY_SET_TIMES) checkNumber(name, settings[name], name === 'jwksTimeout' ? 1 : 0, 'ms');
    return {
      url: keySetUrl(settings.jwksUrl),
      algorithms: keySetAlgorithms(algorithms),
      cacheMaxAge: settings.jwksCacheMaxAge,
      cooldown: settings.jwksCooldown,
      timeout: settings.jwksTimeout,
    };
  }
  for (const name of KEY_SET_TIMES) {
    if (given[name] !== undefined) invalid(`${name} goes with jwksUrl only; this authenticator has a ${keys[0]}`);
  }
  return keys[0] === 'secret' ? secretKey(settings.secret, algorithms) : publicKey(settings.publicKey, algorithms);
}

function keySetUrl(given: unknown): URL {
  // Not quoted: a URL may carry a password.
  if (!URL.canParse(String(given))) return invalid('jwksUrl must be an absolute URL');
  const url = new URL(String(given));
  if (url.username !== '' || url.password !== '') return invalid('jwksUrl must not carry a user name or password');
  const isLoopback = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname);
  if (url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback)) return url;
  // Whoever can change the answer on its way can sign tokens.
  return invalid(`jwksUrl must be https:, or http: on the loopback interface; got ${url.protocol}//${url.hostname}`);
}

function checkNumber(option: string, value: unknown, least: number, unit: string): void {
  if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) < 2 ** 31) return;
  refuse(option, value, `a whole number of ${unit}, ${least} or more`);
}

function textsOf(option: string, value: unknown): string[] {
  const texts = Array.isArray(value) ? [...value] : [value];
  if (texts.length > 0 && texts.every(isText)) return texts;
  return refuse(option, value, 'a string that is not empty, or a list of them');
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

function refuse(option: string, value: unknown, allowed: string): never {
  return invalid(`${option} must be ${allowed}; got ${shown(value)}`);
}

function invalid(message: string): never {
  throw new SseError('SSE_ERR_INVALID_OPTION', message);
}
