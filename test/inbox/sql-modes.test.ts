/**
 * Servers, sessions and drivers that are set up otherwise than most: a store either works on them or says what to change, and no
 * text of anybody's becomes a statement.
 */
import { Kysely, PostgresDialect } from 'kysely';
import { type Connection, createPool as createCallbackPool } from 'mysql2';
import { createPool, type Pool } from 'mysql2/promise';
import pg from 'pg';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { tablesOf } from '../../src/inbox/sql-schema.js';
import { SqlStore } from '../../src/inbox/sql-store.js';
import type { NewMessage } from '../../src/inbox/store.js';
import { ANNA, message, NODE, NOW, toEverybody, toGroup, toUser, unreadOf } from '../../src/testing/store-case.js';
import { MYSQL, mysqlDatabase, POSTGRES, postgresDatabase, type TestDatabase } from './databases.js';

/** Closed after the test, the last first. */
const opened: (() => unknown)[] = [];
// No append brings counts up to date by chance: statements are counted here.
const { random } = Math;
beforeEach(() => {
  vi.spyOn(Math, 'random').mockImplementation(() => 0.1 + 0.9 * random());
});

afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});

async function open(create: () => Promise<TestDatabase>): Promise<TestDatabase> {
  const database = await create();
  opened.push(() => database.dispose());
  return database;
}

/** A pool of one connection, which runs `statement` before all else, as an application's pool may. */
function poolWith(statement: string): Pool {
  const pool = createPool({ uri: MYSQL, connectionLimit: 1 });
  pool.on('connection', (connection) => void (connection as unknown as Connection).query(statement, () => {}));
  opened.push(() => pool.end());
  return pool;
}

async function start(options: ConstructorParameters<typeof SqlStore>[0]): Promise<SqlStore> {
  const store = new SqlStore(options);
  opened.push(() => store.close());
  await store.start();
  // Its node is known from here on: what one statement can store is stored by one.
  await store.append([message(`first-${opened.length}`, toUser('nobody'))], NODE);
  return store;
}

const toAnna = (id: string, more: Partial<NewMessage> = {}): NewMessage => message(id, toUser('anna'), more);

const NO_ESCAPES = "SET sql_mode = CONCAT(@@sql_mode, ',NO_BACKSLASH_ESCAPES')";

test('refuses connections that do not know the escapes of their client, and says what to do', async () => {
  const database = await open(() => mysqlDatabase());
  await database.store().start();
  const store = new SqlStore({ dialect: 'mysql', pool: poolWith(NO_ESCAPES), prefix: database.prefix });
  await expect(store.start()).rejects.toMatchObject({
    code: 'SSE_ERR_INVALID_OPTION',
    message: expect.stringMatching(/NO_BACKSLASH_ESCAPES.*take it out of sql_mode/),
  });
  // Nor does it later, by asking again.
  await expect(store.start()).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_OPTION' });
});

test('refuses connections on which a letter between quotes has several bytes', async () => {
  const database = await open(() => mysqlDatabase());
  const pool = poolWith("SET collation_connection = 'utf16_general_ci'");
  const store = new SqlStore({ dialect: 'mysql', pool, prefix: database.prefix });
  await expect(store.start()).rejects.toMatchObject({
    code: 'SSE_ERR_INVALID_OPTION',
    message: expect.stringMatching(/character_set_connection.*utf8mb4/),
  });
});

/** Ends the text, the row and the statement around it, however it is escaped. */
function attacks(victim: string): string[] {
  const drop = `DROP TABLE ${victim}`;
  return [
    `', 0, 'sent', 0, 0); ${drop}; COMMIT; SELECT LAST_INSERT_ID() AS value; END -- `,
    `', 0, 0x73656e74, 0, 0); ${drop}; COMMIT; SELECT LAST_INSERT_ID() AS value; END -- `,
    `'; ${drop}; -- `,
    `\\'; ${drop}; -- `,
    "' OR 1 = 1 -- ",
    `\\' OR 1 = 1 -- `,
    '{"text":"it\'s \\"quoted\\" \\\\"}',
    "x'",
    "'x",
    '\\',
    '\u0000\u0001\b\t\n\r\u001a"\'%_',
  ];
}

test('takes no text for a statement where a connection loses the escapes later', async () => {
  const database = await open(() => mysqlDatabase());
  const { prefix } = database;
  const pool = createPool({ uri: MYSQL, connectionLimit: 1 });
  opened.push(() => pool.end());
  const store = await start({ dialect: 'mysql', pool, prefix });
  const victim = `${prefix}victim`;
  await database.query(`CREATE TABLE ${victim} (a INT)`);
  opened.push(() => database.query(`DROP TABLE IF EXISTS ${victim}`));
  await store.append([message('of-ben', toUser('ben'))], NODE);
  await pool.query(NO_ESCAPES);
  const wanted: string[] = [];
  for (const [index, text] of attacks(victim).entries()) {
    const receiver = toUser(`anna${text}`, text);
    const more = { data: text, event: text, receiver };
    const group = { ...more, receiver: toGroup(`team${text}`, text), dedupKey: text };
    // At once, and by a transaction.
    await store.append([message(`at-once-${index}`, receiver, more)], NODE);
    await store.append([message(`keyed-${index}`, receiver, { ...more, dedupKey: `k${text}` })], `node${text}`);
    await store.append([message(`group-${index}`, group.receiver, group)], NODE);
    // On the plain connection of the application, which has lost them as well.
    const connection = await pool.getConnection();
    try {
      await connection.beginTransaction();
      await store.enqueue(connection, [message(`enqueued-${index}`, receiver, more)]);
      await connection.commit();
    } finally {
      connection.release();
    }
    await store.relay({ node: NODE, limit: 100, now: NOW });
    const ids = ['at-once', 'keyed', 'enqueued'].map((kind) => `${kind}-${index}`);
    const reader = { userId: `anna${text}`, tenants: [text] };
    expect(await unreadOf(store, reader, NOW), text).toEqual([ids, 3]);
    for (const id of ids) expect(await store.find(id), text).toMatchObject(more);
    expect(await store.find(`group-${index}`), text).toMatchObject(group);
    expect(await store.subscribe(reader.userId, text, group.receiver.name, [text])).toBe(true);
    expect(await store.subscriptions(reader)).toMatchObject([{ group: group.receiver.name, eventTypes: [text] }]);
    await store.advance([{ reader, device: text, position: 1 }], { now: NOW, maxDevices: 3 });
    expect(await store.cursor(reader, text)).toBe(1);
    expect(await store.markRead(reader, { eventIds: [ids[0]!] }, NOW)).toBe(1);
    wanted.push(...ids, `group-${index}`);
  }
  const [mode] = (await pool.query('SELECT @@sql_mode AS mode'))[0] as { mode: string }[];
  expect(mode!.mode).toContain('NO_BACKSLASH_ESCAPES');
  expect(await database.query(`SELECT COUNT(*) AS rows_left FROM ${victim}`)).toEqual([{ rows_left: 0 }]);
  expect(await unreadOf(store, { userId: 'ben', tenants: [''] }, NOW)).toEqual([['of-ben'], 1]);
  const rows = await database.query(`SELECT event_id FROM ${tablesOf(prefix).message} ORDER BY position`);
  expect(
    rows
      .map(({ event_id }) => String(event_id))
      .slice(2)
      .sort(),
  ).toEqual(wanted.sort());
});

test.each([
  ['autocommit = 0'],
  ['completion_type = 1'],
  ['completion_type = 2'],
  ['autocommit = 0, completion_type = 1'],
])('leaves no transaction open on connections with %s', async (setting) => {
  const database = await open(() => mysqlDatabase());
  const pool = poolWith(`SET ${setting}`);
  const store = await start({ dialect: 'mysql', pool, prefix: database.prefix });
  const beside = await start({ dialect: 'mysql', pool: poolWith('DO 0'), prefix: database.prefix });
  const [first] = (await pool.query('SELECT CONNECTION_ID() AS id'))[0] as { id: number }[];
  for (let i = 1; i <= 3; i++) {
    // Each kind of work after each other: at once, by a transaction, reading in one, reading without.
    await store.append([toAnna(`at-once-${i}`)], NODE);
    await store.append([toAnna(`keyed-${i}`, { dedupKey: `k${i}` })], NODE);
    expect(await store.unreadCount(ANNA, NOW)).toBe(i * 3 - 1);
    expect(await store.cursor(ANNA, 'phone')).toBe(i - 1);
    await beside.append([toAnna(`beside-${i}`)], NODE);
    await beside.advance([{ reader: ANNA, device: 'phone', position: i }], { now: NOW, maxDevices: 0 });
    // Not the rows that it saw before.
    expect(await store.cursor(ANNA, 'phone')).toBe(i);
    expect(await store.find(`beside-${i}`)).toMatchObject({ eventId: `beside-${i}` });
    await store.append([toAnna('at-once-1')], NODE);
  }
  // Nor did any end with its connection.
  const [last] = (await pool.query('SELECT CONNECTION_ID() AS id, @@in_transaction AS open'))[0] as object[];
  expect(last).toEqual({ id: first!.id, open: 0 });
});

test('makes its tables on connections with autocommit = 0', async () => {
  const database = await mysqlDatabase();
  opened.push(() => database.remove());
  await database.query(`DROP TABLE IF EXISTS ${Object.values(tablesOf(database.prefix)).join(', ')}`);
  const store = new SqlStore({ dialect: 'mysql', pool: poolWith('SET autocommit = 0'), prefix: database.prefix });
  opened.push(() => store.close());
  await store.start();
  expect(await database.query(`SELECT version FROM ${tablesOf(database.prefix).migration}`)).toEqual([{ version: 1 }]);
});

test('lists and counts what is to everybody where MariaDB takes empty text for NULL', async () => {
  const database = await open(() => mysqlDatabase());
  const pool = poolWith("SET sql_mode = CONCAT(@@sql_mode, ',EMPTY_STRING_IS_NULL')");
  const store = await start({ dialect: 'mysql', pool, prefix: database.prefix });
  await store.subscribe('anna', '', 'team', undefined);
  await store.append([message('everybody', toEverybody()), message('group', toGroup('team')), toAnna('own')], NODE);
  expect(await unreadOf(store, ANNA)).toEqual([['everybody', 'group', 'own'], 3]);
  expect(await store.markRead(ANNA, { eventIds: ['everybody', 'own'] }, NOW)).toBe(2);
  // What was read of a group is forgotten with its last subscription.
  expect(await store.markRead(ANNA, { eventIds: ['group'] }, NOW)).toBe(1);
  await store.unsubscribe('anna', '', 'team');
  expect(await database.query(`SELECT user_id FROM ${tablesOf(database.prefix).cursor}`)).toHaveLength(1);
});

test('begins on a connection that was given back within a transaction', async () => {
  const database = await open(() => mysqlDatabase());
  const pool = poolWith('DO 0');
  const store = await start({ dialect: 'mysql', pool, prefix: database.prefix });
  for (const [id, more] of [
    ['at-once', {}],
    ['keyed', { dedupKey: 'k' }],
  ] as const) {
    await pool.query('START TRANSACTION');
    await pool.query(`SELECT COUNT(*) FROM ${tablesOf(database.prefix).message}`);
    expect(await store.append([toAnna(id, more)], NODE)).toMatchObject([{ isDuplicate: false }]);
  }
  expect(await unreadOf(store, ANNA)).toEqual([['at-once', 'keyed'], 2]);
});

type Done = (error: unknown, result?: unknown) => void;

/** A pool whose driver answers statements of statements as `answer` makes it; `sent` counts them. */
function driver(answer: (run: () => Promise<unknown>, done: Done) => void): { pool: object; sent: string[] } {
  const pool = createCallbackPool({ uri: MYSQL, connectionLimit: 1 });
  opened.push(() => pool.promise().end());
  const sent: string[] = [];
  const getConnection = (callback: (error: unknown, connection: unknown) => void): void =>
    pool.getConnection((error, connection) => {
      const query = (sql: string, parameters: unknown[], done: Done): void => {
        if (!sql.startsWith('BEGIN NOT ATOMIC')) return void connection.query(sql, parameters, done);
        sent.push(sql);
        const run = () =>
          connection
            .promise()
            .query(sql, parameters)
            .then(([result]) => result);
        answer(run, done);
      };
      callback(error, connection && { query, release: () => connection.release() });
    });
  return { pool: { getConnection }, sent };
}

test.each([
  ['nothing', () => undefined],
  ['an empty list', () => []],
  ['one answer for each statement', (result: unknown) => [{}, {}, ...(result as unknown[])]],
])('knows the positions where a driver of MariaDB gives %s for rows', async (_, shape) => {
  const database = await open(() => mysqlDatabase());
  const { pool, sent } = driver((run, done) => {
    run().then((result) => done(null, shape(result)), done);
  });
  const store = await start({ dialect: 'mysql', pool, prefix: database.prefix });
  const head = await store.head();
  const batch = Array.from({ length: 300 }, (_, i) => toAnna(`m${i}`));
  const appended = await store.append(batch, NODE);
  expect(appended).toEqual(batch.map(({ eventId }, i) => ({ eventId, position: head + 1 + i, isDuplicate: false })));
  expect(sent).toHaveLength(1);
});

const error = (more: object): Error => Object.assign(new Error('as a server says it'), more);

test.each([
  ['ER_UNKNOWN_ERROR', error({ errno: 1105, sqlState: 'HY000' }), true],
  ['ER_UNSUPPORTED_PS', error({ errno: 1295, sqlState: 'HY000' }), true],
  ['ER_SYNTAX_ERROR', error({ errno: 1149, sqlState: '42000' }), true],
  ["a client's own deadline", error({ code: 'PROTOCOL_SEQUENCE_TIMEOUT' }), false],
  ['ER_LOCK_WAIT_TIMEOUT', error({ errno: 1205, sqlState: 'HY000' }), false],
  ['ER_QUERY_INTERRUPTED', error({ errno: 1317, sqlState: '70100' }), false],
  ['ER_CONSTRAINT_FAILED', error({ errno: 4025, sqlState: '23000' }), false],
  ['ER_OPTION_PREVENTS_STATEMENT', error({ errno: 1290, sqlState: 'HY000' }), false],
])(
  'tells a refusal of the first statement of statements from what happens to any: %s',
  async (_, failure, isRefusal) => {
    const database = await open(() => mysqlDatabase());
    let failures = 1;
    const { pool, sent } = driver((run, done) => {
      if (failures-- > 0) done(failure);
      else run().then((result) => done(null, result), done);
    });
    const store = await start({ dialect: 'mysql', pool, prefix: database.prefix });
    const first = store.append([toAnna('a')], NODE);
    if (isRefusal) expect(await first).toMatchObject([{ isDuplicate: false }]);
    else await expect(first).rejects.toMatchObject({ code: 'SSE_ERR_STORE_UNAVAILABLE', cause: failure });
    expect(await store.append([toAnna('b')], NODE)).toMatchObject([{ isDuplicate: false }]);
    // For good, or not at all.
    expect(sent).toHaveLength(isRefusal ? 1 : 2);
    expect(await unreadOf(store, ANNA)).toEqual(isRefusal ? [['a', 'b'], 2] : [['b'], 1]);
  },
);

test('throws what fails once the server has shown that it can', async () => {
  const database = await open(() => mysqlDatabase());
  let failure: Error | undefined;
  const { pool, sent } = driver((run, done) => {
    if (failure) done(failure);
    else run().then((result) => done(null, result), done);
  });
  const store = await start({ dialect: 'mysql', pool, prefix: database.prefix });
  await store.append([toAnna('a')], NODE);
  failure = error({ errno: 1105, sqlState: 'HY000' });
  await expect(store.append([toAnna('b')], NODE)).rejects.toMatchObject({ cause: failure });
  failure = undefined;
  await store.append([toAnna('b')], NODE);
  expect(sent).toHaveLength(3);
  expect(await unreadOf(store, ANNA)).toEqual([['a', 'b'], 2]);
});

interface PostgresQuery {
  readonly sql: string;
  readonly parameters: unknown[];
}

/** A Kysely over a driver that changes what is sent. */
function postgresDriver(
  change: (query: PostgresQuery) => PostgresQuery,
  asThrown = (failure: unknown) => failure,
): { kysely: Kysely<never>; sent: string[] } {
  const pool = new pg.Pool({ connectionString: POSTGRES, max: 1 });
  opened.push(() => pool.end());
  const sent: string[] = [];
  const connect = async () => {
    const client = await pool.connect();
    const query = (sql: string, given: unknown[]) => {
      sent.push(sql);
      const { sql: text, parameters } = change({ sql, parameters: [...given] });
      return client.query(text, parameters).catch((failure: unknown) => {
        throw asThrown(failure);
      });
    };
    return { query, release: () => client.release() };
  };
  const dialect = new PostgresDialect({ pool: { connect, end: async () => {} } as never });
  return { kysely: new Kysely({ dialect }), sent };
}

const isAtOnce = (sql: string): boolean => sql.includes('json_to_recordset');

test('refuses a database of PostgreSQL that cannot keep all text, before one text takes others with it', async () => {
  const admin = new pg.Pool({ connectionString: POSTGRES, max: 1 });
  opened.push(() => admin.end());
  const name = `latin_${process.pid}_${Date.now()}`;
  await admin.query(`CREATE DATABASE ${name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`);
  opened.push(() => admin.query(`DROP DATABASE ${name}`));
  const url = new URL(POSTGRES);
  url.pathname = `/${name}`;
  const pool = new pg.Pool({ connectionString: url.href, max: 1 });
  opened.push(() => pool.end());
  await expect(new SqlStore({ dialect: 'postgres', pool }).start()).rejects.toMatchObject({
    code: 'SSE_ERR_INVALID_OPTION',
    message: expect.stringMatching(/encoding UTF8.*got LATIN1/),
  });
});

test('refuses a driver that gives wrong numbers, rather than take messages for expired', async () => {
  const database = await open(postgresDatabase);
  await database.store().start();
  const pool = new pg.Pool({ connectionString: POSTGRES, max: 1, ...{ binary: true } });
  opened.push(() => pool.end());
  const binary = new SqlStore({ dialect: 'postgres', pool, prefix: database.prefix });
  await expect(binary.start()).rejects.toMatchObject({
    code: 'SSE_ERR_INVALID_OPTION',
    message: expect.stringMatching(/binary: true/),
  });
  const arrays = createPool({ uri: MYSQL, connectionLimit: 1, rowsAsArray: true });
  opened.push(() => arrays.end());
  const store = new SqlStore({ dialect: 'mysql', pool: arrays });
  await expect(store.start()).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_OPTION' });
});

test('passes text to drivers of PostgreSQL that write JSON themselves', async () => {
  const database = await open(postgresDatabase);
  const types = new pg.Pool({ connectionString: POSTGRES, max: 1 });
  opened.push(() => types.end());
  const asked = new Map<string, string[]>();
  const { kysely, sent } = postgresDriver(({ sql, parameters }) => {
    // As postgres.js and Bun have it: what the server describes as json is made JSON, whatever it was.
    const described = asked.get(sql) ?? [];
    return { sql, parameters: parameters.map((one, i) => (described[i] === 'json' ? JSON.stringify(one) : one)) };
  });
  const store = await start({ dialect: 'postgres', kysely, prefix: database.prefix });
  await store.append([toAnna('first-at-once')], NODE);
  const sql = sent.find(isAtOnce)!;
  await types.query(`PREPARE at_once AS ${sql}`);
  const [row] = (
    await types.query("SELECT parameter_types::text[] AS types FROM pg_prepared_statements WHERE name = 'at_once'")
  ).rows as { types: string[] }[];
  expect(row!.types).toContain('text');
  asked.set(sql, row!.types);
  sent.length = 0;
  const data = '{"it\'s":"\\"quoted\\" \\\\ \u{1f600}"}';
  await store.append([toAnna('a', { data })], NODE);
  expect(sent).toHaveLength(1);
  expect(await store.find('a')).toMatchObject({ data });
});

test.each([
  [
    'class 22: invalid JSON',
    ({ sql, parameters }: PostgresQuery) => ({ sql, parameters: [...parameters.slice(0, -1), '"{'] }),
  ],
  [
    'class 22: a scalar',
    ({ sql, parameters }: PostgresQuery) => ({ sql, parameters: [...parameters.slice(0, -1), '"1"'] }),
  ],
  ['class 42', ({ sql, parameters }: PostgresQuery) => ({ sql: sql.replace('json_to_', 'no_'), parameters })],
])('goes by transactions where PostgreSQL refuses the statement: %s', async (_, spoil) => {
  const database = await open(postgresDatabase);
  const { kysely, sent } = postgresDriver((query) => (isAtOnce(query.sql) ? spoil(query) : query));
  const store = await start({ dialect: 'postgres', kysely, prefix: database.prefix });
  for (const id of ['a', 'b']) {
    expect(await store.append([toAnna(id)], NODE)).toMatchObject([{ eventId: id, isDuplicate: false }]);
  }
  expect(sent.filter(isAtOnce)).toHaveLength(1);
  expect(await unreadOf(store, ANNA)).toEqual([['a', 'b'], 2]);
});

test('knows the failures of PostgreSQL in the words of another driver', async () => {
  const database = await open(postgresDatabase);
  // As Bun has them.
  const { kysely, sent } = postgresDriver(
    (query) => query,
    (failure) => error({ code: 'ERR_POSTGRES_SERVER_ERROR', errno: (failure as { code: string }).code }),
  );
  const store = await start({ dialect: 'postgres', kysely, prefix: database.prefix });
  const [a] = await store.append([toAnna('a')], NODE);
  expect(await store.append([toAnna('a'), toAnna('b')], NODE)).toEqual([
    { ...a, isDuplicate: true },
    { eventId: 'b', position: expect.any(Number), isDuplicate: false },
  ]);
  await store.append([toAnna('c')], NODE);
  expect(sent.filter(isAtOnce)).toHaveLength(3);
});
