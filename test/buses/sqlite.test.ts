/** SqliteBus keeps the contract of buses, over a file and over databases of every client. */
import path from 'node:path';
import { describe, test } from 'vitest';
import { SqliteBus, type SqliteBusOptions } from '../../src/buses/sqlite.js';
import { type BusFixture, type BusSetup, busConformance } from '../../src/testing/index.js';
import { testDrivers } from './sqlite-drivers.js';
import { temporaryFolder } from './sqlite-files.js';

/** What retention dropped leaves the file in steps, by the clock. */
async function settle({ clock }: BusSetup): Promise<void> {
  for (let step = 0; step < 4; step++) {
    clock.advance(50);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const optionsOf = (setup: BusSetup, database: SqliteBusOptions['database']): SqliteBusOptions => ({
  ...setup,
  database,
  lockTimeout: 0,
});

const ABILITIES = { durable: true, keepsNoHistory: false, forgetsExpired: true } as const;

describe('SqliteBus over a file', () => {
  const create = (setup: BusSetup): BusFixture => {
    const { folder, remove } = temporaryFolder();
    const make = () => new SqliteBus(optionsOf(setup, path.join(folder, 'history.db')));
    return { bus: make(), reopen: make, settle: () => settle(setup), dispose: remove };
  };
  for (const { name, run } of busConformance({ create, ...ABILITIES })) test(name, run);
});

for (const driver of await testDrivers()) {
  describe(`SqliteBus over a database of ${driver.name}`, () => {
    const create = (setup: BusSetup): BusFixture => {
      const { folder, remove } = temporaryFolder();
      const database = driver.open(path.join(folder, 'application.db'));
      const make = () => new SqliteBus(optionsOf(setup, database));
      const limitPages = (pages: number) => {
        database.prepare(`PRAGMA max_page_count = ${pages}`).all();
      };
      return {
        bus: make(),
        reopen: make,
        settle: () => settle(setup),
        // No page more than there are.
        breakCarrier: () => limitPages(1),
        mendCarrier: () => limitPages(1_000_000),
        dispose: () => {
          database.close();
          remove();
        },
      };
    };
    const cases = busConformance({ create, ...ABILITIES, breaks: true });
    for (const { name, run } of cases) test(name, run);
  });
}
