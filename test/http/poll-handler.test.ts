import { expect, onTestFinished, test } from 'vitest';
import { waitOf } from '../../src/http/poll.js';
import {
  Broker,
  type BrokerOptions,
  createFetchPollHandler,
  createPollHandler,
  queryAuthenticator,
  queryTopicResolver,
} from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';

interface Answer {
  events: { id: string; type: string; data: unknown }[];
  lastEventId: string | null;
  gap?: { reason: string; requested: string | null; resumedFrom: string };
}

async function start(options: BrokerOptions = {}) {
  const broker = new Broker({ historySize: 100, ...options });
  onTestFinished(async () => {
    await broker.close();
  });
  const { url } = await serve(
    createPollHandler(broker, { authenticator: queryAuthenticator(), topicResolver: queryTopicResolver() }),
  );
  const get = (query: string, init: RequestInit = {}) => fetch(`${url}/poll?${query}`, init);
  const poll = async (query: string, init?: RequestInit) => (await (await get(query, init)).json()) as Answer;
  return { broker, get, poll };
}

test('a first poll gives a cursor, the next one everything since, as it was published', async () => {
  const { broker, poll } = await start();
  await broker.sendToUser('ann', 'before', 1);
  const first = await poll('user_id=ann');
  expect(first.events).toEqual([]);

  const ids = [
    await broker.sendToUser('ann', 'json', { n: [1, null] }),
    await broker.sendToUser('bob', 'json', { not: 'hers' }),
    await broker.sendToTopic('t', 'text', 'plain "text"\nof two lines'),
    await broker.broadcast('json', '{"a": "string of JSON"}'),
  ];
  const second = await poll(`user_id=ann&topics=t&lastEventId=${first.lastEventId}`);
  expect(second).toEqual({
    events: [
      { id: ids[0], type: 'json', data: { n: [1, null] } },
      { id: ids[2], type: 'text', data: 'plain "text"\nof two lines' },
      { id: ids[3], type: 'json', data: '{"a": "string of JSON"}' },
    ],
    lastEventId: ids[3],
  });
  expect(await poll(`user_id=ann&topics=t&lastEventId=${second.lastEventId}`)).toEqual({
    events: [],
    lastEventId: ids[3],
  });
});

test('a waiting poll is answered by the first turn that brings something, with all of that turn', async () => {
  const { broker, poll } = await start();
  const answer = poll('user_id=ann&wait=20000');
  await until(() => broker.isUserOnline('ann'));
  void broker.sendToUser('ann', 'e', 1);
  void broker.broadcast('e', 2);
  expect((await answer).events.map(({ data }) => data)).toEqual([1, 2]);
  await until(() => broker.getStats().totalClients === 0);
});

test('the handler is through when the request is answered', async () => {
  const broker = makeBroker();
  const handler = createPollHandler(broker);
  const answered: boolean[] = [];
  const { url } = await serve((req, res) => handler(req, res).then(() => answered.push(res.writableEnded)));
  await (await fetch(`${url}/poll?wait=20`)).text();
  await until(() => answered.length > 0, 'the handler');
  expect(answered).toEqual([true]);
});

test('a poll that waits in vain gets an empty list and a cursor', async () => {
  const { broker, poll } = await start();
  const id = await broker.broadcast('e', 1);
  expect(await poll('user_id=ann&wait=30')).toEqual({ events: [], lastEventId: id });
});

test.each([
  ['', 0],
  ['wait=0', 0],
  ['wait=-1', 0],
  ['wait=Infinity', 0],
  ['wait=soon', 0],
  ['wait=0.5', 0.5],
  ['wait=55000', 55_000],
  ['wait=55001', 55_000],
])('how long a poll may wait: %s', (query, ms) => {
  expect(waitOf({ url: `/poll?${query}`, headers: {} })).toBe(ms);
});

test('what cannot be served is told as a gap', async () => {
  const { broker, poll } = await start({ historySize: 2 });
  const { lastEventId: cursor } = await poll('user_id=ann');
  const ids: string[] = [];
  for (let n = 0; n < 4; n++) ids.push(await broker.broadcast('e', n));
  const evicted = await poll(`user_id=ann&lastEventId=${cursor}&wait=20000`);
  expect(evicted.gap).toEqual({ reason: 'evicted', requested: cursor, resumedFrom: ids[1] });
  expect(evicted.events.map(({ data }) => data)).toEqual([2, 3]);
  const garbage = await poll('user_id=ann&lastEventId=%00%0agarbage&wait=20000');
  expect(garbage).toEqual({
    events: [],
    lastEventId: ids[3],
    gap: { reason: 'unknown', requested: null, resumedFrom: ids[3] },
  });
});

test('the header wins over the query, and both query names are read', async () => {
  const { broker, poll } = await start();
  const ids = [await broker.broadcast('e', 0), await broker.broadcast('e', 1), await broker.broadcast('e', 2)];
  const data = ({ events }: Answer) => events.map((event) => event.data);
  expect(data(await poll(`user_id=a&last_event_id=${ids[1]}`))).toEqual([2]);
  expect(data(await poll(`user_id=a&last_event_id=${ids[1]}&lastEventId=${ids[0]}`))).toEqual([1, 2]);
  expect(data(await poll(`user_id=a&lastEventId=${ids[0]}`, { headers: { 'last-event-id': ids[1]! } }))).toEqual([2]);
});

test('a client thousands of events behind gets them in several answers, each once', async () => {
  const { broker, poll } = await start({ historySize: 10_000 });
  let { lastEventId } = await poll('user_id=ann');
  for (let n = 0; n < 3_500; n++) void broker.broadcast('e', n);
  const seen: unknown[] = [];
  let polls = 0;
  for (;;) {
    const answer = await poll(`user_id=ann&lastEventId=${lastEventId}`);
    if (answer.events.length === 0) break;
    polls++;
    expect(answer.gap).toBeUndefined();
    expect(answer.events.length).toBeLessThan(1_200);
    seen.push(...answer.events.map(({ data }) => data));
    lastEventId = answer.lastEventId;
  }
  expect(seen).toEqual(Array.from({ length: 3_500 }, (_, n) => n));
  expect(polls).toBeGreaterThan(1);
});

test('an answer holds about a megabyte, or one event', async () => {
  const { broker, poll } = await start({ maxEventBytes: 0 });
  const { lastEventId } = await poll('user_id=ann');
  for (let n = 0; n < 40; n++) void broker.broadcast('e', 'x'.repeat(100_000));
  const { events, lastEventId: next } = await poll(`user_id=ann&lastEventId=${lastEventId}`);
  expect(events.length).toBeGreaterThanOrEqual(10);
  expect(events.length).toBeLessThan(20);
  const id = await broker.broadcast('e', 'x'.repeat(3_000_000));
  let cursor = next;
  for (let polls = 0; cursor !== id && polls < 10; polls++) {
    ({ lastEventId: cursor } = await poll(`user_id=ann&lastEventId=${cursor}`));
  }
  expect(cursor).toBe(id);
});

test('the same refusals as a stream: method, Accept, authentication, limits', async () => {
  const { broker, get } = await start({ maxConnections: 1 });
  expect((await get('', {})).status).toBe(401);
  expect((await get('user_id=a', { method: 'POST' })).status).toBe(405);
  expect((await get('user_id=a', { headers: { accept: 'text/event-stream' } })).status).toBe(406);
  expect((await get('user_id=a', { headers: { accept: 'application/json' } })).status).toBe(200);
  const waiting = get('user_id=a&wait=20000');
  await until(() => broker.isUserOnline('a'));
  const full = await get('user_id=b', { headers: { 'cache-control': 'no-cache' } });
  expect(full.status).toBe(503);
  expect(Number(full.headers.get('retry-after'))).toBeGreaterThan(0);
  await broker.broadcast('e', 1);
  expect((await waiting).status).toBe(200);
});

test('a client that leaves while it waits leaves nothing', async () => {
  const { broker, get } = await start();
  const left = new AbortController();
  const waiting = get('user_id=ann&wait=20000', { signal: left.signal });
  waiting.catch(() => {});
  await until(() => broker.isUserOnline('ann'));
  left.abort();
  await until(() => broker.getStats().totalClients === 0 && broker.getStats().ending === 0);
});

test('closing the broker answers those who wait', async () => {
  const { broker, poll } = await start();
  const answer = poll('user_id=ann&wait=20000');
  await until(() => broker.isUserOnline('ann'));
  await broker.close({ timeoutMs: 2_000 });
  expect((await answer).events).toEqual([]);
});

test('the Fetch poll handler gives the same answers', async () => {
  const broker = new Broker({ historySize: 10 });
  const handler = createFetchPollHandler(broker, { authenticator: queryAuthenticator() });
  const get = (query: string) => handler(new Request(`http://app.example/poll?user_id=ann&${query}`));
  const first = (await (await get('')).json()) as Answer;
  const id = await broker.sendToUser('ann', 'e', { n: 1 });
  const response = await get(`lastEventId=${first.lastEventId}`);
  expect(response.headers.get('content-type')).toContain('application/json');
  expect(await response.json()).toEqual({ events: [{ id, type: 'e', data: { n: 1 } }], lastEventId: id });
  await broker.close();
});
