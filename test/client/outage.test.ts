/** Outages that last: nothing that grows, or is as large as it can be, stops the client; and what was asked for holds. */
import { afterEach, expect, onTestFinished, test, vi } from 'vitest';
import { SSEClient, type SSEClientConfig, type SSEClientError } from '../../src/client/index.js';

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

/** A client, with a clock of the test's, whose requests `answer` answers. */
function start(answer: (url: string, index: number) => Response | Promise<Response>, config: SSEClientConfig = {}) {
  vi.useFakeTimers();
  const asked: { url: string; at: number }[] = [];
  const client = new SSEClient({
    url: 'http://host.test/stream',
    fetch: async (url) => answer(url, asked.push({ url, at: Date.now() }) - 1),
    ...config,
  });
  onTestFinished(() => client.destroy());
  const errors: SSEClientError[] = [];
  client.on('error', (error) => errors.push(error));
  client.connect();
  return { client, asked, errors };
}

const away = () => Promise.reject(new TypeError('fetch failed'));
const refusal = (status: number, headers: Record<string, string> = {}) => new Response('', { status, headers });

const polled = () =>
  new Response('{"events":[],"lastEventId":"a"}', { headers: { 'content-type': 'application/json' } });

test('after thousands of attempts without a delay of its own it still tries', async () => {
  const { client, asked } = start(away, { reconnectInterval: 0, maxReconnectInterval: 300, fallbackToPolling: false });
  // 1.5 to the power of 1 751 is Infinity.
  await vi.advanceTimersByTimeAsync(300 * 2_000);
  const before = asked.length;
  expect(before).toBeGreaterThan(1_900);
  await vi.advanceTimersByTimeAsync(3_000);
  expect(asked.length).toBeGreaterThan(before);
  expect(client.getStatus().nextDelay).toBeTypeOf('number');
});

test('maxReconnectInterval: Infinity is a delay without a bound, not the end', async () => {
  const { client, asked } = start(away, { maxReconnectInterval: Infinity, reconnectInterval: 1 });
  await vi.advanceTimersByTimeAsync(5_000);
  expect(client.getStatus().status).toBe('reconnecting');
  expect(asked.length).toBeGreaterThan(3);
});

test('an address that said Retry-After is left alone for that long, though another is asked meanwhile', async () => {
  const { asked } = start((url) => (url.includes('//a.') ? refusal(503, { 'retry-after': '20' }) : away()), {
    url: undefined,
    urls: ['http://a.test/stream', 'http://b.test/stream'],
    maxReconnectInterval: 2_000,
    fallbackToPolling: false,
  });
  await vi.advanceTimersByTimeAsync(19_000);
  expect(asked.filter(({ url }) => url.includes('//a.'))).toHaveLength(1);
  expect(asked.length).toBeGreaterThan(5);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(asked.filter(({ url }) => url.includes('//a.')).length).toBeGreaterThan(1);
});

/** A page whose network goes and comes back. */
function stubNetwork(onLine = true) {
  const navigator = { onLine };
  const handlers = new Map<string, () => void>();
  vi.stubGlobal('navigator', navigator);
  vi.stubGlobal('addEventListener', (name: string, handler: () => void) => handlers.set(name, handler));
  return (isOnline: boolean) => {
    navigator.onLine = isOnline;
    handlers.get(isOnline ? 'online' : 'offline')!();
  };
}

test('where the network goes while an attempt is waited for, none is made until it is back', async () => {
  const turn = stubNetwork();
  vi.spyOn(Math, 'random').mockReturnValue(0.9);
  const { client, asked } = start(away, { reconnectInterval: 20_000, fallbackToPolling: false });
  await vi.advanceTimersByTimeAsync(1_000);
  expect(client.getStatus().nextDelay).toBeGreaterThan(10_000);
  turn(false);
  expect(client.getStatus()).toMatchObject({ status: 'reconnecting', nextDelay: null });
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asked).toHaveLength(1);
  turn(true);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked).toHaveLength(2);
});

test('a server on this machine is reached where the browser says that it is offline; one that is not, is asked once', async () => {
  const turn = stubNetwork(false);
  const open = () => new Response(new ReadableStream(), { headers: { 'content-type': 'text/event-stream' } });
  const here = start(open);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(here.client.getStatus()).toMatchObject({ status: 'connected', transport: 'stream' });
  here.client.destroy();

  const there = start(away);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(there.asked).toHaveLength(1);
  expect(there.client.getStatus()).toMatchObject({ status: 'reconnecting', reason: 'network', nextDelay: null });
  turn(true);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(there.asked.length).toBeGreaterThan(1);
});

test('polling that works goes on where the browser says that it is offline, and after that', async () => {
  const turn = stubNetwork();
  const { client, asked } = start((url) => (url.includes('/poll') ? polled() : away()), { pollingInterval: 1_000 });
  const polls = () => asked.filter(({ url }) => url.includes('/poll')).length;
  await vi.advanceTimersByTimeAsync(5_000);
  expect(client.getStatus()).toMatchObject({ status: 'connected', transport: 'polling' });
  turn(false);
  const before = polls();
  await vi.advanceTimersByTimeAsync(5_000);
  expect(polls()).toBeGreaterThan(before + 2);
  turn(true);
  const then = polls();
  await vi.advanceTimersByTimeAsync(5_000);
  expect(polls()).toBeGreaterThan(then + 2);
});

test('what decide says of a poll is done, too', async () => {
  const { client, asked } = start((url) => (url.includes('/poll') ? refusal(402) : away()), {
    decide: ({ status }) => (status === 402 ? 'fail' : undefined),
  });
  await vi.advanceTimersByTimeAsync(60_000);
  expect(client.getStatus()).toMatchObject({ status: 'failed', error: { status: 402 } });
  expect(asked.filter(({ url }) => url.includes('/poll'))).toHaveLength(1);
});

test('of a poll that is answered with something else the error has the start only', async () => {
  const page = `{"no":"${'x'.repeat(5_000)}"}`;
  const json = { headers: { 'content-type': 'application/json' } };
  const { errors } = start((url) => (url.includes('/poll') ? new Response(page, json) : away()));
  await vi.advanceTimersByTimeAsync(30_000);
  const error = errors.find(({ code }) => code === 'SSE_CLIENT_CONTENT_TYPE');
  expect(error?.body).toBe(page.slice(0, 1_024));
});
