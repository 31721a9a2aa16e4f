/** h3 2: the Fetch handler for its event. Typed by the part that is used; h3 itself is not imported. */
import type { HandlerBroker } from '../http/arrival.js';
import { createFetchHandler, type FetchHandler } from '../http/fetch-handler.js';
import type { HandlerOptions } from '../http/options.js';

/** The part of h3's event that the adapter uses. */
export interface H3EventLike {
  readonly req: Request;
  /** Whatever else h3 has there; name `H3Event` to have it checked. */
  // biome-ignore lint/suspicious/noExplicitAny: see above
  readonly [key: string]: any;
}

/** An event handler of h3. */
export type H3Handler<Event extends H3EventLike = H3EventLike> = (event: Event) => Promise<Response>;

/**
 * Makes an event handler that turns requests into streams of `broker`. Callbacks get the Fetch `Request` and, as their
 * context, the event, so `event.context.user` of an earlier middleware is there. Headers set on `event.res` are kept.
 *
 * @example
 * app.all('/events', createH3Handler(broker, {
 *   authenticator: (_request, { context }) => (context.user ? { userId: context.user.id } : null),
 * }));
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function createH3Handler<Event extends H3EventLike = H3EventLike>(
  broker: HandlerBroker,
  options: HandlerOptions<Request, Event> = {},
): H3Handler<Event> {
  return toH3Handler(createFetchHandler(broker, options));
}

/** Makes an event handler of another Fetch handler of this package, as `createFetchApi` makes one, in the same way. */
export function toH3Handler<Event extends H3EventLike = H3EventLike>(handle: FetchHandler<Event>): H3Handler<Event> {
  return async (event) => {
    const response = await handle(event.req, event);
    joinVary(event, response);
    return response;
  };
}

/** Both have a say in what answers differ by; h3 puts its own headers in place of a response's. */
function joinVary({ res }: H3EventLike, response: Response): void {
  const ours = response.headers.get('Vary');
  if (ours === null) return;
  const headers: Headers = res.headers;
  const earlier = headers.get('Vary');
  if (earlier !== null) headers.set('Vary', `${earlier}, ${ours}`);
}
