/**
 * What every bus must do, as named cases for any test runner: the contract in src/core/bus.ts, executed.
 *
 * A case makes a bus of its own through `create`, uses only the contract, and fails by an AssertionError of Node. What a
 * bus cannot do (keep history, share a namespace between nodes, survive a restart) is left out by what its fixture
 * declares, never skipped in silence: the names of the cases say what ran.
 */
import assert from 'node:assert/strict';
import type { Bus, ReadResult } from '../core/bus.js';
import { EVENT_ID } from '../core/bus.js';
import { isSseError } from '../core/errors.js';
import type { BusEvent } from '../core/event.js';
import { outgoing, Recorder } from './bus-recorder.js';
import { ManualClock } from './manual-clock.js';

/** How a case wants its bus. */
export interface BusSetup {
  /** Events per channel key; 0 only where `keepsNoHistory` was declared. */
  readonly historySize: number;
  /** Undefined: more than the case can fill. */
  readonly historyBytes?: number | undefined;
  /** Undefined: no age limit. */
  readonly historyTtl?: number | undefined;
  /** For buses that take one; the others leave `ages` undeclared. */
  readonly clock: ManualClock;
}

/** A bus as one case uses it, not started, of a namespace that no other case uses. */
export interface BusFixture {
  readonly bus: Bus;
  /** Resolves when what retention drops by now is dropped; needed where that is not at once. */
  settle?(): void | Promise<void>;
  /** One more node on the same namespace, not started. Needed with `shared`. */
  another?(): Bus | Promise<Bus>;
  /** A new bus over the same history, not started; the case has closed the one before. Needed with `durable`. */
  reopen?(): Bus | Promise<Bus>;
  /** Makes publishing fail from now on. Needed with `breaks`. */
  breakCarrier?(): void | Promise<void>;
  /** Undoes that. Needed with `breaks`. */
  mendCarrier?(): void | Promise<void>;
  /** Called at the end of the case, after the buses were closed. */
  dispose?(): void | Promise<void>;
}

export interface BusConformanceOptions {
  create(setup: BusSetup): BusFixture | Promise<BusFixture>;
  /** Keeps history with `historySize` above 0. Default true. */
  readonly history?: boolean | undefined;
  /** May be told to keep none (`historySize` 0). Default true. */
  readonly keepsNoHistory?: boolean | undefined;
  /** Drops by age, on `setup.clock`. Default true. */
  readonly ages?: boolean | undefined;
  /** Drops by bytes. Default true. */
  readonly limitsBytes?: boolean | undefined;
  /** Serves several nodes; fixtures have `another`. Default false. */
  readonly shared?: boolean | undefined;
  /** Keeps its history over a restart; fixtures have `reopen`. Default false. */
  readonly durable?: boolean | undefined;
  /** Its carrier can fail; fixtures have `breakCarrier` and `mendCarrier`. Default false. */
  readonly breaks?: boolean | undefined;
  /** How long a case waits for anything, in ms. Default 5 000. */
  readonly timeoutMs?: number | undefined;
}

/** One thing that a bus must do. */
export interface BusCase {
  readonly name: string;
  /** Rejects where the bus does not. */
  run(): Promise<void>;
}

/** What a case has at hand. */
interface Bench {
  readonly clock: ManualClock;
  readonly fixture: BusFixture;
  /** Starts a bus, and closes it when the case ends. */
  start(bus: Bus, ...keys: string[]): Promise<Recorder>;
  settle(): Promise<void>;
}

type Test = (node: Recorder, bench: Bench) => Promise<void>;

const A = 't::a';
const B = 't::b';
const QUIET = 'u::quiet';
const ROOMY = 1_000;

const numbers = (count: number, from = 1): string[] => Array.from({ length: count }, (_, i) => String(from + i));
const dataOf = (events: readonly BusEvent[]): string[] => events.map(({ data }) => data);

/**
 * The cases that a bus with these abilities must pass.
 *
 * @example
 * for (const { name, run } of busConformance({ create: () => ({ bus: new MyBus() }) })) test(name, run);
 */
export function busConformance(options: BusConformanceOptions): BusCase[] {
  const { history = true, keepsNoHistory = true, ages = true, limitsBytes = true } = options;
  const { shared = false, durable = false, breaks = false, timeoutMs = 5_000 } = options;
  const cases: BusCase[] = [];

  const add = (name: string, setup: Partial<Omit<BusSetup, 'clock'>>, test: Test): void => {
    const run = async (): Promise<void> => {
      const clock = new ManualClock(Date.now());
      const fixture = await options.create({ historySize: history ? ROOMY : 0, ...setup, clock });
      const started: Bus[] = [];
      const start = (bus: Bus, ...keys: string[]): Promise<Recorder> => {
        started.push(bus);
        return Recorder.start(bus, keys, timeoutMs);
      };
      try {
        const node = await start(fixture.bus, A, B, QUIET);
        await test(node, { clock, fixture, start, settle: async () => fixture.settle?.() });
      } finally {
        for (const bus of started) await bus.close();
        await fixture.dispose?.();
      }
    };
    cases.push({ name, run });
  };

  addDelivery(add);
  if (history) addHistory(add);
  if (history && ages) addAges(add);
  if (history && limitsBytes) addBytes(add);
  if (keepsNoHistory) addNoHistory(add);
  if (shared) addShared(add, history);
  if (durable) addDurable(add);
  if (breaks) addBreaks(add, history);
  addClose(add);
  return cases;
}

type Add = (name: string, setup: Partial<Omit<BusSetup, 'clock'>>, test: Test) => void;

function addDelivery(add: Add): void {
  add('order: events are delivered in the order of publishing, over all keys', {}, async (node) => {
    for (let i = 1; i <= 30; i++) await node.publish(i % 3 === 0 ? A : i % 3 === 1 ? B : QUIET, String(i));
    assert.deepEqual(dataOf(await node.delivered(30)), numbers(30));
    assertGrowing(node.events);
  });

  add('order: publishes that are not awaited keep the order of their calls', {}, async (node) => {
    const ids = await Promise.all(numbers(200).map((data) => node.bus.publish(outgoing(data > '5' ? A : B, data))));
    assert.deepEqual(dataOf(await node.delivered(200)), numbers(200));
    assert.deepEqual(
      node.events.map(({ id }) => id),
      ids,
      'each publish resolves with the id of its own event',
    );
  });

  add('once: an event is delivered once, to its publisher too', {}, async (node) => {
    await node.publish(A, ...numbers(10));
    await node.publish(B, 'end');
    await node.delivered(1, B);
    assert.deepEqual(node.dataOf(A), numbers(10));
  });

  add('ids match [A-Za-z0-9._~-]{1,128} and differ', {}, async (node) => {
    const ids = [...(await node.publish(A, ...numbers(20))), (await node.bus.head()).id];
    for (const id of ids) assert.match(id, EVENT_ID);
    assert.equal(new Set(ids.slice(0, 20)).size, 20);
  });

  add('an event arrives as it was published', {}, async (node) => {
    const texts = [
      '',
      ' ',
      'plain',
      'two\r\nlines\rthree\n',
      'nul \0 inside',
      'ünïcödé 🎈 \u2028',
      'x'.repeat(300_000),
    ];
    for (const data of texts) await node.bus.publish(outgoing(A, data));
    const more = { event: 'näme: 1', json: true, timestamp: 1_700_000_000_000.5, expiresAt: 1_800_000_000_001 };
    const id = await node.bus.publish(outgoing('t:ten%20ant:x:y z', '{"a":1}', more));
    await node.bus.join('t:ten%20ant:x:y z');
    await node.bus.publish(outgoing('t:ten%20ant:x:y z', '{"a":1}', more));
    const events = await node.delivered(texts.length, A);
    assert.deepEqual(dataOf(events), texts);
    const last = (await node.delivered(1, 't:ten%20ant:x:y z')).at(-1)!;
    const { event, data, json, timestamp, expiresAt, key, frame } = last;
    assert.deepEqual({ event, data, json, timestamp, expiresAt, key }, { ...outgoing(key, '{"a":1}', more) });
    assert.equal(frame, undefined, '`frame` is the broker’s to set');
    assert.notEqual(last.id, id);
  });

  add('interest: after join has returned no event of the key is missed', {}, async (node) => {
    for (let round = 0; round < 20; round++) {
      const key = `t::joined-${round}`;
      await node.bus.join(key);
      await node.publish(key, 'first');
      assert.deepEqual(dataOf(await node.delivered(1, key)), ['first']);
    }
  });

  add('interest: joining twice delivers once; leaving and joining again delivers again', {}, async (node) => {
    await node.bus.join(A);
    await node.publish(A, '1');
    await node.delivered(1, A);
    node.bus.leave(A);
    node.bus.leave('t::never-joined');
    await node.bus.join(A);
    await node.publish(A, '2');
    await node.publish(B, 'end');
    await node.delivered(1, B);
    assert.deepEqual(node.dataOf(A), ['1', '2']);
  });

  add('publishing from inside deliver keeps the order', {}, async (node) => {
    const published: Promise<string>[] = [];
    const deliver = node.deliver.bind(node);
    node.deliver = (event) => {
      deliver(event);
      if (event.data.length < 4) {
        published.push(Promise.resolve(node.bus.publish(outgoing(B, `${event.data}x`))));
      }
    };
    await node.publish(A, 'x');
    await node.delivered(3, B);
    await Promise.all(published);
    assertGrowing(node.events);
    assert.deepEqual(node.dataOf(B), ['xx', 'xxx', 'xxxx']);
  });

  add('head: is the newest event, and a cursor that misses nothing', {}, async (node) => {
    const empty = await node.bus.head();
    assert.match(empty.id, EVENT_ID);
    const nothing = await node.read([A], empty.id);
    assert.deepEqual([nothing.events, nothing.more, nothing.loss], [[], false, undefined]);
    await node.publish(A, '1', '2');
    const [, newest] = await node.delivered(2);
    const head = await node.bus.head();
    assert.equal(head.sequence, newest!.sequence);
    const after = await node.read([A], head.id);
    assert.deepEqual([after.events, after.more, after.loss], [[], false, undefined]);
    assert.equal((await node.read([A], newest!.id)).loss, undefined);
  });

  add('status: a started bus is up and has said so', {}, async (node) => {
    assert.equal(node.bus.status().state, 'up');
    await node.eventually(() => node.statuses.at(-1)?.state === 'up', 'status to be told');
    assert.equal(typeof node.bus.name, 'string');
  });
}

function addHistory(add: Add): void {
  add('read: gives what came after an id, of the asked keys, in order', {}, async (node) => {
    const ids: string[] = [];
    for (let i = 1; i <= 12; i++) ids.push(...(await node.publish([A, B, QUIET][i % 3]!, String(i))));
    const { events, more, loss } = await node.read([A, B], ids[3]!);
    assert.deepEqual(dataOf(events), ['6', '7', '9', '10', '12']);
    assert.deepEqual([more, loss], [false, undefined]);
    assertGrowing(events);
    assert.deepEqual(dataOf((await node.read([A], ids[11]!)).events), []);
  });

  add('read: an event is the same as when it was delivered', {}, async (node) => {
    const { id } = await node.bus.head();
    const texts = ['', 'nul \0', 'a\r\nb', '🎈', 'y'.repeat(100_000)];
    for (const data of texts)
      await node.bus.publish(outgoing(A, data, { json: data === '', expiresAt: 7, timestamp: 0.5 }));
    const live = await node.delivered(texts.length);
    const { events } = await node.read([A], id);
    assert.deepEqual(
      events.map((event) => ({ ...event, frame: undefined })),
      live.map((event) => ({ ...event, frame: undefined })),
    );
  });

  add('read: with no keys, or keys that never had an event, there is nothing and nothing is lost', {}, async (node) => {
    const { id } = await node.bus.head();
    await node.publish(A, '1');
    for (const keys of [[], ['t::never']]) {
      const { events, more, loss } = await node.read(keys, id);
      assert.deepEqual([events, more, loss], [[], false, undefined]);
    }
  });

  add('read: pages of any size join to the whole, also while others publish', {}, async (node) => {
    const { id } = await node.bus.head();
    for (let i = 1; i <= 24; i++) await node.publish(i % 2 === 0 ? A : B, String(i));
    for (const limit of [1, 5, 8, 12, 24, 100]) {
      const { events, loss } = await node.readAll([A, B], id, limit);
      assert.deepEqual(dataOf(events), numbers(24), `limit ${limit}`);
      assert.equal(loss, undefined);
    }
    const exact = await node.read([A, B], id, { limit: 24 });
    assert.deepEqual([exact.events.length, exact.more], [24, false], 'nothing follows the last event');
  });

  add('read: beyond `max` only the newest are served, and that is told', {}, async (node) => {
    const { id } = await node.bus.head();
    await node.publish(A, ...numbers(10));
    const ids = node.events.map((event) => event.id);
    const all = await node.read([A], id, { max: 10 });
    assert.deepEqual([all.events.length, all.loss], [10, undefined], 'exactly `max` is no loss');
    const some = await node.read([A], id, { max: 4, limit: 3 });
    assert.deepEqual([dataOf(some.events), some.more, some.loss], [['7', '8', '9'], true, 'evicted']);
    assert.equal(await sequenceAfter(node, some), 7, 'nothing is missing after `completeAfter`');
    assert.deepEqual(dataOf((await node.read([A], ids[8]!)).events), ['10']);
  });

  add(
    'evicted: a loss is told exactly where an event of those keys was dropped',
    { historySize: 5 },
    async (node, bench) => {
      const { id: start } = await node.bus.head();
      await node.publish(QUIET, 'q');
      await node.publish(A, ...numbers(12));
      await node.delivered(13);
      await bench.settle();
      const ids = [start, ...node.of(A).map((event) => event.id)];
      for (let seen = 0; seen <= 12; seen++) {
        const { events, loss } = await node.read([A], ids[seen]!);
        // A bus may keep more than it was told to; what it serves and what it tells must agree.
        const expected = numbers(12 - seen, seen + 1);
        if (loss === undefined) assert.deepEqual(dataOf(events), expected, `after ${seen}`);
        else {
          assert.equal(loss, 'evicted');
          assert.ok(seen < 7, `nothing after ${seen} was dropped`);
          assert.deepEqual(
            dataOf(events),
            expected.slice(-events.length),
            'what is served is the newest, without holes',
          );
          assert.ok(events.length >= 5 && events.length < expected.length);
        }
        if (seen === 0) assert.equal(loss, 'evicted');
      }
      const quiet = await node.read([QUIET], start);
      assert.deepEqual([dataOf(quiet.events), quiet.loss], [['q'], undefined], 'a busy key evicts no quiet one');
      assert.equal((await node.read([QUIET, A], start)).loss, 'evicted');
    },
  );

  add('evicted: nothing is missing after `completeAfter`', { historySize: 5 }, async (node, bench) => {
    const { id } = await node.bus.head();
    for (let i = 1; i <= 20; i++) await node.publish(i % 2 === 0 ? A : B, String(i));
    await node.delivered(20);
    await bench.settle();
    const result = await node.read([A, B], id);
    assert.equal(result.loss, 'evicted');
    const from = await sequenceAfter(node, result);
    const complete = node.events.filter((event) => Number(event.data) >= from);
    assert.deepEqual(dataOf(result.events.filter((event) => Number(event.data) >= from)), dataOf(complete));
  });

  add('unknown: what no bus made is told as a loss, and breaks nothing', {}, async (node) => {
    const [id] = await node.publish(A, '1');
    const garbage = [
      '',
      ' ',
      '-',
      '0',
      'garbage',
      'x'.repeat(128),
      `${id}0000000`,
      `${id}-`,
      `x${id}`,
      '\0\r\n',
      '../..',
    ];
    for (const after of garbage) {
      const { events, loss, completeAfter, head } = await node.read([A], after);
      assert.ok(loss === 'unknown' || loss === 'epoch', `${JSON.stringify(after)} is told as a loss; got ${loss}`);
      assert.equal((await node.read([A], completeAfter ?? head.id)).loss, undefined);
      assertGrowing(events);
    }
  });

  add('two readers of one page get the same event objects', {}, async (node) => {
    const { id } = await node.bus.head();
    await node.publish(A, ...numbers(10));
    const [first, second] = [await node.read([A], id), await node.read([A], id)];
    // Encoded frames are kept with the event: a thousand clients that resume share them.
    for (const [i, event] of first.events.entries()) assert.equal(event, second.events[i]);
  });

  add('cut points: history up to the head and then live is everything, once', {}, async (node) => {
    const keys = [A, B];
    const { id: start } = await node.bus.head();
    let isPublishing = true;
    const published: Promise<string>[] = [];
    const publisher = (async () => {
      for (let i = 1; i <= 400; i++) {
        published.push(Promise.resolve(node.bus.publish(outgoing(keys[i % 2]!, String(i)))));
        if (i % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      await Promise.all(published);
      isPublishing = false;
    })();
    const readers: { readonly seen: string[]; readonly head: number }[] = [];
    while (isPublishing) {
      const { events, loss, head } = await node.readAll(keys, start, 13);
      assert.equal(loss, undefined);
      readers.push({ seen: dataOf(events), head: head.sequence });
      await new Promise((resolve) => setImmediate(resolve));
    }
    await publisher;
    await node.delivered(400);
    assert.ok(readers.length > 1);
    for (const { seen, head } of readers) {
      const live = node.events.filter((event) => event.sequence > head);
      assert.deepEqual([...seen, ...dataOf(live)], numbers(400));
    }
  });
}

function addAges(add: Add): void {
  add(
    'age: an event is forgotten after `historyTtl`, not before',
    { historyTtl: 60_000 },
    async (node, { clock, settle }) => {
      const { id } = await node.bus.head();
      await node.publish(A, 'old');
      clock.advance(30_000);
      await node.publish(B, 'young');
      clock.advance(29_000);
      await settle();
      const before = await node.read([A, B], id);
      assert.deepEqual([dataOf(before.events), before.loss], [['old', 'young'], undefined]);
      clock.advance(2_000);
      await settle();
      // A bus may look only now and then.
      clock.advance(25_000);
      await settle();
      const after = await node.read([A, B], id);
      assert.deepEqual([dataOf(after.events), after.loss], [['young'], 'evicted']);
      const young = await node.read([B], id);
      assert.deepEqual(
        [dataOf(young.events), young.loss],
        [['young'], undefined],
        'no gap for a key that lost nothing',
      );
      clock.advance(120_000);
      await settle();
      assert.equal((await node.read([A], id)).loss, 'evicted', 'an emptied key is remembered');
      assert.equal((await node.read([A], node.of(A)[0]!.id)).loss, undefined);
    },
  );
}

function addBytes(add: Add): void {
  add(
    'bytes: the oldest go first, whatever their key, and that is told',
    { historyBytes: 50_000 },
    async (node, { settle }) => {
      const { id } = await node.bus.head();
      await node.publish(QUIET, 'q');
      const big = 'x'.repeat(1_000);
      for (let i = 1; i <= 200; i++) await node.bus.publish(outgoing(i % 2 === 0 ? A : B, `${i} ${big}`));
      await node.delivered(201);
      await settle();
      const { events, loss } = await node.read([A, B], id);
      assert.equal(loss, 'evicted');
      assert.ok(events.length > 5 && events.length < 100, `${events.length} events of 1 kB in 50 kB`);
      assert.deepEqual(dataOf(events), dataOf(node.of(A, B).slice(-events.length)));
      const quiet = await node.read([QUIET], id);
      assert.deepEqual([quiet.events, quiet.loss], [[], 'evicted'], 'an emptied key is remembered');
      assert.equal((await node.read([QUIET], node.of(QUIET)[0]!.id)).loss, undefined);
      assert.equal((await node.read(['t::never'], id)).loss, undefined);
    },
  );
}

function addNoHistory(add: Add): void {
  add(
    'disabled: without history a loss is told where something was published since',
    { historySize: 0 },
    async (node) => {
      const { id } = await node.bus.head();
      const nothing = await node.read([A, B], id);
      assert.deepEqual([nothing.events, nothing.loss], [[], undefined]);
      const [one] = await node.publish(A, '1');
      assert.equal((await node.read([A, B], id)).loss, 'disabled');
      assert.equal((await node.read([B], id)).loss, undefined);
      assert.equal((await node.read([A, B], one!)).loss, undefined);
    },
  );
}

function addShared(add: Add, history: boolean): void {
  add('shared: every node sees the same order and each event once', {}, async (node, { fixture, start }) => {
    const other = await start(await fixture.another!(), A, B, QUIET);
    const publishing = numbers(100).map((data) => [
      node.bus.publish(outgoing(A, `n${data}`)),
      other.bus.publish(outgoing(B, `o${data}`)),
    ]);
    await Promise.all(publishing.flat());
    await node.delivered(200);
    await other.delivered(200);
    assert.deepEqual(
      node.events.map(({ id }) => id),
      other.events.map(({ id }) => id),
    );
    assertGrowing(node.events);
    assert.equal(new Set(dataOf(node.events)).size, 200);
    for (const [key, letter] of [
      [A, 'n'],
      [B, 'o'],
    ] as const) {
      assert.deepEqual(
        node.dataOf(key),
        numbers(100).map((data) => letter + data),
        'each publisher’s own order',
      );
    }
  });

  add(
    'shared: a node that has joined a key misses nothing that another publishes',
    {},
    async (node, { fixture, start }) => {
      const other = await start(await fixture.another!());
      for (let round = 0; round < 10; round++) {
        const key = `t::round-${round}`;
        await other.bus.join(key);
        await node.publish(key, 'first');
        assert.deepEqual(dataOf(await other.delivered(1, key)), ['first']);
      }
    },
  );

  if (!history) return;
  add('shared: an id of one node is understood by the others', {}, async (node, { fixture, start }) => {
    const [id] = await node.publish(A, '1', '2');
    const other = await start(await fixture.another!());
    const { events, loss } = await other.read([A], id!);
    assert.deepEqual([dataOf(events), loss], [['2'], undefined]);
    assert.equal((await other.bus.head()).sequence, (await node.bus.head()).sequence);
  });
}

function addDurable(add: Add): void {
  add('durable: after a restart the same ids lead on, without a gap', {}, async (node, { fixture, start }) => {
    const { id: empty } = await node.bus.head();
    const ids = await node.publish(A, ...numbers(5));
    const head = await node.bus.head();
    await node.bus.close();
    const again = await start(await fixture.reopen!(), A, B);
    assert.deepEqual(await again.bus.head(), head);
    const { events, loss } = await again.read([A], ids[1]!);
    assert.deepEqual([dataOf(events), loss], [['3', '4', '5'], undefined]);
    assert.deepEqual(
      events.map(({ id }) => id),
      ids.slice(2),
    );
    const [next] = await again.publish(A, '6');
    assert.deepEqual(dataOf((await again.read([A], head.id)).events), ['6']);
    const [six] = await again.delivered(1);
    assert.ok(six!.sequence > head.sequence);
    await again.bus.close();
    const third = await start(await fixture.reopen!(), A);
    assert.deepEqual(dataOf((await third.readAll([A], empty, 2)).events), numbers(6));
    assert.equal((await third.read([A], next!)).loss, undefined);
  });

  add('durable: what was dropped is told after a restart too, exactly', { historySize: 3 }, async (node, bench) => {
    const { id: start } = await node.bus.head();
    await node.publish(QUIET, 'q');
    const ids = await node.publish(A, ...numbers(9));
    await bench.settle();
    await node.bus.close();
    const again = await bench.start(await bench.fixture.reopen!());
    await bench.settle();
    assert.equal((await again.read([A], start)).loss, 'evicted');
    const kept = await again.read([A], ids[5]!);
    assert.deepEqual([dataOf(kept.events), kept.loss], [['7', '8', '9'], undefined]);
    const quiet = await again.read([QUIET], start);
    assert.deepEqual([dataOf(quiet.events), quiet.loss], [['q'], undefined]);
    assert.equal((await again.read(['t::never'], start)).loss, undefined);
  });
}

function addBreaks(add: Add, history: boolean): void {
  add(
    'down: publishing rejects with a retryable error, the state says why, and it recovers',
    {},
    async (node, { fixture, clock }) => {
      const { id } = await node.bus.head();
      await node.publish(A, 'before');
      await fixture.breakCarrier!();
      await assert.rejects(
        // Large: a carrier that is nearly full must not squeeze it in.
        async () => node.bus.publish(outgoing(A, `during ${'x'.repeat(200_000)}`)),
        (error) => isSseError(error) && error.code === 'SSE_ERR_BUS_UNAVAILABLE' && error.retryable,
      );
      await node.eventually(() => node.statuses.at(-1)?.state === 'down', 'status down');
      assert.equal(node.bus.status().state, 'down');
      assert.ok(node.bus.status().reason, 'the reason is given');
      await fixture.mendCarrier!();
      await node.eventually(() => {
        clock.advance(1_000);
        return node.bus.status().state === 'up';
      }, 'the bus to recover by itself');
      assert.equal(node.statuses.at(-1)?.state, 'up');
      await node.publish(A, 'after');
      // What was rejected may have got through, or not; what was resolved has.
      const delivered = (await node.delivered(2)).map(({ data }) => data).filter((data) => !data.startsWith('during'));
      assert.deepEqual(delivered, ['before', 'after']);
      assertGrowing(node.events);
      if (!history) return;
      const { events, loss } = await node.read([A], id);
      assert.deepEqual([dataOf(events), loss], [dataOf(node.events), undefined]);
    },
  );
}

function addClose(add: Add): void {
  add('close: may be called twice, and nothing is delivered after it', {}, async (node) => {
    const publishing = numbers(20).map(async (data) => node.bus.publish(outgoing(A, data)));
    await Promise.all([node.bus.close(), node.bus.close()]);
    const delivered = node.events.length;
    await node.bus.close();
    publishing.push((async () => node.bus.publish(outgoing(A, 'late')))());
    for (const result of await Promise.allSettled(publishing)) {
      if (result.status === 'rejected') assert.ok(isSseError(result.reason), String(result.reason));
    }
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(node.events.length, delivered);
    assert.ok(!node.dataOf().includes('late'));
  });
}

function assertGrowing(events: readonly BusEvent[]): void {
  for (let i = 1; i < events.length; i++) {
    assert.ok(events[i - 1]!.sequence < events[i]!.sequence, 'sequences grow with every event');
  }
}

/** The number in the first event that is served after `completeAfter`; all after it are there, without a loss. */
async function sequenceAfter(node: Recorder, { completeAfter, head }: ReadResult): Promise<number> {
  const rest = await node.read([A, B], completeAfter ?? head.id);
  assert.equal(rest.loss, undefined);
  return Number(rest.events[0]?.data ?? Number.POSITIVE_INFINITY);
}
