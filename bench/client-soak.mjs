/**
 * Ten thousand reconnects of SSEClient in one process: does anything stay behind? The server, a process of its own, ends
 * each stream in another way; the clients come back, resume, are told to stop and to start again. After each cycle the heap
 * is collected and read, and at the end nothing may be left: no timer, no socket, no listener on what outlives a client.
 *
 *     npm run build && node --expose-gc bench/client-soak.mjs
 *     node --expose-gc bench/client-soak.mjs --reconnects 1500      as in CI
 */
import { fork } from 'node:child_process';
import http from 'node:http';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median } from './driver/statistics.mjs';
import { sleep } from './shared/clock.mjs';

const file = fileURLToPath(import.meta.url);
const CLIENTS = 200;
const CYCLES = 10;
/** Half a megabyte of noise. One kilobyte left behind by each of 10 000 reconnects is ten. */
const HEAP_SLACK = 1.5 * 2 ** 20;

if (process.argv[2] === 'server') serve();
else await drive();

/**
 * Numbers count up per client, in the id; each request is answered with a few of them and one of these ends. A client that
 * resumes goes on where its Last-Event-ID says.
 */
function serve() {
  const ends = [
    (res) => res.end(),
    (res) => res.socket.resetAndDestroy(),
    (res) => res.write('id: 999999\ndata: half an ev', () => res.socket?.destroy()),
    (res) => res.write(': comment\n\n', () => res.end('retry: 250\n\n')),
  ];
  let requests = 0;
  const server = http.createServer((req, res) => {
    requests++;
    res.on('error', () => {});
    const after = Number(req.headers['last-event-id'] ?? 0);
    // One in seven is turned away, in one of three ways.
    if (requests % 21 === 7) return res.writeHead(503, { 'Retry-After': '0' }).end('later');
    if (requests % 21 === 14) return req.socket.destroy();
    if (requests % 21 === 0) return res.writeHead(429).end();
    res.writeHead(200, { 'Content-Type': 'text/event-stream' });
    let text = '';
    for (let n = after + 1; n <= after + 5; n++)
      text += `id: ${n}\nevent: note\ndata: {"n":${n},"text":"${'x'.repeat(100)}"}\n\n`;
    res.write(text, () => ends[requests % ends.length](res));
  });
  server.listen(0, '127.0.0.1', () => process.send(server.address().port));
  process.on('message', () => process.send(requests));
  process.on('disconnect', () => process.exit());
}

async function drive() {
  if (globalThis.gc === undefined) throw new Error('run it with node --expose-gc');
  const { values } = parseArgs({ options: { reconnects: { type: 'string', default: '10000' } } });
  const total = Number(values.reconnects);
  const { SSEClient } = await import('sse-broker/client');
  const server = fork(file, ['server'], { execArgv: [] });
  const port = await new Promise((resolve) => server.once('message', resolve));
  const faults = [];
  const before = resources();

  let reconnects = 0;
  let received = 0;
  let doubled = 0;
  const clients = Array.from({ length: CLIENTS }, (_, index) => {
    const client = new SSEClient({
      url: `http://127.0.0.1:${port}/`,
      reconnectInterval: 250,
      maxReconnectInterval: 250,
      fallbackToPolling: false,
      // What is remembered grows up to its bound, which is far away: in a few it does, in the others it would hide a leak.
      enableDedup: index < 4,
    });
    let last = 0;
    client.subscribe('note', ({ n }) => {
      received++;
      // Every number once, in order: what was sent before a cut that swallowed it is asked for again.
      if (n !== last + 1) doubled++;
      last = n;
    });
    client.on('status', ({ status }) => {
      if (status === 'connected') reconnects++;
      if (status === 'failed') faults.push('a client gave up');
    });
    client.on('error', () => {});
    client.connect();
    return client;
  });

  const started = Date.now();
  const heaps = [];
  let seconds = 0;
  for (let cycle = 1; cycle <= CYCLES; cycle++) {
    const goal = (total * cycle) / CYCLES;
    while (reconnects < goal) {
      const seen = reconnects;
      await sleep(1_000);
      if (reconnects === seen) throw new Error(`nobody has come back for a second, after ${reconnects} reconnects`);
      seconds++;
      // Also by hand, in whatever state they are; and whoever was cut often waits longer by itself each time.
      const some = clients.filter((_, i) => i % 3 === seconds % 3);
      for (const [i, client] of some.entries()) {
        if (i % 2 === 0) client.reconnect();
        else {
          client.disconnect();
          client.connect();
        }
      }
    }
    await collect();
    heaps.push(process.memoryUsage().heapUsed);
    const { Timeout = 0, TCPSocketWrap = 0 } = resources();
    const mib = (heaps.at(-1) / 2 ** 20).toFixed(1);
    console.log(
      `${reconnects} reconnects, ${received} events, heap ${mib} MiB, ${Timeout} timers, ${TCPSocketWrap} sockets`,
    );
    // A stream has one socket and a handful of timers; those of Node's fetch come on top.
    if (Timeout > CLIENTS * 4 + 20) faults.push(`${Timeout} timers for ${CLIENTS} clients`);
  }
  const early = median(heaps.slice(1, 4));
  const late = median(heaps.slice(-3));
  if (late > early + HEAP_SLACK) faults.push(`the heap grew from ${early} to ${late}`);
  if (doubled > 0) faults.push(`${doubled} events were lost, doubled or out of order`);

  for (const client of clients) client.destroy();
  // What fetch keeps open for the next request goes after its own time.
  const deadline = Date.now() + 15_000;
  const left = () => Object.entries(resources()).filter(([name, count]) => count > (before[name] ?? 0));
  while (left().length > 0 && Date.now() < deadline) await sleep(200);
  for (const [name, count] of left()) faults.push(`${count} × ${name} left after destroy()`);
  server.disconnect();

  for (const fault of new Set(faults)) console.error(`client soak: ${fault}`);
  const took = Math.round((Date.now() - started) / 1_000);
  console.log(`client soak: ${faults.length === 0 ? 'flat' : 'failed'}; ${reconnects} reconnects in ${took} s`);
  process.exitCode = faults.length === 0 ? 0 : 1;
}

/** What Node has open, by kind; not its pipes, which are those of console.log and of the server's process. */
function resources() {
  const counts = {};
  for (const name of process.getActiveResourcesInfo()) {
    if (name !== 'PipeWrap') counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** Finalisers run between collections. */
async function collect() {
  for (let i = 0; i < 3; i++) {
    globalThis.gc();
    await sleep(20);
  }
}
