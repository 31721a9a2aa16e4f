/**
 * Where statements run: {@link SqlConnection}, over a pool or a Kysely instance (kysely-connection.ts), or over an SQLite
 * handle (sqlite-connection.ts). What a failure means is decided here, once.
 */
import { isSseError, SseError } from '../core/errors.js';
import type { Result, Statement, Work } from './sql-work.js';

export interface SqlConnection {
  /**
   * Does `work` in one transaction: `write` locks what it touches, `read` sees one state of the database. `work` is made anew
   * where the database asks to try again (deadlock, busy). Throws what the driver throws.
   */
  transaction<T>(mode: 'write' | 'read', work: () => Work<T>): Promise<T>;
  /** Runs statements one by one on one connection, without a transaction. */
  each<T>(work: () => Work<T>): Promise<T>;
  /**
   * Makes and runs one statement that is a transaction by itself. Undefined where it left nothing behind and may succeed as a transaction:
   * this server has no such statements, a row is there already, or another transaction came in between. Throws what the driver
   * throws; whether it was done is not known then. Absent: there are no round trips to save.
   */
  atOnce?(make: () => Statement): Promise<Result | undefined>;
}

/** How often a transaction is tried that the database asks to try again. */
export const ATTEMPTS = 8;

/** What a driver's error says beyond its class. */
interface DriverError {
  readonly code?: unknown;
  readonly errno?: unknown;
  readonly errcode?: unknown;
  readonly message?: unknown;
}

// PostgreSQL: serialization_failure, deadlock_detected. MySQL: ER_LOCK_DEADLOCK; MariaDB: ER_CHECKREAD.
const TRY_AGAIN: ReadonlySet<unknown> = new Set(['40001', '40P01', 'ER_LOCK_DEADLOCK', 'ER_CHECKREAD']);

/** True where the whole transaction was undone for the sake of another. */
export function isTransient(error: unknown): boolean {
  const { code, errno } = (error ?? {}) as DriverError;
  return TRY_AGAIN.has(code) || errno === 1213 || errno === 1020;
}

/** True where a row was there already: unique_violation of PostgreSQL, ER_DUP_ENTRY of MySQL. */
export function isDuplicate(error: unknown): boolean {
  const { code, errno } = (error ?? {}) as DriverError;
  return code === '23505' || errno === 1062;
}

/**
 * True where a server cannot run a statement that is a transaction by itself, or its sessions begin as they should not.
 * PostgreSQL: read_only_sql_transaction; serialization_failure, which there is none of at READ COMMITTED. MySQL: ER_PARSE_ERROR.
 */
export function cannotBeAtOnce(error: unknown): boolean {
  const { code, errno } = (error ?? {}) as DriverError;
  return code === '25006' || code === '40001' || errno === 1064;
}

/** True where another connection has an SQLite file, or this handle is in a transaction of the application's. */
export function isSqliteBusy(error: unknown): boolean {
  const { code, errcode, message } = (error ?? {}) as DriverError;
  if (typeof errcode === 'number' && [5, 6].includes(errcode & 0xff)) return true;
  if (typeof code === 'string' && /^SQLITE_(BUSY|LOCKED)/.test(code)) return true;
  return typeof message === 'string' && /database (table )?is locked|within a transaction/.test(message);
}

/** A driver's error as ours. */
export function storeError(error: unknown): SseError {
  if (isSseError(error)) return error;
  const { code, message } = (error ?? {}) as DriverError;
  // pg puts the failures of several addresses into an error without a message.
  const reason = typeof message === 'string' && message !== '' ? message : String(code ?? error);
  return new SseError('SSE_ERR_STORE_UNAVAILABLE', `the database of the inbox failed: ${reason}`, { cause: error });
}
