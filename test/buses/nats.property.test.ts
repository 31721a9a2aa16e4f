/**
 * Three nodes on one NATS, and everything that goes wrong at random while they publish: connections that are cut, refused,
 * stalled and swallowed, a server that is killed and comes back with and without its files. Whatever happened: every node
 * has the same order, nothing twice, and misses nothing but what it was told.
 */
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import type { NatsBusOptions } from '../../src/buses/nats.js';
import type { BusEvent } from '../../src/core/event.js';
import { outgoing } from '../../src/testing/bus-recorder.js';
import { NatsServer, needsNatsServer } from '../support/nats-server.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';
import { type NatsNode, publishUntilTaken, startNode } from './nats-nodes.js';

/** `FAULT_RUNS=50` runs more; `FAULT_SEED=… FAULT_PATH=…` runs what failed once more, as far as faults are all that decides. */
const { FAULT_RUNS, FAULT_SEED, FAULT_PATH } = process.env;
const RUNS = Number(FAULT_RUNS ?? 3);
const AGAIN = { ...(FAULT_SEED && { seed: Number(FAULT_SEED) }), ...(FAULT_PATH && { path: FAULT_PATH }) };

const KEYS = ['t::a', 't::b', 't::c', 'u::ada'];

type Fault = 'cut' | 'refuse' | 'stall' | 'drop' | 'kill' | 'forget' | 'none';
interface Step {
  readonly fault: Fault;
  /** Which node it hits. */
  readonly at: number;
  /** ms until it is mended. */
  readonly for: number;
}

const faults = (...names: Fault[]): fc.Arbitrary<Step[]> =>
  fc.array(
    fc.record({ fault: fc.constantFrom(...names), at: fc.nat({ max: 2 }), for: fc.integer({ min: 20, max: 600 }) }),
    { minLength: 4, maxLength: 7 },
  );

interface World {
  readonly server: NatsServer;
  readonly proxies: readonly TcpProxy[];
  readonly nodes: readonly NatsNode[];
}

async function makeWorld(options: Partial<NatsBusOptions>): Promise<World> {
  const server = await NatsServer.start();
  onTestFinished(() => server.close());
  const proxies: TcpProxy[] = [];
  const nodes: NatsNode[] = [];
  for (let i = 0; i < 3; i++) {
    const proxy = await TcpProxy.start(server.port);
    onTestFinished(() => proxy.close());
    proxies.push(proxy);
    // Each node wants another three of the four.
    const keys = KEYS.filter((_, k) => k !== i);
    // A connection that breaks while the client greets the server is given up after `timeout`, in which nothing heals.
    const client = { timeout: 1_000 };
    const url = `nats://127.0.0.1:${proxy.port}`;
    nodes.push(await startNode(url, keys, { requestTimeout: 500, ...options }, undefined, undefined, client));
  }
  return { server, proxies, nodes };
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** What was taken: its id, and its key, because perhaps nobody has it. */
interface Taken {
  readonly id: string;
  readonly key: string;
}

async function run({ server, proxies, nodes }: World, steps: readonly Step[]): Promise<Map<string, Taken>> {
  /** By their data. */
  const taken = new Map<string, Taken>();
  let isOver = false;
  let count = 0;
  const publishing = nodes.map(async ({ bus }, n) => {
    while (!isOver) {
      const burst = Array.from({ length: 1 + (count % 5) }, async () => {
        const data = `${n}-${++count}`;
        const key = KEYS[count % KEYS.length]!;
        taken.set(data, { id: await bus.publish(outgoing(key, data)), key });
      });
      await Promise.allSettled(burst);
      await pause(2);
    }
  });
  for (const step of steps) {
    const proxy = proxies[step.at]!;
    if (step.fault === 'cut') proxy.cut();
    if (step.fault === 'refuse') proxy.refuse();
    if (step.fault === 'stall') proxy.stall();
    if (step.fault === 'drop') proxy.drop();
    if (step.fault === 'kill' || step.fault === 'forget') await server.kill();
    if (step.fault === 'forget') await server.forget();
    await pause(step.for);
    proxy.mend();
    if (step.fault === 'kill' || step.fault === 'forget') await server.start();
    await pause(50);
  }
  isOver = true;
  await Promise.all(publishing);
  await until(() => nodes.every(({ bus }) => bus.status().state === 'up'), 'all nodes to be up', 20_000).catch(
    (error) => {
      const statuses = nodes.map(({ bus, connection, errors }) => [
        bus.status(),
        connection.stats(),
        errors.map(String),
      ]);
      throw new Error(`${error.message}: ${JSON.stringify(statuses)}`);
    },
  );
  // One more of each key: whoever gets it has all of before, or was told.
  for (const key of KEYS) {
    const id = await publishUntilTaken(nodes[0]!, key, `last ${key}`);
    taken.set(`last ${key}`, { id, key });
  }
  for (const [n, node] of nodes.entries()) {
    const keys = KEYS.filter((_, k) => k !== n);
    await until(
      () => keys.every((key) => node.dataOf(key).includes(`last ${key}`)),
      `node ${n} to have the last`,
      20_000,
    );
  }
  return taken;
}

const placeOf = (id: string): { epoch: string; sequence: number } => {
  const dash = id.lastIndexOf('-');
  return { epoch: id.slice(0, dash), sequence: Number(id.slice(dash + 1)) };
};

function checkNode(node: NatsNode, keys: readonly string[], taken: ReadonlyMap<string, Taken>) {
  const { events, losses } = node;
  const ids = events.map(({ id }) => id);
  expect(new Set(ids).size, 'nothing twice').toBe(ids.length);
  for (let i = 1; i < events.length; i++) {
    const [before, after] = [placeOf(ids[i - 1]!), placeOf(ids[i]!)];
    if (before.epoch === after.epoch) expect(before.sequence, 'in order').toBeLessThan(after.sequence);
  }
  const has = new Set(node.dataOf());
  const missing: string[] = [];
  for (const [data, { id, key }] of taken) {
    if (has.has(data) || !keys.includes(key)) continue;
    const place = placeOf(id);
    const isTold = losses.some(({ keys: lost, before }) => {
      if (lost !== undefined && !lost.includes(key)) return false;
      // Told before anything newer of that key, and after all that is older.
      const newer = events.findIndex((event) => {
        const own = placeOf(event.id);
        return event.key === key && own.epoch === place.epoch && own.sequence > place.sequence;
      });
      return newer < 0 || before <= newer;
    });
    if (!isTold) missing.push(`${data} (${id}, ${key})`);
  }
  expect(missing, `missing and not told; losses: ${JSON.stringify(losses)}`).toEqual([]);
}

function checkWorld(nodes: readonly NatsNode[], taken: ReadonlyMap<string, Taken>): void {
  const all = new Map<string, BusEvent>();
  for (const node of nodes) for (const event of node.events) all.set(event.data, event);
  for (const [n, node] of nodes.entries()) {
    checkNode(
      node,
      KEYS.filter((_, k) => k !== n),
      taken,
    );
    for (const event of node.events) {
      expect(all.get(event.data)!.id, 'one id everywhere').toBe(event.id);
      expect(taken.get(event.data)?.id ?? event.id, 'the id that publishing resolved with').toBe(event.id);
    }
  }
}

test(
  'with a server that keeps its files no node misses anything, and no client is told a gap',
  async () => {
    needsNatsServer();
    await fc.assert(
      fc.asyncProperty(faults('cut', 'refuse', 'stall', 'drop', 'kill', 'none'), async (steps) => {
        const world = await makeWorld({ historySize: 5_000 });
        const taken = await run(world, steps);
        checkWorld(world.nodes, taken);
        expect(world.nodes.flatMap(({ losses }) => losses)).toEqual([]);
        await endWorld(world);
      }),
      { numRuns: RUNS, endOnFailure: true, ...AGAIN },
    );
  },
  60_000 + RUNS * 15_000,
);

test(
  'with short history and a server that forgets, a node is told what it misses',
  async () => {
    needsNatsServer();
    await fc.assert(
      fc.asyncProperty(faults('cut', 'refuse', 'forget', 'kill'), async (steps) => {
        const world = await makeWorld({ historySize: 10 });
        checkWorld(world.nodes, await run(world, steps));
        await endWorld(world);
      }),
      { numRuns: RUNS, endOnFailure: true, ...AGAIN },
    );
  },
  60_000 + RUNS * 15_000,
);

async function endWorld({ server, proxies, nodes }: World): Promise<void> {
  for (const { bus, connection } of nodes) {
    await bus.close();
    await connection.close();
  }
  for (const proxy of proxies) await proxy.close();
  await server.close();
}
