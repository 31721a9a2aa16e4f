/** Counting by sums: right far beyond the numbers that other tests reach. */
import { afterEach, expect, test, vi } from 'vitest';
import { tablesOf } from '../../src/inbox/sql-schema.js';
import { ANNA, message, NODE, NOW, toGroup, toUser, unreadOf } from '../../src/testing/store-case.js';
import { sqliteDatabase } from './databases.js';

afterEach(() => void vi.restoreAllMocks());

test('counts a lane of 6 000 messages right whatever of it was deleted', async () => {
  const database = await sqliteDatabase();
  const store = database.store();
  await store.start();
  await store.subscribe('anna', '', 'team', undefined);
  const expiresAt = (i: number): number => (i > 0 && i % 7 < 3 ? NOW + 1 + (i % 5) : 0);
  const all = Array.from({ length: 6_000 }, (_, i) => message(`m${i}`, toGroup('team'), { expiresAt: expiresAt(i) }));
  await store.append(all, NODE);
  for (const ms of [2, 4, 9]) {
    const left = all.filter((one) => one.expiresAt === 0 || one.expiresAt > NOW + ms).length;
    expect(await store.unreadCount(ANNA, NOW + ms)).toBe(left);
    while ((await store.cleanup({ now: NOW + ms, readBefore: 0, createdBefore: 0, limit: 500 })) > 0);
    expect(await store.unreadCount(ANNA, NOW + ms)).toBe(left);
  }
  expect(await store.markRead(ANNA, { upTo: 'm1000' }, NOW + 9)).toBe(573);
  const [ids, count] = await unreadOf(store, ANNA, NOW + 9);
  expect(count).toBe(ids.length);
  // What lies before the first message that is left is summed up nowhere any more.
  await store.cleanup({ now: NOW + 9, readBefore: 0, createdBefore: NOW + 1, limit: 5_000 });
  for (const name of ['lane', 'dead', 'cursor'] as const) {
    expect(await database.query(`SELECT * FROM ${tablesOf(database.prefix)[name]}`), name).toEqual([]);
  }
  expect(await store.unreadCount(ANNA, NOW + 9)).toBe(0);
  await store.close();
  await database.dispose();
}, 30_000);

test('adds up the sums of every level', async () => {
  const database = await sqliteDatabase();
  const store = database.store();
  await store.start();
  await store.subscribe('anna', '', 'team', undefined);
  // Three messages of a lane of 600 000, all others deleted, as cleaning would have left it.
  await store.append(
    ['a', 'b', 'c'].map((id) => message(id, toGroup('team'))),
    NODE,
  );
  const t = tablesOf(database.prefix);
  const numbers = [10, 300_000, 599_999];
  for (const [i, number] of numbers.entries()) {
    await database.run(`UPDATE ${t.message} SET lane_number = ? WHERE event_id = ?`, [number, 'abc'[i]]);
  }
  await database.run(`UPDATE ${t.lane} SET last_number = 600000`, []);
  const [lane] = await database.query(`SELECT id FROM ${t.lane}`);
  for (const [level, size] of [64, 64 ** 2, 64 ** 3].entries()) {
    for (let block = 0; block * size < 600_000; block++) {
      const [from, to] = [block * size, Math.min(600_000, (block + 1) * size)];
      const alive = numbers.filter((number) => number >= from && number < to).length;
      const row = [lane!.id, level, block, to - from - alive];
      // As many as there are of the two lower levels would take seconds to write, and none of those is looked at.
      const isNear = block < 70 || Math.abs(block - Math.floor(300_000 / size)) < 70;
      if (level === 2 || isNear) await database.run(`INSERT INTO ${t.dead} VALUES (?, ?, ?, ?)`, row);
    }
  }
  expect(await unreadOf(store, ANNA)).toEqual([['a', 'b', 'c'], 3]);
  expect(await store.markRead(ANNA, { upTo: 'a' }, NOW)).toBe(1);
  expect(await unreadOf(store, ANNA)).toEqual([['b', 'c'], 2]);
  await store.close();
  await database.dispose();
});

test('counts messages to a user right, brought up to date at every send or never', async () => {
  for (const random of [0, 0.999]) {
    vi.spyOn(Math, 'random').mockReturnValue(random);
    const database = await sqliteDatabase();
    const store = database.store();
    await store.start();
    const ids = Array.from({ length: 60 }, (_, i) => `m${i}`);
    for (const [i, id] of ids.entries()) {
      await store.append([message(id, toUser('anna'), { expiresAt: i % 6 === 0 ? NOW + 5 : 0 })], NODE);
    }
    const [reader] = await database.query(`SELECT unread FROM ${tablesOf(database.prefix).reader}`);
    expect(reader?.unread).toBe(random === 0 ? 60 : undefined);
    expect(await store.markRead(ANNA, { eventIds: ids.slice(0, 9) }, NOW)).toBe(9);
    expect(await store.markRead(ANNA, { upTo: 'm19' }, NOW + 5)).toBe(9);
    expect(await unreadOf(store, ANNA, NOW + 5)).toEqual([expect.anything(), 34]);
    expect(await store.cleanup({ now: NOW + 5, readBefore: NOW + 1, createdBefore: 0, limit: 12 })).toBe(12);
    expect(await store.unreadCount(ANNA, NOW + 5)).toBe(34);
    await store.cleanup({ now: NOW + 5, readBefore: NOW + 9, createdBefore: 0, limit: 100 });
    expect(await store.unreadCount(ANNA, NOW + 5)).toBe(34);
    await store.close();
    await database.dispose();
  }
});
