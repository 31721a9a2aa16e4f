/** The store in memory does what every store must. */
import { describe, test } from 'vitest';
import { MemoryStore } from '../../src/inbox/memory-store.js';
import { storeConformance } from '../../src/testing/store-conformance.js';

describe('in memory', () => {
  const cases = storeConformance({
    transactions: true,
    create: () => {
      const store = new MemoryStore();
      const transaction = async (work: (tx: unknown) => Promise<void>): Promise<void> => {
        const tx = store.begin();
        try {
          await work(tx);
        } catch (error) {
          tx.rollback();
          throw error;
        }
        tx.commit();
      };
      return { store, transaction };
    },
  });
  for (const { name, run } of cases) test(name, run);
});
