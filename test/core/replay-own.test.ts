/**
 * What is sent to one client alone is in no history: it takes its place among what is replayed, moves no cursor backwards,
 * and is told where it was too much.
 */
import { expect, test } from 'vitest';
import type { Gap } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { LateBus } from '../support/late-bus.js';
import { StrictSink } from '../support/strict-sink.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function resuming() {
  const bus = new LateBus({ historySize: 1_000 });
  const broker = makeBroker({ bus });
  await Promise.all([broker.start(), bus.settle()]);
  const first = StrictSink.forTest();
  broker.connect({ sink: first });
  await bus.settle();
  const sink = StrictSink.forTest();
  const lastEventId = first.read().lastEventId;
  const clientId = broker.connect({ sink, lastEventId });
  while (bus.reads.length === 0) await bus.serve('join');
  return { bus, broker, sink, clientId };
}

test('it is never asked of the bus', async () => {
  const { bus, clientId } = await resuming();
  await bus.settle();
  expect(bus.reads.flatMap(({ keys }) => keys)).not.toContain(`c::${clientId}`);
});

test('it goes out in its place between what was missed', async () => {
  const { bus, broker, sink, clientId } = await resuming();
  const sent = [
    broker.broadcast('n', 1),
    broker.sendToClient(clientId, 'n', 2),
    broker.broadcast('n', 3),
    broker.sendToClient(clientId, 'n', 4),
  ];
  for (let i = 0; i < 4; i++) await bus.serve('publish');
  const ids = await Promise.all(sent);
  bus.deliver();
  await turn();
  await bus.serve('read');
  await bus.settle();
  await turn();
  expect(sink.all('n')).toEqual([1, 2, 3, 4]);
  expect(sink.read().lastEventId).toBe(ids[3]);
});

test('what comes after later events were read does not take the cursor back', async () => {
  const { bus, broker, sink, clientId } = await resuming();
  const sent = [broker.sendToClient(clientId, 'n', 1), broker.broadcast('n', 2)];
  await bus.serve('publish');
  await bus.serve('publish');
  const ids = await Promise.all(sent);
  await bus.serve('read');
  await turn();
  expect(sink.all('n')).toEqual([2]);
  bus.deliver();
  await turn();
  expect(sink.all('n')).toEqual([2, 1]);
  expect(sink.read().lastEventId).toBe(ids[1]);
  // From here on all is as ever.
  const last = broker.sendToClient(clientId, 'n', 3);
  await bus.settle();
  await turn();
  expect(sink.all('n')).toEqual([2, 1, 3]);
  expect(sink.read().lastEventId).toBe(await last);
});

test('more than is held while a bus takes its time is counted and told, once', async () => {
  const { bus, broker, sink, clientId } = await resuming();
  for (let n = 0; n < 400; n++) broker.sendToClient(clientId, 'n', n).catch(() => {});
  for (let n = 0; n < 400; n++) await bus.serve('publish');
  bus.deliver();
  await turn();
  await bus.settle();
  await turn();
  const got = sink.all<number>('n');
  expect(got).toEqual(Array.from({ length: got.length }, (_, n) => n));
  expect(got.length).toBeGreaterThan(200);
  expect(sink.all<Gap>('gap')).toEqual([expect.objectContaining({ reason: 'overflow' })]);
  expect(broker.getStats()).toMatchObject({ dropped: 400 - got.length, gaps: 1 });
});
