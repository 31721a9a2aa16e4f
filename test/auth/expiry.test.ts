/** What an identity that has expired may still read: nothing that was published later, in any state of its stream. */
import { expect, onTestFinished, test } from 'vitest';
import { type Bus, MemoryBus } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { ManualClock } from '../support/manual-clock.js';
import { StrictSink } from '../support/strict-sink.js';

/** The next turn, in which the fan-out flushes. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A sink whose carrier is gone when the test ends, before its broker waits for that. */
function makeSink(room?: number): StrictSink {
  const sink = new StrictSink(room);
  onTestFinished(() => {
    sink.close();
    sink.check();
  });
  return sink;
}

/** Makes `bus` slow to join and to read, as those over a network are; returns what answers everything that waits. */
function slowed(bus: Bus): () => Promise<void> {
  const waiting: (() => void)[] = [];
  const later = () => new Promise<void>((resolve) => waiting.push(resolve));
  const { join, read } = bus;
  bus.join = (key) => {
    void join.call(bus, key);
    return later();
  };
  bus.read = async (request) => {
    await later();
    return read.call(bus, request);
  };
  return async () => {
    for (const resolve of waiting.splice(0)) resolve();
    await turn();
  };
}

const STEP = 100;

test('a live stream', async () => {
  const clock = new ManualClock();
  const broker = makeBroker({ clock });
  const sink = makeSink();
  broker.connect({ sink, identity: { expiresAt: clock.now() + STEP } });
  await broker.broadcast('note', 'in time');
  await turn();
  clock.advance(STEP);
  await broker.broadcast('note', 'too late');
  await turn();
  expect(sink.text.includes('in time')).toBe(true);
  expect(sink.text.includes('too late')).toBe(false);
  expect(sink.all('closing')).toEqual([{ reason: 'expired' }]);
});

test('a stream that waits for its bus', async () => {
  const clock = new ManualClock();
  const bus: Bus = new MemoryBus({ historySize: 10, clock });
  const answer = slowed(bus);
  const broker = makeBroker({ clock, bus });
  const sink = makeSink();
  broker.connect({ sink, identity: { expiresAt: clock.now() + STEP } });
  clock.advance(STEP);
  await broker.broadcast('note', 'too late');
  await turn();
  await answer();
  expect(sink.text.includes('too late')).toBe(false);
  expect(sink.all('closing')).toEqual([{ reason: 'expired' }]);
});

test('a stream that reads history', async () => {
  const clock = new ManualClock();
  const bus: Bus = new MemoryBus({ historySize: 10, clock });
  const answer = slowed(bus);
  const broker = makeBroker({ clock, bus });
  const lastEventId = await broker.broadcast('note', 'before');
  const sink = makeSink();
  broker.connect({ sink, lastEventId, identity: { expiresAt: clock.now() + STEP } });
  await answer();
  clock.advance(STEP);
  await broker.broadcast('note', 'too late');
  await turn();
  await answer();
  await answer();
  expect(sink.text.includes('too late')).toBe(false);
  expect(sink.all('closing')).toEqual([{ reason: 'expired' }]);
});

test('a stream whose reader is slow in the middle of its history', async () => {
  const clock = new ManualClock();
  const broker = makeBroker({ clock, historySize: 1_000 });
  const lastEventId = await broker.broadcast('note', 'before');
  for (let n = 0; n < 200; n++) await broker.broadcast('note', { n, padding: 'x'.repeat(1_000) });
  const sink = makeSink(2);
  broker.connect({ sink, lastEventId, identity: { expiresAt: clock.now() + STEP } });
  clock.advance(STEP);
  await broker.broadcast('note', 'too late');
  await turn();
  for (let n = 0; n < 50 && sink.isFull; n++) sink.drain(2);
  expect(sink.text.includes('too late')).toBe(false);
  expect(sink.all('closing')).toEqual([{ reason: 'expired' }]);
});

test('a stream with frames in its queue gets those that were published in time, at most', async () => {
  const clock = new ManualClock();
  const broker = makeBroker({ clock });
  const sink = makeSink(2);
  broker.connect({ sink, identity: { expiresAt: clock.now() + STEP } });
  for (let n = 0; n < 10; n++) {
    await broker.broadcast('note', `in time ${n}`);
    await turn();
  }
  clock.advance(STEP);
  await broker.broadcast('note', 'too late');
  await turn();
  expect(sink.text.includes('too late')).toBe(false);
});
