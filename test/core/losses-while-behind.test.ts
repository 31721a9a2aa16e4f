/** A node that is behind its bus: what it is told as lost, beside clients that history has served already. */
import { expect, test } from 'vitest';
import type { BusEvent } from '../../src/index.js';
import { outgoing } from '../../src/testing/bus-recorder.js';
import { makeBroker } from '../support/broker.js';
import { LateBus } from '../support/late-bus.js';
import { StrictSink } from '../support/strict-sink.js';

const T = 't::t';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function settled(bus: LateBus): Promise<void> {
  for (let i = 0; i < 4; i++) {
    await bus.settle();
    await turn();
  }
}

/** Data of events, and names of what else a stream holds. */
const seen = (sink: StrictSink): string[] => sink.events.map(({ type, data }) => (type === 'test' ? data : type));

/** A broker with a client that has been on the topic from the start. */
async function behind() {
  const bus = new LateBus({ historySize: 1_000 });
  const broker = makeBroker({ bus, heartbeatInterval: 0, clientTimeout: 0, retry: 0 });
  const first = StrictSink.forTest();
  broker.connect({ sink: first, topics: ['t'] });
  await settled(bus);
  const { lastEventId } = first.read();
  return { bus, broker, first, lastEventId };
}

/** Serves what a new client asks for, and nothing of what is being delivered. */
async function served(bus: LateBus, ...kinds: ('join' | 'head' | 'read')[]): Promise<void> {
  for (const kind of kinds) await bus.serve(kind);
  await turn();
}

const epochOf = (id: string): string => id.slice(0, id.lastIndexOf('-'));
const eventOf = (id: string, sequence: number): BusEvent => ({ ...outgoing(T, `new ${sequence}`), id, sequence });

test('who resumes on a node that is behind gets nothing twice when that node tells what it has lost itself', async () => {
  const { bus, broker, first, lastEventId } = await behind();
  for (const data of ['1', '2', '3', '4']) bus.publishElsewhere(outgoing(T, data));
  const sink = StrictSink.forTest();
  broker.connect({ sink, topics: ['t'], lastEventId });
  await served(bus, 'join', 'read');
  expect(seen(sink)).toEqual(['connected', '1', '2', '3', '4']);
  // The node could repair 3 and 4 only; the client has all four.
  bus.receiver.lost({ reason: 'evicted', keys: [T], head: { id: `${epochOf(lastEventId)}-2`, sequence: 2 } });
  bus.deliver();
  bus.publishElsewhere(outgoing(T, '5'));
  await settled(bus);
  expect(seen(sink)).toEqual(['connected', '1', '2', '3', '4', '5']);
  expect(sink.all('gap')).toEqual([]);
  expect(seen(first)).toContain('gap');
});

test('the same while its history is on its way', async () => {
  const { bus, broker, lastEventId } = await behind();
  for (const data of ['1', '2', '3', '4']) bus.publishElsewhere(outgoing(T, data));
  const sink = StrictSink.forTest();
  broker.connect({ sink, topics: ['t'], lastEventId });
  await bus.serve('join');
  await bus.serve('read', false);
  bus.receiver.lost({ reason: 'evicted', keys: [T], head: { id: `${epochOf(lastEventId)}-2`, sequence: 2 } });
  bus.deliver();
  await turn();
  await settled(bus);
  expect(seen(sink)).toEqual(['connected', '1', '2', '3', '4']);
});

test('a loss beyond what history has served is told', async () => {
  const { bus, broker, lastEventId } = await behind();
  bus.publishElsewhere(outgoing(T, '1'));
  const sink = StrictSink.forTest();
  broker.connect({ sink, topics: ['t'], lastEventId });
  await served(bus, 'join', 'read');
  bus.receiver.lost({ reason: 'evicted', keys: [T], head: { id: `${epochOf(lastEventId)}-3`, sequence: 3 } });
  bus.receiver.deliver(eventOf(`${epochOf(lastEventId)}-4`, 4));
  await turn();
  expect(seen(sink)).toEqual(['connected', '1', 'gap', 'new 4']);
});

test.each(['epoch', 'unknown'] as const)(
  'sequences that begin again after a loss (%s): whoever had come far gets a gap, and then the new events',
  async (reason) => {
    const { bus, broker, first, lastEventId } = await behind();
    for (let i = 1; i <= 50; i++) bus.publishElsewhere(outgoing(T, String(i)));
    const sink = StrictSink.forTest();
    broker.connect({ sink, topics: ['t'], lastEventId });
    await settled(bus);
    bus.receiver.lost({ reason, head: { id: 'another-0', sequence: 0 } });
    for (const sequence of [1, 2, 3]) bus.receiver.deliver(eventOf(`another-${sequence}`, sequence));
    await turn();
    for (const one of [sink, first]) {
      expect(seen(one).slice(-5)).toEqual(['50', 'gap', 'new 1', 'new 2', 'new 3']);
      expect(one.read().lastEventId).toBe('another-3');
    }
  },
);

test('another epoch that begins while a client waits for its place, with more than is held for it, is told', async () => {
  const { bus, broker } = await behind();
  for (let i = 1; i <= 500; i++) bus.publishElsewhere(outgoing(T, String(i)));
  const sink = StrictSink.forTest();
  broker.connect({ sink, topics: ['t'] });
  await bus.serve('join');
  await bus.serve('head', false);
  bus.receiver.lost({ reason: 'epoch', head: { id: 'another-0', sequence: 0 } });
  // One turn each: what is held is counted by frames, and let go of with the loss among it.
  for (let sequence = 1; sequence <= 300; sequence++) {
    bus.receiver.deliver(eventOf(`another-${sequence}`, sequence));
    if (sequence % 20 === 0) await turn();
  }
  await bus.serve('head');
  await turn();
  bus.receiver.deliver(eventOf('another-301', 301));
  await turn();
  const told = seen(sink);
  expect(told.slice(0, 2)).toEqual(['connected', 'gap']);
  const [{ resumedFrom }] = sink.all<{ resumedFrom: string }>('gap') as [{ resumedFrom: string }];
  const next = Number(resumedFrom.slice('another-'.length)) + 1;
  expect(told.slice(2)).toEqual(Array.from({ length: 302 - next }, (_, i) => `new ${next + i}`));
});
