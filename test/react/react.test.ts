/** The React binding in a real Chromium, over real HTTP, with a real broker. */
import { describe, expect, test, vi } from 'vitest';
import { until } from '../support/until.js';
import { runScenario } from './page.js';
import type { ReactVersion } from './versions.js';

// The first test bundles the page and starts the browser, which takes long beside others that do.
vi.setConfig({ testTimeout: 60_000 });

// What hangs on how React mounts, undoes and redoes, hydrates and batches.
describe.each<[ReactVersion]>([['18'], ['19']])('React %s', (version) => {
  test('one connection under StrictMode, however often it renders with new settings and handlers', async () => {
    const page = await runScenario(version, 'app');
    expect(await page.get('React.version')).toMatch(new RegExp(`^${version}\\.`));
    await page.hasStreams(1);
    for (let n = 1; n <= 20; n++) await page.get(`act.update({ token: 't${n}' })`);
    await page.broker.broadcast('note', { n: 1 });
    await page.shows('{"n":1}');
    expect(page.requests).toHaveLength(1);
    expect(page.requests[0]!.headers['x-token']).toBe('a');
    expect(await page.get('seen.clients.length')).toBe(1);
    expect(await page.get('seen.complaints')).toEqual([]);
    // It is the newest function that the next attempt asks.
    await page.endStreams();
    await until(() => page.requests.length === 2, 'another request');
    expect(page.requests[1]!.headers['x-token']).toBe('t20');
  });

  test('the handler of the newest render is called, once for each event', async () => {
    const page = await runScenario(version, 'app');
    await page.hasStreams(1);
    await page.broker.broadcast('note', { n: 1 });
    await page.is('seen.handled.length === 1');
    await page.get(`act.update({ label: 'second' })`);
    await page.broker.broadcast('note', { n: 2 });
    await page.is('seen.handled.length === 2');
    expect(await page.get('seen.handled')).toEqual([
      { label: 'first', type: 'note', data: { n: 1 } },
      { label: 'second', type: 'note', data: { n: 2 } },
    ]);
  });

  test('the status goes from connecting to failed, and each change is shown', async () => {
    const page = await runScenario(version, 'app');
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
    expect(await page.get('seen.statuses')).toEqual([
      'disconnected',
      'connecting',
      'connected',
      'coming back',
      'connected',
      'coming back',
      'failed',
    ]);
    expect(await page.get(`document.getElementById('status').outerHTML`)).toBe(
      '<span role="status" data-status="failed" id="status">failed</span>',
    );
    expect(await page.get(`document.getElementById('custom').textContent`)).toBe('failed true');
  });

  test('another address or setting reconnects once, with the last id and the same client', async () => {
    const page = await runScenario(version, 'app');
    await page.hasStreams(1);
    await page.broker.broadcast('note', { n: 1 });
    await page.shows('{"n":1}');
    await page.get(`act.update({ url: '/events?second' })`);
    await until(() => page.requests.length === 2, 'another request');
    await page.hasStreams(1);
    expect(page.requests[1]!.url).toBe('/events?second');
    expect(page.requests[1]!.headers['last-event-id']).toBeTruthy();

    await page.get(`act.update({ token: 'b', config: { connectTimeout: 5000 } })`);
    await until(() => page.requests.length === 3, 'another request');
    await page.hasStreams(1);
    expect(page.requests[2]!.headers['x-token']).toBe('b');
    await page.broker.broadcast('note', { n: 2 });
    await page.shows('{"n":2}');
    expect(page.requests).toHaveLength(3);
    expect(await page.get('seen.clients.length')).toBe(1);
    expect(await page.get('seen.handled.length')).toBe(2);
  });

  test('unmounted it leaves no connection, no attempt and no handler; mounted again it is another client', async () => {
    const page = await runScenario(version, 'app');
    await page.hasStreams(1);
    await page.get('act.unmount()');
    await page.hasStreams(0);
    const destroyed = `(() => { try { seen.clients[0].connect(); } catch ({ code }) { return code; } })()`;
    await page.is(`${destroyed} === 'SSE_CLIENT_DESTROYED'`);
    expect(page.requests).toHaveLength(1);
    expect(await page.get('seen.complaints')).toEqual([]);
  });

  test('a provider that goes and comes back has one connection at a time', async () => {
    const page = await runScenario(version, 'app');
    await page.hasStreams(1);
    await page.get('act.update({ isShown: false })');
    await page.hasStreams(0);
    await page.get('act.update({ isShown: true })');
    await page.hasStreams(1);
    // Gone and back before the browser has told the server.
    await page.page.evaluate(`(async () => {
      act.update({ isShown: false });
      while (document.querySelector('p').textContent !== 'gone') await new Promise((resolve) => setTimeout(resolve));
      act.update({ isShown: true });
    })()`);
    await until(() => page.requests.length === 3, 'the third request');
    await page.hasStreams(1);
    expect(await page.get('seen.clients.length')).toBe(3);
    expect(await page.get('seen.complaints')).toEqual([]);
  });

  test.each([
    ['its own client', false],
    ['a client that is connected already', true],
  ])('markup of a server is taken over without a complaint: %s', async (_name, isConnected) => {
    const page = await runScenario(version, 'hydration', { isConnected });
    await page.hasStreams(1);
    await page.is(`seen.statuses.at(-1) === 'connected'`);
    await page.broker.broadcast('note', { n: 1 });
    await page.shows('{"n":1}');
    expect(await page.get('seen.markup')).toContain('data-status="disconnected"');
    expect(await page.get('act.isAdopted()')).toBe(true);
    expect(await page.get('seen.complaints')).toEqual([]);
    expect(page.requests).toHaveLength(1);
  });

  test('hot reload of a component keeps the connection and calls the new code', async () => {
    const page = await runScenario(version, 'hotReload');
    await page.hasStreams(1);
    await page.broker.broadcast('note', { n: 1 });
    await page.is('seen.handled.length === 1');
    await page.get(`act.edit('v2')`);
    await page.shows('v2, state of v1');
    await page.broker.broadcast('note', { n: 2 });
    await page.is('seen.handled.length === 2');
    expect(await page.get('seen.handled')).toEqual(['v1: 1', 'v2: 2']);
    expect(page.requests).toHaveLength(1);
  });
});

test('equal payloads call the handler and render, each of them', async () => {
  const page = await runScenario('19', 'app');
  await page.hasStreams(1);
  await page.is(`seen.statuses.at(-1) === 'connected'`);
  const payloads = [{ same: true }, { same: true }, 7, 7, null, null];
  for (const payload of payloads) {
    const commits = await page.get<number>('seen.commits');
    await page.broker.broadcast('note', payload);
    await page.is(`seen.commits > ${commits}`);
    await page.shows(JSON.stringify(payload));
  }
  expect(await page.get('seen.handled.map(({ data }) => data)')).toEqual(payloads);
});

test('a handler that throws fails alone', async () => {
  const page = await runScenario('19', 'app');
  await page.hasStreams(1);
  await page.get(`seen.clients[0].on('error', ({ code }) => seen.gaps.push(code))`);
  await page.broker.broadcast('note', { explode: true });
  await page.broker.broadcast('note', { n: 2 });
  await page.shows('{"n":2}');
  expect(await page.get('seen.gaps')).toEqual(['SSE_CLIENT_HANDLER']);
});

test('what is taken out of the settings is gone; where to begin counts once', async () => {
  const page = await runScenario('19', 'app');
  await page.hasStreams(1);
  await page.broker.broadcast('note', { n: 1 });
  await page.shows('{"n":1}');
  const first = await page.get<string>('seen.clients[0].lastEventId');
  await page.get(`act.update({ hasHeaders: false, config: { lastEventId: ${JSON.stringify(first)} } })`);
  await until(() => page.requests.length === 2, 'another request');
  expect(page.requests[1]!.headers).not.toHaveProperty('x-token');
  expect(page.requests[1]!.headers['last-event-id']).toBe(first);
  await page.hasStreams(1);
  await page.broker.broadcast('note', { n: 2 });
  await page.shows('{"n":2}');
  const second = await page.get<string>('seen.clients[0].lastEventId');
  await page.get(`act.update({ url: '/events?second' })`);
  await until(() => page.requests.length === 3, 'another request');
  expect(page.requests[2]!.headers['last-event-id']).toBe(second);
});

test('an address of null closes the stream, and the next one goes on from the last id', async () => {
  const page = await runScenario('19', 'app');
  await page.hasStreams(1);
  await page.broker.broadcast('note', { n: 1 });
  await page.shows('{"n":1}');
  await page.get('act.update({ url: null })');
  await page.hasStreams(0);
  await page.is(`seen.statuses.at(-1) === 'disconnected'`);
  await page.broker.broadcast('note', { n: 2 });
  await page.get(`act.update({ url: '/events' })`);
  await page.shows('{"n":2}');
  expect(page.requests).toHaveLength(2);
});

test('another event name begins with the initial data, and hears no more of the old one', async () => {
  const page = await runScenario('19', 'app');
  await page.hasStreams(1);
  await page.broker.broadcast('note', { n: 1 });
  await page.shows('{"n":1}');
  await page.get(`act.update({ event: 'memo' })`);
  await page.shows('null');
  await page.broker.broadcast('note', { n: 2 });
  await page.broker.broadcast('memo', { n: 3 });
  await page.shows('{"n":3}');
  expect(await page.get('seen.handled.map(({ type }) => type)')).toEqual(['note', 'memo']);
  expect(page.requests).toHaveLength(1);
});

test('a client that is given is left alone', async () => {
  const page = await runScenario('19', 'given');
  await page.hasStreams(1);
  await page.broker.broadcast('note', { n: 1 });
  await page.shows('{"n":1}');
  await page.get('act.unmount()');
  await page.is(`document.getElementById('root').textContent === ''`);
  await page.get(`act.client.subscribe('memo', (data) => seen.handled.push(data))`);
  await page.broker.broadcast('note', { n: 2 });
  await page.broker.broadcast('memo', { n: 3 });
  await page.is('seen.handled.length === 2');
  expect(await page.get('seen.handled[1]')).toEqual({ n: 3 });
  expect(await page.get('act.client.getStatus().status')).toBe('connected');
  expect(page.requests).toHaveLength(1);
});

test('several events between two renders are all collected', async () => {
  const page = await runScenario('19', 'reduce');
  await page.hasStreams(1);
  await Promise.all([1, 2, 3, 4, 5].map((n) => page.broker.broadcast('note', { n })));
  await page.shows('1 2 3 4 5');
});

test('the hooks of two contexts have a stream each', async () => {
  const page = await runScenario('19', 'contexts');
  await page.hasStreams(2);
  await page.broker.sendToTopic('news', 'note', 'sunny');
  await page.broker.sendToTopic('jobs', 'note', 'done');
  await page.shows('sunny, done');
  expect(page.requests.map(({ url }) => url).sort()).toEqual(['/events?topics=jobs', '/events?topics=news']);
});

test('a gap reaches the hook', async () => {
  const page = await runScenario('19', 'app', {}, { historySize: 2 });
  await page.hasStreams(1);
  await page.broker.broadcast('note', { n: 0 });
  await page.shows('{"n":0}');
  await page.get('act.update({ url: null })');
  await page.hasStreams(0);
  for (let n = 1; n <= 5; n++) await page.broker.broadcast('note', { n });
  await page.get(`act.update({ url: '/events' })`);
  await page.shows('{"n":5}');
  expect(await page.get('seen.gaps')).toEqual([{ label: 'first', reason: 'evicted' }]);
});

test('a hook without a provider says what is missing', async () => {
  const page = await runScenario('19', 'orphan');
  await page.shows('SSE_CLIENT_OPTION no <SSEProvider> above this component; wrap it in one');
});

test('what <Activity> hides has no stream; shown again it gets what it missed', async () => {
  const page = await runScenario('19', 'activity');
  await page.hasStreams(1);
  await page.broker.broadcast('note', { n: 1 });
  await page.shows('{"n":1}');
  await page.get(`act.show('hidden')`);
  await page.hasStreams(0);
  await page.broker.broadcast('note', { n: 2 });
  await page.broker.broadcast('note', { n: 3 });
  await page.get(`act.show('visible')`);
  await page.shows('{"n":3}');
  expect(await page.get('seen.handled.map(({ data }) => data.n)')).toEqual([1, 2, 3]);
  expect(page.requests).toHaveLength(2);
  await page.get('act.unmount()');
  await page.hasStreams(0);
  expect(await page.get('seen.complaints')).toEqual([]);
});
