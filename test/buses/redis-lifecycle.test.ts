/** What RedisBus opens, keeps and leaves behind, in this process and in Redis. */
import { inspect } from 'node:util';
import { Redis } from 'ioredis';
import { createClient, RESP_TYPES } from 'redis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { RedisBus, type RedisBusOptions, type RedisClient } from '../../src/buses/redis.js';
import { outgoing, Recorder } from '../../src/testing/bus-recorder.js';
import type { RedisServer } from '../support/redis-server.js';
import { until } from '../support/until.js';
import { connected, newNamespace, redisLibraries } from './redis-clients.js';
import { ioredis, makeCluster, startProxy, startRedis } from './redis-nodes.js';

const A = 't::a';

const clientsOf = (server: RedisServer) =>
  server.admin(
    async (redis) =>
      String(await redis.call('CLIENT', 'LIST'))
        .trim()
        .split('\n').length - 1,
  );
const channelsOf = (server: RedisServer) =>
  server.admin(async (redis) => ((await redis.call('PUBSUB', 'CHANNELS', '*:c:*')) as string[]).sort());

describe.each(redisLibraries)('over $name', (library) => {
  test('one connection is opened beside the application’s, and only that is closed', async () => {
    const server = await startRedis();
    const client = await connected(library, server.port);
    await until(async () => (await clientsOf(server)) === 1, 'the application’s connection');
    const bus = new RedisBus({ client, historySize: 10 });
    const node = await Recorder.start(bus, [A, 't::b', 'c::one'], 5_000);
    expect(await clientsOf(server)).toBe(2);
    await Promise.all([bus.close(), bus.close()]);
    await until(async () => (await clientsOf(server)) === 1, 'the bus to close its connection');
    expect(bus.status()).toMatchObject({ state: 'down', reason: 'closed' });
    await expect(bus.join(A)).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
    await expect(bus.start(node)).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
    const again = new RedisBus({ client });
    await again.start(node);
    await again.close();
  });

  test('a node listens to what its clients want, and after a while no longer to what nobody wants', async () => {
    const server = await startRedis();
    const namespace = newNamespace();
    const node = await makeCluster(namespace)(server.port, [A], { library, linger: 100 });
    const prefix = `sse:{${namespace}}:c:`;
    await node.bus.join('c::one');
    expect(await channelsOf(server)).toEqual([`${prefix}c::one`, `${prefix}${A}`]);
    // A client's own key goes at once, others linger; one that is wanted again stays.
    node.bus.leave('c::one');
    await until(async () => (await channelsOf(server)).length === 1, 'the client’s key to go');
    await node.bus.join('t::b');
    node.bus.leave(A);
    node.bus.leave('t::b');
    await node.bus.join('t::b');
    await until(async () => (await channelsOf(server)).length === 1, 'the key to go');
    expect(await channelsOf(server)).toEqual([`${prefix}t::b`]);
    expect(node.bus.status().details).toMatchObject({ joinedKeys: 1, subscribedKeys: 1 });
    await node.bus.join(A);
    await node.publish(A, 'again');
    await node.delivered(1);
  });

  test('a client that cannot be reached makes start reject, and start may be called again', async () => {
    const server = await startRedis();
    const proxy = await startProxy(server.port);
    const client = await connected(library, proxy.port);
    proxy.refuse();
    const bus = new RedisBus({ client, commandTimeout: 300 });
    onTestFinished(() => bus.close());
    const receiver = { deliver() {}, lost() {}, status() {}, error() {} };
    await until(
      () =>
        bus.start(receiver).then(
          () => false,
          () => true,
        ),
      'start to reject',
    );
    await expect(bus.start(receiver)).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE', retryable: true });
    expect(bus.status()).toMatchObject({ state: 'down', reason: 'not started' });
    proxy.mend();
    await until(
      () =>
        bus.start(receiver).then(
          () => true,
          () => false,
        ),
      'start to succeed',
    );
    expect(bus.status().state).toBe('up');
  });

  test('a connection that cannot be opened beside the application’s makes start reject, without its password', async () => {
    const server = await startRedis();
    const user = (...rules: string[]) =>
      server.admin((redis) => redis.call('ACL', 'SETUSER', 'broker', 'on', '~*', '&*', '+@all', ...rules));
    await user('>hunter2');
    const { client, close } = await library.connect(server.port, { username: 'broker', password: 'hunter2' });
    onTestFinished(close);
    // A client of node-redis is connected by now.
    await until(() => !('status' in client) || client.status === 'ready', 'the application’s connection');
    // Who is in stays in; the next one does not get in.
    await user('resetpass', '>hunter3');
    const emitter = client as unknown as NodeJS.EventEmitter;
    const listeners = () => emitter.eventNames().map((name) => [name, emitter.listenerCount(name)]);
    const before = listeners();
    const bus = new RedisBus({ client });
    onTestFinished(() => bus.close());
    const error: unknown = await bus.start({ deliver() {}, lost() {}, status() {}, error() {} }).then(
      () => 'started',
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({
      code: 'SSE_ERR_BUS_UNAVAILABLE',
      retryable: true,
      message: expect.stringContaining('the connection for listening'),
    });
    expect(inspect(error, { depth: 20 })).not.toContain('hunter');
    await bus.close();
    expect(listeners()).toEqual(before);
  });
});

test('events are forgotten at their age, and Redis keeps nothing of keys that nobody uses', async () => {
  const server = await startRedis();
  const namespace = newNamespace();
  const node = await makeCluster(namespace)(server.port, [A], { historyTtl: 3_000, checkInterval: 100 });
  const { id } = await node.bus.head();
  for (let i = 0; i < 200; i++) await node.publish(`t::once-${i}`, 'x');
  const [first] = await node.publish(A, 'old');
  expect((await node.read([A], id)).events).toHaveLength(1);
  await until(async () => (await node.read([A], id)).loss === 'evicted', 'the event to be forgotten');
  expect((await node.read([A], id)).events).toEqual([]);
  expect((await node.read([A], first!)).loss).toBeUndefined();
  await server.admin((redis) =>
    until(async () => (await redis.keys(`*{${namespace}}*`)).length <= 5, 'the keys to expire'),
  );
  await server.admin(async (redis) => {
    const last = `sse:{${namespace}}:last`;
    await until(async () => (await redis.zcount(last, '(0', '+inf')) === 0, 'the channel keys to be forgotten');
    expect(await redis.zcard(`sse:{${namespace}}:times`)).toBeLessThan(100);
  });
  // A key that Redis has forgotten: the node knows that it missed nothing of it.
  await node.publish(A, 'young');
  await node.delivered(2);
  expect(node.losses).toEqual([]);
  expect(node.bus.status().details?.recoveries).toBe(0);
});

test('ten thousand quiet keys cost a check no more than one', async () => {
  const server = await startRedis();
  const keys = Array.from({ length: 10_000 }, (_, i) => `t::quiet-${i}`);
  const node = await makeCluster()(server.port, [], { checkInterval: 50, commandTimeout: 5_000 });
  await Promise.all(keys.map((key) => node.bus.join(key)));
  const calls = (command: string) =>
    server.admin(async (redis) => {
      const stats = String(await redis.info('commandstats'));
      return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
    });
  const before = await calls('zmscore');
  const looks = await calls('evalsha');
  await until(async () => (await calls('evalsha')) >= looks + 5, 'five checks');
  expect(await calls('zmscore')).toBe(before);
  await node.publish(keys[5_000]!, 'x');
  await node.delivered(1);
});

test('nodes come back each at a moment of its own', async () => {
  const server = await startRedis();
  const proxy = await startProxy(server.port);
  const node = makeCluster();
  const nodes = await Promise.all(Array.from({ length: 20 }, () => node(proxy.port, [A])));
  const returned = async () => {
    const { length } = proxy.acceptedAt;
    await server.admin((redis) => redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub'));
    await until(() => proxy.acceptedAt.length === length + 20, 'all nodes to be back');
    for (const { bus } of nodes) await until(() => bus.status().state === 'up', 'the node to be well');
    const times = proxy.acceptedAt.slice(length).sort((a, b) => a - b);
    // Twenty moments within half a second: no half of them within a tenth of it, or chance is one in ten million.
    return Math.min(...times.slice(10).map((time, i) => time - times[i]!));
  };
  // On a busy machine this process may stand still, and all that was due meanwhile comes at once.
  await until(async () => (await returned()) > 50, 'the nodes to come back one after the other', 20_000);
}, 40_000);

describe('what nobody of ours wrote', () => {
  test('on a channel is told and dropped, and the next event is delivered', async () => {
    const server = await startRedis();
    const namespace = newNamespace();
    const node = await makeCluster(namespace)(server.port, [A]);
    await node.publish(A, '1');
    await node.delivered(1);
    const rubbish = [
      '',
      ' ',
      'x',
      'x y z',
      `x 1 2 1t 1 0 e\nd`,
      `${'9'.repeat(40)} 9 9 `,
      `run NaN - 1t 1 0 e\r\n`,
      '\0\0\0',
    ];
    const run = node.events[0]!.id.split('-')[0];
    rubbish.push(
      `${run} 99 x 1t 1 0 e\nd`,
      `${run} 5 0 2t 1 0 e\nd`,
      `${run} 5 0 1t 1 0 a\rb\nd`,
      `${run} 1.5 0 1t 1 0 e\nd`,
    );
    // Before which something is missing that can never come.
    const next = node.events[0]!.sequence + 1;
    for (const previous of ['1e999', next, next + 5, -1, 0.5]) rubbish.push(`${run} ${next} ${previous} 1t 1 0 e\nd`);
    await server.admin(async (redis) => {
      for (const text of rubbish) await redis.publish(`sse:{${namespace}}:c:${A}`, text);
      await redis.publish(`sse:{${namespace}}:b:nobody`, 'x');
    });
    await node.publish(A, '2');
    await node.eventually(() => node.dataOf().includes('2'), 'the next event');
    expect(node.dataOf()).toEqual(['1', '2']);
    expect(node.losses).toEqual([]);
    expect(node.errors).toHaveLength(rubbish.length);
    for (const error of node.errors) expect(error).toMatchObject({ code: 'SSE_ERR_INVALID_BUS_EVENT' });
  });

  test.each([
    ['has other fields', ['foo', 'bar']],
    ['has an event, but no place', ['p', 'rubbish', 'd', '1t 1 0 e\nx']],
    ['has a place without a run', ['p', '0', 'd', '1t 1 0 e\nx']],
    ['comes after one that is yet to come', ['p', '99999999999999999999 x', 'd', '1t 1 0 e\nx']],
  ])('an entry of a history that %s is told as a loss, and what is around it is served', async (_, fields) => {
    const server = await startRedis();
    const namespace = newNamespace();
    const node = await makeCluster(namespace)(server.port, [A]);
    const { id } = await node.bus.head();
    const [first] = await node.publish(A, '1');
    // What is for one client has a place, and nothing stands there.
    await node.publish('c::one', 'x');
    const place = `${Number(first!.split('-')[1]) + 1}-0`;
    await server.admin((redis) => redis.xadd(`sse:{${namespace}}:h:${A}`, place, ...fields));
    await node.publish(A, '2');
    for (const after of [id, first!]) {
      const { events, loss, completeAfter } = await node.read([A], after);
      expect([events.map(({ data }) => data), loss]).toEqual([after === id ? ['1', '2'] : ['2'], 'unknown']);
      const rest = await node.read([A], completeAfter!);
      expect([rest.events.map(({ data }) => data), rest.loss]).toEqual([['2'], undefined]);
    }
    expect(node.errors).toMatchObject([{ code: 'SSE_ERR_INVALID_BUS_EVENT' }, { code: 'SSE_ERR_INVALID_BUS_EVENT' }]);
  });

  test('in history is told as a loss, and what is around it is served', async () => {
    const server = await startRedis();
    const namespace = newNamespace();
    const proxy = await startProxy(server.port);
    const node = makeCluster(namespace);
    const near = await node(server.port, []);
    const far = await node(proxy.port, [A]);
    const { id } = await near.bus.head();
    proxy.refuse();
    await until(() => far.bus.status().state === 'down', 'the far node to notice');
    await near.publish(A, '1', '2', '3');
    const stream = `sse:{${namespace}}:h:${A}`;
    await server.admin(async (redis) => {
      const entries = await redis.xrange(stream, '-', '+');
      await redis.del(stream);
      for (const [i, [entry, [, place, , event]]] of entries.entries()) {
        await redis.xadd(stream, entry, 'p', place!, 'd', i === 1 ? '9q rubbish' : event!);
      }
    });
    const { events, loss, completeAfter } = await near.read([A], id);
    expect([events.map(({ data }) => data), loss]).toEqual([['1', '3'], 'unknown']);
    expect((await near.read([A], completeAfter!)).events.map(({ data }) => data)).toEqual(['3']);
    proxy.mend();
    await far.eventually(() => far.dataOf().includes('3'), 'the last event');
    expect(far.dataOf()).toEqual(['1', '3']);
    expect(far.losses).toMatchObject([{ reason: 'unknown', keys: [A], before: 1 }]);
  });
});

test('a prefix of ioredis is in front of keys and channels', async () => {
  const server = await startRedis();
  const client = new Redis(server.port, '127.0.0.1', { keyPrefix: 'app:' });
  onTestFinished(() => client.disconnect());
  const bus = new RedisBus({ client, namespace: 'x' });
  onTestFinished(() => bus.close());
  const node = await Recorder.start(bus, [A], 5_000);
  const { id } = await node.bus.head();
  await node.publish(A, '1');
  await node.delivered(1);
  expect((await node.read([A], id)).events).toHaveLength(1);
  await server.admin(async (redis) => {
    expect((await redis.keys('*')).every((key) => key.startsWith('app:sse:{x}'))).toBe(true);
  });
});

test.each<[string, (port: number) => Promise<RedisClient>]>([
  [
    'numbers as texts, from ioredis',
    async (port) => {
      const client = new Redis(port, '127.0.0.1', { stringNumbers: true });
      onTestFinished(() => client.disconnect());
      return client;
    },
  ],
  [
    'numbers as texts and texts as buffers, from node-redis',
    async (port) => {
      const { BLOB_STRING, NUMBER, DOUBLE } = RESP_TYPES;
      const typeMapping = { [BLOB_STRING]: Buffer, [NUMBER]: String, [DOUBLE]: String };
      const client = createClient({ commandOptions: { typeMapping }, socket: { host: '127.0.0.1', port } });
      client.on('error', () => {});
      await client.connect();
      onTestFinished(() => client.destroy());
      return client;
    },
  ],
])('a client that is made to give %s: history is read whole, and nobody is told of a loss', async (_what, connect) => {
  const server = await startRedis();
  const bus = new RedisBus({ client: await connect(server.port), checkInterval: 600_000 });
  onTestFinished(() => bus.close());
  const node = await Recorder.start(bus, [A], 15_000);
  const { id } = await bus.head();
  await node.publish(A, '1', '2', '3');
  expect((await node.readAll([A], id, 2)).events).toHaveLength(3);
  await server.admin((redis) => redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub'));
  await until(() => bus.status().details!.recoveries! > 0 && bus.status().state === 'up', 'the node to be well again');
  await node.publish(A, '4');
  await node.delivered(4);
  expect(node.dataOf()).toEqual(['1', '2', '3', '4']);
  expect(node.losses).toEqual([]);
});

test('sharded Pub/Sub is what the first node of a namespace decided', async () => {
  const server = await startRedis();
  const node = makeCluster(newNamespace());
  const sharded = await node(server.port, [A], { shardedPubSub: true });
  const auto = await node(server.port, [A]);
  await auto.publish(A, '1');
  for (const one of [sharded, auto]) await one.delivered(1);
  await expect(node(server.port, [A], { shardedPubSub: false })).rejects.toMatchObject({
    code: 'SSE_ERR_INVALID_OPTION',
  });
});

describe('options', () => {
  const client = new Redis({ lazyConnect: true });
  const bad: Record<string, Partial<Record<keyof RedisBusOptions | 'hystorySize', unknown>>> = {
    'a client that is none': { client: {} },
    'no client': { client: undefined },
    'an unknown option': { hystorySize: 5 },
    'an empty namespace': { namespace: '' },
    'a namespace with braces': { namespace: '{x}' },
    'a prefix that is a pattern': { keyPrefix: '*' },
    'a negative size': { historySize: -1 },
    'half an event': { historySize: 1.5 },
    'no age limit': { historyTtl: 0 },
    'an age limit that no check can follow': { historyTtl: 20_000 },
    'a check all the time': { checkInterval: 0 },
    'a timeout beyond what timers take': { commandTimeout: 2 ** 31 },
    'a buffer with another limit': { publishBuffer: { maxAge: 5 } },
    'a buffer for nothing': { publishBuffer: { maxEvents: 0 } },
    'a buffer that is true': { publishBuffer: true },
    'sharding by another name': { shardedPubSub: 'yes' },
  };
  for (const [what, options] of Object.entries(bad)) {
    test(`${what} is refused`, () => {
      expect(() => new RedisBus({ client, ...options } as RedisBusOptions)).toThrow(
        expect.objectContaining({ code: 'SSE_ERR_INVALID_OPTION' }),
      );
    });
  }

  test('a bus serves one broker', async () => {
    const server = await startRedis();
    const bus = new RedisBus({ client: await connected(ioredis, server.port) });
    onTestFinished(() => bus.close());
    const receiver = () => ({ deliver() {}, lost() {}, status() {}, error() {} });
    const first = receiver();
    await bus.start(first);
    await bus.start(first);
    await expect(bus.start(receiver())).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_OPTION' });
    await expect(bus.publish(outgoing(A, 'still'))).resolves.toMatch(/^[a-z0-9]+-\d+$/);
  });
});
