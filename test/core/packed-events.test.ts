/** Packed events come back as they were pushed, whatever was dropped around them, and hold what they say. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { BusEvent } from '../../src/core/event.js';
import { Chain } from '../../src/core/event-pack.js';
import { PackedEvents } from '../../src/core/packed-events.js';

const texts = fc.oneof(
  fc.constantFrom('', 'plain', 'ünï', '🎈', 'nul \0', '\ud800', '\udc00', 'x'.repeat(3_000)),
  fc.string({ maxLength: 300 }),
);

test('random pushes, drops and left out sequences: the same as lists in a map', () => {
  const property = fc.property(
    fc.array(fc.tuple(texts, fc.boolean(), fc.nat(9)), { minLength: 1, maxLength: 40 }),
    fc.infiniteStream(fc.nat(99)),
    fc.constantFrom(0, 30, 90, 99),
    fc.constantFrom(0, 0, 20, 97),
    fc.constantFrom(1, 10, 128, 600),
    (samples, dice, dropped, leftOut, arriving) => {
      const packed = new PackedEvents((sequence) => `e-${sequence}`);
      const kept = new Map<number, { event: BusEvent; chain: Chain; storedAt: number }>();
      const chains = Array.from({ length: 10 }, (_, i) => new Chain(`t::${i}`));
      const lists = new Map(chains.map((chain) => [chain, [] as number[]]));
      const arrivals: BusEvent[] = [];
      const chainsOf: Chain[] = [];
      const spare = [undefined, undefined];
      const times = (events: BusEvent[]) => Float64Array.from(events, ({ sequence }) => sequence * 2);
      const roll = () => dice.next().value as number;
      /** Newest of each that was dropped. */
      const lost = new Map<Chain, number>();
      const forget = (chain: Chain): BusEvent => {
        const sequence = lists.get(chain)!.shift()!;
        const { event } = kept.get(sequence)!;
        kept.delete(sequence);
        lost.set(chain, sequence);
        return event;
      };
      const drop = (chain: Chain): void => {
        const before = lost.get(chain) ?? 0;
        const { sequence, expiresAt } = forget(chain);
        expect(chain.oldest).toBe(sequence);
        expect(packed.dropOldestOf(chain)).toBe(expiresAt);
        if (expiresAt !== 0) expect(packed.beforeDropped).toBe(before);
      };
      const dropMany = (bytes: number): void => {
        while (packed.bytes > bytes) {
          packed.dropPlain(bytes);
          while (kept.size > packed.length) {
            const [{ chain }] = kept.values() as Iterable<{ chain: Chain }> as [{ chain: Chain }];
            expect(lists.get(chain)!.length).toBeGreaterThan(1);
            expect(forget(chain).expiresAt).toBe(0);
          }
          if (packed.bytes > bytes) drop(packed.oldestChain()!);
        }
      };
      for (let sequence = 1; sequence <= 1_500; sequence++) {
        if (roll() < leftOut && sequence < 1_500) continue;
        const [data, json, k] = samples[sequence % samples.length]!;
        const chain = chains[k]!;
        const event: BusEvent = {
          id: `e-${sequence}`,
          sequence,
          key: chain.key,
          event: `n${k}`,
          data,
          json,
          timestamp: sequence + 0.5,
          expiresAt: k > 5 ? k * 1e12 : 0,
          frame: undefined,
          ...(k % 3 === 0 ? { priority: 2, tag: `~${k}` } : {}),
        };
        arrivals.push(event);
        chainsOf.push(chain);
        kept.set(sequence, { event, chain, storedAt: sequence * 2 });
        lists.get(chain)!.push(sequence);
        if (arrivals.length < arriving && sequence < 1_500) continue;
        // Not all that is in the lists: the caller uses the same ones again.
        packed.push([...arrivals, ...spare], [...chainsOf, ...spare], times(arrivals), 0, 1);
        packed.push(arrivals, chainsOf, times(arrivals), 1, arrivals.length);
        arrivals.length = chainsOf.length = 0;
        const inUse = chains.filter(({ length }) => length > 0);
        if (roll() >= dropped) continue;
        if (roll() < 50) {
          drop(packed.oldestChain()!);
        } else if (roll() < 30) {
          dropMany((packed.bytes * roll()) / 100);
        } else {
          const chain = inUse[roll() % inUse.length]!;
          packed.count(chain, roll() % 10);
          drop(chain);
        }
      }
      expect(packed.length).toBe(kept.size);
      for (const [sequence, { event }] of kept) {
        const got = packed.get(sequence);
        const wire = Buffer.from(event.data).toString();
        // A lone surrogate has no UTF-8: it may come back as what the wire makes of it.
        expect({ ...got, data: Buffer.from(got.data).toString() }).toEqual({ ...event, data: wire });
        expect(packed.get(sequence)).toBe(got);
        expect(packed.expiresAt(sequence)).toBe(event.expiresAt);
      }
      for (const [chain, list] of lists) {
        expect(chain.length).toBeGreaterThanOrEqual(list.length);
        expect(chain.length === 0).toBe(list.length === 0);
        if (list.length > 0) packed.count(chain, 1_000);
        expect(chain.length).toBe(list.length);
        if (list.length === 0) continue;
        expect([chain.oldest, chain.newest]).toEqual([list[0], list.at(-1)]);
        expect(packed.before(list[0]!)).toBe(lost.get(chain) ?? 0);
        for (let i = 1; i < list.length; i++) expect(packed.before(list[i]!)).toBe(list[i - 1]);
      }
      const [oldest] = kept.values();
      expect(packed.oldestChain()).toBe(oldest?.chain);
      expect(packed.oldestStoredAt()).toBe(oldest?.storedAt ?? Number.POSITIVE_INFINITY);
      for (let chain = packed.oldestChain(); chain !== undefined; chain = packed.oldestChain()) drop(chain);
      expect([packed.length, packed.bytes, kept.size]).toEqual([0, 0, 0]);
    },
  );
  fc.assert(property, { numRuns: 25 });
}, 120_000);

test('a quiet key’s event does not hold the memory of the busy ones around it', () => {
  const packed = new PackedEvents(String);
  // Each event that stays is of a key of its own: a key's events go from the oldest on.
  const busy = new Chain('t::a');
  const event = (sequence: number): BusEvent => ({
    id: String(sequence),
    sequence,
    key: 't::a',
    event: 'e',
    data: 'x'.repeat(1_000),
    json: false,
    timestamp: 0,
    expiresAt: 0,
  });
  globalThis.gc?.();
  const before = process.memoryUsage().arrayBuffers;
  // 200 MB of text go through; one event of each 256 stays.
  for (let sequence = 1; sequence <= 200_000; sequence++) {
    packed.push([event(sequence)], [sequence % 256 === 7 ? new Chain('t::quiet') : busy], undefined, 0, 1);
    if (busy.length > 256) packed.dropOldestOf(busy);
  }
  const held = process.memoryUsage().arrayBuffers - before;
  // What is kept is under 2 MB; holes may make it a few more, never the hundreds that went through.
  expect(held).toBeLessThan(60 * 1024 * 1024);
  expect(packed.get(256 * 3 + 7).data).toHaveLength(1_000);
});

test('billions of events between two of a key: it is still one list', () => {
  const packed = new PackedEvents(String);
  const quiet = new Chain('t::quiet');
  const busy = new Chain('t::busy');
  const push = (sequence: number, chain: Chain, data: string): void => {
    const event: BusEvent = {
      id: String(sequence),
      sequence,
      key: chain.key,
      event: 'e',
      data,
      json: false,
      timestamp: 0,
      expiresAt: 0,
    };
    packed.push([event], [chain], undefined, 0, 1);
  };
  const sequences = [5, 1_000, 2 ** 32, 2 ** 40 + 7];
  push(4, busy, 'busy');
  for (const sequence of sequences) {
    push(sequence, quiet, `quiet ${sequence}`);
    push(sequence + 600, busy, 'busy');
  }
  const read: string[] = [];
  for (let sequence = quiet.newest, left = quiet.length; left > 0; left--) {
    read.unshift(packed.get(sequence).data);
    if (left > 1) sequence = packed.before(sequence);
  }
  expect(read).toEqual(sequences.map((sequence) => `quiet ${sequence}`));
  for (const sequence of sequences) {
    expect(quiet.oldest).toBe(sequence);
    packed.dropOldestOf(quiet);
  }
  expect([quiet.length, busy.length, packed.length]).toEqual([0, 5, 5]);
});
