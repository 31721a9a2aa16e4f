/** One node's part of the order: in order, once, and nothing missing in silence, whatever the carrier does. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Sequencer } from '../../src/buses/sequencer.js';
import type { BusEvent } from '../../src/index.js';
import { SimulatedCarrier } from './simulated-carrier.js';

const A = 't::a';
const B = 't::b';
const ALONE = 'c::client';

/** A node that has joined the keys. */
function joined(historySize: number, ...keys: string[]): SimulatedCarrier {
  const carrier = new SimulatedCarrier(historySize);
  for (const key of keys) {
    carrier.subscribe(key);
    expect(carrier.sequencer.join(key, carrier.epoch, carrier.sequence)).toBe(true);
  }
  return carrier;
}

/** `2` for an event, `gap a,b` for a loss. */
const toldOf = (carrier: SimulatedCarrier): string[] =>
  carrier.told.map((one) =>
    'event' in one ? String(one.event.timestamp) : `gap ${one.loss.keys?.join() ?? 'all'} ${one.loss.reason}`,
  );

test('what arrives whole is delivered at once', () => {
  const carrier = joined(10, A, B);
  for (const key of [A, B, ALONE, A, 't::other']) carrier.publish(key);
  carrier.arrive();
  expect(toldOf(carrier)).toEqual(['1', '2', '4']);
  expect(carrier.recoveries).toBe(0);
});

test('what is missing is read, and everything later waits for it', async () => {
  const carrier = joined(10, A, B);
  carrier.publish(A);
  carrier.arrive();
  carrier.losing = 2;
  carrier.publish(A);
  carrier.publish(B);
  carrier.publish(A);
  carrier.publish(B);
  carrier.arrive();
  expect(toldOf(carrier)).toEqual(['1']);
  await carrier.settle();
  expect(toldOf(carrier)).toEqual(['1', '2', '3', '4', '5']);
  expect(carrier.recoveries).toBe(1);
});

test('what history has dropped is told at its place: after what is older, before what is newer', async () => {
  const carrier = joined(2, A, B);
  carrier.losing = 4;
  carrier.publish(B);
  for (let i = 0; i < 3; i++) carrier.publish(A);
  carrier.publish(A);
  carrier.arrive();
  await carrier.settle();
  // 2 and 3 of A are gone; 4 and 5 are kept; 1 of B is older than the hole.
  expect(toldOf(carrier)).toEqual(['1', `gap ${A} evicted`, '4', '5']);
});

test('live-only events that come in while history is read keep their place', async () => {
  const carrier = joined(10, A, ALONE);
  carrier.disconnect();
  carrier.publish(A);
  carrier.connect();
  for (const key of [ALONE, A, ALONE]) carrier.publish(key, key === ALONE);
  await carrier.settle();
  expect(toldOf(carrier)).toEqual(['1', '2', '3', '4']);
});

test('what is found missing after newer events of other keys went out is told: it has no place any more', async () => {
  const carrier = joined(10, A, B);
  carrier.losing = 1;
  for (const key of [A, B, A]) carrier.publish(key);
  await carrier.settle();
  expect(toldOf(carrier)).toEqual(['2', `gap ${A} evicted`, '3']);
});

test('a live-only event that is lost is nobody’s loss', async () => {
  const carrier = joined(10, A, ALONE);
  carrier.losing = 1;
  carrier.publish(ALONE, true);
  carrier.publish(ALONE, true);
  carrier.publish(A);
  await carrier.settle();
  expect(toldOf(carrier)).toEqual(['2', '3']);
  expect(carrier.recoveries).toBe(0);
});

test('another epoch is told to all, and its events follow', async () => {
  const carrier = joined(10, A, B, ALONE);
  for (let i = 0; i < 5; i++) carrier.publish(A);
  carrier.arrive();
  carrier.flush();
  carrier.publish(B);
  carrier.arrive();
  carrier.publish(ALONE, true);
  carrier.publish(B);
  await carrier.settle();
  expect(toldOf(carrier).slice(5)).toEqual(['gap all epoch', '7', ...(toldOf(carrier).includes('8') ? ['8'] : [])]);
  carrier.publish(A);
  await carrier.settle();
  expect(toldOf(carrier).at(-1)).toBe('9');
});

test('a key that is joined while events of it come in begins after them', () => {
  const carrier = joined(10, B);
  carrier.subscribe(A);
  const { epoch, sequence } = carrier;
  carrier.publish(A);
  carrier.publish(B);
  carrier.arrive();
  expect(carrier.sequencer.join(A, epoch, sequence)).toBe(true);
  carrier.publish(A);
  carrier.arrive();
  // 1 is older than the end of the join, and 2 was out before it: who joins reads it.
  expect(toldOf(carrier)).toEqual(['2', '3']);
  expect(carrier.recoveries).toBe(0);
});

test('so it does where they come in out of order', () => {
  const carrier = joined(10, B);
  carrier.subscribe(A);
  carrier.losing = 2;
  const first = carrier.publish(A);
  const second = carrier.publish(A);
  carrier.sequencer.accept(second, 1, carrier.epoch);
  carrier.sequencer.accept(first, 0, carrier.epoch);
  expect(carrier.sequencer.join(A, carrier.epoch, 0)).toBe(true);
  carrier.publish(A);
  carrier.arrive();
  expect(toldOf(carrier)).toEqual(['3']);
  expect(carrier.recoveries).toBe(0);
});

test('what comes in out of order while history is read is delivered in order after it', async () => {
  const carrier = joined(10, A, B, ALONE);
  carrier.sequencer.suspend();
  const recovering = carrier.sequencer.recover();
  await carrier.step();
  carrier.losing = 3;
  const events = [carrier.publish(A), carrier.publish(ALONE, true), carrier.publish(B)];
  for (const event of events.reverse()) {
    carrier.sequencer.accept(event, event.key === ALONE ? undefined : 0, carrier.epoch);
  }
  await carrier.settle();
  await recovering;
  expect(toldOf(carrier)).toEqual(['1', '2', '3']);
});

test('a copy of what was told as lost comes after all: it stays told', async () => {
  const told: string[] = [];
  const sequencer = new Sequencer({
    deliver: ({ id }) => told.push(id),
    lost: ({ head }) => told.push(`gap ${head?.id}`),
    recover: async () => {
      const [place, head] = [5, 6].map((sequence) => ({ id: `e-${sequence}`, sequence }));
      return { epoch: 'e', head: head!, loss: { reason: 'evicted', keys: [A], head: place! } };
    },
    error: (error) => {
      throw error;
    },
  });
  sequencer.begin('e', { id: 'e-0', sequence: 0 });
  sequencer.expect(A);
  sequencer.join(A, 'e', 0);
  await sequencer.recover();
  const event = { key: A, event: 'e', data: '', json: false, timestamp: 0, expiresAt: 0, frame: undefined };
  sequencer.accept({ ...event, sequence: 4, id: 'e-4' }, 0, 'e');
  sequencer.accept({ ...event, sequence: 7, id: 'e-7' }, 4, 'e');
  expect(told).toEqual(['gap e-5', 'e-7']);
});

test('a head that is older than what is known to be complete begins no key', () => {
  const carrier = joined(10, B);
  const { epoch, sequence } = carrier;
  carrier.publish(A);
  carrier.sequencer.verify(carrier.sequence);
  expect(carrier.sequencer.join(A, epoch, sequence)).toBe(false);
  expect(carrier.sequencer.join(A, epoch, carrier.sequence)).toBe(true);
  expect(carrier.sequencer.join(A, 'another', carrier.sequence)).toBe(false);
});

test('a key that history has forgotten is complete as far as the last check saw', async () => {
  const carrier = joined(10, A);
  carrier.publish(A);
  carrier.publish(B);
  carrier.arrive();
  carrier.sequencer.verify(2);
  // The carrier knows only that nothing older than 2 is left of A.
  const event = carrier.publish(A);
  carrier.sequencer.accept({ ...event }, 2, carrier.epoch);
  expect(toldOf(carrier)).toEqual(['1', '3']);
});

test('while held events are too many they are let go, and read again', async () => {
  const carrier = new SimulatedCarrier(1_000, { events: 5, characters: 1_000 });
  carrier.subscribe(A);
  carrier.sequencer.join(A, carrier.epoch, 0);
  carrier.disconnect();
  carrier.isConnected = true;
  for (let i = 0; i < 50; i++) {
    carrier.publish(A);
    carrier.arrive();
    expect(carrier.sequencer.held).toBeLessThanOrEqual(5);
  }
  const recovering = carrier.sequencer.recover();
  for (let i = 0; i < 20; i++) {
    carrier.publish(A);
    carrier.arrive();
    await carrier.step();
  }
  await carrier.settle();
  await recovering;
  expect(toldOf(carrier)).toEqual(Array.from({ length: 70 }, (_, i) => String(i + 1)));
});

test('a recovery that fails leaves the node holding, and the next one repairs', async () => {
  const carrier = joined(10, A);
  carrier.losing = 1;
  carrier.publish(A);
  carrier.publish(A);
  carrier.arrive();
  carrier.disconnect();
  await carrier.step();
  await carrier.step();
  await carrier.step();
  expect(carrier.errors).toHaveLength(1);
  expect(carrier.sequencer.isLive).toBe(false);
  await carrier.settle();
  expect(toldOf(carrier)).toEqual(['1', '2']);
  expect(carrier.sequencer.isLive).toBe(true);
});

test('a carrier whose history does not know what it says is asked once, and the loss is told', async () => {
  const carrier = joined(10, A);
  const event: BusEvent = { ...carrier.publish(A), sequence: 50, id: 'e1-50' };
  carrier.sequencer.accept(event, 49, 'e1');
  await carrier.settle();
  expect(toldOf(carrier)).toEqual(['1', `gap ${A} unknown`, '1']);
  expect(carrier.recoveries).toBe(1);
});

test('a receiver that throws loses nothing', () => {
  const carrier = joined(10, A);
  const push = carrier.told.push.bind(carrier.told);
  carrier.told.push = (...items) => {
    push(...items);
    throw new Error('receiver');
  };
  carrier.publish(A);
  carrier.publish(A);
  carrier.arrive();
  expect(toldOf(carrier)).toEqual(['1', '2']);
  expect(carrier.errors).toHaveLength(2);
});

const KEYS = [A, B, 't::c', ALONE];

/** What may happen, by weight. */
const operation = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('publish' as const), key: fc.constantFrom(...KEYS) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('arrive' as const), count: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('step' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('lose' as const), count: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('disconnect' as const, 'connect' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('join' as const), key: fc.constantFrom(...KEYS) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('leave' as const), key: fc.constantFrom(...KEYS) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('check' as const) }) },
);
const flush = { weight: 1, arbitrary: fc.record({ kind: fc.constant('flush' as const) }) };

type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

/** Runs operations, then lets everything arrive. `due`: what must be delivered or told as lost. */
async function play(historySize: number, operations: readonly (Operation | { kind: 'flush' })[]) {
  const carrier = joined(historySize, A, B);
  const due: BusEvent[] = [];
  const isJoined = new Set([A, B]);
  for (const one of operations) {
    if (one.kind === 'publish') {
      const event = carrier.publish(one.key, one.key === ALONE);
      if (isJoined.has(one.key) && one.key !== ALONE) due.push(event);
    } else if (one.kind === 'arrive') {
      carrier.arrive(one.count);
    } else if (one.kind === 'step') {
      await carrier.step();
    } else if (one.kind === 'lose') {
      carrier.losing += one.count;
    } else if (one.kind === 'disconnect') {
      carrier.disconnect();
    } else if (one.kind === 'connect') {
      carrier.connect();
    } else if (one.kind === 'flush') {
      carrier.flush();
    } else if (one.kind === 'join') {
      carrier.subscribe(one.key);
      if (carrier.sequencer.join(one.key, carrier.epoch, carrier.sequence)) isJoined.add(one.key);
      else if (!isJoined.has(one.key)) carrier.leave(one.key);
    } else if (one.kind === 'leave') {
      carrier.leave(one.key);
      // What is on its way when a node leaves is owed to nobody.
      if (isJoined.delete(one.key)) due.splice(0, due.length, ...due.filter(({ key }) => key !== one.key));
    } else if (carrier.sequencer.isLive && carrier.isConnected) {
      await carrier.settle();
    }
  }
  await carrier.settle();
  const recovering = carrier.sequencer.recover();
  await carrier.settle();
  await recovering;
  return { carrier, due };
}

/** Whether an event is covered by a loss that is told up to `id`. */
function isAtOrBefore(event: BusEvent, id: string): boolean {
  const [[epoch, sequence], [ownEpoch, ownSequence]] = [id, event.id].map((one) =>
    one.slice(1).split('-').map(Number),
  ) as [[number, number], [number, number]];
  return ownEpoch < epoch || (ownEpoch === epoch && ownSequence <= sequence);
}

describe('whatever happens', () => {
  const check = async (historySize: number, operations: readonly (Operation | { kind: 'flush' })[]) => {
    const { carrier, due } = await play(historySize, operations);
    const { told } = carrier;
    const stamps = told.flatMap((one) => ('event' in one ? [one.event.timestamp] : []));
    expect(stamps, 'in order, once').toEqual([...new Set(stamps)].sort((a, b) => a - b));
    for (const event of due) {
      const at = told.findIndex((one) => 'event' in one && one.event.timestamp === event.timestamp);
      if (at >= 0) continue;
      const later = told.findIndex(
        (one) => 'event' in one && one.event.key === event.key && one.event.timestamp > event.timestamp,
      );
      const isTold = told.some((one, i) => {
        if ('event' in one || (later >= 0 && i > later)) return false;
        return (one.loss.keys ?? one.joined).includes(event.key) && isAtOrBefore(event, one.loss.head!.id);
      });
      expect(isTold, `event ${event.timestamp} of ${event.key} is missing, and nobody was told`).toBe(true);
    }
    expect(carrier.sequencer.isLive).toBe(true);
    expect(carrier.sequencer.held).toBe(0);
    return told;
  };

  test('order holds, nothing comes twice, and nothing is missing that was not told', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 6 }),
        fc.array(fc.oneof({ weight: 25, arbitrary: operation }, flush), { maxLength: 80 }),
        async (historySize, operations) => {
          await check(historySize, operations);
        },
      ),
      { numRuns: 500 },
    );
  }, 60_000);

  test('with all of history nothing is missing, and no gap is told', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 80 }), async (operations) => {
        // A connection breaks; nothing vanishes from one that lives.
        const told = await check(
          1_000,
          operations.filter(({ kind }) => kind !== 'lose'),
        );
        expect(told.filter((one) => 'loss' in one && one.loss.reason !== 'epoch')).toEqual([]);
      }),
      { numRuns: 500 },
    );
  }, 60_000);
});
