/** The API as a Fetch handler: `(Request) => Response`, for Hono, h3, Deno, Bun, and whatever speaks the standard. */
import type { Arrival } from '../http/arrival.js';
import { checkFetchMount, createFetchHandler, type FetchHandler } from '../http/fetch-handler.js';
import { createFetchPollHandler } from '../http/poll-handler.js';
import { Api } from './api.js';
import { readFetchBody } from './body.js';
import type { ApiBroker } from './contracts.js';
import { errorAnswer } from './errors.js';
import { arrivedOptions } from './node-api.js';
import type { ApiOptions } from './options.js';

/**
 * `createApi` for `(Request) => Response`.
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function createFetchApi<Context = unknown>(
  broker: ApiBroker,
  options: ApiOptions<Request, Context> = {},
): FetchHandler<Context> {
  const api = new Api<Request, Context>(broker, options);
  const arrivals = new WeakMap<object, Arrival>();
  const handlerOptions = arrivedOptions<Request, Context>(api.handlerOptions, arrivals);
  const handlers = {
    stream: createFetchHandler(broker, handlerOptions),
    poll: createFetchPollHandler(broker, handlerOptions),
  };

  return async function handle(request, context) {
    try {
      checkFetchMount(request);
    } catch (mistake) {
      const { status, headers, body } = errorAnswer(broker, mistake);
      return new Response(body, { status, headers });
    }
    const { signal } = request;
    const result = await api.serve({
      raw: request,
      context: context as Context,
      onceLeft: (callback) => {
        signal.addEventListener('abort', callback, { once: true });
        return () => signal.removeEventListener('abort', callback);
      },
      readBody: (maxBytes) => readFetchBody(request, context, maxBytes),
    });
    // Nobody is there to read it.
    if (result === undefined) return new Response(null);
    if (result.kind !== 'answer') {
      arrivals.set(request, result.arrival);
      return handlers[result.kind](request, context);
    }
    const { status, headers, body } = result.answer;
    return new Response(request.method === 'HEAD' || body === '' ? null : body, { status, headers });
  };
}
