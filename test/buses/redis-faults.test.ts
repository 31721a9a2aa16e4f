/** What a Redis can do to its nodes: nothing is lost but what a gap told, nothing comes twice, and the order holds. */
import { describe, expect, test } from 'vitest';
import type { Bus } from '../../src/index.js';
import { outgoing } from '../../src/testing/bus-recorder.js';
import type { RedisServer } from '../support/redis-server.js';
import { until } from '../support/until.js';
import { newNamespace, redisLibraries } from './redis-clients.js';
import {
  expectComplete,
  expectOrdered,
  expectTold,
  makeCluster,
  Stream,
  startProxy,
  startRedis,
} from './redis-nodes.js';

const A = 't::a';
const B = 't::b';
const QUIET = 'u::quiet';

describe.each(redisLibraries)('over $name', (library) => {
  test('connections that listen are killed: nobody misses anything', async () => {
    const server = await startRedis();
    const node = makeCluster();
    const nodes = [await node(server.port, [A, B], { library }), await node(server.port, [A], { library })];
    const stream = new Stream(nodes[0]!, [A, B]);
    for (let i = 0; i < 3; i++) {
      await stream.more(30);
      // They may be back before anybody looks: what they said counts.
      const told = nodes.map(({ statuses }) => statuses.length);
      await server.admin((redis) => redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub'));
      const hasNoticed = ({ statuses }: (typeof nodes)[number], i: number) =>
        statuses.slice(told[i]).some(({ state }) => state === 'down');
      await until(() => nodes.every(hasNoticed), 'the nodes to notice');
      await until(() => nodes.every(({ bus }) => bus.status().state === 'up'), 'the nodes to be well');
    }
    await stream.more(30);
    await stream.stop();
    expect(stream.rejected).toEqual([]);
    await expectComplete([nodes[0]!], stream, A, B);
    await expectComplete([nodes[1]!], stream, A);
  });

  test('a partition of a second: what was published meanwhile follows, in order, and no gap is told', async () => {
    const server = await startRedis();
    const proxy = await startProxy(server.port);
    const node = makeCluster();
    const [near, far] = [await node(server.port, [A, B], { library }), await node(proxy.port, [A, B], { library })];
    const stream = new Stream(near, [A, B]);
    await stream.more(20);
    proxy.refuse();
    await until(() => far.bus.status().state === 'down', 'the far node to notice');
    expect(far.bus.status().reason).toBeTruthy();
    await expect(far.bus.publish(outgoing(A, 'no'))).rejects.toMatchObject({
      code: 'SSE_ERR_BUS_UNAVAILABLE',
      retryable: true,
    });
    await stream.more(300);
    proxy.mend();
    await until(() => far.bus.status().state === 'up', 'the far node to be well');
    await stream.more(20);
    await stream.stop();
    await expectComplete([near, far], stream, A, B);
  });

  test('a network that goes silent is noticed, and what it swallowed follows', async () => {
    const server = await startRedis();
    const proxy = await startProxy(server.port);
    const node = makeCluster();
    const options = { library, checkInterval: 200, commandTimeout: 300 };
    const [near, far] = [await node(server.port, [A], { library }), await node(proxy.port, [A], options)];
    const stream = new Stream(near, [A]);
    await stream.more(20);
    proxy.drop();
    await until(() => far.bus.status().state === 'down', 'the far node to notice');
    await stream.more(50);
    proxy.mend();
    await until(() => far.bus.status().state === 'up', 'the far node to be well');
    await stream.stop();
    await expectComplete([near, far], stream, A);
  });

  test('Redis is killed and comes back with its disk: nothing is lost, and ids go on', async () => {
    const server = await startRedis({ persistence: 'always' });
    const node = makeCluster();
    const nodes = [await node(server.port, [A, B], { library }), await node(server.port, [A, B], { library })];
    const stream = new Stream(nodes[0]!, [A, B]);
    await stream.more(50);
    const { id } = await nodes[0]!.bus.head();
    await server.kill();
    await until(() => nodes.every(({ bus }) => bus.status().state === 'down'), 'the nodes to notice');
    await server.start();
    await until(() => nodes.every(({ bus }) => bus.status().state === 'up'), 'the nodes to be well', 15_000);
    await stream.more(50);
    await stream.stop();
    await expectComplete(nodes, stream, A, B);
    const { loss } = await nodes[0]!.readAll([A, B], id, 100);
    expect(loss).toBeUndefined();
  });

  test('Redis is killed and comes back empty: everybody is told', async () => {
    const server = await startRedis();
    const node = makeCluster();
    const nodes = [await node(server.port, [A, B], { library }), await node(server.port, [A, QUIET], { library })];
    const stream = new Stream(nodes[0]!, [A, B]);
    await stream.more(50);
    const before = (await nodes[0]!.bus.head()).id;
    await server.kill();
    await until(() => nodes.every(({ bus }) => bus.status().state === 'down'), 'the nodes to notice');
    await server.start();
    await until(() => nodes.every(({ bus }) => bus.status().state === 'up'), 'the nodes to be well', 15_000);
    await stream.more(50);
    await stream.stop();
    const last = stream.acknowledged.at(-1)!;
    await nodes[0]!.eventually(() => nodes[0]!.dataOf().includes(last), 'the last event');
    for (const one of nodes) {
      expect(one.losses.map(({ reason, keys }) => [reason, keys])).toEqual([['epoch', undefined]]);
      expectOrdered(one);
    }
    expectTold(nodes[0]!, stream.acknowledged);
    expect((await nodes[0]!.read([A], before)).loss).toBe('epoch');
  });
});

test('a node that Redis drops because it reads too slowly gets the rest from history', async () => {
  const server = await startRedis({ config: ['client-output-buffer-limit pubsub 64kb 0 0'] });
  const proxy = await startProxy(server.port);
  const node = makeCluster();
  const slow = await node(proxy.port, [A], { commandTimeout: 5_000 });
  const publisher = await node(server.port, []);
  proxy.stall();
  const text = 'x'.repeat(10_000);
  for (let i = 0; i < 1_000; i++) await publisher.bus.publish(outgoing(A, `${i} ${text}`));
  await server.admin((redis) =>
    until(
      async () => String(await redis.call('CLIENT', 'LIST', 'TYPE', 'pubsub')).split('cmd=').length === 2,
      'Redis to drop it',
    ),
  );
  proxy.mend();
  await slow.delivered(1_000);
  expect(slow.dataOf().map((data) => Number.parseInt(data, 10))).toEqual(Array.from({ length: 1_000 }, (_, i) => i));
  expect(slow.losses).toEqual([]);
});

test('FLUSHALL is told with the next event, before it', async () => {
  const server = await startRedis();
  const node = makeCluster();
  const [one, two] = [
    await node(server.port, [A, B]),
    await node(server.port, [A], { checkInterval: 60_000, historyTtl: 3_600_000 }),
  ];
  await one.publish(A, '1', '2');
  await two.delivered(2);
  await server.admin((redis) => redis.flushall());
  await one.publish(A, '3');
  await two.delivered(3);
  expect(two.losses).toMatchObject([{ reason: 'epoch', before: 2 }]);
  expectOrdered(two);
  // The publisher itself.
  await one.delivered(3);
  expect(one.losses).toMatchObject([{ reason: 'epoch', before: 2 }]);
});

test('FLUSHALL is told within a check interval where nothing is published', async () => {
  const server = await startRedis();
  const node = makeCluster();
  const quiet = await node(server.port, [QUIET], { checkInterval: 300 });
  await quiet.publish(QUIET, '1');
  await quiet.delivered(1);
  await server.admin((redis) => redis.flushall());
  await quiet.eventually(() => quiet.losses.length > 0, 'the loss');
  expect(quiet.losses).toMatchObject([{ reason: 'epoch', before: 1 }]);
  await quiet.publish(QUIET, '2');
  await quiet.delivered(2);
  expect(quiet.losses).toHaveLength(1);
});

test.each([
  [':runs', 'epoch', [] as string[]],
  [':last', 'evicted', ['4', '5']],
])('a Redis that evicts %s: nobody misses anything without being told', async (key, reason, served) => {
  const server = await startRedis();
  const proxy = await startProxy(server.port);
  const namespace = newNamespace();
  const node = makeCluster(namespace);
  const near = await node(server.port, [B], { historySize: 2 });
  const far = await node(proxy.port, [A], { historySize: 2 });
  proxy.refuse();
  await until(() => far.bus.status().state === 'down', 'the node to notice');
  await near.publish(A, '1', '2', '3', '4', '5');
  await server.admin((redis) => redis.del(`sse:{${namespace}}${key}`));
  proxy.mend();
  await far.eventually(() => far.losses.length > 0, 'the loss to be told');
  await until(() => far.bus.status().state === 'up', 'the node to be well');
  await near.publish(A, 'next');
  await far.eventually(() => far.dataOf().includes('next'), 'the next event');
  expect(far.losses).toMatchObject([{ reason, before: 0 }]);
  expect(far.dataOf()).toEqual([...served, 'next']);
  expect(near.bus.status().state).toBe('up');
});

test('SCRIPT FLUSH costs nobody anything', async () => {
  const server = await startRedis();
  const node = makeCluster();
  const nodes = [await node(server.port, [A, B]), await node(server.port, [A, B])];
  const { id } = await nodes[0]!.bus.head();
  const streams = [new Stream(nodes[0]!, [A, B]), new Stream(nodes[1]!, [`${A}x`])];
  for (let i = 0; i < 5; i++) {
    await streams[0]!.more(20);
    await server.admin((redis) => redis.script('FLUSH'));
  }
  await streams[0]!.more(20);
  for (const stream of streams) await stream.stop();
  expect([...streams[0]!.rejected, ...streams[1]!.rejected]).toEqual([]);
  await expectComplete(nodes, streams[0]!, A, B);
  const { events, loss } = await nodes[1]!.readAll([A, B], id, 50);
  expect([events.map(({ data }) => data), loss]).toEqual([streams[0]!.acknowledged, undefined]);
  // The ids of what was read are those of what was delivered.
  expect(events.map((event) => event.id)).toEqual(nodes[1]!.of(A, B).map((event) => event.id));
});

test('a Redis that is stopped for two seconds is waited for', async () => {
  const server = await startRedis();
  const node = makeCluster();
  const nodes = [
    await node(server.port, [A]),
    await node(server.port, [A], { commandTimeout: 300, checkInterval: 300 }),
  ];
  const stream = new Stream(nodes[0]!, [A]);
  await stream.more(20);
  server.freeze();
  await until(() => nodes.every(({ bus }) => bus.status().state === 'down'), 'the nodes to notice');
  server.thaw();
  await until(() => nodes.every(({ bus }) => bus.status().state === 'up'), 'the nodes to be well');
  await stream.more(20);
  await stream.stop();
  await expectComplete(nodes, stream, A);
});

test('an absence that is longer than history is told to those it concerns, and to nobody else', async () => {
  const server = await startRedis();
  const proxy = await startProxy(server.port);
  const node = makeCluster();
  const options = { historySize: 10 };
  const [near, far] = [await node(server.port, [A, B, QUIET], options), await node(proxy.port, [A, B, QUIET], options)];
  await near.publish(A, 'a before');
  await far.delivered(1);
  proxy.refuse();
  await until(() => far.bus.status().state === 'down', 'the far node to notice');
  await near.publish(B, 'b 1');
  for (let i = 0; i < 30; i++) await near.publish(A, `a ${i}`);
  await near.publish(B, 'b 2');
  proxy.mend();
  await far.eventually(() => far.dataOf().includes('b 2'), 'the last event');
  expect(far.dataOf()).toEqual(['a before', 'b 1', ...Array.from({ length: 10 }, (_, i) => `a ${20 + i}`), 'b 2']);
  expect(far.losses).toMatchObject([{ reason: 'evicted', keys: [A], before: 2 }]);
  expect(near.losses).toEqual([]);
});

test('without history an absence is told to the keys that had events, and to no other', async () => {
  const server = await startRedis();
  const proxy = await startProxy(server.port);
  const node = makeCluster();
  const [near, far] = [
    await node(server.port, [A, B, QUIET], { historySize: 0 }),
    await node(proxy.port, [A, B, QUIET], { historySize: 0 }),
  ];
  await near.publish(A, '1');
  await far.delivered(1);
  proxy.refuse();
  await until(() => far.bus.status().state === 'down', 'the far node to notice');
  await near.publish(A, '2');
  proxy.mend();
  await until(() => far.bus.status().state === 'up', 'the far node to be well');
  await near.publish(A, '3');
  await near.publish(B, '4');
  await far.eventually(() => far.dataOf().includes('4'), 'the last event');
  expect(far.dataOf()).toEqual(['1', '3', '4']);
  expect(far.losses).toMatchObject([{ reason: 'disabled', keys: [A], before: 1 }]);
});

test('acknowledged writes that a fail-over lost are noticed, and told to all, also to those who come back later', async () => {
  const [master, replica] = [await startRedis(), await startRedis()];
  const link = await startProxy(master.port);
  const front = await startProxy(master.port);
  const namespace = newNamespace();
  const node = makeCluster(namespace);
  await replica.admin((redis) => redis.call('REPLICAOF', '127.0.0.1', String(link.port)));
  const [one, two] = [await node(front.port, [A]), await node(front.port, [A])];
  await one.publish(A, '1', '2');
  await replica.admin((redis) =>
    until(async () => Number(await redis.xlen(`sse:{${namespace}}:h:${A}`)) === 2, 'the replica to have both'),
  );
  // From here on the replica gets nothing.
  link.drop();
  const lost = await one.publish(A, '3', '4', '5');
  await two.delivered(5);
  await replica.admin((redis) => redis.call('REPLICAOF', 'NO', 'ONE'));
  front.retarget(replica.port);
  await master.kill();
  for (const { bus } of [one, two]) await until(() => bus.status().state === 'down', 'the nodes to notice');
  for (const { bus } of [one, two]) await until(() => bus.status().state === 'up', 'the nodes to be well', 15_000);
  await one.publish(A, '6');
  for (const recorder of [one, two]) {
    await recorder.eventually(() => recorder.dataOf().includes('6'), 'the next event');
    expect(recorder.dataOf()).toEqual(['1', '2', '3', '4', '5', '6']);
    expect(recorder.losses).toMatchObject([{ reason: 'epoch', before: 5 }]);
    expectOrdered(recorder);
  }
  for (const id of lost) expect((await two.read([A], id)).loss).toBe('epoch');
});

test('a master that takes over again without what was published meanwhile: told, also where others publish first', async () => {
  const [first, second] = [await startRedis(), await startRedis()];
  const link = await startProxy(second.port);
  const [front, otherFront] = [await startProxy(first.port), await startProxy(first.port)];
  const namespace = newNamespace();
  const node = makeCluster(namespace);
  const isAt = (server: RedisServer, size: number) =>
    server.admin((redis) =>
      until(async () => Number(await redis.xlen(`sse:{${namespace}}:h:${A}`)) === size, 'the replica to have all'),
    );
  const promote = async (server: RedisServer) => {
    await server.admin((redis) => redis.call('REPLICAOF', 'NO', 'ONE'));
    for (const proxy of [front, otherFront]) proxy.retarget(server.port);
    for (const proxy of [front, otherFront]) proxy.cut();
  };
  const [near, other] = [await node(front.port, [A]), await node(otherFront.port, [B])];
  await near.publish(A, '1');
  await second.admin((redis) => redis.call('REPLICAOF', '127.0.0.1', String(first.port)));
  await isAt(second, 1);
  await promote(second);
  await first.admin((redis) => redis.call('REPLICAOF', '127.0.0.1', String(link.port)));
  for (const { bus } of [near, other]) await until(() => publishes(bus, A), 'the node to publish again', 15_000);
  await isAt(first, Number(await second.admin((redis) => redis.xlen(`sse:{${namespace}}:h:${A}`))));
  link.drop();
  await near.publish(A, 'lost 1', 'lost 2');
  await near.eventually(() => near.dataOf().includes('lost 2'), 'what will be lost');
  // The node that saw it comes back last.
  front.refuse();
  await promote(first);
  await second.kill();
  await until(() => publishes(other.bus, A), 'the other node to publish again', 15_000);
  await other.publish(A, 'given up 1', 'given up 2', 'given up 3');
  front.mend();
  await near.eventually(() => near.losses.length > 0, 'the loss to be told');
  await other.publish(A, 'next');
  await near.eventually(() => near.dataOf().includes('next'), 'the next event');
  expect(near.losses).toMatchObject([{ reason: 'epoch', before: near.dataOf().indexOf('lost 2') + 1 }]);
  expectOrdered(near);
});

/** Whether an event is taken: a bus may not have noticed yet that its Redis is another one. */
const publishes = (bus: Bus, key: string): Promise<boolean> =>
  Promise.resolve(bus.publish(outgoing(key, 'tried'))).then(Boolean, () => false);
