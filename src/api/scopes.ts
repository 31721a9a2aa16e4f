/**
 * Who may publish and administer: what the application's `authorize` grants, and a ready-made one for fixed tokens.
 * Users are another matter: what is theirs goes by the stream's Authenticator.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { SseError, shown } from '../core/errors.js';
import type { Identity } from '../core/identity.js';
import { checkTenantId } from '../core/topic.js';
import { headerOf, type RequestLike } from '../http/request.js';

/**
 * What a caller may do. None includes another.
 *
 * - `publish`: send to users, groups and everybody. - `read`: see figures and who is connected. - `admin`: end the streams of
 * others.
 */
export type Scope = 'publish' | 'read' | 'admin';

/** Every {@link Scope}. */
export const SCOPES: readonly Scope[] = ['publish', 'read', 'admin'];

/** What a caller is granted. */
export interface Grant {
  readonly scopes: readonly Scope[];
  /**
   * The one tenant that the caller sends to and sees. `admin` is for all tenants, so it does not go with one. Default: all
   * tenants.
   */
  readonly tenantId?: string | undefined;
  /**
   * Who the caller is: an `Idempotency-Key` is known again for the same name only. Default: callers of a tenant share theirs;
   * with `tokenAuthorizer` each token has its own.
   */
  readonly name?: string | undefined;
}

/**
 * Tells what the sender of a request may do. `req` and `context` are as for an `Authenticator`. A list of scopes stands for a
 * grant in all tenants. Null refuses with 401, a grant without the scope that the route needs with 403; a throw is told by the
 * `error` event and refuses with 401, or the status of an `SseError`.
 */
export type Authorize<Req = IncomingMessage, Context = unknown> = (
  req: Req,
  context: Context,
) => Grant | readonly Scope[] | null | Promise<Grant | readonly Scope[] | null>;

/** A secret and what its bearer may do. */
export interface TokenGrant extends Grant {
  /** At least 16 visible ASCII characters, drawn at random: `openssl rand -base64 32`. No two grants have the same. */
  readonly token: string;
}

/** Shortest token: what is shorter can be guessed, and an environment variable that is not set is empty. */
const MIN_TOKEN_LENGTH = 16;

/**
 * An {@link Authorize} for callers with fixed tokens, in `Authorization: Bearer …` (RFC 6750, section 2.1). Tokens are compared
 * in constant time, and stand in no log and no error.
 *
 * @example
 * createApi(broker, { authorize: tokenAuthorizer([{ token: process.env.PUBLISH_TOKEN, scopes: ['publish'] }]) });
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function tokenAuthorizer<Req extends RequestLike = IncomingMessage>(
  tokens: readonly TokenGrant[],
): Authorize<Req> {
  if (!Array.isArray(tokens) || tokens.length === 0) {
    throw new SseError('SSE_ERR_INVALID_OPTION', `tokens must be a list of tokens and scopes; got ${shown(tokens)}`);
  }
  const known = tokens.map((one: TokenGrant, index) => {
    const token: unknown = one?.token;
    if (typeof token !== 'string' || token.length < MIN_TOKEN_LENGTH) {
      // Never shown: a short one is a secret too.
      throw new SseError(
        'SSE_ERR_INVALID_OPTION',
        `token ${index} must be a string of at least ${MIN_TOKEN_LENGTH} characters`,
      );
    }
    if (!/^[\x21-\x7e]+$/.test(token)) {
      throw new SseError(
        'SSE_ERR_INVALID_OPTION',
        `token ${index} must be of visible ASCII characters, or no header could carry it; does it end in a newline?`,
      );
    }
    const same = tokens.findIndex((other) => other?.token === token);
    if (same !== index) {
      // One of the two grants would be nobody's, and the bearer of the other would have more, or less, than was meant.
      throw new SseError('SSE_ERR_INVALID_OPTION', `token ${index} is the same as token ${same}; give each its own`);
    }
    try {
      const digest = digestOf(token);
      const { scopes, tenantId, name = digest.toString('base64url') } = one;
      return { digest, grant: checkGrant({ scopes, tenantId, name }) };
    } catch (cause) {
      throw new SseError('SSE_ERR_INVALID_OPTION', `of token ${index}: ${(cause as Error).message}`);
    }
  });
  return (req) => {
    const [, token] = /^bearer +(\S+) *$/i.exec(headerOf(req, 'authorization') ?? '') ?? [];
    if (token === undefined) return null;
    const digest = digestOf(token);
    let found: Grant | null = null;
    // All of them, however early one fits: the time must not tell which.
    for (const one of known) if (timingSafeEqual(digest, one.digest)) found = one.grant;
    return found;
  };
}

/** Of equal length for all tokens, as the comparison needs it. */
const digestOf = (token: string): Buffer => createHash('sha256').update(token).digest();

/** @throws a TypeError where the application gave what is no grant. */
export function checkGrant(given: unknown): Grant {
  const { scopes, tenantId, name } = (Array.isArray(given) ? { scopes: given } : (given ?? {})) as Partial<Grant>;
  if (!Array.isArray(scopes)) throw new TypeError(`authorize must give scopes, a grant or null; got ${shown(given)}`);
  const strange = scopes.find((scope) => !SCOPES.includes(scope));
  if (strange !== undefined) throw new TypeError(`scopes are ${SCOPES.join(', ')}; got ${shown(strange)}`);
  if (tenantId !== undefined) {
    checkTenantId(tenantId);
    if (scopes.includes('admin')) throw new TypeError('the scope admin is for all tenants; it does not go with one');
  }
  if (name !== undefined && typeof name !== 'string') throw new TypeError(`name must be a string; got ${shown(name)}`);
  return { scopes: [...scopes], tenantId, name };
}

/** A grant as an identity, so that it takes the way of all arrivals: time limits, reports, a caller who leaves meanwhile. */
export const identityOf = (grant: Grant): Identity => ({ tenantId: grant.tenantId, claims: { grant } });

/** The grant of {@link identityOf}. */
export const grantOf = (identity: Identity): Grant => (identity.claims as { grant: Grant }).grant;
