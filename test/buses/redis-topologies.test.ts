/** RedisBus over a cluster, and over a master that Sentinel replaces. */
import { Redis } from 'ioredis';
import { createSentinel } from 'redis';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { RedisBus } from '../../src/buses/redis.js';
import { slotOf } from '../../src/buses/redis-client.js';
import { Recorder } from '../../src/testing/bus-recorder.js';
import { type BusFixture, type BusSetup, busConformance, busNodesConformance } from '../../src/testing/index.js';
import { needsRedisServer, RedisCluster, RedisServer, redisVersion } from '../support/redis-server.js';
import { until } from '../support/until.js';
import { newNamespace, redisLibraries } from './redis-clients.js';
import { expectComplete, expectOrdered, Stream, startRedis } from './redis-nodes.js';

const A = 't::a';

test('slots are those of Redis', async () => {
  const cluster = await RedisCluster.startOne();
  onTestFinished(() => cluster.close());
  await cluster.admin(async (redis) => {
    for (const key of ['123456789', 'sse:{default}', 'sse:{default}:h:t::x', '{}x', 'a{b}c{d}', 'ünï{cödé}']) {
      expect(slotOf(key)).toBe(Number(await redis.call('CLUSTER', 'KEYSLOT', key)));
    }
  });
});

describe('a cluster', () => {
  let cluster: RedisCluster | undefined;
  beforeAll(async () => {
    if (redisVersion !== undefined) cluster = await RedisCluster.start();
  }, 30_000);
  afterAll(() => cluster?.close());

  for (const library of redisLibraries) {
    for (const shardedPubSub of ['auto', false] as const) {
      describe(`over ${library.name}, ${shardedPubSub === 'auto' ? 'sharded Pub/Sub' : 'plain Pub/Sub'}`, () => {
        const create = async ({ historySize }: BusSetup): Promise<BusFixture> => {
          const namespace = newNamespace();
          const closing: (() => void)[] = [];
          const make = async () => {
            const { client, close } = await library.connectCluster(cluster!.ports);
            closing.push(close);
            return new RedisBus({ client, namespace, historySize, shardedPubSub, checkInterval: 500 });
          };
          return {
            bus: await make(),
            another: make,
            dispose: () => {
              for (const close of closing) close();
            },
          };
        };
        const abilities = { shared: true, ages: false, limitsBytes: false, timeoutMs: 10_000 };
        // The cases that depend on how events travel, and one reading; the rest is the same script as without a cluster.
        const cases = busConformance({ create, ...abilities }).filter(({ name }) =>
          /^(order|once|interest|shared|live only|cut points|an event arrives)/.test(name),
        );
        for (const { name, run } of [...cases, ...busNodesConformance({ create, timeoutMs: 10_000 })]) {
          test(name, async () => {
            needsRedisServer();
            await run();
          });
        }
      });
    }

    test(`a namespace that moves to another node is followed, over ${library.name}`, async () => {
      needsRedisServer();
      const namespace = newNamespace();
      const make = async () => {
        const { client, close } = await library.connectCluster(cluster!.ports);
        onTestFinished(close);
        const bus = new RedisBus({ client, namespace, historySize: 10_000, checkInterval: 300, commandTimeout: 1_000 });
        onTestFinished(() => bus.close());
        return Recorder.start(bus, [A], 10_000);
      };
      const nodes = [await make(), await make()];
      const stream = new Stream(nodes[0]!, [A]);
      await stream.more(20);
      await cluster!.move(`sse:{${namespace}}`);
      await until(() => nodes.some(({ bus }) => bus.status().state === 'down'), 'the nodes to notice');
      await until(() => nodes.every(({ bus }) => bus.status().state === 'up'), 'the nodes to be well', 15_000);
      await stream.more(20);
      await stream.stop();
      await expectComplete(nodes, stream, A);
    });
  }
});

describe('Sentinel', () => {
  const start = async () => {
    const master = await startRedis();
    const replica = await startRedis({ config: [`replicaof 127.0.0.1 ${master.port}`] });
    await replica.admin((redis) =>
      until(async () => String(await redis.info('replication')).includes('master_link_status:up'), 'the replica'),
    );
    const sentinel = await RedisServer.startSentinel(master);
    onTestFinished(() => sentinel.close());
    await sentinel.admin((redis) =>
      until(
        async () => JSON.stringify(await redis.call('SENTINEL', 'REPLICAS', 'main')).includes(String(replica.port)),
        'Sentinel to know the replica',
      ),
    );
    return { master, sentinel };
  };
  const clients = {
    ioredis: async (port: number) => {
      const client = new Redis({ sentinels: [{ host: '127.0.0.1', port }], name: 'main', retryStrategy: () => 50 });
      client.on('error', () => {});
      onTestFinished(() => client.disconnect());
      return client;
    },
    'node-redis': async (port: number) => {
      const client = createSentinel({
        name: 'main',
        sentinelRootNodes: [{ host: '127.0.0.1', port }],
        scanInterval: 200,
      });
      client.on('error', () => {});
      await client.connect();
      onTestFinished(() => client.destroy().catch(() => {}));
      return client;
    },
  };
  for (const [name, connect] of Object.entries(clients)) {
    test(`a master that dies is followed by its replica, over ${name}`, async () => {
      needsRedisServer();
      const { master, sentinel } = await start();
      const namespace = newNamespace();
      const make = async () => {
        const bus = new RedisBus({ client: await connect(sentinel.port), namespace, checkInterval: 300 });
        onTestFinished(() => bus.close());
        return Recorder.start(bus, [A], 15_000);
      };
      const nodes = [await make(), await make()];
      await nodes[0]!.publish(A, '1', '2', '3');
      for (const node of nodes) await node.delivered(3);
      await master.kill();
      await until(() => nodes.every(({ bus }) => bus.status().state === 'down'), 'the nodes to notice');
      await until(() => nodes.every(({ bus }) => bus.status().state === 'up'), 'the nodes to be well', 30_000);
      const [id] = await nodes[1]!.publish(A, '4');
      for (const node of nodes) {
        await node.eventually(() => node.dataOf().includes('4'), 'the next event');
        expectOrdered(node);
        // The replica may have been a moment behind: then it is told.
        if (node.losses.length === 0) expect(node.dataOf()).toEqual(['1', '2', '3', '4']);
      }
      expect((await nodes[0]!.read([A], id!)).loss).toBeUndefined();
    }, 60_000);
  }
});
