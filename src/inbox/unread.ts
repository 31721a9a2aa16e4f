/**
 * Keeps the counters of the pages right: for each user with a stream on this node, counts anew whenever something may have
 * changed, and tells the streams that have another number.
 *
 * Counting asks the store, after whatever has changed it: so numbers are never older than what they are about, in whatever
 * order changes are heard of. A user is counted once at a time, few users at once, and what happens in one turn once.
 */
import type { MailboxHost } from '../core/mailbox.js';
import { DueTimes } from './due-times.js';
import type { InboxStore, Reader, ReadSelection } from './store.js';

/** Users counted at once. */
const AT_ONCE = 8;
/** How often everybody is counted anew, whatever happened, in ms ± a quarter: what other nodes cleaned up is noticed then. */
const REFRESH_MS = 60_000;
/** By how much a clock must go back for that to make a difference, in ms. */
const SET_BACK_MS = 1_000;
/** Ids of read messages told in one event. */
const TOLD_IDS = 100;
/** What was read and waits for a count: while none succeeds the oldest goes, and pages have a list that is old. */
const MOST_READS = 100;

/** A stream that shows a counter. */
export interface Counted {
  /** Live: it can be told. */
  readonly isLive: boolean;
  /** What it was told last. */
  told: number | undefined;
  tell(data: string): void;
}

export interface CountedUser {
  readonly reader: Reader;
  readonly streams: Set<Counted>;
  /** Changed since the count that runs, or the last one. */
  isDirty: boolean;
  isCounting: boolean;
  /** When it is to be counted anew, whatever happens, in ms since 1970. */
  refreshAt: number;
  /** When its count may change by itself, in ms since 1970; Infinity for never, undefined where that must be asked. */
  expiresAt: number | undefined;
  /** What was read and is to be told. */
  reads: ReadSelection[];
}

export class UnreadCounters {
  readonly #store: InboxStore;
  readonly #host: MailboxHost;
  readonly #event: string | false;
  readonly #users = new Map<string, CountedUser>();
  /** By user id, of whichever tenant. */
  readonly #byName = new Map<string, Set<CountedUser>>();
  readonly #due = new DueTimes<CountedUser>();
  #dirty: CountedUser[] = [];
  #counting = 0;
  #isScheduled = false;
  #isClosed = false;
  #lastTick = 0;

  constructor(store: InboxStore, host: MailboxHost, event: string | false) {
    this.#store = store;
    this.#host = host;
    this.#event = event;
  }

  /** One more stream of a user. */
  add(reader: Reader, stream: Counted): CountedUser {
    const key = keyOf(reader);
    let user = this.#users.get(key);
    if (user === undefined) {
      const refreshAt = refreshAfter(this.#host.clock.now());
      const state = { isDirty: false, isCounting: false, refreshAt, expiresAt: undefined, reads: [] };
      user = { reader, streams: new Set(), ...state };
      this.#users.set(key, user);
      const named = this.#byName.get(reader.userId) ?? new Set();
      this.#byName.set(reader.userId, named.add(user));
    }
    user.streams.add(stream);
    this.#schedule(user);
    return user;
  }

  remove(user: CountedUser, stream: Counted): void {
    user.streams.delete(stream);
    if (user.streams.size > 0) return;
    this.#users.delete(keyOf(user.reader));
    this.#due.delete(user);
    const named = this.#byName.get(user.reader.userId);
    named?.delete(user);
    if (named?.size === 0) this.#byName.delete(user.reader.userId);
  }

  /** Readers on this node of that name: those in that tenant, or in any where it is ''. */
  of(userId: string, tenantId: string): CountedUser[] {
    const named = [...(this.#byName.get(userId) ?? [])];
    return tenantId === '' ? named : named.filter(({ reader }) => reader.tenants.includes(tenantId));
  }

  /** Its count may have changed. `read`: what was marked, for the pages. */
  changed(user: CountedUser, read?: ReadSelection): void {
    if (this.#event === false) return;
    if (read !== undefined) addRead(user.reads, read);
    if (user.isDirty) return;
    user.isDirty = true;
    this.#dirty.push(user);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#countSome());
  }

  /** Other messages count for it than before: when the first of them expires is asked anew. */
  recount(user: CountedUser): void {
    user.expiresAt = undefined;
    this.changed(user);
  }

  /** Its count changes at that time. */
  expires(user: CountedUser, time: number): void {
    if (user.expiresAt === undefined) return;
    user.expiresAt = Math.min(user.expiresAt, time);
    this.#schedule(user);
  }

  /** Everybody's count may have changed. */
  allChanged(): void {
    for (const user of this.#users.values()) this.changed(user);
  }

  /** Looks for what has expired, and for whom it is time to count anew. */
  tick(now: number): void {
    if (now < this.#lastTick - SET_BACK_MS) this.#rewind(now);
    this.#lastTick = now;
    for (const user of this.#due.take(now)) {
      this.#lookAtExpiry(user, now);
      if (now >= user.refreshAt) {
        user.refreshAt = refreshAfter(now);
        this.changed(user);
      }
      this.#schedule(user);
    }
  }

  /** The clock was set back: what was due soon by the old time would be due after all of that. */
  #rewind(now: number): void {
    for (const user of this.#users.values()) {
      user.refreshAt = refreshAfter(now);
      this.#schedule(user);
    }
  }

  #lookAtExpiry(user: CountedUser, now: number): void {
    if (user.expiresAt === undefined || user.expiresAt > now) return;
    user.expiresAt = undefined;
    this.changed(user);
  }

  /** Looks at it again when something of it is due, or before. */
  #schedule(user: CountedUser): void {
    if (this.#event === false || user.streams.size === 0) return;
    this.#due.set(user, Math.min(user.refreshAt, user.expiresAt ?? Number.POSITIVE_INFINITY));
  }

  close(): void {
    this.#isClosed = true;
    this.#dirty = [];
  }

  #countSome(): void {
    this.#isScheduled = false;
    while (this.#counting < AT_ONCE && this.#dirty.length > 0 && !this.#isClosed) {
      const user = this.#dirty.shift()!;
      // The one that counts it already looks again.
      if (!user.isCounting && user.streams.size > 0) void this.#count(user);
    }
  }

  async #count(user: CountedUser): Promise<void> {
    this.#counting++;
    user.isCounting = true;
    try {
      while (user.isDirty && user.streams.size > 0 && !this.#isClosed) {
        user.isDirty = false;
        const now = this.#host.clock.now();
        user.refreshAt = refreshAfter(now);
        if (user.expiresAt === undefined) {
          // What comes by from now on says itself when it expires.
          user.expiresAt = Number.POSITIVE_INFINITY;
          const first = await this.#store.nextExpiry(user.reader, now);
          // Undefined where it is to be asked once more.
          if (first > 0 && user.expiresAt !== undefined) user.expiresAt = Math.min(user.expiresAt, first);
        }
        const unread = await this.#store.unreadCount(user.reader, now);
        // A store may take longer than a message has left.
        this.#lookAtExpiry(user, this.#host.clock.now());
        this.#tell(user, unread);
      }
    } catch (error) {
      // The next change, or the refresh, tries again; where one came meanwhile, the next tick.
      if (user.isDirty) user.refreshAt = this.#host.clock.now();
      user.isDirty = false;
      user.expiresAt = undefined;
      if (!this.#isClosed) this.#host.report(error);
    } finally {
      this.#schedule(user);
      user.isCounting = false;
      this.#counting--;
      if (this.#dirty.length > 0 && !this.#isScheduled) {
        this.#isScheduled = true;
        // Not at once: a store of this process would count without end while sockets wait.
        setImmediate(() => this.#countSome());
      }
    }
  }

  #tell(user: CountedUser, unread: number): void {
    const { reads } = user;
    user.reads = [];
    const texts = reads.map((read) =>
      JSON.stringify({ unread, read: 'eventIds' in Object(read) ? idsOf(read) : read }),
    );
    const plain = JSON.stringify({ unread });
    for (const stream of user.streams) {
      if (!stream.isLive) continue;
      if (reads.length === 0 && stream.told === unread) continue;
      stream.told = unread;
      if (texts.length === 0) stream.tell(plain);
      else for (const text of texts) stream.tell(text);
    }
  }
}

const keyOf = ({ userId, tenants }: Reader): string => JSON.stringify([userId, ...tenants]);
/** Spread, so that users who came together are not counted together for ever. */
const refreshAfter = (now: number): number => now + REFRESH_MS * (0.75 + Math.random() / 2);
const idsOf = (read: ReadSelection): readonly string[] => (read as { eventIds: readonly string[] }).eventIds;

/** Ids that follow each other go into one event, as long as that stays short. */
function addRead(reads: ReadSelection[], read: ReadSelection): void {
  const last = reads.at(-1);
  if (read !== 'all' && 'eventIds' in read && last !== undefined && last !== 'all' && 'eventIds' in last) {
    if (last.eventIds.length + read.eventIds.length <= TOLD_IDS) {
      reads[reads.length - 1] = { eventIds: [...last.eventIds, ...read.eventIds] };
      return;
    }
  }
  reads.push(read);
  if (reads.length > MOST_READS) reads.shift();
}
