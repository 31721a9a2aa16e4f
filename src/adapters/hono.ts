/** Hono: the Fetch handler for its context. Typed by the part that is used; Hono itself is not imported. */
import type { HandlerBroker } from '../http/arrival.js';
import { createFetchHandler, type FetchHandler } from '../http/fetch-handler.js';
import type { HandlerOptions } from '../http/options.js';

/** The part of Hono's `c` that the adapter uses. */
export interface HonoContextLike {
  readonly req: { readonly raw: Request };
  newResponse(body: ReadableStream<Uint8Array> | null, init: Response): Response;
  header(name: string, value: string): void;
  /** Whatever else Hono has there; name your `Context` type to have it checked. */
  // biome-ignore lint/suspicious/noExplicitAny: see above
  readonly [key: string]: any;
}

/** A handler for one route. */
export type HonoHandler<Context extends HonoContextLike = HonoContextLike> = (c: Context) => Promise<Response>;

/**
 * Makes a handler that turns requests into streams of `broker`. Callbacks get the Fetch `Request` and, as their context,
 * `c`, so `c.get('user')` of an earlier middleware is there. Headers set by `c.header()` are kept.
 *
 * @example
 * app.all('/events', createHonoHandler(broker, {
 *   authenticator: (_request, c) => (c.get('user') ? { userId: c.get('user').id } : null),
 * }));
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function createHonoHandler<Context extends HonoContextLike = HonoContextLike>(
  broker: HandlerBroker,
  options: HandlerOptions<Request, Context> = {},
): HonoHandler<Context> {
  return toHonoHandler(createFetchHandler(broker, options));
}

/** Makes a handler of another Fetch handler of this package, as `createFetchApi` makes one, in the same way. */
export function toHonoHandler<Context extends HonoContextLike = HonoContextLike>(
  handle: FetchHandler<Context>,
): HonoHandler<Context> {
  return async (c) => {
    const response = await handle(c.req.raw, c);
    joinVary(c, response);
    // Returned as it is, it would lose what `c.header()` set before.
    return c.newResponse(response.body, response);
  };
}

/** Both have a say in what answers differ by. Of other headers ours are in place of earlier ones, as in every handler. */
function joinVary(c: HonoContextLike, response: Response): void {
  const ours = response.headers.get('Vary');
  if (ours === null) return;
  // Not `c.res`: once that was asked for, Hono puts its headers in place of a response's.
  const earlier = c.newResponse(null, new Response(null)).headers.get('Vary');
  if (earlier === null) return;
  const both = `${earlier}, ${ours}`;
  response.headers.set('Vary', both);
  c.header('Vary', both);
}
