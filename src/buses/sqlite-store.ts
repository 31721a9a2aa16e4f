/** The statements over the tables of sqlite-schema.ts. Everything here throws what the SQLite client throws. */
import type { BusEvent, PriorityLevel } from '../core/event.js';
import { rollBack, type SqliteDatabase, type SqliteStatement } from './sqlite-driver.js';

/** Another start took the history over: its `run` stands in the file. */
export class TakenOver extends Error {
  constructor() {
    super('another process has taken over this history');
  }
}

export interface Meta {
  readonly epoch: string;
  readonly sequence: number;
  readonly forgotten: number;
}

export interface Run {
  readonly token: string;
  readonly first: number;
}

export interface KeyRow {
  readonly id: number;
  readonly name: string;
  readonly lostThrough: number;
}

export interface EventRow {
  readonly sequence: number;
  readonly keyId: number;
  readonly bytes: number;
  /** ms since 1970; 0 for never. */
  readonly expiresAt: number;
}

export interface OldRow {
  readonly sequence: number;
  readonly key: string;
  readonly bytes: number;
  /** ms since 1970. */
  readonly storedAt: number;
}

/** An event as it is read back, without its id. */
export type StoredEvent = Omit<BusEvent, 'id' | 'frame'>;

/** Rows read at once at start. */
const LOAD_ROWS = 10_000;
/** Runs whose ids are still understood. */
const KEPT_RUNS = 10_000;

export class SqliteStore {
  readonly #db: SqliteDatabase;
  readonly #prefix: string;
  readonly #advance: SqliteStatement;
  readonly #insert: SqliteStatement;
  readonly #key: SqliteStatement;
  readonly #read: SqliteStatement;
  readonly #delete: SqliteStatement;
  readonly #oldest: SqliteStatement;
  readonly #setLost: SqliteStatement;
  #run = 0;

  constructor(db: SqliteDatabase, prefix: string) {
    this.#db = db;
    this.#prefix = prefix;
    this.#advance = db.prepare(`UPDATE ${prefix}meta SET sequence = ? WHERE run = ?`);
    this.#insert = db.prepare(`INSERT INTO ${prefix}events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`);
    this.#key = db.prepare(
      `INSERT INTO ${prefix}keys (name, lost_through, is_empty) VALUES (?, ?, 0)
       ON CONFLICT (name) DO UPDATE SET is_empty = 0 RETURNING id`,
    );
    this.#read = db.prepare(
      `SELECT e.sequence, k.name, e.event, e.data, e.json, ${real('e.timestamp')}, ${real('e.expires_at')}
       FROM ${prefix}events e JOIN ${prefix}keys k ON k.id = e.key_id
       WHERE e.sequence IN (SELECT value FROM json_each(?)) ORDER BY e.sequence`,
    );
    this.#delete = db.prepare(
      `DELETE FROM ${prefix}events WHERE sequence IN (SELECT value FROM json_each(?)) RETURNING bytes`,
    );
    this.#oldest = db.prepare(
      `SELECT e.sequence, k.name, e.bytes, e.stored_at
       FROM ${prefix}events e JOIN ${prefix}keys k ON k.id = e.key_id ORDER BY e.sequence LIMIT ?`,
    );
    this.#setLost = db.prepare(`UPDATE ${prefix}keys SET lost_through = ?, is_empty = ? WHERE id = ?`);
  }

  /**
   * Does `work` in one transaction, unless somebody else has taken the history over.
   *
   * @throws TakenOver
   */
  transaction<T>(sequence: number, work: () => T): T {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      if (Number(this.#advance.run(sequence, this.#run).changes) !== 1) throw new TakenOver();
      const result = work();
      this.#db.exec('COMMIT');
      return result;
    } catch (error) {
      rollBack(this.#db);
      throw error;
    }
  }

  /** Makes this the run that may write, its first sequence being the next. */
  startRun(token: string): void {
    const p = this.#prefix;
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      const { sequence } = this.meta();
      const first = sequence + 1;
      // Runs that published nothing, or whose every event was lost to a power cut.
      this.#db.prepare(`DELETE FROM ${p}runs WHERE first >= ?`).run(first);
      this.#db.prepare(`INSERT INTO ${p}runs (token, first) VALUES (?, ?)`).run(token, first);
      const [{ id }] = this.#db.prepare(`SELECT max(id) AS id FROM ${p}runs`).all() as [{ id: number }];
      this.#db.prepare(`DELETE FROM ${p}runs WHERE id <= ?`).run(Number(id) - KEPT_RUNS);
      this.#run = Math.floor(Math.random() * 2 ** 48);
      this.#db.prepare(`UPDATE ${p}meta SET run = ?`).run(this.#run);
      this.#db.exec('COMMIT');
    } catch (error) {
      rollBack(this.#db);
      throw error;
    }
  }

  meta(): Meta {
    const [row] = this.#db.prepare(`SELECT epoch, sequence, forgotten FROM ${this.#prefix}meta`).all() as [Meta];
    return { epoch: row.epoch, sequence: Number(row.sequence), forgotten: Number(row.forgotten) };
  }

  /** In order. */
  runs(): Run[] {
    const rows = this.#db.prepare(`SELECT token, first FROM ${this.#prefix}runs ORDER BY first`).all() as Run[];
    return rows.map(({ token, first }) => ({ token, first: Number(first) }));
  }

  /** Keys, those that keep nothing included, those that lost something last, last. */
  keys(): KeyRow[] {
    const sql = `SELECT id, name, lost_through FROM ${this.#prefix}keys ORDER BY lost_through`;
    const rows = this.#db.prepare(sql).all() as { id: number; name: string; lost_through: number }[];
    return rows.map((row) => ({ id: Number(row.id), name: row.name, lostThrough: Number(row.lost_through) }));
  }

  /** All events, oldest first, without what is in them. */
  *events(): Generator<EventRow, void, void> {
    const statement = this.#db.prepare(
      `SELECT sequence, key_id, bytes, ${real('expires_at')} FROM ${this.#prefix}events WHERE sequence > ? ORDER BY sequence LIMIT ?`,
    );
    for (let after = 0; ; ) {
      const rows = statement.all(after, LOAD_ROWS).map(eventRow);
      yield* rows;
      if (rows.length < LOAD_ROWS) return;
      after = rows[rows.length - 1]!.sequence;
    }
  }

  /** Number of a key; it is added where it is new. */
  keyId(name: string, lostThrough: number): number {
    return Number((this.#key.all(name, lostThrough) as [{ id: number }])[0].id);
  }

  insert(event: StoredEvent, keyId: number, storedAt: number, bytes: number): void {
    // libsql and node:sqlite read text up to the first NUL only; bytes they read to the end.
    const data = event.data.includes('\0') ? Buffer.from(event.data) : event.data;
    const { sequence, timestamp, expiresAt } = event;
    this.#insert.run(
      sequence,
      keyId,
      nameColumn(event),
      data,
      event.json ? 1 : 0,
      timestamp,
      expiresAt,
      storedAt,
      bytes,
    );
  }

  /** The events with these sequences, in order. */
  read(sequences: readonly number[]): StoredEvent[] {
    const rows = this.#read.all(JSON.stringify(sequences)) as Record<string, unknown>[];
    return rows.map((row) => ({
      sequence: Number(row.sequence),
      key: row.name as string,
      ...namesOf(row.event as string),
      data: typeof row.data === 'string' ? row.data : Buffer.from(row.data as Uint8Array).toString(),
      json: Number(row.json) === 1,
      timestamp: Number(row.timestamp),
      expiresAt: Number(row.expires_at),
    }));
  }

  /** The oldest rows. */
  oldest(limit: number): OldRow[] {
    const rows = this.#oldest.all(limit) as { sequence: number; name: string; bytes: number; stored_at: number }[];
    return rows.map((row) => ({
      sequence: Number(row.sequence),
      key: row.name,
      bytes: Number(row.bytes),
      storedAt: Number(row.stored_at),
    }));
  }

  /** Deletes rows; returns how many bytes of history they held. */
  delete(sequences: readonly number[]): number {
    const rows = this.#delete.all(JSON.stringify(sequences)) as { bytes: number }[];
    return rows.reduce((sum, { bytes }) => sum + Number(bytes), 0);
  }

  setLost(keyId: number, lostThrough: number, isEmpty: boolean): void {
    this.#setLost.run(lostThrough, isEmpty ? 1 : 0, keyId);
  }

  countEmptyKeys(): number {
    const sql = `SELECT count(*) AS keys FROM ${this.#prefix}keys WHERE is_empty = 1`;
    return Number((this.#db.prepare(sql).all() as [{ keys: number }])[0].keys);
  }

  /** Deletes the `count` keys that have been empty the longest; what they lost is remembered as one number. */
  forgetEmptyKeys(count: number): number {
    const p = this.#prefix;
    const rows = this.#db
      .prepare(
        `DELETE FROM ${p}keys WHERE id IN (SELECT id FROM ${p}keys WHERE is_empty = 1 ORDER BY lost_through LIMIT ?)
         RETURNING lost_through`,
      )
      .all(count) as { lost_through: number }[];
    const forgotten = rows.reduce((most, row) => Math.max(most, Number(row.lost_through)), 0);
    this.#db.prepare(`UPDATE ${p}meta SET forgotten = max(forgotten, ?)`).run(forgotten);
    return rows.length;
  }
}

/**
 * A column that the application fills: SQLite makes an integer of a number that is whole, and node:sqlite throws at one beyond
 * 2^53, as a `ttl` of `Number.MAX_SAFE_INTEGER` gives.
 */
function real(column: string): string {
  return `CAST(${column} AS REAL) AS ${column.replace(/^.*\./, '')}`;
}

function eventRow(row: unknown): EventRow {
  const { sequence, key_id, bytes, expires_at } = row as Record<string, unknown>;
  return { sequence: Number(sequence), keyId: Number(key_id), bytes: Number(bytes), expiresAt: Number(expires_at) };
}

/** The event's name; behind a line feed, which no name has, its priority and tag, where it has any. */
function nameColumn({ event, priority, tag }: StoredEvent): string {
  return priority === undefined && tag === undefined ? event : `${event}\n${priority ?? 0}${tag ?? ''}`;
}

function namesOf(column: string): Pick<StoredEvent, 'event' | 'priority' | 'tag'> {
  const end = column.indexOf('\n');
  if (end === -1) return { event: column };
  const tag = column.slice(end + 2) || undefined;
  return { event: column.slice(0, end), priority: Number(column[end + 1]) as PriorityLevel, tag };
}
