/**
 * Cached counts while Redis fails, comes back with less than it had, or is out of reach of one node: writes and counts go on,
 * and no node gives a count from before a write that has resolved.
 */
import { Redis } from 'ioredis';
import { expect, onTestFinished, test, vi } from 'vitest';
import { CachedStore } from '../../src/inbox/cached-store.js';
import { MemoryStore } from '../../src/inbox/memory-store.js';
import { RedisPresence } from '../../src/inbox/redis-presence.js';
import { ANNA, NOW, toUser } from '../../src/testing/store-case.js';
import { connected, newNamespace, redisLibraries } from '../buses/redis-clients.js';
import { startProxy, startRedis } from '../buses/redis-nodes.js';
import { needsRedisServer, RedisCluster, type RedisServerOptions } from '../support/redis-server.js';
import { until } from '../support/until.js';
import { cachedNode, ioredis, messageTo, nodeAt, readyNamespace, untilCached } from './redis-caches.js';

const LEASES = { nodeLease: 400, writeLease: 1_000, commandTimeout: 300 };

/** Two nodes over one store; the first reaches Redis through a proxy. */
async function twoNodes(options?: RedisServerOptions, library = ioredis) {
  const server = await startRedis(options);
  const proxy = await startProxy(server.port);
  const namespace = newNamespace();
  await readyNamespace(await connected(ioredis, server.port), namespace);
  const store = new MemoryStore();
  const here = await nodeAt(proxy.port, namespace, store, { ...LEASES, library });
  const there = await nodeAt(server.port, namespace, store, { ...LEASES, library });
  const send = (node: CachedStore) => node.append([messageTo(toUser('anna'))], 'n');
  const count = (node: CachedStore) => node.unreadCount(ANNA, NOW);
  const whenCached = (node: CachedStore) => untilCached(node, ANNA, NOW);
  return { server, proxy, namespace, store, here, there, send, count, whenCached };
}

test.each(redisLibraries.map((library) => [library.name, library] as const))(
  'what a node writes that is cut off from Redis is counted by the others at once (%s)',
  async (_, library) => {
    const { proxy, here, there, send, count, whenCached } = await twoNodes(undefined, library);
    await send(here);
    await whenCached(there);
    proxy.refuse();
    for (let sent = 2; sent <= 5; sent++) {
      await send(here);
      expect(await count(there)).toBe(sent);
      expect(await count(here)).toBe(sent);
    }
    expect(here.getStats().isUp).toBe(false);
    proxy.mend();
    await until(() => here.getStats().isUp);
    expect(await count(there)).toBe(5);
    await whenCached(there);
    await whenCached(here);
    await send(here);
    expect(await count(there)).toBe(6);
  },
);

test('a node whose connection goes silent waits until no other one trusts the cache', async () => {
  const { proxy, here, there, send, count, whenCached } = await twoNodes();
  await whenCached(there);
  proxy.stall();
  await send(here);
  expect(await count(there)).toBe(1);
  proxy.mend();
  await until(() => here.getStats().isUp);
  await whenCached(there);
  expect(await count(there)).toBe(1);
  await send(here);
  expect(await count(there)).toBe(2);
});

test('a write that began before the node was back is not missed by the others', async () => {
  const { proxy, store, here, there, send, count, whenCached } = await twoNodes();
  await whenCached(there);
  proxy.refuse();
  await send(here);
  let commit!: () => void;
  const committed = new Promise<void>((resolve) => {
    commit = resolve;
  });
  const append = store.append.bind(store);
  const slow = vi.spyOn(store, 'append').mockImplementationOnce(async (...args) => {
    await committed;
    return append(...args);
  });
  const sent = send(here);
  await until(() => slow.mock.calls.length === 1);
  proxy.mend();
  await until(() => here.getStats().isUp);
  const { hits } = there.getStats();
  // Longer than a write is believed to take: the node says again and again that it does.
  const begun = performance.now();
  await until(async () => (await count(there)) === 1 && performance.now() - begun > 1.5 * LEASES.writeLease);
  expect(there.getStats().hits).toBe(hits);
  commit();
  await sent;
  expect(await count(there)).toBe(2);
  await whenCached(there);
  expect(await count(there)).toBe(2);
});

test('without Redis everything is answered by the database, and the cache is used when it is back', async () => {
  const { server, here, there, send, count, whenCached } = await twoNodes();
  await whenCached(there);
  await server.kill();
  await send(here);
  expect([await count(here), await count(there)]).toEqual([1, 1]);
  await Promise.all([send(here), send(there), send(here)]);
  expect([await count(here), await count(there)]).toEqual([4, 4]);
  await server.start();
  await until(() => here.getStats().isUp && there.getStats().isUp);
  await Promise.all([whenCached(here), whenCached(there)]);
  await send(here);
  expect([await count(here), await count(there)]).toEqual([5, 5]);
});

test('a Redis that stands still holds up neither sends nor counts for long', async () => {
  const { server, here, there, send, count, whenCached } = await twoNodes();
  await whenCached(there);
  server.freeze();
  onTestFinished(() => server.thaw());
  await send(here);
  expect([await count(here), await count(there)]).toEqual([1, 1]);
  server.thaw();
  await until(() => here.getStats().isUp && there.getStats().isUp);
  await whenCached(there);
  expect(await count(there)).toBe(1);
});

test('CLIENT PAUSE is a Redis that stands still', async () => {
  const { server, here, there, send, count, whenCached } = await twoNodes();
  await whenCached(there);
  await server.admin((redis) => redis.call('CLIENT', 'PAUSE', '1500', 'ALL'));
  for (let sent = 1; sent <= 5; sent++) {
    await send(here);
    expect(await count(there)).toBe(sent);
  }
  await until(() => here.getStats().isUp && there.getStats().isUp);
  await whenCached(there);
  expect(await count(there)).toBe(5);
});

test('FLUSHALL while a write is under way lets no count from before it be kept', async () => {
  const { server, store, here, there, send, count, whenCached } = await twoNodes();
  await whenCached(there);
  const append = store.append.bind(store);
  vi.spyOn(store, 'append').mockImplementationOnce(async (...args) => {
    await server.admin((redis) => redis.flushall());
    // Taken before the commit, and offered to a Redis that knows of no write.
    await count(there);
    await count(there);
    return append(...args);
  });
  await send(here);
  expect(await count(there)).toBe(1);
  await whenCached(there);
  expect(await count(there)).toBe(1);
});

test('versions that were evicted never make an old count good again', async () => {
  const { server, here, there, send, count, whenCached } = await twoNodes();
  for (const pattern of ['*:u:*', '*:e:*', '*}', '*:nodes', '*:c:*']) {
    await send(here);
    await whenCached(there);
    const expected = await count(there);
    await server.admin(async (redis) => {
      const found = (await redis.keys(pattern)).filter((key) => !pattern.endsWith('}') || key.endsWith('}'));
      expect(found.length).toBeGreaterThan(0);
      await redis.del(...found);
    });
    await send(here);
    expect(await count(there)).toBe(expected + 1);
    await whenCached(there);
    expect(await count(there)).toBe(expected + 1);
  }
});

test('a Redis that comes back with what it had long before does not give that out', async () => {
  const { server, here, there, send, count, whenCached } = await twoNodes();
  await send(here);
  await whenCached(there);
  await server.admin((redis) => redis.save());
  await send(here);
  expect(await count(there)).toBe(2);
  await server.kill();
  await server.start();
  // The count 1 is in it, with versions that are there too.
  await until(() => there.getStats().isUp);
  expect(await count(there)).toBe(2);
  await whenCached(there);
  expect(await count(there)).toBe(2);
});

test('a node that dies in the middle of a write leaves no wrong count behind', async () => {
  const { server, namespace, store, there, count, whenCached } = await twoNodes();
  const { client, close } = await ioredis.connect(server.port);
  onTestFinished(close);
  const dying = new CachedStore({ client, namespace, store, ...LEASES, deadNodeAfter: 2_000 });
  await dying.start();
  const append = store.append.bind(store);
  let commit!: () => unknown;
  const never = new Promise<never>(() => {});
  const slow = vi.spyOn(store, 'append').mockImplementationOnce((...args) => {
    commit = () => append(...args);
    return never;
  });
  await whenCached(there);
  void dying.append([messageTo(toUser('anna'))], 'n');
  await until(() => slow.mock.calls.length === 1);
  close();
  expect(await count(there)).toBe(0);
  // The database finishes what the process had asked for.
  await commit();
  expect(await count(there)).toBe(1);
  const patient = await nodeAt(server.port, namespace, store, { ...LEASES, deadNodeAfter: 2_000 });
  await whenCached(patient);
  expect(await count(patient)).toBe(1);
  await whenCached(there);
  expect(await count(there)).toBe(1);
});

test.each(redisLibraries.map((library) => [library.name, library] as const))(
  'counts and presence are in a cluster as in one server (%s)',
  async (_, library) => {
    needsRedisServer();
    const cluster = await RedisCluster.start();
    onTestFinished(() => cluster.close());
    const store = new MemoryStore();
    for (const namespace of ['one', 'two', 'three', 'four']) {
      const { client, close } = await library.connectCluster(cluster.ports);
      onTestFinished(close);
      await readyNamespace(client, namespace);
      const here = await cachedNode({ client, namespace, store, ...LEASES, commandTimeout: 5_000 });
      await untilCached(here, ANNA, NOW);
      const before = await here.unreadCount(ANNA, NOW);
      await here.append([messageTo(toUser('anna'))], 'n');
      expect(await here.unreadCount(ANNA, NOW)).toBe(before + 1);
      const presence = new RedisPresence({ client, namespace });
      const other = new RedisPresence({ client, namespace });
      const source = {
        nodeId: 'n',
        getClients: () => [{ id: '1', userId: 'anna', tenantId: undefined }],
        on() {},
        off() {},
      };
      const leave = presence.attach(source, (error) => expect.unreachable(String(error)));
      await until(() => other.isOnline('anna', undefined));
      await leave();
      expect(await other.isOnline('anna', undefined)).toBe(false);
    }
  },
);

test('a prefix that the client puts before every key does no harm', async () => {
  const server = await startRedis();
  const client = new Redis(server.port, '127.0.0.1', { keyPrefix: 'app:' });
  onTestFinished(() => client.disconnect());
  const namespace = await readyNamespace(client);
  const here = await cachedNode({ client, namespace, store: new MemoryStore() });
  await here.append([messageTo(toUser('anna'))], 'n');
  await untilCached(here, ANNA, NOW);
  expect(await here.unreadCount(ANNA, NOW)).toBe(1);
  const keys = await server.admin((redis) => redis.keys('*'));
  expect(keys.filter((key) => !key.startsWith(`app:sse:inbox:{${namespace}}`))).toEqual([]);
});

test('a user who may not run INFO does without', async () => {
  const server = await startRedis({
    config: ['user cache on >secret ~sse:* +@all -info -@admin', 'user default on nopass ~* &* +@all'],
  });
  const { client, close } = await ioredis.connect(server.port, { username: 'cache', password: 'secret' });
  onTestFinished(close);
  const namespace = await readyNamespace(client);
  const here = await cachedNode({ client, namespace, store: new MemoryStore() });
  await here.append([messageTo(toUser('anna'))], 'n');
  await untilCached(here, ANNA, NOW);
  expect(await here.unreadCount(ANNA, NOW)).toBe(1);
});

test('a node that starts while Redis is away uses it when it is there', async () => {
  const server = await startRedis();
  const namespace = newNamespace();
  await readyNamespace(await connected(ioredis, server.port), namespace);
  const { client, close } = await ioredis.connect(server.port);
  onTestFinished(close);
  await server.kill();
  const errors: string[] = [];
  const onError = ({ code }: { code: string }) => {
    errors.push(code);
    throw new Error('a bad listener');
  };
  const store = new CachedStore({ client, namespace, store: new MemoryStore(), ...LEASES, onError });
  onTestFinished(() => store.close());
  await store.start();
  expect(errors).toEqual(['SSE_ERR_STORE_UNAVAILABLE']);
  await store.append([messageTo(toUser('anna'))], 'n');
  expect(await store.unreadCount(ANNA, NOW)).toBe(1);
  await server.start();
  await until(() => store.getStats().isUp);
  await untilCached(store, ANNA, NOW);
  expect(await store.unreadCount(ANNA, NOW)).toBe(1);
});
