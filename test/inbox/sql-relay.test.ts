/** Nodes that died cost those that live nothing, however many there are: of processes that crash again and again. */
import { expect, onTestFinished, test } from 'vitest';
import type { Context } from '../../src/inbox/sql-append.js';
import { SQL_DIALECTS } from '../../src/inbox/sql-dialect.js';
import { firstUnpublished, hasWork, relay } from '../../src/inbox/sql-relay.js';
import { tablesOf } from '../../src/inbox/sql-schema.js';
import type { Work } from '../../src/inbox/sql-work.js';
import { idsOf, message, NOW, toUser } from '../../src/testing/store-case.js';
import { sqliteDatabase } from './databases.js';

test('a thousand dead nodes are asked after in as many statements as none, and what one of them left goes out', async () => {
  const database = await sqliteDatabase();
  onTestFinished(database.dispose);
  const store = database.store();
  await store.start();
  const context: Context = { dialect: SQL_DIALECTS.sqlite, t: tablesOf(database.prefix) };
  const request = { node: 'node-1', limit: 100, now: NOW };
  await store.renewNode('node-1', 0, NOW + 60_000);
  const countOf = async <T>(work: Work<T>): Promise<[statements: number, answer: T]> => {
    let statements = 0;
    let step = work.next();
    for (; !step.done; statements++) {
      const { sql, parameters } = step.value;
      step = work.next(await database.run(sql, parameters));
    }
    return [statements, step.value];
  };
  const all = async () => [
    await countOf(firstUnpublished(context, 'node-1')),
    await countOf(hasWork(context, request)),
    await countOf(relay(context, request)),
  ];
  const withNone = await all();
  for (let i = 0; i < 1_000; i++) {
    await database.run(`INSERT INTO ${context.t.node} VALUES (?, ?, 0)`, [`dead-${i}`, NOW - 1_000]);
  }
  expect(await all()).toEqual(withNone);
  const [left] = await store.append([message('left', toUser('anna'))], 'dead-700');
  expect((await countOf(firstUnpublished(context, 'node-1')))[1]).toBe(left!.position);
  expect(idsOf(await store.relay(request))).toEqual(['left']);
  // Those that have been dead for a day are forgotten.
  await store.relay({ ...request, now: NOW + 25 * 60 * 60_000 });
  expect(await database.query(`SELECT node FROM ${context.t.node}`)).toEqual([{ node: 'node-1' }]);
  await store.close();
});
