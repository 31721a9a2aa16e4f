/**
 * The Node handler: `(req, res)` of node:http, node:https, node:http2 (compatibility API), and of every framework that
 * gives these two.
 */
import type { IncomingMessage } from 'node:http';
import { GzipStream } from '../core/deflate.js';
import type { Sink } from '../core/sink.js';
import type { Arrival, HandlerBroker } from './arrival.js';
import { Http2Sink } from './http2-sink.js';
import { NodeSink } from './node-sink.js';
import type { HandlerOptions } from './options.js';
import { endQuietly } from './quiet-request.js';
import { STREAM_HEADERS } from './refusal.js';
import { isGzip } from './response-headers.js';
import { cut, isHttp2, type NodeHandler, type NodeRequest, type NodeResponse, serveNode } from './serve-node.js';

/**
 * Makes a handler that turns requests into streams of `broker`.
 *
 * @example
 * http.createServer(createHandler(broker, { authenticator: queryAuthenticator() }));
 * app.get('/events', createHandler(broker, { authenticator: ({ user }) => (user ? { userId: user.id } : null) })); // Express
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function createHandler<Req extends object = IncomingMessage, Context = unknown>(
  broker: HandlerBroker,
  options: HandlerOptions<Req, Context> = {},
): NodeHandler<Context> {
  return serveNode(broker, options, {
    mediaType: 'text/event-stream',
    headers: STREAM_HEADERS,
    open: (req, res, headers, arrival) => open(broker, req, res, headers, arrival),
  });
}

/** Writes the head and connects, head and first frame in one packet. */
function open(
  broker: HandlerBroker,
  req: NodeRequest,
  res: NodeResponse,
  headers: Readonly<Record<string, string>>,
  { identity, topics, lastEventId, device }: Arrival,
): string {
  const gzip = isGzip(headers) ? new GzipStream() : undefined;
  const socket = isHttp2(res) ? null : res.socket;
  socket?.cork();
  try {
    res.writeHead(200, headers);
    let sink: Sink;
    if (isHttp2(res)) {
      sink = new Http2Sink(res, gzip);
    } else {
      res.flushHeaders();
      sink = new NodeSink(req as IncomingMessage, res, gzip);
      endQuietly(req as IncomingMessage);
    }
    return broker.connect({ sink, identity, topics, lastEventId, device });
  } catch (error) {
    // A head without a client behind it would be a stream that nothing ever comes on.
    if (res.headersSent) cut(res);
    throw error;
  } finally {
    socket?.uncork();
  }
}
