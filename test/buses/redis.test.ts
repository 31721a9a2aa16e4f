/** RedisBus keeps the contract of buses, over a real Redis, with the clients of both libraries. */
import { describe, test } from 'vitest';
import { RedisBus, type RedisBusOptions } from '../../src/buses/redis.js';
import {
  type BusCase,
  type BusFixture,
  type BusSetup,
  busConformance,
  busNodesConformance,
} from '../../src/testing/index.js';
import { needsSharedRedis, sharedRedisPort } from '../support/redis-server.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { newNamespace, redisLibraries, removeNamespace } from './redis-clients.js';

const register = (cases: readonly BusCase[]) => {
  for (const { name, run } of cases) {
    test(name, async () => {
      await needsSharedRedis();
      await run();
    });
  }
};

for (const library of redisLibraries) {
  describe(`RedisBus over ${library.name}`, () => {
    const create = async ({ historySize }: BusSetup): Promise<BusFixture> => {
      const proxy = await TcpProxy.start(sharedRedisPort);
      const namespace = newNamespace();
      const closing: (() => void)[] = [];
      const make = async (more: Partial<RedisBusOptions> = {}) => {
        const { client, close } = await library.connect(proxy.port);
        closing.push(close);
        return new RedisBus({ client, namespace, historySize, checkInterval: 500, commandTimeout: 1_000, ...more });
      };
      return {
        bus: await make(),
        another: make,
        reopen: make,
        breakCarrier: () => proxy.refuse(),
        mendCarrier: () => proxy.mend(),
        loseHistory: () => removeNamespace(sharedRedisPort, namespace),
        dispose: async () => {
          for (const close of closing) close();
          await removeNamespace(sharedRedisPort, namespace);
          await proxy.close();
        },
      };
    };
    const abilities = { shared: true, durable: true, breaks: true, loses: true, ages: false, limitsBytes: false };
    register(busConformance({ create, ...abilities, timeoutMs: 10_000 }));
    register(busNodesConformance({ create, timeoutMs: 10_000 }));
  });
}
