/** What TypeScript must take, and must not take, of the client. Checked by `tsc`, never run. */
import { SSEClient, type SSEClientConfig, type SSEClientError, type SSEEvent } from '../../src/client/index.js';

interface Events {
  progress: { percent: number };
  done: { result: string };
}

const client = new SSEClient<Events>({ url: '/events' });
const untyped = new SSEClient();

export async function loops() {
  for await (const event of client.events({ types: ['progress', 'done'] })) {
    if (event.type === 'progress') {
      const percent: number = event.data.percent;
      // @ts-expect-error: that is in the other
      event.data.result.length;
      return percent;
    }
    const result: string = event.data.result;
    return result;
  }
  for await (const { type, data } of client.events({ types: ['progress', 'done'] })) {
    if (type === 'done') return data.result;
  }
  for await (const { data } of client.events({ types: ['progress'] })) return data.percent;
  for await (const event of client.events()) {
    const any: SSEEvent = event;
    // @ts-expect-error: of whatever type
    event.data.percent;
    return any;
  }
  for await (const { data } of untyped.events({ types: ['x'] })) {
    // @ts-expect-error: nobody knows what is in it
    data.percent;
  }
  return undefined;
}

export function handlers() {
  const off: () => void = client.subscribe('progress', ({ percent }, event) => [percent.toFixed(), event.data.percent]);
  client.subscribe('progress', async ({ percent }) => percent);
  // @ts-expect-error: a progress has no result
  client.subscribe('progress', ({ result }) => result);
  // What the map does not name may come all the same.
  client.subscribe('connected', (data: unknown, { id, lastEventId }) => [data, id?.length, lastEventId.length]);
  client.on('done', ({ result }) => result.length).on('status', ({ previous, nextDelay }) => [previous, nextDelay]);
  client.once('gap', ({ refetch }) => refetch(async (signal) => signal.aborted));
  client.off('done').off('status');
  client.on('error', (error) => {
    const known: SSEClientError = error;
    if (error.code === 'SSE_CLIENT_STATUS') return error.status;
    // @ts-expect-error: no such code
    return error.code === 'SSE_CLIENT_ODD' && known;
  });
  // @ts-expect-error: the status has no percent
  client.on('status', ({ percent }) => percent);
  // @ts-expect-error: a status is one of five
  const isOpen = client.getStatus().status === 'open';
  return [off, isOpen];
}

export const configs: SSEClientConfig[] = [
  { url: new URL('https://events.example/stream'), headers: { a: 'b' }, decide: () => 5 },
  { url: async ({ lastEventId, signal }) => `/stream?from=${lastEventId}&${signal.aborted}` },
  {
    urls: ['/a', () => '/b'],
    headers: async ({ refresh }) => ({ authorization: `${refresh}` }),
    decide: () => undefined,
  },
  { fetch: (url, init) => fetch(url, init), parse: (text, { type, id }) => [text, type, id] },
  { decide: ({ status, headers, error }) => (headers?.has('x') && status && error?.retryable ? 'retry' : 'next') },
  // @ts-expect-error: no such setting
  { url: '/events', retries: 3 },
  // @ts-expect-error: no such policy
  { url: '/events', messageQueuePolicy: 'drop-all' },
  // @ts-expect-error: an answer that there is not
  { decide: () => 'again' },
  // @ts-expect-error: it is not waited for
  { decide: async () => 'retry' },
  // @ts-expect-error: a duration is a number
  { reconnectInterval: '1s' },
];
// @ts-expect-error: fixed
client.getStatus().status = 'failed';
