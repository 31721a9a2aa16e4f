import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { NatsServer, needsNatsServer } from '../support/nats-server.js';
import { assertBuilt, root, run, specifiers } from '../support/package.js';
import { freePort } from '../support/port.js';
import { needsRedisServer, RedisServer } from '../support/redis-server.js';
import { commandOf, prepareRuntimes } from '../support/runtimes.js';

beforeAll(async () => {
  await assertBuilt();
  await prepareRuntimes('deno', 'bun');
}, 300_000);

// Longer than a program may take: one that hangs is ended by run(), and not left behind.
describe.each(['deno', 'bun'] as const)('%s', { timeout: 60_000 }, (runtime) => {
  const play = async (program: string, ...args: string[]) => {
    const { file, args: before } = await commandOf(runtime);
    return run(file, [...before, program, ...args], root, { timeoutMs: 50_000 });
  };

  test.each(['esm.mjs', 'commonjs.cjs'])('runs the smoke suite of the Node versions, %s', async (file) => {
    const { stdout } = await play(`test/package/smoke/${file}`, ...(await specifiers()));
    expect(stdout.match(/^ok /gm)?.length, stdout).toBeGreaterThan(5);
  });

  test('keeps the contract of SqliteBus over its own node:sqlite', async () => {
    const { stdout } = await play('test/buses/children/builtin.mjs');
    expect(stdout.match(/^ok /gm)?.length, stdout).toBeGreaterThan(40);
  });

  /** Gives the id of the event. */
  const carry = async (kind: string, url: string) => {
    const { stdout } = await play('test/runtimes/children/bus.mjs', kind, url);
    expect(stdout).toMatch(/^[\w.~-]+\n$/);
  };

  test('carries an event over Redis, with either client', async () => {
    needsRedisServer();
    const server = await RedisServer.start();
    onTestFinished(() => server.close());
    await carry('redis', server.url);
    await carry('ioredis', server.url);
  });

  test('carries an event over NATS, by TCP and by WebSocket', async () => {
    needsNatsServer();
    const port = await freePort();
    const server = await NatsServer.start({ config: [`websocket { listen: "127.0.0.1:${port}", no_tls: true }`] });
    onTestFinished(() => server.close());
    await carry('nats', server.url);
    await carry('nats-ws', `ws://127.0.0.1:${port}`);
  });
});
