/**
 * An {@link InboxStore} that has unread counts in Redis, in front of any other store. Everything but the counts is passed on.
 *
 * A count from Redis is never from before a write that has resolved, on whichever node: see cache-writer.ts for how writes are
 * announced, and redis-cache-scripts.ts for when a count is believed. Whatever is wrong with Redis, the database answers.
 */
import { isSseError, type SseError } from '../core/errors.js';
import { checkOptionNames } from '../core/option-names.js';
import { CacheWriter } from './cache-writer.js';
import { type CacheLook, RedisCache } from './redis-cache.js';
import {
  checkDuration,
  REDIS_PLACE_DEFAULTS,
  RedisConnection,
  type RedisPlaceOptions,
  refuseOption,
} from './redis-connection.js';
import type {
  AdvanceRequest,
  Appended,
  BacklogCursor,
  DeviceMove,
  InboxStore,
  NewMessage,
  Reader,
  ReadSelection,
  Receiver,
  StoredMessage,
  Subscription,
} from './store.js';

/** Options of {@link CachedStore}. Durations are in milliseconds. */
export interface CachedStoreOptions extends RedisPlaceOptions {
  /** Where messages are. Every process that writes to its database must do so through a `CachedStore` of the same namespace. */
  readonly store: InboxStore;
  /**
   * How long a count is kept, in ms. Default 24 hours; 0: none is kept or asked for, and writes are announced all the same, which is
   * the first step where a running application gets a cache.
   */
  readonly unreadCacheTtl?: number | undefined;
  /**
   * How long a node may be out of touch with Redis, in ms, until the others stop using the cache because of it. As long it waits with
   * its next write, once, when Redis is gone. At most half of `writeLease`. Default 3 000.
   */
  readonly nodeLease?: number | undefined;
  /**
   * How long a write may still be carried out by the database after it failed here, or after its process died, in ms; so long what it
   * concerns is not cached. And nothing is after Redis started or was emptied. The same on all nodes. Default 30 000.
   */
  readonly writeLease?: number | undefined;
  /**
   * Silence in ms after which a node counts as dead, so that the others use the cache again. A node that is cut off from Redis for
   * longer, and not from the database, must not go on writing. The same on all nodes. Default 5 minutes.
   */
  readonly deadNodeAfter?: number | undefined;
  /** Told whenever this node loses Redis. It goes on without, and comes back by itself. */
  readonly onError?: ((error: SseError) => void) | undefined;
}

/** The defaults; docs/guides/inbox-cache.md lists them. */
export const CACHED_STORE_DEFAULTS = Object.freeze({
  ...REDIS_PLACE_DEFAULTS,
  unreadCacheTtl: 24 * 60 * 60_000,
  nodeLease: 3_000,
  writeLease: 30_000,
  deadNodeAfter: 5 * 60_000,
});

/** Figures of a {@link CachedStore}. */
export interface CachedStoreStats {
  /** Counts out of Redis. */
  readonly hits: number;
  /** Counts that the database gave, and that were offered to Redis. */
  readonly misses: number;
  /** Counts that the database gave because Redis was away, or something was being written. */
  readonly bypasses: number;
  /** Whether this node uses Redis now. */
  readonly isUp: boolean;
}

/** A count that depends on more names than this is not kept. */
const MAX_NAMES = 500;
/** What is deleted may be anybody's. */
const EVERYTHING = [''];

/**
 * Unread counts in Redis, for applications that ask for them often.
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`, naming the option, the value and what is allowed
 * @example
 * const store = new CachedStore({ store: new SqlStore({ dialect: 'postgres', pool }), client: new Redis() });
 * const inbox = new Inbox({ broker, store });
 */
export class CachedStore implements InboxStore {
  readonly name: string;
  readonly onEnqueued?: (callback: () => void) => Promise<() => Promise<void>>;
  readonly #store: InboxStore;
  readonly #cache: RedisCache;
  readonly #writer: CacheWriter;
  readonly #isReading: boolean;
  readonly #stats = { hits: 0, misses: 0, bypasses: 0 };
  #isRelayInDoubt = false;

  constructor(options: CachedStoreOptions) {
    const resolved = resolve(options);
    const { store, unreadCacheTtl, onError = () => {} } = resolved;
    this.#store = store;
    this.name = store.name;
    this.#cache = new RedisCache(new RedisConnection(resolved), resolved);
    this.#writer = new CacheWriter(this.#cache, { ...resolved, onError });
    this.#isReading = unreadCacheTtl > 0;
    if (store.onEnqueued !== undefined) this.onEnqueued = (callback) => store.onEnqueued!(callback);
  }

  /** How often Redis had the answer, on this node. */
  getStats(): CachedStoreStats {
    return { ...this.#stats, isUp: this.#writer.isUp };
  }

  async start(): Promise<void> {
    await this.#store.start();
    await this.#writer.open();
  }

  async append(messages: readonly NewMessage[], node: string): Promise<Appended[]> {
    if (messages.length === 0) return this.#store.append(messages, node);
    const names = namesOfAll(messages);
    return this.#write(
      names,
      () => this.#store.append(messages, node),
      (appended) => namesOfAll(messages.filter((_, index) => !appended[index]!.isDuplicate)),
    );
  }

  find(eventId: string): Promise<StoredMessage | undefined> {
    return this.#store.find(eventId);
  }

  head(): Promise<number> {
    return this.#store.head();
  }

  pending(request: { reader: Reader; after: number; limit: number; now: number }): Promise<StoredMessage[]> {
    return this.#store.pending(request);
  }

  backlog(request: {
    reader: Reader;
    from: number;
    through: number;
    after?: BacklogCursor | undefined;
    limit: number;
    now: number;
  }): Promise<StoredMessage[]> {
    return this.#store.backlog(request);
  }

  async unreadCount(reader: Reader, now: number): Promise<number> {
    const entry = JSON.stringify([reader.userId, ...reader.tenants]);
    const look = await this.#look(entry, namesOfReader(reader, []));
    if (look === undefined) return this.#countPast(reader, now);
    const isHit = look.versions === look.stored && now >= look.at && (look.until === 0 || now < look.until);
    if (isHit) {
      this.#stats.hits++;
      return look.count;
    }
    const exact = await this.#withGroups(entry, reader, look);
    if (exact === undefined) return this.#countPast(reader, now);
    const count = await this.#store.unreadCount(reader, now);
    const until = count === 0 ? 0 : await this.#store.nextExpiry(reader, now);
    this.#stats.misses++;
    // Not awaited: the count is right, whether it is kept or not.
    this.#cache.store(entry, { ...exact, count, at: now, until }).catch((error: unknown) => this.#writer.failed(error));
    return count;
  }

  nextExpiry(reader: Reader, now: number): Promise<number> {
    return this.#store.nextExpiry(reader, now);
  }

  markRead(reader: Reader, selection: ReadSelection, now: number): Promise<number> {
    const names = [nameOfUser(reader.userId)];
    return this.#write(
      names,
      () => this.#store.markRead(reader, selection, now),
      (count) => (count > 0 ? names : []),
    );
  }

  subscribe(
    userId: string,
    tenantId: string,
    group: string,
    eventTypes: readonly string[] | undefined,
    limit?: number,
  ): Promise<boolean> {
    const names = [nameOfUser(userId)];
    return this.#write(
      names,
      () => this.#store.subscribe(userId, tenantId, group, eventTypes, limit),
      () => names,
    );
  }

  unsubscribe(userId: string, tenantId: string, group: string): Promise<boolean> {
    const names = [nameOfUser(userId)];
    return this.#write(
      names,
      () => this.#store.unsubscribe(userId, tenantId, group),
      (was) => (was ? names : []),
    );
  }

  subscriptions(reader: Reader, group?: string): Promise<Subscription[]> {
    return this.#store.subscriptions(reader, group);
  }

  cursor(reader: Reader, device: string): Promise<number> {
    return this.#store.cursor(reader, device);
  }

  advance(moves: readonly DeviceMove[], request: AdvanceRequest): Promise<void> {
    return this.#store.advance(moves, request);
  }

  forgetDevices(request: { seenBefore: number; limit: number }): Promise<number> {
    return this.#store.forgetDevices(request);
  }

  renewNode(node: string, publishedThrough: number, leaseUntil: number): Promise<void> {
    return this.#store.renewNode(node, publishedThrough, leaseUntil);
  }

  /**
   * Every node asks this all the time, and whom it concerns is known only by its answer: so it is announced before it resolves,
   * not before it begins. Of a node that dies in between the lease runs out.
   */
  async relay(request: Parameters<InboxStore['relay']>[0]): Promise<StoredMessage[]> {
    let messages: StoredMessage[];
    try {
      messages = await this.#store.relay(request);
    } catch (error) {
      this.#isRelayInDoubt = true;
      throw error;
    }
    if (this.#isRelayInDoubt) {
      // An earlier one failed here, and may have been carried out or be so yet, for whomever.
      (await this.#writer.begin(EVERYTHING)).abandon();
      this.#isRelayInDoubt = false;
    }
    const names = namesOfAll(messages);
    if (names.length > 0) (await this.#writer.begin(names)).end(names);
    return messages;
  }

  relayed(node: string, positions: readonly number[]): Promise<void> {
    return this.#store.relayed(node, positions);
  }

  firstUnpublished(node: string): Promise<number> {
    return this.#store.firstUnpublished(node);
  }

  enqueue(tx: unknown, messages: readonly NewMessage[]): Promise<void> {
    return this.#store.enqueue(tx, messages);
  }

  /** What expired or was read counts for nobody; only what is old may have. */
  async cleanup(request: Parameters<InboxStore['cleanup']>[0]): Promise<number> {
    const { createdBefore, limit } = request;
    const deleted = await this.#store.cleanup({ ...request, createdBefore: 0 });
    if (createdBefore === 0 || deleted >= limit) return deleted;
    const old = await this.#write(
      EVERYTHING,
      () => this.#store.cleanup({ ...request, limit: limit - deleted }),
      (count) => (count > 0 ? EVERYTHING : []),
    );
    return deleted + old;
  }

  /** Gives up this node's lease, and closes the store behind it. The client stays open. */
  async close(): Promise<void> {
    await this.#writer.close();
    await this.#store.close();
  }

  async #write<T>(
    names: readonly string[],
    work: () => Promise<T>,
    changedBy: (result: T) => readonly string[],
  ): Promise<T> {
    const write = await this.#writer.begin(names);
    let result: T;
    try {
      result = await work();
    } catch (error) {
      // What refused it is done with it; what could not be reached may do it yet.
      if (isSseError(error) && error.code !== 'SSE_ERR_STORE_UNAVAILABLE') write.end(names);
      else write.abandon();
      throw error;
    }
    write.end(changedBy(result));
    return result;
  }

  async #look(entry: string, names: readonly string[], isExact?: boolean): Promise<CacheLook | undefined> {
    if (!this.#isReading || !this.#writer.isUp || names.length > MAX_NAMES) return undefined;
    try {
      return await this.#cache.look(entry, JSON.stringify(names), isExact);
    } catch (error) {
      this.#writer.failed(error);
      return undefined;
    }
  }

  /** With the versions of the groups that the reader is in, as of before the count; undefined where those may not be known. */
  async #withGroups(entry: string, reader: Reader, look: CacheLook): Promise<CacheLook | undefined> {
    // The versions of everything, and of the user: by these a change of subscriptions is known.
    const isKnown = look.stored !== '' && ownOf(look.stored) === ownOf(look.versions);
    if (isKnown) return look;
    const names = namesOfReader(reader, await this.#store.subscriptions(reader));
    if (JSON.stringify(names) === look.names) return look;
    const exact = await this.#look(entry, names, true);
    return exact !== undefined && ownOf(exact.versions) === ownOf(look.versions) ? exact : undefined;
  }

  #countPast(reader: Reader, now: number): Promise<number> {
    this.#stats.bypasses++;
    return this.#store.unreadCount(reader, now);
  }
}

const ownOf = (versions: string): string => versions.split(' ', 2).join(' ');

const nameOfUser = (userId: string): string => `u:${JSON.stringify(userId)}`;
const nameOfGroup = (tenantId: string, group: string): string => `g:${JSON.stringify([tenantId, group])}`;
const nameOfEverybody = (tenantId: string): string => `e:${JSON.stringify(tenantId)}`;

/** A user is one name in all tenants: what was sent without one, and was read, is so in each. */
function nameOf({ type, name, tenantId }: Receiver): string {
  if (type === 'user') return nameOfUser(name);
  return type === 'group' ? nameOfGroup(tenantId, name) : nameOfEverybody(tenantId);
}

function namesOfAll(messages: readonly { readonly receiver: Receiver }[]): string[] {
  return [...new Set(messages.map(({ receiver }) => nameOf(receiver)))];
}

/** What a count depends on: first everything, then the user. */
function namesOfReader({ userId, tenants }: Reader, subscriptions: readonly Subscription[]): string[] {
  const groups = new Set<string>();
  for (const { group } of subscriptions) {
    // A subscription of one tenant takes what was sent in the other, too.
    for (const tenantId of tenants) groups.add(nameOfGroup(tenantId, group));
  }
  return ['', nameOfUser(userId), ...tenants.map(nameOfEverybody), ...[...groups].sort()];
}

function resolve(options: CachedStoreOptions): CachedStoreOptions & typeof CACHED_STORE_DEFAULTS {
  checkOptionNames('CachedStore', options, ['store', 'client', 'onError', ...Object.keys(CACHED_STORE_DEFAULTS)]);
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const resolved = { ...CACHED_STORE_DEFAULTS, ...given } as CachedStoreOptions & typeof CACHED_STORE_DEFAULTS;
  const { store, unreadCacheTtl, nodeLease, writeLease, deadNodeAfter, onError } = resolved;
  if (typeof store?.append !== 'function' || typeof store.unreadCount !== 'function') {
    refuseOption('store', store, 'an InboxStore, such as a SqlStore');
  }
  if (onError !== undefined && typeof onError !== 'function') refuseOption('onError', onError, 'a function');
  checkDuration('unreadCacheTtl', unreadCacheTtl, 0);
  checkDuration('writeLease', writeLease, 100);
  checkDuration('nodeLease', nodeLease, 30);
  if (nodeLease > writeLease / 2) {
    refuseOption('nodeLease', nodeLease, `at most half of writeLease (${writeLease / 2})`);
  }
  checkDuration('deadNodeAfter', deadNodeAfter, nodeLease);
  return resolved;
}
