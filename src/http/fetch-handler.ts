/** The Fetch handler: `(Request) => Response`, for Hono, h3, Deno, Bun, and whatever speaks the standard. */
import { arrive, checkRequest, type HandlerBroker } from './arrival.js';
import { type HandlerOptions, resolveHandlerOptions } from './options.js';
import { ALLOW, refusalOf, STREAM_HEADERS } from './refusal.js';
import { WebSink } from './web-sink.js';

/** Serves one request; never rejects. `context` is handed to the callbacks of {@link HandlerOptions}. */
export type FetchHandler<Context = unknown> = (request: Request, context?: Context) => Promise<Response>;

/**
 * Makes a handler that turns requests into streams of `broker`. A stream ends when the body is cancelled or the request's
 * signal aborts, whichever the runtime does when a client leaves.
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function createFetchHandler<Context = unknown>(
  broker: HandlerBroker,
  options: HandlerOptions<Request, Context> = {},
): FetchHandler<Context> {
  const resolved = resolveHandlerOptions(options);

  return async function handle(request, context) {
    const cors = resolved.cors(request, request.method === 'OPTIONS');
    try {
      if (request.method === 'OPTIONS') {
        return new Response(null, { status: 204, headers: { Allow: ALLOW, ...cors } });
      }
      checkRequest(request);
      const { identity, topics, lastEventId } = await arrive(broker, resolved, request, context as Context);
      const headers = { ...STREAM_HEADERS, ...cors, ...resolved.headers };
      // Nobody is there to read it.
      if (request.method === 'HEAD' || request.signal.aborted) return new Response(null, { status: 200, headers });
      const sink = new WebSink();
      const clientId = broker.connect({ sink, identity, topics, lastEventId });
      request.signal.addEventListener('abort', () => sink.closed(), { once: true });
      if (resolved.onConnect !== undefined) {
        const client = broker.getClient(clientId);
        try {
          if (client !== undefined) await resolved.onConnect(client, request, context as Context);
        } catch (error) {
          broker.reportError(error, 'handler');
        }
      }
      return new Response(sink.body, { status: 200, headers });
    } catch (error) {
      const { status, headers, body } = refusalOf(broker, error, () => resolved.refusalOf(request));
      return new Response(request.method === 'HEAD' ? null : body, { status, headers: { ...headers, ...cors } });
    }
  };
}
