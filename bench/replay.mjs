/**
 * What history costs: publishing with it, resuming from it, and writing it to disk. Run it alone, on a quiet machine:
 *
 *     npm run build && node bench/replay.mjs            all three
 *     node bench/replay.mjs publish | resume | sqlite   one
 *
 * Every figure is CPU time of the measured process (process.cpuUsage, all threads, garbage collection included); what is
 * compared ran in turns, within one minute. Ratios travel, absolute times do not. Beside busy neighbours those of `publish`
 * come out too high: what is kept does not fit into caches, and they take their share of these.
 */
import { fork, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Broker, createHandler } from 'sse-broker';
import { SqliteBus } from 'sse-broker/sqlite';

const file = fileURLToPath(import.meta.url);
const PAYLOAD = 'x'.repeat(180);
const CLIENTS = 1_000;
const EVENTS = 100;
const BLOCK = 'event: e\n';
/** Pairs of processes, rounds of each pair, and publishes of a round: about 20 ms, so that both meet the same neighbours. */
const PAIRS = 5;
const ROUNDS = 24;
const PUBLISHES = 25_000;

const [role, ...args] = process.argv.slice(2);

switch (role) {
  case 'publisher':
    publisher(...args.map(Number));
    break;
  case 'readers':
    readers();
    break;
  case 'publish':
    await publish();
    break;
  case 'resume':
    await resume();
    break;
  case 'sqlite':
    await sqlite();
    break;
  case undefined:
    await publish();
    await resume();
    await sqlite();
    break;
  default:
    throw new Error(`no such part: ${role}; there are publish, resume and sqlite`);
}

function median(numbers) {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
}

/** CPU of this process for `work`, in ns per one of `count`. */
async function cpuOf(count, work) {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return ((user + system) * 1_000) / count;
}

function ask(child, message) {
  return new Promise((resolve) => {
    child.once('message', resolve);
    child.send(message);
  });
}

/**
 * Publishing with history against publishing without. Both run in processes of their own, on the same core, in turns of
 * some 20 ms and in alternating order; a figure is the median over pairs of processes of the median ratio of their rounds.
 * Medians would hide what is rare and dear, so the ratio of all CPU time stands beside them.
 */
async function publish() {
  const core = coreForMeasuring();
  console.log('\nCPU per publish of 200 B, MemoryBus, historySize 1 000 against 0');
  console.log(
    `${PAIRS} pairs of processes × ${ROUNDS} rounds of ${PUBLISHES} publishes each, ${core === undefined ? 'not pinned (no taskset)' : `pinned to core ${core}`}`,
  );
  const table = [];
  for (const clients of [0, 1]) {
    for (const topics of [10, 10_000]) {
      const variants = [0, 1_000].map((historySize) => ({ clients, topics, historySize }));
      const [without, withHistory] = await measured(variants, PAIRS, core);
      table.push({
        topics,
        'clients per topic': clients,
        'without, ns': Math.round(without.ns),
        'with, ns': Math.round(withHistory.ns),
        ratio: withHistory.ratio.toFixed(3),
        'of pairs': spread(withHistory.ratios),
        'of all CPU': withHistory.total.toFixed(3),
      });
    }
  }
  console.table(table);
  const sizes = [0, 100, 1_000, 10_000].map((historySize) => ({ clients: 0, topics: 10, historySize }));
  const results = await measured(sizes, 3, core);
  console.log('CPU per publish against historySize, 10 topics (all full, so that each publish also drops one)');
  console.table(
    results.map(({ ns, ratio, ratios }, i) => ({
      historySize: sizes[i].historySize,
      ns: Math.round(ns),
      ratio: ratio.toFixed(3),
      'of pairs': spread(ratios),
    })),
  );
}

function spread(numbers) {
  return `${Math.min(...numbers).toFixed(3)}–${Math.max(...numbers).toFixed(3)}`;
}

/** One that this process may use; undefined where processes cannot be pinned. */
function coreForMeasuring() {
  const { status, stdout } = spawnSync('taskset', ['-cp', String(process.pid)], { encoding: 'utf8' });
  return status === 0 ? /(\d+)\s*$/.exec(stdout)?.[1] : undefined;
}

/** Of each variant: ns per publish, and how many times the first one's CPU it takes. */
async function measured(variants, pairs, core) {
  const results = variants.map(() => ({ ns: [], ratios: [], total: 0 }));
  for (let pair = 0; pair < pairs; pair++) {
    const children = variants.map(({ historySize, topics, clients }) => {
      const child = fork(file, ['publisher', historySize, topics, clients]);
      if (core !== undefined) spawnSync('taskset', ['-acp', core, String(child.pid)]);
      return child;
    });
    // Fills the history to its limits, so that each later publish also drops one.
    for (const child of children) await ask(child, 300_000);
    const rounds = variants.map(() => []);
    for (let round = 0; round < ROUNDS; round++) {
      const order = [...variants.keys()];
      if (round % 2 === 1) order.reverse();
      for (const i of order) rounds[i].push(await ask(children[i], PUBLISHES));
    }
    for (const child of children) child.kill();
    for (const [i, result] of results.entries()) {
      result.ns.push(median(rounds[i]));
      result.ratios.push(median(rounds[i].map((ns, round) => ns / rounds[0][round])));
      result.total += rounds[i].reduce((sum, ns) => sum + ns, 0);
    }
  }
  return results.map(({ ns, ratios, total }) => ({
    ns: median(ns),
    ratio: median(ratios),
    ratios,
    total: total / results[0].total,
  }));
}

/** The child of {@link publish}. Its clients take everything and do nothing. */
function publisher(historySize, topics, clients) {
  const broker = new Broker({ historySize, heartbeatInterval: 0, clientTimeout: 0 });
  const names = Array.from({ length: topics }, (_, i) => `job:${i}`);
  const sink = { open() {}, write: () => true, end() {}, destroy() {}, progress: () => 0 };
  for (const name of names) {
    for (let i = 0; i < clients; i++) broker.connect({ sink, topics: [name] });
  }
  let n = 0;
  process.on('message', async (count) => {
    const ns = await cpuOf(count, async () => {
      // Bursts of a hundred, as an application's turn.
      for (let i = 0; i < count; i += 100) {
        let last;
        for (let j = 0; j < 100; j++) {
          n++;
          last = broker.sendToTopic(names[n % topics], 'progress', { n, text: PAYLOAD });
        }
        await last;
        await new Promise((resolve) => setImmediate(resolve));
      }
    });
    process.send(ns);
  });
}

/** A thousand clients that resume a hundred events each, at once, against as many that get them live. */
async function resume() {
  const kinds = { shared: () => 'shared', own: (i) => `own:${i}` };
  console.log(
    `\nCPU per delivery, ${CLIENTS} clients × ${EVENTS} events of 200 B, real sockets, MemoryBus (median of 7 rounds)`,
  );
  const table = [];
  for (const [kind, topicOf] of Object.entries(kinds)) {
    const broker = new Broker({ historySize: 1_000, clientBufferSize: 10_000, clientBufferBytes: 64 * 1024 * 1024 });
    await broker.start();
    const handler = createHandler(broker, {
      topicResolver: (request) => [new URL(request.url, 'http://x').searchParams.get('topic')],
    });
    const server = http.createServer(handler).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const child = fork(file, ['readers']);
    const topics = Array.from({ length: CLIENTS }, (_, i) => topicOf(i));
    const distinct = [...new Set(topics)];
    let n = 0;
    const burst = async (events) => {
      let last;
      for (let i = 0; i < events; i++)
        for (const topic of distinct) last = broker.sendToTopic(topic, 'e', { n: n++, text: PAYLOAD });
      return last;
    };
    const connect = (lastEventId, expected) =>
      ask(child, { port: server.address().port, topics, lastEventId, expected });
    /** Resolves when the readers count from nothing: else the first events are there before they know of it. */
    const expecting = async (events) => {
      await ask(child, { expected: events });
      return { done: new Promise((resolve) => child.once('message', resolve)) };
    };
    const leave = async () => {
      await ask(child, 'leave');
      while (broker.getStats().totalClients > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    const total = CLIENTS * EVENTS;
    const rounds = { live: [], turns: [], connecting: [], resuming: [] };
    for (let round = 0; round < 8; round++) {
      const cursor = await broker.broadcast('mark', 'cursor');
      await connect(cursor, 0);
      const live = await cpuOf(total, async () => {
        const expected = await expecting(EVENTS);
        await burst(EVENTS);
        await expected.done;
      });
      const turns = await cpuOf(total, async () => {
        const expected = await expecting(EVENTS);
        for (let i = 0; i < EVENTS; i++) {
          await burst(1);
          await new Promise((resolve) => setImmediate(resolve));
        }
        await expected.done;
      });
      await leave();
      const earlier = await broker.broadcast('mark', 'cursor');
      await burst(EVENTS);
      const head = await broker.broadcast('mark', 'head');
      const connecting = await cpuOf(total, () => connect(head, 0));
      await leave();
      const both = await cpuOf(total, () => connect(earlier, EVENTS));
      await leave();
      // The first round warms up.
      if (round === 0) continue;
      rounds.live.push(live);
      rounds.turns.push(turns);
      rounds.connecting.push(connecting);
      rounds.resuming.push(both - connecting);
    }
    const [live, turns, connecting, resuming] = [rounds.live, rounds.turns, rounds.connecting, rounds.resuming].map(
      median,
    );
    table.push({
      topics: kind === 'shared' ? 'one for all' : 'one each',
      'live, all in one turn, ns': Math.round(live),
      'live, a turn each, ns': Math.round(turns),
      'replayed, ns': Math.round(resuming),
      ratios: `${(resuming / live).toFixed(2)}, ${(resuming / turns).toFixed(2)}`,
      'connecting, µs per client': Math.round((connecting * EVENTS) / 1_000),
    });
    child.kill();
    server.closeAllConnections();
    server.close();
    await broker.close({ timeoutMs: 0 });
  }
  console.table(table);
  console.log('replayed: without what it costs the same clients to connect when there is nothing to replay.');
  console.log('ratios: to 100 events of one turn, which are one write per client, as a replay is; and to a turn each,');
  console.log('which is how most events come. The first is the cheapest delivery that there is.');
}

/** The child of {@link resume}: raw sockets that count events named `e`. */
function readers() {
  let sockets = [];
  let waiting = 0;
  let expected = 0;
  const done = () => {
    if (--waiting === 0) process.send('done');
  };
  process.on('message', (message) => {
    if (message === 'leave') {
      for (const { socket } of sockets) socket.destroy();
      sockets = [];
      process.send('left');
      return;
    }
    if (message.topics === undefined) {
      expected = message.expected;
      waiting = sockets.length;
      for (const reader of sockets) reader.count = 0;
      process.send('counting');
      return;
    }
    ({ expected } = message);
    waiting = message.topics.length;
    sockets = message.topics.map((topic) => {
      const socket = net.connect(message.port, '127.0.0.1');
      const reader = { socket, count: 0, isConnected: false };
      socket.write(
        `GET /?topic=${topic} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nLast-Event-ID: ${message.lastEventId}\r\n\r\n`,
      );
      let rest = '';
      socket.on('data', (bytes) => {
        const text = rest + bytes.toString('latin1');
        // Too short for a whole match, so that none is counted twice.
        rest = text.slice(1 - BLOCK.length);
        if (!reader.isConnected && text.includes('event: connected')) {
          reader.isConnected = true;
          if (expected === 0) done();
        }
        for (let at = text.indexOf(BLOCK); at !== -1; at = text.indexOf(BLOCK, at + BLOCK.length)) {
          if (++reader.count === expected) done();
        }
      });
      socket.on('error', () => {});
      return reader;
    });
  });
}

/** Durable publishes, in bursts. */
async function sqlite() {
  console.log('\nSqliteBus, publishes of 200 B, bursts of 100 (median of 7 rounds of 20 000)');
  const folder = mkdtempSync(path.join(os.tmpdir(), 'sse-broker-bench-'));
  const table = [];
  const events = Array.from({ length: 20_000 }, (_, i) => i);
  for (const synchronous of ['normal', 'full', 'off']) {
    for (const topics of [10, 10_000]) {
      const bus = new SqliteBus({ database: path.join(folder, `${synchronous}-${topics}.db`), synchronous });
      const broker = new Broker({ bus });
      await broker.start();
      const [cpu, wall] = [[], []];
      for (let round = 0; round < 8; round++) {
        const before = performance.now();
        const ns = await cpuOf(events.length, async () => {
          for (let i = 0; i < events.length; i += 100) {
            await Promise.all(
              events.slice(i, i + 100).map((n) => broker.sendToTopic(`job:${n % topics}`, 'e', { n, text: PAYLOAD })),
            );
          }
        });
        if (round === 0) continue;
        wall.push(((performance.now() - before) * 1e6) / events.length);
        cpu.push(ns);
      }
      table.push({
        synchronous,
        topics,
        'publishes/s of one core': Math.round(1e9 / median(cpu)),
        'publishes/s by the clock': Math.round(1e9 / median(wall)),
      });
      await broker.close({ timeoutMs: 0 });
    }
  }
  rmSync(folder, { recursive: true });
  console.table(table);
}
