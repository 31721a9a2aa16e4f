/** Events that wait for a handler: their order, and how long it takes to deliver many. */
import { expect, onTestFinished, test } from 'vitest';
import { SSEClient, type SSEClientConfig } from '../../src/client/index.js';
import { eventText, startFaultServer, stream } from '../support/fault-server.js';
import { collectGarbage } from '../support/garbage.js';
import { until } from '../support/until.js';
import { writtenStream } from './written-stream.js';

async function receive(text: string, count: number, config: SSEClientConfig = {}) {
  const server = await startFaultServer(stream(text));
  const client = new SSEClient({ url: server.url, ...config });
  onTestFinished(() => client.destroy());
  client.connect();
  await until(() => client.getStats().messagesReceived === count, `${count} events`);
  return client;
}

test('they come in order to a handler that is registered while they are delivered', async () => {
  const of = (event: string, data: string) => eventText(data, { event });
  const client = await receive(of('x', '1') + of('y', '1') + of('x', '2'), 3);
  const seen: unknown[] = [];
  client.subscribe('y', () => client.subscribe('x', (data) => seen.push(data)));
  await until(() => seen.length === 2, 'both');
  expect(seen).toEqual([1, 2]);
});

test('they come in order also where another handler of the same event resumes', async () => {
  const of = (event: string, data: string) => eventText(data, { event });
  const client = await receive(of('x', '1') + of('y', '1') + of('x', '2'), 3);
  const seen: unknown[] = [];
  client.subscribe('y', () => client.subscribe('x', (data) => seen.push(data)));
  client.subscribe('y', () => client.resume());
  await until(() => seen.length === 2, 'both');
  expect(seen).toEqual([1, 2]);
});

test('an event that comes while they are delivered does not pass them, though a handler registers another', async () => {
  const { client, send, connect } = await writtenStream();
  const of = (event: string, data: number) => eventText(String(data), { event });
  await connect();
  await send(of('x', 1), of('x', 2), of('x', 3));
  const seen: unknown[] = [];
  client.subscribe('y', () => {
    client.subscribe('x', (data) => {
      seen.push(data);
      client.subscribe('z', () => {});
    });
  });
  await send(of('y', 0), of('x', 4));
  await until(() => seen.length === 4, 'all');
  expect(seen).toEqual([1, 2, 3, 4]);
});

test('a hundred thousand take less than two seconds', async () => {
  const count = 100_000;
  let text = '';
  for (let n = 0; n < count; n++) text += `data: ${n}\n\n`;
  const client = await receive(text, count, { messageQueueSize: Infinity });
  let next = 0;
  const begin = performance.now();
  client.on('message', ({ data }) => {
    if (data === next) next++;
  });
  await until(() => next === count, 'all, in order');
  expect(performance.now() - begin).toBeLessThan(2_000);
});

/** Numbered events that come while the client is paused, when `write` says so. */
async function startPaused(config: SSEClientConfig) {
  const { client, send, connect } = await writtenStream(config);
  const seen: unknown[] = [];
  client.on('gap', ({ resumedFrom }) => seen.push(`gap to ${resumedFrom}`));
  client.subscribe('note', (data) => seen.push(data));
  await connect();
  client.pause();
  const receive = (...numbers: readonly number[]) =>
    send(...numbers.map((n) => eventText(String(n), { id: String(n), event: 'note' })));
  return { client, seen, receive };
}

const NEWEST = { messageQueueSize: 2, messageQueuePolicy: 'drop-newest' } as const;

test('with drop-newest the gap comes where the events are missing: after those that waited', async () => {
  const { client, seen, receive } = await startPaused(NEWEST);
  await receive(1, 2, 3, 4);
  client.resume();
  await receive(5);
  expect(seen).toEqual([1, 2, 'gap to 4', 5]);
  expect(client.getStats()).toMatchObject({ dropped: 2, gaps: 1 });
});

test('nothing passes a gap that is not told yet, though there is room again', async () => {
  const { client, seen, receive } = await startPaused(NEWEST);
  const off = client.subscribe('note', () => client.pause());
  await receive(1, 2, 3);
  client.resume();
  expect(seen).toEqual([1]);
  await receive(4);
  off();
  client.resume();
  await receive(5);
  expect(seen).toEqual([1, 2, 'gap to 4', 5]);
});

test('clearQueue() in a handler does not count the event that is with the handler', async () => {
  const { client, seen, receive } = await startPaused({});
  client.subscribe('note', () => seen.push(`cleared ${client.clearQueue()}`));
  await receive(1, 2, 3);
  client.resume();
  expect(seen).toEqual([1, 'cleared 2']);
});

test('handlers of many types that come and go leave nothing behind', async () => {
  const client = new SSEClient();
  const comeAndGo = (from: number, count: number) => {
    for (let n = from; n < from + count; n++) client.subscribe(`type number ${n}`, () => {})();
  };
  comeAndGo(0, 1_000);
  await collectGarbage();
  const before = process.memoryUsage().heapUsed;
  comeAndGo(1_000, 100_000);
  await collectGarbage();
  // More than 10 MB where each leaves its name and an empty list.
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(3_000_000);
  client.destroy();
});
