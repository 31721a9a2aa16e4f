/** A foreign bus may give anything: streams stay whole, the process lives, and what was wrong is counted and told. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type Bus,
  type BusEvent,
  type BusReceiver,
  type Head,
  MemoryBus,
  type OutgoingEvent,
  type ReadResult,
} from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { StrictSink } from '../support/strict-sink.js';

/** A correct bus whose receiver and answers a test gets hold of. */
class OpenBus implements Bus {
  readonly name = 'open';
  receiver: BusReceiver | undefined;
  head: () => Head | Promise<Head>;
  read: Bus['read'];
  readonly #inner = new MemoryBus({ historySize: 100 });

  constructor() {
    this.head = () => this.#inner.head();
    this.read = (request) => this.#inner.read(request);
  }
  start(receiver: BusReceiver): void {
    this.receiver = receiver;
    this.#inner.start(receiver);
  }
  publish(event: OutgoingEvent): string {
    return this.#inner.publish(event);
  }
  join(): void {}
  leave(): void {}
  status() {
    return this.#inner.status();
  }
  close(): void {
    this.#inner.close();
  }
}

function setUp() {
  const bus = new OpenBus();
  const broker = makeBroker({ bus });
  const sink = StrictSink.forTest();
  broker.connect({ sink });
  const receiver = bus.receiver!;
  return { bus, broker, sink, receiver };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

const good: BusEvent = {
  id: 'e-1',
  sequence: 1,
  key: 'e::',
  event: 'n',
  data: '1',
  json: true,
  timestamp: 0,
  expiresAt: 0,
};

const rubbish: Record<string, unknown> = {
  null: null,
  text: 'x',
  'an empty object': {},
  'an id with a line break': { ...good, id: 'a\nevent: stolen' },
  'an id that is none': { ...good, id: '' },
  'an id of 129': { ...good, id: 'x'.repeat(129) },
  'an id that is a number': { ...good, id: 7 },
  'a name with CR': { ...good, event: 'n\rdata: stolen' },
  'a name with LF': { ...good, event: 'n\ndata: stolen' },
  'no name': { ...good, event: undefined },
  'a name of the broker’s own': { ...good, event: 'closing' },
  'data that is an object': { ...good, data: { a: 1 } },
  'data that is a Buffer': { ...good, data: Buffer.from('x') },
  'no data': { ...good, data: undefined },
  'no key': { ...good, key: undefined },
  'a key of megabytes': { ...good, key: 'x'.repeat(1_000_000) },
  'a sequence that is text': { ...good, sequence: '1' },
  'a sequence that is NaN': { ...good, sequence: Number.NaN },
  'a time that is none': { ...good, timestamp: 'now' },
  'an end that is none': { ...good, expiresAt: undefined },
  'a flag that is none': { ...good, json: 1 },
  'a frame': { ...good, frame: { bytes: 1, frames: [] } },
};

for (const [name, event] of Object.entries(rubbish)) {
  test(`${name} instead of an event: left out, counted, told; the next one arrives`, async () => {
    const { broker, sink, receiver } = setUp();
    receiver.deliver(event as BusEvent);
    receiver.deliver({ ...good, id: 'e-2', sequence: 2 });
    await turn();
    sink.check();
    expect(sink.all('n')).toEqual([1]);
    expect(broker.getStats().bus.refused).toBe(1);
    expect(broker.reported.map(({ code }) => code)).toEqual(['SSE_ERR_INVALID_BUS_EVENT']);
  });
}

test('how urgent an event is, and its tag, come through', async () => {
  const { broker, receiver } = setUp();
  const sink = StrictSink.forTest(1);
  broker.connect({ sink });
  const more: Partial<BusEvent>[] = [{}, { priority: 2 }, { tag: '~x' }];
  for (const [n, rest] of more.entries()) {
    receiver.deliver({ ...good, id: `e-${n + 1}`, sequence: n + 1, data: String(n), ...rest });
  }
  await turn();
  sink.drain();
  expect(sink.all('n')).toEqual([1, 0, 2]);
  expect(sink.read().lastEventId).toBe('e-3~x');
});

test('any rubbish at all: the stream stays whole and the process lives', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.anything({ withNullPrototype: true })), fc.anything(), async (events, odd) => {
      const { broker, sink, receiver } = setUp();
      for (const event of events) receiver.deliver(event as BusEvent);
      for (const field of Object.keys(good)) receiver.deliver({ ...good, [field]: odd } as BusEvent);
      receiver.lost(odd as never);
      receiver.status(odd as never);
      receiver.deliver({ ...good, id: 'end', sequence: 99, event: 'end' });
      await turn();
      sink.check();
      expect(sink.all('end')).toEqual([1]);
      sink.close();
      await broker.close();
    }),
    { numRuns: 200 },
  );
});

test('a frozen event is delivered like any other', async () => {
  const { sink, receiver } = setUp();
  receiver.deliver(Object.freeze({ ...good }));
  await turn();
  expect(sink.all('n')).toEqual([1]);
});

test('rubbish in history is left out and told as a gap; what is good is served', async () => {
  const { bus, broker } = setUp();
  const { id } = await bus.head();
  await broker.broadcast('n', 1);
  await broker.broadcast('n', 2);
  const whole = bus.read.bind(bus);
  bus.read = (request) => {
    const page = whole(request) as ReadResult;
    return { ...page, events: [{ ...page.events[0]!, event: 'n\nid: 7' }, ...page.events.slice(1)] };
  };
  const sink = StrictSink.forTest();
  broker.connect({ sink, lastEventId: id });
  await turn();
  sink.check();
  expect(sink.all('gap')).toMatchObject([{ reason: 'unknown' }]);
  expect(sink.all('n')).toEqual([2]);
  expect(broker.getStats().bus.refused).toBe(1);
});

test('a head that is no event id never becomes a cursor: that client ends, the others stay', async () => {
  const { bus, broker, sink } = setUp();
  bus.head = () => ({ id: 'a\n\ndata: stolen', sequence: 1 });
  const other = StrictSink.forTest();
  broker.connect({ sink: other });
  await turn();
  other.check();
  expect(other.events.filter(({ type }) => type !== 'closing')).toEqual([]);
  expect(broker.reported.map(({ code }) => code)).toEqual(['SSE_ERR_BUS_UNAVAILABLE']);
  expect(broker.getStats().totalClients).toBe(1);
  sink.check();
});

test('an epoch that is no text is none: in a head it ends that client, in a loss it spares nobody the gap', async () => {
  const { bus, broker, sink, receiver } = setUp();
  const head = { ...(await bus.head()), epoch: 7 as never };
  bus.head = () => head;
  const other = StrictSink.forTest();
  broker.connect({ sink: other });
  receiver.lost({ reason: 'epoch', head });
  await turn();
  expect(other.events.filter(({ type }) => type !== 'closing')).toEqual([]);
  expect(sink.all('gap')).toMatchObject([{ reason: 'epoch' }]);
  expect(broker.reported.map(({ code }) => code)).toEqual(['SSE_ERR_BUS_UNAVAILABLE']);
});

test('a loss with a head moves the cursor there', async () => {
  const { broker, sink, receiver } = setUp();
  receiver.lost({ reason: 'evicted', head: { id: 'e-41', sequence: 41 } });
  receiver.deliver({ ...good, id: 'e-42', sequence: 42 });
  await turn();
  expect(sink.all('gap')).toEqual([{ reason: 'evicted', requested: null, resumedFrom: 'e-41' }]);
  expect(sink.read().lastEventId).toBe('e-42');
  expect(broker.getStats().gaps).toBe(1);
});

test('a loss without a head is told where the head takes time, or fails: before any later event, and the cursor stays', async () => {
  for (const answer of [() => new Promise<Head>(() => {}), () => Promise.reject(new Error('down'))]) {
    const { bus, broker, sink, receiver } = setUp();
    const cursor = sink.read().lastEventId;
    bus.head = answer;
    receiver.lost({ reason: 'epoch', keys: ['e::'] });
    await turn();
    expect(sink.all('gap')).toEqual([{ reason: 'epoch', requested: null, resumedFrom: null }]);
    expect(sink.read().lastEventId).toBe(cursor);
    receiver.deliver({ ...good, id: 'e-9', sequence: 9 });
    await turn();
    expect(sink.events.map(({ type }) => type)).toEqual(['connected', 'gap', 'n']);
    expect(broker.reported).toEqual([]);
  }
});

test.each<[string, () => unknown]>([
  [
    'throws',
    () => {
      throw new Error('no connection');
    },
  ],
  ['rejects', () => Promise.reject(new Error('no connection'))],
])(
  'a bus whose leave %s: the client is gone all the same, nothing is thrown, and the error is told',
  async (_, leave) => {
    const { bus, broker, sink } = setUp();
    bus.leave = leave as () => void;
    expect(() => sink.close()).not.toThrow();
    // A rejection that nobody awaits would fail this test.
    await turn();
    expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 0, disconnects: { left: 1 } });
    expect(broker.reported.map(({ cause }) => (cause as Error).message)).toEqual(['no connection', 'no connection']);
  },
);
