/** What a client that reads nothing holds while it resumes is bounded in bytes, however large the events are. */
import { expect, test } from 'vitest';
import { frameOf } from '../../src/core/frame.js';
import { HeldFrames } from '../../src/core/held-frames.js';
import { MemoryBus, type ReadRequest, type ReadResult } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { collectGarbage } from '../support/garbage.js';
import { StrictSink } from '../support/strict-sink.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));
const MIB = 1024 * 1024;

/** Data of `bytes` bytes that begins with its number, and that no other event shares. */
const large = (n: number, bytes: number): string => Buffer.alloc(bytes, `${n} `).toString('latin1');
const numbers = (sink: StrictSink): number[] =>
  sink.events.filter(({ type }) => type === 'n').map(({ data }) => Number.parseInt(data, 10));
const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

/** A client that stands still in the middle of its replay, with one event read. */
async function standing(clientBufferBytes: number) {
  const broker = makeBroker({ historySize: 1_000, clientBufferBytes });
  const lastEventId = await broker.broadcast('first', 0);
  await broker.broadcast('n', large(0, 10));
  const sink = StrictSink.forTest(1);
  const clientId = broker.connect({ sink, lastEventId });
  expect(sink.isFull).toBe(true);
  return { broker, sink, clientId };
}

test('live events beyond the bytes of its buffer are let go of, and read from history', async () => {
  const { broker, sink } = await standing(MIB);
  for (let n = 1; n <= 20; n++) {
    await broker.broadcast('n', large(n, 300_000));
    await turn();
  }
  sink.drain();
  expect(numbers(sink)).toEqual(upTo(21));
  // Of those that were held it is the last few that history was not asked for.
  const { replayed, dropped, gaps } = broker.getStats();
  expect(replayed).toBeGreaterThan(15);
  expect({ dropped, gaps }).toEqual({ dropped: 0, gaps: 0 });
  sink.check();
});

test('without a limit of its buffer, live events are held as before', async () => {
  const { broker, sink } = await standing(0);
  for (let n = 1; n <= 20; n++) {
    await broker.broadcast('n', large(n, 300_000));
    await turn();
  }
  sink.drain();
  expect(numbers(sink)).toEqual(upTo(21));
  expect(broker.getStats().replayed).toBe(1);
});

test('what is sent to it alone is in no history: beyond the bytes of its buffer it is dropped, and a gap says so', async () => {
  const { broker, sink, clientId } = await standing(MIB);
  for (let n = 1; n <= 8; n++) {
    await broker.sendToClient(clientId, 'n', large(n, 300_000));
    await turn();
  }
  sink.drain();
  expect(numbers(sink)).toEqual([0, 1, 2, 3]);
  expect(sink.all('gap')).toMatchObject([{ reason: 'overflow' }]);
  expect(broker.getStats()).toMatchObject({ dropped: 5, gaps: 1 });
});

for (const [whose, key] of [
  ['everybody', 'e::'],
  ['it alone', 'c::one'],
]) {
  test(`what is sent to ${whose} is held as long as it fits, to the byte and to the frame`, () => {
    const event = { key: key!, event: 'n', data: '1', json: true, timestamp: 0, expiresAt: 0, id: 'x-1', sequence: 1 };
    const { bytes } = frameOf({ ...event });
    for (const [maxBytes, fits] of [
      [3 * bytes, 3],
      [3 * bytes - 1, 2],
      [0, 256],
    ] as const) {
      let dropped = 0;
      const held = new HeldFrames(maxBytes, (events) => {
        dropped += events;
      });
      for (let n = 0; n < fits; n++) held.hold(frameOf({ ...event }));
      expect({ dropped, hasLetGo: held.hasLetGo }).toEqual({ dropped: 0, hasLetGo: false });
      held.hold(frameOf({ ...event }));
      expect(dropped > 0 || held.hasLetGo).toBe(true);
    }
  });
}

test('one event that is larger than its buffer is held all the same', async () => {
  const { broker, sink, clientId } = await standing(100_000);
  await broker.sendToClient(clientId, 'n', large(1, 300_000));
  await turn();
  sink.drain();
  expect(numbers(sink)).toEqual([0, 1]);
  expect(sink.all('gap')).toEqual([]);
});

class WatchedBus extends MemoryBus {
  readonly limits: number[] = [];

  override read(request: ReadRequest): ReadResult {
    this.limits.push(request.limit);
    return super.read(request);
  }
}

test('thirty that stand still, each in another place of a history of large events, hold about a page of bytes each', async () => {
  const broker = makeBroker({ historySize: 1_000 });
  const ids: string[] = [];
  for (let n = 0; n < 500; n++) ids.push(await broker.broadcast('n', large(n, 100_000)));
  await collectGarbage();
  const held = () => {
    const { heapUsed, external } = process.memoryUsage();
    return (heapUsed + external) / MIB;
  };
  const before = held();
  const sinks = Array.from({ length: 30 }, (_, i) => {
    const sink = StrictSink.forTest(2);
    broker.connect({ sink, lastEventId: ids[i * 10]! });
    // What went out is the carrier's.
    sink.writes.length = 0;
    return sink;
  });
  await collectGarbage();
  // They held 360 MiB; the cache of events, 16 MiB, is in it.
  expect(held() - before).toBeLessThan(80);
  expect(sinks.every(({ isFull }) => isFull)).toBe(true);
});

test('large events are read a few at a time, and small ones behind them many at a time again', async () => {
  const bus = new WatchedBus({ historySize: 1_000 });
  const broker = makeBroker({ bus });
  const lastEventId = await broker.broadcast('first', 0);
  for (let n = 0; n < 10; n++) await broker.broadcast('n', large(n, 200_000));
  for (let n = 10; n < 900; n++) await broker.broadcast('n', large(n, 10));
  const sink = StrictSink.forTest();
  broker.connect({ sink, lastEventId });
  expect(numbers(sink)).toEqual(upTo(900));
  expect(sink.all('gap')).toEqual([]);
  // 3 at a time, then twice as many each time, up to 128.
  expect(bus.limits.slice(0, 4)).toEqual([128, 3, 3, 3]);
  expect(Math.max(...bus.limits.slice(1))).toBe(128);
  expect(bus.limits.length).toBeLessThan(20);
});
