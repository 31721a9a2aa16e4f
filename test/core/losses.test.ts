/** What is remembered of losses may tell a gap too many, never one too few; and without ttl, or with one, it is exact. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { joined, type Losses, lostThrough, withLoss } from '../../src/core/losses.js';

interface Lost {
  readonly sequence: number;
  readonly expiresAt: number;
}

const expiries = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 100 }));

/** Newest that somebody misses at `now`. */
const missed = (all: readonly Lost[], now: number): number =>
  Math.max(0, ...all.filter(({ expiresAt }) => expiresAt === 0 || expiresAt > now).map(({ sequence }) => sequence));

const lossesOf = (all: readonly Lost[], now = 0): Losses =>
  all.reduce<Losses>((losses, { sequence, expiresAt }) => withLoss(losses, sequence, expiresAt, now), 0);

test('with any ttls no loss is left out, as long as it is one, and little is remembered', () => {
  fc.assert(
    fc.property(fc.array(expiries, { maxLength: 60 }), fc.nat(60), fc.nat(110), (list, at, now) => {
      const all = list.map((expiresAt, i) => ({ sequence: i + 1, expiresAt }));
      const losses = lossesOf(all);
      const told = lostThrough(losses, now);
      expect(told).toBeGreaterThanOrEqual(missed(all, now));
      // Never one that was not lost at all, or of which even the longest has ended.
      expect(told === 0 || all.some(({ sequence }) => sequence === told)).toBe(true);
      if (all.every(({ expiresAt }) => expiresAt !== 0 && expiresAt <= now)) expect(told).toBe(0);
      expect(typeof losses === 'number' ? 0 : losses.ending.length).toBeLessThanOrEqual(4);
      const both = joined(lossesOf(all.slice(0, at)), lossesOf(all.slice(at)));
      expect(lostThrough(both, now)).toBeGreaterThanOrEqual(missed(all, now));
      expect(lostThrough(joined(losses, losses), now)).toBe(told);
    }),
    { numRuns: 500 },
  );
});

test('without a ttl, and with one that is the same for all, it is exact', () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 60 }), fc.nat(200), (list, now) => {
      const all = list.map((isForEver, i) => ({ sequence: i + 1, expiresAt: isForEver ? 0 : 50 + i }));
      expect(lostThrough(lossesOf(all), now)).toBe(missed(all, now));
    }),
  );
});

test('what had expired when it was dropped was never a loss', () => {
  expect(lostThrough(withLoss(7, 8, 100, 100), 0)).toBe(7);
  expect(lostThrough(withLoss(7, 8, 101, 100), 0)).toBe(8);
});
