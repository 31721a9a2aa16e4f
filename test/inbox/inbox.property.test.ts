/** Every device sees every message of its user exactly once, and counts are right after every step, whatever happens. */
import { test } from 'vitest';
import { MemoryStore } from '../../src/inbox/memory-store.js';
import { SharedHub } from '../support/shared-bus.js';
import { mysqlDatabase, postgresDatabase, sqliteDatabase, type TestDatabase } from './databases.js';
import { live } from './inbox-property.js';

const SEED = Number(process.env.INBOX_SEED ?? Date.now() % 1_000_000);
const RUNS = Number(process.env.INBOX_RUNS ?? 0);

/** One node on a bus of its own; `historySize` 0: whatever is missed is a loss, and comes out of the store. */
async function lives(count: number, steps: number, nodes: number, create?: () => Promise<TestDatabase>): Promise<void> {
  for (let i = 0; i < (RUNS || count); i++) {
    const seed = SEED + i;
    const database = await create?.();
    const memory = new MemoryStore();
    const hub = new SharedHub({ historySize: 10_000 });
    try {
      await live({
        seed,
        nodes,
        steps,
        store: () => database?.store() ?? memory,
        broker: () => (nodes > 1 ? { bus: hub.port() } : { historySize: [0, 3, 1_000][seed % 3]! }),
      });
    } finally {
      await database?.dispose();
    }
  }
}

test('one node, in memory', () => lives(40, 60, 1), 120_000);

test('three nodes that share a bus, in memory', () => lives(20, 50, 3), 120_000);

test('one node over SQLite', () => lives(12, 40, 1, sqliteDatabase), 120_000);

test('two nodes over SQLite', () => lives(6, 30, 2, sqliteDatabase), 120_000);

test('two nodes over PostgreSQL', () => lives(2, 25, 2, postgresDatabase), 120_000);

test('two nodes over MariaDB', () => lives(2, 25, 2, mysqlDatabase), 120_000);
