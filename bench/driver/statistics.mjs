/** Medians of rounds, and ratios between servers of the same round. */

/** @param {number[]} values */
export function median(values) {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  if (sorted.length === 0) return Number.NaN;
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * What a scenario is judged by: less is better for all of them.
 *
 * @param {import('./scenarios.mjs').Scenario} scenario
 */
export function headlineOf({ measure }) {
  if (measure === 'memory') return 'kibPerConnection';
  return measure === 'connect' ? 'cpuMicrosPerVisit' : 'cpuPerMillion';
}

/**
 * The median over rounds of `server / reference` within a round. Rounds are interleaved, so what slowed the machine
 * down in one of them slowed both, and leaves the ratio; a ratio of two medians would keep it.
 *
 * @param {Record<string, any>[]} rounds of one scenario: server name → result
 * @param {string} server
 * @param {string} reference
 * @param {string} metric
 */
export function ratio(rounds, server, reference, metric) {
  return median(
    rounds.map((round) => {
      const own = round[server]?.[metric];
      const other = round[reference]?.[metric];
      return own === undefined || other === undefined ? Number.NaN : own / other;
    }),
  );
}

/**
 * @param {Record<string, any>[]} rounds
 * @param {string} server
 * @returns {Record<string, number>} the median of every figure
 */
export function medians(rounds, server) {
  const results = rounds.map((round) => round[server]).filter((result) => result !== undefined);
  /** @type {Record<string, number>} */
  const out = {};
  for (const [key, value] of Object.entries(results[0] ?? {})) {
    if (typeof value === 'number') out[key] = median(results.map((result) => result[key]));
  }
  return out;
}

/**
 * Faults of all rounds added up: one lost event in one round is lost.
 *
 * @param {Record<string, any>[]} rounds
 * @param {string} server
 */
export function faultsOf(rounds, server) {
  /** @type {Record<string, number>} */
  const sum = {};
  for (const round of rounds) {
    for (const [fault, count] of Object.entries(round[server]?.faults ?? {})) sum[fault] = (sum[fault] ?? 0) + count;
  }
  return Object.fromEntries(Object.entries(sum).filter(([, count]) => count > 0));
}
