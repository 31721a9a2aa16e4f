/**
 * FLUSHALL, seen from a node that has not noticed it: no check comes by, nobody publishes. Whoever asks is told first and
 * answered then, so that its clients have everything once.
 */
import { expect, onTestFinished, test } from 'vitest';
import { RedisBus } from '../../src/buses/redis.js';
import type { Gap } from '../../src/index.js';
import { outgoing } from '../../src/testing/bus-recorder.js';
import { MemorySink } from '../../src/testing/index.js';
import { makeBroker } from '../support/broker.js';
import { Reader } from '../support/reader.js';
import { until } from '../support/until.js';
import { connected, newNamespace, redisLibraries, type TestLibrary } from './redis-clients.js';
import { makeCluster, startProxy, startRedis } from './redis-nodes.js';

const A = 't::a';
/** Nothing but the question itself brings the news, and a question that waits for a check waits too long. */
const IDLE = { checkInterval: 600_000, commandTimeout: 4_000 };

/** Two nodes on A; the second has not noticed that all was lost and that the first has gone on. */
async function flushed(library: TestLibrary) {
  const server = await startRedis();
  const node = makeCluster();
  const near = await node(server.port, [A], { library, ...IDLE });
  const far = await node(server.port, [A], { library, ...IDLE });
  await near.publish(A, 'old 1', 'old 2');
  await far.delivered(2);
  const { id: cursor } = await far.bus.head();
  await server.admin((redis) => redis.flushall());
  return { near, far, cursor };
}

test.each(redisLibraries)('read is answered out of the new history after it was told, over $name', async (library) => {
  const { near, far, cursor } = await flushed(library);
  const startedAt = performance.now();
  const { head, loss } = await far.read([A], cursor);
  expect(performance.now() - startedAt).toBeLessThan(2_000);
  expect(loss).toBe('epoch');
  expect(far.losses).toMatchObject([{ reason: 'epoch', head: { epoch: head.epoch } }]);
  expect(await near.bus.head()).toEqual(head);
  expect(near.losses).toMatchObject([{ reason: 'epoch', head: { epoch: head.epoch } }]);
  // And by then the node follows it.
  await near.publish(A, 'new');
  await far.delivered(3);
  expect(far.dataOf()).toEqual(['old 1', 'old 2', 'new']);
  expect(far.losses).toHaveLength(1);
});

test.each(redisLibraries)(
  'a topic that nobody had yet is joined without waiting for a check, over $name',
  async (library) => {
    const { near, far } = await flushed(library);
    const startedAt = performance.now();
    await far.bus.join('t::other');
    expect(performance.now() - startedAt).toBeLessThan(2_000);
    expect(far.losses).toMatchObject([{ reason: 'epoch' }]);
    await near.bus.publish(outgoing('t::other', 'new'));
    await far.delivered(1, 't::other');
  },
);

test.each(redisLibraries)('a new run that lost nothing is the same epoch, over $name', async (library) => {
  const server = await startRedis({ persistence: 'always' });
  const node = makeCluster();
  const near = await node(server.port, [A], { library, ...IDLE });
  await near.publish(A, '1');
  const before = await near.bus.head();
  await server.kill();
  await until(() => near.bus.status().state === 'down', 'the node to notice');
  await server.start();
  await until(() => near.bus.status().state === 'up', 'the node to be well', 15_000);
  await near.publish(A, '2');
  const after = await near.bus.head();
  expect(after.id.split('-')[0]).not.toBe(before.id.split('-')[0]);
  expect(after.epoch).toBe(before.epoch);
  expect((await near.read([A], before.id)).loss).toBeUndefined();
  expect(near.losses).toEqual([]);
});

test.each(redisLibraries)(
  'FLUSHALL in the middle of a repair: the node is told and goes on, over $name',
  async (library) => {
    const server = await startRedis();
    const proxy = await startProxy(server.port);
    const node = makeCluster();
    const near = await node(server.port, [A], { library, ...IDLE });
    const far = await node(proxy.port, [A], { library, ...IDLE });
    await near.publish(A, 'first');
    await far.delivered(1);
    // The first event that comes in is of another history, which has more than is read at once.
    proxy.stall();
    await server.admin((redis) => redis.flushall());
    await Promise.all(Array.from({ length: 2_000 }, (_, i) => near.bus.publish(outgoing(A, `missed ${i}`))));
    const deliver = far.deliver.bind(far);
    let flushing: Promise<unknown> | undefined;
    far.deliver = (event) => {
      deliver(event);
      if (flushing !== undefined) return;
      proxy.stall();
      flushing = server.admin((redis) => redis.flushall()).then(() => proxy.mend());
    };
    proxy.mend();
    await until(() => flushing !== undefined, 'the repair to begin');
    await flushing;
    await until(() => far.losses.length === 2, 'both losses to be told');
    await until(() => far.bus.status().state === 'up', 'the node to be well');
    expect(far.events.length).toBeLessThan(2_001);
    await near.publish(A, 'new');
    await far.eventually(() => far.dataOf().includes('new'), 'what is published after it');
    // What happened is the state of the bus; nobody has anything to mend.
    expect(far.errors).toEqual([]);
  },
);

/** A reader over its streams, wherever they are. */
const itemsOf = (sink: MemorySink, cursor: string) => {
  const reader = new Reader(cursor);
  reader.feed(Buffer.from(sink.text));
  return { items: reader.events, cursor: reader.lastEventId };
};

test.each(redisLibraries)(
  'who was told of the new history elsewhere hears of it no more on a node that notices late, over $name',
  async (library) => {
    const server = await startRedis();
    const namespace = newNamespace();
    const options = { namespace, historySize: 1_000, ...IDLE };
    const broker = async () => {
      const bus = new RedisBus({ client: await connected(library, server.port), ...options });
      return makeBroker({ bus, heartbeatInterval: 0, retry: 0 });
    };
    const [near, far] = [await broker(), await broker()];
    const open = async (on: typeof near, lastEventId?: string) => {
      const sink = new MemorySink();
      on.connect({ sink, topics: ['a'], lastEventId });
      await sink.wrote('event: connected');
      onTestFinished(() => sink.leave());
      return sink;
    };
    const there = await open(far);
    const first = await open(near);
    await near.sendToTopic('a', 'n', 'old 1');
    await first.wrote('data: old 1');
    await there.wrote('data: old 1');
    first.leave();
    await server.admin((redis) => redis.flushall());
    await near.sendToTopic('a', 'n', 'new 1');
    // Comes back where the loss is known, and goes on where it is not.
    const second = await open(near, itemsOf(first, '').cursor);
    await second.wrote('event: gap');
    const { cursor } = itemsOf(second, itemsOf(first, '').cursor);
    second.leave();
    await near.sendToTopic('a', 'n', 'new 2');
    const third = await open(far, cursor);
    await near.sendToTopic('a', 'n', 'new 3');
    await third.wrote('data: new 3');
    await there.wrote('data: new 3');
    const { items } = itemsOf(third, cursor);
    expect(items.map(({ type, data }) => (type === 'n' ? data : type))).toEqual(['connected', 'new 2', 'new 3']);
    // Who was there before has a gap, once.
    const all = itemsOf(there, '').items;
    const gaps = all.filter(({ type }) => type === 'gap').map(({ data }) => JSON.parse(data) as Gap);
    expect(gaps).toMatchObject([{ reason: 'epoch' }]);
    await until(() => far.getStats().bus.state === 'up', 'the node to be well');
  },
);
