/**
 * What the soak test asks of a series of inspections: nothing may grow with time. A leak grows with what happened, so
 * the last third of the cycles is compared with the first; single cycles may differ, since garbage is collected when
 * V8 likes to.
 */
import { median } from './statistics.mjs';

const MIB = 2 ** 20;
/** Half a megabyte is noise; a client that is never let go is 5 KiB and there are hundreds per cycle. */
const HEAP_SLACK = 1.5 * MIB;
/** A timer that happens to be armed, a socket that is being closed. */
const RESOURCE_SLACK = 2;
/** Levels of the broker; its other figures count what has happened and grow by nature. */
const GAUGES = ['totalClients', 'totalUsers', 'totalTopics', 'queuedFrames', 'queuedBytes', 'ending'];

/**
 * @typedef {object} Inspection
 * @property {{ heapUsed: number, external: number, rss: number }} memory
 * @property {number} clients
 * @property {number} connections
 * @property {Record<string, number>} resources
 * @property {Record<string, number>} listeners
 * @property {Record<string, unknown>} stats
 */

/**
 * @param {Inspection[]} inspections one per cycle, the first of which is warm-up
 * @returns {string[]} what is not flat, in words
 */
export function growths(inspections) {
  const settled = inspections.slice(1);
  const third = Math.max(1, Math.floor(settled.length / 3));
  const early = settled.slice(0, third);
  const late = settled.slice(-third);
  if (settled.length < 3) return ['too short to tell: at least four cycles'];
  /** @type {string[]} */
  const found = [];

  /** @param {string} what @param {(inspection: Inspection) => number} read @param {number} slack */
  const compare = (what, read, slack) => {
    const before = median(early.map(read));
    const after = median(late.map(read));
    if (after > before + slack) found.push(`${what} grew from ${before} to ${after}`);
  };
  compare('heap', ({ memory }) => memory.heapUsed, HEAP_SLACK);
  compare('external memory', ({ memory }) => memory.external, HEAP_SLACK);
  for (const name of namesOf(settled, 'resources')) {
    compare(`resources: ${name}`, ({ resources }) => resources[name] ?? 0, RESOURCE_SLACK);
  }
  for (const name of namesOf(settled, 'listeners')) {
    compare(`listeners of ${name}`, ({ listeners }) => listeners[name] ?? 0, 0);
  }
  for (const name of GAUGES) compare(`getStats().${name}`, ({ stats }) => Number(stats[name] ?? 0), 0);
  return found;
}

/** @param {Inspection[]} inspections @param {'resources' | 'listeners'} field */
function namesOf(inspections, field) {
  return new Set(inspections.flatMap((inspection) => Object.keys(inspection[field])));
}
