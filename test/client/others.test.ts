/** What others do wrong: functions of the application, servers that say odd things. The client says so, and goes on. */
import { afterEach, expect, onTestFinished, test, vi } from 'vitest';
import { SSEClient, type SSEClientConfig, type SSEClientError, type SSEGap } from '../../src/client/index.js';
import { eventText, inTurn, startFaultServer, status, stream } from '../support/fault-server.js';
import { until } from '../support/until.js';

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function make(config: SSEClientConfig) {
  const client = new SSEClient({ reconnectInterval: 1, fallbackToPolling: false, ...config });
  onTestFinished(() => client.destroy());
  const errors: SSEClientError[] = [];
  client.on('error', (error) => errors.push(error));
  return { client, errors };
}

const HOST = 'http://host.test/stream';
const HEAD = { headers: { 'content-type': 'text/event-stream' } };

/** A response that says `text` and then nothing, and writes down that it was let go of. */
function silent(text: string, init: ResponseInit = HEAD) {
  let cancelled = 0;
  const body = new ReadableStream({
    start: (controller) => {
      if (text !== '') controller.enqueue(new TextEncoder().encode(text));
    },
    cancel: () => {
      cancelled++;
    },
  });
  return { response: new Response(body, init), cancelled: () => cancelled };
}

test('a decide that is async is not waited for; that it rejects is told, and harms nobody', async () => {
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => unhandled.push(reason);
  process.on('unhandledRejection', note);
  onTestFinished(() => void process.off('unhandledRejection', note));
  const server = await startFaultServer(status(503));
  const decide = () => Promise.reject(new Error('mine'));
  const { client, errors } = make({ url: server.url, decide: decide as never });
  client.connect();
  await until(() => server.requests.length === 2, 'a second attempt');
  expect(errors.map(({ code }) => code)).toContain('SSE_CLIENT_CALLBACK');
  expect(unhandled).toEqual([]);
});

test('of a fetch that knows no signals a stream is let go of by disconnect(), though no byte comes', async () => {
  const { response, cancelled } = silent(eventText('1'));
  const { client } = make({ url: HOST, fetch: async () => response });
  client.connect();
  await until(() => client.getStats().messagesReceived === 1, 'the event');
  client.disconnect();
  await until(() => cancelled() === 1, 'the stream to be let go of');
  expect(client.getStatus()).toMatchObject({ status: 'disconnected', error: null });
});

test('so is the answer to a poll, and the body of a refusal', async () => {
  const refusal = silent('who are', { status: 400 });
  const refused = make({ url: HOST, fetch: async () => refusal.response }).client;
  const asked = vi.spyOn(refusal.response.body!, 'getReader');
  refused.connect();
  await until(() => asked.mock.calls.length === 1, 'the body to be read');
  refused.disconnect();
  await until(() => refusal.cancelled() === 1, 'the refusal to be let go of');

  const answer = silent('{"events":', { headers: { 'content-type': 'application/json' } });
  const polled = vi.spyOn(answer.response.body!, 'getReader');
  const fetch = (url: string) =>
    url.includes('/poll') ? Promise.resolve(answer.response) : Promise.reject(new TypeError('no way'));
  const { client } = make({ url: HOST, fallbackToPolling: true, fetch });
  client.connect();
  await until(() => polled.mock.calls.length === 1, 'the poll');
  client.disconnect();
  await until(() => answer.cancelled() === 1, 'the poll to be let go of');
});

test('of a fetch that never answers nothing is left after disconnect()', async () => {
  vi.useFakeTimers();
  const { client } = make({ url: HOST, fetch: () => new Promise(() => {}) });
  client.connect();
  await vi.advanceTimersByTimeAsync(10);
  expect(client.getStatus().status).toBe('connecting');
  client.disconnect();
  expect(client.getStatus().status).toBe('disconnected');
  expect(vi.getTimerCount()).toBe(0);
});

test.each([
  ['is very long', 'a'.repeat(5_000)],
  ['has a control character', 'a\u0001b'],
])('after an id that %s, which no request can carry, a gap is told before the next event', async (_, id) => {
  const server = await startFaultServer(inTurn(stream(eventText('1', { id })), stream(eventText('2', { id: 'b' }))));
  const { client } = make({ url: server.url });
  const seen: unknown[] = [];
  client.on('gap', ({ reason, requested, resumedFrom, local }: SSEGap) =>
    seen.push({ reason, requested, resumedFrom, local }),
  );
  client.subscribe('message', (data) => seen.push(data));
  client.connect();
  await until(() => seen.length === 1, 'the first');
  server.cutAll();
  await until(() => seen.length === 3, 'all');
  expect(seen).toEqual([1, { reason: 'unknown', requested: id, resumedFrom: null, local: false }, 2]);
  expect(server.requests[1]!.headers['last-event-id']).toBeUndefined();
  server.cutAll();
  await until(() => server.requests.length === 3 && client.getStatus().connected, 'connected again');
  expect(server.requests[2]!.headers['last-event-id']).toBe('b');
  expect(client.getStats().gaps).toBe(1);
});

test.each([
  ['a line break in a token', { authorization: 'Bearer abc\ndef' }],
  ['nothing at all', null],
])('headers that cannot be sent are told as what they are, not as the network: %s', async (_, headers) => {
  const fetched: string[] = [];
  const fetch = async (url: string) => {
    fetched.push(url);
    return silent('').response;
  };
  const { client, errors } = make({ url: HOST, headers: (() => headers) as never, fetch });
  client.connect();
  await until(() => errors.length > 0, 'an error');
  expect([errors[0]!.code, client.getStatus().reason, fetched]).toEqual(['SSE_CLIENT_CALLBACK', 'callback', []]);
});

test('a content type that a proxy has written twice is one', async () => {
  const twice = { headers: { 'content-type': 'text/event-stream, text/event-stream' } };
  const { client } = make({ url: HOST, fetch: async () => silent(eventText('1'), twice).response });
  client.connect();
  await until(() => client.getStats().messagesReceived === 1, 'the event');
});

test('a server that says it is heard from every millisecond is given a second', async () => {
  vi.useFakeTimers();
  const hello = eventText('{"heartbeatInterval":1}', { event: 'connected' });
  const { client, errors } = make({ url: HOST, heartbeatTimeout: 0, fetch: async () => silent(hello).response });
  client.connect();
  await vi.advanceTimersByTimeAsync(900);
  expect([client.getStatus().connected, errors.length]).toEqual([true, 0]);
  await vi.advanceTimersByTimeAsync(200);
  expect(errors.map(({ code }) => code)).toEqual(['SSE_CLIENT_SILENT']);
});

test('parse is for events of the application: of gaps and heartbeats the client reads what the server means', async () => {
  vi.useFakeTimers();
  const hello = eventText('{"heartbeatInterval":60000}', { event: 'connected' });
  const gap = eventText('{"reason":"evicted","resumedFrom":"5"}', { event: 'gap', id: '5' });
  const { client, errors } = make({
    url: HOST,
    heartbeatInterval: 500,
    heartbeatTimeout: 500,
    fetch: async () => silent(hello + gap + eventText('mine')).response,
    parse: (text) => {
      if (text !== 'mine') throw new Error(`not mine: ${text}`);
      return text;
    },
  });
  const seen: unknown[] = [];
  client.on('gap', ({ reason, resumedFrom }) => seen.push([reason, resumedFrom]));
  client.subscribe('message', (data) => seen.push(data));
  client.connect();
  await vi.advanceTimersByTimeAsync(30_000);
  expect(seen).toEqual([['evicted', '5'], 'mine']);
  expect([client.getStatus().connected, errors]).toEqual([true, []]);
});

test('with closeWhenHidden a page that is seen again waits for Retry-After; reconnect() does not', async () => {
  vi.useFakeTimers();
  const handlers = new Set<() => void>();
  const page = { visibilityState: 'visible' };
  vi.stubGlobal('document', page);
  vi.stubGlobal('navigator', { onLine: true });
  vi.stubGlobal('addEventListener', (name: string, handler: () => void) => {
    if (name === 'visibilitychange') handlers.add(handler);
  });
  const turn = (state: string) => {
    page.visibilityState = state;
    for (const handler of handlers) handler();
  };
  let asked = 0;
  const fetch = async () => {
    asked++;
    return new Response('', { status: 503, headers: { 'retry-after': '60' } });
  };
  const { client } = make({ url: HOST, closeWhenHidden: true, fetch });
  client.connect();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked).toBe(1);
  turn('hidden');
  expect(client.getStatus()).toMatchObject({ status: 'disconnected', reason: 'hidden' });
  turn('visible');
  await vi.advanceTimersByTimeAsync(50_000);
  expect(asked).toBe(1);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(asked).toBe(2);
  client.reconnect();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked).toBe(3);
});
