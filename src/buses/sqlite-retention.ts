/**
 * What of a history stays: which sequences each channel key keeps, what it has lost, and how the rest leaves the file, in
 * steps of a few milliseconds beside the hot path.
 *
 * All of it is numbers in memory, eight bytes an event. What is dropped is so at once; the rows go later, and a process
 * that dies before that finds them at its next start.
 */
import type { KeySequences } from '../core/sequence-index.js';
import { type KeysPage, type PageRequest, SequenceIndex } from '../core/sequence-index.js';
import type { ResolvedSqliteBusOptions } from './sqlite-options.js';
import type { SqliteStore } from './sqlite-store.js';

/** Rows deleted by one statement, and for how long one step deletes at most. */
const CLEAN_ROWS = 128;
const CLEAN_MS = 3;
/** Between two steps while there is a little to clean. */
const CLEAN_EVERY_MS = 50;
/** Emptied keys that are remembered in the file. */
const REMEMBERED_KEYS = 100_000;

/** What it needs of the bus. */
export interface RetentionHost {
  /** False while nothing can be written, and when it is over. */
  readonly isWritable: boolean;
  /** Sequence of the newest event. */
  readonly sequence: number;
  failed(error: unknown): void;
}

export class SqliteRetention {
  readonly #store: SqliteStore;
  readonly #options: ResolvedSqliteBusOptions;
  readonly #host: RetentionHost;
  readonly #index: SequenceIndex;
  #events = 0;
  /** Bytes of history in the file. */
  #bytes = 0;
  #emptyKeys: number;
  /** Sequences that are dropped, but stand in the file. */
  #garbage: number[] = [];
  /** Keys whose `lost_through` in the file is behind, with their number there. */
  readonly #staleKeys = new Map<string, number>();
  #stopAging: (() => void) | undefined = undefined;
  #stopCleaning: (() => void) | undefined = undefined;
  #cleaning: NodeJS.Immediate | undefined = undefined;

  /** Reads everything but the events themselves into memory; throws what the SQLite client throws. */
  constructor(store: SqliteStore, options: ResolvedSqliteBusOptions, host: RetentionHost) {
    this.#store = store;
    this.#options = options;
    this.#host = host;
    this.#index = new SequenceIndex(store.meta().forgotten);
    this.#emptyKeys = store.countEmptyKeys();
    const names = new Map<number, string>();
    const lost = new Map<string, number>();
    for (const { id, name, lostThrough } of store.keys()) {
      names.set(id, name);
      lost.set(name, lostThrough);
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
    // The others know it themselves. Of those the index remembers only so many, and tells all older ones as one.
    for (const [name, lostThrough] of lost) {
      if (this.#index.get(name) === undefined) this.#index.markLost(name, lostThrough);
    }
  }

  /** For operators. */
  get details(): { historyKeys: number; historyEvents: number; historyBytes: number; cleaningEvents: number } {
    return {
      historyKeys: this.#index.size,
      historyEvents: this.#events,
      historyBytes: this.#bytes,
      cleaningEvents: this.#garbage.length,
    };
  }

  /** Begins to clean, now and while events grow old. */
  start(): void {
    const { historyTtl, clock } = this.#options;
    if (historyTtl > 0) {
      // An event lives at most a tenth longer than it was told to, or a minute.
      const every = Math.max(100, Math.min(historyTtl / 10, 60_000));
      this.#stopAging = clock.every(every, () => this.#clean());
    }
    this.cleanSoon();
  }

  close(): void {
    if (this.#cleaning !== undefined) clearImmediate(this.#cleaning);
    this.#stopCleaning?.();
    this.#stopAging?.();
  }

  page(request: PageRequest): KeysPage {
    return this.#index.page(request);
  }

  /** The number of a key in the file, where it keeps something. */
  idOf(name: string): number | undefined {
    return this.#index.get(name)?.tag;
  }

  /** Newest sequence that a key cannot serve. `now`: ms since 1970. */
  lostThroughOf(name: string, now: number): number {
    return this.#index.lostThroughOf(name, now);
  }

  /** So many bytes of history were committed. */
  wrote(bytes: number): void {
    this.#bytes += bytes;
  }

  /** An event was committed; `keyId`: the number of its key in the file. */
  add(name: string, keyId: number, sequence: number, expiresAt: number): void {
    this.#keep(this.#index.get(name) ?? this.#addKey(name, keyId), sequence, expiresAt);
  }

  /** Cleans where there is something to clean. */
  cleanSoon(): void {
    if (this.#stopCleaning !== undefined || !this.#hasToClean) return;
    this.#stopCleaning = this.#options.clock.every(CLEAN_EVERY_MS, () => this.#clean());
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
    return this.#index.drop(key, this.#options.clock.now());
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

  /** One step: what retention dropped leaves the file, and what is too old or too much is dropped. */
  #clean(): void {
    this.#cleaning = undefined;
    if (!this.#host.isWritable) return;
    const until = performance.now() + CLEAN_MS;
    let isDone = false;
    try {
      while (!isDone && performance.now() < until) isDone = this.#cleanOnce();
    } catch (error) {
      this.#host.failed(error);
      return;
    }
    if (isDone) {
      this.#stopCleaning?.();
      this.#stopCleaning = undefined;
      this.cleanSoon();
    } else if (this.#cleaning === undefined) {
      // More than fits into the steps of the timer: go on as soon as everybody else had a turn.
      this.#cleaning = setImmediate(() => this.#clean());
      this.#cleaning.unref();
    }
  }

  /** A few rows, in one transaction; true where nothing is left to do. */
  #cleanOnce(): boolean {
    const store = this.#store;
    // In the order in which they were dropped, as the keys are: so what a key has lost is in the file when its row is gone.
    if (this.#garbage.length === 0) this.#garbage = this.#dropOldest();
    const rows = this.#garbage.slice(0, CLEAN_ROWS);
    const keys = [...this.#staleKeys].slice(0, CLEAN_ROWS);
    // Keys that were published to again were not counted down.
    if (this.#emptyKeys > REMEMBERED_KEYS) this.#emptyKeys = store.countEmptyKeys();
    const forget = Math.min(CLEAN_ROWS, this.#emptyKeys - REMEMBERED_KEYS);
    if (rows.length === 0 && keys.length === 0 && forget <= 0) return true;
    const now = this.#options.clock.now();
    let freed = 0;
    let emptied = 0;
    let forgotten = 0;
    store.transaction(this.#host.sequence, () => {
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
    if (rows.length > 0) this.#garbage = this.#garbage.slice(rows.length);
    for (const [name] of keys) this.#staleKeys.delete(name);
    return false;
  }

  /** Drops what is beyond the limits on bytes and age, oldest first, where nothing else waits; returns rows to delete. */
  #dropOldest(): number[] {
    const { historyBytes, historyTtl, clock } = this.#options;
    const isOver = historyBytes > 0 && this.#bytes > historyBytes;
    if (!isOver && (historyTtl === 0 || this.#events === 0)) return [];
    const oldEnough = historyTtl > 0 ? clock.now() - historyTtl : Number.NEGATIVE_INFINITY;
    const rows: number[] = [];
    let bytes = this.#bytes;
    for (const { sequence, key: name, bytes: size, storedAt } of this.#store.oldest(CLEAN_ROWS)) {
      if (!(historyBytes > 0 && bytes > historyBytes) && storedAt > oldEnough) break;
      const key = this.#index.get(name);
      // Not so where somebody else has written into the tables.
      if (key !== undefined && key.at(0) === sequence) this.#drop(key);
      rows.push(sequence);
      bytes -= size;
    }
    return rows;
  }
}
