/**
 * Promises 1, 2 and 4 of DESIGN for three nodes in processes of their own over a real bus: whatever happens to nodes, network
 * and bus, alone or two things at once, every visitor has its events in one order, each once, and what is missing was told
 * before anything later; a gap is told only where history was lost; and a node that is well again holds no more than before.
 *
 * In CI every fault strikes once, alone. `NODES=long` lets each strike six times, alone or two at once, for as long as in the
 * field (a partition of 5 s, a stopped node of 20 s). To look for what happens seldom: `NODES_RUNS=20`, `NODES_PAIRS=true` and
 * `NODES_ONLY='FLUSHALL|in silence'` for the faults whose names match.
 */
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { NatsServer, needsNatsServer } from '../support/nats-server.js';
import { needsRedisServer, RedisServer } from '../support/redis-server.js';
import { type Durations, type Fault, natsFaults, redisFaults } from './faults.js';
import { Random } from './random.js';
import { World } from './world.js';

const isLong = process.env.NODES === 'long';
const DURATIONS: Durations = isLong
  ? { partition: 5_000, stop: 20_000, outage: 2_000 }
  : { partition: 900, stop: 3_000, outage: 300 };
const RUNS = Number(process.env.NODES_RUNS ?? (isLong ? 6 : 1));
const inPairs = isLong || process.env.NODES_PAIRS === 'true';
const ONLY = new RegExp(process.env.NODES_ONLY ?? '');
const TIMEOUT = isLong || RUNS > 1 ? 3_600_000 : 90_000;

/** All faults in any order, one after another or two at once. */
function plans(faults: Readonly<Record<string, Fault>>): fc.Arbitrary<string[][]> {
  const names = Object.keys(faults).filter((name) => ONLY.test(name));
  const pairs = fc.array(fc.boolean(), { minLength: names.length, maxLength: names.length });
  const shuffled = fc.shuffledSubarray(names, { minLength: names.length, maxLength: names.length });
  return fc.tuple(shuffled, pairs).map(([order, isWithNext]) => {
    const plan: string[][] = [];
    for (const [i, name] of order.entries()) {
      const last = plan.at(-1);
      if (inPairs && last?.length === 1 && isWithNext[i]) last.push(name);
      else plan.push([name]);
    }
    return plan;
  });
}

async function play(world: World, faults: Readonly<Record<string, Fault>>, plan: readonly string[][]): Promise<void> {
  // Before anything happened, all must hold as well, and the heaps are taken.
  expect(await world.judge()).toEqual([]);
  for (const names of plan) {
    const toldBefore = new Map(world.visitors.map((visitor) => [visitor, visitor.told.length]));
    const startedAt = performance.now();
    await world.during(async () => {
      await Promise.all(names.map((name) => faults[name]!.strike(world, world.random.one(world.members), DURATIONS)));
    });
    const found = await world.judge();
    if (isLong) console.log(`${((performance.now() - startedAt) / 1_000).toFixed(1)} s: ${names.join(' + ')}`);
    expect(found, names.join(' + ')).toEqual([]);
    if (names.some((name) => faults[name]!.loses)) continue;
    const gaps = world.visitors.filter((visitor) => visitor.told.length > (toldBefore.get(visitor) ?? 0)).map(String);
    expect(gaps, `${names.join(' + ')} loses nothing, so no gap is told`).toEqual([]);
  }
  expect(world.ledger.acknowledged, 'publishes that got through').toBeGreaterThan(plan.length * 30);
}

test(
  'three nodes over Redis, and all that can happen to them',
  async () => {
    needsRedisServer();
    const server = await RedisServer.start({ persistence: 'always' });
    onTestFinished(() => server.close());
    const faults = redisFaults(server);
    await fc.assert(
      fc.asyncProperty(plans(faults), fc.nat(), async (plan, seed) => {
        const world = await World.start(['ioredis', 'node-redis', 'ioredis'], server.port, new Random(seed));
        await play(world, faults, plan);
      }),
      { numRuns: RUNS, endOnFailure: true },
    );
  },
  TIMEOUT,
);

test(
  'three nodes over NATS, and all that can happen to them',
  async () => {
    needsNatsServer();
    const server = await NatsServer.start();
    onTestFinished(() => server.close());
    const faults = natsFaults(server);
    await fc.assert(
      fc.asyncProperty(plans(faults), fc.nat(), async (plan, seed) => {
        const world = await World.start(['nats', 'nats', 'nats'], server.port, new Random(seed));
        await play(world, faults, plan);
      }),
      { numRuns: RUNS, endOnFailure: true },
    );
  },
  TIMEOUT,
);
