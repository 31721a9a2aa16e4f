/**
 * The Node handler: `(req, res)` of node:http, node:https, node:http2 (compatibility API), and of every framework that
 * gives these two.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { SseError } from '../core/errors.js';
import { arrive, checkRequest, type HandlerBroker } from './arrival.js';
import { Http2Sink } from './http2-sink.js';
import { NodeSink } from './node-sink.js';
import { type HandlerOptions, resolveHandlerOptions } from './options.js';
import { ALLOW, type Answer, refusalOf, STREAM_HEADERS } from './refusal.js';

/** Node's request, of either protocol version. */
export type NodeRequest = IncomingMessage | Http2ServerRequest;
/** Node's response, of either protocol version. */
export type NodeResponse = ServerResponse | Http2ServerResponse;

/**
 * Serves one request. Resolves when the stream is open or the request refused, never rejects. `context` is handed to the
 * callbacks of {@link HandlerOptions}; frameworks' adapters pass their own object, Express passes `next`, which is not
 * called.
 */
export type NodeHandler<Context = unknown> = (req: NodeRequest, res: NodeResponse, context?: Context) => Promise<void>;

const isHttp2 = (res: NodeResponse): res is Http2ServerResponse => 'stream' in res;

/** True where nobody is there to answer. */
function isGone(req: NodeRequest, res: NodeResponse): boolean {
  if (isHttp2(res)) return res.stream === undefined || res.stream.destroyed || res.stream.closed;
  // A pipelined response has no socket of its own yet; its connection still tells.
  return res.destroyed || req.socket.destroyed;
}

/**
 * Makes a handler that turns requests into streams of `broker`.
 *
 * @example
 * http.createServer(createHandler(broker, { authenticator: queryAuthenticator() }));
 * app.get('/events', createHandler(broker, { authenticator: (req) => req.user ?? null })); // Express
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function createHandler<Req extends object = IncomingMessage, Context = unknown>(
  broker: HandlerBroker,
  options: HandlerOptions<Req, Context> = {},
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
      checkRequest(req);
      const { identity, topics, lastEventId } = await arrive(broker, resolved, req, context as Context);
      if (isGone(req, res)) return;
      if (res.headersSent) {
        throw new SseError(
          'SSE_ERR_INTERNAL',
          'the response was begun by somebody else; mount the handler before them',
        );
      }
      const headers = { ...STREAM_HEADERS, ...cors, ...resolved.headers };
      if (req.method === 'HEAD') {
        answer(res, { status: 200, headers, body: '' });
        return;
      }
      const clientId = open(req, res, headers, (sink) => broker.connect({ sink, identity, topics, lastEventId }));
      if (resolved.onConnect !== undefined) {
        const client = broker.getClient(clientId);
        if (client !== undefined) await resolved.onConnect(client, req, context as Context);
      }
    } catch (error) {
      if (isGone(req, res) || res.headersSent) {
        broker.reportError(error, 'handler');
      } else {
        const { status, headers, body } = refusalOf(broker, error, () => resolved.refusalOf(req));
        answer(res, { status, headers: { ...headers, ...cors }, body });
      }
    }
  };
}

/** Writes the head and connects, head and first frame in one packet. */
function open(
  req: NodeRequest,
  res: NodeResponse,
  headers: Record<string, string>,
  connect: (sink: NodeSink | Http2Sink) => string,
): string {
  // Set by something earlier for a body of known length; a stream has none.
  res.removeHeader('Content-Length');
  if (isHttp2(res)) {
    res.writeHead(200, headers);
    return connect(new Http2Sink(res));
  }
  const { socket } = res;
  socket?.cork();
  try {
    res.writeHead(200, headers);
    res.flushHeaders();
    return connect(new NodeSink(req as IncomingMessage, res));
  } finally {
    socket?.uncork();
  }
}

function answer(res: NodeResponse, { status, headers, body }: Answer): void {
  if (isHttp2(res)) {
    res.writeHead(status, headers);
    res.end(body);
  } else {
    res.writeHead(status, headers);
    res.end(body);
  }
}
