/**
 * Opens a history file by name: refuses what is not ours before SQLite touches it, takes the lock that makes this
 * process its only user, and gives it back.
 *
 * The lock is SQLite's own exclusive locking mode (https://sqlite.org/pragma.html#pragma_locking_mode): the operating
 * system drops it when the process dies, however it dies, so there is no false lock after a kill -9.
 */
import { constants, copyFileSync, existsSync, mkdtempSync, realpathSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { SseError } from '../core/errors.js';
import {
  type Driver,
  isBusy,
  isCorrupt,
  isForbidden,
  isFull,
  messageOf,
  rollBack,
  type SqliteDatabase,
} from './sqlite-driver.js';
import { APPLICATION_ID, checkHeader, refusal } from './sqlite-header.js';
import { beginOpening, hold, isHeld, isLockedHere } from './sqlite-held.js';
import { checkTables, createTables, SCHEMA_VERSION } from './sqlite-schema.js';

/** Files above this are not checked page by page at start: it would take seconds. */
const CHECKED_BYTES = 256 * 1024 * 1024;

const LOCK_RETRY_MS = 50;

/** What to do when a database of ours was closed. */
const releases = new WeakMap<SqliteDatabase, () => void>();

/** How much of what `publish` resolved for survives a power cut; a crash of the process alone loses nothing in any. */
export type SqliteSynchronous = 'full' | 'normal' | 'off';

export interface FileOptions {
  readonly file: string;
  readonly tablePrefix: string;
  readonly synchronous: SqliteSynchronous;
  /** How long to wait for another process to let go, in ms. */
  readonly lockTimeout: number;
}

/**
 * Opens `file`, or makes it.
 *
 * @throws {SseError} `SSE_ERR_HISTORY_UNUSABLE` where it is no history file, damaged, of a newer version, beside a log that is
 * another's, or where it may not be written; `SSE_ERR_BUS_UNAVAILABLE` where another process, or anything of this one, holds it,
 * or the disk is full.
 */
export async function openFile(driver: Driver, options: FileOptions): Promise<SqliteDatabase> {
  const deadline = performance.now() + options.lockTimeout;
  for (;;) {
    try {
      return open(driver, options);
    } catch (error) {
      const { file } = options;
      if (!isBusy(error)) throw asRefusal(file, error);
      if (performance.now() >= deadline) {
        throw new SseError(
          'SSE_ERR_BUS_UNAVAILABLE',
          `${file} is in use by ${holderOf(file)}: one history file serves one bus of one process; stop the other, or give this one a file of its own`,
          { cause: error },
        );
      }
    }
    // Held by an operation that was asked for: the process may wait for it.
    await new Promise((resolve) => setTimeout(resolve, LOCK_RETRY_MS));
  }
}

/** Closes a database of {@link openFile} and leaves one plain file: no log beside it, no lock. */
export function closeFile(db: SqliteDatabase): void {
  try {
    // Leaving write-ahead mode is the only way out of the exclusive lock for a client that closes late (libsql).
    db.prepare('PRAGMA journal_mode = DELETE').all();
    db.exec('PRAGMA locking_mode = NORMAL');
    db.prepare('SELECT count(*) FROM sqlite_master').all();
  } catch {
    // A full disk: the log stays beside the file, and the next start reads it.
  } finally {
    db.close();
    releases.get(db)?.();
  }
}

function holderOf(file: string): string {
  if (isHeld(file)) return 'another bus of this process';
  return isLockedHere(file) ? 'another thread, or another connection, of this process' : 'another process';
}

/** Asks before anything is opened: what has the file open would lose its lock when that is closed. */
function open(driver: Driver, options: FileOptions): SqliteDatabase {
  const file = targetOf(options.file);
  if (isHeld(file)) throw busy();
  const endOpening = beginOpening(file);
  if (endOpening === undefined) throw busy();
  try {
    if (isLockedHere(file)) throw busy();
    return openFree(driver, { ...options, file });
  } finally {
    endOpening();
  }
}

/** SQLite follows a link, and has its log where that leads: what lies beside the link says nothing. */
function targetOf(file: string): string {
  try {
    return realpathSync.native(file);
  } catch {
    // Not there yet, or not to be reached, which those find out who try.
    return file;
  }
}

function openFree(driver: Driver, { file, tablePrefix, synchronous }: FileOptions): SqliteDatabase {
  const isNew = checkHeader(file);
  if (!isNew) checkContent(driver, file, tablePrefix);
  const db = driver.open(file, { isReadOnly: false });
  try {
    db.exec('PRAGMA busy_timeout = 0');
    // Before the first access in write-ahead mode, so that the index of the log lies in this process' memory.
    db.exec('PRAGMA locking_mode = EXCLUSIVE');
    // What a crash left of a file that was being made is there, but SQLite takes it back now.
    if (isNew || existsSync(journalOf(file))) create(db, tablePrefix);
    const [row] = db.prepare('PRAGMA journal_mode = WAL').all() as [{ journal_mode: string }];
    if (row.journal_mode !== 'wal') {
      throw new SseError(
        'SSE_ERR_HISTORY_UNUSABLE',
        `${file}: its file system allows no write-ahead log; use a local disk`,
      );
    }
    db.exec(`PRAGMA synchronous = ${synchronous.toUpperCase()}`);
    db.exec('BEGIN IMMEDIATE');
    db.exec('COMMIT');
    if (!isNew) checkTables(db, tablePrefix);
    // Left by a read-only look at a log; with the lock held nobody uses it.
    rmSync(`${file}-shm`, { force: true });
    releases.set(db, hold(file));
    return db;
  } catch (error) {
    letGo(db);
    throw error;
  }
}

const journalOf = (file: string): string => `${file}-journal`;

/** Closes what could not be used, without the lock that a client that closes late would keep. */
function letGo(db: SqliteDatabase): void {
  try {
    db.exec('PRAGMA locking_mode = NORMAL');
    db.prepare('SELECT count(*) FROM sqlite_master').all();
  } catch {
    // It has none, or is no database.
  } finally {
    db.close();
  }
}

/** The tables of a new file, and the mark that makes it ours, in one transaction. */
function create(db: SqliteDatabase, tablePrefix: string): void {
  db.exec('BEGIN EXCLUSIVE');
  try {
    const [{ tables }] = db.prepare('SELECT count(*) AS tables FROM sqlite_master').all() as [{ tables: number }];
    // Otherwise another process was faster, and waits for the lock as we do, or the crash was not while the file was made.
    if (Number(tables) === 0) {
      db.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
      db.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`);
      createTables(db, tablePrefix);
    }
    db.exec('COMMIT');
  } catch (error) {
    rollBack(db);
    throw error;
  }
}

/** Everything that can be known without writing: a connection that cannot write looks at every page. */
function checkContent(driver: Driver, file: string, tablePrefix: string): void {
  // After a crash while the file was made, only SQLite can undo the rest of it.
  if (existsSync(journalOf(file))) return;
  const isSmall = statSync(file).size <= CHECKED_BYTES;
  if (driver.releasesOnClose || !existsSync(`${file}-wal`)) {
    checkPages(driver, file, tablePrefix, isSmall);
  } else if (isSmall) {
    checkCopy(driver, file, tablePrefix);
  }
}

/**
 * For a client that lingers, and that writes the log back when it closes even what it was to read only: it gets a copy (see
 * Driver.releasesOnClose).
 */
function checkCopy(driver: Driver, file: string, tablePrefix: string): void {
  const state = (): string =>
    [file, `${file}-wal`]
      .map((one) => statSync(one, { throwIfNoEntry: false }))
      .map((stat) => `${stat?.size} ${stat?.mtimeMs}`)
      .join();
  const before = state();
  const folder = mkdtempSync(path.join(os.tmpdir(), 'sse-broker-check-'));
  try {
    const copy = path.join(folder, 'history.db');
    for (const end of ['', '-wal']) copyFileSync(file + end, copy + end, constants.COPYFILE_FICLONE);
    checkPages(driver, copy, tablePrefix, true);
  } catch (error) {
    // Copied while another process wrote: no damage, but a lock to wait for.
    if (state() !== before) throw busy();
    throw error;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function checkPages(driver: Driver, file: string, tablePrefix: string, everyPage: boolean): void {
  const db = driver.open(file, { isReadOnly: true });
  try {
    db.exec('PRAGMA busy_timeout = 0');
    checkTables(db, tablePrefix);
    if (!everyPage) return;
    const [row] = db.prepare('PRAGMA quick_check(1)').all() as [Record<string, unknown>];
    const answer = String(Object.values(row)[0]);
    if (answer !== 'ok')
      throw new Error(`database disk image is malformed: ${answer.replaceAll('\n', ' ').slice(0, 120)}`);
  } finally {
    db.close();
  }
}

/** As SQLite says it. */
function busy(): Error {
  return Object.assign(new Error('database is locked'), { code: 'SQLITE_BUSY' });
}

function asRefusal(file: string, error: unknown): unknown {
  if (error instanceof SseError) return error;
  const message = messageOf(error);
  if (isFull(error)) {
    return new SseError('SSE_ERR_BUS_UNAVAILABLE', `${file} cannot be opened while the disk is full (${message})`, {
      cause: error,
    });
  }
  if (isForbidden(error)) {
    const why = `this process must be able to read and write it, and to make files in its folder, which must exist (${message})`;
    return refusal(file, why, error);
  }
  const isDamaged = isCorrupt(error) || message.includes('malformed');
  return refusal(file, isDamaged ? `it is damaged (${message})` : message, error);
}
