import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  checkEventName,
  checkTimestamp,
  checkTtl,
  MAX_EVENT_NAME_LENGTH,
  RESERVED_EVENT_NAMES,
  serializeData,
} from '../../src/core/event.js';

const serialize = JSON.stringify as (data: unknown) => string | undefined;

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'nothing thrown';
}

test.each([
  ['CR', 'a\rb'],
  ['LF', 'a\n'],
  ['a field after a line break', 'a\ndata: injected'],
  ['NUL', 'a\0'],
  ['nothing', ''],
  ['too much', 'x'.repeat(MAX_EVENT_NAME_LENGTH + 1)],
  ['a lone surrogate', '\udc00'],
  ['a number', 7],
  ['undefined', undefined],
  ['null', null],
  ['an array that would read as a name', ['note']],
  ['a symbol', Symbol('note')],
])('an event name of %s is refused', (_, name) => {
  expect(codeOf(() => checkEventName(name))).toBe('SSE_ERR_INVALID_EVENT_NAME');
  // Refused again: only good names are remembered.
  expect(codeOf(() => checkEventName(name))).toBe('SSE_ERR_INVALID_EVENT_NAME');
});

test('names that the broker sends itself are reserved', () => {
  expect([...RESERVED_EVENT_NAMES]).toEqual(['connected', 'heartbeat', 'gap', 'closing']);
  for (const name of RESERVED_EVENT_NAMES) {
    expect(codeOf(() => checkEventName(name))).toBe('SSE_ERR_RESERVED_EVENT_NAME');
  }
  for (const name of ['Connected', 'gap ', 'closing:x', 'toString', '__proto__'])
    expect(checkEventName(name)).toBe(name);
});

test('more names than are remembered work as well, good and bad', () => {
  for (let i = 0; i < 3_000; i++) expect(checkEventName(`name-${i}`)).toBe(`name-${i}`);
  expect(checkEventName('one more')).toBe('one more');
  expect(codeOf(() => checkEventName('gap'))).toBe('SSE_ERR_RESERVED_EVENT_NAME');
  expect(codeOf(() => checkEventName('a\nb'))).toBe('SSE_ERR_INVALID_EVENT_NAME');
});

test('a string is published as it is, everything else as JSON', () => {
  expect(serializeData('{"a":', serialize, 100)).toBe('{"a":');
  expect(serializeData('', serialize, 100)).toBe('');
  fc.assert(
    fc.property(
      fc.jsonValue().filter((value) => typeof value !== 'string'),
      (value) => {
        expect(serializeData(value, serialize, 0)).toBe(JSON.stringify(value));
      },
    ),
  );
});

test.each([
  ['undefined', undefined],
  ['a function', () => {}],
  ['a symbol', Symbol('x')],
  ['a BigInt', 1n],
  ['a BigInt inside', { a: [1n] }],
  [
    'a circle',
    (() => {
      const circle: Record<string, unknown> = {};
      circle.self = circle;
      return circle;
    })(),
  ],
  [
    'a toJSON that throws',
    {
      toJSON() {
        throw new Error('no');
      },
    },
  ],
  ['a toJSON that gives nothing', { toJSON: () => undefined }],
  [
    'a getter that throws',
    {
      get x() {
        throw new Error('no');
      },
    },
  ],
])('data of %s is refused', (_, data) => {
  expect(codeOf(() => serializeData(data, serialize, 0))).toBe('SSE_ERR_INVALID_DATA');
});

test('the reason why data could not be serialised is the cause, never part of the message', () => {
  const data = {
    toJSON() {
      throw new Error('secret');
    },
  };
  try {
    serializeData(data, serialize, 0);
    expect.unreachable();
  } catch (error) {
    expect(((error as Error).cause as Error).message).toBe('secret');
    expect((error as Error).message).not.toContain('secret');
  }
});

test('a serializer of another type is refused, a promise included', () => {
  for (const result of [undefined, null, 7, {}, Promise.resolve('text'), Buffer.from('x')]) {
    expect(codeOf(() => serializeData({}, () => result as never, 0))).toBe('SSE_ERR_INVALID_DATA');
  }
  expect(serializeData({}, () => 'mine', 0)).toBe('mine');
});

test('the limit counts bytes of UTF-8, to the byte', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('a', 'ä', '€', '\u{1F600}', '\ud800', '\n'), maxLength: 40 }),
      fc.integer({ min: 1, max: 100 }),
      (text, limit) => {
        const isTooLarge = new TextEncoder().encode(text).length > limit;
        expect(codeOf(() => serializeData(text, serialize, limit))).toBe(
          isTooLarge ? 'SSE_ERR_EVENT_TOO_LARGE' : 'nothing thrown',
        );
      },
    ),
    { numRuns: 1_000 },
  );
  // Three bytes each, exactly at the limit and one beyond.
  expect(serializeData('€'.repeat(10), serialize, 30)).toHaveLength(10);
  expect(codeOf(() => serializeData('€'.repeat(10), serialize, 29))).toBe('SSE_ERR_EVENT_TOO_LARGE');
  expect(codeOf(() => serializeData(['x'.repeat(27)], serialize, 30))).toBe('SSE_ERR_EVENT_TOO_LARGE');
  expect(serializeData(['x'.repeat(26)], serialize, 30)).toHaveLength(30);
  expect(serializeData('x'.repeat(5_000_000), serialize, 0)).toHaveLength(5_000_000);
});

test('a timestamp is a number of ms or a valid Date, by default now', () => {
  expect(checkTimestamp(undefined, 5)).toBe(5);
  expect(checkTimestamp(0, 5)).toBe(0);
  expect(checkTimestamp(-1.5, 5)).toBe(-1.5);
  expect(checkTimestamp(new Date(99), 5)).toBe(99);
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, new Date('x'), '2024-01-01', null, {}]) {
    expect(codeOf(() => checkTimestamp(bad as never, 5))).toBe('SSE_ERR_INVALID_OPTION');
  }
});

test('a ttl is a number of ms from the call; 0 and none are for ever', () => {
  expect(checkTtl(undefined, 5)).toBe(0);
  expect(checkTtl(0, 5)).toBe(0);
  expect(checkTtl(10, 5)).toBe(15);
  for (const bad of [-1, Number.NaN, Number.POSITIVE_INFINITY, '10', null, {}]) {
    expect(codeOf(() => checkTtl(bad as never, 5))).toBe('SSE_ERR_INVALID_OPTION');
  }
});
