/** One scenario on one server, once: fresh processes, the same steps for everyone. */
import { fileURLToPath } from 'node:url';
import { sleep } from '../shared/clock.mjs';
import { Child, peakResidentBytes, processAccount, residentBytes } from './child.mjs';
import { HOLD_MS, needsOf } from './scenarios.mjs';

const LOAD_CLIENT = fileURLToPath(new URL('../load/main.mjs', import.meta.url));
const SETTLE_MS = 300;
const SAMPLE_MS = 50;

/**
 * @typedef {object} RoundOptions
 * @property {number} seconds measured
 * @property {number} warmupSeconds before that
 * @property {number} patienceMs how long nothing may arrive before what is missing counts as lost
 * @property {number} [leastPublishes] where nothing sets the pace, also if that takes longer than `seconds`
 * @property {number} seed
 * @property {boolean} isPinned server on core 0, load client on core 1
 */

/**
 * @param {import('./scenarios.mjs').Scenario} scenario
 * @param {string} name
 * @param {import('./servers.mjs').Server} server
 * @param {RoundOptions} options
 */
export async function runRound(scenario, name, server, options) {
  const serverProcess = new Child(name, server.file, options.isPinned ? { core: 0 } : {});
  const load = new Child('load client', LOAD_CLIENT, options.isPinned ? { core: 1 } : {});
  try {
    const { clients, stalled, topics, topicsPerClient, payloadBytes } = scenario;
    const { seed } = options;
    const { port, ackPort } = await serverProcess.ask('start', {
      needs: needsOf(scenario),
      variant: server.variant ?? '',
      workload: { users: clients + stalled, topics, payloadBytes, seed },
    });
    const plan = { port, clients, stalled, topics, topicsPerClient, payloadBytes, seed };
    const context = { scenario, options, server: serverProcess, load, plan, ackPort };
    if (scenario.measure === 'memory') return await measureMemory(context);
    if (scenario.measure === 'connect') return await measureConnects(context);
    return await measurePublishing(context);
  } finally {
    await Promise.all([serverProcess.stop(), load.stop()]);
  }
}

/**
 * @typedef {object} Context
 * @property {import('./scenarios.mjs').Scenario} scenario
 * @property {RoundOptions} options
 * @property {Child} server
 * @property {Child} load
 * @property {import('../load/fleet.mjs').FleetPlan} plan
 * @property {number} ackPort
 */

/** @param {Context} context */
async function measurePublishing({ scenario, options, server, load, plan, ackPort }) {
  const { kind, rate, perTurn, window } = scenario;
  await load.ask('connect', { plan, ackPort });
  await sleep(SETTLE_MS);

  const publish = { kind, rate, perTurn, window, least: options.leastPublishes };
  const warmUp = await server.ask('publish', { plan: { ...publish, seconds: options.warmupSeconds } });
  await load.ask('drain', { published: warmUp.totals, patienceMs: options.patienceMs });
  // Once: see measureConnects.
  await server.ask('collect', { times: 1 });
  const residentBefore = residentBytes(server.pid);

  const before = await account(server);
  await load.ask('mark');
  let peak = residentBefore;
  const sampler = setInterval(() => {
    peak = Math.max(peak, residentBytes(server.pid));
  }, SAMPLE_MS);
  const seconds = Math.max(options.seconds, scenario.minSeconds);
  const published = await server.ask('publish', { plan: { ...publish, seconds } });
  const arrived = await load.ask('drain', { published: published.totals, patienceMs: options.patienceMs });
  const after = await account(server);
  clearInterval(sampler);

  const deliveries = arrived.deliveries;
  const cpuSeconds = after.cpuSeconds - before.cpuSeconds;
  return {
    ...outcome(arrived),
    published: published.published,
    deliveries,
    cpuSeconds,
    cpuSecondsBySystem: difference(after.system?.cpuSeconds, before.system?.cpuSeconds),
    cpuPerMillion: (cpuSeconds / deliveries) * 1e6,
    deliveriesPerSecond: deliveries / arrived.seconds,
    serverLoad: cpuSeconds / arrived.seconds,
    waited: difference(after.system?.waitedSeconds, before.system?.waitedSeconds) / arrived.seconds,
    writesPerDelivery: difference(after.system?.writes, before.system?.writes) / deliveries,
    p50: arrived.latency.p50,
    p99: arrived.latency.p99,
    p999: arrived.latency.p999,
    peakResidentMiB: peakResidentBytes(server.pid) / 2 ** 20,
    residentGrowthMiB: (peak - residentBefore) / 2 ** 20,
  };
}

/** @param {Context} context */
async function measureMemory({ scenario, options, server, load, plan, ackPort }) {
  // A few visits first: what the first connection makes once belongs to nobody's account.
  await load.ask('connect', { plan: { ...plan, clients: 0, stalled: 0 } });
  await load.ask('churn', { plan: { rate: 200, seconds: 0.5, holdMs: 50 } });
  await sleep(SETTLE_MS);
  const empty = await server.ask('collect');
  const opened = await load.ask('connect', { plan, ackPort });
  await sleep(SETTLE_MS);
  const full = await server.ask('collect');
  const { clients } = await server.ask('usage');

  // One event at the end: all of these connections are alive, and whom they belong to is right.
  const published = await server.ask('publish', { plan: { kind: scenario.kind, rate: 1, seconds: 1 } });
  await load.ask('mark');
  const arrived = await load.ask('drain', { published: published.totals, patienceMs: options.patienceMs });
  return {
    ...outcome(arrived),
    open: opened.open,
    clients,
    kibPerConnection: (full.rss - empty.rss) / opened.open / 1024,
    heapKibPerConnection: (full.heapUsed - empty.heapUsed) / opened.open / 1024,
    peakResidentMiB: peakResidentBytes(server.pid) / 2 ** 20,
  };
}

/**
 * Without a collection before the account: several in a row, while nobody is connected, let go of the shapes of objects that
 * compiled code is about, and with them of that code. No server does that, and it made a visit cost half as much again.
 *
 * @param {Context} context
 */
async function measureConnects({ scenario, options, server, load, plan, ackPort }) {
  const { rate } = scenario;
  const warmupSeconds = Math.max(options.warmupSeconds, scenario.minWarmup);
  await load.ask('connect', { plan, ackPort });
  await load.ask('churn', { plan: { rate, seconds: warmupSeconds, holdMs: HOLD_MS } });
  await sleep(SETTLE_MS);
  const before = await account(server);
  await load.ask('mark');
  const visits = await load.ask('churn', { plan: { rate, seconds: options.seconds, holdMs: HOLD_MS } });
  await sleep(SETTLE_MS);
  const after = await account(server);
  const arrived = await load.ask('report');
  const left = await server.ask('inspect');
  const cpuSeconds = after.cpuSeconds - before.cpuSeconds;
  const base = outcome(arrived);
  return {
    ...base,
    // A client that left and is still counted, by the library or by the system, is a zombie.
    faults: { ...base.faults, zombies: Math.max(left.clients, left.connections) },
    visits: visits.completed,
    visitsPerSecond: visits.completed / visits.seconds,
    cpuSeconds,
    cpuSecondsBySystem: difference(after.system?.cpuSeconds, before.system?.cpuSeconds),
    serverLoad: cpuSeconds / arrived.seconds,
    waited: difference(after.system?.waitedSeconds, before.system?.waitedSeconds) / arrived.seconds,
    cpuMicrosPerVisit: (cpuSeconds / visits.completed) * 1e6,
    p50: visits.latency.p50,
    p99: visits.latency.p99,
    p999: visits.latency.p999,
    peakResidentMiB: peakResidentBytes(server.pid) / 2 ** 20,
  };
}

/** @param {any} report of the load client */
function outcome({ faults, notes, otherEvents, load }) {
  return { faults, notes, otherEvents, load };
}

/** @param {Child} server */
async function account(server) {
  const { cpuSeconds } = await server.ask('usage');
  return { cpuSeconds, system: processAccount(server.pid) };
}

/** @param {number | undefined} after @param {number | undefined} before */
function difference(after, before) {
  return after === undefined || before === undefined ? Number.NaN : after - before;
}
