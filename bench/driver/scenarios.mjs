/**
 * What is asked of every server. The numbers are those of the reach table in the issue "Fan-out at the limit of the
 * machine"; where it leaves one open, the choice and its reason stand here.
 */

/**
 * @typedef {object} Scenario
 * @property {string} title
 * @property {'publish' | 'memory' | 'connect'} measure
 * @property {'broadcast' | 'users' | 'topics' | 'mixed'} kind whom events are for
 * @property {number} clients that read
 * @property {number} stalled that do not
 * @property {number} topics that exist
 * @property {number} topicsPerClient
 * @property {number} payloadBytes of `data`
 * @property {number} rate publishes (connect: visits) per second; 0: as fast as possible
 * @property {number} perTurn publishes in one turn, when as fast as possible
 * @property {number} window publishes under way, when as fast as possible
 * @property {number} minSeconds below which the scenario does not show what it is for
 * @property {number} minWarmup seconds before that, below which V8 still compiles what is measured
 * @property {boolean} isExtra not in the reach table: only on request, and in the short run
 */

/** @type {Omit<Scenario, 'title'>} */
const BASE = {
  measure: 'publish',
  kind: 'broadcast',
  clients: 1000,
  stalled: 0,
  topics: 1000,
  topicsPerClient: 1,
  payloadBytes: 200,
  rate: 0,
  perTurn: 1,
  window: 0,
  minSeconds: 0,
  minWarmup: 0,
  isExtra: false,
};

/** @type {Record<string, Scenario>} */
export const SCENARIOS = {
  quiet: { ...BASE, title: 'quiet memory, 10 000 connections', measure: 'memory', clients: 10_000 },
  paced: { ...BASE, title: '1 000 clients, paced 25/s', rate: 25 },
  // Under way, in all that follow no pace: enough that no server waits while its readers keep up, and a server that joins
  // what is late can; few enough that the kernel holds them (56 MB in all) and a library that bounds its readers at some
  // hundred events does not take the burst for a slow reader: what an overflow costs is another question.
  turn1: { ...BASE, title: '1 000 clients, 1 publish per turn, as fast as possible', perTurn: 1, window: 250 },
  turn50: { ...BASE, title: '1 000 clients, 50 publishes per turn, as fast as possible', perTurn: 50, window: 200 },
  wide: { ...BASE, title: '10 000 clients at 2/s', clients: 10_000, rate: 2, minSeconds: 4 },
  // Ten per millisecond: few enough that all servers keep up, so latency means something.
  unicast: { ...BASE, title: '10 000 users, unicast to random users', kind: 'users', clients: 10_000, rate: 25_000 },
  topics: {
    ...BASE,
    title: '10 000 clients × 10 of 1 000 topics',
    kind: 'topics',
    clients: 10_000,
    topicsPerClient: 10,
    rate: 200,
  },
  // Twelve seconds of 2 MB/s: the kernel takes about 4 MB for a reader that stalls; only then the server has to, and V8 compiles
  // what it does for such readers.
  stalled: {
    ...BASE,
    title: '100 clients, 20 of them stalled, 4 KB at 500/s',
    clients: 80,
    stalled: 20,
    payloadBytes: 4096,
    rate: 500,
    minSeconds: 12,
  },
  unstalled: {
    ...BASE,
    title: '80 clients, none stalled, 4 KB at 500/s',
    clients: 80,
    payloadBytes: 4096,
    rate: 500,
    minSeconds: 12,
  },
  // A visit runs all that it runs once: for the first five thousand, V8 compiling that is much of what is measured.
  connect: {
    ...BASE,
    title: 'connect and leave at 1 000/s',
    measure: 'connect',
    clients: 0,
    rate: 1000,
    minWarmup: 5,
  },
  mixed: {
    ...BASE,
    title: '500 clients; users, topics and everybody in turn',
    kind: 'mixed',
    clients: 500,
    topics: 20,
    topicsPerClient: 3,
    rate: 2000,
    isExtra: true,
  },
};

/**
 * The same questions, small: enough to see that every payload arrives, not how fast.
 *
 * @param {Scenario} scenario
 * @returns {Scenario}
 */
export function shortened(scenario) {
  const { clients, stalled, topics, rate, measure } = scenario;
  const fewer = Math.min(clients, 200);
  return {
    ...scenario,
    title: `in small: ${scenario.title}`,
    clients: stalled > 0 ? 20 : fewer,
    stalled: Math.min(stalled, 5),
    topics: Math.min(topics, 50),
    rate: measure === 'connect' ? 200 : Math.min(rate, 500),
    minSeconds: 0,
    minWarmup: 0,
  };
}

/** How long a connection of the connect scenario stays. */
export const HOLD_MS = 200;

/** @param {Scenario} scenario @returns {import('../servers/harness.mjs').Needs} */
export function needsOf({ kind }) {
  return {
    broadcast: kind === 'broadcast' || kind === 'mixed',
    users: kind === 'users' || kind === 'mixed',
    topics: kind === 'topics' || kind === 'mixed',
  };
}
