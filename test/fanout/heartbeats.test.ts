/** Heartbeats for ten thousand clients: one timer, spread over the interval, and none for whom it would tell nothing. */
import { expect, test } from 'vitest';
import { makeBroker } from '../support/broker.js';
import { ManualClock } from '../support/manual-clock.js';
import { until } from '../support/until.js';
import { CostlySink } from './costly-sink.js';

const CLIENTS = 10_000;
const INTERVAL = 30_000;

function start(clients = CLIENTS) {
  const clock = new ManualClock();
  const broker = makeBroker({ clock, heartbeatInterval: INTERVAL, connectedEvent: false, retry: 0 });
  let writes = 0;
  const sinks = Array.from({ length: clients }, () => new CostlySink(() => writes++));
  for (const [n, sink] of sinks.entries()) {
    broker.connect({ sink, identity: { userId: `u${n}` }, topics: n < clients / 2 ? ['busy'] : [] });
    sink.writes.length = 0;
  }
  writes = 0;
  const take = () => {
    const taken = writes;
    writes = 0;
    return taken;
  };
  return { clock, broker, sinks, take };
}

const beats = (sink: CostlySink) => sink.writes.filter(({ count }) => count === 0).length;

test('there is one timer, and none when all have left', () => {
  const { clock, sinks } = start();
  expect(clock.timers).toBe(1);
  for (const sink of sinks) sink.owner!.closed();
  expect(clock.timers).toBe(0);
});

test('those who came at the same moment are not served at the same moment: every tick does an equal share', () => {
  const { clock, take } = start();
  clock.advance(INTERVAL);
  take();
  const perStep: number[] = [];
  for (let step = 0; step < 300; step++) {
    clock.advance(INTERVAL / 300);
    perStep.push(take());
  }
  const sum = perStep.reduce((total, count) => total + count, 0);
  expect(sum).toBeGreaterThanOrEqual(CLIENTS);
  const busy = perStep.filter((count) => count > 0);
  // All ticks of half an interval share the work, and none does more than its part: for 100 000 clients, 667 writes.
  expect(busy.length).toBeGreaterThanOrEqual(150);
  expect(Math.max(...perStep)).toBeLessThanOrEqual((2 * CLIENTS) / 300 + 1);
});

test('nobody is silent for longer than the interval, and a tick', () => {
  const { clock, sinks } = start(500);
  for (let round = 0; round < 4; round++) {
    for (const sink of sinks) sink.writes.length = 0;
    clock.advance(INTERVAL + 500);
    expect(Math.min(...sinks.map(beats))).toBeGreaterThanOrEqual(1);
    expect(Math.max(...sinks.map(beats))).toBeLessThanOrEqual(3);
  }
});

test('whoever has just received something is passed over; the others are not', async () => {
  const { clock, broker, sinks } = start(1_000);
  const busy = sinks.slice(0, 500);
  const quiet = sinks.slice(500);
  for (let round = 1; round <= 10; round++) {
    void broker.sendToTopic('busy', 'note', 'x');
    // On a busy machine that takes more than a turn: fan-out goes in slices.
    await until(() => busy.every((sink) => sink.writes.length === round), 'the note');
    clock.advance(INTERVAL / 4);
  }
  expect(busy.map(beats).every((count) => count === 0)).toBe(true);
  expect(Math.min(...quiet.map(beats))).toBeGreaterThanOrEqual(2);
});

test('all heartbeats are one frame: nothing is encoded or allocated for each', () => {
  const { clock, sinks } = start(200);
  clock.advance(INTERVAL * 3);
  const frames = new Set(sinks.flatMap(({ writes }) => writes));
  expect(frames.size).toBe(1);
  expect([...frames][0]!.payload.toString()).toBe(':\n\n');
});
