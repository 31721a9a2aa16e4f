/** Handlers for long polling: for clients behind proxies that eat streams. */
import type { IncomingMessage } from 'node:http';
import type { HandlerBroker } from './arrival.js';
import { type FetchHandler, serveFetch } from './fetch-handler.js';
import type { HandlerOptions } from './options.js';
import { poll, waitOf } from './poll.js';
import { answer, isGone, type NodeHandler, onceLeft, serveNode } from './serve-node.js';

const HEADERS: Readonly<Record<string, string>> = Object.freeze({
  'Content-Type': 'application/json; charset=utf-8',
  'Cache-Control': 'no-store',
});

/**
 * Makes a handler that answers `GET …?lastEventId=…&wait=20000` with
 * `{ events: [{ id, type, data }], lastEventId, gap? }`: at once when there is something after `lastEventId`, with an empty
 * list after `wait` ms otherwise (at most 55 000; 0 or absent: at once). `data` is the JSON value where JSON was published,
 * else the string. Authentication, topics, limits, replay and gaps are those of `createHandler`; so are the options.
 * Between two polls nobody is connected, so give the bus a history.
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function createPollHandler<Req extends object = IncomingMessage, Context = unknown>(
  broker: HandlerBroker,
  options: HandlerOptions<Req, Context> = {},
): NodeHandler<Context> {
  return serveNode(broker, options, {
    mediaType: 'application/json',
    headers: HEADERS,
    open: async (req, res, headers, arrival) => {
      const left = new AbortController();
      const stay = onceLeft(req, res)(() => left.abort());
      try {
        const body = await poll(broker, arrival, waitOf(req), left);
        if (body !== undefined && !isGone(req, res)) answer(res, { status: 200, headers, body });
      } finally {
        stay();
      }
      return undefined;
    },
  });
}

/** {@link createPollHandler} for `(Request) => Response`. */
export function createFetchPollHandler<Context = unknown>(
  broker: HandlerBroker,
  options: HandlerOptions<Request, Context> = {},
): FetchHandler<Context> {
  return serveFetch(broker, options, {
    mediaType: 'application/json',
    headers: HEADERS,
    open: async (request, _headers, arrival) => {
      const body = await poll(broker, arrival, waitOf(request), request);
      return { body: body ?? null };
    },
  });
}
