/** The table of one scenario, as text. */
import { faultsOf, headlineOf, medians, ratio } from './statistics.mjs';

/** @typedef {[heading: string, cell: (row: Row) => string]} Column */
/** @typedef {{ name: string, rounds: Record<string, any>[], figures: Record<string, number>, headline: string }} Row */

/** @param {number} value @param {number} [digits] */
const number = (value, digits = 2) =>
  value === undefined || !Number.isFinite(value) ? '-' : value.toFixed(value >= 100 ? 0 : digits);
/** @param {number} micros */
const millis = (micros) => number(micros / 1000);

/** @param {number} share of one core */
const percent = (share) => (Number.isFinite(share) ? `${Math.round(share * 100)}%` : '-');

/** @param {string} reference @returns {Column} */
const against = (reference) => [
  `× ${reference}`,
  ({ name, rounds, headline }) => number(ratio(rounds, name, reference, headline), 3),
];
/** @type {Column} */
const SPREAD = [
  'min–max',
  ({ name, rounds, headline }) => {
    const values = rounds.map((round) => round[name]?.[headline]).filter((value) => value !== undefined);
    return `${number(Math.min(...values))}–${number(Math.max(...values))}`;
  },
];
/** @type {Column[]} */
const LATENCIES = [
  ['p50 ms', ({ figures }) => millis(figures.p50)],
  ['p99 ms', ({ figures }) => millis(figures.p99)],
  ['p99.9 ms', ({ figures }) => millis(figures.p999)],
];
/** @type {Column[]} */
const LOADS = [
  ['server', ({ figures }) => percent(figures.serverLoad)],
  ['client', ({ figures }) => percent(figures.load)],
];
/** @type {Column} */
const FAULTS = [
  'faults',
  ({ name, rounds }) => {
    const faults = Object.entries(faultsOf(rounds, name)).map(([fault, count]) => `${count} ${fault}`);
    return faults.length === 0 ? 'none' : faults.join(', ');
  },
];

/** @type {Record<import('./scenarios.mjs').Scenario['measure'], Column[]>} */
const COLUMNS = {
  publish: [
    ['', ({ name }) => name],
    ['CPU s/M', ({ figures }) => number(figures.cpuPerMillion)],
    SPREAD,
    against('raw'),
    against('raw-socket'),
    ['deliveries/s', ({ figures }) => number(figures.deliveriesPerSecond)],
    ...LATENCIES,
    ['writes/del.', ({ figures }) => number(figures.writesPerDelivery, 3)],
    ['RSS +MiB', ({ figures }) => number(figures.residentGrowthMiB, 1)],
    ['peak MiB', ({ figures }) => number(figures.peakResidentMiB, 0)],
    ...LOADS,
    FAULTS,
  ],
  memory: [
    ['', ({ name }) => name],
    ['KiB/conn.', ({ figures }) => number(figures.kibPerConnection)],
    SPREAD,
    against('raw'),
    against('raw-socket'),
    ['heap KiB/conn.', ({ figures }) => number(figures.heapKibPerConnection)],
    ['peak MiB', ({ figures }) => number(figures.peakResidentMiB, 0)],
    FAULTS,
  ],
  connect: [
    ['', ({ name }) => name],
    ['CPU µs/visit', ({ figures }) => number(figures.cpuMicrosPerVisit)],
    SPREAD,
    against('raw'),
    against('raw-socket'),
    ['visits/s', ({ figures }) => number(figures.visitsPerSecond)],
    ...LATENCIES,
    ['peak MiB', ({ figures }) => number(figures.peakResidentMiB, 0)],
    ...LOADS,
    FAULTS,
  ],
};

/**
 * @param {import('./scenarios.mjs').Scenario} scenario
 * @param {Record<string, any>[]} rounds
 * @param {string[]} servers in the order of the table
 */
export function table(scenario, rounds, servers) {
  const headline = headlineOf(scenario);
  const columns = COLUMNS[scenario.measure];
  const rows = servers
    .filter((name) => rounds.some((round) => round[name] !== undefined))
    .map((name) => ({ name, rounds, headline, figures: medians(rounds, name) }));
  const cells = [columns.map(([heading]) => heading), ...rows.map((row) => columns.map(([, cell]) => cell(row)))];
  const widths = columns.map((_, i) => Math.max(...cells.map((line) => line[i].length)));
  const last = columns.length - 1;
  const lines = cells.map((line) =>
    line
      .map((text, i) => (i === 0 || i === last ? text.padEnd(widths[i]) : text.padStart(widths[i])))
      .join('  ')
      .trimEnd(),
  );
  return [`${scenario.title}`, ...lines].join('\n');
}

/**
 * What a reader should doubt before believing a table.
 *
 * @param {Record<string, any>[]} rounds
 * @param {string} name
 */
export function doubts(rounds, name) {
  const found = [];
  const waited = Math.max(...rounds.map((round) => round[name]?.waited ?? 0));
  if (waited > 0.05) found.push(`waited up to ${percent(waited)} of a round for a core: its latencies are not its own`);
  for (const [i, round] of rounds.entries()) {
    const result = round[name];
    if (result === undefined) continue;
    // A client that is busy because a saturated server keeps it busy is no bottleneck; one that idles the server is.
    if (result.load > 0.9 && result.serverLoad < 0.85) {
      found.push(
        `round ${i + 1}: load client at ${percent(result.load)}, server at ${percent(result.serverLoad)} of a core`,
      );
    }
    const { cpuSeconds: own, cpuSecondsBySystem: system } = result;
    // Ticks of 10 ms at either end explain the first 30 ms.
    if (Math.abs(own - system) > Math.max(0.03, own * 0.05)) {
      found.push(`round ${i + 1}: CPU is ${number(own)} s by getrusage and ${number(system)} s by /proc`);
    }
    for (const note of result.notes ?? []) found.push(`round ${i + 1}: ${note}`);
  }
  return found.slice(0, 8).map((text) => `  ! ${name}: ${text}`);
}
