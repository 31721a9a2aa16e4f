/** Messages in the caller's own transaction: through Kysely, through plain drivers, heard of at once on PostgreSQL. */
import { Kysely, MysqlDialect, PostgresDialect, SqliteDialect } from 'kysely';
import { createPool as createCallbackPool } from 'mysql2';
import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { SqlStore } from '../../src/inbox/sql-store.js';
import type { InboxStore } from '../../src/inbox/store.js';
import { idsOf, message, NOW, toUser } from '../../src/testing/store-case.js';
import { testDrivers } from '../buses/sqlite-drivers.js';
import { until } from '../support/until.js';
import {
  backendOf,
  MYSQL,
  mysqlDatabase,
  POSTGRES,
  postgresDatabase,
  sqliteDatabase,
  type TestDatabase,
} from './databases.js';

const relayed = async (store: InboxStore) => idsOf(await store.relay({ node: 'node-1', limit: 100, now: NOW }));

async function started(database: TestDatabase): Promise<SqlStore> {
  const store = database.store();
  await store.start();
  onTestFinished(async () => {
    await store.close();
    await database.dispose();
  });
  return store;
}

/** The application's own Kysely, over a pool or handle of its own. */
async function kyselyOf(database: TestDatabase): Promise<Kysely<never>> {
  if (database.dialect === 'postgres') {
    return new Kysely({ dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString: POSTGRES }) }) });
  }
  if (database.dialect === 'mysql')
    return new Kysely({ dialect: new MysqlDialect({ pool: createCallbackPool(MYSQL) }) });
  return new Kysely({ dialect: new SqliteDialect({ database: database.connect!() as never }) });
}

const databases = { SQLite: sqliteDatabase, PostgreSQL: postgresDatabase, MariaDB: mysqlDatabase };

test.each(Object.entries(databases))('writes in a Kysely transaction on %s', async (_, create) => {
  const database = await create();
  const kysely = await kyselyOf(database);
  const store = await started(database);
  onTestFinished(() => kysely.destroy());
  await kysely.transaction().execute((tx) => store.enqueue(tx, [message('a', toUser('anna'))]));
  await expect(
    kysely.transaction().execute(async (tx) => {
      await store.enqueue(tx, [message('b', toUser('anna'))]);
      throw new Error('rolled back on purpose');
    }),
  ).rejects.toThrow('on purpose');
  await expect(store.enqueue(kysely, [message('c', toUser('anna'))])).rejects.toMatchObject({
    code: 'SSE_ERR_INVALID_OPTION',
  });
  expect(await relayed(store)).toEqual(['a']);
});

test.each(await testDrivers())(
  'belongs to a transaction that ends with the turn, as those of $name do',
  async (driver) => {
    const database = await sqliteDatabase(driver);
    const store = await started(database);
    const handle = database.connect!() as { exec(sql: string): void };
    const enqueueIn = (id: string, end: string): Promise<void> => {
      handle.exec('BEGIN');
      const enqueued = store.enqueue(handle, [message(id, toUser('anna')), message(`${id}2`, toUser('anna'))]);
      handle.exec(end);
      return enqueued;
    };
    await Promise.all([enqueueIn('a', 'COMMIT'), enqueueIn('b', 'ROLLBACK')]);
    expect(await relayed(store)).toEqual(['a', 'a2']);
  },
);

test('belongs to the transaction of a connection to whose end nobody waited for it, on PostgreSQL', async () => {
  const store = await started(await postgresDatabase());
  const client = new pg.Client({ connectionString: POSTGRES });
  await client.connect();
  onTestFinished(() => client.end());
  const enqueueIn = (id: string, end: string): Promise<unknown> => {
    void client.query('BEGIN');
    const enqueued = store.enqueue(client, [message(id, toUser('anna'))]);
    return Promise.all([enqueued, client.query(end)]);
  };
  await enqueueIn('a', 'COMMIT');
  await enqueueIn('b', 'ROLLBACK');
  expect(await relayed(store)).toEqual(['a']);
});

test.each([...Object.entries(databases), ['memory', undefined] as const])(
  'is given again to who asks for what an answer brought that got lost, on %s',
  async (_, create) => {
    const database = await create?.();
    const backend = backendOf(database);
    const store = database === undefined ? backend.store() : await started(database);
    await store.renewNode('node-1', 0, NOW + 1_000);
    const enqueue = (...ids: string[]) =>
      backend.transaction(async (tx) => {
        for (const id of ids) await store.enqueue(tx, [message(id, toUser('anna'))]);
      }, true);
    const again = async (limit: number) =>
      store.relay({ node: 'node-1', limit, now: NOW, again: true }).then((all) => all.map(({ eventId }) => eventId));
    await enqueue('a', 'b', 'c');
    expect(await relayed(store)).toEqual(['a', 'b', 'c']);
    expect(await relayed(store)).toEqual([]);
    await enqueue('d');
    expect(await again(2)).toEqual(['a', 'b']);
    expect(await again(100)).toEqual(['a', 'b', 'c', 'd']);
    // Nobody else gets them by that.
    expect(await store.relay({ node: 'node-2', limit: 100, now: NOW, again: true })).toEqual([]);
    const { position } = (await store.find('b'))!;
    await store.relayed('node-1', [position]);
    expect(await again(100)).toEqual(['a', 'c', 'd']);
  },
);

test.each(Object.entries(databases))("runs on the application's own Kysely on %s", async (_, create) => {
  const database = await create();
  const plain = await started(database);
  const kysely = await kyselyOf(database);
  onTestFinished(() => kysely.destroy());
  const store = new SqlStore({ dialect: database.dialect, kysely, prefix: database.prefix });
  await store.start();
  await store.append([message('a', toUser('anna'), { data: '"\u0000"' })], 'node-1');
  const reader = { userId: 'anna', tenants: [''] };
  expect(await plain.pending({ reader, after: 0, limit: 10, now: NOW })).toEqual([await store.find('a')]);
  expect(await store.markRead(reader, 'all', NOW)).toBe(1);
  expect(await plain.unreadCount(reader, NOW)).toBe(0);
});

test.each([
  ['PostgreSQL', postgresDatabase],
  ['MariaDB', mysqlDatabase],
] as const)('neither waits for a transaction that commits late, nor misses it, on %s', async (_, create) => {
  const database = await create();
  const store = await started(database);
  let commit: (() => void) | undefined;
  const late = database.transaction(async (tx) => {
    await store.enqueue(tx, [message('late', toUser('anna'), { dedupKey: 'same' })]);
    await new Promise<void>((resolve) => {
      commit = resolve;
    });
  });
  const commitNow = await until(() => commit, 'the transaction to stand open');
  // The same key as the one that is not committed: sending must not wait for it.
  await store.append([message('early', toUser('anna'), { dedupKey: 'same' })], 'node-1');
  expect(await relayed(store)).toEqual([]);
  commitNow();
  await late;
  expect(await relayed(store)).toEqual([]);
  expect(await store.find('late')).toBeUndefined();
  expect(await store.unreadCount({ userId: 'anna', tenants: [''] }, NOW)).toBe(1);
});

test('refuses pools and handles that have no transaction', async () => {
  const sqlite = await started(await sqliteDatabase());
  const handle = (await import('libsql')).default;
  const database = new handle(':memory:');
  await expect(sqlite.enqueue(database, [message('a', toUser('anna'))])).rejects.toThrow(/no transaction open/);
  database.close();
  const postgres = await started(await postgresDatabase());
  const pool = new pg.Pool({ connectionString: POSTGRES });
  await expect(postgres.enqueue(pool, [message('a', toUser('anna'))])).rejects.toThrow(/it is a pool/);
  await pool.end();
  const mysql = await started(await mysqlDatabase());
  const callbacks = createCallbackPool(MYSQL);
  await expect(mysql.enqueue(callbacks, [message('a', toUser('anna'))])).rejects.toThrow(/it is a pool/);
  await callbacks.promise().end();
});

test('takes a mysql2 connection with callbacks, and a pool with callbacks', async () => {
  const database = await mysqlDatabase({ callbacks: true });
  const store = await started(database);
  const pool = createCallbackPool(MYSQL);
  onTestFinished(() => pool.promise().end());
  const connection = await pool.promise().getConnection();
  await connection.beginTransaction();
  await store.enqueue(connection.connection, [message('a', toUser('anna'))]);
  expect(await relayed(store)).toEqual([]);
  await connection.commit();
  connection.release();
  expect(await relayed(store)).toEqual(['a']);
});

test('hears of a commit on PostgreSQL, also after its connection was killed, and of no rollback', async () => {
  const database = await postgresDatabase();
  const store = await started(database);
  let heard = 0;
  const stop = await store.onEnqueued!(() => {
    heard++;
  });
  const enqueue = (id: string) => database.transaction((tx) => store.enqueue(tx, [message(id, toUser('anna'))]));
  await enqueue('a');
  await until(() => heard === 1, 'the first notification');
  await expect(
    database.transaction(async (tx) => {
      await store.enqueue(tx, [message('b', toUser('anna'))]);
      throw new Error('on purpose');
    }),
  ).rejects.toThrow('on purpose');
  await enqueue('c');
  await until(() => heard === 2, 'the second notification');
  const kill = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN ${database.prefix}enqueued'`;
  expect(await database.query(kill)).toHaveLength(1);
  // It says so when it listens again, because something may have been missed.
  await until(() => heard === 3, 'listening again');
  await enqueue('d');
  await until(() => heard === 4, 'the notification after that');
  await stop();
  await stop();
  expect(await relayed(store)).toEqual(['a', 'c', 'd']);
});
