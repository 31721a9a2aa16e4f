/** Who may open a stream. */
import type { IncomingMessage } from 'node:http';
import type { Identity } from '../core/identity.js';
import { nameProblem } from '../core/topic.js';
import { checkParameters, parameterOf, type RequestLike } from './request.js';

/**
 * Tells who sent a request. `req` is the raw request, so what an earlier middleware put on it (`req.user`) is there;
 * `context` is the framework's own object where an adapter has one (Koa's `ctx`, Fastify's request, Hono's `c`).
 *
 * Null refuses with 401. So does a throw, which also reaches the `error` event and never the client; an `SseError` with a
 * status keeps that status.
 */
export type Authenticator<Req = IncomingMessage, Context = unknown> = (
  req: Req,
  context: Context,
) => Identity | null | Promise<Identity | null>;

/** Names of the query parameters that {@link queryAuthenticator} reads. */
export interface QueryAuthenticatorOptions {
  /** Default `user_id`. */
  userParameter?: string | undefined;
  /** Default `tenant_id`. */
  tenantParameter?: string | undefined;
}

/**
 * **For development only**: believes whatever `?user_id=` and `?tenant_id=` say, so anybody can be anybody. A request
 * without `user_id`, or with a name that cannot be one, is refused.
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function queryAuthenticator<Req extends RequestLike = IncomingMessage>(
  options: QueryAuthenticatorOptions = {},
): Authenticator<Req> {
  checkParameters('queryAuthenticator', options, ['userParameter', 'tenantParameter']);
  const { userParameter = 'user_id', tenantParameter = 'tenant_id' } = options;
  return (req) => {
    const userId = parameterOf(req, userParameter);
    const tenantId = parameterOf(req, tenantParameter);
    if (nameProblem(userId) !== undefined) return null;
    if (tenantId === null) return { userId: userId! };
    return nameProblem(tenantId) === undefined ? { userId: userId!, tenantId } : null;
  };
}
