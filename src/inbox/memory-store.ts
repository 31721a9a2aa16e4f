/**
 * The reference {@link InboxStore}: what the contract says, in the plainest form, in the memory of one process. For
 * tests, for trying things out, and for applications that may lose their messages with the process.
 *
 * What it must never do: be clever. The other stores are compared with it. Counting walks what the reader may see.
 */
import { SseError, shown } from '../core/errors.js';
import { MemoryDevices } from './memory-devices.js';
import { MemoryTransaction } from './memory-transaction.js';
import { checkMessages, checkNames, checkSubscriptionLimit } from './message-check.js';
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

interface Entry {
  message: StoredMessage;
  /** Who will publish it. */
  node: string;
  /** Given out by `relay` to `node`, and not out yet. */
  isRelayed: boolean;
  /** When the user it is for read it, in ms since 1970; 0 for not, and for messages to many. */
  readAt: number;
  /** Who read it of those that a message to many is for. */
  readonly readers: Set<string>;
}

interface Node {
  publishedThrough: number;
  leaseUntil: number;
}

interface StoredSubscription extends Subscription {
  readonly userId: string;
}

/** Cursors moved in one turn. */
const MOVES = 250;

const key = (...parts: string[]): string => JSON.stringify(parts);
const boxOf = ({ type, name, tenantId }: Receiver): string => key(type, tenantId, name);

/** Keeps messages in this process; they end with it. */
export class MemoryStore implements InboxStore {
  readonly name = 'memory';
  #head = 0;
  /** By position, in its order. */
  readonly #entries = new Map<number, Entry>();
  readonly #byEventId = new Map<string, Entry>();
  readonly #byDedupKey = new Map<string, Entry>();
  /** The positions of a receiver's messages, in order. */
  readonly #boxes = new Map<string, Set<number>>();
  readonly #subscriptions = new Map<string, Map<string, StoredSubscription>>();
  readonly #devices = new MemoryDevices();
  readonly #nodes = new Map<string, Node>();
  readonly #transactions = new WeakSet<MemoryTransaction>();
  #outbox: NewMessage[] = [];
  readonly #listeners = new Set<() => void>();

  async start(): Promise<void> {}

  async append(messages: readonly NewMessage[], node: string): Promise<Appended[]> {
    checkMessages(messages);
    if (!this.#nodes.has(node)) this.#nodes.set(node, { publishedThrough: 0, leaseUntil: 0 });
    return messages.map((message) => {
      const known = this.#known(message);
      const { eventId, position } = known?.message ?? this.#insert(message, node).message;
      return { eventId, position, isDuplicate: known !== undefined };
    });
  }

  async find(eventId: string): Promise<StoredMessage | undefined> {
    return this.#byEventId.get(eventId)?.message;
  }

  async head(): Promise<number> {
    return this.#head;
  }

  async pending(request: { reader: Reader; after: number; limit: number; now: number }): Promise<StoredMessage[]> {
    const { reader, after, limit, now } = request;
    const unread = this.#unread(reader, now).filter(({ message }) => message.position > after);
    return unread.slice(0, limit).map(({ message }) => message);
  }

  async backlog(request: {
    reader: Reader;
    from: number;
    through: number;
    after?: BacklogCursor | undefined;
    limit: number;
    now: number;
  }): Promise<StoredMessage[]> {
    const { reader, from, through, after, limit, now } = request;
    return this.#unread(reader, now)
      .map(({ message }) => message)
      .filter(({ position }) => position > from && position <= through)
      .sort((a, b) => b.priority - a.priority || a.position - b.position)
      .filter(
        ({ priority, position }) =>
          after === undefined ||
          priority < after.priority ||
          (priority === after.priority && position > after.position),
      )
      .slice(0, limit);
  }

  async unreadCount(reader: Reader, now: number): Promise<number> {
    return this.#unread(reader, now).length;
  }

  async nextExpiry(reader: Reader, now: number): Promise<number> {
    const times = this.#unread(reader, now).map(({ message }) => message.expiresAt);
    return times.reduce((first, time) => (time > 0 && (first === 0 || time < first) ? time : first), 0);
  }

  async markRead(reader: Reader, selection: ReadSelection, now: number): Promise<number> {
    const unread = this.#unread(reader, now);
    const chosen = unread.filter(this.#chooser(reader, selection));
    for (const entry of chosen) {
      if (entry.message.receiver.type === 'user') entry.readAt = now;
      else entry.readers.add(reader.userId);
    }
    return chosen.length;
  }

  async subscribe(
    userId: string,
    tenantId: string,
    group: string,
    eventTypes: readonly string[] | undefined,
    limit = 0,
  ): Promise<boolean> {
    checkNames(userId, tenantId, group, ...(eventTypes ?? []));
    const own = this.#subscriptions.get(userId) ?? new Map<string, StoredSubscription>();
    const place = key(tenantId, group);
    const old = own.get(place);
    if (old === undefined) {
      const count = [...own.values()].filter((one) => one.tenantId === tenantId).length;
      checkSubscriptionLimit(count, limit);
    }
    this.#subscriptions.set(userId, own);
    const types = eventTypes === undefined ? undefined : [...new Set(eventTypes)];
    own.set(place, { userId, tenantId, group, eventTypes: types, since: old?.since ?? this.#head });
    return old === undefined;
  }

  async unsubscribe(userId: string, tenantId: string, group: string): Promise<boolean> {
    const own = this.#subscriptions.get(userId);
    const was = own?.delete(key(tenantId, group)) ?? false;
    if (own?.size === 0) this.#subscriptions.delete(userId);
    return was;
  }

  async subscriptions(reader: Reader, group?: string): Promise<Subscription[]> {
    return this.#subscriptionsOf(reader)
      .filter((one) => group === undefined || one.group === group)
      .map(({ userId: _, ...subscription }) => subscription)
      .sort((a, b) => order(a.tenantId, b.tenantId) || order(a.group, b.group));
  }

  async cursor(reader: Reader, device: string): Promise<number> {
    return this.#devices.cursor(reader, device);
  }

  async advance(moves: readonly DeviceMove[], request: AdvanceRequest): Promise<void> {
    const { now, maxDevices, delivered = [] } = request;
    for (const { device } of moves) checkNames(device);
    for (const position of delivered) this.#isSent(this.#entries.get(position), now);
    for (const [done, { reader, device, position, isListed }] of moves.entries()) {
      // Looking for the messages of very many takes its time: others have theirs in between.
      if (done > 0 && done % MOVES === 0) await new Promise((resolve) => setImmediate(resolve));
      if (isListed !== true) this.#markSent(reader, this.#devices.cursor(reader, device), position, now);
      this.#devices.move(reader, device, position, now, maxDevices);
    }
  }

  async forgetDevices({ seenBefore, limit }: { seenBefore: number; limit: number }): Promise<number> {
    return this.#devices.forget(seenBefore, limit);
  }

  async renewNode(node: string, publishedThrough: number, leaseUntil: number): Promise<void> {
    const known = this.#nodes.get(node);
    const through = Math.max(publishedThrough, known?.publishedThrough ?? 0);
    this.#nodes.set(node, { publishedThrough: through, leaseUntil });
    if (leaseUntil === 0) this.#forgetIfDone(node);
  }

  async relay(request: Parameters<InboxStore['relay']>[0]): Promise<StoredMessage[]> {
    const { node, limit, now, again = false } = request;
    const claimed = again ? [...this.#entries.values()].filter((entry) => entry.isRelayed && entry.node === node) : [];
    const taken = claimed.slice(0, limit).map(({ message }) => message);
    for (const [name, { leaseUntil }] of [...this.#nodes]) {
      if (name === node || leaseUntil > now) continue;
      for (const entry of this.#unpublished(name)) {
        if (taken.length === limit) break;
        entry.node = node;
        entry.isRelayed = true;
        taken.push(entry.message);
      }
      this.#forgetIfDone(name);
    }
    while (taken.length < limit && this.#outbox.length > 0) {
      const message = this.#outbox.shift()!;
      if (this.#known(message)) continue;
      const entry = this.#insert(message, node);
      entry.isRelayed = true;
      taken.push(entry.message);
    }
    if (taken.length > 0 && !this.#nodes.has(node)) this.#nodes.set(node, { publishedThrough: 0, leaseUntil: 0 });
    return taken;
  }

  async relayed(node: string, positions: readonly number[]): Promise<void> {
    for (const position of positions) {
      const entry = this.#entries.get(position);
      // From now on it is like one that a node appended and published: `node` is nobody's name.
      if (entry?.isRelayed && entry.node === node) entry.node = '';
    }
  }

  async firstUnpublished(node: string): Promise<number> {
    if (this.#nodes.size === 0 || (this.#nodes.size === 1 && this.#nodes.has(node))) return 0;
    for (const { message, node: of, isRelayed } of this.#entries.values()) {
      const through = this.#nodes.get(of)?.publishedThrough;
      // Entries are in the order of positions; one of nobody's name is out.
      if (of !== node && through !== undefined && (isRelayed || message.position > through)) return message.position;
    }
    return 0;
  }

  /** A transaction for {@link enqueue}. */
  begin(): MemoryTransaction {
    const transaction = new MemoryTransaction((messages) => {
      this.#outbox.push(...messages);
      if (messages.length > 0) for (const listener of [...this.#listeners]) listener();
    });
    this.#transactions.add(transaction);
    return transaction;
  }

  async enqueue(tx: unknown, messages: readonly NewMessage[]): Promise<void> {
    if (!(tx instanceof MemoryTransaction) || !this.#transactions.has(tx)) {
      throw new SseError('SSE_ERR_INVALID_OPTION', `tx must come from begin() of this store; got ${shown(tx)}`);
    }
    checkMessages(messages);
    tx.add(messages);
  }

  async onEnqueued(callback: () => void): Promise<() => Promise<void>> {
    const listener = (): void => callback();
    this.#listeners.add(listener);
    return async () => void this.#listeners.delete(listener);
  }

  async cleanup(request: { now: number; readBefore: number; createdBefore: number; limit: number }): Promise<number> {
    const { now, readBefore, createdBefore, limit } = request;
    let deleted = 0;
    for (const entry of this.#entries.values()) {
      if (deleted === limit) break;
      const isRead = entry.readAt > 0 && entry.readAt < readBefore;
      if (!isExpired(entry.message, now) && !isRead && entry.message.createdAt >= createdBefore) continue;
      this.#delete(entry);
      deleted++;
    }
    return deleted;
  }

  async close(): Promise<void> {
    this.#listeners.clear();
  }

  #known({ eventId, dedupKey, receiver }: NewMessage): Entry | undefined {
    const byKey = dedupKey === undefined ? undefined : this.#byDedupKey.get(key(receiver.tenantId, dedupKey));
    return this.#byEventId.get(eventId) ?? byKey;
  }

  #insert(message: NewMessage, node: string): Entry {
    const { eventId, receiver, event, data, json, priority, status, expiresAt, createdAt, dedupKey } = message;
    // Not by a spread, which takes longer than all else here.
    const stored: StoredMessage & { dedupKey?: string } = {
      eventId,
      receiver,
      event,
      data,
      json,
      priority,
      status,
      expiresAt,
      createdAt,
      position: ++this.#head,
    };
    if (dedupKey !== undefined) stored.dedupKey = dedupKey;
    Object.freeze(stored);
    const entry: Entry = { message: stored, node, isRelayed: false, readAt: 0, readers: new Set() };
    this.#entries.set(stored.position, entry);
    this.#byEventId.set(stored.eventId, entry);
    if (stored.dedupKey !== undefined) this.#byDedupKey.set(key(stored.receiver.tenantId, stored.dedupKey), entry);
    const place = boxOf(stored.receiver);
    const box = this.#boxes.get(place);
    if (box) box.add(stored.position);
    else this.#boxes.set(place, new Set([stored.position]));
    return entry;
  }

  #delete({ message }: Entry): void {
    this.#entries.delete(message.position);
    this.#byEventId.delete(message.eventId);
    if (message.dedupKey !== undefined) this.#byDedupKey.delete(key(message.receiver.tenantId, message.dedupKey));
    const place = boxOf(message.receiver);
    const box = this.#boxes.get(place);
    box?.delete(message.position);
    if (box?.size === 0) this.#boxes.delete(place);
  }

  #subscriptionsOf({ userId, tenants }: Reader): StoredSubscription[] {
    const own = this.#subscriptions.get(userId)?.values() ?? [];
    return [...own].filter(({ tenantId }) => tenants.includes(tenantId));
  }

  /** By position. */
  #unread(reader: Reader, now: number): Entry[] {
    const subscriptions = this.#subscriptionsOf(reader);
    const places = new Set<string>();
    for (const tenantId of reader.tenants) {
      places.add(boxOf({ type: 'user', name: reader.userId, tenantId }));
      places.add(boxOf({ type: 'everybody', name: '', tenantId }));
      for (const { group } of subscriptions) places.add(boxOf({ type: 'group', name: group, tenantId }));
    }
    const isTaken = ({ receiver, event, position }: StoredMessage): boolean =>
      receiver.type !== 'group' ||
      subscriptions.some(
        ({ group, eventTypes, since }) =>
          group === receiver.name && (eventTypes?.includes(event) ?? true) && position > since,
      );
    return [...places]
      .flatMap((place) => [...(this.#boxes.get(place) ?? [])])
      .map((position) => this.#entries.get(position)!)
      .filter(({ message, readAt, readers }) => readAt === 0 && !readers.has(reader.userId) && isTaken(message))
      .filter(({ message }) => !isExpired(message, now))
      .sort((a, b) => a.message.position - b.message.position);
  }

  #markSent({ userId, tenants }: Reader, after: number, through: number, now: number): void {
    for (const tenantId of tenants) {
      for (const position of this.#boxes.get(boxOf({ type: 'user', name: userId, tenantId })) ?? []) {
        if (position > after && position <= through) this.#isSent(this.#entries.get(position), now);
      }
    }
  }

  #isSent(entry: Entry | undefined, now: number): void {
    if (entry === undefined || entry.readAt > 0 || isExpired(entry.message, now)) return;
    if (entry.message.status === 'pending') entry.message = Object.freeze({ ...entry.message, status: 'sent' });
  }

  #chooser({ userId, tenants }: Reader, selection: ReadSelection): (entry: Entry) => boolean {
    if (selection === 'all') return () => true;
    if ('eventIds' in selection) {
      const ids = new Set(selection.eventIds);
      return ({ message }) => ids.has(message.eventId);
    }
    const last = this.#byEventId.get(selection.upTo)?.message;
    const isTheirs =
      last !== undefined &&
      tenants.includes(last.receiver.tenantId) &&
      (last.receiver.type !== 'user' || last.receiver.name === userId);
    return ({ message }) => isTheirs && message.position <= last.position;
  }

  #unpublished(node: string): Entry[] {
    const through = this.#nodes.get(node)?.publishedThrough ?? 0;
    return [...this.#entries.values()].filter(
      (entry) => entry.node === node && (entry.isRelayed || entry.message.position > through),
    );
  }

  #forgetIfDone(node: string): void {
    if (this.#unpublished(node).length === 0) this.#nodes.delete(node);
  }
}

function isExpired({ expiresAt }: StoredMessage, now: number): boolean {
  return expiresAt > 0 && expiresAt <= now;
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
