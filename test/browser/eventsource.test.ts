/** A real Chromium's own EventSource against createHandler: what it does with our answers, not what we hope. */
import http, { type IncomingMessage, type RequestListener } from 'node:http';
import { expect, onTestFinished, test } from 'vitest';
import { createHandler, type HandlerOptions } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { openPage } from '../support/browser.js';
import { listenIn, PAGE } from '../support/eventsource-page.js';
import { listen, type RunningServer, serve } from '../support/server.js';
import { openStream } from '../support/stream.js';

const isPage = (req: IncomingMessage) => req.url === '/';

/** Answers `/` with the page and everything else with `listener`. */
const withPage =
  (listener: RequestListener): RequestListener =>
  (req, res) => {
    if (isPage(req)) res.setHeader('Content-Type', 'text/html').end(PAGE);
    else if (req.url === '/favicon.ico') res.writeHead(204).end();
    else listener(req, res);
  };

/** A server with the page and a broker's stream; `requests` are those for the stream. */
async function serveStream(broker: ReturnType<typeof makeBroker>, options: HandlerOptions = {}, port = 0) {
  const requests: IncomingMessage[] = [];
  const handler = createHandler(broker, options);
  const listener = withPage((req, res) => {
    requests.push(req);
    void handler(req, res);
  });
  const running: RunningServer = await listen(http.createServer(listener), 'http', port);
  onTestFinished(() => running.close());
  return { ...running, requests };
}

test('named events arrive with their data and ids, in order', async () => {
  const page = await openPage();
  const broker = makeBroker({ heartbeatInterval: 20, clientTimeout: 1_000 });
  const { url } = await serveStream(broker);
  await page.goto(url);
  const stream = await listenIn(page, '/events', ['note', 'job.progress', 'naïve 🙂']);
  await stream.next('connected');

  const sent = [
    await broker.broadcast('note', { text: 'grüße, 世界 🙂 \u2028' }),
    await broker.broadcast('job.progress', 'two\nlines\r\nand\rthree, with a\ttab and : colons'),
    await broker.broadcast('naïve 🙂', ''),
    await broker.broadcast('message', [1, null, ' leading space']),
  ];
  await stream.next('message');

  const seen = await stream.seen();
  expect(seen.map(({ type }) => type)).toEqual(['open', 'connected', 'note', 'job.progress', 'naïve 🙂', 'message']);
  expect(seen.slice(2).map(({ lastEventId }) => lastEventId)).toEqual(sent);
  expect(seen.slice(2).map(({ data }) => data)).toEqual([
    '{"text":"grüße, 世界 🙂 \u2028"}',
    'two\nlines\nand\nthree, with a\ttab and : colons',
    '',
    '[1,null," leading space"]',
  ]);
});

test('after a restart of the server on the same port it comes back by itself and gets what it missed, once', async () => {
  const page = await openPage();
  const broker = makeBroker({ retry: 200, historySize: 10 });
  const first = await serveStream(broker);
  await page.goto(first.url);
  const stream = await listenIn(page, '/events', ['note']);
  await stream.next('connected');
  const lastSeen = await broker.broadcast('note', 1);
  await stream.next('note');

  await first.close();
  await stream.next('error');
  await broker.broadcast('note', 2);
  await broker.broadcast('note', 3);
  const second = await serveStream(broker, {}, first.port);
  await stream.next('connected', 2);
  await broker.broadcast('note', 4);
  await stream.next('note', 4);

  const seen = await stream.seen();
  expect(second.requests[0]?.headers['last-event-id']).toBe(lastSeen);
  expect(seen.filter(({ type }) => type === 'note').map(({ data }) => data)).toEqual(['1', '2', '3', '4']);
  expect(seen.some(({ type }) => type === 'gap')).toBe(false);
  expect(seen.every(({ readyState }) => readyState !== 2)).toBe(true);
});

test('a quiet stream, which has had no event yet, has a cursor too', async () => {
  const page = await openPage();
  const broker = makeBroker({ retry: 200, historySize: 10 });
  const head = await broker.broadcast('note', 0);
  const { url, requests, server } = await serveStream(broker);
  await page.goto(url);
  const stream = await listenIn(page, '/events', ['note']);
  await stream.next('connected');

  (server as http.Server).closeAllConnections();
  await broker.broadcast('note', 1);
  await stream.next('note');

  expect(requests.map((req) => req.headers['last-event-id'])).toEqual([undefined, head]);
  expect((await stream.seen()).filter(({ type }) => type === 'note').map(({ data }) => data)).toEqual(['1']);
});

test('after a restart that lost the history it is told a gap before anything else', async () => {
  const page = await openPage();
  const before = makeBroker({ retry: 200, historySize: 10 });
  const first = await serveStream(before);
  await page.goto(first.url);
  const stream = await listenIn(page, '/events', ['note']);
  await stream.next('connected');
  const lastSeen = await before.broadcast('note', 1);
  await stream.next('note');

  await first.close();
  const after = makeBroker({ historySize: 10 });
  await serveStream(after, {}, first.port);
  await stream.next('connected', 2);
  await after.broadcast('note', 2);
  await stream.next('note', 2);

  const seen = await stream.seen();
  const since = seen.slice(seen.findLastIndex(({ type }) => type === 'connected'));
  expect(since.map(({ type }) => type)).toEqual(['connected', 'gap', 'note']);
  expect(JSON.parse(since[1]!.data!)).toMatchObject({ reason: 'epoch', requested: lastSeen });
});

test('turned away because the broker is full, it comes back by itself when there is room', async () => {
  const page = await openPage();
  const broker = makeBroker({ maxConnections: 1, retry: 100 });
  const { url, requests } = await serveStream(broker);
  const occupant = await openStream(`${url}/events`);
  await occupant.next('connected');
  await page.goto(url);
  const stream = await listenIn(page, '/events');
  await stream.next('error', 2);

  occupant.close();
  await stream.next('connected');

  const seen = await stream.seen();
  expect(broker.getStats().refused).toBeGreaterThanOrEqual(2);
  expect(broker.getStats().refused).toBe(requests.length - 2);
  expect(seen.filter(({ type }) => type === 'error').every(({ readyState }) => readyState === 0)).toBe(true);
  expect(seen.filter(({ type }) => type === 'connected')).toHaveLength(1);
});

test('401 closes it for good', async () => {
  const page = await openPage();
  const open = makeBroker({ maxConnections: 1, retry: 50 });
  const closed = makeBroker({ retry: 50 });
  const shed = createHandler(open);
  const forbidden = createHandler(closed, { authenticator: () => null });
  const urls: string[] = [];
  const { url } = await serve(
    withPage((req, res) => {
      urls.push(req.url ?? '');
      void (req.url === '/shed' ? shed : forbidden)(req, res);
    }),
  );
  await openStream(`${url}/shed`);
  await page.goto(url);

  const refused = await listenIn(page, '/forbidden');
  const error = await refused.next('error');
  // Another EventSource of the page that does try again: by its third error the first one has had its chance.
  const other = await listenIn(page, '/shed');
  await other.next('error', 3);

  expect(error.readyState).toBe(2);
  expect(urls.filter((path) => path === '/forbidden')).toHaveLength(1);
  expect((await refused.seen()).map(({ type }) => type)).toEqual(['error']);
});

test('a page of another origin reads the stream where cors allows it, cookies included, and comes back', async () => {
  const page = await openPage();
  const broker = makeBroker({ retry: 100, historySize: 10 });
  const { url: pageUrl } = await serve(withPage((_, res) => res.writeHead(404).end()));
  const { url, requests } = await serveStream(broker, { cors: { origin: pageUrl, credentials: true } });
  await page.context().addCookies([{ name: 'session', value: 'abc', url }]);
  await page.goto(pageUrl);

  const stream = await listenIn(page, `${url}/events`, ['note'], { withCredentials: true });
  const { data } = await stream.next('connected');
  const id = await broker.broadcast('note', 1);
  await stream.next('note');
  await broker.disconnect(JSON.parse(data!).clientId);
  await stream.next('connected', 2);

  expect(requests.map(({ method, headers }) => [method, headers.cookie, headers['last-event-id']])).toEqual([
    ['GET', 'session=abc', undefined],
    ['GET', 'session=abc', id],
  ]);
});

test.each([
  ['no cors option', {}, false],
  ['another origin in the cors option', { cors: { origin: 'https://app.example' } }, false],
  ['no credentials in the cors option', { cors: { origin: /^http:\/\/127\.0\.0\.1:\d+$/ } }, true],
])('a page of another origin reads nothing: %s', async (_, options, withCredentials) => {
  const page = await openPage();
  const broker = makeBroker();
  const { url: pageUrl } = await serve(withPage((_, res) => res.writeHead(404).end()));
  const { url } = await serveStream(broker, options);
  await page.goto(pageUrl);

  const stream = await listenIn(page, `${url}/events`, [], { withCredentials });
  const error = await stream.next('error');

  expect(error.readyState).toBe(2);
  expect((await stream.seen()).map(({ type }) => type)).toEqual(['error']);
});

test('close() is seen as a closing event, and the page is back within the window it was told', async () => {
  const page = await openPage();
  // Left to itself it would come back in 15 to 25 seconds.
  const before = makeBroker({ retry: 20_000 });
  const after = makeBroker({ retry: 20_000 });
  let handler = createHandler(before);
  const { url } = await serve(withPage((req, res) => void handler(req, res)));
  await page.goto(url);
  const stream = await listenIn(page, '/events', ['note']);
  await stream.next('connected');

  handler = createHandler(after);
  await before.broadcast('note', 'last words');
  const result = await before.close({ reconnectWithinMs: 1_000 });
  const back = await stream.next('connected', 2);

  const seen = await stream.seen();
  const closing = seen.find(({ type }) => type === 'closing')!;
  expect(result).toEqual({ ended: 1, cut: 0 });
  expect(seen.map(({ type }) => type).filter((type) => type !== 'gap')).toEqual([
    ...['open', 'connected', 'note', 'closing', 'error'],
    ...['open', 'connected'],
  ]);
  expect(JSON.parse(closing.data!)).toEqual({ reason: 'shutdown' });
  expect(back.at - closing.at).toBeGreaterThan(150);
  expect(back.at - closing.at).toBeLessThan(5_000);
});

test('while the server stays away the page does not hammer at its port', async () => {
  const page = await openPage();
  const broker = makeBroker({ retry: 20_000 });
  const { url, close } = await serveStream(broker);
  await page.goto(url);
  const stream = await listenIn(page, '/events');
  await stream.next('connected');

  await broker.close({ reconnectWithinMs: 1_000 });
  await close();
  await stream.next('error', 4);

  const [first, ...rest] = (await stream.seen()).filter(({ type }) => type === 'error').map(({ at }) => at);
  // Three waits, each of at least a fifth of the window.
  expect(rest[2]! - first!).toBeGreaterThan(3 * 190);
});
