import { expect, test } from 'vitest';
import {
  type BrokerOptions,
  createHandler,
  type Gap,
  queryAuthenticator,
  queryTopicResolver,
} from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { PipeSink } from '../support/pipe-sink.js';
import { Reader } from '../support/reader.js';
import { serve } from '../support/server.js';
import { openStream, type StreamClient } from '../support/stream.js';
import { until } from '../support/until.js';

async function start(options: BrokerOptions = {}, authorizeTopic?: (identity: unknown, topic: string) => boolean) {
  const broker = makeBroker({ historySize: 100, ...options });
  const { url } = await serve(
    createHandler(broker, {
      authenticator: queryAuthenticator(),
      topicResolver: queryTopicResolver(),
      authorizeTopic,
    }),
  );
  const open = (query: string, lastEventId?: string) =>
    openStream(`${url}/?${query}`, { headers: lastEventId === undefined ? {} : { 'last-event-id': lastEventId } });
  return { broker, open };
}

const names = ({ events }: StreamClient) => events.map(({ event }) => event);
const numbers = (stream: StreamClient) =>
  stream.events.filter(({ event }) => event === 'n').map(({ data }) => Number(data));

test('the first frame of a quiet stream carries the head, and from there nothing is missed', async () => {
  const { broker, open } = await start();
  const head = await broker.broadcast('n', 0);
  const quiet = await open('user_id=ann');
  await quiet.next('connected');
  expect(quiet.events[0]!.id).toBe(head);
  quiet.close();
  await until(() => broker.getStats().totalClients === 0);
  await broker.sendToUser('ann', 'n', 1);
  const back = await open('user_id=ann', quiet.events[0]!.id);
  await back.next('n');
  expect(names(back)).toEqual(['connected', 'n']);
});

test('an event has the same id for every recipient, live or replayed', async () => {
  const { broker, open } = await start();
  const [ann, bob] = [await open('user_id=ann'), await open('user_id=bob')];
  await Promise.all([ann.next('connected'), bob.next('connected')]);
  const id = await broker.broadcast('n', 1);
  await Promise.all([ann.next('n'), bob.next('n')]);
  const late = await open('user_id=cy', ann.events[0]!.id);
  await late.next('n');
  expect([ann, bob, late].map(({ events }) => events.find(({ event }) => event === 'n')!.id)).toEqual([id, id, id]);
});

test('garbage as Last-Event-ID is a gap, not an error', async () => {
  const { broker, open } = await start();
  const head = await broker.broadcast('n', 1);
  for (const garbage of [
    'nonsense',
    '-',
    `${head}9`,
    `${head}-1`,
    'é'.repeat(10),
    'x'.repeat(5_000),
    head.replace('-', '_'),
  ]) {
    const stream = await open('user_id=ann', Buffer.from(garbage, 'utf8').toString('latin1'));
    expect(stream.status).toBe(200);
    const gap = await stream.next<Gap>('gap');
    expect(gap).toMatchObject({ reason: 'unknown', resumedFrom: head });
    expect(names(stream)).toEqual(['connected', 'gap']);
    expect(stream.events[1]!.id).toBe(head);
  }
});

test('an id of a bus that is gone is told as another epoch', async () => {
  const before = await start();
  const id = await before.broker.broadcast('n', 1);
  const { open } = await start();
  const stream = await open('user_id=ann', id);
  expect(await stream.next<Gap>('gap')).toMatchObject({ reason: 'epoch', requested: id });
});

test('without history a gap is told when something was published for the client since, and only then', async () => {
  const { broker, open } = await start({ historySize: 0 });
  const cursor = await broker.broadcast('n', 0);
  await broker.sendToUser('bob', 'n', 1);
  const nothingMissed = await open('user_id=ann', cursor);
  await nothingMissed.next('connected');
  const head = await broker.sendToUser('ann', 'n', 2);
  expect(await (await open('user_id=ann', cursor)).next<Gap>('gap')).toEqual({
    reason: 'disabled',
    requested: cursor,
    resumedFrom: head,
  });
  await nothingMissed.next('n');
  expect(names(nothingMissed)).toEqual(['connected', 'n']);
});

test('a busy topic does not push a quiet one out', async () => {
  const { broker, open } = await start({ historySize: 3 });
  const cursor = await broker.broadcast('n', 0);
  await broker.sendToTopic('quiet', 'n', 1);
  for (let n = 2; n < 50; n++) await broker.sendToTopic('busy', 'n', n);
  const quiet = await open('user_id=ann&topics=quiet', cursor);
  await quiet.next('n');
  expect(names(quiet)).toEqual(['connected', 'n']);
  const busy = await open('user_id=ann&topics=busy,quiet', cursor);
  await busy.all('n', 4);
  expect(names(busy).slice(0, 2)).toEqual(['connected', 'gap']);
  // What is still there is served in order, also what is older than the loss.
  expect(numbers(busy)).toEqual([1, 47, 48, 49]);
});

test('an event whose ttl has passed is not replayed, and no gap is told for it', async () => {
  const { broker, open } = await start();
  const cursor = await broker.broadcast('n', 0);
  const short = Date.now() + 30;
  await broker.broadcast('n', 1, { ttl: 30 });
  await broker.broadcast('n', 2, { ttl: 60_000 });
  const inTime = await open('user_id=ann', cursor);
  await inTime.all('n', 2);
  expect(numbers(inTime)).toEqual([1, 2]);
  await until(() => Date.now() > short);
  const late = await open('user_id=ann', cursor);
  await late.next('n');
  expect(names(late)).toEqual(['connected', 'n']);
  expect(numbers(late)).toEqual([2]);
});

test('a topic that was added since is replayed, one that was withdrawn is not', async () => {
  let allowed = ['a'];
  const { broker, open } = await start({}, (_identity, topic) => allowed.includes(topic));
  const cursor = await broker.broadcast('n', 0);
  await broker.sendToTopic('a', 'n', 1);
  await broker.sendToTopic('b', 'n', 2);
  allowed = ['a', 'b'];
  const both = await open('user_id=ann&topics=a,b', cursor);
  await both.all('n', 2);
  expect(numbers(both)).toEqual([1, 2]);
  allowed = ['b'];
  expect((await open('user_id=ann&topics=a,b', cursor)).status).toBe(403);
  const rest = await open('user_id=ann&topics=b', cursor);
  await rest.next('n');
  expect(numbers(rest)).toEqual([2]);
});

test('a topic taken away while its replay waits for a slow reader is not delivered any more', async () => {
  const broker = makeBroker({ historySize: 1_000 });
  const cursor = await broker.broadcast('n', 0);
  for (let n = 1; n <= 20; n++)
    await broker.sendToTopic(n % 2 === 0 ? 'even' : 'odd', 'n', `${n}${'.'.repeat(20_000)}`);
  const sink = new PipeSink(1);
  const id = broker.connect({ sink, topics: ['even', 'odd'], lastEventId: cursor });
  await broker.unsubscribe(id, 'odd');
  sink.drain(10_000_000);
  const reader = new Reader();
  reader.feed(sink.bytes);
  const seen = reader.events.filter(({ type }) => type === 'n').map(({ data }) => Number.parseInt(data, 10));
  // What was handed to the socket before stays; nothing of the topic comes after.
  const handed = seen.indexOf(seen.find((n, i) => n % 2 === 0 && seen[i + 1]! % 2 === 0)!);
  expect(seen.slice(handed).every((n) => n % 2 === 0)).toBe(true);
  expect(seen.filter((n) => n % 2 === 0)).toEqual([2, 4, 6, 8, 10, 12, 14, 16, 18, 20]);
  expect(seen.length).toBeLessThan(20);
});

test('beyond maxReplayEvents the newest are served behind a gap', async () => {
  const { broker, open } = await start({ maxReplayEvents: 10 });
  const cursor = await broker.broadcast('n', 0);
  const ids = [cursor];
  for (let n = 1; n <= 30; n++) ids.push(await broker.broadcast('n', n));
  const exactly = await open('user_id=ann', ids[20]);
  await exactly.all('n', 10);
  expect(names(exactly)).not.toContain('gap');
  const beyond = await open('user_id=ann', cursor);
  await beyond.all('n', 10);
  expect(await beyond.next<Gap>('gap')).toEqual({ reason: 'evicted', requested: cursor, resumedFrom: ids[20] });
  expect(names(beyond).slice(0, 2)).toEqual(['connected', 'gap']);
  expect(numbers(beyond)).toEqual([21, 22, 23, 24, 25, 26, 27, 28, 29, 30]);
});

test('a slow reader far behind is fed as it drains and holds no copy; its replay does not overflow its buffer', async () => {
  const broker = makeBroker({ historySize: 5_000, clientBufferSize: 4, clientBufferBytes: 4_000 });
  const cursor = await broker.broadcast('n', 0);
  for (let n = 1; n <= 2_000; n++) void broker.broadcast('n', `${n} ${'x'.repeat(200)}`);
  const sink = new PipeSink(1);
  broker.connect({ sink, lastEventId: cursor });
  expect(broker.getStats().queuedFrames).toBe(0);
  expect(sink.bytes.length).toBeLessThan(80_000);
  for (let n = 2_001; n <= 2_100; n++) void broker.broadcast('n', `${n} ${'x'.repeat(200)}`);
  await until(() => {
    sink.drain(10_000);
    return broker.getStats().replayed >= 2_100;
  });
  const reader = new Reader();
  reader.feed(sink.bytes);
  const seen = reader.events.filter(({ type }) => type !== 'connected').map(({ data }) => Number.parseInt(data, 10));
  expect(seen).toEqual(Array.from({ length: 2_100 }, (_, i) => i + 1));
  expect(broker.getStats()).toMatchObject({ dropped: 0, queuedFrames: 0, gaps: 0 });
});

test('a thousand clients that come back at once share the encoded frames', async () => {
  const broker = makeBroker({ historySize: 1_000 });
  const cursor = await broker.broadcast('n', 0);
  await broker.broadcast('n', 'y'.repeat(1_000));
  const sinks = Array.from({ length: 1_000 }, () => new PipeSink());
  for (const sink of sinks) broker.connect({ sink, lastEventId: cursor });
  const replayed = sinks.map(({ written }) => written.find((bytes) => bytes.length > 1_000));
  expect(replayed.every((bytes) => bytes !== undefined && bytes === replayed[0])).toBe(true);
});

test('the cursor of a stream whose replay skipped events moves to the head', async () => {
  const broker = makeBroker({ historySize: 10 });
  const cursor = await broker.broadcast('n', 0);
  await broker.broadcast('n', 1);
  const head = await broker.sendToUser('somebody-else', 'n', 2);
  const sink = new PipeSink();
  broker.connect({ sink, lastEventId: cursor });
  const reader = new Reader(cursor);
  reader.feed(sink.bytes);
  expect(reader.events.map(({ type }) => type)).toEqual(['connected', 'n']);
  expect(reader.lastEventId).toBe(head);
});

test('idle channel keys disappear from the history after the ttl, and what they lost is still known', async () => {
  let now = 1_000_000;
  const ticks: (() => void)[] = [];
  const clock = {
    now: () => now,
    monotonic: () => now,
    every: (_ms: number, callback: () => void) => {
      ticks.push(callback);
      return () => ticks.splice(ticks.indexOf(callback), 1);
    },
  };
  const broker = makeBroker({ historySize: 10, historyTtl: 5_000, clock });
  const cursor = await broker.broadcast('n', 0);
  for (let n = 0; n < 100; n++) await broker.sendToTopic(`topic:${n}`, 'n', n);
  expect(broker.getStats().bus.details).toMatchObject({ historyKeys: 101 });
  now += 6_000;
  for (const tick of [...ticks]) tick();
  expect(broker.getStats().bus.details).toMatchObject({ historyKeys: 0, historyEvents: 0, historyBytes: 0 });
  const gapOf = (topics: string[]) => {
    const sink = new PipeSink();
    broker.connect({ sink, topics, lastEventId: cursor });
    const reader = new Reader();
    reader.feed(sink.bytes);
    return reader.events.find(({ type }) => type === 'gap');
  };
  expect(JSON.parse(gapOf(['topic:7'])!.data)).toMatchObject({ reason: 'evicted', requested: cursor });
  expect(gapOf(['never-used'])).toBeUndefined();
});

test('an event whose ttl passed and that history then dropped is not told as a gap', async () => {
  const { broker, open } = await start({ historySize: 2 });
  const cursor = await broker.broadcast('n', 0);
  const gone = Date.now() + 20;
  await broker.sendToTopic('a', 'n', 1, { ttl: 20 });
  await until(() => Date.now() > gone);
  await broker.sendToTopic('a', 'n', 2);
  await broker.sendToTopic('a', 'n', 3);
  const stream = await open('user_id=ann&topics=a', cursor);
  await stream.all('n', 2);
  expect(names(stream)).toEqual(['connected', 'n', 'n']);
  await broker.sendToTopic('a', 'n', 4);
  expect(await (await open('user_id=ann&topics=a', cursor)).next<Gap>('gap')).toMatchObject({ reason: 'evicted' });
});

test('clients that come back together share the bytes of a whole page, except who may not have all of it', async () => {
  const broker = makeBroker({ historySize: 1_000 });
  const cursor = await broker.broadcast('n', 0);
  for (let n = 1; n <= 100; n++) await broker.sendToTopic(n % 2 === 0 ? 'even' : 'odd', 'n', n);
  const connect = (...topics: string[]) => {
    const sink = new PipeSink();
    broker.connect({ sink, topics, lastEventId: cursor });
    const reader = new Reader();
    reader.feed(sink.bytes);
    const seen = reader.events.filter(({ type }) => type === 'n').map(({ data }) => Number(data));
    return { seen, page: sink.written.find((bytes) => bytes.length > 1_000) };
  };
  const first = connect('even', 'odd');
  const others = Array.from({ length: 20 }, () => connect('even', 'odd'));
  expect(first.seen).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
  expect(others.every(({ page }) => page === first.page)).toBe(true);
  expect(connect('even').seen).toEqual(Array.from({ length: 50 }, (_, i) => 2 * i + 2));
  // What is published next belongs to the page of who comes next.
  await broker.sendToTopic('odd', 'n', 101);
  expect(connect('even', 'odd').seen).toEqual(Array.from({ length: 101 }, (_, i) => i + 1));
});
