/**
 * What every inbox store must do, as named cases for any test runner: the contract in src/inbox/store.ts, executed.
 *
 * A case makes a store of its own through `create`, uses only the contract, and fails by an AssertionError of Node. What a
 * store cannot do (share its data between processes, write in the caller's transaction) is left out by what its fixture
 * declares, never skipped in silence: the names of the cases say what ran.
 */
import type { InboxStore } from '../inbox/store.js';
import type { AddStoreCase, StoreFixture } from './store-case.js';
import { addDevices, addSharedDevices } from './store-device-cases.js';
import { addExpiry, addReading, addStoring } from './store-message-cases.js';
import { addGroups, addRelay, addSharedStores, addTransactions } from './store-shared-cases.js';

export type { StoreFixture };

export interface StoreConformanceOptions {
  create(): StoreFixture | Promise<StoreFixture>;
  /** Several stores may use the same data; fixtures have `another`. Default false. */
  readonly shared?: boolean | undefined;
  /** Writes in the caller's transactions; fixtures have `transaction`. Default false. */
  readonly transactions?: boolean | undefined;
}

/** One thing that a store must do. */
export interface StoreCase {
  readonly name: string;
  /** Rejects where the store does not. */
  run(): Promise<void>;
}

/**
 * The cases that a store with these abilities must pass.
 *
 * @example
 * for (const { name, run } of storeConformance({ create: () => ({ store: new MyStore() }) })) test(name, run);
 */
export function storeConformance(options: StoreConformanceOptions): StoreCase[] {
  const cases: StoreCase[] = [];
  const add: AddStoreCase = (name, test) => {
    const run = async (): Promise<void> => {
      const fixture = await options.create();
      const started: InboxStore[] = [];
      const start = async (store: InboxStore): Promise<InboxStore> => {
        started.push(store);
        await store.start();
        return store;
      };
      try {
        const store = await start(fixture.store);
        await test({ store, fixture, another: async () => start(await fixture.another!()) });
      } finally {
        for (const store of started) {
          await store.close();
          await store.close();
        }
        await fixture.dispose?.();
      }
    };
    cases.push({ name, run });
  };
  addStoring(add);
  addReading(add);
  addExpiry(add);
  addGroups(add);
  addDevices(add);
  addRelay(add);
  if (options.transactions) addTransactions(add);
  if (options.shared) {
    addSharedStores(add);
    addSharedDevices(add);
  }
  return cases;
}
