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
   * Makes and runs one statement that is a transaction by itself. Undefined where it left nothing behind and may succeed as a
   * transaction: this server or driver has no such statements, a row is there already, or another transaction came in between.
   * Throws what the driver throws; whether it was done is not known then. Absent: there are no round trips to save.
   */
  atOnce?(make: () => Statement): Promise<Result | undefined>;
}

/** How often a transaction is tried that the database asks to try again. */
export const ATTEMPTS = 8;

/** What a driver's error says beyond its class. */
interface DriverError {
  readonly code?: unknown;
  readonly errno?: unknown;
  readonly sqlState?: unknown;
  readonly errcode?: unknown;
  readonly message?: unknown;
}

/** Its SQLSTATE: `code` with pg, `errno` with Bun, `sqlState` with the clients of MySQL. */
function stateOf({ sqlState, code, errno }: DriverError): string | undefined {
  return [sqlState, code, errno].find((one): one is string => typeof one === 'string' && /^[0-9A-Z]{5}$/.test(one));
}

/** True where it is the server's answer to a statement; else what became of that is not known (yet). */
export function isAnswer(error: unknown): boolean {
  return stateOf((error ?? {}) as DriverError) !== undefined;
}

// PostgreSQL: serialization_failure, deadlock_detected. MySQL: ER_LOCK_DEADLOCK; MariaDB: ER_CHECKREAD.
const TRY_AGAIN: ReadonlySet<unknown> = new Set(['40001', '40P01', 'ER_LOCK_DEADLOCK', 'ER_CHECKREAD']);
/** ER_LOCK_DEADLOCK, ER_CHECKREAD, ER_CANT_CHANGE_TX_CHARACTERISTICS. */
const TRY_AGAIN_NUMBERS: ReadonlySet<unknown> = new Set([1213, 1020, 1568]);

/**
 * True where the whole transaction was undone for the sake of another, or could not begin because its connection was in one
 * that somebody else had left open: it is not any more.
 */
export function isTransient(error: unknown): boolean {
  const answer = (error ?? {}) as DriverError;
  return TRY_AGAIN.has(answer.code) || TRY_AGAIN.has(stateOf(answer)) || TRY_AGAIN_NUMBERS.has(answer.errno);
}

/** True where a row was there already: unique_violation of PostgreSQL, ER_DUP_ENTRY of MySQL. */
export function isDuplicate(error: unknown): boolean {
  const answer = (error ?? {}) as DriverError;
  return stateOf(answer) === '23505' || answer.errno === 1062;
}

/**
 * True where a server cannot run a statement that is a transaction by itself, or its sessions begin as they should not.
 * PostgreSQL: read_only_sql_transaction; serialization_failure, which there is none of at READ COMMITTED. MySQL: ER_PARSE_ERROR.
 */
export function cannotBeAtOnce(error: unknown): boolean {
  const answer = (error ?? {}) as DriverError;
  // MySQL has a deadlock in the same class.
  if (typeof answer.errno === 'number') return answer.errno === 1064;
  return ['25006', '40001'].includes(stateOf(answer) ?? '');
}

/**
 * Classes of SQLSTATE that say nothing about a statement as such: connections, constraints, transactions undone, lack of
 * memory or disk, locks, an end from outside (57 of PostgreSQL, 70 of MySQL), the system, faults of the server.
 */
const NOT_THE_STATEMENT: ReadonlySet<string> = new Set(['08', '23', '40', '53', '55', '57', '58', '70', 'XX']);
/**
 * The same, of those that MySQL has no class for: ER_DISK_FULL, ER_RECORD_FILE_FULL, ER_ERROR_DURING_COMMIT,
 * ER_LOCK_WAIT_TIMEOUT, ER_OPTION_PREVENTS_STATEMENT, ER_READ_ONLY_MODE, ER_QUERY_TIMEOUT.
 */
const NOT_THE_STATEMENT_NUMBERS: ReadonlySet<unknown> = new Set([1021, 1114, 1180, 1205, 1290, 1836, 3024]);

/**
 * True where a statement that has never succeeded may have been refused for what it is: a syntax or a way to pass parameters
 * that this server or this driver does not have, under whatever number. Nothing was done then; of an error that is not the
 * server's, such as a client's deadline, nobody knows that.
 */
export function mayBeRefused(error: unknown): boolean {
  const answer = (error ?? {}) as DriverError;
  const state = stateOf(answer);
  if (state === undefined && typeof answer.errno !== 'number') return false;
  return !NOT_THE_STATEMENT.has(state?.slice(0, 2) ?? '') && !NOT_THE_STATEMENT_NUMBERS.has(answer.errno);
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
