/** Pools and handles as applications have them: of one connection, with deadlines, given back in the middle of something. */
import pg from 'pg';
import { expect, test } from 'vitest';
import { Broker } from '../../src/core/broker.js';
import { Inbox } from '../../src/inbox/inbox.js';
import { tablesOf } from '../../src/inbox/sql-schema.js';
import { SqlStore } from '../../src/inbox/sql-store.js';
import type { NewMessage } from '../../src/inbox/store.js';
import { ANNA, message, NODE, NOW, toUser, unreadOf } from '../../src/testing/store-case.js';
import { until } from '../support/until.js';
import { POSTGRES, postgresDatabase, sqliteDatabase, type TestDatabase } from './databases.js';
import { closedAfterEach, countsStay } from './opened.js';

countsStay();
const { opened, open } = closedAfterEach();

/** A store over a pool of one connection, whose node is known: what one statement can store is stored by one. */
async function overOne(
  database: TestDatabase,
  options: pg.PoolConfig = {},
): Promise<{ store: SqlStore; pool: pg.Pool }> {
  const pool = new pg.Pool({ connectionString: POSTGRES, max: 1, ...options });
  opened.push(() => pool.end());
  const store = new SqlStore({ dialect: 'postgres', pool, prefix: database.prefix });
  opened.push(() => store.close());
  await store.start();
  await store.append([message('first', toUser('nobody'))], NODE);
  return { store, pool };
}

const toAnna = (id: string, more: Partial<NewMessage> = {}): NewMessage => message(id, toUser('anna'), more);

test('an inbox over a pool of one connection of PostgreSQL sends, rather than hang', async () => {
  const database = await open(postgresDatabase);
  const { store, pool } = await overOne(database);
  const broker = new Broker();
  const inbox = new Inbox({ broker, store, relayInterval: 20 });
  opened.push(async () => {
    await inbox.close();
    await broker.close();
  });
  await inbox.sendToUser('anna', 'note', 1);
  const client = await pool.connect();
  await client.query('BEGIN');
  await inbox.enqueue(client, { userId: 'anna' }, 'note', 2);
  await client.query('COMMIT');
  client.release();
  await until(async () => (await inbox.unreadCount('anna')) === 2);
});

test('what is stored after a statement had no answer within query_timeout stays stored', async () => {
  const database = await open(postgresDatabase);
  const { store, pool } = await overOne(database, { query_timeout: 300 });
  const { sequence, message: table } = tablesOf(database.prefix);
  const [connected] = (await pool.query('SELECT pg_backend_pid() AS pid')).rows as { pid: number }[];
  await database.transaction(async (tx) => {
    // As long as somebody else has the row, nothing is answered: not the statement, and not what undoes it.
    await (tx as pg.PoolClient).query(`SELECT value FROM ${sequence} FOR UPDATE`);
    await expect(store.append([toAnna('a', { dedupKey: 'k' })], NODE)).rejects.toMatchObject({
      code: 'SSE_ERR_STORE_UNAVAILABLE',
    });
  });
  const stateOf = async (): Promise<unknown> =>
    (await database.query('SELECT state FROM pg_stat_activity WHERE pid = $1', [connected!.pid]))[0]?.state;
  await until(async () => (await stateOf()) !== 'active');
  expect(await store.append([toAnna('b')], NODE)).toMatchObject([{ eventId: 'b', isDuplicate: false }]);
  expect(await database.query(`SELECT event_id FROM ${table} WHERE event_id = 'b'`)).toEqual([{ event_id: 'b' }]);
  // Nor is there a lock that nobody gives back.
  expect(await stateOf()).toBeUndefined();
});

test('what is stored over a connection that the application gave back within a transaction is stored', async () => {
  const database = await open(postgresDatabase);
  const { store, pool } = await overOne(database);
  const { message: table, outbox } = tablesOf(database.prefix);
  const leaks = ['BEGIN', 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'BEGIN READ ONLY'];
  for (const [i, begin] of leaks.entries()) {
    for (const [id, more] of [
      [`at-once-${i}`, {}],
      [`keyed-${i}`, { dedupKey: `k${i}` }],
    ] as const) {
      await pool.query(begin);
      if (i === 0) await store.enqueue(await takeAndGiveBack(pool), [toAnna(`half-done-${id}`)]);
      else await pool.query(`SELECT COUNT(*) FROM ${table}`);
      expect(await store.append([toAnna(id, more)], NODE)).toMatchObject([{ isDuplicate: false }]);
      expect(await database.query(`SELECT event_id FROM ${table} WHERE event_id = $1`, [id]), id).toHaveLength(1);
      // What the application had left half done is not committed with it.
      expect(await database.query(`SELECT event_id FROM ${outbox}`)).toEqual([]);
    }
  }
});

/** The only connection of the pool: free again, and still at hand. */
async function takeAndGiveBack(pool: pg.Pool): Promise<pg.PoolClient> {
  const client = await pool.connect();
  client.release();
  return client;
}

test("a store answers by what others have committed, whatever the application's transaction on its handle sees", async () => {
  const database = await open(sqliteDatabase);
  const handle = database.connect!() as { exec(sql: string): unknown };
  const store = new SqlStore({ dialect: 'sqlite', database: handle as never, prefix: database.prefix });
  const beside = database.store();
  await store.start();
  const [a] = await beside.append([toAnna('a')], NODE);
  handle.exec('BEGIN');
  handle.exec(`SELECT * FROM ${tablesOf(database.prefix).message}`);
  const [b] = await beside.append([toAnna('b')], NODE);
  const reader = beside.advance([{ reader: ANNA, device: 'phone', position: 1 }], { now: NOW, maxDevices: 0 });
  await reader;
  await beside.subscribe('anna', '', 'team', undefined);
  const answers = Promise.all([store.head(), store.find('b'), store.cursor(ANNA, 'phone'), store.subscriptions(ANNA)]);
  setImmediate(() => handle.exec('COMMIT'));
  const [head, found, cursor, subscriptions] = await answers;
  expect(head).toBe(b!.position);
  expect(found?.eventId).toBe('b');
  expect(cursor).toBe(a!.position);
  expect(subscriptions).toHaveLength(1);
  expect(await unreadOf(store, ANNA)).toEqual([['a', 'b'], 2]);
});
