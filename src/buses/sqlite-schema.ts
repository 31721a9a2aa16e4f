/**
 * The tables of a history, and the check that they are ours.
 *
 * - `meta`: one row. `sequence` is that of the newest event ever; `run` is the one that may write; `forgotten` is through
 *   which sequence keys that are not in `keys` may have lost something.
 * - `runs`: one row per start, with the first sequence it gives out. See sqlite.ts for what that is good for.
 * - `keys`: the channel keys, and through which sequence each lost its events.
 * - `events`: the history itself, in order; nothing else is indexed, so that a publish writes to the end of the file.
 *
 * A later version must change the schema before it turns the write-ahead log on, so that the version in the file's
 * header is never older than its tables.
 */
import { SseError } from '../core/errors.js';
import { isBusy, isCorrupt, type SqliteDatabase } from './sqlite-driver.js';

/** Version of the tables, in `meta.schema` and in a file of ours also `PRAGMA user_version`. */
export const SCHEMA_VERSION = 1;

const TABLES = ['meta', 'runs', 'keys', 'events'] as const;

/** Makes the tables; the caller holds a transaction. */
export function createTables(db: SqliteDatabase, prefix: string): void {
  db.exec(`
    CREATE TABLE ${prefix}meta (
      id INTEGER PRIMARY KEY CHECK (id = 1), schema INTEGER NOT NULL, epoch TEXT NOT NULL,
      run INTEGER NOT NULL, sequence INTEGER NOT NULL, forgotten INTEGER NOT NULL
    );
    CREATE TABLE ${prefix}runs (id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, first INTEGER NOT NULL);
    CREATE TABLE ${prefix}keys (
      id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, lost_through INTEGER NOT NULL, is_empty INTEGER NOT NULL
    );
    CREATE INDEX ${prefix}keys_empty ON ${prefix}keys (lost_through) WHERE is_empty = 1;
    CREATE TABLE ${prefix}events (
      sequence INTEGER PRIMARY KEY, key_id INTEGER NOT NULL, event TEXT NOT NULL, data NOT NULL, json INTEGER NOT NULL,
      timestamp NUMERIC NOT NULL, expires_at NUMERIC NOT NULL, stored_at NUMERIC NOT NULL, bytes INTEGER NOT NULL
    );
  `);
  db.prepare(`INSERT INTO ${prefix}meta VALUES (1, ?, ?, 0, 0, 0)`).run(SCHEMA_VERSION, randomToken(12));
  // The cursor of who came before the first event.
  db.prepare(`INSERT INTO ${prefix}runs (token, first) VALUES (?, 0)`).run(randomToken(8));
}

/**
 * True where a database of the application has the tables; throws where only some are there, or others of these names, or of a
 * newer version.
 */
export function hasTables(db: SqliteDatabase, prefix: string): boolean {
  const found = tablesOf(db, prefix);
  if (found !== 'strange') return found === 'ours';
  throw new SseError(
    'SSE_ERR_HISTORY_UNUSABLE',
    `the database has tables named ${prefix}… that are not a history; choose another tablePrefix`,
  );
}

/** For a file that says it is ours. */
export function checkTables(db: SqliteDatabase, prefix: string): void {
  if (tablesOf(db, prefix) !== 'ours') throw new Error('its tables are not those of a history');
}

/** What is there under our names. */
function tablesOf(db: SqliteDatabase, prefix: string): 'none' | 'ours' | 'strange' {
  const names = JSON.stringify(TABLES.map((table) => prefix + table));
  const found = db
    .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name IN (SELECT value FROM json_each(?))")
    .all(names);
  if (found.length === 0) return 'none';
  let meta: unknown[];
  try {
    meta = db.prepare(`SELECT schema, epoch, run, sequence, forgotten FROM ${prefix}meta`).all();
  } catch (error) {
    if (isBusy(error) || isCorrupt(error)) throw error;
    return 'strange';
  }
  if (found.length !== TABLES.length || meta.length !== 1) return 'strange';
  const { schema } = meta[0] as { schema: number };
  if (Number(schema) > SCHEMA_VERSION) {
    throw new SseError(
      'SSE_ERR_HISTORY_UNUSABLE',
      `the history was written by a newer sse-broker (schema ${schema}, this one knows ${SCHEMA_VERSION}), and was left as it is; update, or use another`,
    );
  }
  return 'ours';
}

/** Lower-case letters and digits. */
export function randomToken(length: number): string {
  let token = '';
  while (token.length < length) token += Math.floor(Math.random() * 36).toString(36);
  return token;
}
