/** The store over SQLite does what every store must, with each SQLite client that this Node has. */
import { describe } from 'vitest';
import { testDrivers } from '../buses/sqlite-drivers.js';
import { sqliteDatabase } from './databases.js';
import { testConformance } from './sql-conformance.js';

for (const driver of await testDrivers()) {
  describe(`over SQLite by ${driver.name}`, () => testConformance(() => sqliteDatabase(driver)));
}
