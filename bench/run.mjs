/**
 * Measures servers side by side. See README.md in this folder.
 *
 *     node bench/run.mjs --scenario paced,turn1 --servers ours,raw,raw-socket --rounds 5 --seconds 4
 *     node bench/run.mjs --peers
 *     node bench/run.mjs --short
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { installPeers } from './driver/peers.mjs';
import { doubts, table } from './driver/report.mjs';
import { runRound } from './driver/round.mjs';
import { SCENARIOS, shortened } from './driver/scenarios.mjs';
import { DEFAULT_SERVERS, isAble, PEERS, SERVERS } from './driver/servers.mjs';
import { faultsOf } from './driver/statistics.mjs';
import { chart } from './driver/svg.mjs';

const { values: args } = parseArgs({
  options: {
    scenario: { type: 'string' },
    servers: { type: 'string' },
    peers: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    warmup: { type: 'string' },
    seed: { type: 'string', default: '1' },
    short: { type: 'boolean', default: false },
    pin: { type: 'boolean', default: false },
    svg: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

if (args.help) {
  console.log(`node bench/run.mjs [options]
  --scenario NAMES  ${Object.keys(SCENARIOS).join(', ')} (all of the reach table)
  --servers NAMES   ${Object.keys(SERVERS).join(', ')} (${DEFAULT_SERVERS.join(', ')})
  --peers           the default servers and all peers
  --rounds N        interleaved rounds (5; short: 1)
  --seconds N       measured per round (4; short: 0.5)
  --warmup N        seconds before that (1; short: 0.2)
  --seed N          of users, topics and their order (1)
  --short           small, and only whether every payload arrives; exit code 1 if not
  --pin             server on core 0, load client on core 1 (needs taskset)
  --svg FILE        the chart (bench/results/latest.svg)`);
  process.exit(0);
}

const scenarioNames = names(
  args.scenario,
  SCENARIOS,
  Object.keys(SCENARIOS).filter((name) => args.short || !SCENARIOS[name].isExtra),
);
const serverNames = names(args.servers, SERVERS, args.peers ? [...DEFAULT_SERVERS, ...PEERS] : DEFAULT_SERVERS);
const rounds = positive('rounds', args.rounds, args.short ? 1 : 5);
const options = {
  seconds: positive('seconds', args.seconds, args.short ? 0.5 : 4),
  warmupSeconds: positive('warmup', args.warmup, args.short ? 0.2 : 1),
  patienceMs: 3000,
  seed: positive('seed', args.seed, 1),
  isPinned: args.pin,
};

if (serverNames.some((name) => SERVERS[name].isPeer)) installPeers();

/** @type {{ name: string, scenario: import('./driver/scenarios.mjs').Scenario, rounds: Record<string, any>[] }[]} */
const results = [];
let failures = 0;
for (const scenarioName of scenarioNames) {
  const scenario = args.short ? shortened(SCENARIOS[scenarioName]) : SCENARIOS[scenarioName];
  const able = serverNames.filter((name) => isAble(name, scenario));
  for (const name of serverNames) {
    if (!able.includes(name))
      console.log(`${scenarioName}: without ${name}: ${SERVERS[name].why ?? `does not do ${scenario.kind}`}`);
  }
  /** @type {Record<string, any>[]} */
  const done = [];
  for (let i = 0; i < rounds; i++) {
    /** @type {Record<string, any>} */
    const round = {};
    // Each round starts with another server: nobody always runs in the wake of the same one.
    for (const name of [...able.slice(i % able.length), ...able.slice(0, i % able.length)]) {
      try {
        round[name] = await runRound(scenario, name, SERVERS[name], options);
      } catch (error) {
        failures++;
        console.error(`${scenarioName}, ${name}, round ${i + 1}: ${error instanceof Error ? error.message : error}`);
      }
    }
    done.push(round);
  }
  results.push({ name: scenarioName, scenario, rounds: done });
  console.log(`\n${table(scenario, done, able)}`);
  for (const name of able) {
    for (const line of doubts(done, name)) console.log(line);
    if (Object.keys(faultsOf(done, name)).length > 0) failures++;
  }
}

save();
if (args.short) console.log(failures === 0 ? '\nevery payload arrived once, in order, where it should' : '');
if (failures > 0) {
  console.error(`\n${failures} of the runs above failed or lost, doubled, misplaced or misdelivered something`);
  process.exitCode = 1;
}

function save() {
  const folder = fileURLToPath(new URL('./results/', import.meta.url));
  mkdirSync(folder, { recursive: true });
  const machine = {
    node: process.version,
    platform: `${process.platform} ${os.release()}`,
    cores: os.availableParallelism(),
    cpu: os.cpus()[0]?.model ?? 'unknown',
    loadAverage: os.loadavg(),
  };
  const at = new Date().toISOString();
  const report = JSON.stringify({ at, machine, arguments: process.argv.slice(2), options, results }, null, 1);
  writeFileSync(`${folder}${at.replaceAll(':', '-').slice(0, 19)}.json`, report);
  writeFileSync(`${folder}latest.json`, report);
  if (args.short) return;
  const of = rounds === 1 ? 'one round' : `medians of ${rounds} interleaved rounds`;
  const caption = `Node ${process.version}, ${machine.cores} cores; ${of}: node bench/run.mjs ${process.argv.slice(2).join(' ')}`;
  writeFileSync(args.svg ?? `${folder}latest.svg`, chart(results, serverNames, caption));
}

/**
 * @param {string | undefined} list separated by commas
 * @param {Record<string, unknown>} known
 * @param {string[]} fallback
 */
function names(list, known, fallback) {
  const wanted = list === undefined ? fallback : list.split(',');
  for (const name of wanted) {
    if (!Object.hasOwn(known, name)) throw new Error(`no "${name}"; there are ${Object.keys(known).join(', ')}`);
  }
  return wanted;
}

/** @param {string} name @param {string | undefined} text @param {number} fallback */
function positive(name, text, fallback) {
  const value = text === undefined ? fallback : Number(text);
  if (!(value > 0)) throw new Error(`--${name} ${text}: a number above 0`);
  return value;
}
