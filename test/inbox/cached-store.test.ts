/** Counts out of Redis: that the database is not asked for them, and that no node gives one from before a write. */
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { CachedStore } from '../../src/inbox/cached-store.js';
import { Inbox } from '../../src/inbox/inbox.js';
import { MemoryStore } from '../../src/inbox/memory-store.js';
import type { InboxStore, Reader } from '../../src/inbox/store.js';
import { ANNA, ANNA_AT_ACME, BEN, NOW, toEverybody, toGroup, toUser } from '../../src/testing/store-case.js';
import { storeConformance } from '../../src/testing/store-conformance.js';
import { connected, newNamespace, redisLibraries, removeNamespace, type TestLibrary } from '../buses/redis-clients.js';
import { makeBroker } from '../support/broker.js';
import { needsSharedRedis, sharedRedisPort } from '../support/redis-server.js';
import { until } from '../support/until.js';
import { postgresDatabase } from './databases.js';
import { cachedNode, ioredis, messageTo, readyNamespace, sharedNamespace, untilCached } from './redis-caches.js';

/** Two nodes with one store behind them. */
async function twoNodes(library: TestLibrary = ioredis, store: InboxStore = new MemoryStore()) {
  await needsSharedRedis();
  const client = await connected(library, sharedRedisPort);
  const namespace = await sharedNamespace(client);
  const counts = vi.spyOn(store, 'unreadCount');
  const here = await cachedNode({ client, namespace, store });
  const there = await cachedNode({ client: await connected(library, sharedRedisPort), namespace, store });
  return { here, there, store, counts, client, namespace };
}

describe.each(redisLibraries.map((library) => [library.name, library] as const))('with %s', (_, library) => {
  test('a count that Redis has does not ask the database, on any node', async () => {
    const { here, there, counts } = await twoNodes(library);
    await here.append([messageTo(toUser('anna')), messageTo(toUser('anna'))], 'n');
    await untilCached(here, ANNA, NOW);
    counts.mockClear();
    for (const node of [here, there, there]) expect(await node.unreadCount(ANNA, NOW)).toBe(2);
    expect(counts).not.toHaveBeenCalled();
    expect(there.getStats()).toMatchObject({ hits: 2, misses: 0, isUp: true });
  });

  test('after a write on one node the other counts anew', async () => {
    const { here, there } = await twoNodes(library);
    const step = async (write: () => Promise<unknown>, expected: number, reader: Reader = ANNA): Promise<void> => {
      await untilCached(there, reader, NOW);
      await write();
      expect(await there.unreadCount(reader, NOW)).toBe(expected);
    };
    const mine = messageTo(toUser('anna'));
    await step(() => here.append([mine], 'n'), 1);
    await step(() => here.append([messageTo(toEverybody())], 'n'), 2);
    await step(() => here.subscribe('anna', '', 'team', undefined), 2);
    await step(() => here.append([messageTo(toGroup('team'))], 'n'), 3);
    await step(() => here.markRead(ANNA, { eventIds: [mine.eventId] }, NOW), 2);
    await step(() => here.append([messageTo(toGroup('team'))], 'n'), 3);
    await step(() => here.unsubscribe('anna', '', 'team'), 1);
    await step(() => here.append([messageTo(toEverybody('acme'))], 'n'), 2, ANNA_AT_ACME);
    await step(() => here.markRead(ANNA_AT_ACME, 'all', NOW), 0);
    await step(() => here.append([messageTo(toUser('anna'))], 'n'), 1, ANNA_AT_ACME);
    const request = { now: NOW, readBefore: 0, createdBefore: NOW + 1, limit: 100 };
    await step(() => here.cleanup(request), 0, ANNA_AT_ACME);
  });
});

test('what changes no count leaves it in Redis', async () => {
  const { here, there, counts } = await twoNodes();
  const first = messageTo(toUser('anna'), { dedupKey: 'once' });
  const old = messageTo(toUser('ben'), { expiresAt: NOW - 1 });
  await here.append([first, old], 'n');
  await untilCached(there, ANNA, NOW);
  const { misses } = there.getStats();
  await here.append([messageTo(toUser('anna'), { dedupKey: 'once' })], 'n');
  await here.append([messageTo(toUser('ben'))], 'n');
  await here.markRead(ANNA, { eventIds: ['unknown'] }, NOW);
  await here.unsubscribe('anna', '', 'nothing');
  await here.relay({ node: 'n', limit: 10, now: NOW });
  expect(await here.cleanup({ now: NOW, readBefore: 1, createdBefore: 1, limit: 10 })).toBe(1);
  // What was announced and came to nothing is taken back behind the answers to these.
  const { hits } = there.getStats();
  await until(async () => (await there.unreadCount(ANNA, NOW)) === 1 && there.getStats().hits > hits);
  counts.mockClear();
  expect(await there.unreadCount(ANNA, NOW)).toBe(1);
  expect(counts).not.toHaveBeenCalled();
  expect(there.getStats().misses).toBe(misses);
});

test('a count holds until a message expires, and not for a time before it was taken', async () => {
  const { here, there, counts } = await twoNodes();
  await here.append([messageTo(toUser('anna'), { expiresAt: NOW + 50 }), messageTo(toUser('anna'))], 'n');
  await untilCached(here, ANNA, NOW + 10);
  counts.mockClear();
  expect(await there.unreadCount(ANNA, NOW + 49)).toBe(2);
  expect(counts).not.toHaveBeenCalled();
  expect(await there.unreadCount(ANNA, NOW + 9)).toBe(2);
  expect(counts).toHaveBeenCalledTimes(1);
  expect(await there.unreadCount(ANNA, NOW + 50)).toBe(1);
});

test('messages that were enqueued count from when they are relayed', async () => {
  const store = new MemoryStore();
  const { here, there } = await twoNodes(ioredis, store);
  await untilCached(there, ANNA, NOW);
  const tx = store.begin();
  await here.enqueue(tx, [messageTo(toUser('anna')), messageTo(toEverybody())]);
  tx.commit();
  expect(await there.unreadCount(ANNA, NOW)).toBe(0);
  expect(await here.relay({ node: 'n', limit: 10, now: NOW })).toHaveLength(2);
  expect(await there.unreadCount(ANNA, NOW)).toBe(2);
});

test('a relay that failed here and was carried out is noticed with the next', async () => {
  const store = new MemoryStore();
  const { here, there } = await twoNodes(ioredis, store);
  await untilCached(there, ANNA, NOW);
  const tx = store.begin();
  await here.enqueue(tx, [messageTo(toUser('anna'))]);
  tx.commit();
  const relay = store.relay.bind(store);
  vi.spyOn(store, 'relay').mockImplementationOnce(async (...args) => {
    await relay(...args);
    throw new Error('connection lost');
  });
  const request = { node: 'n', limit: 10, now: NOW };
  await expect(here.relay(request)).rejects.toThrow('connection lost');
  expect(await here.relay(request)).toEqual([]);
  expect(await there.unreadCount(ANNA, NOW)).toBe(1);
});

test('while a write is under way no count is kept, and none from before it is given out', async () => {
  const store = new MemoryStore();
  const { here, there, counts } = await twoNodes(ioredis, store);
  await untilCached(there, ANNA, NOW);
  let commit!: () => void;
  const committed = new Promise<void>((resolve) => {
    commit = resolve;
  });
  const append = store.append.bind(store);
  const slow = vi.spyOn(store, 'append').mockImplementationOnce(async (...args) => {
    await committed;
    return append(...args);
  });
  const sent = here.append([messageTo(toUser('anna'))], 'n');
  await until(() => slow.mock.calls.length === 1);
  counts.mockClear();
  for (let i = 1; i <= 3; i++) {
    expect(await there.unreadCount(ANNA, NOW)).toBe(0);
    expect(counts).toHaveBeenCalledTimes(i);
  }
  // Others are not concerned.
  await untilCached(there, BEN, NOW);
  commit();
  await sent;
  expect(await there.unreadCount(ANNA, NOW)).toBe(1);
  await untilCached(there, ANNA, NOW);
});

test('a count that was taken while something was written is not kept', async () => {
  const store = new MemoryStore();
  const { here, there } = await twoNodes(ioredis, store);
  const count = store.unreadCount.bind(store);
  // Taken before the write, and answered after it.
  vi.spyOn(store, 'unreadCount').mockImplementationOnce(async (...args) => {
    const before = await count(...args);
    await here.append([messageTo(toUser('anna'))], 'n');
    return before;
  });
  expect(await there.unreadCount(ANNA, NOW)).toBe(0);
  await untilCached(there, ANNA, NOW);
  expect(await there.unreadCount(ANNA, NOW)).toBe(1);
});

test('a subscription that is made while a count is taken is not missing from it later', async () => {
  const store = new MemoryStore();
  const { here, there } = await twoNodes(ioredis, store);
  await here.subscribe('anna', '', 'one', undefined);
  const subscriptions = store.subscriptions.bind(store);
  vi.spyOn(store, 'subscriptions').mockImplementationOnce(async (...args) => {
    const before = await subscriptions(...args);
    await here.subscribe('anna', '', 'two', undefined);
    return before;
  });
  await there.unreadCount(ANNA, NOW);
  await untilCached(there, ANNA, NOW);
  await here.append([messageTo(toGroup('two'))], 'n');
  expect(await there.unreadCount(ANNA, NOW)).toBe(1);
});

test('names of every kind are kept apart', async () => {
  const { here, there } = await twoNodes();
  const names = ['a', '["a"]', 'a"', 'a\\', 'ä', 'a\u0000', '\u{1F600}', 'x'.repeat(200)];
  for (const [index, userId] of names.entries()) {
    await here.append(
      Array.from({ length: index + 1 }, () => messageTo(toUser(userId))),
      'n',
    );
  }
  for (const [index, userId] of names.entries()) {
    const reader = { userId, tenants: [''] };
    await untilCached(there, reader, NOW);
    expect(await there.unreadCount(reader, NOW)).toBe(index + 1);
  }
});

test('a store that failed may still write, so nothing of it is kept until it cannot any more', async () => {
  const store = new MemoryStore();
  const { there, client, namespace } = await twoNodes(ioredis, store);
  const here = await cachedNode({ client, namespace, store, writeLease: 400, nodeLease: 150 });
  await untilCached(there, ANNA, NOW);
  const append = store.append.bind(store);
  vi.spyOn(store, 'append').mockRejectedValueOnce(new Error('connection lost'));
  const message = messageTo(toUser('anna'));
  await expect(here.append([message], 'n')).rejects.toThrow('connection lost');
  const { hits } = there.getStats();
  expect(await there.unreadCount(ANNA, NOW)).toBe(0);
  expect(there.getStats().hits).toBe(hits);
  // The database did it after all.
  await append([message], 'n');
  await until(async () => (await there.unreadCount(ANNA, NOW)) === 1);
  await untilCached(there, ANNA, NOW);
  expect(await there.unreadCount(ANNA, NOW)).toBe(1);
});

test('with unreadCacheTtl 0 writes are announced, and every count is the database’s', async () => {
  const { there, client, namespace, store, counts } = await twoNodes();
  const first = await cachedNode({ client, namespace, store, unreadCacheTtl: 0 });
  await untilCached(there, ANNA, NOW);
  await first.append([messageTo(toUser('anna'))], 'n');
  expect(await there.unreadCount(ANNA, NOW)).toBe(1);
  await untilCached(there, ANNA, NOW);
  counts.mockClear();
  for (let i = 0; i < 3; i++) expect(await first.unreadCount(ANNA, NOW)).toBe(1);
  expect(counts).toHaveBeenCalledTimes(3);
});

test('a store that is closed takes no writes, and leaves the others their cache', async () => {
  const { here, there, client, namespace, store } = await twoNodes();
  await here.append([messageTo(toUser('anna'))], 'n');
  await here.close();
  await here.close();
  await expect(here.append([messageTo(toUser('anna'))], 'n')).rejects.toMatchObject({ code: 'SSE_ERR_BROKER_CLOSED' });
  await untilCached(there, ANNA, NOW);
  expect(await there.unreadCount(ANNA, NOW)).toBe(1);
  const never = new CachedStore({ client, namespace, store });
  await never.close();
  await expect(never.append([messageTo(toUser('anna'))], 'n')).rejects.toMatchObject({ code: 'SSE_ERR_BROKER_CLOSED' });
  expect(never.getStats().isUp).toBe(false);
});

test('an inbox over it tells counts, and relays what was enqueued, as over the store itself', async () => {
  const store = new MemoryStore();
  const { here, there } = await twoNodes(ioredis, store);
  const broker = makeBroker();
  const inbox = new Inbox({ broker, store: here, relayInterval: 20 });
  onTestFinished(() => inbox.close());
  const tx = store.begin();
  await inbox.start();
  await inbox.enqueue(tx, { userId: 'anna' }, 'note', 1);
  tx.commit();
  const ids = await Promise.all([1, 2, 3].map((data) => inbox.sendToUser('anna', 'note', data)));
  await until(async () => (await inbox.unreadCount('anna')) === 4);
  expect(await there.unreadCount(ANNA, Date.now())).toBe(4);
  await inbox.markRead('anna', ids);
  expect(await there.unreadCount(ANNA, Date.now())).toBe(1);
  await until(async () => (await inbox.unreadCount('anna')) === 1 && here.getStats().hits > 0);
  expect(broker.reported).toEqual([]);
});

test('options that make no sense are refused', async () => {
  await needsSharedRedis();
  const client = await connected(ioredis, sharedRedisPort);
  const store = new MemoryStore();
  const wrong: [object, RegExp][] = [
    [{ store }, /client must be/],
    [{ client }, /store must be/],
    [{ client, store, namespace: 'a b' }, /namespace must be/],
    [{ client, store, keyPrefix: '{' }, /keyPrefix must be/],
    [{ client, store, unreadCacheTtl: -1 }, /unreadCacheTtl must be/],
    [{ client, store, nodeLease: 20_000 }, /at most half of writeLease/],
    [{ client, store, deadNodeAfter: 10 }, /deadNodeAfter must be/],
    [{ client, store, onError: 1 }, /onError must be/],
    [{ client, store, ttl: 1 }, /unknown option "ttl" of CachedStore/],
  ];
  for (const [options, expected] of wrong) expect(() => new CachedStore(options as never)).toThrow(expected);
});

const stores = {
  memory: async () => {
    const store = new MemoryStore();
    const transaction = async (work: (tx: unknown) => Promise<void>): Promise<void> => {
      const tx = store.begin();
      try {
        await work(tx);
      } catch (error) {
        tx.rollback();
        throw error;
      }
      tx.commit();
    };
    return { make: () => store, transaction, dispose: async () => {} };
  },
  PostgreSQL: async () => {
    const database = await postgresDatabase();
    return { make: () => database.store(), transaction: database.transaction, dispose: database.dispose };
  },
};

// All of them at the end: looking for keys takes a Redis that others use a while.
const conformanceNamespace = newNamespace();
let conformanceCases = 0;
afterAll(async () => {
  if (conformanceCases > 0) await removeNamespace(sharedRedisPort, `${conformanceNamespace}-*`);
});

describe.each(Object.entries(stores))('a cached store over %s does what every store must', (name, open) => {
  const cases = storeConformance({
    shared: name !== 'memory',
    transactions: true,
    create: async () => {
      await needsSharedRedis();
      const client = await connected(ioredis, sharedRedisPort);
      const namespace = await readyNamespace(client, `${conformanceNamespace}-${++conformanceCases}`);
      const { make, transaction, dispose } = await open();
      const another = (): CachedStore => new CachedStore({ client, namespace, store: make() });
      return { store: another(), another, transaction, dispose };
    },
  });
  for (const { name: what, run } of cases) test(what, run);
});
