/** How a client joins the live stream; test/resume plays the same with an in-memory bus and every kind of cut. */
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { Broker, type BrokerOptions, type Gap, type Identity, MemoryBus } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { stillHeld } from '../support/garbage.js';
import { LateBus } from '../support/late-bus.js';
import { PipeSink } from '../support/pipe-sink.js';
import { Reader } from '../support/reader.js';
import { StrictSink } from '../support/strict-sink.js';
import { until } from '../support/until.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const numberOf = (id: string): number => Number(id.slice(id.lastIndexOf('-') + 1));

function lateBroker(options: { historySize?: number } = {}, brokerOptions: BrokerOptions = {}) {
  const bus = new LateBus({ historySize: 1_000, ...options });
  const broker = makeBroker({ bus, heartbeatInterval: 0, clientTimeout: 0, retry: 0, ...brokerOptions });
  return { bus, broker };
}

/** Types and numbers of what a stream holds. */
const seen = (sink: StrictSink): (string | number)[] =>
  sink.events.map(({ type, data }) => (type === 'n' ? Number(data) : type));

/** Lets everything arrive and go out. */
async function settled(bus: LateBus): Promise<void> {
  for (let i = 0; i < 4; i++) {
    await bus.settle();
    await turn();
  }
}

test('nothing is written before the bus has joined and told its head; then the first frame carries it', async () => {
  const { bus, broker } = lateBroker();
  const sink = StrictSink.forTest();
  broker.connect({ sink, identity: { userId: 'ann' } });
  await bus.serve('start');
  await turn();
  expect(sink.writes).toEqual([]);
  await settled(bus);
  expect(seen(sink)).toEqual(['connected']);
  expect(numberOf(sink.read().lastEventId)).toBe(0);
  sink.check();
});

test('what is sent to a client right after connect() reaches it: it waits until the bus delivers to that client', async () => {
  const { bus, broker } = lateBroker();
  const sink = StrictSink.forTest();
  const clientId = broker.connect({ sink, identity: { userId: 'ann' } });
  const sent = broker.sendToClient(clientId, 'n', '1');
  await bus.serve('start');
  await expect(bus.serve('publish')).rejects.toThrow('no publish is under way');
  while (!bus.joined.has(`c::${clientId}`)) await bus.serve('join');
  await settled(bus);
  expect(seen(sink)).toEqual(['connected', 1]);
  expect(sink.read().lastEventId).toBe(await sent);
  sink.check();
});

test('a bus that joins at once and tells its head later: what comes meanwhile is held for a new client', async () => {
  const bus = new MemoryBus();
  let tell = (): void => {};
  const told = new Promise<void>((resolve) => {
    tell = resolve;
  });
  const headNow = bus.head.bind(bus);
  Object.assign(bus, {
    head: () => {
      const head = headNow();
      return told.then(() => head);
    },
  });
  const broker = makeBroker({ bus });
  await broker.broadcast('n', '1');
  const sink = StrictSink.forTest();
  broker.connect({ sink });
  await broker.broadcast('n', '2');
  await turn();
  expect(sink.writes).toEqual([]);
  tell();
  await turn();
  expect(seen(sink)).toEqual(['connected', 2]);
  sink.check();
});

test('more arrives while the replay waits for its answer than is held: history is read again, and nothing is missing', async () => {
  const { bus, broker } = lateBroker();
  await Promise.all([broker.start(), bus.settle()]);
  const first = StrictSink.forTest();
  broker.connect({ sink: first });
  await settled(bus);
  const sink = StrictSink.forTest();
  broker.connect({ sink, lastEventId: first.read().lastEventId });
  while (bus.reads.length === 0) await bus.step();
  await bus.serve('read', false);
  for (let i = 0; i < 700; i++) {
    bus.publishElsewhere({ key: 'e::', event: 'n', data: String(i + 1), json: false, timestamp: 0, expiresAt: 0 });
    if (i % 50 === 0) bus.deliver();
    if (i % 100 === 0) await turn();
  }
  await settled(bus);
  expect(seen(sink)).toEqual(['connected', ...Array.from({ length: 700 }, (_, i) => i + 1)]);
  expect(bus.reads.length).toBeGreaterThan(5);
});

test('a new client begins at the head: what arrives of the time before is left out, also late; what is later is not', async () => {
  const { bus, broker } = lateBroker();
  await Promise.all([broker.start(), bus.settle()]);
  const there = StrictSink.forTest();
  broker.connect({ sink: there });
  await settled(bus);
  for (const n of ['1', '2', '3']) broker.broadcast('n', n);
  for (let i = 0; i < 3; i++) await bus.serve('publish');
  const sink = StrictSink.forTest();
  const clientId = broker.connect({ sink });
  while (!bus.joined.has(`c::${clientId}`)) await bus.serve('join');
  broker.sendToClient(clientId, 'n', '4');
  await bus.serve('publish');
  await bus.serve('head', false);
  broker.broadcast('n', '5');
  await bus.serve('publish');
  bus.deliver(1);
  await turn();
  await bus.serve('head');
  bus.deliver();
  await turn();
  expect(seen(sink)).toEqual(['connected', 4, 5]);
  expect(seen(there)).toEqual(['connected', 1, 2, 3, 5]);
});

test('what arrives in the turn of the answer, for many and for this client alone, keeps its order', async () => {
  const { bus, broker } = lateBroker();
  await Promise.all([broker.start(), bus.settle()]);
  broker.connect({ sink: StrictSink.forTest() });
  await settled(bus);
  const sink = StrictSink.forTest();
  const clientId = broker.connect({ sink });
  while (!bus.joined.has(`c::${clientId}`)) await bus.serve('join');
  await bus.serve('head', false);
  for (const [i, key] of ['e::', `c::${clientId}`, 'e::'].entries()) {
    bus.publishElsewhere({ key, event: 'n', data: String(i + 1), json: false, timestamp: 0, expiresAt: 0 });
  }
  bus.deliver();
  await bus.serve('head');
  await turn();
  expect(seen(sink)).toEqual(['connected', 1, 2, 3]);
  sink.check();
});

test('an event that was read from history and then arrives late is not delivered twice', async () => {
  const { bus, broker } = lateBroker();
  await Promise.all([broker.start(), bus.settle()]);
  const first = StrictSink.forTest();
  broker.connect({ sink: first });
  await settled(bus);
  const cursor = first.read().lastEventId;
  const sink = StrictSink.forTest();
  broker.broadcast('n', '1');
  broker.broadcast('n', '2');
  await bus.serve('publish');
  await bus.serve('publish');
  // Both are in history, both travel; one arrives before the answer, one after it.
  broker.connect({ sink, lastEventId: cursor });
  while (bus.reads.length === 0) await bus.serve('join');
  await bus.serve('read', false);
  bus.deliver(1);
  await turn();
  await bus.serve('read');
  expect(seen(sink)).toEqual(['connected', 1, 2]);
  bus.deliver();
  await turn();
  broker.broadcast('n', '3');
  await settled(bus);
  expect(seen(sink)).toEqual(['connected', 1, 2, 3]);
  expect(seen(first)).toEqual(['connected', 1, 2, 3]);
});

test('a second client of a key waits for the join of the first: nothing falls between history and live', async () => {
  const { bus, broker } = lateBroker();
  await Promise.all([broker.start(), bus.settle()]);
  broker.broadcast('n', '1');
  await settled(bus);
  const [one, two] = [StrictSink.forTest(), StrictSink.forTest()];
  broker.connect({ sink: one });
  broker.connect({ sink: two, lastEventId: 'x-0' });
  // Not joined yet: what the second read now would not cover what is published before the join.
  expect(bus.reads).toEqual([]);
  bus.publishElsewhere({ key: 'e::', event: 'n', data: '2', json: false, timestamp: 0, expiresAt: 0 });
  await settled(bus);
  bus.publishElsewhere({ key: 'e::', event: 'n', data: '3', json: false, timestamp: 0, expiresAt: 0 });
  await settled(bus);
  expect(
    seen(two)
      .filter((item) => typeof item === 'number')
      .at(-1),
  ).toBe(3);
  expect(bus.reads.length).toBe(1);
});

test('a heartbeat that fills the socket of a new client does not start a replay it never asked for', async () => {
  const { bus, broker } = lateBroker({}, { heartbeatInterval: 50, clientTimeout: 0 });
  await Promise.all([broker.start(), bus.settle()]);
  const sink = StrictSink.forTest(1);
  broker.connect({ sink });
  await until(() => sink.isFull, 'a heartbeat');
  expect(sink.text).toMatch(/^:/);
  sink.drain();
  expect(bus.reads).toEqual([]);
  await settled(bus);
  expect(seen(sink)).toEqual(['connected']);
});

test('a topic given while the replay waits for its answer is replayed too', async () => {
  const { bus, broker } = lateBroker();
  await Promise.all([broker.start(), bus.settle()]);
  const first = StrictSink.forTest();
  broker.connect({ sink: first });
  await settled(bus);
  const cursor = first.read().lastEventId;
  const sink = StrictSink.forTest();
  const clientId = broker.connect({ sink, lastEventId: cursor });
  while (bus.reads.length === 0) await bus.step();
  const subscribed = broker.subscribe(clientId, 'news');
  await bus.serve('join');
  expect(await subscribed).toBe(true);
  broker.sendToTopic('news', 'n', '1');
  await bus.serve('publish');
  bus.deliver();
  await turn();
  await settled(bus);
  broker.sendToTopic('news', 'n', '2');
  await settled(bus);
  expect(seen(sink)).toEqual(['connected', 1, 2]);
});

test('what is sent to a client while its replay waits for a slow reader comes in its place', async () => {
  const broker = makeBroker({ historySize: 1_000, heartbeatInterval: 0 });
  const first = StrictSink.forTest();
  broker.connect({ sink: first });
  const cursor = first.read().lastEventId;
  // More than a page: what is sent now is behind what will be read later.
  for (let i = 0; i < 300; i++) await broker.broadcast('n', String(i + 1).padEnd(2_000));
  const sink = StrictSink.forTest(1);
  const clientId = broker.connect({ sink, lastEventId: cursor });
  await broker.sendToClient(clientId, 'n', '301');
  await broker.broadcast('n', '302');
  await turn();
  while (sink.isFull) sink.drain(1);
  expect(seen(sink)).toEqual(['connected', ...Array.from({ length: 302 }, (_, i) => i + 1)]);
  sink.check();
});

test('a bus that fails to join, to tell its head or to read ends that client only, and the process lives', async () => {
  for (const kind of ['join', 'head', 'read'] as const) {
    const { bus, broker } = lateBroker();
    const origins: string[] = [];
    broker.on('error', (_, origin) => origins.push(origin));
    await Promise.all([broker.start(), bus.settle()]);
    const [failing, next] = [StrictSink.forTest(), StrictSink.forTest()];
    const error = new Error(`no ${kind}`);
    bus.fail(kind, error);
    broker.connect({ sink: failing, lastEventId: kind === 'read' ? 'x-1' : undefined });
    await settled(bus);
    expect(failing.isEnded, kind).toBe(true);
    expect(broker.reported.map(({ cause }) => cause)).toContain(error);
    expect(origins, kind).toEqual([kind === 'join' ? 'bus' : 'replay']);
    failing.close();
    broker.connect({ sink: next });
    await settled(bus);
    expect(seen(next), kind).toEqual(['connected']);
    expect(broker.getStats()).toMatchObject({ totalClients: 1, ending: 0, disconnects: { failed: 1 } });
    next.close();
  }
});

test('a bus that throws where it should reject is no different', async () => {
  for (const method of ['join', 'head', 'read'] as const) {
    const bus = new LateBus();
    const thrown = new Error(`${method} threw`);
    const broker = makeBroker({ bus, heartbeatInterval: 0, clientTimeout: 0 });
    await Promise.all([broker.start(), bus.settle()]);
    bus[method] = () => {
      throw thrown;
    };
    const sink = StrictSink.forTest();
    const clientId = broker.connect({ sink, lastEventId: method === 'read' ? 'x-1' : undefined });
    await settled(bus);
    expect(typeof clientId).toBe('string');
    expect(sink.isEnded, method).toBe(true);
    expect(broker.reported.map(({ cause }) => cause)).toContain(thrown);
    sink.close();
    expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 0, totalTopics: 0, disconnects: { failed: 1 } });
  }
});

test('nonsense from a bus ends the client, not the process', async () => {
  const { bus, broker } = lateBroker();
  await Promise.all([broker.start(), bus.settle()]);
  bus.read = async () => undefined as never;
  const sink = StrictSink.forTest();
  broker.connect({ sink, lastEventId: 'x-1' });
  await settled(bus);
  expect(sink.isEnded).toBe(true);
  expect(sink.text).toMatch(/^(.*\n)*retry: \d+\nevent: closing\ndata: {"reason":"failed"}\n\n$/);
  expect(broker.getStats().disconnects.failed).toBe(1);
});

test('a client that leaves while the bus is asked is forgotten: no write, no entry', async () => {
  const { bus, broker } = lateBroker();
  for (const stage of [0, 1, 2, 3, 4, 5, 6]) {
    const sink = StrictSink.forTest();
    broker.connect({
      sink,
      identity: { userId: 'ann' },
      topics: ['a'],
      lastEventId: stage % 2 === 0 ? 'x-1' : undefined,
    });
    for (let i = 0; i < stage; i++) await bus.step(i);
    sink.close();
    const written = sink.writes.length;
    await settled(bus);
    expect(sink.writes.length).toBe(written);
    sink.check();
    expect(broker.getStats()).toMatchObject({ totalClients: 0, totalUsers: 0, totalTopics: 0, ending: 0 });
    expect([...bus.joined]).toEqual([]);
  }
});

test('clients that leave while the bus takes for ever to join are let go of', async () => {
  const bus = new MemoryBus();
  bus.join = (() => new Promise<void>(() => {})) as () => void;
  const broker = makeBroker({ bus });
  const references = Array.from({ length: 50 }, () => {
    const sink = new StrictSink();
    broker.connect({ sink, identity: { userId: 'ann' }, lastEventId: 'x-1' });
    sink.close();
    return new WeakRef(sink);
  });
  expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 0 });
  expect(await stillHeld(references)).toBeLessThan(5);
});

test('a new client whose bus takes for ever holds a bounded number of frames, and is told what it missed', async () => {
  const { bus, broker } = lateBroker();
  await Promise.all([broker.start(), bus.settle()]);
  const sink = StrictSink.forTest();
  broker.connect({ sink });
  for (let i = 0; i < 2; i++) await bus.serve('join');
  await bus.serve('head', false);
  for (let i = 0; i < 600; i++) {
    bus.publishElsewhere({ key: 'e::', event: 'n', data: String(i + 1), json: false, timestamp: 0, expiresAt: 0 });
  }
  bus.deliver();
  await turn();
  await settled(bus);
  const items = seen(sink);
  const gap = items.indexOf('gap');
  expect(items[0]).toBe('connected');
  expect(gap).toBe(1);
  const { reason, resumedFrom } = sink.all<Gap>('gap')[0]!;
  expect(reason).toBe('overflow');
  const rest = items.slice(2) as number[];
  expect(rest.length).toBeLessThanOrEqual(256);
  expect(rest).toEqual(Array.from({ length: rest.length }, (_, i) => numberOf(resumedFrom!) + 1 + i));
  expect(rest.at(-1)).toBe(600);
});

test('a new client to which more is sent alone than is held for it is told so', async () => {
  const { bus, broker } = lateBroker();
  await Promise.all([broker.start(), bus.settle()]);
  const sink = StrictSink.forTest();
  const clientId = broker.connect({ sink });
  while (!bus.joined.has(`c::${clientId}`)) await bus.serve('join');
  for (let i = 0; i < 300; i++) {
    const event = { key: `c::${clientId}`, event: 'n', data: String(i + 1), json: false, timestamp: 0, expiresAt: 0 };
    bus.publishElsewhere(event);
  }
  bus.deliver();
  await turn();
  await settled(bus);
  expect(seen(sink)).toEqual(['connected', 'gap', ...Array.from({ length: 256 }, (_, i) => i + 1)]);
  expect(sink.all<Gap>('gap')).toMatchObject([{ reason: 'overflow' }]);
  expect(broker.getStats()).toMatchObject({ dropped: 44, gaps: 1 });
});

test('a loss in the middle of a replay is told with what the client has by then', async () => {
  const broker = makeBroker({ historySize: 300, heartbeatInterval: 0 });
  const first = StrictSink.forTest();
  broker.connect({ sink: first });
  const cursor = first.read().lastEventId;
  for (let i = 0; i < 300; i++) await broker.broadcast('n', String(i + 1).padEnd(2_000));
  const sink = StrictSink.forTest(1);
  broker.connect({ sink, lastEventId: cursor });
  sink.drain(1);
  const had = seen(sink).length - 1;
  expect(had).toBeGreaterThan(0);
  for (let i = 300; i < 800; i++) await broker.broadcast('n', String(i + 1).padEnd(2_000));
  await turn();
  while (sink.isFull) sink.drain(1);
  const items = seen(sink);
  const gaps = sink.all<Gap>('gap');
  expect(gaps.length).toBeGreaterThan(0);
  let expected = 0;
  let told = 0;
  for (const item of items.slice(1)) {
    if (item === 'gap') {
      const { requested, resumedFrom } = gaps[told++]!;
      // Exactly: from the last that it had.
      expect(numberOf(requested!)).toBe(expected);
      expected = numberOf(resumedFrom!);
    } else {
      expect(item).toBe(++expected);
    }
  }
  expect(expected).toBe(800);
});

interface Person {
  readonly identity: Identity;
  readonly topics: readonly string[];
}

const PEOPLE: readonly Person[] = [
  { identity: { userId: 'ann' }, topics: ['a'] },
  { identity: { userId: 'bob', tenantId: 'acme' }, topics: ['a', 'b'] },
  { identity: {}, topics: ['b'] },
];

type Target = 'ann' | 'bob' | 'a' | 'b' | 'all' | 'acme';
const TARGETS: readonly Target[] = ['ann', 'bob', 'a', 'b', 'all', 'acme'];

function isFor({ identity, topics }: Person, target: Target): boolean {
  if (target === 'all') return true;
  if (target === 'acme') return identity.tenantId === 'acme';
  return identity.userId === target || topics.includes(target);
}

function send(broker: Broker, target: Target): Promise<string> {
  if (target === 'all') return broker.broadcast('n', '');
  if (target === 'acme') return broker.broadcast('n', '', { tenantId: 'acme' });
  return target === 'a' || target === 'b' ? broker.sendToTopic(target, 'n', '') : broker.sendToUser(target, 'n', '');
}

type Action =
  | { do: 'send'; target: Target; times: number }
  | { do: 'step'; which: number; times: number }
  | { do: 'turn' }
  | { do: 'connect'; who: number; room: number }
  | { do: 'drain'; who: number; room: number }
  | { do: 'cut'; who: number };

const who = fc.nat(PEOPLE.length - 1);
const actions: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('send' as const),
      target: fc.constantFrom(...TARGETS),
      times: fc.constantFrom(1, 1, 1, 3, 60),
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({ do: fc.constant('step' as const), which: fc.nat(30), times: fc.constantFrom(1, 2, 5, 40) }),
  },
  { weight: 3, arbitrary: fc.constant({ do: 'turn' as const }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('connect' as const), who, room: fc.constantFrom(1, 500, 1e9) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('drain' as const), who, room: fc.constantFrom(1, 500, 1e9) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cut' as const), who }) },
);

interface Life {
  readonly person: Person;
  readonly seen: number[];
  since: number | undefined;
  cursor: string;
  sink: PipeSink | undefined;
}

function cut(life: Life): void {
  const reader = new Reader(life.cursor);
  reader.feed(life.sink!.bytes);
  for (const { type, lastEventId } of reader.events) {
    if (type === 'n') life.seen.push(numberOf(lastEventId));
    expect(type, 'all of history is there').not.toBe('gap');
  }
  life.cursor = reader.lastEventId;
  if (life.cursor !== '') life.since ??= Math.min(numberOf(life.cursor), ...life.seen.map((n) => n - 1));
  life.sink!.close();
  life.sink = undefined;
}

test('over a late bus, with every kind of delay and cut: nothing lost, nothing twice, all in order', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(actions, { minLength: 20, maxLength: 120, size: 'max' }), async (script) => {
      const bus = new LateBus({ historySize: 10_000 });
      const broker = new Broker({ bus, heartbeatInterval: 0, clientTimeout: 0, retry: 0 });
      broker.on('error', (error) => expect.unreachable(String(error.cause ?? error)));
      const sent: { target: Target; id: Promise<string> }[] = [];
      const lives: Life[] = PEOPLE.map((person) => ({
        person,
        seen: [],
        since: undefined,
        cursor: '',
        sink: undefined,
      }));
      const connect = (life: Life, room: number) => {
        life.sink = new PipeSink(room);
        broker.connect({ sink: life.sink, ...life.person, lastEventId: life.cursor || undefined });
      };
      for (const action of script) {
        if (action.do === 'send') {
          for (let i = 0; i < action.times; i++) sent.push({ target: action.target, id: send(broker, action.target) });
        } else if (action.do === 'step') {
          for (let i = 0; i < action.times; i++) await bus.step(action.which);
        } else if (action.do === 'turn') {
          await turn();
        } else {
          const life = lives[action.who]!;
          if (action.do === 'connect' && life.sink === undefined) connect(life, action.room);
          else if (action.do === 'drain') life.sink?.drain(action.room);
          else if (action.do === 'cut' && life.sink !== undefined) cut(life);
        }
      }
      for (let round = 0; round < 2; round++) {
        for (const life of lives) if (life.sink === undefined) connect(life, 1e9);
        await settled(bus);
        for (const life of lives) life.sink!.drain(1e9);
        await settled(bus);
        for (const life of lives) cut(life);
      }
      const order = await Promise.all(sent.map(async ({ target, id }) => ({ target, n: numberOf(await id) })));
      for (const { person, seen, since } of lives) {
        const mine = order.filter(({ target, n }) => n > since! && isFor(person, target)).map(({ n }) => n);
        expect(seen).toEqual(mine.sort((a, b) => a - b));
      }
      await broker.close({ timeoutMs: 0 });
    }),
    { numRuns: 150 },
  );
}, 60_000);

test('a page at a time: a replay reads no more than it can write', async () => {
  const bus = new LateBus({ historySize: 10_000 });
  const broker = new Broker({ bus, heartbeatInterval: 0, clientTimeout: 0 });
  onTestFinished(async () => {
    await broker.close({ timeoutMs: 0 });
  });
  await Promise.all([broker.start(), bus.settle()]);
  const first = StrictSink.forTest();
  broker.connect({ sink: first });
  await settled(bus);
  for (let i = 0; i < 1_000; i++) broker.broadcast('n', String(i + 1));
  await settled(bus);
  const sink = StrictSink.forTest(2);
  broker.connect({ sink, lastEventId: first.read().events[0]!.lastEventId });
  await settled(bus);
  const reads = bus.reads.length;
  expect(reads).toBeLessThanOrEqual(2);
  while (sink.isFull) {
    sink.drain(2);
    await settled(bus);
  }
  expect(bus.reads.length).toBeGreaterThan(5);
  expect(seen(sink).length).toBe(1_001);
  first.close();
  sink.close();
});
