/** What is written behind an event's id goes with it over every bus and through every history. */
import { expect, test } from 'vitest';
import { decodeEvent, encodeEvent } from '../../src/buses/envelope.js';
import { busIdOf, overtakenIn, overtakenSection, sectionsOf, withoutOvertaken } from '../../src/core/tagged-id.js';
import { type BusEvent, MemoryBus, type OutgoingEvent } from '../../src/index.js';

const TAG = '~m0192f3c4-5b6d-7e8f~p1c.1b';

const event = (more: Partial<OutgoingEvent> = {}): OutgoingEvent => ({
  key: 'u::anna',
  event: 'note',
  data: 'line\nline',
  json: false,
  timestamp: 1,
  expiresAt: 0,
  ...more,
});

test('an id is taken apart into what the bus made and what is behind it', () => {
  expect(busIdOf(`m1x2k-17${TAG}`)).toBe('m1x2k-17');
  expect(sectionsOf(`m1x2k-17${TAG}`)).toBe(TAG);
  expect(busIdOf('m1x2k-17')).toBe('m1x2k-17');
  expect(sectionsOf('m1x2k-17')).toBe('');
  // Not ours: a carrier's own, whole.
  expect(busIdOf('a~B')).toBe('a~B');
  // What no id of ours is as long as is not looked at: matched anywhere, this took a third of a second.
  const long = `${'~o'.repeat(7_500)}!`;
  expect([busIdOf(long), sectionsOf(long)]).toEqual([long, '']);
  expect(sectionsOf(`m1-1${'~o'.repeat(300)}`)).toBe('');
  expect(sectionsOf('m1-1~!~o1')).toBe('');
  expect(overtakenIn(`~wz${overtakenSection([7, 36])}`)).toEqual([7, 36]);
  expect(withoutOvertaken(`x-1${overtakenSection([7, 36])}~wz`)).toBe('x-1~wz');
});

test.each([{ priority: 2, tag: TAG }, { priority: 1 }, { tag: TAG }, {}] as const)('%j goes over a carrier', (more) => {
  const place = { key: 'u::anna', sequence: 7, id: 'x-7' };
  const problems: unknown[] = [];
  const decoded = decodeEvent(encodeEvent(event(more)), place, (error) => problems.push(error));
  expect(problems).toEqual([]);
  expect(decoded).toMatchObject({ ...event(), ...more, id: 'x-7' });
});

test.each([
  ['1J 3 - 1 0 note\n', 'its priority'],
  ['1J 1- 1 0 note\n', 'its priority'],
  ['1J 1 m 1 0 note\n', 'its tag'],
  ['1J 1 ~m\r 1 0 note\n', 'its tag'],
  ['1J 1 ~m', 'its tag'],
  ['1J 1 - 1 note\n', 'its header'],
])('%j is no event', (text, problem) => {
  const problems: Error[] = [];
  decodeEvent(text, { key: 'u::anna', sequence: 7, id: 'x-7' }, (error) => problems.push(error));
  expect(problems.map(({ message }) => message).join()).toContain(problem);
});

test('history in memory keeps them, packed and as they came, until the last is dropped', () => {
  const bus = new MemoryBus({ historySize: 2_000 });
  bus.start({ deliver: () => {}, lost: () => {}, status: () => {}, error: () => {} });
  const first = bus.head().id;
  const sent: OutgoingEvent[] = [];
  for (let i = 0; i < 1_500; i++) {
    const more =
      i % 3 === 0 ? { priority: 2 as const, tag: `${TAG}${i}` } : i % 3 === 1 ? { priority: 1 as const } : {};
    sent.push(event({ data: `data ${i}\n`, ...more }));
    bus.publish({ ...sent[i]! });
  }
  const read: BusEvent[] = [];
  for (let after = first, more = true; more; ) {
    const page = bus.read({ keys: ['u::anna'], after, limit: 100, max: 0 });
    read.push(...page.events);
    more = page.more;
    after = page.events.at(-1)?.id ?? page.head.id;
  }
  const shown = (one: OutgoingEvent) => ({ data: one.data, priority: one.priority ?? 0, tag: one.tag });
  expect(read.map(shown)).toEqual(sent.map(shown));
});
