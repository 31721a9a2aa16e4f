/**
 * A deploy: three nodes over Redis are restarted one after another with `close({ reconnectWithinMs })`, while events come at
 * a constant rate. Every client must have every event of its topic, once; how long is it away, and how many come back at once?
 *
 *     node bench/deploy.mjs             2 000 clients, 500 events a second (against the Redis on REDIS_PORT, 6379)
 *     node bench/deploy.mjs --short     100 clients, for CI
 */
import { parseArgs } from 'node:util';
import { Cluster, faultsOf } from './nodes/cluster.mjs';
import { sleep } from './shared/clock.mjs';

const { values: args } = parseArgs({
  options: {
    short: { type: 'boolean', default: false },
    clients: { type: 'string' },
    rate: { type: 'string', default: '500' },
    topics: { type: 'string' },
    'reconnect-within': { type: 'string' },
  },
});
const clients = Number(args.clients ?? (args.short ? 100 : 2_000));
const topics = Number(args.topics ?? (args.short ? 10 : 50));
const reconnectWithinMs = Number(args['reconnect-within'] ?? (args.short ? 1_000 : 10_000));
const rate = Number(args.rate);
/** Before, between and after the restarts. */
const restMs = args.short ? 200 : 2_000;

const cluster = new Cluster();
try {
  await cluster.start({ clients, topics });
  const { seconds, events } = await cluster.publishWhile(rate, async () => {
    await sleep(restMs);
    for (let i = 0; i < cluster.size; i++) {
      await cluster.redeploy(i, clients, reconnectWithinMs);
      await sleep(restMs);
    }
  });
  const report = await cluster.report();
  console.log(
    `deploy: ${cluster.size} nodes, ${clients} clients, ${topics} topics, ${(events / seconds).toFixed(0)} events/s for ` +
      `${seconds.toFixed(1)} s, reconnectWithinMs ${reconnectWithinMs}`,
  );
  console.log(JSON.stringify(report));
  const faults = faultsOf(report);
  // Each client is sent away at least once, or there was no deploy.
  if (report.returns < clients) faults.push(`${report.returns} reconnects of ${clients} clients`);
  console.log(faults.length === 0 ? 'deploy: every client has every event' : `deploy: failed: ${faults.join(', ')}`);
  process.exitCode = faults.length === 0 ? 0 : 1;
} finally {
  await cluster.stop();
}
