/** Every statement that a store makes finds its rows by an index, on each database: none reads a whole table. */
import { expect, test } from 'vitest';
import { appendMessages, type Context } from '../../src/inbox/sql-append.js';
import { cleanup, sweep } from '../../src/inbox/sql-cleanup.js';
import { advancing, cursorOf, forgetDevices } from '../../src/inbox/sql-devices.js';
import { SQL_DIALECTS } from '../../src/inbox/sql-dialect.js';
import { markRead } from '../../src/inbox/sql-read.js';
import { firstUnpublished, hasWork, relay, relayed, renewNode } from '../../src/inbox/sql-relay.js';
import { tablesOf } from '../../src/inbox/sql-schema.js';
import { subscribe, subscriptionsOf, unsubscribe } from '../../src/inbox/sql-subscription.js';
import { countUnread, listBacklog, listPending, nextExpiry } from '../../src/inbox/sql-unread.js';
import type { Statement, Work } from '../../src/inbox/sql-work.js';
import { message, NOW, toEverybody, toGroup, toUser } from '../../src/testing/store-case.js';
import { mysqlDatabase, postgresDatabase, sqliteDatabase, type TestDatabase } from './databases.js';

const READER = { userId: 'user-1', tenants: ['', 'acme'] };
const OTHER = { userId: 'user-2', tenants: [''] };
const SEEN = { now: NOW, maxDevices: 1 };
/** Of more than one statement takes, with more devices of one user than may be. */
const MOVES = Array.from({ length: 40 }, (_, i) => ({
  reader: i < 3 ? READER : { userId: `user-${i}`, tenants: ['', 'acme'] },
  device: `phone-${i}`,
  position: 900,
}));
/** Some alone, and many one after the other. */
const DELIVERED = [901, 903, ...Array.from({ length: 40 }, (_, i) => 905 + i)];
const RANGE = { after: 0, through: 1e9, limit: 100, now: NOW + 50 };

/** Everything that a store does. */
function works(context: Context): (() => Work<unknown>)[] {
  const more = { dedupKey: 'k', expiresAt: NOW + 5 };
  return [
    () => subscribe(context, 'user-1', '', 'group-1', undefined, 1_000),
    () => subscribe(context, 'user-1', 'acme', 'group-2', ['note'], 0),
    () => appendMessages(context, [message('x1', toUser('user-1'), more), message('x2', toGroup('group-1'))], 'node-1'),
    () => appendMessages(context, [message('x1', toUser('user-1')), message('x3', toEverybody())], 'node-1'),
    () => countUnread(context, READER, NOW + 50),
    () => nextExpiry(context, READER, NOW + 50),
    () => firstUnpublished(context, 'node-3'),
    () => listPending(context, READER, RANGE),
    () => listBacklog(context, READER, { priority: 1, position: 3 }, RANGE),
    () => markRead(context, READER, { eventIds: ['x1', 'x2', 'x3', 'm7'] }, NOW + 1),
    () => markRead(context, READER, { upTo: 'm900' }, NOW + 1),
    () => markRead(context, READER, 'all', NOW + 1),
    () => renewNode(context, 'node-1', 5, 1),
    () => renewNode(context, 'node-2', 5, 0),
    () => hasWork(context, { node: 'node-3', limit: 100, now: NOW, again: true }),
    () => relay(context, { node: 'node-3', limit: 100, now: NOW, again: true }),
    () => relayed(context, 'node-3', [6, 7]),
    () => cursorOf(context, READER, 'phone'),
    ...advancing(context, [{ reader: OTHER, device: 'phone', position: 900 }], SEEN),
    ...advancing(context, MOVES, SEEN),
    ...advancing(context, [{ reader: READER, device: 'phone', position: 950, isListed: true }], {
      ...SEEN,
      delivered: DELIVERED,
    }),
    () => forgetDevices(context, { seenBefore: NOW + 1_000, limit: 100 }),
    () => subscriptionsOf(context, READER, undefined),
    () => subscriptionsOf(context, READER, 'group-1'),
    () => unsubscribe(context, 'user-1', '', 'group-1'),
    () => cleanup(context, { now: NOW + 50, readBefore: NOW + 2, createdBefore: NOW + 1, limit: 100 }),
    () => sweep(context),
    () => sweep(context),
  ];
}

/** The tables that a plan reads from one end to the other. */
async function scans(database: TestDatabase, { sql, parameters }: Statement): Promise<string[]> {
  const text = SQL_DIALECTS[database.dialect].numbered(sql);
  if (database.dialect === 'sqlite') {
    const rows = await database.query(`EXPLAIN QUERY PLAN ${text}`, parameters);
    return rows
      .map(({ detail }) => String(detail))
      .filter((detail) => /^SCAN (?!(\d+ )?CONSTANT|\(subquery|b\d|x\b|moved\b)/.test(detail));
  }
  if (database.dialect === 'postgres') {
    const rows = await database.query(`EXPLAIN ${text}`, parameters);
    return rows.map((row) => String(row['QUERY PLAN'])).filter((line) => line.includes('Seq Scan'));
  }
  const rows = await database.query(`EXPLAIN ${text}`, parameters);
  return rows
    .filter(({ type, table }) => type === 'ALL' && !/^<(union|derived)/.test(String(table)))
    .map(({ table }) => String(table));
}

/** Small by nature: the numbering rows, and the nodes of one application. */
const SMALL = /(sequence|node)\b/;

const databases = { SQLite: sqliteDatabase, PostgreSQL: postgresDatabase, MariaDB: mysqlDatabase };

test.each(Object.entries(databases))(
  'every statement uses an index on %s',
  async (_, create) => {
    const database = await create();
    try {
      const store = database.store();
      await store.start();
      const receivers = [toUser, toGroup].flatMap((to) => Array.from({ length: 20 }, (_, i) => [to, i] as const));
      const filling = Array.from({ length: 3_000 }, (_, i) => {
        const [to, number] = receivers[i % receivers.length]!;
        const receiver = to(`${to === toUser ? 'user' : 'group'}-${number}`, i % 3 === 0 ? 'acme' : '');
        return message(`m${i}`, receiver, { expiresAt: i % 5 === 0 ? NOW + (i % 100) : 0, createdAt: NOW + (i % 7) });
      });
      await store.append(filling, 'node-1');
      for (let i = 0; i < 300; i++) await store.subscribe(`user-${i}`, '', `group-${i % 20}`, undefined);
      const t = tablesOf(database.prefix);
      const others = `SELECT 'other', lane_id, position FROM ${t.message} WHERE lane_id IS NOT NULL`;
      await database.run(`INSERT INTO ${t.read} (user_id, lane_id, position) ${others}`, []);
      await database.run(
        `INSERT INTO ${t.relay} (node, position) SELECT 'other', position + 1000000 FROM ${t.message}`,
        [],
      );
      const devices = "SELECT event_id, '', 'phone', position, created_at";
      await database.run(
        `INSERT INTO ${t.device} (user_id, tenant_id, device, position, updated_at) ${devices} FROM ${t.message}`,
        [],
      );
      // What was noted of a message and of a lane that are gone.
      for (const row of [
        [0, -2, 20],
        [0, -1, 1],
      ]) {
        await database.run(`INSERT INTO ${t.dead} (lane_id, level, block, dead) VALUES (?, ?, ?, 0)`, row);
      }
      if (database.dialect === 'postgres') {
        for (const table of Object.values(t)) await database.query(`ANALYZE ${table}`);
      }
      if (database.dialect === 'mysql') await database.query(`ANALYZE TABLE ${Object.values(t).join(', ')}`);
      // A planner rightly reads tables of a few rows whole; the question is what it would do with many.
      const off = database.dialect === 'postgres' ? 'SET enable_seqscan = off' : undefined;
      const context: Context = { dialect: SQL_DIALECTS[database.dialect], t };
      const seen = new Set<string>();
      for (const work of works(context)) {
        const steps = work();
        for (let step = steps.next(); !step.done; ) {
          const { sql, parameters } = step.value;
          if (!seen.has(sql) && /^(SELECT|UPDATE|DELETE)/.test(sql)) {
            seen.add(sql);
            if (off) await database.query(off);
            const found = (await scans(database, step.value)).filter((line) => !SMALL.test(line));
            expect(found, sql).toEqual([]);
          }
          const result = await database.run(sql, parameters);
          step = steps.next(result);
        }
      }
      expect(seen.size).toBeGreaterThan(40);
      await store.close();
    } finally {
      await database.dispose();
    }
  },
  60_000,
);
