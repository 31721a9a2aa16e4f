/** The store conformance suite over one database. */
import { test } from 'vitest';
import { storeConformance } from '../../src/testing/store-conformance.js';
import type { TestDatabase } from './databases.js';

export function testConformance(create: () => Promise<TestDatabase>): void {
  const cases = storeConformance({
    shared: true,
    transactions: true,
    create: async () => {
      const database = await create();
      return {
        store: database.store(),
        another: () => database.store(),
        transaction: database.transaction,
        dispose: database.dispose,
      };
    },
  });
  for (const { name, run } of cases) test(name, run);
}
