/** A real Chromium's own EventSource reads compressed streams: event by event, on and on, and comes back after their end. */
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import { expect, onTestFinished, test } from 'vitest';
import { createHandler } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { openPage } from '../support/browser.js';
import { listenIn, PAGE } from '../support/eventsource-page.js';
import { listen } from '../support/server.js';
import { until } from '../support/until.js';

/** A page, and a broker's compressed stream at /events. */
async function start(options: Parameters<typeof makeBroker>[0] = {}) {
  const page = await openPage();
  const broker = makeBroker(options);
  const handler = createHandler(broker, { compression: 'gzip' });
  const requests: IncomingMessage[] = [];
  const responses: ServerResponse[] = [];
  const server = http.createServer((req, res) => {
    if (req.url === '/') res.setHeader('Content-Type', 'text/html').end(PAGE);
    else if (req.url !== '/events') res.writeHead(204).end();
    else {
      requests.push(req);
      responses.push(res);
      void handler(req, res);
    }
  });
  const { url, close } = await listen(server);
  onTestFinished(close);
  await page.goto(url);
  return { page, broker, requests, responses };
}

test('each event arrives without waiting for the next, whatever it says', async () => {
  const { page, broker } = await start({ heartbeatInterval: 50, clientTimeout: 1_000 });
  const response = page.waitForResponse('**/events');
  const stream = await listenIn(page, '/events', ['note']);
  await stream.next('connected');
  expect((await response).headers()['content-encoding']).toBe('gzip');
  const sent = [
    '{"text":"grüße, 世界 🙂"}',
    '',
    'two\nlines',
    '💥'.repeat(40_000),
    Array.from({ length: 5_000 }, () => Math.random().toString(36)).join(' '),
  ];
  for (const [i, data] of sent.entries()) {
    const id = await broker.broadcast('note', data);
    expect(await stream.next('note', i + 1)).toMatchObject({ data, lastEventId: id });
  }
  // Many at once, and one after a silence with nothing but comments.
  for (let n = 0; n < 200; n++) void broker.broadcast('note', `${n}`);
  await stream.next('note', sent.length + 200);
  const { writes } = broker.getStats();
  await until(() => broker.getStats().writes >= writes + 3, 'three heartbeats');
  await broker.broadcast('note', 'after the silence');
  expect(await stream.next('note', sent.length + 201)).toMatchObject({ data: 'after the silence' });
  const numbers = (await stream.seen()).filter(({ type }) => type === 'note').slice(sent.length, -1);
  expect(numbers.map(({ data }) => data)).toEqual(Array.from({ length: 200 }, (_, n) => `${n}`));
  expect((await stream.seen()).some(({ type }) => type === 'error')).toBe(false);
});

test('after the end of a stream, orderly or not, it comes back and gets what it missed, once', async () => {
  const { page, broker, requests, responses } = await start({ retry: 100, historySize: 100 });
  const stream = await listenIn(page, '/events', ['note']);
  await stream.next('connected');
  await broker.broadcast('note', 1);
  await stream.next('note');
  // Orderly: a trailer with checksum and length, which Chromium looks at.
  await broker.disconnect([...broker.getClients()][0]!.id);
  await stream.next('closing');
  await stream.next('connected', 2);
  await broker.broadcast('note', 2);
  const { lastEventId } = await stream.next('note', 2);
  // And cut in the middle.
  responses[1]!.destroy();
  await until(() => broker.getStats().totalClients === 0, 'it to be gone');
  await broker.broadcast('note', 3);
  await stream.next('connected', 3);
  await broker.broadcast('note', 4);
  await stream.next('note', 4);
  expect(requests[2]!.headers['last-event-id']).toBe(lastEventId);
  const seen = await stream.seen();
  expect(seen.filter(({ type }) => type === 'note').map(({ data }) => data)).toEqual(['1', '2', '3', '4']);
  expect(seen.some(({ type }) => type === 'gap')).toBe(false);
  expect(seen.every(({ readyState }) => readyState !== 2)).toBe(true);
});
