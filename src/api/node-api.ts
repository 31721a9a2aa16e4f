/** The API as a Node handler: `(req, res)` of node:http, node:https, node:http2, Express and, by their adapters, others. */
import type { IncomingMessage } from 'node:http';
import type { Arrival } from '../http/arrival.js';
import { createHandler } from '../http/handler.js';
import type { HandlerOptions } from '../http/options.js';
import { createPollHandler } from '../http/poll-handler.js';
import {
  answer,
  checkMount,
  cut,
  isGone,
  isHttp2,
  type NodeHandler,
  type NodeRequest,
  type NodeResponse,
  onceLeft,
} from '../http/serve-node.js';
import { Api } from './api.js';
import { readNodeBody } from './body.js';
import type { ApiBroker } from './contracts.js';
import type { ApiOptions } from './options.js';

/** The options of a handler that gets who has arrived already. */
export function arrivedOptions<Req extends object, Context>(
  options: HandlerOptions<Req, Context>,
  arrivals: WeakMap<object, Arrival>,
): HandlerOptions<Req, Context> {
  return {
    ...options,
    authenticator: (req) => arrivals.get(req)!.identity,
    topicResolver: (req) => arrivals.get(req)!.topics,
    authorizeTopic: undefined,
  };
}

/** HTTP/2 has no deadline for requests: one that goes on after its answer would do so for ever (RFC 9113, section 8.1). */
function endOnceAnswered({ stream }: Extract<NodeResponse, { stream: unknown }>): void {
  // Earlier the reset would overtake the end of the answer.
  stream.once('finish', () => setImmediate(() => stream.close()));
}

/**
 * Makes the REST API of `broker` as a handler: streams and polling, publishing, what waits in the inbox, administration, health
 * and its own OpenAPI document. Closed by default: without `authorize` nobody publishes or administers, without
 * `authenticator` there is no user, and without `topicResolver` and `authorizeTopic` there are no topics.
 *
 * It needs the package `zod` 4 beside this one.
 *
 * @example
 * app.use('/api', createApi(broker, { inbox, authenticator, authorize: tokenAuthorizer([{ token, scopes: ['publish'] }]) }));
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function createApi<Req extends object = IncomingMessage, Context = unknown>(
  broker: ApiBroker,
  options: ApiOptions<Req, Context> = {},
): NodeHandler<Context> {
  const api = new Api<NodeRequest, Context>(broker, options as ApiOptions<NodeRequest, Context>);
  const arrivals = new WeakMap<object, Arrival>();
  const handlerOptions = arrivedOptions<NodeRequest, Context>(api.handlerOptions, arrivals);
  const handlers = {
    stream: createHandler(broker, handlerOptions),
    poll: createPollHandler(broker, handlerOptions),
  };

  return async function handle(req, res, context) {
    checkMount(req, res);
    // A body nobody asked for would pause the connection, and then its end would go unseen.
    if (req.method !== 'POST' && (req.headers['content-length'] ?? req.headers['transfer-encoding']) !== undefined) {
      req.resume();
    }
    const result = await api.serve({
      raw: req,
      context: context as Context,
      onceLeft: onceLeft(req, res),
      readBody: (maxBytes) => readNodeBody(req, context, maxBytes),
    });
    if (result === undefined || isGone(req, res)) return;
    if (result.kind !== 'answer') {
      arrivals.set(req, result.arrival);
      return handlers[result.kind](req, res, context);
    }
    try {
      answer(res, req.method === 'HEAD' ? { ...result.answer, body: '' } : result.answer);
      if (isHttp2(res) && !req.complete) endOnceAnswered(res);
    } catch (failure) {
      // Somebody has begun the response, or done to it what makes it unable to answer.
      broker.reportError(failure, 'handler');
      cut(res);
    }
  };
}
