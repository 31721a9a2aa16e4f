/**
 * What many nodes cost: RedisBus beside the bare commands, with the same client library, in one run.
 *
 *     node bench/bus.mjs                 all, against the Redis on REDIS_PORT (6379)
 *     node bench/bus.mjs publish         CPU of the publishing node, per event, as a ratio to a pipelined EVALSHA
 *     node bench/bus.mjs latency         publish on one node to write on another, beside bare PUBLISH and SUBSCRIBE
 *     node bench/bus.mjs bystander       CPU of a node whose clients want none of the events
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { createClient } from 'redis';
import { Broker } from 'sse-broker';
import { RedisBus } from 'sse-broker/redis';
import { median } from './driver/statistics.mjs';
import { nowMicros, sleep } from './shared/clock.mjs';

const file = fileURLToPath(import.meta.url);
const PORT = Number(process.env.REDIS_PORT ?? 6379);
const PAYLOAD = 'x'.repeat(170);
const namespace = `bench-${process.pid}`;
const questions = { publish, latency, bystander };

const [question, ...args] = process.argv.slice(2);
if (question === 'node') await node(args);
else {
  for (const [name, ask] of Object.entries(questions)) if (question === undefined || question === name) await ask();
}

/** CPU time of this process in ns, per event. */
async function cpuOf(count, run) {
  const before = process.cpuUsage();
  await run();
  const { user, system } = process.cpuUsage(before);
  return ((user + system) * 1_000) / count;
}

function turn() {
  return new Promise((resolve) => setImmediate(resolve));
}

async function publish() {
  console.log(
    '\nCPU of the publishing node per event of 200 B, against one EVALSHA per event, pipelined (median of 7 rounds)',
  );
  const table = [];
  for (const library of ['ioredis', 'node-redis']) {
    const client = library === 'ioredis' ? new Redis(PORT) : await createClient({ socket: { port: PORT } }).connect();
    // A script that does as little as can be called publishing in order: a counter and a message.
    const bare = "local n = redis.call('INCR', KEYS[1]) redis.call('PUBLISH', KEYS[2], n .. ' ' .. ARGV[1]) return n";
    const hash =
      library === 'ioredis' ? await client.script('LOAD', bare) : await client.sendCommand(['SCRIPT', 'LOAD', bare]);
    for (const [topics, perTurn] of [
      [1, 100],
      [100, 100],
      [10_000, 100],
      [1, 1],
      [10_000, 1],
    ]) {
      const broker = new Broker({
        bus: new RedisBus({ client, namespace: `${namespace}-${library}-${topics}`, historySize: 100 }),
      });
      await broker.start();
      const names = Array.from({ length: topics }, (_, i) => `job:${i}`);
      const total = perTurn === 1 ? 4_000 : 20_000;
      let n = 0;
      const ours = async () => {
        for (let i = 0; i < total; i += perTurn) {
          const published = [];
          for (let j = 0; j < perTurn; j++)
            published.push(broker.sendToTopic(names[++n % topics], 'progress', { n, text: PAYLOAD }));
          await Promise.all(published);
          await turn();
        }
      };
      const theirs = async () => {
        for (let i = 0; i < total; i += perTurn) {
          if (library === 'ioredis') {
            const pipeline = client.pipeline();
            for (let j = 0; j < perTurn; j++) pipeline.evalsha(...bareArgs(++n));
            await pipeline.exec();
          } else {
            const answers = [];
            for (let j = 0; j < perTurn; j++) answers.push(client.sendCommand(['EVALSHA', ...bareArgs(++n)]));
            await Promise.all(answers);
          }
          await turn();
        }
      };
      const bareArgs = (number) => [
        hash,
        '2',
        `${namespace}:n`,
        `${namespace}:c:${names[number % topics]}`,
        JSON.stringify({ n: number, text: PAYLOAD }),
      ];
      const rounds = [];
      for (let round = 0; round < 8; round++) {
        const [first, second] = round % 2 === 0 ? [ours, theirs] : [theirs, ours];
        const [a, b] = [await cpuOf(total, first), await cpuOf(total, second)];
        const pair = round % 2 === 0 ? { ours: a, bare: b } : { ours: b, bare: a };
        // The first round warms up.
        if (round > 0) rounds.push(pair);
      }
      table.push({
        library,
        topics,
        'events per turn': perTurn,
        'ours, µs': Number((median(rounds.map(({ ours }) => ours)) / 1_000).toFixed(2)),
        'bare, µs': Number((median(rounds.map(({ bare }) => bare)) / 1_000).toFixed(2)),
        ratio: Number(median(rounds.map(({ ours, bare }) => ours / bare)).toFixed(2)),
      });
      await broker.close({ timeoutMs: 0 });
    }
    if (library === 'ioredis') client.disconnect();
    else client.destroy();
  }
  console.table(table);
  await cleanUp();
}

/** Events over both ways in turn, 500 a second of each, to a process of its own. */
async function latency() {
  console.log('\nPublish on one node to write on another, 200 B, 500 events/s, ms (10 s; beside bare PUBLISH in turn)');
  const child = await startNode('latency');
  const client = new Redis(PORT);
  const broker = new Broker({ bus: new RedisBus({ client, namespace }) });
  await broker.start();
  const plain = new Redis(PORT);
  for (let i = 0; i < 5_500; i++) {
    const text = `${PAYLOAD}`;
    if (i % 2 === 0) {
      void broker.sendToTopic('measured', 'e', { at: nowMicros(), i, text });
      void plain.publish(`${namespace}:plain`, JSON.stringify({ at: nowMicros(), i, text }));
    } else {
      void plain.publish(`${namespace}:plain`, JSON.stringify({ at: nowMicros(), i, text }));
      void broker.sendToTopic('measured', 'e', { at: nowMicros(), i, text });
    }
    await sleep(2);
  }
  await sleep(200);
  const answered = once(child, 'message');
  child.send('report');
  const [{ ours, bare }] = await answered;
  const table = [
    ['RedisBus', ours],
    ['bare', bare],
  ].map(([name, values]) => ({ name, events: values.length, ...percentiles(values.slice(500)) }));
  console.table(table);
  console.log(`p99 above bare: ${(table[0].p99 - table[1].p99).toFixed(2)} ms`);
  child.kill();
  await broker.close({ timeoutMs: 0 });
  client.disconnect();
  plain.disconnect();
  await cleanUp();
}

function percentiles(micros) {
  const sorted = [...micros].sort((a, b) => a - b);
  const at = (share) => Number((sorted[Math.floor((sorted.length - 1) * share)] / 1_000).toFixed(3));
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}

async function bystander() {
  console.log(
    '\nCPU of a node with 1 000 topics, while 40 000 events of other topics are published, and while nothing is',
  );
  const child = await startNode('bystander');
  const client = new Redis(PORT);
  const broker = new Broker({ bus: new RedisBus({ client, namespace }) });
  await broker.start();
  const ask = async () => {
    const answered = once(child, 'message');
    child.send('cpu');
    return (await answered)[0];
  };
  const rounds = [];
  for (let round = 0; round < 3; round++) {
    const start = await ask();
    const began = performance.now();
    for (let i = 0; i < 40_000; i += 100) {
      const published = [];
      for (let j = 0; j < 100; j++)
        published.push(broker.sendToTopic(`elsewhere:${(i + j) % 500}`, 'e', { i, text: PAYLOAD }));
      await Promise.all(published);
    }
    const busy = await ask();
    await sleep(performance.now() - began);
    const idle = await ask();
    rounds.push({
      'while others publish, ms': (busy - start) / 1_000,
      'while nothing happens, ms': (idle - busy) / 1_000,
    });
  }
  console.table(rounds);
  child.kill();
  await broker.close({ timeoutMs: 0 });
  client.disconnect();
  await cleanUp();
}

async function startNode(kind) {
  const child = fork(file, ['node', kind, namespace]);
  await once(child, 'message');
  return child;
}

/** The other node. */
async function node([kind, space]) {
  const ours = [];
  const bare = [];
  const client = new Redis(PORT);
  const broker = new Broker({ bus: new RedisBus({ client, namespace: space }) });
  await broker.start();
  const stampOf = (text) => Number(/"at":([0-9.]+)/.exec(text)?.[1]);
  const sink = (written) => ({ open() {}, write: written, end() {}, destroy() {}, progress: () => 0 });
  if (kind === 'latency') {
    const write = ({ payload }) => {
      const now = nowMicros();
      for (const [, at] of payload.toString().matchAll(/"at":([0-9.]+)/g)) ours.push(now - Number(at));
      return true;
    };
    broker.connect({ sink: sink(write), topics: ['measured'] });
    const plain = new Redis(PORT);
    plain.on('message', (_, text) => bare.push(nowMicros() - stampOf(text)));
    await plain.subscribe(`${space}:plain`);
  } else {
    for (let i = 0; i < 1_000; i++) broker.connect({ sink: sink(() => true), topics: [`mine:${i}`] });
  }
  await sleep(500);
  process.on('message', (message) => {
    if (message === 'report') process.send({ ours, bare });
    else {
      const { user, system } = process.cpuUsage();
      process.send(user + system);
    }
  });
  process.send('ready');
}

async function cleanUp() {
  const client = new Redis(PORT);
  for await (const keys of client.scanStream({ match: `*${namespace}*`, count: 1_000 })) {
    if (keys.length > 0) await client.unlink(...keys);
  }
  client.disconnect();
}
