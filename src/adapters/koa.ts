/** Koa: the Node handler as middleware. Typed by the part of Koa's context that is used; Koa itself is not imported. */
import type { IncomingMessage } from 'node:http';
import type { HandlerBroker } from '../http/arrival.js';
import { createHandler } from '../http/handler.js';
import type { HandlerOptions } from '../http/options.js';
import type { NodeHandler, NodeRequest, NodeResponse } from '../http/serve-node.js';

/** The part of Koa's `ctx` that the adapter uses. */
export interface KoaContextLike {
  readonly req: NodeRequest;
  readonly res: NodeResponse;
  respond?: boolean | undefined;
  onerror?(error: unknown): void;
  /** Whatever else Koa and its middleware have there; name your context's type to have it checked. */
  // biome-ignore lint/suspicious/noExplicitAny: see above
  [key: string]: any;
}

/** Koa middleware that answers every request it gets; `next` is not called. */
export type KoaHandler<Context extends KoaContextLike = KoaContextLike> = (
  ctx: Context,
  next?: unknown,
) => Promise<void>;

/**
 * Makes a middleware that turns requests into streams of `broker`. Callbacks get Node's request and, as their context,
 * `ctx`, so `ctx.state.user` of an earlier middleware is there. Headers that earlier middleware set are kept. Koa is told
 * not to respond (`ctx.respond = false`): what later code does with `ctx.body` and `ctx.status` has no effect.
 *
 * @example
 * const events = createKoaHandler(broker, {
 *   authenticator: (_req, { state }) => (state.user ? { userId: state.user.id } : null),
 * });
 * app.use((ctx, next) => (ctx.path === '/events' ? events(ctx) : next()));
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function createKoaHandler<Context extends KoaContextLike = KoaContextLike>(
  broker: HandlerBroker,
  options: HandlerOptions<IncomingMessage, Context> = {},
): KoaHandler<Context> {
  return toKoaHandler(createHandler(broker, options));
}

/** Makes a middleware of another handler of this package, as `createApi` makes one, in the same way. */
export function toKoaHandler<Context extends KoaContextLike = KoaContextLike>(
  handle: NodeHandler<Context>,
): KoaHandler<Context> {
  return (ctx) => {
    dropConnectionErrors(ctx);
    ctx.respond = false;
    return handle(ctx.req, ctx.res, ctx);
  };
}

/** A connection that was reset is a client that left: nothing for the application's error log, where Koa would put it. */
function dropConnectionErrors(ctx: KoaContextLike): void {
  const { onerror } = ctx;
  ctx.onerror = (error) => {
    if (error !== ctx.req.socket.errored) onerror?.call(ctx, error);
  };
}
