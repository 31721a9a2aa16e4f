/**
 * Can these benchmarks fail? A server with one fault of each kind is run, and the load client must name that fault, in
 * the number it happened. Exit code 1 if it overlooks one, or sees one that is not there.
 *
 *     node bench/self-check.mjs
 */
import { fileURLToPath } from 'node:url';
import { runRound } from './driver/round.mjs';
import { SCENARIOS, shortened } from './driver/scenarios.mjs';

/**
 * Fault → what must be counted. `lost: 'some'` where the stream ends with the fault: how many follow is chance.
 * @type {[fault: string, scenario: string, expected: Record<string, number | 'some'>][]}
 */
const CASES = [
  ['', 'mixed', {}],
  ['lose', 'mixed', { lost: 1 }],
  ['double', 'mixed', { duplicates: 1 }],
  ['swap', 'mixed', { misordered: 1 }],
  ['swap', 'turn1', { misordered: 1 }],
  ['misdeliver', 'mixed', { misdelivered: 1 }],
  // Its bytes are wrong, so it is not counted as having arrived.
  ['harm', 'mixed', { malformed: 1, lost: 1 }],
  ['harm', 'turn50', { malformed: 1, lost: 1 }],
  ['tear', 'mixed', { malformed: 1, lost: 'some' }],
  ['end', 'mixed', { closedByServer: 1, lost: 'some' }],
  ['zombie', 'connect', { zombies: 'some' }],
];

const file = fileURLToPath(new URL('./servers/faulty.mjs', import.meta.url));
// On a busy machine the time alone may be up before the fault has happened.
const options = { seconds: 0.3, warmupSeconds: 0.1, leastPublishes: 100, patienceMs: 1_000, seed: 1, isPinned: false };
let failed = 0;
for (const [fault, scenarioName, expected] of CASES) {
  /** @type {import('./driver/servers.mjs').Server} */
  const server = { file, variant: fault, isPeer: false, can: [] };
  const { faults } = await runRound(shortened(SCENARIOS[scenarioName]), `faulty (${fault})`, server, options);
  const found = Object.entries(/** @type {Record<string, number>} */ (faults)).filter(([, count]) => count > 0);
  const names = new Set([...found.map(([name]) => name), ...Object.keys(expected)]);
  const isRight = [...names].every((name) => {
    const count = Object.fromEntries(found)[name] ?? 0;
    return expected[name] === 'some' ? count > 0 : count === (expected[name] ?? 0);
  });
  if (!isRight) failed++;
  const text = found.map(([name, count]) => `${count} ${name}`).join(', ') || 'nothing';
  console.log(`${isRight ? 'ok    ' : 'NOT OK'} ${fault || 'no fault'} (${scenarioName}): found ${text}`);
}
console.log(`${CASES.length - failed} passed, ${failed} failed`);
if (failed > 0) process.exitCode = 1;
