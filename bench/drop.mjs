/**
 * Clients that lose their network: eight times all of them lose TCP for two seconds, in turn with a reset and in silence,
 * while events for all of them come at a constant rate; then they come back, all in the same moment, to any of three nodes.
 * Every delivery that is due must be made, once, in order.
 *
 *     node bench/drop.mjs             1 000 clients, 1 200 events each (against the Redis on REDIS_PORT, 6379)
 *     node bench/drop.mjs --short     100 clients, 300 ms away, for CI
 */
import { parseArgs } from 'node:util';
import { Cluster, faultsOf } from './nodes/cluster.mjs';
import { sleep } from './shared/clock.mjs';

const { values: args } = parseArgs({
  options: {
    short: { type: 'boolean', default: false },
    clients: { type: 'string' },
    rate: { type: 'string' },
  },
});
const DROPS = 8;
const clients = Number(args.clients ?? (args.short ? 100 : 1_000));
const rate = Number(args.rate ?? (args.short ? 50 : 30));
const awayMs = args.short ? 300 : 2_000;
const betweenMs = args.short ? 400 : 3_000;

const cluster = new Cluster();
try {
  await cluster.start({ clients, topics: 1 });
  const { seconds, events } = await cluster.publishWhile(rate, async () => {
    await sleep(betweenMs / 4);
    for (let i = 0; i < DROPS; i++) {
      await cluster.fleet.ask('loseNetwork', { ms: awayMs, isSilent: i % 2 === 1 });
      await sleep(awayMs);
      await cluster.whenStreaming(clients);
      await sleep(betweenMs);
    }
  });
  const report = await cluster.report();
  console.log(
    `drop: ${cluster.size} nodes, ${clients} clients, ${(events / seconds).toFixed(0)} events/s for ${seconds.toFixed(1)} s, ` +
      `${DROPS} times without TCP for ${awayMs} ms`,
  );
  console.log(JSON.stringify(report));
  const faults = faultsOf(report);
  if (report.returns < DROPS * clients) faults.push(`${report.returns} reconnects; ${DROPS * clients} were due`);
  const share = ((100 * report.delivered) / report.due).toFixed(3);
  console.log(faults.length === 0 ? `drop: ${share} % delivered` : `drop: failed: ${faults.join(', ')}`);
  process.exitCode = faults.length === 0 ? 0 : 1;
} finally {
  await cluster.stop();
}
