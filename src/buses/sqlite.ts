/**
 * The entry `sse-broker/sqlite`: a bus of one process whose history lies in an SQLite file, so that clients resume over a
 * restart, a deploy or a kill -9.
 *
 * - What is published in one turn is one transaction. An event is delivered after its commit, never before: a client must
 *   not have a cursor that is ahead of the history.
 * - All sequences are also in memory, so that retention, gaps and the order of a page are numbers (sqlite-retention.ts); of
 *   the events themselves only a cache is.
 * - An id says in which run of the bus its event was published (sqlite-ids.ts).
 */
import type { Bus, BusReceiver, BusStatus, Head, ReadRequest, ReadResult } from '../core/bus.js';
import type { Clock } from '../core/clock.js';
import { SseError } from '../core/errors.js';
import { type BusEvent, marked, type OutgoingEvent } from '../core/event.js';
import { EventCache } from '../core/event-cache.js';
import { isLiveOnly } from '../core/topic.js';
import {
  findDriver,
  isBusy,
  isFull,
  messageOf,
  rollBack,
  type SqliteDatabase,
  type SqliteStatement,
} from './sqlite-driver.js';
import { closeFile, openFile, type SqliteSynchronous } from './sqlite-file.js';
import { SqliteIds } from './sqlite-ids.js';
import {
  type ResolvedSqliteBusOptions,
  resolveSqliteOptions,
  SQLITE_BUS_DEFAULTS,
  type SqliteBusOptions,
} from './sqlite-options.js';
import { SqliteRetention } from './sqlite-retention.js';
import { createTables, hasTables, randomToken } from './sqlite-schema.js';
import { SqliteStore, TakenOver } from './sqlite-store.js';

export type { SqliteBusOptions, SqliteDatabase, SqliteStatement, SqliteSynchronous };
export { SQLITE_BUS_DEFAULTS };

/** What an event costs besides its text. */
const EVENT_OVERHEAD = 64;
/** Events and bytes of text of one transaction; what is more goes into the next turn, so that sockets get theirs. */
const TRANSACTION_EVENTS = 1_024;
const TRANSACTION_BYTES = 1024 * 1024;
/** How often a bus that is down looks whether it can write again. */
const PROBE_EVERY_MS = 1_000;

/** Before it has started. */
const NOTHING_KEPT = { historyKeys: 0, historyEvents: 0, historyBytes: 0, cleaningEvents: 0 };

interface Publication {
  readonly event: OutgoingEvent;
  readonly resolve: (id: string) => void;
  readonly reject: (error: SseError) => void;
}

/** A bus of one process with its history in an SQLite file. */
export class SqliteBus implements Bus {
  readonly name = 'sqlite';
  readonly #options: ResolvedSqliteBusOptions;
  readonly #clock: Clock;
  readonly #cache: EventCache;
  #receiver: BusReceiver | undefined = undefined;
  #starting: Promise<void> | undefined = undefined;
  #closing: Promise<void> | undefined = undefined;
  #db: SqliteDatabase | undefined = undefined;
  #store: SqliteStore | undefined = undefined;
  #ids = new SqliteIds('', []);
  #retention: SqliteRetention | undefined = undefined;
  #sequence = 0;
  #pending: Publication[] = [];
  #flushing: NodeJS.Immediate | undefined = undefined;
  #down: string | undefined = 'not started';
  #isTakenOver = false;
  #stopProbing: (() => void) | undefined = undefined;

  /** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
  constructor(options: SqliteBusOptions) {
    this.#options = resolveSqliteOptions(options);
    this.#clock = this.#options.clock;
    this.#cache = new EventCache(this.#options.cacheBytes);
  }

  /**
   * Opens the file and reads which events it holds. Rejects with `SSE_ERR_HISTORY_UNUSABLE` where the file is not a
   * history, damaged, of a newer version, has another database's log beside it, or may not be written to (it is left as it
   * was), with `SSE_ERR_BUS_UNAVAILABLE` where another process, or another bus of this one, has it, a database of yours is
   * locked, or the disk is full, with `SSE_ERR_PACKAGE_MISSING` where no SQLite client is installed. May be called again
   * after that.
   */
  start(receiver: BusReceiver): Promise<void> {
    if (this.#closing !== undefined) return Promise.reject(unavailable('the bus is closed'));
    this.#starting ??= this.#start(receiver).catch((error: unknown) => {
      this.#starting = undefined;
      this.#down = messageOf(error);
      receiver.status(this.status());
      throw error;
    });
    return this.#starting;
  }

  /** Resolves when the event is committed and delivered; rejects with `SSE_ERR_BUS_UNAVAILABLE`. */
  publish(event: OutgoingEvent): Promise<string> {
    if (this.#store === undefined || this.#closing !== undefined) {
      return Promise.reject(unavailable(this.#closing === undefined ? 'the bus is not started' : 'the bus is closed'));
    }
    return new Promise((resolve, reject) => {
      this.#pending.push({ event, resolve, reject });
      // The end of the turn, and of the promise jobs behind it: what they publish is in the same transaction.
      this.#flushing ??= setImmediate(() => this.#flush());
    });
  }

  join(): void {}

  leave(_key: string): void {}

  head(): Head {
    return { id: this.#ids.idOf(this.#sequence), sequence: this.#sequence };
  }

  /** Reads from memory and from the file, synchronously; a promise only where the file cannot be read. */
  read({ keys, after, limit, max }: ReadRequest): ReadResult | Promise<ReadResult> {
    const head = this.head();
    const cursor = this.#ids.sequenceOf(after, this.#sequence);
    if (typeof cursor === 'string') return { events: [], more: false, head, loss: cursor, completeAfter: head.id };
    const now = this.#clock.now();
    const { sequences, more, lostThrough } = this.#retention!.page({ keys, after: cursor, limit, max, now });
    let events: BusEvent[];
    try {
      events = this.#eventsOf(sequences);
    } catch (cause) {
      return Promise.reject(unavailable(`the history cannot be read: ${messageOf(cause)}`, cause));
    }
    if (lostThrough <= cursor) return { events, more, head };
    return { events, more, head, loss: 'evicted', completeAfter: this.#ids.idOf(lostThrough) };
  }

  status(): BusStatus {
    const details = this.#retention?.details ?? NOTHING_KEPT;
    return this.#down === undefined ? { state: 'up', details } : { state: 'down', reason: this.#down, details };
  }

  /** Writes what is still pending, then closes the file if the bus opened it. Calling it again gives the same promise. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #start(receiver: BusReceiver): Promise<void> {
    const { database, tablePrefix, synchronous, lockTimeout } = this.#options;
    let db: SqliteDatabase;
    if (typeof database === 'string') {
      db = await openFile(await findDriver(), { file: database, tablePrefix, synchronous, lockTimeout });
    } else {
      db = database;
      this.#prepareShared(db);
    }
    try {
      const store = new SqliteStore(db, tablePrefix);
      store.startRun(randomToken(8));
      this.#load(store);
      this.#store = store;
      this.#db = db;
    } catch (error) {
      if (typeof database === 'string') closeFile(db);
      throw startFailure('the history cannot be read', error);
    }
    this.#receiver = receiver;
    this.#down = undefined;
    this.#retention?.start();
    receiver.status(this.status());
  }

  #prepareShared(db: SqliteDatabase): void {
    const { tablePrefix, synchronous, keepSettings } = this.#options;
    try {
      if (!hasTables(db, tablePrefix)) {
        db.exec('BEGIN IMMEDIATE');
        try {
          createTables(db, tablePrefix);
          db.exec('COMMIT');
        } catch (error) {
          rollBack(db);
          throw error;
        }
      }
      if (!keepSettings) {
        db.prepare('PRAGMA journal_mode = WAL').all();
        db.exec(`PRAGMA synchronous = ${synchronous.toUpperCase()}`);
      }
    } catch (error) {
      throw startFailure('the database cannot be used for a history', error);
    }
  }

  /** Everything but the events themselves into memory. */
  #load(store: SqliteStore): void {
    const { epoch, sequence } = store.meta();
    this.#sequence = sequence;
    this.#ids = new SqliteIds(epoch, store.runs());
    const isWritable = () => this.#store !== undefined && this.#down === undefined;
    const newest = () => this.#sequence;
    this.#retention = new SqliteRetention(store, this.#options, {
      get isWritable() {
        return isWritable();
      },
      get sequence() {
        return newest();
      },
      failed: (error) => this.#goDown(error),
    });
  }

  #flush(): void {
    this.#flushing = undefined;
    const batch = this.#takeBatch();
    let ids: readonly number[];
    try {
      ids = this.#write(batch);
    } catch (error) {
      this.#goDown(error);
      const message = `the event was not stored: ${messageOf(error)}`;
      for (const { reject } of batch) reject(unavailable(message, error));
      return;
    } finally {
      if (this.#pending.length > 0) this.#flushing = setImmediate(() => this.#flush());
    }
    this.#goUp();
    for (let i = 0; i < batch.length; i++) {
      const { event, resolve } = batch[i]!;
      resolve(this.#deliver(event, ids[i]!));
    }
    this.#retention?.cleanSoon();
  }

  #takeBatch(): Publication[] {
    let bytes = 0;
    let count = 0;
    while (count < this.#pending.length && count < TRANSACTION_EVENTS && bytes < TRANSACTION_BYTES) {
      bytes += this.#pending[count++]!.event.data.length;
    }
    if (count === this.#pending.length) {
      const all = this.#pending;
      this.#pending = [];
      return all;
    }
    return this.#pending.splice(0, count);
  }

  /**
   * Commits events; returns the number of the channel key of each, 0 where only its place in the order is kept. In memory
   * nothing changes before that.
   */
  #write(batch: readonly Publication[]): number[] {
    const store = this.#store!;
    const retention = this.#retention!;
    const now = this.#clock.now();
    let sequence = this.#sequence;
    let bytes = 0;
    const ids: number[] = [];
    const added = new Map<string, number>();
    store.transaction(sequence + batch.length, () => {
      for (const { event } of batch) {
        if (isLiveOnly(event.key)) {
          sequence++;
          ids.push(0);
          continue;
        }
        let id = retention.idOf(event.key) ?? added.get(event.key);
        if (id === undefined) {
          id = store.keyId(event.key, retention.lostThroughOf(event.key, now));
          added.set(event.key, id);
        }
        const size = Buffer.byteLength(event.data) + event.event.length + EVENT_OVERHEAD;
        bytes += size;
        store.insert({ ...event, sequence: ++sequence }, id, now, size);
        ids.push(id);
      }
    });
    retention.wrote(bytes);
    return ids;
  }

  /** One committed event: into memory, then out, so that who reads meanwhile sees exactly what was delivered. */
  #deliver(outgoing: OutgoingEvent, keyId: number): string {
    const sequence = ++this.#sequence;
    const { key: name, event, data, json, timestamp, expiresAt, priority, tag } = outgoing;
    const id = this.#ids.next(sequence);
    const plain: BusEvent = { id, sequence, key: name, event, data, json, timestamp, expiresAt, frame: undefined };
    const delivered = marked(plain, priority, tag);
    if (!isLiveOnly(name)) {
      this.#retention!.add(name, keyId, sequence, expiresAt);
      this.#cache.set(delivered);
    }
    try {
      this.#receiver?.deliver(delivered);
    } catch (error) {
      this.#receiver?.error(error);
    }
    return id;
  }

  #eventsOf(sequences: readonly number[]): BusEvent[] {
    const events = sequences.map((sequence) => this.#cache.get(sequence));
    const missing = sequences.filter((_, i) => events[i] === undefined);
    if (missing.length === 0) return events as BusEvent[];
    const stored = this.#store!.read(missing);
    if (stored.length !== missing.length) throw new Error('events are missing from the file');
    let next = 0;
    return events.map((event) => {
      if (event !== undefined) return event;
      const row = stored[next++]!;
      const read: BusEvent = { id: this.#ids.idOf(row.sequence), ...row, frame: undefined };
      this.#cache.set(read);
      return read;
    });
  }

  #goDown(error: unknown): void {
    const reason = messageOf(error);
    this.#isTakenOver ||= error instanceof TakenOver;
    if (!this.#isTakenOver) this.#stopProbing ??= this.#clock.every(PROBE_EVERY_MS, () => this.#probe());
    if (this.#down === reason) return;
    this.#down = reason;
    this.#receiver?.status(this.status());
  }

  #goUp(): void {
    if (this.#down === undefined) return;
    this.#down = undefined;
    this.#stopProbing?.();
    this.#stopProbing = undefined;
    this.#receiver?.status(this.status());
  }

  /** A write that changes nothing: enough to see whether the disk takes bytes again. */
  #probe(): void {
    try {
      this.#store!.transaction(this.#sequence, () => {});
      this.#goUp();
      this.#retention?.cleanSoon();
    } catch (error) {
      this.#goDown(error);
    }
  }

  async #close(): Promise<void> {
    // A start that is on its way would open the file after this.
    await this.#starting?.catch(() => {});
    if (this.#flushing !== undefined) clearImmediate(this.#flushing);
    while (this.#pending.length > 0) {
      this.#flush();
      if (this.#flushing !== undefined) clearImmediate(this.#flushing);
    }
    this.#retention?.close();
    this.#stopProbing?.();
    const db = this.#db;
    this.#receiver = undefined;
    this.#store = undefined;
    this.#db = undefined;
    this.#down = 'closed';
    if (db !== undefined && typeof this.#options.database === 'string') closeFile(db);
  }
}

/** A lock and a full disk pass; what else keeps a history from being used does not. */
function startFailure(what: string, error: unknown): SseError {
  if (error instanceof SseError) return error;
  const message = `${what}: ${messageOf(error)}`;
  if (isBusy(error) || isFull(error)) return unavailable(message, error);
  return new SseError('SSE_ERR_HISTORY_UNUSABLE', message, { cause: error });
}

function unavailable(message: string, cause?: unknown): SseError {
  return new SseError('SSE_ERR_BUS_UNAVAILABLE', message, { cause });
}
