// Runs the conformance suite over node:sqlite, on a Node that has it: once by file name, once with a database object.
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { SqliteBus } from 'sse-broker/sqlite';
import { busConformance } from 'sse-broker/testing';

const folder = mkdtempSync(path.join(os.tmpdir(), 'sse-broker-builtin-'));
let files = 0;

async function settle({ clock }) {
  for (let step = 0; step < 4; step++) {
    clock.advance(50);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function overFile(setup) {
  const database = path.join(folder, `${++files}.db`);
  const make = () => new SqliteBus({ ...setup, database, lockTimeout: 0 });
  return { bus: make(), reopen: make, settle: () => settle(setup) };
}

function overDatabase(setup) {
  const database = new DatabaseSync(path.join(folder, `${++files}.db`));
  const make = () => new SqliteBus({ ...setup, database });
  return {
    bus: make(),
    reopen: make,
    settle: () => settle(setup),
    breakCarrier: () => database.prepare('PRAGMA max_page_count = 1').all(),
    mendCarrier: () => database.prepare('PRAGMA max_page_count = 1000000').all(),
    dispose: () => database.close(),
  };
}

try {
  for (const { create, breaks } of [
    { create: overFile, breaks: false },
    { create: overDatabase, breaks: true },
  ]) {
    for (const { name, run } of busConformance({ create, breaks, durable: true, keepsNoHistory: false })) {
      await run().catch((cause) => {
        throw new Error(`${create.name}: ${name}`, { cause });
      });
      console.log(`ok ${create.name}: ${name}`);
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}
