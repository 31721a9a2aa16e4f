/** The routes of streams do what the stream's own handlers do: what is theirs is tested there, that it is theirs here. */
import { expect, test } from 'vitest';
import { type ClientInfo, SseError } from '../../src/index.js';
import { until } from '../support/until.js';
import { mountApi, userOf } from './mounted.js';

test('a client that comes back gets what it missed, on each of the three routes', async () => {
  const { open, broker } = await mountApi({ authorizeTopic: () => true }, { historySize: 10 });
  for (const path of ['/stream', '/stream/alice', '/stream/news/sport']) {
    const before = await open(path, 'user alice');
    await before.next('connected');
    const { id } = before.events[0]!;
    before.close();
    await until(() => broker.getStats().totalClients === 0);
    await broker.sendToUser('alice', 'note', path);
    const after = await open(path, 'user alice', { 'last-event-id': id! });
    expect(await after.next('note')).toBe(path);
    after.close();
    await until(() => broker.getStats().totalClients === 0);
  }
});

test('polling goes by the same cursor', async () => {
  const { get, broker } = await mountApi({}, { historySize: 10 });
  const { lastEventId } = (await get('/poll', 'user alice')).json;
  await broker.sendToUser('alice', 'note', { n: 1 });
  const { json } = await get(`/poll?lastEventId=${lastEventId}`, 'user alice');
  expect(json.events).toMatchObject([{ type: 'note', data: { n: 1 } }]);
  expect((await get(`/poll?lastEventId=unknown-9`, 'user alice')).json.gap).toMatchObject({ requested: 'unknown-9' });
});

test('the options of streams are in force: compression, headers, onConnect, and the context', async () => {
  const connected: ClientInfo[] = [];
  const { open } = await mountApi({
    compression: 'gzip',
    headers: { 'X-Of-The-Stream': 'yes' },
    onConnect: (client) => connected.push(client),
  });
  const stream = await open('/stream/alice', 'user alice', { 'accept-encoding': 'gzip' });
  expect(stream.headers).toMatchObject({ 'content-encoding': 'gzip', 'x-of-the-stream': 'yes' });
  await until(() => connected.length === 1);
  expect(connected[0]).toMatchObject({ userId: 'alice' });
});

test('the authenticator is asked once for a stream, the resolver too', async () => {
  const asked: string[] = [];
  const { open } = await mountApi({
    authenticator: async (req) => {
      asked.push('authenticator');
      return userOf(req);
    },
    topicResolver: async () => {
      asked.push('topicResolver');
      return ['news:sport'];
    },
    authorizeTopic: async (_identity, topic) => {
      asked.push(topic);
      return true;
    },
  });
  await (await open('/stream/a/b', 'user alice')).next('connected');
  expect(asked).toEqual(['authenticator', 'topicResolver', 'news:sport', 'a:b']);
});

test('a browser’s EventSource is told to come later when the broker is full, and to stay away by 204', async () => {
  const eventSource = { 'cache-control': 'no-cache' };
  const { open, url } = await mountApi({}, { maxConnections: 1 });
  await (await open('/stream', 'user alice')).next('connected');
  for (const path of ['/stream', '/stream/bob']) {
    const later = await open(path, 'user bob', eventSource);
    await later.ended();
    expect([later.status, later.events, later.text()]).toEqual([
      200,
      [],
      expect.stringMatching(/^retry: \d+\n: SSE_ERR_TOO_MANY/),
    ]);
  }
  const { url: closed } = await mountApi({
    authenticator: () => {
      throw new SseError('SSE_ERR_FORBIDDEN', 'gone for good', { status: 204 });
    },
  });
  expect((await fetch(`${closed}/stream`, { headers: { accept: 'text/event-stream', ...eventSource } })).status).toBe(
    204,
  );
  expect((await fetch(`${url}/stream`, { headers: { accept: 'text/html' } })).status).toBe(401);
});

test('a browser’s EventSource that is being authenticated while all is closed is told to come later', async () => {
  let end: (() => void) | undefined;
  const { url, broker } = await mountApi({
    authenticator: () =>
      new Promise((_resolve, reject) => {
        end = () => reject(new Error('the pool has ended'));
      }),
  });
  const headers = { accept: 'text/event-stream', 'cache-control': 'no-cache' };
  for (const path of ['/stream', '/stream/alice']) {
    const asked = fetch(`${url}${path}`, { headers });
    await until(() => end !== undefined, 'the authenticator to be asked');
    await broker.close();
    end?.();
    end = undefined;
    const later = await asked;
    expect(later.status).toBe(200);
    expect(await later.text()).toMatch(/^retry: \d+\n: SSE_ERR_BROKER_CLOSED\n\n$/);
  }
});

test('a client that leaves while it is authenticated leaves nothing behind', async () => {
  let isAsked = false;
  const { url, broker } = await mountApi({
    authenticator: () => {
      isAsked = true;
      return new Promise(() => {});
    },
  });
  for (const path of ['/stream/alice', '/poll']) {
    isAsked = false;
    const left = new AbortController();
    const asking = fetch(`${url}${path}`, { signal: left.signal }).catch((error: Error) => error.name);
    await until(() => isAsked, 'the authenticator to be asked');
    left.abort();
    expect(await asking).toBe('AbortError');
  }
  expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 0, connects: 0 });
  expect(broker.reported).toEqual([]);
});
