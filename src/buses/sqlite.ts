/**
 * The entry `sse-broker/sqlite`: a bus of one process whose history lies in an SQLite file, so that clients resume over a
 * restart, a deploy or a kill -9.
 *
 * - What is published in one turn is one transaction. An event is delivered after its commit, never before: a client must
 *   not have a cursor that is ahead of the history.
 * - All sequences are also in memory (eight bytes each), so that retention, gaps and the order of a page are numbers; of
 *   the events themselves only a cache is.
 * - An id is `epoch.run-sequence`. The epoch is the file's. The run is a token of its own for every start: where a power
 *   cut or an old backup took the last events of a run away, their sequences are given out again, but by another run. So a
 *   cursor that points at a lost event is recognised, and told as a gap, for ever.
 */
import type { Bus, BusReceiver, BusStatus, Head, ReadRequest, ReadResult } from '../core/bus.js';
import type { Clock } from '../core/clock.js';
import { SseError } from '../core/errors.js';
import type { BusEvent, OutgoingEvent } from '../core/event.js';
import { EventCache } from '../core/event-cache.js';
import { type KeySequences, SequenceIndex } from '../core/sequence-index.js';
import { isLiveOnly } from '../core/topic.js';
import { findDriver, messageOf, type SqliteDatabase, type SqliteStatement } from './sqlite-driver.js';
import { closeFile, openFile, type SqliteSynchronous } from './sqlite-file.js';
import {
  type ResolvedSqliteBusOptions,
  resolveSqliteOptions,
  SQLITE_BUS_DEFAULTS,
  type SqliteBusOptions,
} from './sqlite-options.js';
import { createTables, hasTables, randomToken } from './sqlite-schema.js';
import { type Run, SqliteStore, TakenOver } from './sqlite-store.js';

export type { SqliteBusOptions, SqliteDatabase, SqliteStatement, SqliteSynchronous };
export { SQLITE_BUS_DEFAULTS };

/** What an event costs besides its text. */
const EVENT_OVERHEAD = 64;
/** Events and bytes of text of one transaction; what is more goes into the next turn, so that sockets get theirs. */
const TRANSACTION_EVENTS = 1_024;
const TRANSACTION_BYTES = 1024 * 1024;
/** Rows deleted by one statement, and for how long one step deletes at most. */
const CLEAN_ROWS = 128;
const CLEAN_MS = 3;
/** Between two steps while there is a little to clean. */
const CLEAN_EVERY_MS = 50;
/** Emptied keys that are remembered in the file. */
const REMEMBERED_KEYS = 100_000;
/** How often a bus that is down looks whether it can write again. */
const PROBE_EVERY_MS = 1_000;

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
  readonly #undo: (() => void)[] = [];
  #receiver: BusReceiver | undefined = undefined;
  #starting: Promise<void> | undefined = undefined;
  #closing: Promise<void> | undefined = undefined;
  #db: SqliteDatabase | undefined = undefined;
  #store: SqliteStore | undefined = undefined;
  #index = new SequenceIndex();
  #sequence = 0;
  #epoch = '';
  /** In order of their first sequence; the last is this one. */
  #runs: Run[] = [];
  #prefix = '';
  #pending: Publication[] = [];
  #flushing: NodeJS.Immediate | undefined = undefined;
  #down: string | undefined = 'not started';
  #isTakenOver = false;
  #events = 0;
  /** Bytes of history in the file. */
  #bytes = 0;
  #emptyKeys = 0;
  /** Sequences that are dropped, but stand in the file. */
  #garbage: number[] = [];
  /** Keys whose `lost_through` in the file is behind, with their number there. */
  #staleKeys = new Map<string, number>();
  #stopCleaning: (() => void) | undefined = undefined;
  #cleaning: NodeJS.Immediate | undefined = undefined;
  #stopProbing: (() => void) | undefined = undefined;

  /** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
  constructor(options: SqliteBusOptions) {
    this.#options = resolveSqliteOptions(options);
    this.#clock = this.#options.clock;
    this.#cache = new EventCache(this.#options.cacheBytes);
  }

  /**
   * Opens the file and reads which events it holds. Rejects with `SSE_ERR_HISTORY_UNUSABLE` where the file is not a
   * history, damaged or of a newer version (it is left as it was), with `SSE_ERR_BUS_UNAVAILABLE` where another process
   * has it, with `SSE_ERR_PACKAGE_MISSING` where no SQLite client is installed. May be called again after that.
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
    return { id: this.#idOf(this.#sequence), sequence: this.#sequence };
  }

  /** Reads from memory and from the file, synchronously; a promise only where the file cannot be read. */
  read({ keys, after, limit, max }: ReadRequest): ReadResult | Promise<ReadResult> {
    const head = this.head();
    const cursor = this.#sequenceOf(after);
    if (typeof cursor === 'string') return { events: [], more: false, head, loss: cursor, completeAfter: head.id };
    const now = this.#clock.now();
    const { sequences, more, lostThrough } = this.#index.page({ keys, after: cursor, limit, max, now });
    let events: BusEvent[];
    try {
      events = this.#eventsOf(sequences);
    } catch (cause) {
      return Promise.reject(unavailable(`the history cannot be read: ${messageOf(cause)}`, cause));
    }
    if (lostThrough <= cursor) return { events, more, head };
    return { events, more, head, loss: 'evicted', completeAfter: this.#idOf(lostThrough) };
  }

  status(): BusStatus {
    const details = {
      historyKeys: this.#index.size,
      historyEvents: this.#events,
      historyBytes: this.#bytes,
      cleaningEvents: this.#garbage.length,
    };
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
    const { database, tablePrefix, synchronous, lockTimeout, historyTtl } = this.#options;
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
      throw error instanceof SseError
        ? error
        : new SseError('SSE_ERR_HISTORY_UNUSABLE', `the history cannot be read: ${messageOf(error)}`, { cause: error });
    }
    if (historyTtl > 0) {
      // An event lives at most a tenth longer than it was told to, or a minute.
      const every = Math.max(100, Math.min(historyTtl / 10, 60_000));
      this.#undo.push(this.#clock.every(every, () => this.#clean()));
    }
    this.#receiver = receiver;
    this.#down = undefined;
    this.#cleanSoon();
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
          db.exec('ROLLBACK');
          throw error;
        }
      }
      if (!keepSettings) {
        db.prepare('PRAGMA journal_mode = WAL').all();
        db.exec(`PRAGMA synchronous = ${synchronous.toUpperCase()}`);
      }
    } catch (error) {
      if (error instanceof SseError) throw error;
      const message = `the database cannot be used for a history: ${messageOf(error)}`;
      throw new SseError('SSE_ERR_HISTORY_UNUSABLE', message, { cause: error });
    }
  }

  /** Everything but the events themselves into memory. */
  #load(store: SqliteStore): void {
    const { epoch, sequence, forgotten } = store.meta();
    this.#epoch = epoch;
    this.#sequence = sequence;
    this.#runs = store.runs();
    this.#prefix = `${epoch}.${this.#runs[this.#runs.length - 1]!.token}-`;
    this.#index = new SequenceIndex(forgotten);
    this.#events = 0;
    this.#bytes = 0;
    this.#garbage = [];
    this.#staleKeys.clear();
    this.#emptyKeys = store.countEmptyKeys();
    const names = new Map<number, string>();
    const lost = new Map<string, number>();
    for (const { id, name, lostThrough } of store.keys()) {
      names.set(id, name);
      lost.set(name, lostThrough);
      this.#index.markLost(name, lostThrough);
    }
    for (const row of store.events()) {
      const name = names.get(row.keyId);
      if (name === undefined) throw new Error(`event ${row.sequence} has no channel key`);
      this.#bytes += row.bytes;
      const lostThrough = lost.get(name)!;
      // Dropped by the run before, which could not delete it any more.
      if (row.sequence <= lostThrough) {
        this.#garbage.push(row.sequence);
        continue;
      }
      let key = this.#index.get(name);
      if (key === undefined) {
        key = this.#addKey(name, row.keyId);
        // As the file has it: the index remembers fewer keys.
        key.losses = lostThrough;
      }
      this.#keep(key, row.sequence, row.expiresAt);
    }
  }

  #addKey(name: string, id: number): KeySequences {
    const key = this.#index.add(name);
    key.tag = id;
    return key;
  }

  /** Adds a sequence to its key and drops the oldest where there are too many. */
  #keep(key: KeySequences, sequence: number, expiresAt: number): void {
    this.#index.push(key, sequence, expiresAt);
    this.#events++;
    if (key.length > this.#options.historySize) this.#garbage.push(this.#drop(key));
  }

  #drop(key: KeySequences): number {
    this.#events--;
    this.#staleKeys.set(key.key, key.tag);
    return this.#index.drop(key, this.#clock.now());
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
    this.#cleanSoon();
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
        let id = this.#index.get(event.key)?.tag ?? added.get(event.key);
        if (id === undefined) {
          id = store.keyId(event.key, this.#index.lostThroughOf(event.key, now));
          added.set(event.key, id);
        }
        const size = Buffer.byteLength(event.data) + event.event.length + EVENT_OVERHEAD;
        bytes += size;
        store.insert({ ...event, sequence: ++sequence }, id, now, size);
        ids.push(id);
      }
    });
    this.#bytes += bytes;
    return ids;
  }

  /** One committed event: into memory, then out, so that who reads meanwhile sees exactly what was delivered. */
  #deliver(outgoing: OutgoingEvent, keyId: number): string {
    const sequence = ++this.#sequence;
    const { key: name, event, data, json, timestamp, expiresAt, priority, tag } = outgoing;
    const id = this.#prefix + sequence;
    const plain: BusEvent = { id, sequence, key: name, event, data, json, timestamp, expiresAt, frame: undefined };
    const delivered = priority === undefined && tag === undefined ? plain : { ...plain, priority, tag };
    if (!isLiveOnly(name)) {
      const key = this.#index.get(name) ?? this.#addKey(name, keyId);
      this.#keep(key, sequence, expiresAt);
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
      const read: BusEvent = { id: this.#idOf(row.sequence), ...row, frame: undefined };
      this.#cache.set(read);
      return read;
    });
  }

  #idOf(sequence: number): string {
    for (let i = this.#runs.length - 1; i >= 0; i--) {
      const { token, first } = this.#runs[i]!;
      if (first <= sequence) return `${this.#epoch}.${token}-${sequence}`;
    }
    // Of a run that is no longer remembered: its ids are not understood any more, but they are well-formed.
    return `${this.#epoch}.0-${sequence}`;
  }

  #sequenceOf(id: string): number | 'epoch' | 'unknown' {
    const match = /^([a-z0-9]+)\.([a-z0-9]+)-(0|[1-9][0-9]{0,15})$/.exec(id);
    if (match === null) return 'unknown';
    const [, epoch, token, digits] = match;
    if (epoch !== this.#epoch) return 'epoch';
    const sequence = Number(digits);
    for (let i = this.#runs.length - 1; i >= 0; i--) {
      const run = this.#runs[i]!;
      if (run.token !== token) continue;
      const isNewest = i === this.#runs.length - 1;
      const last = isNewest ? this.#sequence : this.#runs[i + 1]!.first - 1;
      if (sequence >= run.first && sequence <= last) return sequence;
      // Beyond the last of an older run: it was there, and a power cut took it.
      return isNewest || sequence < run.first ? 'unknown' : 'epoch';
    }
    return 'epoch';
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
      this.#cleanSoon();
    } catch (error) {
      this.#goDown(error);
    }
  }

  get #hasToClean(): boolean {
    const { historyBytes } = this.#options;
    return (
      this.#garbage.length > 0 ||
      this.#staleKeys.size > 0 ||
      (historyBytes > 0 && this.#bytes > historyBytes) ||
      this.#emptyKeys > REMEMBERED_KEYS
    );
  }

  #cleanSoon(): void {
    if (this.#stopCleaning !== undefined || !this.#hasToClean) return;
    this.#stopCleaning = this.#clock.every(CLEAN_EVERY_MS, () => this.#clean());
  }

  /** One step: what retention dropped leaves the file, and what is too old or too much is dropped. */
  #clean(): void {
    this.#cleaning = undefined;
    if (this.#store === undefined || this.#down !== undefined) return;
    const until = performance.now() + CLEAN_MS;
    let isDone = false;
    try {
      while (!isDone && performance.now() < until) isDone = this.#cleanOnce(this.#store);
    } catch (error) {
      this.#goDown(error);
      return;
    }
    if (isDone) {
      this.#stopCleaning?.();
      this.#stopCleaning = undefined;
      this.#cleanSoon();
    } else if (this.#cleaning === undefined && this.#closing === undefined) {
      // More than fits into the steps of the timer: go on as soon as everybody else had a turn.
      this.#cleaning = setImmediate(() => this.#clean());
      this.#cleaning.unref();
    }
  }

  /** A few rows, in one transaction; true where nothing is left to do. */
  #cleanOnce(store: SqliteStore): boolean {
    const garbage = this.#garbage.slice(0, CLEAN_ROWS);
    const rows = garbage.length > 0 ? garbage : this.#dropOldest(store);
    const keys = [...this.#staleKeys].slice(0, CLEAN_ROWS);
    const forget = Math.min(CLEAN_ROWS, this.#emptyKeys - REMEMBERED_KEYS);
    if (rows.length === 0 && keys.length === 0 && forget <= 0) return true;
    const now = this.#clock.now();
    let freed = 0;
    let emptied = 0;
    let forgotten = 0;
    store.transaction(this.#sequence, () => {
      if (rows.length > 0) freed = store.delete(rows);
      for (const [name, id] of keys) {
        const isEmpty = this.#index.get(name) === undefined;
        store.setLost(id, this.#index.lostThroughOf(name, now), isEmpty);
        if (isEmpty) emptied++;
      }
      if (forget > 0) forgotten = store.forgetEmptyKeys(forget);
    });
    this.#bytes -= freed;
    this.#emptyKeys += emptied - forgotten;
    // Keys that were published to again are not counted down.
    if (forget > 0) this.#emptyKeys = store.countEmptyKeys();
    if (garbage.length > 0) this.#garbage = this.#garbage.slice(garbage.length);
    for (const [name] of keys) this.#staleKeys.delete(name);
    return false;
  }

  /** Drops what is beyond the limits on bytes and age, oldest first; returns rows to delete. */
  #dropOldest(store: SqliteStore): number[] {
    const { historyBytes, historyTtl } = this.#options;
    const isOver = historyBytes > 0 && this.#bytes > historyBytes;
    if (!isOver && (historyTtl === 0 || this.#events === 0)) return [];
    const oldEnough = historyTtl > 0 ? this.#clock.now() - historyTtl : Number.NEGATIVE_INFINITY;
    const rows: number[] = [];
    let bytes = this.#bytes;
    for (const { sequence, key: name, bytes: size, storedAt } of store.oldest(CLEAN_ROWS)) {
      if (!(historyBytes > 0 && bytes > historyBytes) && storedAt > oldEnough) break;
      const key = this.#index.get(name);
      // Not so where an earlier step dropped it and could not delete it.
      if (key !== undefined && key.at(0) === sequence) this.#drop(key);
      rows.push(sequence);
      bytes -= size;
    }
    return rows;
  }

  async #close(): Promise<void> {
    // A start that is on its way would open the file after this.
    await this.#starting?.catch(() => {});
    if (this.#flushing !== undefined) clearImmediate(this.#flushing);
    while (this.#pending.length > 0) {
      this.#flush();
      if (this.#flushing !== undefined) clearImmediate(this.#flushing);
    }
    if (this.#cleaning !== undefined) clearImmediate(this.#cleaning);
    for (const undo of [this.#stopCleaning, this.#stopProbing, ...this.#undo]) undo?.();
    const db = this.#db;
    this.#receiver = undefined;
    this.#store = undefined;
    this.#db = undefined;
    this.#down = 'closed';
    if (db !== undefined && typeof this.#options.database === 'string') closeFile(db);
  }
}

function unavailable(message: string, cause?: unknown): SseError {
  return new SseError('SSE_ERR_BUS_UNAVAILABLE', message, { cause });
}
