/**
 * A {@link SqlConnection} over an SQLite handle of the application's: better-sqlite3, libsql or node:sqlite.
 *
 * Not through Kysely: there a transaction spans turns of the promise queue, and what the application does with the same
 * handle meanwhile would fall into our transaction, or fail. Here a transaction begins and ends within one call.
 */
import { ATTEMPTS, isSqliteBusy, type SqlConnection } from './sql-connection.js';
import type { SqlDialect } from './sql-dialect.js';
import type { Result, Row, Work } from './sql-work.js';

interface SqliteStatement {
  run(...parameters: unknown[]): { readonly changes: number | bigint };
  all(...parameters: unknown[]): unknown[];
}

/** The part of a database of better-sqlite3, libsql or node:sqlite that we call. */
export interface SqliteHandle {
  exec(sql: string): unknown;
  prepare(sql: string): SqliteStatement;
  /** better-sqlite3 and libsql. */
  readonly inTransaction?: boolean;
  /** node:sqlite. */
  readonly isTransaction?: boolean;
}

interface Prepared {
  readonly statement: SqliteStatement;
  readonly returnsRows: boolean;
}

/** Prepared statements that are kept; the least recently used goes first. */
const STATEMENT_LIMIT = 200;
/** How long a statement waits for a file that others have, in ms, before the store is unavailable. */
const BUSY_MS = 10_000;

const RETURNS_ROWS = /^\s*(SELECT|WITH|EXPLAIN|PRAGMA)\b|\bRETURNING\b/i;

export function isInTransaction({ inTransaction, isTransaction }: SqliteHandle): boolean | undefined {
  return inTransaction ?? isTransaction;
}

export class SqliteConnection implements SqlConnection {
  readonly #database: SqliteHandle;
  readonly #dialect: SqlDialect;
  /** Parameters may be one list. */
  readonly #takesLists: boolean;
  readonly #statements = new Map<string, Prepared>();

  constructor(database: SqliteHandle, dialect: SqlDialect) {
    this.#database = database;
    this.#takesLists = typeof database.inTransaction === 'boolean';
    this.#dialect = dialect;
  }

  async transaction<T>(mode: 'write' | 'read', work: () => Work<T>): Promise<T> {
    return this.#patiently(() => this.#once(mode, work));
  }

  /** In a transaction as well: in one of the application's it would see what that saw when it began. */
  async each<T>(work: () => Work<T>): Promise<T> {
    return this.transaction('read', work);
  }

  /** One statement, within whatever transaction the handle is in. */
  execute(sql: string, parameters: readonly unknown[]): Result {
    let prepared = this.#statements.get(sql);
    if (prepared === undefined) {
      prepared = { statement: this.#database.prepare(sql), returnsRows: RETURNS_ROWS.test(sql) };
      const [oldest] = this.#statements.keys();
      if (this.#statements.size >= STATEMENT_LIMIT && oldest !== undefined) this.#statements.delete(oldest);
    } else {
      this.#statements.delete(sql);
    }
    this.#statements.set(sql, prepared);
    const { statement, returnsRows } = prepared;
    // node:sqlite takes a list for names. To the others it is the cheaper form (bench/README.md).
    const bound = this.#takesLists ? [parameters] : parameters;
    if (returnsRows) return { rows: statement.all(...bound) as Row[], changes: 0 };
    return { rows: [], changes: Number(statement.run(...bound).changes) };
  }

  async #patiently<T>(attempt: () => T): Promise<T> {
    const deadline = performance.now() + BUSY_MS;
    for (let tries = 1; ; tries++) {
      try {
        return attempt();
      } catch (error) {
        if (!isSqliteBusy(error) || performance.now() > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 2 ** Math.min(tries, ATTEMPTS)));
      }
    }
  }

  #once<T>(mode: 'write' | 'read', work: () => Work<T>): T {
    // Fails where the application has a transaction open across turns: that is waited for, and never joined.
    for (const sql of mode === 'write' ? this.#dialect.begin : this.#dialect.beginRead) this.#database.exec(sql);
    try {
      const result = this.#run(work());
      this.#database.exec('COMMIT');
      return result;
    } catch (error) {
      try {
        this.#database.exec('ROLLBACK');
      } catch {
        // SQLite has rolled back itself (https://sqlite.org/lang_transaction.html, "Response To Errors").
      }
      throw error;
    }
  }

  #run<T>(work: Work<T>): T {
    for (let step = work.next(); ; ) {
      if (step.done) return step.value;
      let result: Result;
      try {
        result = this.execute(step.value.sql, step.value.parameters);
      } catch (error) {
        step = work.throw(error);
        continue;
      }
      step = work.next(result);
    }
  }
}
