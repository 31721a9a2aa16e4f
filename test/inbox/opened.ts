/** What tests of one file open, and what chance must not decide in them. */
import { afterEach, beforeEach, onTestFinished, vi } from 'vitest';
import type { Context } from '../../src/inbox/sql-append.js';
import { SQL_DIALECTS } from '../../src/inbox/sql-dialect.js';
import { tablesOf } from '../../src/inbox/sql-schema.js';
import type { TestDatabase } from './databases.js';

/** Closes what the tests of this file open after each of them, the last first. */
export function closedAfterEach(): {
  readonly opened: (() => unknown)[];
  readonly open: (create: () => Promise<TestDatabase>) => Promise<TestDatabase>;
} {
  const opened: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of opened.splice(0).reverse()) await close();
  });
  const open = async (create: () => Promise<TestDatabase>): Promise<TestDatabase> => {
    const database = await create();
    opened.push(() => database.dispose());
    return database;
  };
  return { opened, open };
}

/** A database with a store that has begun, until the test ends, and what pieces of that store need to run by themselves. */
export async function begun(create: () => Promise<TestDatabase>) {
  const database = await create();
  onTestFinished(database.dispose);
  const store = database.store();
  await store.start();
  const t = tablesOf(database.prefix);
  const context: Context = { dialect: SQL_DIALECTS[database.dialect], t };
  return { database, store, t, context };
}

/** No append brings counts up to date by chance: statements are counted, or told from what a transaction does. */
export function countsStay(): void {
  const { random } = Math;
  beforeEach(() => {
    vi.spyOn(Math, 'random').mockImplementation(() => 0.1 + 0.9 * random());
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });
}
