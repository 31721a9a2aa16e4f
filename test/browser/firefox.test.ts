/** A real Firefox's own EventSource against createHandler: another reader of the standard than Chromium's. */
import http, { type IncomingMessage } from 'node:http';
import { expect, onTestFinished, test } from 'vitest';
import { createHandler, type HandlerOptions } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { openTab, startBrowsers } from '../support/browsers.js';
import { listenIn, PAGE } from '../support/eventsource-page.js';
import { listen } from '../support/server.js';
import { until } from '../support/until.js';

startBrowsers('firefox');

/** A page, and a broker's stream at /events. */
async function start(brokerOptions: Parameters<typeof makeBroker>[0], handlerOptions: HandlerOptions = {}) {
  const page = await openTab('firefox');
  const broker = makeBroker(brokerOptions);
  const handler = createHandler(broker, handlerOptions);
  const requests: IncomingMessage[] = [];
  const server = http.createServer((req, res) => {
    if (req.url === '/') res.setHeader('Content-Type', 'text/html').end(PAGE);
    else if (req.url !== '/events') res.writeHead(204).end();
    else {
      requests.push(req);
      void handler(req, res);
    }
  });
  const { url, close } = await listen(server);
  onTestFinished(close);
  await page.goto(url);
  return { page, broker, requests };
}

test.each([
  ['as it is', undefined],
  ['compressed', 'gzip'],
] as const)(
  'each event of a stream %s arrives without waiting for the next, whatever it says',
  async (_, compression) => {
    const options = { heartbeatInterval: 50, clientTimeout: 1_000 };
    const { page, broker, requests } = await start(options, { compression });
    const stream = await listenIn(page, '/events', ['note']);
    await stream.next('connected');
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
    // 160 kB of one character: on the wire they take their room only as they are.
    const bytes = requests[0]!.socket.bytesWritten;
    expect(compression === undefined ? bytes > 200_000 : bytes < 100_000, `${bytes} bytes`).toBe(true);
    const { writes } = broker.getStats();
    await until(() => broker.getStats().writes >= writes + 3, 'three heartbeats');
    await broker.broadcast('note', 'after the silence');
    expect(await stream.next('note', sent.length + 1)).toMatchObject({ data: 'after the silence' });
    expect((await stream.seen()).some(({ type }) => type === 'error')).toBe(false);
  },
);

test.each([
  ['as it is', undefined],
  ['compressed', 'gzip'],
] as const)('after the end of a stream %s it comes back and gets what it missed, once', async (_, compression) => {
  const { page, broker, requests } = await start({ retry: 50, historySize: 100 }, { compression });
  const stream = await listenIn(page, '/events', ['note']);
  await stream.next('connected');
  await broker.broadcast('note', 1);
  const { lastEventId } = await stream.next('note');
  await broker.disconnect([...broker.getClients()][0]!.id);
  await broker.broadcast('note', 2);
  await stream.next('connected', 2);
  await broker.broadcast('note', 3);
  await stream.next('note', 3);

  expect(requests[1]!.headers['last-event-id']).toBe(lastEventId);
  const seen = await stream.seen();
  expect(seen.filter(({ type }) => type === 'note').map(({ data }) => data)).toEqual(['1', '2', '3']);
  expect(seen.some(({ type }) => type === 'gap')).toBe(false);
});
