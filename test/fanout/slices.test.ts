/** A broadcast to very many clients lets others have their turn; counted in turns, by a clock that only writing moves. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { Client, type ClientHost } from '../../src/core/client.js';
import { Fanout } from '../../src/core/fanout.js';
import { commentFrame } from '../../src/core/frame.js';
import { resolveOptions } from '../../src/core/options.js';
import { Channel } from '../../src/core/registry.js';
import { makeBroker } from '../support/broker.js';
import { CostlySink, turn, WorkClock } from './costly-sink.js';

const CLIENTS = 20_000;
/** What a write to a socket costs, in ms. */
const WRITE = 0.005;

async function start(clients: number, cost: () => void) {
  const broker = makeBroker({ connectedEvent: false, retry: 0, heartbeatInterval: 0, clientTimeout: 0 });
  const sinks = Array.from({ length: clients }, () => new CostlySink(cost));
  for (const [n, sink] of sinks.entries()) broker.connect({ sink, topics: n % 2 === 0 ? ['even'] : [] });
  await turn();
  for (const sink of sinks) sink.writes.length = 0;
  return { broker, sinks };
}

test('between two turns at most ten milliseconds go into writing; timers, statistics and others have theirs', async () => {
  const clock = new WorkClock();
  const { broker, sinks } = await start(CLIENTS, () => clock.spend(WRITE));
  const { delivered } = broker.getStats();
  const written = () => broker.getStats().delivered - delivered;
  void broker.broadcast('note', '1');
  const perTurn: number[] = [];
  let timers = 0;
  const timer = setInterval(() => {
    timers++;
  }, 1);
  while (written() < CLIENTS) {
    const before = written();
    const at = clock.now;
    await turn();
    perTurn.push(written() - before);
    expect(clock.now - at).toBeLessThan(10);
  }
  clearInterval(timer);
  // 100 ms of writing in all.
  expect(perTurn.length).toBeGreaterThanOrEqual(10);
  // And every turn but the last is used: slices that are too small would cost more than they write.
  for (const count of perTurn.slice(0, -1)) expect(count).toBeGreaterThan(1_000);
  expect(timers).toBeGreaterThan(0);
  expect(sinks.every(({ writes }) => writes.length === 1)).toBe(true);
});

test('where offering an event to everybody fills a slice by itself, writing goes on all the same', async () => {
  const clock = new WorkClock();
  const fanout = new Fanout(() => 0, 0);
  const host: ClientHost = {
    options: resolveOptions(),
    tick: 0,
    queueTotals: { frames: 0, bytes: 0 },
    now: () => 0,
    ready: (client) => {
      clock.spend(0.01);
      fanout.ready(client);
    },
    wrote: () => {},
    dropped: () => {},
    overflowed: () => {},
    gapTold: () => {},
    ended: () => {},
    closed: () => {},
  };
  const channel = new Channel('e::');
  let writes = 0;
  for (let n = 0; n < 2_000; n++) {
    const cost = () => {
      writes++;
      clock.spend(WRITE);
    };
    const client = new Client(host, new CostlySink(cost), `${n}`, {});
    client.open();
    client.goLive([]);
    channel.add(client);
  }
  fanout.dispatch(channel, commentFrame());
  const at = clock.now;
  await turn();
  // Offering took 20 ms; half a slice of writing came on top of them.
  expect(clock.now - at).toBeGreaterThan(20);
  expect(clock.now - at).toBeLessThan(25);
  expect(writes).toBeGreaterThan(700);
  while (!fanout.isIdle) await turn();
  expect(writes).toBe(2_000);
});

test('what is published while a broadcast is under way comes after it, for those who have it and those who wait', async () => {
  const clock = new WorkClock();
  const { broker, sinks } = await start(5_000, () => clock.spend(WRITE));
  const expected = sinks.map((): number[] => []);
  const audiences: Record<string, (n: number) => boolean> = { all: () => true, even: (n) => n % 2 === 0 };
  for (let number = 1; number <= 12; number++) {
    const audience = number % 3 === 0 ? 'even' : 'all';
    if (audience === 'all') void broker.broadcast('note', `${number}`);
    else void broker.sendToTopic('even', 'note', `${number}`);
    for (const [n, list] of expected.entries()) if (audiences[audience]!(n)) list.push(number);
    await turn();
  }
  while (broker.getStats().delivered < expected.reduce((sum, { length }) => sum + length, 0)) await turn();
  for (const [n, sink] of sinks.entries()) {
    if (sink.numbers.join() !== expected[n]!.join()) expect(sink.numbers).toEqual(expected[n]);
  }
  // They were not sent one by one: whoever waited got several at once.
  expect(broker.getStats().writes).toBeLessThan(broker.getStats().delivered);
});

test('a client that leaves, or comes, in the middle of a broadcast gets nothing, and disturbs nobody', async () => {
  const clock = new WorkClock();
  const { broker, sinks } = await start(4_000, () => clock.spend(WRITE));
  void broker.broadcast('note', '1');
  await turn();
  const reached = sinks.filter(({ writes }) => writes.length > 0).length;
  expect(reached).toBeGreaterThan(500);
  expect(reached).toBeLessThan(4_000);
  const gone = sinks.slice(3_000, 3_100);
  for (const sink of gone) sink.owner!.closed();
  const late = new CostlySink();
  broker.connect({ sink: late });
  while (sinks.at(-1)!.writes.length === 0) await turn();
  expect(gone.every(({ writes }) => writes.length === 0)).toBe(true);
  expect(late.numbers).toEqual([]);
  expect(sinks.filter(({ numbers }) => numbers.join() === '1').length).toBe(3_900);
  void broker.broadcast('note', '2');
  while (late.numbers.length === 0) await turn();
  expect(late.numbers).toEqual([2]);
});

test('closing in the middle of a broadcast delivers it to everybody first', async () => {
  const clock = new WorkClock();
  const { broker, sinks } = await start(4_000, () => clock.spend(WRITE));
  void broker.broadcast('note', '1');
  await turn();
  void broker.broadcast('note', '2');
  expect(await broker.close()).toEqual({ ended: 4_000, cut: 0 });
  for (const sink of sinks) if (sink.numbers.join() !== '1,2') expect(sink.numbers).toEqual([1, 2]);
  expect(sinks.every(({ text }) => text.endsWith('data: {"reason":"shutdown"}\n\n'))).toBe(true);
});

test('a process that never catches up keeps no account of what it has written', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const clock = new WorkClock();
  // A slice is over after 32 clients: of 64, half always wait.
  const { broker, sinks } = await start(64, () => clock.spend(1));
  const heapAfter = async (turns: number) => {
    for (let n = 0; n < turns; n++) {
      void broker.broadcast('note', 'x');
      await turn();
      if (n % 100 === 0) for (const sink of sinks) sink.writes.length = 0;
    }
    for (const sink of sinks) sink.writes.length = 0;
    collect();
    return process.memoryUsage().heapUsed;
  };
  const before = await heapAfter(2_000);
  const after = await heapAfter(40_000);
  // With a list that only grows it were 10 MiB and more: one entry for each client and turn.
  expect(after - before).toBeLessThan(2 * 2 ** 20);
});
