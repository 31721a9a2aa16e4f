/** Packed events come back as they were pushed, whatever was dropped around them, and hold what they say. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { BusEvent } from '../../src/core/event.js';
import { PackedEvents } from '../../src/core/packed-events.js';
import { KeySequences } from '../../src/core/sequence-index.js';

const texts = fc.oneof(
  fc.constantFrom('', 'plain', 'ünï', '🎈', 'nul \0', '\ud800', '\udc00', 'x'.repeat(3_000)),
  fc.string({ maxLength: 300 }),
);

test('random pushes and drops: the same as a map', () => {
  const property = fc.property(
    fc.array(fc.tuple(texts, fc.boolean(), fc.nat(9)), { minLength: 1, maxLength: 40 }),
    fc.infiniteStream(fc.nat(99)),
    fc.constantFrom(0, 30, 90, 99),
    (samples, dice, dropped) => {
      const packed = new PackedEvents((sequence) => `e-${sequence}`);
      const kept = new Map<number, { event: BusEvent; key: KeySequences; storedAt: number }>();
      const keys = Array.from({ length: 10 }, (_, i) => new KeySequences(`t::${i}`, 0));
      const roll = () => dice.next().value as number;
      for (let sequence = 1; sequence <= 1_500; sequence++) {
        const [data, json, k] = samples[sequence % samples.length]!;
        const key = keys[k]!;
        const event = {
          id: `e-${sequence}`,
          sequence,
          key: key.key,
          event: `n${k}`,
          data,
          json,
          timestamp: sequence + 0.5,
        };
        const full: BusEvent = { ...event, expiresAt: k * 1e12, frame: undefined };
        packed.push(full, key, sequence * 2);
        kept.set(sequence, { event: full, key, storedAt: sequence * 2 });
        if (roll() < dropped) {
          const victim = [...kept.keys()][roll() < 50 ? 0 : Math.floor((kept.size * roll()) / 100)]!;
          packed.delete(victim);
          kept.delete(victim);
        }
      }
      expect(packed.length).toBe(kept.size);
      for (const [sequence, { event }] of kept) {
        const got = packed.get(sequence);
        const wire = Buffer.from(event.data).toString();
        // A lone surrogate has no UTF-8: it may come back as what the wire makes of it.
        expect({ ...got, data: Buffer.from(got.data).toString() }).toEqual({ ...event, data: wire });
        expect(packed.get(sequence)).toBe(got);
      }
      const [oldest] = kept.values();
      expect(packed.oldest()).toEqual(
        oldest && expect.objectContaining({ key: oldest.key, storedAt: oldest.storedAt }),
      );
      for (const sequence of kept.keys()) packed.delete(sequence);
      expect([packed.length, packed.bytes, packed.oldest()]).toEqual([0, 0, undefined]);
    },
  );
  fc.assert(property, { numRuns: 40 });
});

test('a quiet key’s event does not hold the memory of the busy ones around it', () => {
  const packed = new PackedEvents(String);
  const key = new KeySequences('t::a', 0);
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
    packed.push(event(sequence), key, 0);
    if (sequence > 256 && (sequence - 256) % 256 !== 7) packed.delete(sequence - 256);
  }
  const held = process.memoryUsage().arrayBuffers - before;
  // What is kept is under 2 MB; holes may make it a few more, never the hundreds that went through.
  expect(held).toBeLessThan(60 * 1024 * 1024);
  expect(packed.get(256 * 3 + 7).data).toHaveLength(1_000);
});
