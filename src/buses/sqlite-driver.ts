/**
 * The part of an SQLite client that we call, which better-sqlite3, libsql and node:sqlite have in common; how one is
 * found for a file name; and what their errors mean.
 *
 * Only `exec` and `prepare` with `run` and `all` are used. `get` is not: in some versions it leaves its statement open,
 * and with it a read transaction.
 */
import { SseError } from '../core/errors.js';

/** A prepared statement of better-sqlite3, libsql or node:sqlite. */
export interface SqliteStatement {
  run(...parameters: unknown[]): { readonly changes: number | bigint };
  all(...parameters: unknown[]): unknown[];
}

/** A database of better-sqlite3 or libsql (`new Database(file)`), or of node:sqlite (`new DatabaseSync(file)`). */
export interface SqliteDatabase {
  exec(sql: string): unknown;
  prepare(sql: string): SqliteStatement;
  close(): unknown;
}

export interface Driver {
  readonly name: 'node:sqlite' | 'better-sqlite3' | 'libsql';
  open(file: string, options: { readonly isReadOnly: boolean }): SqliteDatabase;
  /**
   * False where a closed database keeps its lock until its statements are collected as garbage, and where "read only" is
   * not kept to when a write-ahead log is there (libsql 0.5): such a one must not look at a file before it opens it.
   */
  readonly releasesOnClose: boolean;
}

type DatabaseClass = new (file: string, options: Record<string, unknown>) => SqliteDatabase;

/**
 * The first of node:sqlite, better-sqlite3 and libsql that is there and works.
 *
 * @throws {SseError} `SSE_ERR_PACKAGE_MISSING`
 */
export async function findDriver(): Promise<Driver> {
  const failures: unknown[] = [];
  // `getBuiltinModule` answers undefined where there is none: Node 20, and 22 before 22.13 without a flag.
  const builtin = process.getBuiltinModule?.('node:sqlite') as { DatabaseSync?: DatabaseClass } | undefined;
  if (builtin?.DatabaseSync !== undefined) return builtinDriver(builtin.DatabaseSync);
  for (const name of ['better-sqlite3', 'libsql'] as const) {
    try {
      // By a name that bundlers do not follow: what is not installed must not break their build.
      const { default: Database } = (await import(/* @vite-ignore */ name)) as { default: DatabaseClass };
      // A native part that was never built, or for another Node, shows itself only here.
      new Database(':memory:', {}).close();
      return packageDriver(name, Database);
    } catch (error) {
      failures.push(error);
    }
  }
  const broken = failures.find((error) => (error as { code?: unknown }).code !== 'ERR_MODULE_NOT_FOUND');
  throw new SseError(
    'SSE_ERR_PACKAGE_MISSING',
    'SqliteBus needs an SQLite client: use Node 22.13 or newer, which has node:sqlite built in, or run "npm install ' +
      `better-sqlite3" or "npm install libsql"${broken === undefined ? '' : `; one is installed but does not work: ${messageOf(broken)}`}`,
    { cause: broken ?? failures[0] },
  );
}

function builtinDriver(Database: DatabaseClass): Driver {
  return {
    name: 'node:sqlite',
    open: (file, { isReadOnly }) => new Database(file, { readOnly: isReadOnly }),
    releasesOnClose: true,
  };
}

function packageDriver(name: 'better-sqlite3' | 'libsql', Database: DatabaseClass): Driver {
  return {
    name,
    // `timeout: 0`: better-sqlite3 would block the process for five seconds where the file is locked.
    open: (file, { isReadOnly }) => new Database(file, { readonly: isReadOnly, timeout: 0 }),
    releasesOnClose: name !== 'libsql',
  };
}

const BUSY = 5;
const READ_ONLY = 8;
const CORRUPT = 11;
const FULL = 13;
const CANNOT_OPEN = 14;
const NOT_A_DATABASE = 26;
const PRIMARY_CODES: Readonly<Record<string, number>> = {
  SQLITE_BUSY: BUSY,
  SQLITE_READONLY: READ_ONLY,
  SQLITE_CORRUPT: CORRUPT,
  SQLITE_FULL: FULL,
  SQLITE_CANTOPEN: CANNOT_OPEN,
  SQLITE_NOTADB: NOT_A_DATABASE,
};

/** The primary result code (https://sqlite.org/rescode.html) of an error, 0 where it is none of those we look for. */
function resultCode(error: unknown): number {
  const { code, errcode } = (error ?? {}) as { code?: unknown; errcode?: unknown };
  // node:sqlite: the extended code as a number, whose low byte is the primary one.
  if (typeof errcode === 'number') return errcode & 0xff;
  if (typeof code !== 'string') return 0;
  // better-sqlite3 and libsql: a name, with the extension behind it, as in SQLITE_BUSY_RECOVERY.
  return PRIMARY_CODES[code.split('_').slice(0, 2).join('_')] ?? 0;
}

/** Somebody else holds the file. */
export function isBusy(error: unknown): boolean {
  return resultCode(error) === BUSY;
}

/** No room on the disk; for the operating system, which counts files too, or for SQLite. */
export function isFull(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return resultCode(error) === FULL || code === 'ENOSPC' || code === 'EDQUOT';
}

/** The file is damaged, or no database. */
export function isCorrupt(error: unknown): boolean {
  return resultCode(error) === CORRUPT || resultCode(error) === NOT_A_DATABASE;
}

/** What the operating system says where a file or its folder may not be used, or is not there. */
const FORBIDDEN: ReadonlySet<unknown> = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOENT', 'ENOTDIR']);

/** The file cannot be opened as it must be: permissions, a read-only file system, a folder that is not there. */
export function isForbidden(error: unknown): boolean {
  const code = resultCode(error);
  return code === CANNOT_OPEN || code === READ_ONLY || FORBIDDEN.has((error as { code?: unknown } | null)?.code);
}

/** After a failure; SQLite may have done it itself (https://sqlite.org/lang_transaction.html, "Response To Errors"). */
export function rollBack(db: SqliteDatabase): void {
  try {
    db.exec('ROLLBACK');
  } catch {
    // It has.
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
