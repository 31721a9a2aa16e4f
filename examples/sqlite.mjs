// A counter that misses nothing over restarts: stop it, kill it, start it again, and let curl resume.
//
//   npm install sse-broker better-sqlite3      (with Node 22.13 or newer better-sqlite3 is not needed)
//   PORT=3000 HISTORY=./events.db node examples/sqlite.mjs
import http from 'node:http';
import { Broker, createHandler } from 'sse-broker';
import { SqliteBus } from 'sse-broker/sqlite';

const database = process.env.HISTORY ?? './events.db';
const broker = new Broker({ bus: new SqliteBus({ database, historySize: 10_000 }) });
broker.on('busStatus', ({ state, reason }) => console.error(`history: ${state}${reason ? ` (${reason})` : ''}`));
broker.on('error', (error) => console.error(`${error.code}: ${error.message}`));

// Before anybody connects: a file that is damaged, or in use, stops the server here.
await broker.start();

const server = http.createServer(createHandler(broker, { topicResolver: () => ['clock'] }));
server.listen(Number(process.env.PORT ?? 3000), () => {
  console.log(`curl -N http://localhost:${server.address().port}/`);
  console.log(`curl -N -H 'Last-Event-ID: …' http://localhost:${server.address().port}/   # the id you saw last`);
});

// What was published is in the file when the promise resolves.
const ticking = setInterval(
  () => {
    broker.sendToTopic('clock', 'tick', { at: new Date().toISOString() }).catch(() => {});
  },
  Number(process.env.INTERVAL ?? 1_000),
);

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    clearInterval(ticking);
    server.close();
    await broker.close();
    server.closeAllConnections();
  });
}
