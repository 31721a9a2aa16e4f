/** The same messages marked read by several at once: on two devices, or by a page that is clicked twice. */
import { expect, onTestFinished, test } from 'vitest';
import type { Context } from '../../src/inbox/sql-append.js';
import { SQL_DIALECTS } from '../../src/inbox/sql-dialect.js';
import { markRead } from '../../src/inbox/sql-read.js';
import { tablesOf } from '../../src/inbox/sql-schema.js';
import type { ReadSelection } from '../../src/inbox/store.js';
import {
  ANNA,
  ANNA_AT_ACME,
  message,
  NODE,
  NOW,
  toEverybody,
  toGroup,
  unreadOf,
} from '../../src/testing/store-case.js';
import { mysqlDatabase, postgresDatabase, sqliteDatabase } from './databases.js';

const databases = { PostgreSQL: postgresDatabase, MariaDB: mysqlDatabase };

test.each(Object.entries(databases))(
  'a message to many that is marked read by several at once counts once on %s',
  async (_, create) => {
    const database = await create();
    onTestFinished(database.dispose);
    const stores = [database.store(), database.store()];
    for (const store of stores) await store.start();
    await stores[0]!.subscribe('anna', '', 'team', undefined);
    for (let i = 0; i < 20; i++) {
      const ids = [`g${i}`, `e${i}`];
      await stores[0]!.append([message(ids[0]!, toGroup('team')), message(ids[1]!, toEverybody())], NODE);
      const selections: ReadSelection[] = [
        { eventIds: ids },
        { eventIds: [...ids].reverse() },
        { upTo: ids[1]! },
        'all',
      ];
      // Of the same person, one page in a tenant.
      const readers = [ANNA, ANNA_AT_ACME];
      const marked = selections.map((selection, k) => stores[k % 2]!.markRead(readers[k % 2]!, selection, NOW));
      const changed = (await Promise.all(marked)).reduce((sum, one) => sum + one, 0);
      expect(changed, `round ${i}`).toBe(2);
    }
    expect(await unreadOf(stores[0]!, ANNA)).toEqual([[], 0]);
    // Nor is anything kept about what the cursor says already.
    expect(await database.query(`SELECT * FROM ${tablesOf(database.prefix).read}`)).toEqual([]);
  },
  60_000,
);

test('a thousand messages to many are marked read in a few statements', async () => {
  const database = await sqliteDatabase();
  onTestFinished(database.dispose);
  const store = database.store();
  await store.start();
  const all = Array.from({ length: 1_200 }, (_, i) => message(`e${i}`, toEverybody()));
  await store.append(all, NODE);
  const context: Context = { dialect: SQL_DIALECTS.sqlite, t: tablesOf(database.prefix) };
  // Every one but the first, in some order; and some a second time.
  const eventIds = all.slice(1, 1_000).map(({ eventId }) => eventId);
  for (const [selection, changed] of [
    [[...eventIds].reverse(), 999],
    [eventIds.slice(100), 0],
    [['e0', 'e1150'], 2],
  ] as const) {
    let statements = 0;
    const work = markRead(context, ANNA, { eventIds: selection }, NOW);
    let step = work.next();
    for (; !step.done; statements++) {
      step = work.next(await database.run(step.value.sql, step.value.parameters));
    }
    expect(step.value).toBe(changed);
    expect(statements).toBeLessThan(50);
  }
  expect(await store.unreadCount(ANNA, NOW)).toBe(199);
  expect((await store.pending({ reader: ANNA, after: 0, limit: 1, now: NOW }))[0]!.eventId).toBe('e1000');
  await store.close();
});
