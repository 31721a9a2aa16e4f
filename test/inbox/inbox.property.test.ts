/** Every device sees every message of its user exactly once, and counts are right after every step, whatever happens. */
import { test } from 'vitest';
import type { BrokerOptions } from '../../src/index.js';
import { backendOf, mysqlDatabase, postgresDatabase, sqliteDatabase, type TestDatabase } from './databases.js';
import { live } from './inbox-property.js';

const SEED = Number(process.env.INBOX_SEED ?? Date.now() % 1_000_000);
const RUNS = Number(process.env.INBOX_RUNS ?? 0);
const TIMEOUT_MS = RUNS > 0 ? 3_600_000 : 120_000;

interface Lives {
  readonly count: number;
  readonly steps: number;
  readonly nodes: number;
  readonly database?: (() => Promise<TestDatabase>) | undefined;
  /** Nodes die, the bus breaks, its history is short, buffers are small. */
  readonly canFail?: boolean;
}

async function lives({ count, steps, nodes, database: create, canFail = false }: Lives): Promise<void> {
  for (let i = 0; i < (RUNS || count); i++) {
    const seed = SEED + i;
    const database = await create?.();
    try {
      await live({
        seed,
        nodes,
        steps,
        ...backendOf(database),
        historySize: canFail ? [0, 3, 10_000][seed % 3] : 10_000,
        broker: brokerOptions(seed, nodes, canFail),
        canFail,
        isLossless: nodes > 1 && !canFail,
      });
    } finally {
      await database?.dispose();
    }
  }
}

/** Without history whatever is missed is a loss, and comes out of the store. */
function brokerOptions(seed: number, nodes: number, canFail: boolean): BrokerOptions {
  return {
    ...(nodes === 1 && { historySize: [0, 3, 1_000][seed % 3]! }),
    ...(canFail && {
      clientBufferSize: [4, 256][seed % 2]!,
      overflow: (['disconnect', 'drop-oldest', 'drop-newest'] as const)[(seed >> 1) % 3]!,
      maxReplayEvents: [3, 10_000][(seed >> 2) % 2]!,
    }),
  };
}

test('one node, in memory', () => lives({ count: 20, steps: 60, nodes: 1 }), TIMEOUT_MS);

test('three nodes that share a bus, in memory', () => lives({ count: 10, steps: 50, nodes: 3 }), TIMEOUT_MS);

test('one node that dies, in memory', () => lives({ count: 20, steps: 60, nodes: 1, canFail: true }), TIMEOUT_MS);

test(
  'three nodes that die, and a bus that fails them, in memory',
  () => lives({ count: 20, steps: 60, nodes: 3, canFail: true }),
  TIMEOUT_MS,
);

test(
  'one node that dies, over SQLite',
  () => lives({ count: 4, steps: 40, nodes: 1, database: sqliteDatabase, canFail: true }),
  TIMEOUT_MS,
);

test(
  'two nodes that die, and a bus that fails them, over SQLite',
  () => lives({ count: 4, steps: 40, nodes: 2, database: sqliteDatabase, canFail: true }),
  TIMEOUT_MS,
);

test(
  'two nodes that die, and a bus that fails them, over PostgreSQL',
  () => lives({ count: 2, steps: 25, nodes: 2, database: postgresDatabase, canFail: true }),
  TIMEOUT_MS,
);

test(
  'two nodes that die, and a bus that fails them, over MariaDB',
  () => lives({ count: 2, steps: 25, nodes: 2, database: mysqlDatabase, canFail: true }),
  TIMEOUT_MS,
);
