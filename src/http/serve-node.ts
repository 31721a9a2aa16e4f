/** What the Node handlers have in common: from `(req, res)` to an arrival, and refusals. */
import { type IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import type { Socket } from 'node:net';
import { isThenable } from '../core/diagnostics.js';
import { isSseError, SseError } from '../core/errors.js';
import {
  type Arrival,
  arrive,
  checkBroker,
  checkRequest,
  type HandlerBroker,
  type OnceLeft,
  tellConnected,
} from './arrival.js';
import { onConnectionClose } from './leaving.js';
import { type HandlerOptions, resolveHandlerOptions } from './options.js';
import { ALLOW, type Answer, refusalOf } from './refusal.js';
import type { MediaType } from './request.js';
import { addVary, headersFor, NO_HEADERS } from './response-headers.js';

/** Node's request, of either protocol version. */
export type NodeRequest = IncomingMessage | Http2ServerRequest;
/** Node's response, of either protocol version. */
export type NodeResponse = ServerResponse | Http2ServerResponse;

/**
 * Serves one request. Resolves when the stream is open or the request answered; rejects only where it is mounted so that it
 * gets something else than Node's `(req, res)`. `context` is handed to the
 * callbacks of `HandlerOptions`; frameworks' adapters pass their own object, Express passes `next`, which is not called.
 */
export type NodeHandler<Context = unknown> = (req: NodeRequest, res: NodeResponse, context?: Context) => Promise<void>;

/** What a handler does with somebody who may connect. */
export interface NodeService {
  readonly mediaType: MediaType;
  readonly headers: Readonly<Record<string, string>>;
  /** Answers; gives the client id where a stream was opened. */
  open(
    req: NodeRequest,
    res: NodeResponse,
    headers: Readonly<Record<string, string>>,
    arrival: Arrival,
  ): string | undefined | Promise<undefined>;
}

// An application may have put a `stream` of its own on an HTTP/1 response.
export const isHttp2 = (res: NodeResponse): res is Http2ServerResponse =>
  !(res instanceof ServerResponse) && 'stream' in res;

/** True where nobody is there to answer. */
export function isGone(req: NodeRequest, res: NodeResponse): boolean {
  if (isHttp2(res)) return res.stream === undefined || res.stream.destroyed || res.stream.closed;
  // A pipelined response has no socket of its own yet; its connection still tells.
  return res.destroyed || req.socket.destroyed;
}

/** Whether a body follows, or may (RFC 9112, section 6.3). */
const hasBody = (req: NodeRequest, res: NodeResponse): boolean =>
  isHttp2(res) || req.headers['content-length'] !== undefined || req.headers['transfer-encoding'] !== undefined;

/** By the response, and by the connection of one that has no socket yet: `callback` may come twice where nobody undoes it. */
export const onceLeft =
  (req: NodeRequest, res: NodeResponse): OnceLeft =>
  (callback) => {
    const isPipelined = !isHttp2(res) && res.socket === null;
    const leaveConnection = isPipelined ? onConnectionClose(req.socket as Socket, () => callback()) : undefined;
    res.once('close', callback);
    return () => {
      res.off('close', callback);
      leaveConnection?.();
    };
  };

/** Ends a response that can no longer be answered. */
export function cut(res: NodeResponse): void {
  if (isHttp2(res)) res.stream.destroy();
  else res.destroy();
}

/** A whole response. */
export function answer(res: NodeResponse, { status, headers: wanted, body }: Answer): void {
  const headers = prepared(res, wanted);
  if (isHttp2(res)) {
    res.writeHead(status, headers);
    res.end(body);
  } else {
    res.writeHead(status, headers);
    res.end(body);
  }
}

/** `headers`, at peace with what earlier middleware has set on the response. */
function prepared(res: NodeResponse, headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  // For a body that is not sent.
  res.removeHeader('Content-Length');
  const vary = res.getHeader('Vary');
  return vary === undefined || headers.Vary === undefined ? headers : addVary(headers, String(vary));
}

/** @throws {TypeError} Frameworks with objects of their own would make of it that a method is missing somewhere. */
export function checkMount(req: unknown, res: unknown): void {
  const { headers } = (req ?? {}) as Partial<NodeRequest>;
  const { writeHead } = (res ?? {}) as Partial<NodeResponse>;
  if (typeof headers === 'object' && typeof writeHead === 'function') return;
  throw new TypeError(
    "this handler takes Node's (req, res); for Koa, Fastify, NestJS, Hono and h3 use sse-broker/koa, /fastify, /nest, /hono " +
      'or /h3, for a Fetch Request createFetchHandler, createFetchPollHandler or createFetchApi',
  );
}

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
export function serveNode<Req extends object, Context>(
  broker: HandlerBroker,
  options: HandlerOptions<Req, Context>,
  service: NodeService,
): NodeHandler<Context> {
  checkBroker(broker);
  const resolved = resolveHandlerOptions(options as HandlerOptions<NodeRequest, Context>);
  const headersOf = headersFor(service, resolved);

  return async function handle(req, res, context) {
    checkMount(req, res);
    // A body nobody asked for would pause the connection, and then its end would go unseen.
    if (hasBody(req, res)) req.resume();
    let cors = NO_HEADERS;
    try {
      cors = resolved.cors(req, req.method === 'OPTIONS');
      if (req.method === 'OPTIONS') {
        answer(res, { status: 204, headers: { Allow: ALLOW, ...cors }, body: '' });
        return;
      }
      checkRequest(req, service.mediaType);
      if (isGone(req, res)) return;
      const arriving = arrive(broker, resolved, req, context as Context, () => onceLeft(req, res));
      const arrival = isThenable(arriving) ? await arriving : arriving;
      if (arrival === undefined || isGone(req, res)) return;
      if (res.headersSent) {
        throw new SseError(
          'SSE_ERR_INTERNAL',
          'the response was begun by somebody else; mount the handler before them',
        );
      }
      broker.admit(arrival.identity, arrival.topics);
      const headers = headersOf(req, cors);
      if (req.method === 'HEAD') {
        answer(res, { status: 200, headers, body: '' });
        return;
      }
      const opened = service.open(req, res, prepared(res, headers), arrival);
      const clientId = isThenable(opened) ? await opened : opened;
      if (resolved.onConnect !== undefined) await tellConnected(broker, resolved, clientId, req, context as Context);
    } catch (error) {
      if (isGone(req, res) && isSseError(error) && error.status !== undefined) {
        // A refusal that nobody waits for any more.
        broker.refused(error);
      } else if (isGone(req, res) || res.headersSent) {
        broker.reportError(error, 'handler');
      } else {
        refuse(req, res, error, cors);
      }
    }
  };

  function refuse(req: NodeRequest, res: NodeResponse, error: unknown, cors: Readonly<Record<string, string>>): void {
    const style = () => (service.mediaType === 'text/event-stream' ? resolved.refusalOf(req) : 'status');
    const { status, headers, body } = refusalOf(broker, error, style);
    try {
      answer(res, { status, headers: { ...headers, ...cors }, body });
    } catch (failure) {
      // Somebody has done to the response what makes it unable to answer.
      broker.reportError(failure, 'handler');
      cut(res);
    }
  }
}
