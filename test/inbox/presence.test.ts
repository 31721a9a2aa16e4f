/** Who is online on any node, by Redis: nodes here have buses of their own and know nothing else of each other. */
import { describe, expect, onTestFinished, test } from 'vitest';
import { Inbox } from '../../src/inbox/inbox.js';
import { MemoryStore } from '../../src/inbox/memory-store.js';
import { RedisPresence, type RedisPresenceOptions } from '../../src/inbox/redis-presence.js';
import { MemorySink } from '../../src/testing/memory-sink.js';
import { connected, newNamespace, redisLibraries, removeNamespace, type TestLibrary } from '../buses/redis-clients.js';
import { startProxy, startRedis } from '../buses/redis-nodes.js';
import { makeBroker } from '../support/broker.js';
import { needsSharedRedis, sharedRedisPort } from '../support/redis-server.js';
import { until } from '../support/until.js';
import { ioredis } from './redis-caches.js';

interface NodeOptions extends Partial<RedisPresenceOptions> {
  readonly library?: TestLibrary;
}

/** A node with an inbox whose presence is in the Redis at `port`. */
async function nodeAt(port: number, namespace: string, { library = ioredis, ...options }: NodeOptions = {}) {
  const client = await connected(library, port);
  const broker = makeBroker();
  const presence = new RedisPresence({ client, namespace, commandTimeout: 10_000, ...options });
  const inbox = new Inbox({ broker, store: new MemoryStore(), presence });
  onTestFinished(() => inbox.close());
  const connect = (userId: string, tenantId?: string): string =>
    broker.connect({ sink: new MemorySink(), identity: { userId, tenantId } });
  return { broker, inbox, connect };
}

async function sharedNamespace(): Promise<string> {
  await needsSharedRedis();
  const namespace = newNamespace();
  onTestFinished(() => removeNamespace(sharedRedisPort, namespace));
  return namespace;
}

describe.each(redisLibraries.map((library) => [library.name, library] as const))('with %s', (_, library) => {
  test('a user is online on every node from the first stream to the end of the last', async () => {
    const namespace = await sharedNamespace();
    const [one, two, three] = [
      await nodeAt(sharedRedisPort, namespace, { library }),
      await nodeAt(sharedRedisPort, namespace, { library }),
      await nodeAt(sharedRedisPort, namespace, { library }),
    ];
    expect(await three.inbox.isOnline('anna')).toBe(false);
    const streams = [one.connect('anna'), one.connect('anna')];
    const other = two.connect('anna');
    expect(await one.inbox.isOnline('anna')).toBe(true);
    await until(() => three.inbox.isOnline('anna'));
    expect(await three.inbox.isOnline('ben')).toBe(false);
    await one.broker.disconnect(streams[0]!);
    await two.broker.disconnect(other);
    expect(await one.inbox.isOnline('anna')).toBe(true);
    // Told behind what is asked for here.
    two.connect('last');
    await until(() => three.inbox.isOnline('last'));
    expect(await three.inbox.isOnline('anna')).toBe(true);
    await one.broker.disconnect(streams[1]!);
    await until(async () => !(await three.inbox.isOnline('anna')));
    expect(await one.inbox.isOnline('anna')).toBe(false);
  });
});

test('a user is one within a tenant', async () => {
  const namespace = await sharedNamespace();
  const one = await nodeAt(sharedRedisPort, namespace);
  const two = await nodeAt(sharedRedisPort, namespace);
  const stream = one.connect('anna', 'acme');
  for (const { inbox } of [one, two]) {
    await until(() => inbox.isOnline('anna', { tenantId: 'acme' }));
    expect(await inbox.isOnline('anna')).toBe(true);
    expect(await inbox.isOnline('anna', { tenantId: 'other' })).toBe(false);
  }
  await one.broker.disconnect(stream);
  await until(async () => !(await two.inbox.isOnline('anna', { tenantId: 'acme' })));
  await until(async () => !(await two.inbox.isOnline('anna')));
});

test('streams that were there before the inbox count', async () => {
  const namespace = await sharedNamespace();
  const two = await nodeAt(sharedRedisPort, namespace);
  const broker = makeBroker();
  broker.connect({ sink: new MemorySink(), identity: { userId: 'early' } });
  const presence = new RedisPresence({ client: await connected(ioredis, sharedRedisPort), namespace });
  const inbox = new Inbox({ broker, store: new MemoryStore(), presence });
  onTestFinished(() => inbox.close());
  await until(() => two.inbox.isOnline('early'));
});

test('an inbox that is closed takes back what it said', async () => {
  const namespace = await sharedNamespace();
  const one = await nodeAt(sharedRedisPort, namespace);
  const two = await nodeAt(sharedRedisPort, namespace);
  for (let i = 0; i < 1_200; i++) one.connect(`user-${i}`);
  await until(() => two.inbox.isOnline('user-1199'));
  await one.inbox.close();
  for (const i of [0, 600, 1_199]) expect(await two.inbox.isOnline(`user-${i}`)).toBe(false);
});

test('what a node has said goes on for as long as it lives, and ends by itself when it is gone', async () => {
  const namespace = await sharedNamespace();
  const { client, close } = await ioredis.connect(sharedRedisPort);
  onTestFinished(close);
  const onlineTtl = 3_000;
  const two = await nodeAt(sharedRedisPort, namespace, { onlineTtl });
  const broker = makeBroker();
  const presence = new RedisPresence({ client, namespace, onlineTtl });
  const inbox = new Inbox({ broker, store: new MemoryStore(), presence });
  onTestFinished(() => inbox.close());
  for (let i = 0; i < 700; i++) broker.connect({ sink: new MemorySink(), identity: { userId: `user-${i}` } });
  await until(() => two.inbox.isOnline('user-699'));
  const since = performance.now();
  let refreshes = 0;
  await until(async () => {
    refreshes++;
    expect(await two.inbox.isOnline(`user-${(refreshes * 7) % 700}`)).toBe(true);
    return performance.now() - since > 1.5 * onlineTtl;
  });
  // As a process that dies: nothing is said any more.
  close();
  await until(async () => !(await two.inbox.isOnline('user-0')));
});

test('what Redis has forgotten is said again, and what was missed while it was away too', async () => {
  const server = await startRedis();
  const proxy = await startProxy(server.port);
  const namespace = newNamespace();
  const one = await nodeAt(proxy.port, namespace);
  const two = await nodeAt(server.port, namespace);
  one.connect('anna');
  await until(() => two.inbox.isOnline('anna'));
  await server.admin((redis) => redis.flushall());
  await until(() => two.inbox.isOnline('anna'));
  proxy.refuse();
  one.connect('ben');
  // What Redis cannot say, the broker does as far as it knows.
  expect(await one.inbox.isOnline('ben')).toBe(true);
  expect(await one.inbox.isOnline('carl')).toBe(false);
  expect(one.broker.reported.length).toBeGreaterThan(0);
  proxy.mend();
  await until(() => two.inbox.isOnline('ben'));
});

test('without presence it is what the broker knows', async () => {
  const broker = makeBroker();
  const inbox = new Inbox({ broker, store: new MemoryStore() });
  onTestFinished(() => inbox.close());
  expect(await inbox.isOnline('anna')).toBe(false);
  broker.connect({ sink: new MemorySink(), identity: { userId: 'anna', tenantId: 'acme' } });
  expect(await inbox.isOnline('anna', { tenantId: 'acme' })).toBe(true);
  expect(await inbox.isOnline('anna', { tenantId: 'other' })).toBe(false);
  await expect(inbox.isOnline('')).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_USER' });
});

test('options that make no sense are refused, and one presence is of one inbox', async () => {
  await needsSharedRedis();
  const client = await connected(ioredis, sharedRedisPort);
  expect(() => new RedisPresence({ client, onlineTtl: 1 })).toThrow(/onlineTtl must be/);
  expect(() => new RedisPresence({ client, ttl: 1 } as never)).toThrow(/unknown option "ttl" of RedisPresence/);
  const options = (presence: unknown) => ({
    broker: makeBroker(),
    store: new MemoryStore(),
    presence: presence as never,
  });
  expect(() => new Inbox(options({}))).toThrow(/presence must be/);
  const presence = new RedisPresence({ client, namespace: await sharedNamespace() });
  const inbox = new Inbox(options(presence));
  onTestFinished(() => inbox.close());
  const second = options(presence);
  expect(() => new Inbox(second)).toThrow(/belongs to one inbox/);
  // What was refused has left nothing behind.
  const third = new Inbox({ ...second, presence: undefined });
  onTestFinished(() => third.close());
});
