/** The databases that stores are tested with: real ones, each test with tables of its own that go with it. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createPool as createCallbackPool } from 'mysql2';
import { createPool, type Pool as MysqlPool } from 'mysql2/promise';
import pg from 'pg';
import { afterAll } from 'vitest';
import { MemoryStore } from '../../src/inbox/memory-store.js';
import { SQL_DIALECTS, type SqlDialectName } from '../../src/inbox/sql-dialect.js';
import { tablesOf } from '../../src/inbox/sql-schema.js';
import { SqlStore } from '../../src/inbox/sql-store.js';
import type { Result } from '../../src/inbox/sql-work.js';
import { SqliteConnection, type SqliteHandle } from '../../src/inbox/sqlite-connection.js';
import type { InboxStore } from '../../src/inbox/store.js';
import { type TestDriver, testDrivers } from '../buses/sqlite-drivers.js';
import { skipUnless } from '../support/skip.js';

/** A database as one test uses it. */
export interface TestDatabase {
  readonly dialect: SqlDialectName;
  readonly prefix: string;
  /** A store with connections of its own, as another process would have it. */
  store(): SqlStore;
  /** One more handle on the file, of SQLite. */
  connect?(): unknown;
  /** Runs `work` in a transaction on the plain driver. */
  transaction(work: (tx: unknown) => Promise<void>): Promise<void>;
  /** One statement on the plain driver, with `?` or `$1` as it wants them. */
  query(sql: string, parameters?: readonly unknown[]): Promise<Record<string, unknown>[]>;
  /** One statement with `?`, and what a store is told of it. */
  run(sql: string, parameters: readonly unknown[]): Promise<Result>;
  /** Leaves the tables empty, for the next test, and closes what was opened. */
  dispose(): Promise<void>;
  /** Drops the tables, where a test made a mess of them, and closes what was opened. */
  remove(): Promise<void>;
  /** Closes what was opened. */
  end(): Promise<void>;
}

/** Where an inbox keeps its messages, and a transaction of the application there. */
export interface InboxBackend {
  store(): InboxStore;
  transaction(work: (tx: unknown) => Promise<void>, isCommitted: boolean): Promise<void>;
}

const DEADLINE_MS = 5_000;
export const POSTGRES = process.env.POSTGRES_URL ?? 'postgres://postgres@127.0.0.1:5432/test';
export const MYSQL = process.env.MYSQL_URL ?? 'mysql://root@127.0.0.1:3306/test';

const newPrefix = (): string => `t${randomBytes(6).toString('hex')}_`;

/**
 * Prefixes whose tables are there and empty: making a dozen tables takes a server a second, emptying them nothing. They are
 * dropped after the last test of a file.
 */
const ready: Record<'postgres' | 'mysql', string[]> = { postgres: [], mysql: [] };

type Query = TestDatabase['query'];

async function empty(dialect: 'postgres' | 'mysql', prefix: string, query: Query): Promise<void> {
  const tables = Object.entries(tablesOf(prefix));
  for (const [name, table] of tables) {
    if (name === 'sequence') await query(`UPDATE ${table} SET value = 0`);
    else if (name !== 'migration') await query(`DELETE FROM ${table}`);
  }
  ready[dialect].push(prefix);
}

async function drop(prefix: string, query: Query): Promise<void> {
  await query(`DROP TABLE IF EXISTS ${Object.values(tablesOf(prefix)).join(', ')}`);
}

afterAll(async () => {
  for (const [dialect, connect] of [
    ['postgres', postgresDatabase],
    ['mysql', mysqlDatabase],
  ] as const) {
    while (ready[dialect].length > 0) {
      const database = await connect();
      await drop(database.prefix, database.query);
      await database.end();
    }
  }
});

export async function sqliteDatabase(driver?: TestDriver): Promise<TestDatabase> {
  const { open } = driver ?? (await testDrivers())[0]!;
  const folder = mkdtempSync(path.join(os.tmpdir(), 'sse-broker-inbox-'));
  const file = path.join(folder, 'inbox.db');
  const handles: { close(): unknown }[] = [];
  const connect = () => {
    const database = open(file);
    handles.push(database);
    return database;
  };
  const end = async (): Promise<void> => {
    for (const handle of handles) handle.close();
    rmSync(folder, { recursive: true, force: true });
  };
  const own = connect();
  own.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL');
  const prefix = newPrefix();
  return {
    dialect: 'sqlite',
    prefix,
    connect,
    store: () => new SqlStore({ dialect: 'sqlite', database: connect() as SqliteHandle, prefix }),
    transaction: async (work) => {
      own.exec('BEGIN');
      try {
        await work(own);
        own.exec('COMMIT');
      } catch (error) {
        own.exec('ROLLBACK');
        throw error;
      }
    },
    query: async (sql, parameters = []) => own.prepare(sql).all(...parameters) as Record<string, unknown>[],
    run: async (sql, parameters) => new SqliteConnection(own, SQL_DIALECTS.sqlite).execute(sql, parameters),
    dispose: end,
    remove: end,
    end,
  };
}

/** Without a database: one in memory. */
export function backendOf(database: TestDatabase | undefined): InboxBackend {
  if (database === undefined) {
    const memory = new MemoryStore();
    return {
      store: () => memory,
      transaction: async (work, isCommitted) => {
        const tx = memory.begin();
        await work(tx);
        if (isCommitted) tx.commit();
        else tx.rollback();
      },
    };
  }
  const onPurpose = new Error('rolled back on purpose');
  return {
    store: () => database.store(),
    transaction: async (work, isCommitted) => {
      const all = database.transaction(async (tx) => {
        await work(tx);
        if (!isCommitted) throw onPurpose;
      });
      await all.catch((error: unknown) => {
        if (error !== onPurpose) throw error;
      });
    },
  };
}

let postgresProblem: Promise<string | undefined> | undefined;

export async function postgresDatabase(): Promise<TestDatabase> {
  postgresProblem ??= reach(async () => {
    const client = new pg.Client({ connectionString: POSTGRES, connectionTimeoutMillis: DEADLINE_MS });
    await client.connect();
    await client.end();
  });
  const problem = await postgresProblem;
  skipUnless(problem === undefined, `no PostgreSQL at ${POSTGRES} (POSTGRES_URL): ${problem}`);
  const prefix = ready.postgres.pop() ?? newPrefix();
  const pools: pg.Pool[] = [];
  const connect = (max: number) => {
    const pool = new pg.Pool({ connectionString: POSTGRES, max });
    // A pool says so when an idle connection breaks, as it does in tests that break them.
    pool.on('error', () => {});
    pools.push(pool);
    return pool;
  };
  const own = connect(1);
  const query = async (sql: string, parameters: readonly unknown[] = []) =>
    (await own.query(sql, [...parameters])).rows as Record<string, unknown>[];
  return {
    dialect: 'postgres',
    prefix,
    store: () => new SqlStore({ dialect: 'postgres', pool: connect(4), prefix }),
    transaction: async (work) => {
      const client = await own.connect();
      try {
        await client.query('BEGIN');
        await work(client);
        await client.query('COMMIT');
      } catch (error) {
        await client.query('ROLLBACK');
        throw error;
      } finally {
        client.release();
      }
    },
    query,
    run: async (sql, parameters) => {
      const { rows, rowCount } = await own.query(SQL_DIALECTS.postgres.numbered(sql), [...parameters]);
      return { rows, changes: rowCount ?? 0 };
    },
    ...endings('postgres', prefix, query, async () => void (await Promise.all(pools.map((pool) => pool.end())))),
  };
}

let mysqlProblem: Promise<string | undefined> | undefined;

/** `callbacks`: stores get a pool of mysql2, else one of mysql2/promise. */
export async function mysqlDatabase({ callbacks = false } = {}): Promise<TestDatabase> {
  mysqlProblem ??= reach(async () => {
    const pool = createPool({ uri: MYSQL, connectTimeout: DEADLINE_MS });
    await pool.query('SELECT 1');
    await pool.end();
  });
  const problem = await mysqlProblem;
  skipUnless(problem === undefined, `no MariaDB or MySQL at ${MYSQL} (MYSQL_URL): ${problem}`);
  const prefix = ready.mysql.pop() ?? newPrefix();
  const ends: (() => Promise<void>)[] = [];
  const connect = (connectionLimit: number): MysqlPool => {
    const pool = createPool({ uri: MYSQL, connectionLimit });
    ends.push(() => pool.end());
    return pool;
  };
  const forStore = (): object => {
    if (!callbacks) return connect(4);
    const pool = createCallbackPool({ uri: MYSQL, connectionLimit: 4 });
    ends.push(() => pool.promise().end());
    return pool;
  };
  const own = connect(1);
  const query = async (sql: string, parameters: readonly unknown[] = []) =>
    (await own.query(sql, [...parameters]))[0] as Record<string, unknown>[];
  return {
    dialect: 'mysql',
    prefix,
    store: () => new SqlStore({ dialect: 'mysql', pool: forStore(), prefix }),
    transaction: async (work) => {
      const connection = await own.getConnection();
      try {
        await connection.beginTransaction();
        await work(connection);
        await connection.commit();
      } catch (error) {
        await connection.rollback();
        throw error;
      } finally {
        connection.release();
      }
    },
    query,
    run: async (sql, parameters) => {
      const [answer] = await own.query(sql, [...parameters]);
      if (Array.isArray(answer)) return { rows: answer as Record<string, unknown>[], changes: 0 };
      return { rows: [], changes: answer.affectedRows, insertId: answer.insertId };
    },
    ...endings('mysql', prefix, query, async () => void (await Promise.all(ends.map((end) => end())))),
  };
}

function endings(dialect: 'postgres' | 'mysql', prefix: string, query: Query, end: () => Promise<void>) {
  const after = (work: () => Promise<void>) => async () => {
    try {
      await work();
    } finally {
      await end();
    }
  };
  return { end, dispose: after(() => empty(dialect, prefix, query)), remove: after(() => drop(prefix, query)) };
}

async function reach(connect: () => Promise<void>): Promise<string | undefined> {
  try {
    await connect();
    return undefined;
  } catch (error) {
    return String(error);
  }
}
