/** Cached stores as tests make them: in a namespace of their own, ready at once, and gone with the test. */
import { onTestFinished } from 'vitest';
import type { RedisClient } from '../../src/buses/redis-client.js';
import { CachedStore, type CachedStoreOptions } from '../../src/inbox/cached-store.js';
import { RedisCache } from '../../src/inbox/redis-cache.js';
import { RedisConnection } from '../../src/inbox/redis-connection.js';
import type { InboxStore, NewMessage, Reader, Receiver } from '../../src/inbox/store.js';
import { connected, newNamespace, redisLibraries, removeNamespace, type TestLibrary } from '../buses/redis-clients.js';
import { sharedRedisPort } from '../support/redis-server.js';
import { until } from '../support/until.js';

export const [ioredis, nodeRedis] = redisLibraries as [TestLibrary, TestLibrary];

/** Names a namespace of which Redis knows that nobody writes in it: a new one counts as being written for `writeLease`. */
export async function readyNamespace(client: RedisClient, namespace = newNamespace()): Promise<string> {
  const connection = new RedisConnection({ client, namespace });
  const cache = new RedisCache(connection, { unreadCacheTtl: 600_000, writeLease: 1, deadNodeAfter: 600_000 });
  await connection.whenReady();
  await until(() => cache.look('ready', '[""]'), 'the namespace to be ready');
  return namespace;
}

/** One that is removed from the shared Redis when the running test ends. */
export async function sharedNamespace(client: RedisClient): Promise<string> {
  const namespace = await readyNamespace(client);
  onTestFinished(() => removeNamespace(sharedRedisPort, namespace));
  return namespace;
}

/** A store of one node, started; closed when the running test ends. */
export async function cachedNode(options: CachedStoreOptions): Promise<CachedStore> {
  // No machine is so busy that it loses its lease by that.
  const store = new CachedStore({ commandTimeout: 10_000, nodeLease: 15_000, ...options });
  onTestFinished(() => store.close());
  await store.start();
  return store;
}

/** A started node with a client of its own. */
export async function nodeAt(
  port: number,
  namespace: string,
  store: InboxStore,
  { library = ioredis, ...options }: Partial<CachedStoreOptions> & { readonly library?: TestLibrary } = {},
): Promise<CachedStore> {
  return cachedNode({ client: await connected(library, port), namespace, store, ...options });
}

/** Until its count is one that Redis gives. */
export async function untilCached(node: CachedStore, reader: Reader, now: number): Promise<void> {
  await until(async () => {
    const { hits } = node.getStats();
    await node.unreadCount(reader, now);
    return node.getStats().hits > hits;
  }, 'a count out of Redis');
}

let messages = 0;

export function messageTo(receiver: Receiver, more: Partial<NewMessage> = {}): NewMessage {
  return {
    eventId: `c${++messages}`,
    receiver,
    event: 'note',
    data: '1',
    json: true,
    priority: 0,
    status: 'pending',
    expiresAt: 0,
    createdAt: 1_700_000_000_000,
    ...more,
  };
}
