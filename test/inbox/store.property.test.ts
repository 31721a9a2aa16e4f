/** Whatever happens to a store, what is unread and what is counted equal the model after every step. */
import { afterEach, beforeEach, test, vi } from 'vitest';
import { MemoryStore } from '../../src/inbox/memory-store.js';
import { mysqlDatabase, postgresDatabase, sqliteDatabase, type TestDatabase } from './databases.js';
import { checkHistories } from './store-property.js';

const over = (create: () => Promise<TestDatabase>) => async () => {
  const database = await create();
  return { store: database.store(), end: database.dispose };
};

// One send in 256 brings its reader's count up to date; here one in 8, so that each history has both kinds of messages.
const random = Math.random;
beforeEach(() => void vi.spyOn(Math, 'random').mockImplementation(() => random() / 32));
afterEach(() => void vi.restoreAllMocks());

test(
  'histories in memory agree with the model',
  () => checkHistories(async () => ({ store: new MemoryStore(), end: async () => {} }), 60),
  60_000,
);

test('histories over SQLite agree with the model', () => checkHistories(over(sqliteDatabase), 25), 60_000);

test('histories over PostgreSQL agree with the model', () => checkHistories(over(postgresDatabase), 3), 60_000);

test('histories over MariaDB agree with the model', () => checkHistories(over(mysqlDatabase), 6), 60_000);
