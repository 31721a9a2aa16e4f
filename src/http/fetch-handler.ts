/** The Fetch handler: `(Request) => Response`, for Hono, h3, Deno, Bun, and whatever speaks the standard. */
import { GzipStream } from '../core/deflate.js';
import {
  type Arrival,
  arrive,
  checkBroker,
  checkRequest,
  type HandlerBroker,
  type OnceLeft,
  tellConnected,
} from './arrival.js';
import { type HandlerOptions, resolveHandlerOptions } from './options.js';
import { ALLOW, refusalOf, STREAM_HEADERS } from './refusal.js';
import type { MediaType } from './request.js';
import { headersFor, isGzip, NO_HEADERS } from './response-headers.js';
import { WebSink } from './web-sink.js';

/** Serves one request; never rejects. `context` is handed to the callbacks of {@link HandlerOptions}. */
export type FetchHandler<Context = unknown> = (request: Request, context?: Context) => Promise<Response>;

/** What a handler does with somebody who may connect. */
export interface FetchService {
  readonly mediaType: MediaType;
  readonly headers: Readonly<Record<string, string>>;
  /** Gives the body, and the client id where a stream was opened. */
  open(request: Request, headers: Readonly<Record<string, string>>, arrival: Arrival): OpenedBody | Promise<OpenedBody>;
}

interface OpenedBody {
  readonly body: ReadableStream<Uint8Array> | string | null;
  readonly clientId?: string;
}

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
  return serveFetch(broker, options, {
    mediaType: 'text/event-stream',
    headers: STREAM_HEADERS,
    open: (request, headers, arrival) => {
      const sink = new WebSink(isGzip(headers) ? new GzipStream() : undefined, request);
      const clientId = broker.connect({ sink, ...arrival });
      return { body: sink.body, clientId };
    },
  });
}

const onceAborted =
  (signal: AbortSignal): OnceLeft =>
  (callback) => {
    signal.addEventListener('abort', callback, { once: true });
    return () => signal.removeEventListener('abort', callback);
  };

/** @throws {TypeError} Other objects have a part of what a Request has, and fail somewhere. */
export function checkFetchMount(request: unknown): void {
  if (typeof (request as Partial<Request> | undefined)?.signal?.aborted === 'boolean') return;
  throw new TypeError(
    "this handler takes a Fetch Request; for Node's (req, res), as Express has it, use createHandler, createPollHandler or " +
      'createApi, for Hono and h3 sse-broker/hono and /h3',
  );
}

/** What the Fetch handlers have in common. */
export function serveFetch<Context>(
  broker: HandlerBroker,
  options: HandlerOptions<Request, Context>,
  service: FetchService,
): FetchHandler<Context> {
  checkBroker(broker);
  const resolved = resolveHandlerOptions(options);
  const headersOf = headersFor(service, resolved);

  return async function handle(request, context) {
    let cors = NO_HEADERS;
    try {
      checkFetchMount(request);
      cors = resolved.cors(request, request.method === 'OPTIONS');
      if (request.method === 'OPTIONS') {
        return new Response(null, { status: 204, headers: { Allow: ALLOW, ...cors } });
      }
      checkRequest(request, service.mediaType);
      if (request.signal.aborted) return new Response(null);
      const arrival = await arrive(broker, resolved, request, context as Context, () => onceAborted(request.signal));
      // Nobody is there to read it.
      if (arrival === undefined || request.signal.aborted) return new Response(null);
      broker.admit(arrival.identity, arrival.topics);
      const headers = headersOf(request, cors);
      if (request.method === 'HEAD') return new Response(null, { status: 200, headers });
      const { body, clientId } = await service.open(request, headers, arrival);
      // Not awaited: the head of the response waits for nobody.
      void tellConnected(broker, resolved, clientId, request, context as Context);
      return new Response(body, { status: 200, headers });
    } catch (error) {
      const style = () => (service.mediaType === 'text/event-stream' ? resolved.refusalOf(request) : 'status');
      const { status, headers, body } = refusalOf(broker, error, style);
      // Statuses that go without a body take no empty one either.
      return new Response(request?.method === 'HEAD' || body === '' ? null : body, {
        status,
        headers: { ...headers, ...cors },
      });
    }
  };
}
