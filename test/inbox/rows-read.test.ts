/**
 * How many rows a statement reads, where most of a table is somebody else's: a planner that guesses wrong reads all of them, by an
 * index too.
 */
import { expect, test } from 'vitest';
import type { Context } from '../../src/inbox/sql-append.js';
import { cleanup, sweep } from '../../src/inbox/sql-cleanup.js';
import { SQL_DIALECTS } from '../../src/inbox/sql-dialect.js';
import { markRead } from '../../src/inbox/sql-read.js';
import { firstUnpublished, hasWork, relay, renewNode } from '../../src/inbox/sql-relay.js';
import { countUnread, listBacklog, listPending } from '../../src/inbox/sql-unread.js';
import type { Statement, Work } from '../../src/inbox/sql-work.js';
import { ANNA, message, NOW, toGroup, toUser } from '../../src/testing/store-case.js';
import { mysqlDatabase, postgresDatabase, type TestDatabase } from './databases.js';
import { begun } from './opened.js';

/** Of others, before anna's group has its first message; and by a node that is dead, and has published all of them. */
const OTHERS = 12_000;
const OWN = 600;
const RANGE = { after: 0, through: 1e9, limit: 100, now: NOW };
const REQUEST = { node: 'node-3', limit: 100, now: NOW, again: true };

function works(context: Context): Record<string, Work<unknown>> {
  return {
    pending: listPending(context, ANNA, RANGE),
    backlog: listBacklog(context, ANNA, undefined, RANGE),
    count: countUnread(context, ANNA, NOW),
    read: markRead(context, ANNA, { eventIds: ['g5', 'g6'] }, NOW),
    'first unpublished': firstUnpublished(context, 'node-3'),
    'has work': hasWork(context, REQUEST),
    relay: relay(context, REQUEST),
    'end of a node': renewNode(context, 'dead', 0, 0),
    cleanup: cleanup(context, { now: NOW + 5, readBefore: 0, createdBefore: 0, limit: 100 }),
    sweep: sweep(context),
  };
}

interface Plan {
  readonly Plans?: readonly Plan[];
  readonly 'Relation Name'?: string;
  readonly 'Actual Rows'?: number;
  readonly 'Actual Loops'?: number;
  readonly 'Rows Removed by Filter'?: number;
  readonly 'Rows Removed by Join Filter'?: number;
}

function rowsOf(plan: Plan): number {
  const loops = plan['Actual Loops'] ?? 0;
  const removed = (plan['Rows Removed by Filter'] ?? 0) + (plan['Rows Removed by Join Filter'] ?? 0);
  const own = plan['Relation Name'] === undefined ? 0 : ((plan['Actual Rows'] ?? 0) + removed) * loops;
  return (plan.Plans ?? []).reduce((sum, one) => sum + rowsOf(one), own);
}

/** What the server read for a SELECT. */
async function rowsRead(database: TestDatabase, { sql, parameters }: Statement): Promise<number> {
  if (database.dialect === 'postgres') {
    const text = `EXPLAIN (ANALYZE, FORMAT JSON) ${SQL_DIALECTS.postgres.numbered(sql)}`;
    const [row] = await database.query(text, parameters);
    return rowsOf((row!['QUERY PLAN'] as { Plan: Plan }[])[0]!.Plan);
  }
  const reads = async (): Promise<number> =>
    (await database.query("SHOW SESSION STATUS LIKE 'Handler_read%'")).reduce(
      (sum, { Value }) => sum + Number(Value),
      0,
    );
  const before = await reads();
  await database.run(sql, parameters);
  // Of the question itself.
  return (await reads()) - before - 10;
}

const databases = { PostgreSQL: postgresDatabase, MariaDB: mysqlDatabase };

test.each(Object.entries(databases))(
  'no statement passes over the rows of others on %s',
  async (_, create) => {
    const { database, store, t, context } = await begun(create);
    await store.subscribe('anna', '', 'team', undefined);
    const others = Array.from({ length: OTHERS }, (_, i) => message(`m${i}`, toUser(`user-${i % 500}`)));
    for (let i = 0; i < OTHERS; i += 1_000) await store.append(others.slice(i, i + 1_000), 'dead');
    await store.renewNode('dead', await store.head(), NOW - 1_000);
    const own = Array.from({ length: OWN }, (_, i) =>
      message(`g${i}`, toGroup('team'), { expiresAt: i < 50 ? NOW + 5 : 0 }),
    );
    // And what the others have read, a little of each.
    const readers = Array.from({ length: OTHERS }, (_, i) => `user-${i}`);
    for (let i = 0; i < OTHERS; i += 500) {
      const rows = readers.slice(i, i + 500).flatMap((user, k) => [user, 1_000 + (k % 400), 1 + (k % 400)]);
      const marks = Array(500).fill('(?, ?, ?)').join(', ');
      for (const table of [t.read, t.cursor]) {
        await database.run(`INSERT INTO ${table} (user_id, lane_id, position) VALUES ${marks}`, rows);
      }
    }
    await database.run(`INSERT INTO ${t.dead} (lane_id, level, block, dead) VALUES (0, -1, 77, 0)`, []);
    await store.append(own, 'node-1');
    await store.renewNode('node-1', await store.head(), NOW + 60_000);
    await store.renewNode('new', 0, NOW - 1_000);
    if (database.dialect === 'mysql') await database.query(`ANALYZE TABLE ${Object.values(t).join(', ')}`);
    else for (const table of Object.values(t)) await database.query(`ANALYZE ${table}`);
    for (const [name, work] of Object.entries(works(context))) {
      for (let step = work.next(); !step.done; ) {
        const { sql, parameters } = step.value;
        if (sql.startsWith('SELECT'))
          expect(await rowsRead(database, step.value), `${name}: ${sql}`).toBeLessThan(2 * OWN + 200);
        step = work.next(await database.run(sql, parameters));
      }
    }
    await store.close();
  },
  60_000,
);
