/** What the API can be told: the options of the stream's handlers, and its own. */
import type { IncomingMessage } from 'node:http';
import { SseError, shown } from '../core/errors.js';
import { type HandlerOptions, type ResolvedHandlerOptions, resolveHandlerOptions } from '../http/options.js';
import type { RequestLike } from '../http/request.js';
import type { ApiInbox } from './contracts.js';
import type { Authorize } from './scopes.js';

/**
 * Counts a request, and tells how many ms its sender must wait; 0 or undefined lets it pass. Called before anybody is
 * authenticated, for every route but those for everybody: count by what a stranger cannot choose. `route` is `POST /send` and
 * the like. What it throws, and what is no number of ms, is a 500; what takes longer than `authenticationTimeout` is a 503.
 */
export type RateLimit<Req = IncomingMessage, Context = unknown> = (
  req: Req,
  context: Context,
  route: string,
) => number | undefined | Promise<number | undefined>;

/**
 * Options of `createApi`. `authenticator`, `topicResolver`, `authorizeTopic` and the others of `HandlerOptions` are for the
 * streams; the Authenticator also tells whose the routes of a user are, and `cors` is for all routes.
 */
export interface ApiOptions<Req = IncomingMessage, Context = unknown> extends HandlerOptions<Req, Context> {
  /**
   * Where it is mounted, as the request's URL has it when it gets there: `/api` for node:http, Koa, Fastify, Nest, Hono and h3.
   * Default: at the root, which is right where the framework takes the path off, as `app.use('/api', …)` of Express does.
   */
  path?: string | undefined;
  /** Where messages wait. Default: none; its routes are 404 then, and are not in the document. */
  inbox?: ApiInbox | undefined;
  /** Grants scopes to callers who publish and administer. Default: nobody has any, and those routes are 403. */
  authorize?: Authorize<Req, Context> | undefined;
  /** Default: no limit. */
  rateLimit?: RateLimit<Req, Context> | undefined;
  /** Longest body, in bytes; 0: no limit. Default 1 MiB. Parsers that run before have a limit of their own as well. */
  maxBodyBytes?: number | undefined;
  /** How long an `Idempotency-Key` is remembered, in ms; 0: only while the first request runs. Default one day. */
  idempotencyTtl?: number | undefined;
  /** How many of them; the oldest is forgotten first. 0: as with `idempotencyTtl`. Default 10 000. */
  maxIdempotencyKeys?: number | undefined;
}

/** What holds where nothing else is said. */
export const DEFAULT_API_OPTIONS = Object.freeze({
  path: '',
  maxBodyBytes: 1024 * 1024,
  idempotencyTtl: 24 * 3_600_000,
  maxIdempotencyKeys: 10_000,
});

/** Options with defaults. */
export interface ResolvedApiOptions<Req, Context>
  extends Pick<ApiOptions<Req, Context>, 'inbox' | 'authorize' | 'rateLimit'> {
  /** For the stream's handlers, as given. */
  readonly handler: HandlerOptions<Req, Context>;
  /** The same with defaults. */
  readonly resolved: ResolvedHandlerOptions<Req, Context>;
  /** Without a slash at its end; empty for the root. */
  readonly path: string;
  readonly maxBodyBytes: number;
  readonly idempotencyTtl: number;
  readonly maxIdempotencyKeys: number;
}

const INBOX_METHODS = [
  'sendToUser',
  'sendToGroup',
  'broadcast',
  'pending',
  'markRead',
  'unreadCount',
  'subscribe',
  'unsubscribe',
  'subscriptions',
] as const satisfies readonly (keyof ApiInbox)[];

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
export function resolveApiOptions<Req extends RequestLike, Context>(
  options: ApiOptions<Req, Context>,
): ResolvedApiOptions<Req, Context> {
  if (typeof options !== 'object' || options === null) refuse('options', options, 'an object');
  const {
    path = DEFAULT_API_OPTIONS.path,
    inbox,
    authorize,
    rateLimit,
    maxBodyBytes = DEFAULT_API_OPTIONS.maxBodyBytes,
    idempotencyTtl = DEFAULT_API_OPTIONS.idempotencyTtl,
    maxIdempotencyKeys = DEFAULT_API_OPTIONS.maxIdempotencyKeys,
    ...handler
  } = options;
  if (typeof path !== 'string' || !/^(\/[^?#]*)?$/.test(path)) refuse('path', path, "a path that starts with '/'");
  for (const [name, value] of Object.entries({ authorize, rateLimit })) {
    if (value !== undefined && typeof value !== 'function') refuse(name, value, 'a function');
  }
  const missing = inbox && INBOX_METHODS.find((method) => typeof inbox[method] !== 'function');
  if (missing !== undefined) refuse('inbox', inbox, `an Inbox; it has no ${missing}`);
  for (const [name, value] of Object.entries({ maxBodyBytes, idempotencyTtl, maxIdempotencyKeys })) {
    if (!Number.isSafeInteger(value) || value < 0) refuse(name, value, 'a whole number, 0 or more');
  }
  return {
    handler,
    // Refuses what neither knows.
    resolved: resolveHandlerOptions(handler as HandlerOptions<Req, Context>),
    inbox,
    authorize,
    rateLimit,
    path: path.replace(/\/+$/, ''),
    maxBodyBytes,
    idempotencyTtl,
    maxIdempotencyKeys,
  };
}

function refuse(option: string, value: unknown, allowed: string): never {
  throw new SseError('SSE_ERR_INVALID_OPTION', `${option} must be ${allowed}; got ${shown(value)}`);
}
