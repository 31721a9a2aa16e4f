/** Tables make themselves, once, whoever starts first; or print what they would do. */
import { expect, onTestFinished, test } from 'vitest';
import { SQL_DIALECTS } from '../../src/inbox/sql-dialect.js';
import { SqlStore } from '../../src/inbox/sql-store.js';
import { message, NOW, toGroup, toUser } from '../../src/testing/store-case.js';
import { mysqlDatabase, postgresDatabase, sqliteDatabase } from './databases.js';

const databases = { SQLite: sqliteDatabase, PostgreSQL: postgresDatabase, MariaDB: mysqlDatabase };
const ANNA = { userId: 'anna', tenants: [''] };

test.each(Object.entries(databases))(
  'five that start at once over an empty %s make one set of tables',
  async (_, create) => {
    const database = await create();
    onTestFinished(database.remove);
    const stores = Array.from({ length: 5 }, () => database.store());
    await Promise.all(stores.map((store) => store.start()));
    await Promise.all(stores.map((store, i) => store.append([message(`m${i}`, toUser('anna'))], 'node')));
    expect(await stores[0]!.unreadCount(ANNA, NOW)).toBe(5);
    const versions = await database.query(`SELECT version FROM ${database.prefix}migration`);
    expect(versions.map(({ version }) => Number(version))).toEqual([1]);
  },
  60_000,
);

test.each(Object.entries(databases))(
  'the printed SQL makes the same tables, and a store finds them done on %s',
  async (_, create) => {
    const database = await create();
    onTestFinished(database.remove);
    for (const sql of SqlStore.migrations(database.dialect, database.prefix)) await database.run(sql, []);
    // Whatever was done half before is passed over. (MySQL cannot pass over an index, MariaDB and the others can.)
    const again = SqlStore.migrations(database.dialect, database.prefix);
    for (const sql of again) if (database.dialect !== 'mysql') await database.run(sql, []);
    const store = database.store();
    await store.start();
    await store.append([message('a', toUser('anna')), message('g', toGroup('team'))], 'node');
    expect(await store.unreadCount(ANNA, NOW)).toBe(1);
  },
  60_000,
);

test.each(Object.entries(databases))(
  'tables of a newer version are left alone on %s',
  async (_, create) => {
    const database = await create();
    onTestFinished(database.remove);
    await database.store().start();
    await database.run(`INSERT INTO ${database.prefix}migration (version) VALUES (99)`, []);
    await expect(database.store().start()).rejects.toMatchObject({ code: 'SSE_ERR_STORE_UNUSABLE', retryable: false });
  },
  60_000,
);

test('a migration that was cut off half way goes on', async () => {
  const database = await mysqlDatabase();
  onTestFinished(database.remove);
  const statements = SqlStore.migrations('mysql', database.prefix);
  // Tables that an earlier test left empty would be complete.
  for (const sql of statements.slice(0, 6)) {
    await database.run(sql, []).catch((error: { errno?: number }) => {
      if (error.errno !== 1061) throw error;
    });
  }
  const store = database.store();
  await store.start();
  await store.append([message('a', toUser('anna'))], 'node');
  expect(await store.unreadCount(ANNA, NOW)).toBe(1);
}, 60_000);

test('names its lock so that MySQL takes it, whatever the prefix', async () => {
  const database = await mysqlDatabase();
  onTestFinished(database.end);
  const names: string[] = [];
  const connection: object = {
    query: (sql: string, _: unknown, done: (error: unknown, rows?: unknown) => void) => {
      const [, name] = /GET_LOCK\((.+), \d+\)/.exec(sql) ?? [];
      if (name !== undefined) names.push(name);
      if (sql.startsWith('SELECT @@')) done(null, [{ mode: '', autocommit: 1, time: 1_700_000_000_000 }]);
      else if (name !== undefined) done(null, [{ got: 0 }]);
      else done(Object.assign(new Error('no such table'), { errno: 1146 }));
    },
    release: () => {},
  };
  const pool = { getConnection: (done: (error: unknown, connection: object) => void) => done(null, connection) };
  await expect(new SqlStore({ dialect: 'mysql', pool, prefix: 'p'.repeat(30) }).start()).rejects.toThrow(
    'for a minute',
  );
  const [row] = await database.query(`SELECT CHAR_LENGTH(${names[0]}) AS characters`);
  // https://dev.mysql.com/doc/refman/8.4/en/locking-functions.html: it refuses longer ones, MariaDB does not.
  expect(row!.characters).toBeLessThanOrEqual(64);
});

test('refuses options that do not say which database, and prefixes that are no name', () => {
  const bad: unknown[] = [
    {},
    { dialect: 'oracle', pool: {} },
    { dialect: 'sqlite' },
    { dialect: 'sqlite', pool: {} },
    { dialect: 'postgres', database: {} },
    { dialect: 'mysql', pool: undefined },
    { dialect: 'postgres', pool: {}, prefix: 'a; DROP TABLE x; --' },
    { dialect: 'postgres', pool: {}, prefix: '' },
  ];
  for (const options of bad) {
    expect(() => new SqlStore(options as never)).toThrow(expect.objectContaining({ code: 'SSE_ERR_INVALID_OPTION' }));
  }
  expect(Object.keys(SQL_DIALECTS)).toEqual(['sqlite', 'postgres', 'mysql']);
});

test('a database that cannot be reached is unavailable, and the next start tries again', async () => {
  const { default: Libsql } = await import('libsql');
  const database = new Libsql(':memory:');
  let isDown = true;
  const store = new SqlStore({
    dialect: 'sqlite',
    database: {
      exec: (sql) => {
        if (isDown) throw Object.assign(new Error('disk I/O error'), { code: 'SQLITE_IOERR' });
        return database.exec(sql);
      },
      prepare: (sql) => {
        if (isDown) throw Object.assign(new Error('disk I/O error'), { code: 'SQLITE_IOERR' });
        return database.prepare(sql);
      },
    },
  });
  await expect(store.start()).rejects.toMatchObject({ code: 'SSE_ERR_STORE_UNAVAILABLE', retryable: true });
  isDown = false;
  await store.start();
  await store.append([message('a', toUser('anna'))], 'node');
  isDown = true;
  await expect(store.unreadCount(ANNA, NOW)).rejects.toMatchObject({ code: 'SSE_ERR_STORE_UNAVAILABLE' });
  isDown = false;
  expect(await store.unreadCount(ANNA, NOW)).toBe(1);
  await store.close();
  database.close();
});
