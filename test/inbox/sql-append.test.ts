/**
 * Storing, whichever way: by one statement that is a transaction by itself, where there is one, and by a transaction of several.
 * What a store promises holds among those who take different ways, too.
 */
import { Kysely, MysqlDialect, PostgresDialect } from 'kysely';
import { type Pool as CallbackPool, createPool as createCallbackPool } from 'mysql2';
import pg from 'pg';
import { expect, test, vi } from 'vitest';
import { tablesOf } from '../../src/inbox/sql-schema.js';
import { SqlStore } from '../../src/inbox/sql-store.js';
import { toStored } from '../../src/inbox/sql-work.js';
import type { SqliteHandle } from '../../src/inbox/sqlite-connection.js';
import type { NewMessage } from '../../src/inbox/store.js';
import { ANNA, message, NODE, NOW, toEverybody, toGroup, toUser, unreadOf } from '../../src/testing/store-case.js';
import { until } from '../support/until.js';
import { MYSQL, mysqlDatabase, POSTGRES, postgresDatabase, sqliteDatabase, type TestDatabase } from './databases.js';
import { closedAfterEach, countsStay } from './opened.js';

const servers = { postgres: postgresDatabase, mysql: () => mysqlDatabase() };
const databases = { sqlite: () => sqliteDatabase(), ...servers };

countsStay();
const { opened, open } = closedAfterEach();

async function start(store: SqlStore, node = NODE): Promise<SqlStore> {
  opened.push(() => store.close());
  await store.start();
  // Its node is known from here on: what one statement can store is stored by one.
  await store.append([message(`first-${node}-${opened.length}`, toUser('nobody'))], node);
  return store;
}

/** A store on one connection that says which statements it sends. */
async function spied(database: TestDatabase): Promise<{ readonly store: SqlStore; readonly sent: string[] }> {
  const sent: string[] = [];
  const dialect =
    database.dialect === 'postgres'
      ? new PostgresDialect({ pool: postgresPool({ max: 1 }) })
      : new MysqlDialect({ pool: mysqlPool() });
  const kysely = new Kysely<never>({ dialect, log: ({ query }) => void sent.push(query.sql) });
  const store = await start(new SqlStore({ dialect: database.dialect, prefix: database.prefix, kysely }));
  sent.length = 0;
  return { store, sent };
}

function postgresPool(config: pg.PoolConfig): pg.Pool {
  const pool = new pg.Pool({ connectionString: POSTGRES, ...config });
  // A pool says so when an idle connection breaks, and a connection that is taken says it itself.
  pool.on('error', () => {});
  pool.on('connect', (client) => void client.on('error', () => {}));
  opened.push(() => pool.end());
  return pool;
}

function mysqlPool(): CallbackPool {
  const pool = createCallbackPool({ uri: MYSQL, connectionLimit: 1 });
  opened.push(() => pool.promise().end());
  return pool;
}

async function headOf(database: TestDatabase): Promise<number> {
  const [row] = await database.query(`SELECT value FROM ${tablesOf(database.prefix).sequence} WHERE id = 1`);
  return Number(row!.value);
}

async function stored(database: TestDatabase): Promise<[id: string, position: number][]> {
  const { message: table } = tablesOf(database.prefix);
  const rows = await database.query(`SELECT event_id, position FROM ${table} ORDER BY position`);
  return rows.map(({ event_id, position }) => [String(event_id), Number(position)]);
}

const sqliteOf = (database: SqliteHandle) => ({ dialect: 'sqlite', database }) as const;

/** A handle as that of node:sqlite, to which a list of parameters is none. */
function withoutLists(database: TestDatabase): SqliteHandle {
  const handle = database.connect!() as SqliteHandle;
  return {
    exec: (sql) => handle.exec(sql),
    get isTransaction() {
      return handle.inTransaction === true;
    },
    prepare: (sql) => {
      const statement = handle.prepare(sql);
      const checked = (parameters: unknown[]): unknown[] => {
        if (parameters.some(Array.isArray)) throw new TypeError("Unknown named parameter '0'");
        return parameters;
      };
      return {
        run: (...parameters) => statement.run(...checked(parameters)),
        all: (...parameters) => statement.all(...checked(parameters)),
      };
    },
  };
}

const toAnna = (ids: readonly string[], more: Partial<NewMessage> = {}): NewMessage[] =>
  ids.map((id) => message(id, toUser('anna'), more));

test.each(Object.entries(servers))('stores messages to users in one round trip on %s', async (_, create) => {
  const database = await open(create);
  const { store, sent } = await spied(database);
  const batch = Array.from({ length: 64 }, (_, i) => message(`m${i}`, toUser(`user-${i % 3}`)));
  // Nobody's count is due.
  vi.spyOn(Math, 'random').mockReturnValue(0.5);
  const appended = await store.append(batch, NODE);
  expect(sent).toHaveLength(1);
  expect(await stored(database)).toEqual([
    [expect.any(String), appended[0]!.position - 1],
    ...appended.map(({ eventId, position }) => [eventId, position]),
  ]);
  expect(appended.map(({ eventId }) => eventId)).toEqual(batch.map(({ eventId }) => eventId));
  expect(await headOf(database)).toBe(appended.at(-1)!.position);
  // To many, or with a key: there is more to ask.
  for (const one of [message('to-many', toGroup('team')), message('keyed', toUser('anna'), { dedupKey: 'k' })]) {
    sent.length = 0;
    await store.append([one], NODE);
    expect(sent.length).toBeGreaterThan(3);
  }
});

test.each(Object.entries(servers))('writes the same rows either way on %s', async (_, create) => {
  const database = await open(create);
  const { store, sent } = await spied(database);
  const odd = `'"\\ {"a":[null,"NULL"]} ?$1 :x ; END -- \u0000\u0001é€😀\n\t`;
  const variants: readonly Partial<NewMessage>[] = [
    { data: odd, json: false, event: `note ${odd}`, receiver: toUser(`anna ${odd}`, `acme ${odd}`) },
    { data: '', json: false, receiver: toUser('NULL'), status: 'sent', priority: 2 },
    { data: `"${'😀'.repeat(200_000)}"`, priority: 1, expiresAt: NOW + 5, createdAt: 2 ** 53 - 1 },
  ];
  for (const [index, more] of variants.entries()) {
    const node = `node ${odd} ${index}`;
    // The first of a node is stored by a transaction: it is not known yet.
    await store.append([message(`slow-${index}`, toUser('anna'), more)], node);
    sent.length = 0;
    await store.append([message(`fast-${index}`, toUser('anna'), more)], node);
    expect(sent[0]).toContain('message');
    const sql = `SELECT * FROM ${tablesOf(database.prefix).message} WHERE event_id IN ('slow-${index}', 'fast-${index}')`;
    const rows = await database.query(`${sql} ORDER BY position`);
    const [slow, fast] = rows.map(({ event_id: _, position: __, ...rest }) => rest);
    expect(rows).toHaveLength(2);
    expect(fast).toEqual(slow);
    expect(await store.find(`fast-${index}`)).toMatchObject(more);
  }
});

test('writes the same rows either way on SQLite, by clients that take a list of parameters and by others', async () => {
  const database = await open(sqliteDatabase);
  const odd = `'"\\ ?1 :x $y -- \u0000\u0001é€😀\n`;
  const more = {
    event: odd,
    receiver: toUser(`anna ${odd}`, `acme ${odd}`),
    data: odd,
    json: false,
    priority: 2,
  } as const;
  const times = { expiresAt: NOW + 5, createdAt: 2 ** 53 - 1 };
  const lists = await start(database.store(), 'lists');
  const spread = await start(new SqlStore({ ...sqliteOf(withoutLists(database)), prefix: database.prefix }), 'spread');
  for (const [store, node] of [
    [lists, `lists ${odd}`],
    [spread, `spread ${odd}`],
  ] as const) {
    const ids = Array.from({ length: 70 }, (_, i) => `${store === lists}-${i}`);
    const plain = await store.append(
      ids.map((id) => message(id, toUser('anna'), { ...more, ...times })),
      node,
    );
    expect(plain.map(({ position }) => position - plain[0]!.position)).toEqual(ids.map((_, i) => i));
    // What is known by a key goes the other way, with all of its batch.
    const slow = `${ids[0]}-slow`;
    await store.append(
      [
        message(slow, toUser('anna'), { ...more, ...times }),
        message(`${slow}-keyed`, toUser('ben'), { dedupKey: slow }),
      ],
      node,
    );
    const rows = await database.query(
      `SELECT * FROM ${tablesOf(database.prefix).message} WHERE data = ? AND node = ?`,
      [toStored(odd), toStored(node)],
    );
    expect(rows).toHaveLength(71);
    const [first, ...others] = rows.map(({ event_id: _, position: __, ...rest }) => rest);
    for (const other of others) expect(other).toEqual(first);
    expect(await store.find(ids[69]!)).toMatchObject({ ...more, ...times });
  }
});

test.each(Object.entries(databases))(
  'stores a message once that comes twice in an append, on %s',
  async (_, create) => {
    const store = await start((await open(create)).store());
    const appended = await store.append(toAnna(['a', 'b', 'a', 'c']), NODE);
    const [a, b, again, c] = appended.map(({ position }) => position);
    expect(appended.map(({ isDuplicate }) => isDuplicate)).toEqual([false, false, true, false]);
    expect(again).toBe(a);
    expect([a, b, c]).toEqual([a, b, c].sort((one, other) => one! - other!));
    expect(await unreadOf(store, ANNA)).toEqual([['a', 'b', 'c'], 3]);
  },
);

test.each(Object.entries(databases))(
  'gives positions in the order of commits, whichever way, on %s',
  async (_, create) => {
    const database = await open(create);
    // As many processes would have it.
    const stores = await Promise.all(['a', 'b', 'c'].map((node) => start(database.store(), node)));
    let isOver = false;
    let seen = 0;
    const watch = (async () => {
      const known = new Set<number>();
      for (let isLast = false; !isLast; isLast = isOver) {
        for (const [id, position] of await stored(database)) {
          if (known.has(position)) continue;
          // Whoever has seen one never sees a smaller one appear.
          expect(position, id).toBeGreaterThan(seen);
          known.add(position);
        }
        seen = Math.max(seen, ...known);
      }
    })();
    const watched = watch.catch((error: unknown) => error);
    const append = async (store: SqlStore, lane: string, node: string): Promise<number[]> => {
      const positions: number[] = [];
      for (let i = 0; i < 12; i++) {
        const id = `${lane}-${i}`;
        const batch = toAnna([`${id}-1`, `${id}-2`, `${id}-3`]);
        if (lane.endsWith('slow')) batch.push(message(`${id}-4`, i % 2 === 0 ? toGroup('team') : toEverybody()));
        for (const { position } of await store.append(batch, node)) positions.push(position);
      }
      return positions;
    };
    const lanes = stores.flatMap((store, i) =>
      ['fast', 'other-fast', 'slow'].map((way) => append(store, `${i}-${way}`, 'abc'[i]!)),
    );
    const all = await Promise.all(lanes);
    isOver = true;
    expect(await watched).toBeUndefined();
    for (const positions of all) expect(positions).toEqual([...positions].sort((a, b) => a - b));
    const appended = all.flat();
    expect(new Set(appended).size).toBe(appended.length);
    expect(await headOf(database)).toBe(Math.max(...appended));
    expect((await stored(database)).length).toBe(appended.length + stores.length);
  },
);

test.each(Object.entries(databases))(
  'knows messages again that it has, and those that come twice, on %s',
  async (_, create) => {
    const database = await open(create);
    const store = await start(database.store());
    const [a, b] = await store.append(toAnna(['a', 'b']), NODE);
    expect(await store.append(toAnna(['c', 'a', 'd', 'b']), NODE)).toEqual([
      { eventId: 'c', position: expect.any(Number), isDuplicate: false },
      { ...a, isDuplicate: true },
      { eventId: 'd', position: expect.any(Number), isDuplicate: false },
      { ...b, isDuplicate: true },
    ]);
    const [e, f, again] = await store.append(toAnna(['e', 'f', 'e']), NODE);
    expect(again).toEqual({ ...e, isDuplicate: true });
    expect([e!.isDuplicate, f!.isDuplicate]).toEqual([false, false]);
    // One that another stores at the same time.
    const other = await start(database.store(), 'other');
    const answers = await Promise.all(
      [store, other].map((one, i) => one.append(toAnna(['g', 'h']), [NODE, 'other'][i]!)),
    );
    expect(answers[0]!.map(({ position }) => position)).toEqual(answers[1]!.map(({ position }) => position));
    expect(answers.flat().filter(({ isDuplicate }) => isDuplicate)).toHaveLength(2);
    const ids = (await stored(database)).map(([id]) => id);
    expect(ids.filter((id) => !id.startsWith('first'))).toEqual(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']);
    expect(await unreadOf(store, ANNA)).toEqual([['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'], 8]);
  },
);

test.each(Object.entries(servers))('leaves nothing of messages of which one is refused on %s', async (_, create) => {
  const database = await create();
  opened.push(() => database.remove());
  const { store, sent } = await spied(database);
  const { message: table } = tablesOf(database.prefix);
  await database.query(`ALTER TABLE ${table} ADD CONSTRAINT ${table}_test CHECK (event_type <> 'refused')`);
  const before = [await headOf(database), await stored(database)];
  const batch = [...toAnna(['a', 'b']), ...toAnna(['c'], { event: 'refused' }), ...toAnna(['d'])];
  await expect(store.append(batch, NODE)).rejects.toMatchObject({ code: 'SSE_ERR_STORE_UNAVAILABLE' });
  expect([await headOf(database), await stored(database)]).toEqual(before);
  // The connection is as good as it was, and holds nothing.
  sent.length = 0;
  const [again] = await store.append(toAnna(['a']), NODE);
  expect(sent).toHaveLength(1);
  expect(await start(database.store(), 'other')).toBeDefined();
  expect(again!.position).toBeLessThan(await headOf(database));
});

type Query = TestDatabase['query'];

/** Asks on a connection of its own, beside a transaction of the test's. */
function aside(database: TestDatabase): Query {
  if (database.dialect === 'postgres') {
    const pool = postgresPool({ max: 1 });
    return async (sql) => (await pool.query(sql)).rows as Record<string, unknown>[];
  }
  const pool = mysqlPool().promise();
  return async (sql) => (await pool.query(sql))[0] as Record<string, unknown>[];
}

/** Ends the statement that waits at the table, or its connection. */
async function killWaiting(
  { dialect }: TestDatabase,
  query: Query,
  table: string,
  what: 'statement' | 'connection',
): Promise<void> {
  const waiting =
    dialect === 'postgres'
      ? `SELECT pid AS id FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%${table}%'`
      : // It shows the one that runs of a statement of statements.
        `SELECT id FROM information_schema.PROCESSLIST WHERE info LIKE 'UPDATE ${table}%' OR info LIKE 'INSERT INTO ${table}%'`;
  const { id } = await until(async () => (await query(waiting))[0], 'the statement that waits');
  if (dialect === 'mysql') await query(`KILL ${what === 'statement' ? 'QUERY' : 'CONNECTION'} ${id}`);
  else await query(`SELECT ${what === 'statement' ? 'pg_cancel_backend' : 'pg_terminate_backend'}(${id})`);
}

const cuts = Object.entries(servers).flatMap(([name, create]) =>
  (['statement', 'connection'] as const).flatMap((what) =>
    [false, true].map((hasNumbers) => ({ name, create, what, hasNumbers })),
  ),
);

test.each(cuts)('leaves nothing of a $what killed on $name, with numbers taken: $hasNumbers', async (cut) => {
  const { create, what, hasNumbers } = cut;
  const database = await open(create);
  const { store, sent } = await spied(database);
  const other = await start(database.store(), 'other');
  const { sequence, message: table } = tablesOf(database.prefix);
  // It stops at the numbers, or behind them at an id of which nobody knows yet whether it is there.
  const columns =
    'position, event_id, event_type, receiver_type, tenant_id, priority, data, is_json, status, expire_at';
  const values = "1000, 'b', 'note', 'user', '', 0, '1', 1, 'sent', 0, 0, 0, 'somebody'";
  const blocking = hasNumbers
    ? `INSERT INTO ${table} (${columns}, created_at, updated_at, node) VALUES (${values})`
    : `SELECT value FROM ${sequence} WHERE id = 1 FOR UPDATE`;
  const isBlocked = database.transaction(async (tx) => {
    await (tx as { query(sql: string): Promise<unknown> }).query(blocking);
    const appended = store.append(toAnna(['a', 'b', 'c']), NODE);
    await Promise.all([
      expect(appended).rejects.toMatchObject({ code: 'SSE_ERR_STORE_UNAVAILABLE' }),
      killWaiting(database, aside(database), hasNumbers ? table : sequence, what),
    ]);
    // What it had locked is free, while the blocker still has what it has.
    if (hasNumbers) expect(await other.append(toAnna(['z']), 'other')).toMatchObject([{ isDuplicate: false }]);
    throw new Error('rolled back on purpose');
  });
  await expect(isBlocked).rejects.toThrow('on purpose');
  const left = (await stored(database)).map(([id]) => id).filter((id) => !id.startsWith('first'));
  expect(left).toEqual(hasNumbers ? ['z'] : []);
  // Its pool has one connection: this one, or another in its place.
  sent.length = 0;
  const before = await headOf(database);
  const again = await store.append(toAnna(['a', 'b', 'c']), NODE);
  expect(sent).toHaveLength(1);
  expect(again.map(({ position, isDuplicate }) => [position, isDuplicate])).toEqual(
    [1, 2, 3].map((i) => [before + i, false]),
  );
});

test('lives on where a connection of PostgreSQL breaks that is taken', async () => {
  const database = await open(servers.postgres);
  // As applications have it: pg's pool itself hears of idle connections only.
  const pool = new pg.Pool({ connectionString: POSTGRES, max: 1 });
  pool.on('error', () => {});
  opened.push(() => pool.end());
  const store = await start(new SqlStore({ dialect: 'postgres', pool, prefix: database.prefix }));
  const { sequence } = tablesOf(database.prefix);
  const watch = aside(database);
  // At once, and by a transaction.
  for (const more of [{}, { dedupKey: 'k' }]) {
    await database.transaction(async (tx) => {
      await (tx as pg.PoolClient).query(`SELECT value FROM ${sequence} WHERE id = 1 FOR UPDATE`);
      await Promise.all([
        expect(store.append(toAnna(['a'], more), NODE)).rejects.toMatchObject({ code: 'SSE_ERR_STORE_UNAVAILABLE' }),
        killWaiting(database, watch, sequence, 'connection'),
      ]);
    });
  }
  expect(await store.append(toAnna(['a']), NODE)).toMatchObject([{ isDuplicate: false }]);
  const client = await pool.connect();
  expect(client.listenerCount('error')).toBe(0);
  client.release();
});

test.each(Object.entries(databases))('counts right while all of it happens at once on %s', async (_, create) => {
  const database = await open(create);
  // Every message brings its reader's count up to date.
  vi.spyOn(Math, 'random').mockReturnValue(0);
  const nodes = ['a', 'b'];
  const stores = await Promise.all(nodes.map((node) => start(database.store(), node)));
  const readers = ['anna', 'ben'].map((userId) => ({ userId, tenants: ['', 'acme'] }));
  const append = async (store: SqlStore, node: string, lane: number): Promise<void> => {
    for (let i = 0; i < 10; i++) {
      const batch = ['anna', 'ben', 'anna'].map((name, k) =>
        message(`${node}-${lane}-${i}-${k}`, toUser(name, k === 2 ? 'acme' : ''), {
          expiresAt: i % 5 === 0 ? NOW + 1 : 0,
        }),
      );
      if (lane === 1) batch.push(message(`${node}-${lane}-${i}-group`, toGroup('team')));
      await store.append(batch, node);
    }
  };
  const read = async (store: SqlStore): Promise<void> => {
    for (let i = 0; i < 10; i++) {
      for (const reader of readers) {
        const [one] = await store.pending({ reader, after: 0, limit: 1, now: NOW });
        if (one) await store.markRead(reader, i % 3 === 0 ? { upTo: one.eventId } : { eventIds: [one.eventId] }, NOW);
      }
      await store.cleanup({ now: NOW + 1, readBefore: 0, createdBefore: 0, limit: 5 });
    }
  };
  await Promise.all(
    stores.flatMap((store, i) => [0, 1].map((lane) => append(store, nodes[i]!, lane)).concat(read(store))),
  );
  for (const reader of readers) {
    const [ids, count] = await unreadOf(stores[0]!, reader, NOW);
    expect(count).toBe(ids.length);
    expect(count).toBeGreaterThan(0);
  }
});

test('goes by transactions on a MySQL that has no statements of statements', async () => {
  const database = await open(servers.mysql);
  const pool = createCallbackPool({ uri: MYSQL, connectionLimit: 1 });
  opened.push(() => pool.promise().end());
  const sent: string[] = [];
  // As MySQL 8 answers it.
  const refusal = Object.assign(new Error('You have an error in your SQL syntax'), { errno: 1064 });
  const wrapped = {
    getConnection: (callback: (error: unknown, connection: unknown) => void) =>
      pool.getConnection((error, connection) => {
        const query = (sql: string, parameters: unknown[], done: (error: unknown, result?: unknown) => void): void => {
          sent.push(sql);
          if (sql.startsWith('BEGIN NOT ATOMIC')) done(refusal);
          else connection.query(sql, parameters, done);
        };
        callback(error, connection && { query, release: () => connection.release() });
      }),
  };
  const store = await start(new SqlStore({ dialect: 'mysql', pool: wrapped, prefix: database.prefix }));
  for (const id of ['a', 'b', 'c']) {
    expect(await store.append(toAnna([id]), NODE)).toMatchObject([{ eventId: id, isDuplicate: false }]);
  }
  expect(sent.filter((sql) => sql.startsWith('BEGIN NOT ATOMIC'))).toHaveLength(1);
  expect(await unreadOf(store, ANNA)).toEqual([['a', 'b', 'c'], 3]);
});

test.each([
  ['default_transaction_isolation=serializable'],
  ['default_transaction_isolation=repeatable\\ read'],
  ['default_transaction_read_only=on'],
])('stores on PostgreSQL with %s', async (setting) => {
  const database = await open(servers.postgres);
  const nodes = ['a', 'b', 'c'];
  await start(database.store(), 'maker');
  const stores = await Promise.all(
    nodes.map((node) => {
      const pool = postgresPool({ max: 2, options: `-c ${setting}` });
      return start(new SqlStore({ dialect: 'postgres', pool, prefix: database.prefix }), node);
    }),
  );
  const append = async (store: SqlStore, node: string, lane: number): Promise<void> => {
    for (let i = 0; i < 20; i++) await store.append(toAnna([`${node}-${lane}-${i}`]), node);
  };
  await Promise.all(stores.flatMap((store, i) => [0, 1].map((lane) => append(store, nodes[i]!, lane))));
  expect(await stores[0]!.unreadCount(ANNA, NOW)).toBe(120);
});
