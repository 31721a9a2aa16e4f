/** What a single NATS server republishes out of order comes in order, whole and once, and waits no longer than it must. */
import fc from 'fast-check';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type Range, Reorder, type ReorderLimits, type Waiting } from '../../src/buses/nats-reorder.js';
import { until } from '../support/until.js';

const FOR_EVER = 60_000;

/** A reorder that begins after nothing, and a stream that it can ask. */
function makeReorder(window: number, limits?: ReorderLimits) {
  const released: number[] = [];
  const asked: Range[][] = [];
  const doubts: unknown[] = [];
  const world = {
    released,
    asked,
    doubts,
    /** What the stream has for keys of this node. */
    wanted: new Set<number>(),
    answer: (_missing: readonly Range[]): Promise<void> => Promise.resolve(),
    push: (...sequences: number[]) => {
      for (const sequence of sequences) reorder.push(sequence, 1, () => released.push(sequence));
    },
  };
  const find = async (missing: readonly Range[]): Promise<Waiting[]> => {
    asked.push([...missing]);
    // As of the question: what is stored later is none of its business.
    const found = [...world.wanted]
      .filter((sequence) => missing.some(({ first, last }) => first <= sequence && sequence <= last))
      .sort((a, b) => a - b);
    await world.answer(missing);
    return found.map((sequence) => ({ sequence, release: () => void released.push(sequence) }));
  };
  const reorder = new Reorder({ find, doubt: (error) => doubts.push(error) }, window, limits);
  reorder.begin(0);
  return { ...world, world, reorder };
}

test('what is in order does not wait', () => {
  const { push, released } = makeReorder(FOR_EVER);
  push(1, 2, 3, 4);
  expect(released).toEqual([1, 2, 3, 4]);
});

test('what came too early waits for the ones before, and goes with the last of them', () => {
  const { push, released, reorder } = makeReorder(FOR_EVER);
  push(1, 4, 3, 6);
  expect(released).toEqual([1]);
  expect(reorder.size).toBe(3);
  push(2);
  expect(released).toEqual([1, 2, 3, 4]);
  expect(reorder.size).toBe(1);
});

test('what does not come is asked for once, not before its time, and goes in its place; its late copy is dropped', async () => {
  const { push, released, reorder, asked, world } = makeReorder(20);
  world.wanted.add(2).add(4);
  const began = performance.now();
  push(5, 3, 9);
  await until(() => released.length === 5, 'all to be released');
  expect(performance.now() - began).toBeGreaterThan(15);
  expect(released).toEqual([2, 3, 4, 5, 9]);
  expect(asked).toEqual([
    [
      { first: 1, last: 2 },
      { first: 4, last: 4 },
      { first: 6, last: 8 },
    ],
  ]);
  expect([reorder.hasFound(4), reorder.hasFound(5)]).toEqual([true, false]);
  push(4, 2, 10);
  expect(released).toEqual([2, 3, 4, 5, 9, 10]);
  expect(reorder.hasFound(4)).toBe(false);
  expect(reorder.size).toBe(0);
});

test('what came while it was asked for is not taken twice', async () => {
  const { push, released, world } = makeReorder(1);
  world.wanted.add(1).add(2);
  let answer = (): void => {};
  world.answer = () => new Promise((resolve) => (answer = resolve));
  push(3);
  await until(() => world.asked.length === 1, 'the question');
  push(2, 1);
  expect(released).toEqual([1, 2, 3]);
  answer();
  push(4);
  await until(() => released.length === 4, 'what follows');
  expect(released).toEqual([1, 2, 3, 4]);
});

test('what is known not to come is not asked for; what comes after its place is passed on', () => {
  const { push, released, reorder } = makeReorder(FOR_EVER);
  push(1, 3, 6);
  reorder.account(5);
  expect(released).toEqual([1]);
  reorder.account(2);
  expect(released).toEqual([1, 3]);
  reorder.account(4);
  expect(released).toEqual([1, 3, 6]);
  push(2);
  expect(released).toEqual([1, 3, 6, 2]);
});

test('places that are known to be nobody’s make nobody ask', async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const { reorder, asked } = makeReorder(1);
  for (const sequence of [5, 7, 9]) reorder.account(sequence);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
});

test('a question that fails is told, and nothing is held for it; what follows waits until it is known where to begin', async () => {
  const { push, released, reorder, doubts, world } = makeReorder(1);
  world.answer = () => Promise.reject(new Error('no answer'));
  push(7, 6);
  await until(() => doubts.length === 1, 'the doubt');
  expect(released).toEqual([6, 7]);
  push(8, 12, 11);
  expect(released).toEqual([6, 7]);
  reorder.begin(10);
  expect(released).toEqual([6, 7, 8, 11, 12]);
});

test('an answer to what was asked before a flush changes nothing after it', async () => {
  const { push, released, reorder, world, doubts } = makeReorder(1);
  let answer = (): void => {};
  let fail = (_error: Error): void => {};
  world.answer = () =>
    new Promise((resolve, reject) => {
      answer = resolve;
      fail = reject;
    });
  world.wanted.add(1);
  push(2);
  await until(() => world.asked.length === 1, 'the question');
  reorder.flush();
  reorder.begin(50);
  push(51);
  answer();
  await null;
  push(53);
  await until(() => world.asked.length === 2, 'the next question');
  reorder.flush();
  fail(new Error('too late'));
  await null;
  expect(released).toEqual([2, 51, 53]);
  expect(doubts).toEqual([]);
});

test('more than it may hold is a doubt, also where an answer does not come', async () => {
  for (const limits of [
    { events: 10, characters: 1_000 },
    { events: 1_000, characters: 10 },
  ]) {
    const { push, released, reorder, doubts, world } = makeReorder(1, limits);
    world.answer = () => new Promise(() => {});
    push(2, 3);
    await until(() => world.asked.length === 1, 'the question');
    for (let sequence = 4; sequence <= 12; sequence++) push(sequence);
    expect(doubts).toHaveLength(1);
    expect(released).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    expect(reorder.size).toBe(0);
  }
});

/** An event of the stream: whose it is, how late its copy is (in steps; never, where it is lost), and what a step is. */
const stored = fc.record({
  isWanted: fc.boolean(),
  late: fc.oneof(
    { weight: 8, arbitrary: fc.constant(0) },
    { weight: 4, arbitrary: fc.integer({ min: 1, max: 6 }) },
    { weight: 1, arbitrary: fc.constant(Number.POSITIVE_INFINITY) },
  ),
  isOwn: fc.boolean(),
  pause: fc.integer({ min: 0, max: 3 }),
});

test('whatever comes late, early or never: everything in order and once, as soon as anything newer has come', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(stored, { minLength: 1, maxLength: 60 }), fc.nat({ max: 3 }), async (events, slow) => {
      const { released, reorder, world, push, doubts } = makeReorder(1);
      world.answer = async () => {
        for (let i = 0; i < slow; i++) await new Promise((resolve) => setImmediate(resolve));
      };
      const wanted = events.flatMap(({ isWanted }, i) => (isWanted ? [i + 1] : []));
      const due = new Map<number, number[]>();
      for (const [i, { late, isWanted, isOwn, pause }] of events.entries()) {
        const sequence = i + 1;
        if (isWanted) {
          world.wanted.add(sequence);
          if (late < Number.POSITIVE_INFINITY) due.set(i + late, [...(due.get(i + late) ?? []), sequence]);
        } else if (isOwn) {
          reorder.account(sequence);
        }
        push(...(due.get(i) ?? []));
        due.delete(i);
        for (let n = 0; n < pause; n++) await new Promise((resolve) => setImmediate(resolve));
      }
      for (const late of due.values()) push(...late);
      push(events.length + 1);
      await until(() => released.includes(events.length + 1), 'the last');
      expect(released).toEqual([...wanted, events.length + 1]);
      expect(reorder.size).toBe(0);
      expect(doubts).toEqual([]);
    }),
    { numRuns: 300 },
  );
}, 60_000);
