/**
 * Promise 2 of DESIGN: what a client has seen, after dropping what `gap` admits, is exactly its events, in order, none
 * twice; wherever its streams were cut, however slowly it read, and whatever was published meanwhile. What was past its
 * ttl before it could be delivered is not among its events: it is not delivered, and no gap is told for it.
 */
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { Broker, type BrokerOptions, type Encoded, type Gap, type Identity } from '../../src/index.js';
import { ManualClock } from '../support/manual-clock.js';
import { PipeSink } from '../support/pipe-sink.js';
import { Reader } from '../support/reader.js';

interface Person {
  readonly identity: Identity;
  readonly topics: readonly string[];
}

const PEOPLE: readonly Person[] = [
  { identity: { userId: 'ann' }, topics: ['a', 'b'] },
  { identity: { userId: 'bob', tenantId: 'acme' }, topics: ['a'] },
  { identity: { userId: 'ann', tenantId: 'acme' }, topics: ['b'] },
  { identity: { userId: 'cy', tenantId: 'other' }, topics: ['a', 'b', 'c'] },
  { identity: {}, topics: ['c'] },
];

type Target = { kind: 'user' | 'topic' | 'everybody'; name: string; tenantId: string | undefined };

type Action =
  | { do: 'publish'; target: Target; size: number; times: number; ttl: number }
  | { do: 'turn' }
  | { do: 'wait'; ms: number }
  | { do: 'connect'; who: number; room: number }
  | { do: 'drain'; who: number; room: number }
  | { do: 'cut'; who: number; at: number };

const tenants = fc.constantFrom(undefined, undefined, 'acme', 'other');
const targets: fc.Arbitrary<Target> = fc.oneof(
  fc.record({ kind: fc.constant('user' as const), name: fc.constantFrom('ann', 'bob', 'cy'), tenantId: tenants }),
  fc.record({ kind: fc.constant('topic' as const), name: fc.constantFrom('a', 'b', 'c'), tenantId: tenants }),
  fc.record({ kind: fc.constant('everybody' as const), name: fc.constant(''), tenantId: tenants }),
);
const who = fc.nat(PEOPLE.length - 1);
const room = fc.oneof(fc.constant(1_000_000), fc.integer({ min: 1, max: 3_000 }));
// Large ones make a replay of several writes, in which a slow reader gets stuck.
const sizes = fc.oneof(fc.nat(400), fc.constant(30_000));
/** `ttls`: of what is published, in ms; time passes only where one of them is not 0. */
const actionsWith = (ttls: fc.Arbitrary<number>, waits: number): fc.Arbitrary<Action> =>
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('publish' as const),
        target: targets,
        size: sizes,
        times: fc.constant(1),
        ttl: ttls,
      }),
    },
    // More than a page of history.
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant('publish' as const),
        target: targets,
        size: fc.constant(10),
        times: fc.constant(150),
        ttl: ttls,
      }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('turn' as const) }) },
    { weight: waits, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 60 }) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('connect' as const), who, room }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('drain' as const), who, room }) },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constant('cut' as const),
        who,
        at: fc.integer({ min: 0, max: 1_000 }).map((permille) => permille / 1_000),
      }),
    },
  );

/** Nothing else publishes, so an event's number is its sequence. */
const numberOf = (id: string): number => Number(id.slice(id.lastIndexOf('-') + 1));

// Shrinking a counterexample takes longer than finding it.
vi.setConfig({ testTimeout: 60_000 });

const turn = () => new Promise((resolve) => setImmediate(resolve));

interface Published {
  readonly n: number;
  readonly target: Target;
  /** ms since 1970; Infinity for never. */
  readonly expiresAt: number;
}

/** What the broker handed to a carrier, and when. */
interface Handed {
  readonly n?: number;
  readonly gap?: Gap;
  readonly at: number;
}

/** Takes note of when it was given what. */
class TimedSink extends PipeSink {
  readonly #now: () => number;
  readonly #handed: Handed[];

  constructor(roomBytes: number, now: () => number, handed: Handed[]) {
    super(roomBytes);
    this.#now = now;
    this.#handed = handed;
  }

  override write(encoded: Encoded): boolean {
    const at = this.#now();
    for (const { source, control } of encoded.frames) {
      if (source?.event === 'e') this.#handed.push({ n: source.sequence, at });
      else if (control?.event === 'gap') this.#handed.push({ gap: JSON.parse(control.data!) as Gap, at });
    }
    return super.write(encoded);
  }
}

/** One person over all of its connections. */
class Life {
  readonly person: Person;
  /** Numbers of events seen, in order. */
  readonly seen: number[] = [];
  /** Admitted: nothing is promised of events after the first number and up to the second. */
  readonly admitted: { after: number; upTo: number; reason: string }[] = [];
  /** Number of the last event before its first stream. */
  since: number | undefined;
  cursor = '';
  sink: TimedSink | undefined;
  /** Over all of its streams, whether it was read or not. */
  readonly handed: Handed[] = [];
  /** By number of an event: when its cursor was there or beyond. */
  readonly passedAt: number[] = [];
  readonly #clock: ManualClock;
  #reader = new Reader();
  #fed = 0;
  #eventsTaken = 0;

  constructor(person: Person, clock: ManualClock) {
    this.person = person;
    this.#clock = clock;
  }

  connect(broker: Broker, roomBytes: number): void {
    this.sink = new TimedSink(roomBytes, this.#clock.now, this.handed);
    this.#reader = new Reader(this.cursor);
    this.#fed = 0;
    this.#eventsTaken = 0;
    const lastEventId = this.cursor === '' ? undefined : this.cursor;
    broker.connect({ sink: this.sink, ...this.person, lastEventId });
  }

  /** The reader gets the stream up to `at` of what is there beyond what it has; then everything is taken note of. */
  read(at: number): void {
    const bytes = this.sink!.bytes;
    const upTo = this.#fed + Math.floor((bytes.length - this.#fed) * at);
    this.#reader.feed(bytes.subarray(this.#fed, upTo));
    this.#fed = upTo;
    for (const event of this.#reader.events.slice(this.#eventsTaken)) {
      this.#eventsTaken++;
      if (event.type === 'gap') {
        const gap = JSON.parse(event.data) as Gap;
        const after = gap.requested === null ? -1 : numberOf(gap.requested);
        this.admitted.push({ after, upTo: numberOf(gap.resumedFrom!), reason: gap.reason });
      } else if (event.type === 'e') {
        this.seen.push((JSON.parse(event.data) as { n: number }).n);
      }
    }
    this.cursor = this.#reader.lastEventId;
    // What came before its first stream is not promised; nothing is until it has a cursor.
    if (this.cursor === '') return;
    for (let n = this.passedAt.length; n <= numberOf(this.cursor); n++) this.passedAt.push(this.#clock.now());
    this.since ??= Math.min(numberOf(this.cursor), ...this.seen.map((n) => n - 1));
  }

  cut(at: number): void {
    this.read(at);
    this.sink!.close();
    this.sink = undefined;
  }

  isFor({ kind, name, tenantId }: Target): boolean {
    const { identity, topics } = this.person;
    if (tenantId !== undefined && tenantId !== identity.tenantId) return false;
    if (kind === 'user') return identity.userId === name;
    return kind === 'everybody' || topics.includes(name);
  }
}

function send(broker: Broker, { kind, name, tenantId }: Target, data: object, ttl: number): Promise<string> {
  if (kind === 'user') return broker.sendToUser(name, 'e', data, { tenantId, ttl });
  return kind === 'topic'
    ? broker.sendToTopic(name, 'e', data, { tenantId, ttl })
    : broker.broadcast('e', data, { tenantId, ttl });
}

/** Plays the script, then lets everybody read to the end; calls `check` whenever everybody should have everything. */
async function play(options: BrokerOptions, script: readonly Action[]): Promise<Life[]> {
  const clock = new ManualClock();
  const broker = new Broker({ heartbeatInterval: 0, retry: 0, clientTimeout: 0, clock, ...options });
  const published: Published[] = [];
  const lives = PEOPLE.map((person) => new Life(person, clock));
  let n = 0;
  for (const action of script) {
    if (action.do === 'turn') {
      await turn();
    } else if (action.do === 'wait') {
      // Time passes between turns: what is on its way in this one goes out, also where it expires in the middle of it.
      await turn();
      clock.advance(action.ms);
    } else if (action.do === 'publish') {
      const { target, size, times, ttl } = action;
      const expiresAt = ttl === 0 ? Number.POSITIVE_INFINITY : clock.now() + ttl;
      for (let i = 0; i < times; i++) {
        await send(broker, target, { n: ++n, filler: 'x'.repeat(size) }, ttl);
        published.push({ n, target, expiresAt });
      }
    } else {
      const life = lives[action.who]!;
      const isOpen = life.sink !== undefined && !life.sink.isClosed;
      if (action.do === 'connect' && !isOpen) life.connect(broker, action.room);
      else if (action.do === 'drain' && isOpen) life.sink!.drain(action.room);
      else if (action.do === 'cut' && life.sink !== undefined) life.cut(action.at);
    }
  }
  // Everybody comes back, twice: the second finds nothing new.
  for (let round = 0; round < 2; round++) {
    for (const life of lives) {
      if (life.sink === undefined || life.sink.isClosed) {
        if (life.sink !== undefined) life.cut(1);
        life.connect(broker, 1_000_000_000);
      }
      for (let i = 0; i < 50; i++) life.sink!.drain(1_000_000_000);
    }
    await turn();
    for (const life of lives) life.read(1);
    check(lives, published, clock.now());
    for (const life of lives) life.cut(1);
  }
  await broker.close({ timeoutMs: 0 });
  return lives;
}

function check(lives: readonly Life[], published: readonly Published[], now: number): void {
  for (const life of lives) {
    const since = life.since ?? Number.POSITIVE_INFINITY;
    const isAdmitted = (n: number) => life.admitted.some(({ after, upTo }) => n > after && n <= upTo);
    const mine = published.filter(({ n, target }) => n > since && life.isFor(target)).map(({ n }) => n);
    const seen = life.seen;
    expect(new Set(seen).size, 'none twice').toBe(seen.length);
    expect(
      [...seen].sort((a, b) => a - b),
      'in order',
    ).toEqual(seen);
    expect(
      seen.filter((n) => !life.isFor(published[n - 1]!.target)),
      'nothing of others',
    ).toEqual([]);
    // A cursor moves past what expired before it came to be delivered, and past nothing else.
    const hasExpired = (n: number) => published[n - 1]!.expiresAt <= (life.passedAt[n] ?? now);
    const isSeen = new Set(seen);
    expect(
      seen.filter((n) => !isAdmitted(n)),
      'every one of its events',
    ).toEqual(mine.filter((n) => !isAdmitted(n) && (isSeen.has(n) || !hasExpired(n))));
    const tooLate = life.handed.filter(({ n, at }) => n !== undefined && published[n - 1]!.expiresAt <= at);
    expect(tooLate, 'nothing is handed over that has expired').toEqual([]);
    for (const { gap, at } of life.handed) {
      if (gap?.reason !== 'evicted') continue;
      const [after, upTo] = [numberOf(gap.requested!), numberOf(gap.resumedFrom!)];
      const isLost = (one: Published) => one.n > after && one.n <= upTo && life.isFor(one.target) && one.expiresAt > at;
      expect(published.some(isLost), `a gap from ${after} to ${upTo} without a loss`).toBe(true);
    }
  }
}

// Short scripts seldom come to the interesting part: a return in the middle of a replay.
const scripts = fc.array(actionsWith(fc.constant(0), 0), { minLength: 30, maxLength: 250, size: 'max' });
const expiring = fc.array(actionsWith(fc.constantFrom(0, 0, 20, 90, 300), 3), {
  minLength: 30,
  maxLength: 250,
  size: 'max',
});

test('with enough history nothing is lost at any cut, and no gap is told', async () => {
  await fc.assert(
    fc.asyncProperty(scripts, fc.constantFrom(256, 4), async (script, clientBufferSize) => {
      const lives = await play({ historySize: 10_000, clientBufferSize }, script);
      expect(lives.flatMap((life) => life.admitted)).toEqual([]);
    }),
    { numRuns: 150 },
  );
});

test('with too little history, memory or patience, everything that is missing was admitted by a gap', async () => {
  await fc.assert(
    fc.asyncProperty(
      scripts,
      fc.record({
        historySize: fc.nat(6),
        historyBytes: fc.constantFrom(0, 1_500, 300_000),
        maxReplayEvents: fc.constantFrom(0, 3, 10_000),
        clientBufferSize: fc.constantFrom(1, 3, 256),
        clientBufferBytes: fc.constantFrom(700, 100_000, 1024 * 1024),
        overflow: fc.constantFrom('disconnect' as const, 'drop-oldest' as const, 'drop-newest' as const),
        connectedEvent: fc.boolean(),
      }),
      async (script, options) => {
        await play(options, script);
      },
    ),
    { numRuns: 250 },
  );
});

test('with ttls and enough history: no gap, nothing handed over too late, nothing missing but what had expired', async () => {
  let expired = 0;
  await fc.assert(
    fc.asyncProperty(expiring, fc.constantFrom(256, 4), async (script, clientBufferSize) => {
      const lives = await play({ historySize: 10_000, clientBufferSize }, script);
      expect(lives.flatMap((life) => life.admitted)).toEqual([]);
      for (const life of lives) expired += life.passedAt.length - life.seen.length;
    }),
    { numRuns: 40 },
  );
  expect(expired).toBeGreaterThan(0);
});

test('with ttls and too little history: each gap is told for an event that was lost and had not expired', async () => {
  let gaps = 0;
  await fc.assert(
    fc.asyncProperty(
      expiring,
      fc.record({
        historySize: fc.integer({ min: 1, max: 6 }),
        historyBytes: fc.constantFrom(0, 1_500, 300_000),
        maxReplayEvents: fc.constantFrom(0, 3, 10_000),
        clientBufferSize: fc.constantFrom(3, 256),
        overflow: fc.constantFrom('disconnect' as const, 'drop-oldest' as const, 'drop-newest' as const),
      }),
      async (script, options) => {
        const lives = await play(options, script);
        gaps += lives.flatMap(({ admitted }) => admitted).length;
      },
    ),
    { numRuns: 60 },
  );
  expect(gaps).toBeGreaterThan(0);
});
