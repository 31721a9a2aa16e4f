/**
 * Half an hour of everything at once against our broker: connects, leaves (properly, abruptly, before the head), stalls,
 * publishes to users, topics and everybody, bursts. After each cycle the process must be what it was before it: heap,
 * handles, listeners, the broker's maps. And no client that reads may miss, repeat or reorder anything.
 *
 *     node bench/soak.mjs                30 minutes
 *     node bench/soak.mjs --seconds 60   as in CI
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Child } from './driver/child.mjs';
import { growths } from './driver/flatness.mjs';
import { SERVERS } from './driver/servers.mjs';
import { sleep } from './shared/clock.mjs';

const STEADY = 50;
const STALLED_PER_CYCLE = 8;
const TOPICS = 20;
const PATIENCE_MS = 5000;
/** Four kilobytes: a burst of a second overruns what the kernel holds for a stalled reader. */
const PAYLOAD_BYTES = 4096;
const VISITS = { rate: 60, holdMs: 400, abruptShare: 0.3, hastyShare: 0.15 };
const STEADY_RATE = 200;
const BURST = { kind: 'broadcast', rate: 0, perTurn: 10, window: 100, seconds: 1 };

const { values: args } = parseArgs({
  options: {
    seconds: { type: 'string', default: '1800' },
    server: { type: 'string', default: 'ours' },
    seed: { type: 'string', default: '1' },
  },
});
const total = Number(args.seconds);
const known = SERVERS[args.server];
if (known === undefined) throw new Error(`no server ${args.server}`);
const cycleSeconds = Math.min(30, Math.max(3, total / 8));

const server = new Child(args.server, known.file);
const load = new Child('load client', fileURLToPath(new URL('./load/main.mjs', import.meta.url)));
/** @type {import('./driver/flatness.mjs').Inspection[]} */
const inspections = [];
/** @type {string[]} */
let reasons = [];

try {
  const seed = Number(args.seed);
  const { port, ackPort } = await server.ask('start', {
    needs: { broadcast: true, users: true, topics: true },
    variant: known.variant ?? '',
    workload: { users: STEADY, topics: TOPICS, payloadBytes: PAYLOAD_BYTES, seed },
  });
  const plan = {
    port,
    clients: STEADY,
    stalled: 0,
    topics: TOPICS,
    topicsPerClient: 3,
    payloadBytes: PAYLOAD_BYTES,
    seed,
  };
  await load.ask('connect', { plan, ackPort });
  await sleep(300);

  const end = Date.now() + total * 1000;
  while (reasons.length === 0 && (Date.now() < end || inspections.length < 4)) {
    reasons = await cycle();
    print();
  }
  reasons.push(...growths(inspections));
} catch (error) {
  reasons.push(error instanceof Error ? error.message : String(error));
} finally {
  await Promise.all([server.stop(), load.stop()]);
}

for (const reason of reasons) console.error(`soak: ${reason}`);
console.log(reasons.length === 0 ? `soak: ${inspections.length} cycles, all flat, nothing lost` : 'soak: failed');
process.exitCode = reasons.length === 0 ? 0 : 1;

/** @returns {Promise<string[]>} faults */
async function cycle() {
  await load.ask('mark');
  await load.ask('stall', { count: STALLED_PER_CYCLE });
  const seconds = cycleSeconds - BURST.seconds;
  const [visits] = await Promise.all([
    load.ask('churn', { plan: { ...VISITS, seconds: cycleSeconds } }),
    server
      .ask('publish', { plan: { kind: 'mixed', rate: STEADY_RATE, seconds } })
      .then(() => server.ask('publish', { plan: BURST })),
  ]);
  await load.ask('leaveStalled');
  // A last event for everyone who is left: it also finds a stream that died unnoticed.
  const { totals } = await server.ask('publish', { plan: { kind: 'broadcast', rate: 1, seconds: 1 } });
  const { faults, notes, deliveries } = await load.ask('drain', { published: totals, patienceMs: PATIENCE_MS });

  const inspection = await inspectWhenLeft();
  inspections.push({ ...inspection, deliveries, visits: visits.completed });
  const found = Object.entries(faults).filter(([, count]) => count > 0);
  if (found.length > 0) return [...found.map(([name, count]) => `${count} ${name}`), ...notes];
  if (inspection.clients !== STEADY) return [`${inspection.clients} clients are registered, ${STEADY} are connected`];
  return [];
}

/** Those who left are gone once the server has seen their sockets close: soon, but not at once. */
async function inspectWhenLeft() {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const { clients } = await server.ask('usage');
    if (clients === STEADY || Date.now() > deadline) return await server.ask('inspect');
    await sleep(50);
  }
}

function print() {
  const { memory, clients, resources, stats, deliveries, visits } = /** @type {any} */ (inspections.at(-1));
  const mib = (/** @type {number} */ bytes) => (bytes / 2 ** 20).toFixed(1);
  console.log(
    `cycle ${inspections.length}: ${deliveries} deliveries, ${visits} visits; heap ${mib(memory.heapUsed)} MiB, ` +
      `rss ${mib(memory.rss)} MiB, ${clients} clients, ${stats.dropped ?? 0} dropped, resources ${JSON.stringify(resources)}`,
  );
}
