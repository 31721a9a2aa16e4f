/** The clock and the sink that applications test with. */
import { expect, test } from 'vitest';
import { ManualClock, MemorySink } from '../../src/testing/index.js';
import { makeBroker } from '../support/broker.js';

test('MemorySink shows what a client would read, and lets it stall and leave', async () => {
  const broker = makeBroker({ connectedEvent: false, heartbeatInterval: 0 });
  const sink = new MemorySink(1);
  const id = broker.connect({ sink, identity: { userId: 'alice' } });
  await broker.sendToUser('alice', 'first', '1');
  await broker.sendToUser('alice', 'second', '2');
  expect(sink.text).not.toContain('data: 2');
  sink.drain();
  await sink.wrote('data: 2');
  expect(sink.text.indexOf('data: 1')).toBeLessThan(sink.text.indexOf('data: 2'));
  sink.leave();
  expect(sink.isClosed).toBe(true);
  expect(broker.getClient(id)).toBeUndefined();
  await expect(sink.wrote('never')).rejects.toThrow('the stream ended without');
});

test('MemorySink ends with its stream', async () => {
  const broker = makeBroker();
  const sink = new MemorySink();
  const id = broker.connect({ sink });
  await broker.disconnect(id, 'enough');
  await sink.wrote('event: closing');
  expect(sink.text).toContain('enough');
});

test('ManualClock calls timers as often as they fall due, in order', () => {
  const clock = new ManualClock(1_000);
  const calls: string[] = [];
  const stop = clock.every(30, () => calls.push(`a ${clock.now()}`));
  clock.every(50, () => calls.push(`b ${clock.now()}`));
  clock.advance(100);
  expect(calls).toEqual(['a 1030', 'b 1050', 'a 1060', 'a 1090', 'b 1100']);
  stop();
  clock.advance(30);
  expect(calls).toHaveLength(5);
  expect([clock.now(), clock.monotonic(), clock.timers]).toEqual([1_130, 130, 1]);
});
