/** The Vue binding in a real Chromium, over real HTTP, with a real broker. */
import { expect, test, vi } from 'vitest';
import { until } from '../support/until.js';
import { runScenario } from './page.js';

// The first test bundles the page and starts the browser, which takes long beside others that do.
vi.setConfig({ testTimeout: 60_000 });

test('one connection for the application; its components get the events, and nobody complains', async () => {
  const page = await runScenario('app');
  await page.hasStreams(1);
  await page.broker.broadcast('note', { n: 1 });
  await page.shows('{"n":1}');
  await page.get(`act.update({ label: 'second' })`);
  await page.broker.broadcast('note', { n: 2 });
  await page.shows('{"n":2}');
  expect(await page.get('seen.handled.map(({ label, data }) => [label, data.n])')).toEqual([
    ['first', 1],
    ['second', 2],
  ]);
  expect(page.requests).toHaveLength(1);
  expect(await page.get('seen.complaints')).toEqual([]);
});

test('equal payloads call the handler and trigger the ref, each of them', async () => {
  const page = await runScenario('app');
  await page.hasStreams(1);
  const payloads = [{ same: true }, { same: true }, 7, 7, null, null];
  for (const payload of payloads) await page.broker.broadcast('note', payload);
  await page.is(`seen.handled.length === ${payloads.length}`);
  expect(await page.get('seen.handled.map(({ data }) => data)')).toEqual(payloads);
  expect(await page.get('seen.watched')).toEqual(payloads);
});

test('a handler that throws fails alone', async () => {
  const page = await runScenario('app');
  await page.hasStreams(1);
  await page.get(`seen.clients[0].on('error', ({ code }) => seen.gaps.push(code))`);
  await page.broker.broadcast('note', { explode: true });
  await page.broker.broadcast('note', { n: 2 });
  await page.shows('{"n":2}');
  expect(await page.get('seen.gaps')).toEqual(['SSE_CLIENT_HANDLER']);
});

test('the status goes from connecting to failed, and each change is shown', async () => {
  const page = await runScenario('app');
  await page.hasStreams(1);
  await page.is(`seen.statuses.at(-1) === 'connected'`);
  page.answer = 'cut';
  await page.endStreams();
  await page.is(`seen.statuses.at(-1) === 'coming back'`);
  page.answer = 'stream';
  await page.is(`seen.statuses.at(-1) === 'connected'`);
  page.answer = 'gone';
  await page.endStreams();
  await page.is(`seen.statuses.at(-1) === 'failed'`);
  // `connecting` comes before the first rendering is over.
  expect(
    (await page.get<string[]>('seen.statuses')).filter((status) => !/^(dis)?connect(ed|ing)$/.test(status)),
  ).toEqual(['coming back', 'coming back', 'failed']);
  expect(await page.get(`document.getElementById('status').outerHTML`)).toBe(
    '<span role="status" data-status="failed" id="status">failed</span>',
  );
  expect(await page.get(`document.getElementById('custom').textContent`)).toBe('failed true');
});

test('another event name begins with the initial data, and hears no more of the old one', async () => {
  const page = await runScenario('app');
  await page.hasStreams(1);
  await page.broker.broadcast('note', { n: 1 });
  await page.shows('{"n":1}');
  await page.get(`act.update({ event: 'memo' })`);
  await page.shows('null');
  await page.broker.broadcast('note', { n: 2 });
  await page.broker.broadcast('memo', { n: 3 });
  await page.shows('{"n":3}');
  expect(await page.get('seen.handled.map(({ type }) => type)')).toEqual(['note', 'memo']);
});

test('a component that is gone is not called any more; nor is what was stopped', async () => {
  const page = await runScenario('app');
  await page.hasStreams(1);
  await page.get('act.update({ isShown: false })');
  await page.is(`!document.getElementById('data')`);
  await page.broker.broadcast('note', { n: 1 });
  await page.get('act.update({ isShown: true })');
  // Nobody was there for it, so it waited.
  await page.shows('{"n":1}');
  await page.get('act.stop()');
  await page.broker.broadcast('note', { n: 2 });
  await page.shows('{"n":2}');
  expect(await page.get('seen.handled.length')).toBe(1);
  expect(page.requests).toHaveLength(1);
});

test('an application that is unmounted leaves no connection and no client', async () => {
  const page = await runScenario('app');
  await page.hasStreams(1);
  await page.get('act.unmount()');
  await page.hasStreams(0);
  expect(await page.get(`(() => { try { seen.clients[0].connect(); } catch ({ code }) { return code; } })()`)).toBe(
    'SSE_CLIENT_DESTROYED',
  );
  expect(page.requests).toHaveLength(1);
  expect(await page.get('seen.complaints')).toEqual([]);
});

test('a client that is given is left alone', async () => {
  const page = await runScenario('given');
  await page.hasStreams(1);
  await page.broker.broadcast('note', { n: 1 });
  await page.shows('{"n":1}');
  await page.get('act.unmount()');
  await page.get(`act.client.subscribe('memo', (data) => seen.handled.push(data))`);
  await page.broker.broadcast('note', { n: 2 });
  await page.broker.broadcast('memo', { n: 3 });
  await page.is('seen.handled.length === 2');
  expect(await page.get('seen.handled[1]')).toEqual({ n: 3 });
  expect(await page.get('act.client.getStatus().status')).toBe('connected');
  expect(page.requests).toHaveLength(1);
});

test.each([
  ['its own client', false],
  ['a client that is connected already', true],
])('markup of a server is taken over without a complaint: %s', async (_name, isConnected) => {
  const page = await runScenario('hydration', { isConnected });
  await page.hasStreams(1);
  await page.is(`seen.statuses.at(-1) === 'connected'`);
  await page.broker.broadcast('note', { n: 1 });
  await page.shows('{"n":1}');
  expect(await page.get('seen.markup')).toContain('data-status="disconnected"');
  expect(await page.get('act.isAdopted()')).toBe(true);
  expect(await page.get('seen.complaints')).toEqual([]);
  expect(page.requests).toHaveLength(1);
});

test('a Pinia store collects events over the life of components, and can hold the client', async () => {
  const page = await runScenario('store');
  await page.hasStreams(1);
  await page.broker.broadcast('note', { n: 1 });
  await page.shows('1');
  await page.get('act.update({ isShown: false })');
  await page.broker.broadcast('note', { n: 2 });
  await page.is('act.notes().length === 2');
  await page.get('act.update({ isShown: true })');
  await page.shows('1 2');
  expect(await page.get('act.statusOfStore()')).toBe('connected');
  expect(await page.get('act.stats().connected')).toBe(true);
  await page.get('act.unmount()');
  await page.hasStreams(0);
  expect(await page.get('seen.complaints')).toEqual([]);
});

test('in an effect scope outside of any application a client is passed, and the scope ends it', async () => {
  const page = await runScenario('scope');
  await page.hasStreams(1);
  await page.is(`seen.statuses.at(-1) === 'connected'`);
  await page.broker.broadcast('note', { n: 1 });
  await page.is('seen.handled.length === 1');
  await page.get('act.stop()');
  await page.get(`act.client.subscribe('memo', () => seen.handled.push('memo'))`);
  await page.broker.broadcast('note', { n: 2 });
  await page.broker.broadcast('memo', {});
  await page.is(`seen.handled.length === 2 && seen.handled[1] === 'memo'`);
  const statuses = await page.get('seen.statuses.length');
  await page.get('act.client.disconnect()');
  expect(await page.get('seen.statuses.length')).toBe(statuses);
  expect(await page.get('act.status()')).toBe('connected');
  // Without a client the composables say so.
  expect(await page.get('seen.gaps')).toEqual(['SSE_CLIENT_OPTION']);
});

test('the composables of two contexts have a stream each', async () => {
  const page = await runScenario('contexts');
  await page.hasStreams(2);
  await page.broker.sendToTopic('news', 'note', 'sunny');
  await page.broker.sendToTopic('jobs', 'note', 'done');
  await page.shows('sunny, done');
});

test('what <KeepAlive> keeps goes on listening', async () => {
  const page = await runScenario('keepAlive');
  await page.hasStreams(1);
  await page.get(`act.show('other')`);
  await page.broker.broadcast('note', { n: 1 });
  await page.is('seen.handled.length === 1');
  await page.get(`act.show('watcher')`);
  await page.shows('{"n":1}');
  expect(page.requests).toHaveLength(1);
});

test('a gap reaches the composable', async () => {
  const page = await runScenario('app', {}, { historySize: 2 });
  await page.hasStreams(1);
  await page.broker.broadcast('note', { n: 0 });
  await page.shows('{"n":0}');
  await page.get('seen.clients[0].disconnect()');
  await page.hasStreams(0);
  for (let n = 1; n <= 5; n++) await page.broker.broadcast('note', { n });
  await page.get('seen.clients[0].connect()');
  await page.shows('{"n":5}');
  expect(await page.get('seen.gaps')).toEqual(['evicted']);
});

test('a composable without the plugin says what is missing', async () => {
  const page = await runScenario('orphan');
  await until(async () => (await page.get<string[]>('seen.handled')).length > 0, 'the error');
  expect((await page.get<string[]>('seen.handled'))[0]).toMatch(
    /^SSE_CLIENT_OPTION no client here; install the plugin/,
  );
});
