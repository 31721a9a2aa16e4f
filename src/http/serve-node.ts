/** What the Node handlers have in common: from `(req, res)` to an arrival, and refusals. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { SseError } from '../core/errors.js';
import { type Arrival, arrive, checkRequest, type HandlerBroker } from './arrival.js';
import { type HandlerOptions, resolveHandlerOptions } from './options.js';
import { ALLOW, type Answer, refusalOf } from './refusal.js';
import type { MediaType } from './request.js';
import { responseHeaders } from './response-headers.js';

/** Node's request, of either protocol version. */
export type NodeRequest = IncomingMessage | Http2ServerRequest;
/** Node's response, of either protocol version. */
export type NodeResponse = ServerResponse | Http2ServerResponse;

/**
 * Serves one request. Resolves when the stream is open or the request answered, never rejects. `context` is handed to the
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
    headers: Record<string, string>,
    arrival: Arrival,
  ): string | undefined | Promise<undefined>;
}

export const isHttp2 = (res: NodeResponse): res is Http2ServerResponse => 'stream' in res;

/** True where nobody is there to answer. */
export function isGone(req: NodeRequest, res: NodeResponse): boolean {
  if (isHttp2(res)) return res.stream === undefined || res.stream.destroyed || res.stream.closed;
  // A pipelined response has no socket of its own yet; its connection still tells.
  return res.destroyed || req.socket.destroyed;
}

/** A whole response. */
export function answer(res: NodeResponse, { status, headers, body }: Answer): void {
  if (isHttp2(res)) {
    res.writeHead(status, headers);
    res.end(body);
  } else {
    res.writeHead(status, headers);
    res.end(body);
  }
}

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
export function serveNode<Req extends object, Context>(
  broker: HandlerBroker,
  options: HandlerOptions<Req, Context>,
  service: NodeService,
): NodeHandler<Context> {
  const resolved = resolveHandlerOptions(options as HandlerOptions<NodeRequest, Context>);

  return async function handle(req, res, context) {
    // A body nobody asked for would pause the connection, and then its end would go unseen.
    req.resume();
    const cors = resolved.cors(req, req.method === 'OPTIONS');
    try {
      if (req.method === 'OPTIONS') {
        answer(res, { status: 204, headers: { Allow: ALLOW, ...cors }, body: '' });
        return;
      }
      checkRequest(req, service.mediaType);
      const arrival = await arrive(broker, resolved, req, context as Context);
      if (isGone(req, res)) return;
      if (res.headersSent) {
        throw new SseError(
          'SSE_ERR_INTERNAL',
          'the response was begun by somebody else; mount the handler before them',
        );
      }
      const headers = responseHeaders(service, resolved, cors, req);
      // Set by something earlier for a body that is not sent.
      res.removeHeader('Content-Length');
      if (req.method === 'HEAD') {
        answer(res, { status: 200, headers, body: '' });
        return;
      }
      const clientId = await service.open(req, res, headers, arrival);
      if (clientId === undefined || resolved.onConnect === undefined) return;
      const client = broker.getClient(clientId);
      if (client !== undefined) await resolved.onConnect(client, req, context as Context);
    } catch (error) {
      if (isGone(req, res) || res.headersSent) {
        broker.reportError(error, 'handler');
      } else {
        const style = () => (service.mediaType === 'text/event-stream' ? resolved.refusalOf(req) : 'status');
        const { status, headers, body } = refusalOf(broker, error, style);
        answer(res, { status, headers: { ...headers, ...cors }, body });
      }
    }
  };
}
