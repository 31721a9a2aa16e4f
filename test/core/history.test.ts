/** History keeps what its limits allow, and says exactly what of a key is gone, as a plain list of events would. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { BusEvent } from '../../src/core/event.js';
import { History } from '../../src/core/history.js';
import { type Losses, lostThrough, withLoss } from '../../src/core/losses.js';
import { ManualClock } from '../../src/testing/index.js';

/** Events that get their places together, and what each costs besides its text. */
const ARRIVALS = 128;
const OVERHEAD = 64;

/** The same by hand: every event in one list, every loss noted when it happens. */
class PlainHistory {
  kept: BusEvent[] = [];
  readonly losses = new Map<string, Losses>();
  #arrivals: BusEvent[] = [];
  #arrived = 0;

  constructor(
    readonly size: number,
    readonly bytes: number,
    readonly clock: ManualClock,
  ) {}

  push(event: BusEvent): void {
    this.#arrivals.push(event);
    if (++this.#arrived % ARRIVALS === 0) this.settle();
  }

  settle(): void {
    const arrivals = this.#arrivals;
    this.#arrivals = [];
    this.kept.push(...arrivals);
    const counts = new Map<string, number>();
    for (const { key } of this.kept) counts.set(key, (counts.get(key) ?? 0) + 1);
    for (const { key } of arrivals) {
      const count = counts.get(key)!;
      if (count <= this.size) continue;
      this.#drop(this.kept.findIndex((event) => event.key === key));
      counts.set(key, count - 1);
    }
    let held = this.kept.reduce((sum, { data }) => sum + data.length + OVERHEAD, 0);
    while (held > this.bytes) {
      held -= this.kept[0]!.data.length + OVERHEAD;
      this.#drop(0);
    }
  }

  #drop(index: number): void {
    const [{ key, sequence, expiresAt }] = this.kept.splice(index, 1) as [BusEvent];
    this.losses.set(key, withLoss(this.losses.get(key) ?? 0, sequence, expiresAt, this.clock.now()));
  }

  page(keys: readonly string[], after: number): { sequences: number[]; lost: number } {
    this.settle();
    const sequences = this.kept.filter((event) => keys.includes(event.key) && event.sequence > after);
    const lost = keys.map((key) => lostThrough(this.losses.get(key) ?? 0, this.clock.now()));
    return { sequences: sequences.map(({ sequence }) => sequence), lost: Math.max(after, ...lost) };
  }
}

const FEW_KEYS = { publishes: 1_500, keys: [1, 3, 12, 300], bytes: [500, 4_000, 30_000, 1e9] };
const MANY_KEYS = { publishes: 7_000, keys: [3_000, 6_000], bytes: [250_000, 400_000] };

test.each([
  ['few keys', FEW_KEYS, 15],
  ['many keys', MANY_KEYS, 3],
])(
  'random publishes, limits and readers, %s: pages and losses are those of a list',
  (_, many, numRuns) => {
    const property = fc.property(
      fc.constantFrom(1, 3, 20, 60, 1_000),
      fc.constantFrom(...many.bytes),
      fc.constantFrom(...many.keys),
      fc.constantFrom(0, 0, 5, 60),
      fc.infiniteStream(fc.nat(9_999)),
      (historySize, historyBytes, keys, ending, dice) => {
        const roll = (below: number) => (dice.next().value as number) % below;
        const keyName = (number: number) => `t::${number}`;
        const clock = new ManualClock();
        const history = new History({ historySize, historyBytes, historyTtl: 0 }, clock, String);
        const plain = new PlainHistory(historySize, historyBytes, clock);
        const events = new Map<number, BusEvent>();
        for (let sequence = 1; sequence <= many.publishes; sequence++) {
          // A few keys get most of it.
          const key = keyName(roll(4) === 0 ? roll(keys) : roll(Math.ceil(keys / 2)));
          const event: BusEvent = {
            id: String(sequence),
            sequence,
            key,
            event: 'e',
            data: 'x'.repeat(roll(20) === 0 ? 300 : roll(90)),
            json: roll(2) === 0,
            timestamp: sequence,
            expiresAt: roll(100) < ending ? clock.now() + 1 + roll(4_000) : 0,
            frame: undefined,
          };
          events.set(sequence, event);
          history.push(event);
          plain.push(event);
          if (roll(8) === 0) clock.advance(roll(50));
          if (roll(40) > 0) continue;
          const names = [...new Set(Array.from({ length: 1 + roll(3) }, () => keyName(roll(keys))))];
          const after = roll(3) === 0 ? roll(sequence) : Math.max(0, sequence - roll(60));
          const wanted = plain.page(names, after);
          const { events: got, lostThrough: lost } = history.page(names, after, 10_000, 0);
          expect(got.map((one) => one.sequence)).toEqual(wanted.sequences);
          expect(Math.max(after, lost)).toBe(wanted.lost);
          for (const one of got) expect(one).toMatchObject(events.get(one.sequence)!);
        }
        const { historyEvents, historyBytes: held, historyKeys } = history.details;
        plain.settle();
        expect(historyEvents).toBe(plain.kept.length);
        expect(held).toBe(plain.kept.reduce((sum, { data }) => sum + data.length + OVERHEAD, 0));
        expect(historyKeys).toBe(new Set(plain.kept.map(({ key }) => key)).size);
      },
    );
    fc.assert(property, { numRuns });
  },
  120_000,
);

test('what was dropped before an event with a ttl stays told when that has passed', () => {
  const clock = new ManualClock();
  const history = new History({ historySize: 1_000, historyBytes: 30_000, historyTtl: 0 }, clock, String);
  for (let sequence = 1; sequence <= 320; sequence++) {
    const isOfA = sequence <= 11 || sequence === 300;
    history.push({
      id: String(sequence),
      sequence,
      key: isOfA ? 't::a' : 't::b',
      event: 'e',
      data: 'x'.repeat(36),
      json: false,
      timestamp: 0,
      expiresAt: sequence === 11 ? clock.now() + 1_000 : 0,
      frame: undefined,
    });
  }
  const lost = (after: number) => history.page(['t::a'], after, 100, 0).lostThrough;
  expect([lost(5), lost(10)]).toEqual([11, 11]);
  clock.advance(1_000);
  expect([lost(5), lost(10)]).toEqual([10, 10]);
  expect(history.page(['t::a'], 10, 100, 0).events.map(({ sequence }) => sequence)).toEqual([300]);
});
