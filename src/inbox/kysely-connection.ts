/**
 * A {@link SqlConnection} through Kysely: over a pool of `pg` or `mysql2`, or the application's own Kysely instance. Kysely
 * takes a connection of the pool for each transaction, and gives it back.
 */
import { SseError, shown } from '../core/errors.js';
import {
  ATTEMPTS,
  cannotBeAtOnce,
  isAnswer,
  isDuplicate,
  isSqliteBusy,
  isTransient,
  mayBeRefused,
  type SqlConnection,
} from './sql-connection.js';
import type { SqlDialect } from './sql-dialect.js';
import { numberOf, type Result, type Row, type Statement, type Work } from './sql-work.js';

/** In ms since 1970: more than 32 bits, and a lower half that is no signed integer. */
const A_TIME = 1_700_000_000_000;

interface KyselyResult {
  readonly rows: readonly unknown[];
  readonly numAffectedRows?: bigint | undefined;
  readonly insertId?: bigint | undefined;
}

/** The part of a Kysely instance or transaction that we call. */
export interface KyselyLike {
  withoutPlugins(): KyselyLike;
  connection(): { execute<T>(work: (connection: KyselyLike) => Promise<T>): Promise<T> };
  // biome-ignore lint/suspicious/noExplicitAny: each version of Kysely has its own type for a compiled query
  executeQuery(query: any): Promise<KyselyResult>;
}

type Raw = (sql: string, parameters: unknown[]) => unknown;
interface KyselyModule {
  readonly CompiledQuery: { raw: Raw };
  readonly Kysely: new (config: { dialect: unknown }) => KyselyLike;
  readonly PostgresDialect: new (config: { pool: unknown }) => unknown;
  readonly MysqlDialect: new (config: { pool: unknown }) => unknown;
}

/** @throws {SseError} `SSE_ERR_PACKAGE_MISSING` */
async function importKysely(): Promise<KyselyModule> {
  try {
    return (await import('kysely')) as unknown as KyselyModule;
  } catch (cause) {
    throw new SseError('SSE_ERR_PACKAGE_MISSING', 'SqlStore needs Kysely for this database: run "npm install kysely"', {
      cause,
    });
  }
}

/** The part of a client and a pool of `pg` that is needed to give back only what the next one can use. */
interface PostgresClient {
  on(event: 'error', listener: () => void): unknown;
  off(event: 'error', listener: () => void): unknown;
  query(sql: string, parameters: readonly unknown[]): Promise<unknown>;
  /** `I`: in no transaction. Absent before pg 8.21. */
  getTransactionStatus?(): string | null;
  release(destroy: boolean): void;
}
interface PostgresPool {
  connect(): Promise<PostgresClient>;
}

/**
 * The pool, with somebody who looks after its connections while they are taken:
 *
 * - One breaks: pg's pool only listens to those that are not taken, and an error that nobody hears ends the process. Its
 *   statement rejects, and says it to the caller.
 * - A statement has no answer (`query_timeout`): it goes on, and what should undo it may never be sent. In the pool again, its
 *   transaction would keep its locks, and take up what others do on it, to be undone some day.
 * - The application has given one back within a transaction: likewise.
 */
function lookedAfter(pool: PostgresPool): object {
  const ignore = (): void => {};
  return {
    connect: async () => {
      const client = await pool.connect();
      client.on('error', ignore);
      let isUnanswered = false;
      const query = (sql: string, parameters: readonly unknown[]): Promise<unknown> =>
        client.query(sql, parameters).catch((error: unknown) => {
          isUnanswered ||= !isAnswer(error);
          throw error;
        });
      const release = (): void => {
        client.off('error', ignore);
        client.release(isUnanswered);
      };
      const status = client.getTransactionStatus?.() ?? 'I';
      // Where it fails, so does whatever comes next.
      if (status !== 'I') await query('ROLLBACK', []).catch(ignore);
      return { query, release };
    },
  };
}

/** Kysely over a pool of the application's; nothing is opened before the first statement. */
export async function kyselyOver(dialect: 'postgres' | 'mysql', pool: unknown): Promise<KyselyLike> {
  const { Kysely, PostgresDialect, MysqlDialect } = await importKysely();
  if (dialect === 'postgres')
    return new Kysely({ dialect: new PostgresDialect({ pool: lookedAfter(pool as PostgresPool) }) });
  // A pool of mysql2/promise keeps the one with callbacks, which Kysely knows, inside.
  const inner = (pool as { readonly pool?: unknown }).pool ?? pool;
  return new Kysely({ dialect: new MysqlDialect({ pool: inner }) });
}

/** Runs one statement on a Kysely instance or transaction. */
export async function kyselyExecutor(dialect: SqlDialect): Promise<Executor> {
  const { CompiledQuery } = await importKysely();
  return async (kysely, sql, parameters) => {
    const query = CompiledQuery.raw(dialect.numbered(sql), dialect.bound(parameters) as unknown[]);
    const { rows, numAffectedRows, insertId } = await kysely.executeQuery(query);
    return { rows: rows as readonly Row[], changes: Number(numAffectedRows ?? 0), insertId: Number(insertId ?? 0) };
  };
}

type Executor = (kysely: KyselyLike, sql: string, parameters: readonly unknown[]) => Promise<Result>;

export class KyselyConnection implements SqlConnection {
  readonly #kysely: KyselyLike;
  readonly #dialect: SqlDialect;
  readonly #execute: Executor;
  #isNeverAtOnce = false;
  #wasAtOnce = false;
  /** Whether each statement is a transaction by itself; undefined: nobody has asked. */
  #isAutocommit: boolean | undefined;

  constructor(kysely: KyselyLike, dialect: SqlDialect, execute: Executor) {
    // A plugin would rename our columns (CamelCasePlugin) or move our tables.
    this.#kysely = kysely.withoutPlugins();
    this.#dialect = dialect;
    this.#execute = execute;
  }

  async transaction<T>(mode: 'write' | 'read', work: () => Work<T>): Promise<T> {
    const begin = mode === 'write' ? this.#dialect.begin : this.#dialect.beginRead;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#kysely.connection().execute((connection) => this.#once(connection, begin, work));
      } catch (error) {
        if (attempt === ATTEMPTS || !(isTransient(error) || isSqliteBusy(error))) throw error;
        // Those that met each other must not meet again.
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 10 * 2 ** attempt));
      }
    }
  }

  async each<T>(work: () => Work<T>): Promise<T> {
    return this.#kysely.connection().execute(async (connection) => {
      this.#isAutocommit ??= await this.#askSession(connection);
      if (this.#isAutocommit) return this.#run(connection, work());
      // The first statement has begun a transaction, which must not go back to the pool: it would see today's rows tomorrow.
      return this.#once(connection, [], work);
    });
  }

  async atOnce(make: () => Statement): Promise<Result | undefined> {
    if (this.#isNeverAtOnce) return undefined;
    const { sql, parameters } = make();
    return this.#kysely.connection().execute(async (connection) => {
      try {
        const result = await this.#execute(connection, sql, parameters);
        this.#wasAtOnce = true;
        return result;
      } catch (error) {
        // On MariaDB its transaction is open still, wherever it failed or was killed. And a connection that is gone is known
        // to be when this is answered, before the pool has it back.
        const isConnected = await this.#rollBack(connection);
        if (cannotBeAtOnce(error)) this.#isNeverAtOnce = true;
        else if (isDuplicate(error) || isTransient(error)) return undefined;
        else if (!this.#wasAtOnce && isConnected && mayBeRefused(error)) this.#isNeverAtOnce = true;
        else throw error;
        return undefined;
      }
    });
  }

  /** @throws {SseError} `SSE_ERR_INVALID_OPTION` where text is not safe in it or cannot be kept, or numbers come wrong */
  async #askSession(connection: KyselyLike): Promise<boolean> {
    const { askSession } = this.#dialect;
    if (askSession === undefined) return true;
    const { rows } = await this.#execute(connection, askSession, [A_TIME]);
    if (String(rows[0]?.mode).includes('NO_BACKSLASH_ESCAPES')) {
      throw new SseError(
        'SSE_ERR_INVALID_OPTION',
        'the connections of the pool have the sql_mode NO_BACKSLASH_ESCAPES, in which clients of MySQL do not escape text' +
          ' right; take it out of sql_mode, of the server or where the pool sets it',
      );
    }
    const time = rows[0]?.time;
    if (numberOf(time) !== A_TIME) {
      throw new SseError(
        'SSE_ERR_INVALID_OPTION',
        `the driver must give rows as objects, and 64-bit integers right: it gave ${shown(time)} for ${A_TIME}, as pg does with` +
          ' binary: true',
      );
    }
    // What a statement says between quotes comes to the tables in the character set of the connection.
    if (numberOf(rows[0]?.width ?? 1) !== 1) {
      throw new SseError(
        'SSE_ERR_INVALID_OPTION',
        'the connections of the pool have a character_set_connection with several bytes for a letter; set it to utf8mb4',
      );
    }
    // SQL_ASCII keeps the bytes that it is given.
    const { encoding = 'UTF8' } = rows[0] ?? {};
    if (encoding !== 'UTF8' && encoding !== 'SQL_ASCII') {
      throw new SseError(
        'SSE_ERR_INVALID_OPTION',
        `the database must have the encoding UTF8, to keep whatever text is sent; got ${encoding}`,
      );
    }
    return numberOf(rows[0]?.autocommit ?? 1) !== 0;
  }

  async #once<T>(connection: KyselyLike, begin: readonly string[], work: () => Work<T>): Promise<T> {
    try {
      for (const sql of begin) await this.#execute(connection, sql, []);
      const result = await this.#run(connection, work());
      await this.#execute(connection, this.#dialect.commit, []);
      return result;
    } catch (error) {
      await this.#rollBack(connection);
      throw error;
    }
  }

  /** Resolves to whether there was anybody to do it. */
  async #rollBack(connection: KyselyLike): Promise<boolean> {
    try {
      await this.#execute(connection, this.#dialect.rollback, []);
      return true;
    } catch {
      // The connection is broken: its transaction went with it, and the pool drops it.
      return false;
    }
  }

  async #run<T>(connection: KyselyLike, work: Work<T>): Promise<T> {
    for (let step = work.next(); ; ) {
      if (step.done) return step.value;
      let result: Result;
      try {
        result = await this.#execute(connection, step.value.sql, step.value.parameters);
      } catch (error) {
        step = work.throw(error);
        continue;
      }
      step = work.next(result);
    }
  }
}
