/**
 * An authenticator for signed JSON Web Tokens (RFC 7519, JWS compact form), on the library `jose`.
 *
 * A token is a password for as long as it lives: nothing here puts it, or a part of it, into an error, a log or an
 * answer. What is known to be said of a refused token is which check it failed.
 */
import type { IncomingMessage } from 'node:http';
import type { FetchImplementation, JWTPayload, JWTVerifyGetKey } from 'jose';
import { SseError } from '../core/errors.js';
import type { Identity } from '../core/identity.js';
import { nameProblem } from '../core/topic.js';
import type { Authenticator } from '../http/authenticator.js';
import type { RequestLike } from '../http/request.js';
import { type Jose, loadJose } from './jose.js';
import type { VerificationKey } from './jwt-key.js';
import {
  type ClaimNames,
  type JwtAuthenticatorOptions,
  type JwtClaims,
  type KeySet,
  type ResolvedJwtOptions,
  resolveJwtOptions,
} from './jwt-options.js';

/** Verifies a token and gives its claims. */
type Verify = (token: string) => Promise<JwtClaims>;

/**
 * Makes an authenticator that reads a JWT from the request and verifies it. Works on Node's requests and on Fetch's.
 *
 * - No token: null, which is 401. A token that fails a check: 401, with the reason in the broker's `error` event.
 * - A good one: the user, tenant and session that its claims name, all claims as `claims`, and `exp` as `expiresAt`: the
 *   stream ends with its token.
 * - The key set cannot be had: 503 and `SSE_ERR_AUTHENTICATION_UNAVAILABLE`, which clients come back from.
 *
 * Needs the package `jose` 6, loaded at the first token; without it requests are refused with
 * `SSE_ERR_PACKAGE_MISSING`.
 *
 * Sources: RFC 7519 (JWT), RFC 7515 (JWS), RFC 6750 (bearer tokens), RFC 8725 (best current practices).
 *
 * @example
 * jwtAuthenticator({ secret: process.env.JWT_SECRET, issuer: 'https://login.example', audience: 'events' });
 * jwtAuthenticator({
 *   jwksUrl: 'https://login.example/.well-known/jwks.json',
 *   issuer: 'https://login.example',
 *   audience: 'events',
 *   tokenFrom: ['header', { cookie: 'session' }],
 *   tenantClaim: 'org_id',
 * });
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function jwtAuthenticator<Req extends RequestLike = IncomingMessage>(
  options: JwtAuthenticatorOptions,
): Authenticator<Req> {
  const resolved = resolveJwtOptions(options);
  const { readToken, maxTokenLength, mapIdentity, claims: names } = resolved;
  let verifying: Promise<Verify> | undefined;

  return async (req) => {
    const token = readToken(req);
    if (token === undefined) return null;
    if (token.length > maxTokenLength) {
      throw unauthenticated(`it has ${token.length} characters, maxTokenLength allows ${maxTokenLength}`);
    }
    verifying ??= loadJose().then((jose) => verifierOf(jose, resolved));
    let verify: Verify;
    try {
      verify = await verifying;
    } catch (error) {
      // Whoever installs the package need not restart to be heard.
      verifying = undefined;
      throw error;
    }
    const claims = await verify(token);
    const identity = mapIdentity === undefined ? identityOf(claims, names) : await mapIdentity(claims);
    // What is none is refused as it is: spread, a list of no rows would be somebody anonymous.
    if (typeof identity !== 'object' || identity === null || Array.isArray(identity)) return identity;
    const expiresAt = earliest(identity.expiresAt, expiryOf(claims, resolved));
    return { claims, ...identity, ...accessorsOf(identity), ...(expiresAt !== undefined && { expiresAt }) };
  };
}

/** What a spread passes over: an instance of a class may have its ids as accessors, and without them it would be nobody. */
function accessorsOf(identity: Identity): Partial<Identity> {
  const names = (['userId', 'tenantId', 'sessionId', 'claims'] as const).filter((name) => name in identity);
  return Object.fromEntries(names.map((name) => [name, identity[name]]));
}

function identityOf(claims: JwtClaims, names: ClaimNames): Identity {
  const tenantId = names.tenant === undefined ? undefined : nameOf(claims, names.tenant);
  const hasSession = names.session !== undefined && Object.hasOwn(claims, names.session);
  return {
    userId: nameOf(claims, names.user),
    ...(tenantId !== undefined && { tenantId }),
    ...(hasSession && { sessionId: nameOf(claims, names.session!) }),
  };
}

function nameOf(claims: JwtClaims, claim: string): string {
  const name = Object.hasOwn(claims, claim) ? claims[claim] : undefined;
  const problem = name === undefined ? 'is missing' : nameProblem(name);
  // The claim is quoted by its name, not by its value: it is about a person.
  if (problem !== undefined) throw unauthenticated(`its claim ${JSON.stringify(claim)} ${problem}`);
  return name as string;
}

/** When a stream with these claims ends, in ms since 1970. The tolerance applies, or it would be refused at once. */
function expiryOf({ exp, iat }: JwtClaims, { expected }: ResolvedJwtOptions): number | undefined {
  const { maxTokenAge, clockTolerance } = expected;
  const tooOldAt = maxTokenAge === undefined || iat === undefined ? undefined : iat + maxTokenAge;
  const end = earliest(exp, tooOldAt);
  return end === undefined ? undefined : (end + clockTolerance) * 1_000;
}

/** 0 and undefined are "never". */
function earliest(one: number | undefined, other: number | undefined): number | undefined {
  if (!one || !other) return one || other;
  return Math.min(one, other);
}

function verifierOf(jose: Jose, { source, expected, clock }: ResolvedJwtOptions): Verify {
  const key = 'url' in source ? keySetOf(jose, source) : source.key;
  return async (token) => {
    const options = { ...expected, algorithms: [...source.algorithms], currentDate: new Date(clock.now()) };
    try {
      return Object.freeze((await verifyWith(jose, token, key, options)) as JwtClaims);
    } catch (error) {
      if (error instanceof SseError) throw error;
      throw refusalOf(error);
    }
  };
}

async function verifyWith(
  jose: Jose,
  token: string,
  key: VerificationKey['key'] | JWTVerifyGetKey,
  options: Parameters<Jose['jwtVerify']>[2],
): Promise<JWTPayload> {
  if (typeof key !== 'function') return (await jose.jwtVerify(token, key, options)).payload;
  try {
    return (await jose.jwtVerify(token, key, options)).payload;
  } catch (error) {
    if (!(error instanceof jose.errors.JWKSMultipleMatchingKeys)) throw error;
    // Neither `kid` in the token nor anything else tells which key of the set it is: try them (RFC 7515, appendix D).
    for await (const candidate of error) {
      try {
        return (await jose.jwtVerify(token, candidate, options)).payload;
      } catch (failure) {
        if (!(failure instanceof jose.errors.JWSSignatureVerificationFailed)) throw failure;
      }
    }
    throw new jose.errors.JWSSignatureVerificationFailed();
  }
}

/** How long an issuer that failed is left alone, in ms. The cooldown of `jose` begins with a fetch that succeeded. */
const PAUSE = 1_000;

/** `fetch`, at most once in a `pause` while it fails: who sends forged tokens must not make us ask without end. */
function sparingFetch(pause: number): FetchImplementation {
  let failure: unknown;
  let until = 0;
  return async (url, init) => {
    if (performance.now() < until) throw failure;
    try {
      const response = await fetch(url, init);
      if (response.status !== 200) throw new Error(`the issuer answered ${response.status}`);
      // What is no JSON is a failure as well.
      await response.clone().json();
      return response;
    } catch (error) {
      failure = error;
      until = performance.now() + pause;
      throw error;
    }
  };
}

function keySetOf(jose: Jose, { url, cacheMaxAge, cooldown, timeout }: KeySet): JWTVerifyGetKey {
  const keyOf = jose.createRemoteJWKSet(url, {
    cacheMaxAge,
    cooldownDuration: cooldown,
    timeoutDuration: timeout,
    [jose.customFetch]: sparingFetch(Math.min(PAUSE, cooldown)),
  });
  return async (header, token) => {
    try {
      return await keyOf(header, token);
    } catch (error) {
      const { JWKSNoMatchingKey, JWKSMultipleMatchingKeys } = jose.errors;
      if (error instanceof JWKSNoMatchingKey || error instanceof JWKSMultipleMatchingKeys) throw error;
      // Not the token's fault, and a browser's EventSource takes 401 for good.
      throw new SseError(
        'SSE_ERR_AUTHENTICATION_UNAVAILABLE',
        `the key set of ${url.origin}${url.pathname} could not be had`,
        { cause: error },
      );
    }
  };
}

/**
 * What may be told of a token that `jose` refused. Its own errors carry the claims, and one of them quotes the header,
 * so neither they nor their causes are passed on.
 */
function refusalOf(error: unknown): SseError {
  const { name = 'Error', code, message = '' } = error as Partial<Error & { code: string }>;
  const reason =
    code === 'ERR_JOSE_NOT_SUPPORTED' || message === '' ? 'it uses an extension that is not supported' : message;
  const cause = Object.assign(new Error(reason), { name, ...(code !== undefined && { code }) });
  return unauthenticated(reason, cause);
}

function unauthenticated(reason: string, cause?: unknown): SseError {
  return new SseError('SSE_ERR_UNAUTHENTICATED', `the token was refused: ${reason}`, { cause });
}
