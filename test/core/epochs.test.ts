/**
 * The bus loses its history and begins another, which this node learns late: who was served out of the new one already has
 * nothing to be told; who was not gets its gap, and everything after it.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Broker, type Gap } from '../../src/index.js';
import { outgoing } from '../../src/testing/bus-recorder.js';
import { makeBroker } from '../support/broker.js';
import { LateBus } from '../support/late-bus.js';
import { PipeSink } from '../support/pipe-sink.js';
import { Reader } from '../support/reader.js';
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

/** A broker with a client that has been on the topic from the start and has seen fifty events. */
async function before(options: { tellsFirst?: boolean } = {}) {
  const bus = new LateBus({ historySize: 1_000, ...options });
  const broker = makeBroker({ bus, heartbeatInterval: 0, clientTimeout: 0, retry: 0 });
  const there = StrictSink.forTest();
  broker.connect({ sink: there, topics: ['t'] });
  await settled(bus);
  for (let i = 1; i <= 50; i++) bus.publishElsewhere(outgoing(T, `old ${i}`));
  await settled(bus);
  const come = (lastEventId?: string) => {
    const sink = StrictSink.forTest();
    broker.connect({ sink, topics: ['t'], lastEventId });
    return sink;
  };
  return { bus, there, come, cursor: there.read().lastEventId };
}

const published = (bus: LateBus, ...data: string[]) => data.map((text) => bus.publishElsewhere(outgoing(T, text)));

/** What is asked until it is answered; nothing is delivered but what an answer brings with it. */
async function answered(bus: LateBus, kind: 'head' | 'read'): Promise<void> {
  for (;;) {
    try {
      await bus.serve('join');
    } catch {
      break;
    }
  }
  await bus.serve(kind);
  await turn();
}

test('who resumes in the new epoch on a node that has not noticed it is told once, and gets nothing twice', async () => {
  const { bus, there, come, cursor } = await before();
  // On their way to this node when all is lost.
  published(bus, 'old 51', 'old 52');
  bus.loseHistory();
  const [, second] = published(bus, 'new 1', 'new 2', 'new 3');
  const [elsewhere, here, fresh] = [come(second), come(cursor), come()];
  await answered(bus, 'read');
  await answered(bus, 'read');
  await answered(bus, 'head');
  published(bus, 'new 4');
  await settled(bus);
  expect(seen(elsewhere)).toEqual(['connected', 'new 3', 'new 4']);
  expect(seen(here)).toEqual(['connected', 'gap', 'new 4']);
  expect(here.all<Gap>('gap')).toMatchObject([{ reason: 'epoch', requested: cursor }]);
  expect(seen(fresh)).toEqual(['connected', 'new 4']);
  // It was there all the time, and nobody else told it.
  expect(seen(there).slice(-7)).toEqual(['old 51', 'old 52', 'gap', 'new 1', 'new 2', 'new 3', 'new 4']);
});

test('the same where the node has nothing of what the new epoch began with', async () => {
  const { bus, there, come } = await before();
  bus.loseHistory(false);
  const [first] = published(bus, 'new 1', 'new 2', 'new 3');
  const sink = come(first);
  await answered(bus, 'read');
  published(bus, 'new 4');
  await settled(bus);
  expect(seen(sink)).toEqual(['connected', 'new 2', 'new 3', 'new 4']);
  expect(seen(there).slice(-2)).toEqual(['gap', 'new 4']);
});

test('a bus that answers before it tells: what the node tells later is no news where sequences go on growing', async () => {
  const { bus, come, cursor } = await before({ tellsFirst: false });
  bus.loseHistory();
  const sink = come(cursor);
  await answered(bus, 'read');
  expect(seen(sink)).toEqual(['connected', 'gap']);
  published(bus, 'new 1');
  await settled(bus);
  expect(seen(sink)).toEqual(['connected', 'gap', 'new 1']);
});

test('an epoch after the one that was served is told', async () => {
  const { bus, come, cursor } = await before();
  bus.loseHistory();
  published(bus, 'new 1', 'new 2', 'new 3');
  const sink = come(cursor);
  await answered(bus, 'read');
  expect(seen(sink)).toEqual(['connected', 'gap']);
  bus.loseHistory();
  published(bus, 'newer 1', 'newer 2');
  await settled(bus);
  expect(seen(sink)).toEqual(['connected', 'gap', 'gap', 'newer 1', 'newer 2']);
});

test('an epoch that begins after the answer was made and before it came is told', async () => {
  const { bus, come, cursor } = await before();
  const sink = come(cursor);
  published(bus, 'old 51');
  for (let i = 0; i < 2; i++) await bus.serve('join').catch(() => {});
  await bus.serve('read', false);
  bus.loseHistory();
  published(bus, 'new 1');
  await settled(bus);
  expect(seen(sink)).toEqual(['connected', 'old 51', 'gap', 'new 1']);
});

type Action =
  | { do: 'publish'; times: number }
  | { do: 'step'; which: number; times: number }
  | { do: 'turn' }
  | { do: 'lose'; isRepaired: boolean }
  | { do: 'connect' | 'cut' | 'elsewhere'; who: number }
  | { do: 'drain'; who: number };

const PEOPLE = 3;
const who = fc.nat(PEOPLE - 1);
const actions: fc.Arbitrary<Action> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('publish' as const), times: fc.constantFrom(1, 1, 2, 5, 300) }) },
  {
    weight: 10,
    arbitrary: fc.record({ do: fc.constant('step' as const), which: fc.nat(30), times: fc.constantFrom(1, 2, 5, 40) }),
  },
  { weight: 3, arbitrary: fc.constant({ do: 'turn' as const }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('lose' as const), isRepaired: fc.boolean() }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('connect' as const), who }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('cut' as const), who }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('elsewhere' as const), who }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('drain' as const), who }) },
);

/** One reader over all its streams: what it had, and what it was told. Events are counted over all histories. */
class Life {
  sink: PipeSink | undefined = undefined;
  cursor = '';
  /** The events that it was owed from the start: those behind this many. */
  since: number | undefined = undefined;
  readonly accounted = new Set<number>();
  readonly #countOf: (id: string) => number;
  readonly #isStrict: boolean;
  /** Up to where it has everything, or was told. */
  #through: number | undefined = undefined;

  /** `countOf`: events published up to an id; `isStrict`: also when and how often is looked at. */
  constructor(countOf: (id: string) => number, isStrict: boolean) {
    this.#countOf = countOf;
    this.#isStrict = isStrict;
  }

  cut(): void {
    const reader = new Reader(this.cursor);
    reader.feed(this.sink!.bytes);
    for (const { type, data, lastEventId } of reader.events) {
      const now = this.#countOf(lastEventId);
      const before = this.#through ?? now;
      if (type === 'n') {
        this.accounted.add(now);
        if (this.#isStrict) expect(now, 'nothing passed over, nothing twice').toBe(before + 1);
      } else if (type === 'gap') {
        expect((JSON.parse(data) as Gap).resumedFrom).toBe(lastEventId);
        if (this.#isStrict) expect(now, 'a gap leads on').toBeGreaterThanOrEqual(before);
        for (let n = before + 1; n <= now; n++) this.accounted.add(n);
      }
      this.#goThrough(now);
    }
    this.cursor = reader.lastEventId;
    // Also by a block without data.
    if (this.cursor !== '') {
      const now = this.#countOf(this.cursor);
      if (this.#isStrict) expect(now, 'the cursor is where it has got').toBe(this.#through ?? now);
      this.#goThrough(now);
    }
    this.sink!.close();
    this.sink = undefined;
  }

  /** It was on a node that is up to date, up to `id`. */
  wasElsewhere(id: string): void {
    const now = this.#countOf(id);
    for (let n = (this.#through ?? now) + 1; n <= now; n++) this.accounted.add(n);
    this.#goThrough(now);
    this.cursor = id;
  }

  #goThrough(count: number): void {
    this.#through = count;
    this.since ??= count;
  }
}

async function play(script: readonly Action[], tellsFirst: boolean): Promise<void> {
  const bus = new LateBus({ historySize: 100_000, tellsFirst });
  const broker = new Broker({ bus, heartbeatInterval: 0, clientTimeout: 0, retry: 0 });
  broker.on('error', (error) => expect.unreachable(String(error.cause ?? error)));
  await Promise.all([broker.start(), bus.settle()]);
  let published = 0;
  /** Events of all histories before, by epoch. */
  const epochs = new Map([[bus.farHead.epoch, 0]]);
  const countOf = (id: string): number => {
    const dash = id.lastIndexOf('-');
    return epochs.get(id.slice(0, dash))! + Number(id.slice(dash + 1));
  };
  const lives = Array.from({ length: PEOPLE }, () => new Life(countOf, tellsFirst));
  const connect = (life: Life, room: number) => {
    life.sink = new PipeSink(room);
    broker.connect({ sink: life.sink, topics: ['t'], lastEventId: life.cursor || undefined });
  };
  for (const action of script) {
    if (action.do === 'publish') {
      for (let i = 0; i < action.times; i++) bus.publishElsewhere(outgoing(T, '', { event: 'n' }));
      published += action.times;
    } else if (action.do === 'step') {
      for (let i = 0; i < action.times; i++) await bus.step(action.which);
    } else if (action.do === 'turn') {
      await turn();
    } else if (action.do === 'lose') {
      bus.loseHistory(action.isRepaired);
      epochs.set(bus.farHead.epoch, published);
    } else {
      const life = lives[action.who]!;
      if (action.do === 'drain') life.sink?.drain(1e9);
      else if (action.do === 'connect' && life.sink === undefined) connect(life, action.who === 0 ? 500 : 1e9);
      else if (action.do === 'cut' && life.sink !== undefined) life.cut();
      else if (action.do === 'elsewhere' && life.sink === undefined) life.wasElsewhere(bus.farHead.id);
    }
  }
  for (let round = 0; round < 2; round++) {
    for (const life of lives) if (life.sink === undefined) connect(life, 1e9);
    await settled(bus);
    for (const life of lives) life.sink!.drain(1e9);
    await settled(bus);
    for (const life of lives) life.cut();
  }
  for (const { since, accounted } of lives) {
    const lost: number[] = [];
    for (let n = since! + 1; n <= published; n++) if (!accounted.has(n)) lost.push(n);
    expect(lost, 'lost in silence').toEqual([]);
  }
  await broker.close({ timeoutMs: 0 });
}

const scripts = fc.array(actions, { minLength: 20, maxLength: 120, size: 'max' });

test('however often history is lost, with every kind of delay: nothing in silence, nothing twice, all in order', async () => {
  await fc.assert(
    fc.asyncProperty(scripts, (script) => play(script, true)),
    { numRuns: 150 },
  );
}, 60_000);

test('a bus that answers out of an epoch before it has told of it: nothing is lost in silence', async () => {
  await fc.assert(
    fc.asyncProperty(scripts, (script) => play(script, false)),
    { numRuns: 150 },
  );
}, 60_000);
