/** Cleaning up what very many have read: no send waits for a row of each of them. */
import { expect, test } from 'vitest';
import { cleanup } from '../../src/inbox/sql-cleanup.js';
import { ANNA, message, NODE, NOW, toEverybody, unreadOf } from '../../src/testing/store-case.js';
import { mysqlDatabase, postgresDatabase, sqliteDatabase } from './databases.js';
import { begun } from './opened.js';

const READERS = 5_000;
const databases = { SQLite: sqliteDatabase, PostgreSQL: postgresDatabase, MariaDB: mysqlDatabase };

test.each(Object.entries(databases))(
  'a broadcast that 5 000 have read goes without all of their rows under the locks, and they go after it on %s',
  async (_, create) => {
    const { database, store, t, context } = await begun(create);
    // One of two in its lane, read beyond the other; and one that was the only one of its lane.
    await store.append(
      [
        message('first', toEverybody()),
        message('read', toEverybody(), { expiresAt: NOW + 5 }),
        message('alone', toEverybody(), { event: 'news', expiresAt: NOW + 5 }),
      ],
      NODE,
    );
    expect(await store.markRead(ANNA, { eventIds: ['read', 'alone'] }, NOW)).toBe(2);
    const places = await database.query(`SELECT lane_id, position FROM ${t.message} ORDER BY position`);
    const [, read, alone] = places.map(({ lane_id, position }) => [Number(lane_id), Number(position)]);
    for (let i = 0; i < READERS; i += 500) {
      const users = Array.from({ length: 500 }, (_, k) => `user-${i + k}`);
      const marks = users.map(() => '(?, ?, ?)').join(', ');
      for (const [table, place] of [[t.read, read!] as const, [t.cursor, alone!] as const]) {
        const columns = 'user_id, lane_id, position';
        await database.run(
          `INSERT INTO ${table} (${columns}) VALUES ${marks}`,
          users.flatMap((user) => [user, ...place]),
        );
      }
    }
    const rowsOf = async (name: 'read' | 'cursor' | 'dead'): Promise<Record<string, unknown>[]> =>
      database.query(`SELECT lane_id FROM ${t[name]}`);
    const request = { now: NOW + 5, readBefore: 0, createdBefore: 0, limit: 100 };
    // What runs under the locks.
    let changes = 0;
    const work = cleanup(context, request);
    let step = work.next();
    while (!step.done) {
      const result = await database.run(step.value.sql, step.value.parameters);
      if (!step.value.sql.startsWith('SELECT')) changes += result.changes;
      step = work.next(result);
    }
    expect(step.value).toBe(2);
    expect(changes).toBeLessThan(100);
    expect(await unreadOf(store, ANNA, NOW + 5)).toEqual([['first'], 1]);
    // A part of the rest with each cleanup.
    expect(await store.cleanup(request)).toBe(0);
    const left = (await rowsOf('read')).length + (await rowsOf('cursor')).length;
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThan(READERS);
    await store.cleanup(request);
    expect([await rowsOf('read'), await rowsOf('cursor')]).toEqual([[], []]);
    expect((await rowsOf('dead')).filter((row) => Number(row.lane_id) === 0)).toEqual([]);
    expect(await unreadOf(store, ANNA, NOW + 5)).toEqual([['first'], 1]);
    await store.close();
  },
  60_000,
);
