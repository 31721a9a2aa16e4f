/**
 * How long does a broadcast to 100 000 clients hold up everybody else in the process?
 *
 *     node bench/stall.mjs
 *     node bench/stall.mjs --clients 100000 --write-us 5 --seconds 3
 *
 * A sink that costs as much as a write to a socket stands for each client. An endless chain of `setImmediate` is the other
 * work: the time between two links is what a request would have waited. On a busy machine the process also waits for a
 * core; so the CPU time that was spent between two links stands beside it, and is what counts.
 */
import { PerformanceObserver } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { Broker } from '../dist/index.js';

const { values: args } = parseArgs({
  options: {
    clients: { type: 'string', default: '100000' },
    'write-us': { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
  },
});
const clients = Number(args.clients);
const writeMs = Number(args['write-us']) / 1000;
const seconds = Number(args.seconds);
const DATA = 'x'.repeat(200);

const sink = {
  open() {},
  write() {
    const until = performance.now() + writeMs;
    while (performance.now() < until);
    return true;
  },
  end() {},
  destroy() {},
  progress: () => 0,
};

let longestGc = 0;
new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) longestGc = Math.max(longestGc, duration);
}).observe({ entryTypes: ['gc'] });

/** Links of the chain, each with what passed since the one before, until `isDone`. */
async function watch(isDone) {
  const walls = [];
  const cpus = [];
  longestGc = 0;
  let wall = performance.now();
  let cpu = process.cpuUsage();
  do {
    await new Promise((resolve) => setImmediate(resolve));
    const { user, system } = process.cpuUsage(cpu);
    const now = performance.now();
    walls.push(now - wall);
    cpus.push((user + system) / 1000);
    cpu = process.cpuUsage();
    wall = performance.now();
  } while (!isDone());
  // The observer reports a turn later.
  await new Promise((resolve) => setTimeout(resolve, 20));
  return { turns: walls.length, walls: walls.sort((a, b) => b - a), cpus: cpus.sort((a, b) => b - a) };
}

function print(name, { turns, walls, cpus }) {
  const ms = (value) => `${value.toFixed(1)} ms`;
  console.log(
    `${name.padEnd(46)} longest stall ${ms(walls[0])} (CPU ${ms(cpus[0])}, next ${ms(cpus[1] ?? 0)}), ` +
      `${turns} turns, longest collection ${ms(longestGc)}`,
  );
}

const topics = Array.from({ length: 1000 }, (_, i) => [`topic:${i}`]);
const broker = new Broker({ connectedEvent: false, retry: 0, clientTimeout: 0, heartbeatInterval: 0 });
for (let i = 0; i < clients; i++) {
  broker.connect({ sink, identity: { userId: `user-${i}` }, topics: topics[i % 1000] });
  if (i % 1000 === 999) await new Promise((resolve) => setImmediate(resolve));
}
console.log(`${clients} clients, ${args['write-us']} µs per write`);

const idleUntil = performance.now() + 1000;
print('nothing at all (what the machine adds)', await watch(() => performance.now() > idleUntil));

const delivered = () => broker.getStats().delivered;
for (const round of [1, 2, 3]) {
  const target = delivered() + clients;
  void broker.broadcast('note', DATA);
  print(`one broadcast, round ${round}`, await watch(() => delivered() === target));
}

const target = delivered() + 10 * clients;
for (let i = 0; i < 10; i++) void broker.broadcast('note', DATA);
print('ten broadcasts in one turn', await watch(() => delivered() === target));

// More than it can write: every turn one more, for everybody and for a topic.
const before = delivered();
let published = 0;
const stopAt = performance.now() + seconds * 1000;
const result = await watch(() => {
  if (performance.now() > stopAt) return delivered() - before >= published;
  void broker.broadcast('note', DATA);
  void broker.sendToTopic(`topic:${published % 1000}`, 'note', DATA);
  published += clients + clients / 1000;
  return false;
});
print('a broadcast in every turn, beyond its strength', result);
await broker.close({ timeoutMs: 0 });

// Heartbeats at the default interval: the first are due after half of it.
const quiet = new Broker({ connectedEvent: false, retry: 0, clientTimeout: 0, heartbeatInterval: 30_000 });
for (let i = 0; i < clients; i++) {
  quiet.connect({ sink });
  if (i % 1000 === 999) await new Promise((resolve) => setImmediate(resolve));
}
const heartbeatsUntil = performance.now() + 22_000;
print('heartbeats of silent clients', await watch(() => performance.now() > heartbeatsUntil));
process.exit(0);
