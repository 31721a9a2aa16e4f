import assert from 'node:assert/strict';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { BusReceiver, ReadResult } from '../../src/core/bus.js';
import { EVENT_ID } from '../../src/core/bus.js';
import type { BusEvent, OutgoingEvent } from '../../src/core/event.js';
import { MemoryBus, type MemoryBusOptions } from '../../src/core/memory-bus.js';
import { anyText } from '../support/any-text.js';
import { collectGarbage } from '../support/garbage.js';
import { ManualClock } from '../support/manual-clock.js';

const KEYS = ['e::', 'u::ann', 'u::bob', 't::a', 't:acme:a'] as const;

function outgoing(key: string, data = ''): OutgoingEvent {
  return { key, event: 'n', data, json: false, timestamp: 0, expiresAt: 0 };
}

function started(options: MemoryBusOptions = {}) {
  const delivered: BusEvent[] = [];
  const bus = new MemoryBus(options);
  const receiver: BusReceiver = {
    deliver: (event) => delivered.push(event),
    lost: () => expect.unreachable(),
    status: () => {},
    error: () => expect.unreachable(),
  };
  bus.start(receiver);
  return { bus, delivered };
}

const numberOf = (id: string): number => Number(id.slice(id.lastIndexOf('-') + 1));

/** The id of a sequence of that bus. */
const idOf = (bus: MemoryBus, sequence: number): string => bus.head().id.replace(/[0-9]+$/, String(sequence));

const read = (bus: MemoryBus, keys: readonly string[], after: string, limit = 1_000_000, max = 0): ReadResult =>
  bus.read({ keys, after, limit, max });

const sequences = (result: ReadResult): number[] => result.events.map(({ sequence }) => sequence);

test('events are delivered at once, in one order over all keys, each with its own id', () => {
  const { bus, delivered } = started();
  const ids = ['e::', 'u::ann', 'e::', 't::a'].map((key, i) => bus.publish(outgoing(key, String(i))));
  expect(delivered.map(({ id }) => id)).toEqual(ids);
  expect(delivered.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4]);
  expect(delivered.map(({ data }) => data)).toEqual(['0', '1', '2', '3']);
  for (const id of ids) expect(id).toMatch(EVENT_ID);
  expect(bus.head()).toEqual({ id: ids[3], sequence: 4 });
});

test('publish returns after the delivery, and what a delivery publishes comes next', () => {
  const bus = new MemoryBus({ historySize: 10 });
  const order: number[] = [];
  bus.start({
    deliver: ({ sequence, key }) => {
      order.push(sequence);
      if (key === 'first') bus.publish(outgoing('second'));
    },
    lost: () => {},
    status: () => {},
    error: () => {},
  });
  bus.publish(outgoing('first'));
  expect(order).toEqual([1, 2]);
  expect(sequences(read(bus, ['first', 'second'], idOf(bus, 0)))).toEqual([1, 2]);
});

test('after close nothing is delivered, and closing twice is fine', () => {
  const { bus, delivered } = started({ historySize: 5, historyTtl: 1_000 });
  bus.publish(outgoing('e::'));
  bus.close();
  bus.close();
  bus.publish(outgoing('e::'));
  expect(delivered.length).toBe(1);
});

type Action =
  | { do: 'publish'; key: number; size: number }
  | { do: 'wait'; ms: number }
  | { do: 'read'; keys: string[]; after: number; limit: number; max: number };

const actions: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constant('publish' as const), key: fc.nat(KEYS.length - 1), size: fc.nat(300) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(1, 100, 250, 500) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('read' as const),
      keys: fc.subarray([...KEYS, 't::never'], { minLength: 1 }),
      after: fc.nat(100),
      limit: fc.constantFrom(1, 2, 7, 1_000),
      max: fc.constantFrom(0, 0, 1, 3, 1_000),
    }),
  },
);

interface Stored {
  readonly sequence: number;
  readonly key: string;
  readonly at: number;
}

test('history is exact: what is kept is served in order, what is missing is told, and nothing else is', () => {
  fc.assert(
    fc.property(
      fc.array(actions, { minLength: 10, maxLength: 120, size: 'max' }),
      fc.record({
        historySize: fc.constantFrom(0, 1, 2, 5, 1_000),
        historyBytes: fc.constantFrom(0, 900, 3_000, 1e6),
        historyTtl: fc.constantFrom(0, 0, 500, 2_000),
      }),
      (script, options) => {
        const clock = new ManualClock();
        const { bus } = started({ ...options, clock });
        const all: Stored[] = [];
        for (const action of script) {
          if (action.do === 'publish') {
            const key = KEYS[action.key]!;
            bus.publish(outgoing(key, 'x'.repeat(action.size)));
            all.push({ sequence: all.length + 1, key, at: clock.now() });
            continue;
          }
          if (action.do === 'wait') {
            clock.advance(action.ms);
            continue;
          }
          const { keys, limit, max } = action;
          const after = action.after % (all.length + 1);
          // What is kept of each key, as the bus itself says from the very beginning.
          const kept = new Set(KEYS.flatMap((key) => sequences(read(bus, [key], idOf(bus, 0)))));
          checkRetention(bus, all, kept, options, clock.now());

          const mine = all.filter(({ key, sequence }) => keys.includes(key) && sequence > after);
          const available = mine.filter(({ sequence }) => kept.has(sequence)).map(({ sequence }) => sequence);
          const served = max > 0 ? available.slice(-max) : available;
          const missing = mine.map(({ sequence }) => sequence).filter((sequence) => !served.includes(sequence));
          const got: number[] = [];
          let cursor = idOf(bus, after);
          let result = read(bus, keys, cursor, limit, max);
          assert.equal(
            result.loss,
            missing.length === 0 ? undefined : options.historySize === 0 ? 'disabled' : 'evicted',
          );
          // Nothing is missing after it, and something is just there.
          if (missing.length > 0) assert.equal(numberOf(result.completeAfter!), missing.at(-1));
          else assert.equal(result.completeAfter, undefined);
          for (;;) {
            assert(result.events.length <= limit);
            assert.deepEqual(result.head, bus.head());
            got.push(...sequences(result));
            if (!result.more) break;
            assert(result.events.length > 0, 'more follows, so there is some');
            cursor = result.events.at(-1)!.id;
            result = read(bus, keys, cursor, limit, 0);
          }
          assert.deepEqual(got, served);
        }
        bus.close();
        expect(clock.timers).toBe(0);
      },
    ),
    { numRuns: 200 },
  );
});

function checkRetention(
  bus: MemoryBus,
  all: readonly Stored[],
  kept: ReadonlySet<number>,
  { historySize, historyBytes, historyTtl }: Required<Omit<MemoryBusOptions, 'clock'>> & object,
  now: number,
): void {
  const { historyKeys, historyEvents, historyBytes: bytes } = bus.status().details as Record<string, number>;
  let keys = 0;
  for (const key of KEYS) {
    const mine = all.filter((stored) => stored.key === key);
    const keptOfKey = mine.filter(({ sequence }) => kept.has(sequence));
    if (keptOfKey.length > 0) keys++;
    assert(keptOfKey.length <= historySize!);
    assert.deepEqual(keptOfKey, mine.slice(mine.length - keptOfKey.length), 'the newest of a key');
  }
  assert.deepEqual({ historyKeys, historyEvents }, { historyKeys: keys, historyEvents: kept.size });
  assert(historyBytes === 0 || bytes! <= historyBytes!);
  assert(kept.size > 0 || bytes === 0);
  // Beyond what a key's own limit took, bytes and age take the oldest of all.
  const withinSize = all.filter(
    ({ key, sequence }) =>
      historySize! > 0 && all.filter((one) => one.key === key && one.sequence > sequence).length < historySize!,
  );
  const young = historyTtl! > 0 ? withinSize.filter(({ at }) => at > now - historyTtl!) : withinSize;
  const dropped = young.filter(({ sequence }) => !kept.has(sequence));
  if (historyBytes === 0) assert.deepEqual(dropped, []);
  const oldestKept = Math.min(...kept);
  for (const { sequence } of dropped) assert(sequence < oldestKept, 'the oldest of all');
  for (const { sequence, at } of all) {
    assert(!kept.has(sequence) || historyTtl === 0 || at > now - historyTtl!, 'young enough');
  }
}

test('a busy key does not push a quiet one out', () => {
  const { bus } = started({ historySize: 3 });
  bus.publish(outgoing('t::quiet'));
  for (let i = 0; i < 100; i++) bus.publish(outgoing('t::busy'));
  const quiet = read(bus, ['t::quiet'], idOf(bus, 0));
  expect(sequences(quiet)).toEqual([1]);
  expect(quiet.loss).toBeUndefined();
  expect(read(bus, ['t::busy'], idOf(bus, 0)).loss).toBe('evicted');
});

test('ids that are none of this bus are told apart: of another bus, of the future, and garbage', () => {
  const { bus } = started({ historySize: 5 });
  const { bus: other } = started({ historySize: 5 });
  bus.publish(outgoing('e::'));
  other.publish(outgoing('e::'));
  const lossOf = (after: string) => {
    const result = read(bus, ['e::'], after);
    if (result.loss !== undefined) {
      expect(result.events).toEqual([]);
      expect(result.more).toBe(false);
      expect(result.completeAfter).toBe(result.head.id);
    }
    return result.loss;
  };
  expect(lossOf(other.head().id)).toBe('epoch');
  expect(lossOf(idOf(bus, 1))).toBeUndefined();
  expect(lossOf(idOf(bus, 2))).toBe('unknown');
  const prefix = idOf(bus, 0).slice(0, -1);
  const garbage = [
    '',
    '-',
    '7',
    `${prefix}`,
    `${prefix}01`,
    `${prefix}-1`,
    `${prefix}1x`,
    `${prefix}1\n`,
    `${prefix}1e0`,
  ];
  for (const id of [...garbage, `${prefix}9999999999999999`, `${prefix}${'9'.repeat(400)}`, 'a b-1', '\u{1F600}-1']) {
    expect(lossOf(id), JSON.stringify(id)).toBe('unknown');
  }
  fc.assert(
    fc.property(anyText(20), (id) => {
      expect(lossOf(id)).toMatch(/^(unknown|epoch)$/);
    }),
  );
});

test('two buses never share an epoch, also in the same process and millisecond', () => {
  const clock = new ManualClock();
  const prefixes = Array.from({ length: 200 }, () => new MemoryBus({ clock }).head().id);
  expect(new Set(prefixes).size).toBe(200);
  for (const id of prefixes) expect(id).toMatch(EVENT_ID);
});

test('keys that were emptied are forgotten, and what they lost is not', () => {
  const clock = new ManualClock();
  const { bus } = started({ historySize: 10, historyTtl: 1_000, clock });
  for (let i = 0; i < 500; i++) bus.publish(outgoing(`u::${i}`));
  expect(bus.status().details).toMatchObject({ historyKeys: 500, historyEvents: 500 });
  expect(clock.timers).toBe(1);
  clock.advance(2_000);
  expect(bus.status().details).toEqual({ historyKeys: 0, historyEvents: 0, historyBytes: 0 });
  expect(clock.timers).toBe(0);
  expect(read(bus, ['u::3'], idOf(bus, 2)).loss).toBe('evicted');
  expect(read(bus, ['u::3'], idOf(bus, 4)).loss).toBeUndefined();
  expect(read(bus, ['u::new'], idOf(bus, 0)).loss).toBeUndefined();
  // A key that comes back still knows.
  bus.publish(outgoing('u::3'));
  expect(read(bus, ['u::3'], idOf(bus, 0))).toMatchObject({ loss: 'evicted' });
  expect(sequences(read(bus, ['u::3'], idOf(bus, 4)))).toEqual([501]);
});

test('without history it is known for every key whether something was missed, for as many keys as are remembered', () => {
  const { bus } = started();
  for (let i = 0; i < 1_000; i++) bus.publish(outgoing(`u::${i}`));
  expect(read(bus, ['u::7'], idOf(bus, 7)).loss).toBe('disabled');
  expect(read(bus, ['u::7'], idOf(bus, 8)).loss).toBeUndefined();
  expect(read(bus, ['u::none'], idOf(bus, 0)).loss).toBeUndefined();
});

test('with more keys than are remembered nobody can know: then a gap is told, never the other way round', () => {
  const { bus } = started();
  for (let i = 0; i < 260_000; i++) bus.publish(outgoing(`u::${i}`));
  expect(read(bus, ['u::5'], idOf(bus, 0)).loss).toBe('disabled');
  expect(read(bus, ['u::259999'], idOf(bus, 259_999)).loss).toBe('disabled');
  // Of the recent ones it is still known exactly.
  expect(read(bus, ['u::259000'], idOf(bus, 259_500)).loss).toBeUndefined();
  expect(bus.status().details).toMatchObject({ historyKeys: 0 });
});

test('what has come last counts for the bytes of history too, however large it is', async () => {
  const bus = new MemoryBus({ historySize: 1_000, historyBytes: 1_000_000 });
  await collectGarbage();
  const before = process.memoryUsage().heapUsed;
  for (let n = 0; n < 100; n++) {
    bus.publish(outgoing('e::', Buffer.alloc(500_000, `${n} `).toString('latin1')));
  }
  await collectGarbage();
  expect((process.memoryUsage().heapUsed - before) / 1e6).toBeLessThan(10);
  expect(bus.status().details).toMatchObject({ historyEvents: 1 });
});

test('an event larger than all of history is not kept, and is told', () => {
  const { bus } = started({ historySize: 5, historyBytes: 1_000 });
  bus.publish(outgoing('e::', 'x'.repeat(5_000)));
  expect(bus.status().details).toMatchObject({ historyEvents: 0, historyBytes: 0 });
  expect(read(bus, ['e::'], idOf(bus, 0)).loss).toBe('evicted');
});

test('a long life in one key costs no more than what is kept', () => {
  const { bus } = started({ historySize: 50 });
  for (let i = 0; i < 20_000; i++) bus.publish(outgoing('e::', String(i)));
  expect(bus.status().details).toMatchObject({ historyEvents: 50 });
  expect(sequences(read(bus, ['e::'], idOf(bus, 0)))).toEqual(Array.from({ length: 50 }, (_, i) => 19_951 + i));
});

test.each([
  ['historySize', -1],
  ['historySize', 1.5],
  ['historySize', '10'],
  ['historySize', Number.NaN],
  ['historyBytes', -1],
  ['historyBytes', Number.POSITIVE_INFINITY],
  ['historyTtl', -5],
  ['historyTtl', 2 ** 31],
  ['historyTtl', '1h'],
  ['clock', {}],
  ['clock', Date],
  ['history', 10],
] as const)('nonsense throws at construction: %s', (option, value) => {
  const construct = () => new MemoryBus({ [option]: value } as never);
  expect(construct).toThrow(expect.objectContaining({ code: 'SSE_ERR_INVALID_OPTION' }));
  expect(construct).toThrow(option);
});

test('an age limit or a limit in bytes without history would do nothing: it throws', () => {
  for (const option of ['historyTtl', 'historyBytes'] as const) {
    expect(() => new MemoryBus({ [option]: 60_000 })).toThrow(option);
  }
});

test('a bus belongs to one broker: a second start throws, instead of leaving the first one deaf', () => {
  const { bus } = started();
  expect(() => bus.start({ deliver: () => {}, lost: () => {}, status: () => {}, error: () => {} })).toThrow(
    expect.objectContaining({ code: 'SSE_ERR_INVALID_OPTION' }),
  );
});

test('what is sent to one connection, or from broker to broker, is not kept and never a gap', () => {
  for (const historySize of [0, 5]) {
    const { bus } = started({ historySize });
    bus.join();
    bus.publish(outgoing('c::one'));
    bus.publish(outgoing('n::'));
    bus.leave('c::one');
    expect(bus.status().details).toMatchObject({ historyKeys: 0, historyEvents: 0 });
    expect(read(bus, ['c::one', 'n::', 'e::'], idOf(bus, 0))).toMatchObject({ events: [], head: { sequence: 2 } });
    expect(read(bus, ['c::one', 'n::', 'e::'], idOf(bus, 0)).loss).toBeUndefined();
  }
});

test('without history, an event whose ttl has passed is no gap, and one that is still wanted is', () => {
  const clock = new ManualClock();
  const { bus } = started({ clock });
  bus.publish({ ...outgoing('e::'), expiresAt: clock.now() + 1_000 });
  expect(read(bus, ['e::'], idOf(bus, 0)).loss).toBe('disabled');
  clock.advance(1_000);
  expect(read(bus, ['e::'], idOf(bus, 0)).loss).toBeUndefined();
  bus.publish(outgoing('e::'));
  expect(read(bus, ['e::'], idOf(bus, 0)).loss).toBe('disabled');
});

test('pages of a key that many read at different places are right, while it goes on', () => {
  const { bus } = started({ historySize: 500 });
  const cursors = Array.from({ length: 20 }, () => 0);
  const seen = cursors.map(() => [] as number[]);
  const missed = cursors.map(() => 0);
  for (let round = 0; round < 200; round++) {
    for (let i = 0; i <= round % 40; i++) bus.publish(outgoing('t::a'));
    for (let reader = 0; reader < cursors.length; reader++) {
      if ((round * 7 + reader * 13) % (reader + 2) !== 0) continue;
      const page = read(bus, ['t::a'], idOf(bus, cursors[reader]!), 1 + reader * 10);
      if (page.loss !== undefined) {
        missed[reader]! += numberOf(page.completeAfter!) - cursors[reader]!;
        cursors[reader] = numberOf(page.completeAfter!);
      }
      seen[reader]!.push(...sequences(page));
      cursors[reader] = page.more ? seen[reader]!.at(-1)! : page.head.sequence;
    }
  }
  for (const [reader, mine] of seen.entries()) {
    expect(new Set(mine).size).toBe(mine.length);
    expect(mine).toEqual(mine.toSorted((a, b) => a - b));
    expect(mine.length + missed[reader]!).toBe(cursors[reader]);
  }
});
