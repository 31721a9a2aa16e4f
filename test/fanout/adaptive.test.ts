/** `flush: 'adaptive'`: counted in turns and writes, by a clock that only writing moves. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test, vi } from 'vitest';
import { Broker, type BrokerOptions, type SseError } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { until } from '../support/until.js';
import { CostlySink, turn, WorkClock } from './costly-sink.js';

const CLIENTS = 50;

function connect(options: BrokerOptions, cost: () => void, clients = CLIENTS) {
  const broker = makeBroker({
    connectedEvent: false,
    retry: 0,
    heartbeatInterval: 0,
    clientTimeout: 0,
    clientBufferSize: 0,
    ...options,
  });
  const sinks = Array.from({ length: clients }, () => new CostlySink(cost));
  for (const sink of sinks) broker.connect({ sink });
  for (const sink of sinks) sink.writes.length = 0;
  return { broker, sinks };
}

/** Delays of the timers that are set from now on. */
function watchTimers(): number[] {
  const delays: number[] = [];
  const { setTimeout: original } = globalThis;
  const spy = vi.spyOn(globalThis, 'setTimeout').mockImplementation(((callback: () => void, ms: number) => {
    delays.push(ms);
    return original(callback, ms);
  }) as typeof setTimeout);
  onTestFinished(() => spy.mockRestore());
  return delays;
}

function spin(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

test('a process that cannot keep up writes a fraction as often, and everything still arrives, in order', async () => {
  const EVENTS = 400;
  const run = async (options: BrokerOptions) => {
    const { broker, sinks } = connect(options, () => spin(0.05));
    for (let n = 0; n < EVENTS; n++) {
      void broker.broadcast('note', `${n}`);
      await turn();
    }
    await until(() => sinks.every((sink) => sink.numbers.length === EVENTS), 'all events');
    const all = Array.from({ length: EVENTS }, (_, n) => n).join();
    for (const sink of sinks) if (sink.numbers.join() !== all) expect(sink.numbers.join()).toBe(all);
    return sinks[0]!.writes.length;
  };
  const perTurn = await run({ flush: 'turn' });
  const adaptive = await run({ flush: 'adaptive' });
  expect(perTurn).toBe(EVENTS);
  expect(adaptive).toBeLessThan(EVENTS / 4);
});

test('who keeps up is not delayed: every event goes out at the end of its turn, and no timer is set', async () => {
  const clock = new WorkClock();
  const delays = watchTimers();
  // A flush takes half a millisecond: less than a timer could wait.
  const { broker, sinks } = connect({ flush: 'adaptive' }, () => clock.spend(0.5 / CLIENTS));
  for (let n = 0; n < 100; n++) {
    void broker.broadcast('note', `${n}`);
    await turn();
    expect(sinks.map(({ writes }) => writes.length)).toEqual(sinks.map(() => n + 1));
  }
  expect(delays).toEqual([]);
});

test('nor is one whose flushes are long but seldom: what it rested counts', async () => {
  const clock = new WorkClock();
  const delays = watchTimers();
  const { broker, sinks } = connect({ flush: 'adaptive' }, () => clock.spend(10 / CLIENTS));
  for (let n = 0; n < 30; n++) {
    void broker.broadcast('note', `${n}`);
    for (let turns = 0; sinks.at(-1)!.writes.length <= n; turns++) {
      // Two slices.
      expect(turns).toBeLessThan(3);
      await turn();
    }
    clock.spend(10);
  }
  expect(delays).toEqual([]);
});

test('the wait is what the flush before took, and never longer than maxFlushDelay', async () => {
  const clock = new WorkClock();
  const delays = watchTimers();
  let cost = 6;
  const { broker, sinks } = connect({ flush: 'adaptive', maxFlushDelay: 20 }, () => clock.spend(cost), 1);
  const [sink] = sinks;
  const publish = async (n: number) => {
    void broker.broadcast('note', `${n}`);
    await turn();
    return sink!.writes.length;
  };
  expect(await publish(1)).toBe(1);
  expect(await publish(2)).toBe(1);
  expect(delays).toEqual([6]);
  cost = 500;
  await until(() => sink!.writes.length === 2, 'the second flush');
  expect(await publish(3)).toBe(2);
  expect(delays.filter((ms) => ms !== 5)).toEqual([6, 20]);
  // Resting shortens it.
  await until(() => sink!.writes.length === 3, 'the third flush');
  clock.spend(15);
  expect(await publish(4)).toBe(3);
  expect(delays.filter((ms) => ms !== 5)).toEqual([6, 20, 5].filter((ms) => ms !== 5));
  await until(() => sink!.writes.length === 4, 'the fourth flush');
  expect(sink!.numbers).toEqual([1, 2, 3, 4]);
});

test('a flush that was cut into slices took as long as all of them', async () => {
  const clock = new WorkClock();
  const delays = watchTimers();
  const { broker, sinks } = connect({ flush: 'adaptive' }, () => clock.spend(0.032), 1_000);
  void broker.broadcast('note', '1');
  let turns = 0;
  for (; sinks.at(-1)!.writes.length === 0; turns++) await turn();
  expect(turns).toBeGreaterThanOrEqual(4);
  expect(delays).toEqual([]);
  void broker.broadcast('note', '2');
  expect(delays.length).toBe(1);
  expect(delays[0]).toBeCloseTo(32, 3);
});

test('a flush in the middle of a long turn does not make the process believe that writing costs nothing', async () => {
  const clock = new WorkClock();
  const { broker, sinks } = connect({ flush: 'adaptive' }, () => clock.spend(6), 1);
  const [sink] = sinks;
  void broker.broadcast('note', '1');
  await turn();
  // Waits for a timer; then there is so much that it goes out at once, and the timer finds nothing to do.
  void broker.broadcast('note', '2');
  await turn();
  void broker.broadcast('note', 'x'.repeat(70_000));
  expect(sink!.writes.length).toBe(2);
  await sleep(30);
  expect(sink!.writes.length).toBe(2);
  void broker.broadcast('note', '3');
  await turn();
  await turn();
  expect(sink!.writes.length).toBe(2);
  await until(() => sink!.writes.length === 3, 'the flush that waited');
});

test('close() sends what waits, and leaves no timer', async () => {
  const clock = new WorkClock();
  const { broker, sinks } = connect({ flush: 'adaptive', maxFlushDelay: 5_000 }, () => clock.spend(3_000 / CLIENTS));
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  void broker.broadcast('note', '1');
  while (sinks.some(({ writes }) => writes.length === 0)) await turn();
  const before = timers();
  void broker.broadcast('note', '2');
  void broker.broadcast('note', '3');
  await turn();
  expect(sinks[0]!.numbers).toEqual([1]);
  expect(timers()).toBe(before + 1);
  await broker.close({ timeoutMs: 10_000 });
  for (const sink of sinks) expect(sink.numbers).toEqual([1, 2, 3]);
  expect(timers()).toBe(before);
});

test('a client that is told to leave gets first what waited for the flush', async () => {
  const clock = new WorkClock();
  const { broker, sinks } = connect({ flush: 'adaptive', maxFlushDelay: 5_000 }, () => clock.spend(3_000), 2);
  void broker.broadcast('note', '1');
  while (sinks.some(({ writes }) => writes.length === 0)) await turn();
  void broker.broadcast('note', '2');
  const [first] = broker.getClients();
  await broker.disconnect(first!.id);
  expect(sinks[0]!.numbers).toEqual([1, 2]);
  expect(sinks[0]!.text).toMatch(/event: closing\n/);
  expect(sinks[1]!.numbers).toEqual([1]);
});

test.each([
  [{ maxFlushDelay: 10 }, /^maxFlushDelay must be left out unless flush is 'adaptive'; got 10/],
  [{ flush: 'turn', maxFlushDelay: 10 }, /^maxFlushDelay must be left out unless/],
  [{ flush: 'adaptive', maxFlushDelay: 0 }, /^maxFlushDelay must be 1 or more/],
  [{ flush: 'adaptive', maxFlushDelay: -1 }, /^maxFlushDelay must be a whole number/],
  [{ flush: 'adaptive', maxFlushDelay: 1.5 }, /^maxFlushDelay must be a whole number/],
  [{ flush: 'adaptive', maxFlushDelay: Number.POSITIVE_INFINITY }, /^maxFlushDelay must be a whole number/],
  [{ flush: 'always' }, /^flush must be 'turn', 'adaptive'; got "always"/],
])('%j is refused at construction', (options, message) => {
  try {
    new Broker(options as BrokerOptions);
  } catch (error) {
    expect((error as SseError).code).toBe('SSE_ERR_INVALID_OPTION');
    expect((error as SseError).message).toMatch(message);
    return;
  }
  throw new Error('it was taken');
});
