/** The rights that docs/guides/redis.md lists are enough for everything, and for nothing else. */
import { readFileSync } from 'node:fs';
import { describe, expect, onTestFinished, test } from 'vitest';
import { RedisBus } from '../../src/buses/redis.js';
import { type BusCase, type BusFixture, type BusSetup, busConformance } from '../../src/testing/index.js';
import { needsRedisServer, RedisServer } from '../support/redis-server.js';
import { newNamespace, redisLibraries } from './redis-clients.js';

/** The `ACL SETUSER` line of the guide, word by word. */
const rule = (() => {
  const guide = readFileSync(new URL('../../docs/guides/redis.md', import.meta.url), 'utf8');
  const line = guide.split('\n').find((text) => text.startsWith('ACL SETUSER '));
  if (line === undefined) throw new Error('docs/guides/redis.md has no ACL SETUSER line');
  return line.trim().split(/\s+/);
})();

describe('a user with the rights of the guide', () => {
  let server: RedisServer | undefined;
  const startServer = async () => {
    server ??= await RedisServer.start();
    await server.admin((redis) => redis.call(rule[0]!, ...rule.slice(1)));
    return server;
  };
  test.sequential('is a user of Redis', async () => {
    needsRedisServer();
    await startServer();
  });
  for (const library of redisLibraries) {
    const create = async ({ historySize }: BusSetup): Promise<BusFixture> => {
      const { port } = await startServer();
      const namespace = newNamespace();
      const closing: (() => void)[] = [];
      const make = async () => {
        const { client, close } = await library.connect(port, { username: rule[2]!, password: 'change-me' });
        closing.push(close);
        return new RedisBus({ client, namespace, historySize, historyTtl: 1_500, checkInterval: 300 });
      };
      return {
        bus: await make(),
        another: make,
        dispose: () => {
          for (const close of closing) close();
        },
      };
    };
    const wanted = /^(order|interest|shared|read: pages|read: beyond|evicted|disabled|head)/;
    const abilities = { shared: true, ages: false, limitsBytes: false, timeoutMs: 10_000 };
    const cases: BusCase[] = busConformance({ create, ...abilities }).filter(({ name }) => wanted.test(name));
    for (const { name, run } of cases) {
      test(`${library.name}: ${name}`, async () => {
        needsRedisServer();
        await run();
      });
    }
  }
  test('cannot look anywhere else', async () => {
    needsRedisServer();
    const { port } = await startServer();
    const { client, close } = await redisLibraries[0]!.connect(port, { username: rule[2]!, password: 'change-me' });
    onTestFinished(close);
    const call = (command: string, ...args: string[]) =>
      (client as { call(c: string, a: string[]): Promise<unknown> }).call(command, args);
    for (const [command, ...args] of [
      ['get', 'other'],
      ['publish', 'other', 'x'],
      ['keys', '*'],
      ['flushall'],
      ['config', 'get', '*'],
    ]) {
      await expect(call(command!, ...args)).rejects.toThrow('NOPERM');
    }
    await server?.close();
  });
});
