/**
 * What does SSEClient cost beside the bare parser? Events of 200 B through the same `fetch`, in Node:
 *
 *     npm run build && node bench/client.mjs
 *     node bench/client.mjs --rounds 9 --events 100000
 *     node bench/client.mjs --short                       only: does every event arrive? for CI
 *
 * The server and every reader are processes of their own; readers run in turns, each as often as the others, and the
 * figure is their CPU time (process.cpuUsage: all threads, garbage collection included) per event. What counts is the
 * ratio within a round, median over the rounds. `bare` is fetch, TextDecoder and eventsource-parser with a callback that
 * counts; `bare+JSON` also parses the data, as SSEClient does unless `parse` says otherwise.
 *
 * Every reader checks that it got all events, in order; a lost one ends the run with 1. Speed does so only with
 * `--limit 1.3`.
 */
import { fork } from 'node:child_process';
import http from 'node:http';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createParser } from 'eventsource-parser';
import { median } from './driver/statistics.mjs';

const file = fileURLToPath(import.meta.url);
const DATA_BYTES = 200;

/** How many events of one turn stand in one write of the server: one, and what a busy broker sends. */
const SHAPES = { 'one per write': 1, '50 per write': 50 };
/** `client text` leaves the data as it is, like `bare`. */
const VARIANTS = ['bare', 'client text', 'bare+JSON', 'client'];

const [role, ...args] = process.argv.slice(2);
if (role === 'server') serve();
else if (role === 'reader') read(args[0]);
else await drive();

/** Data of the nth event: JSON of exactly DATA_BYTES bytes. */
function dataOf(n) {
  const start = `{"n":${n},"status":"running","text":"`;
  return `${start}${'x'.repeat(DATA_BYTES - start.length - 2)}"}`;
}

function serve() {
  const server = http.createServer((req, res) => {
    const { searchParams } = new URL(req.url, 'http://localhost');
    const events = Number(searchParams.get('events'));
    const perWrite = Number(searchParams.get('perWrite'));
    res.writeHead(200, { 'Content-Type': 'text/event-stream' });
    let n = 0;
    // One write per turn, as a broker flushes: else several would arrive as one.
    const turn = () => {
      if (res.destroyed) return;
      let text = '';
      for (let i = 0; i < perWrite && n < events; i++) {
        n++;
        text += `id: mwpy0th61a-${n}\nevent: note\ndata: ${dataOf(n)}\n\n`;
      }
      const hasRoom = res.write(text);
      if (n === events) res.write('event: done\ndata: 1\n\n');
      else if (hasRoom) setImmediate(turn);
      else res.once('drain', turn);
    };
    turn();
  });
  server.listen(0, '127.0.0.1', () => process.send(server.address().port));
  process.on('disconnect', () => process.exit());
}

/** Answers `{ url, events }` with `{ cpu }`, in ms of CPU from the request to the last event. */
function read(variant) {
  process.on('disconnect', () => process.exit());
  process.on('message', async ({ url, events }) => {
    // Here, so that what was left of the round before is nobody's.
    globalThis.gc();
    const before = process.cpuUsage();
    const { count, sum } = variant.startsWith('client')
      ? await readByClient(url, variant === 'client text')
      : await readBare(url, variant === 'bare+JSON');
    const { user, system } = process.cpuUsage(before);
    const isWhole = count === events && sum === (events * (events + 1)) / 2;
    process.send({ cpu: (user + system) / 1_000, fault: isWhole ? undefined : `${count} of ${events} events` });
  });
}

/** The number of an event, without JSON.parse: `{"n":123,…`. */
const numberIn = (text) => Number.parseInt(text.slice(5, 14), 10);

async function readBare(url, isJson) {
  const controller = new AbortController();
  const response = await fetch(url, { signal: controller.signal, headers: { Accept: 'text/event-stream' } });
  let count = 0;
  let sum = 0;
  let isDone = false;
  const parser = createParser({
    onEvent({ event, data }) {
      if (event === 'note') {
        count++;
        sum += isJson ? JSON.parse(data).n : numberIn(data);
      } else {
        isDone = true;
      }
    },
  });
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  while (!isDone) {
    const { value } = await reader.read();
    parser.feed(decoder.decode(value, { stream: true }));
  }
  controller.abort();
  return { count, sum };
}

async function readByClient(url, isText) {
  const { SSEClient } = await import('sse-broker/client');
  const client = new SSEClient({ url, reconnect: false, ...(isText ? { parse: (text) => text } : {}) });
  let count = 0;
  let sum = 0;
  client.subscribe('note', isText ? countText : countJson);
  function countText(data) {
    count++;
    sum += numberIn(data);
  }
  function countJson(data) {
    count++;
    sum += data.n;
  }
  await new Promise((resolve, reject) => {
    client.subscribe('done', resolve);
    client.on('error', reject);
    client.connect();
  });
  client.destroy();
  return { count, sum };
}

async function drive() {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '7' },
      events: { type: 'string', default: '60000' },
      short: { type: 'boolean', default: false },
      limit: { type: 'string' },
    },
  });
  const rounds = values.short ? 1 : Number(values.rounds);
  const events = values.short ? 5_000 : Number(values.events);
  const server = fork(file, ['server']);
  const port = await answerOf(server);
  const readers = VARIANTS.map((name) => ({
    name,
    child: fork(file, ['reader', name], { execArgv: ['--expose-gc'] }),
  }));
  const faults = [];

  for (const [shape, perWrite] of Object.entries(SHAPES)) {
    const url = `http://127.0.0.1:${port}/?events=${events}&perWrite=${perWrite}`;
    const cpu = new Map(VARIANTS.map((name) => [name, []]));
    // The first round warms up. Each round begins with another reader.
    for (let round = -1; round < rounds; round++) {
      for (let i = 0; i < readers.length; i++) {
        const { name, child } = readers[(i + round + 1) % readers.length];
        const answer = answerOf(child);
        child.send({ url, events });
        const { cpu: ms, fault } = await answer;
        if (fault !== undefined) faults.push(`${name}, ${shape}: ${fault}`);
        if (round >= 0) cpu.get(name).push((ms * 1_000) / events);
      }
    }
    const ratio = (name, unit) => median(cpu.get(name).map((value, round) => value / cpu.get(unit)[round]));
    console.log(`\n${shape}: µs of CPU per event of ${DATA_BYTES} B, median of ${rounds} rounds of ${events}`);
    console.table(
      VARIANTS.map((name) => ({
        reader: name,
        'µs/event': Number(median(cpu.get(name)).toFixed(2)),
        '÷ bare': Number(ratio(name, 'bare').toFixed(2)),
        '÷ bare+JSON': Number(ratio(name, 'bare+JSON').toFixed(2)),
      })),
    );
    // Like against like: without JSON, and with.
    for (const [name, unit] of [
      ['client text', 'bare'],
      ['client', 'bare+JSON'],
    ]) {
      if (values.limit !== undefined && ratio(name, unit) > Number(values.limit)) {
        faults.push(`${name} ÷ ${unit} is ${ratio(name, unit).toFixed(2)} with ${shape}, over ${values.limit}`);
      }
    }
  }
  for (const { child } of readers) child.disconnect();
  server.disconnect();
  for (const fault of faults) console.error(`client: ${fault}`);
  process.exitCode = faults.length === 0 ? 0 : 1;
}

/** The next message; a child that ends instead is an error. */
function answerOf(child) {
  return new Promise((resolve, reject) => {
    const onExit = (code) => reject(new Error(`a process of the benchmark ended with ${code}`));
    child.once('exit', onExit);
    child.once('message', (message) => {
      child.off('exit', onExit);
      resolve(message);
    });
  });
}
