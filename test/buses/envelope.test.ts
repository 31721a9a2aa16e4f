/** What a node writes another reads back, and what nobody of ours wrote goes no further. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeEvent, encodeEvent, keyProblem } from '../../src/buses/envelope.js';
import type { OutgoingEvent, SseError } from '../../src/index.js';

const place = { key: 't::job:1', sequence: 7, id: 'run-7' };

function decode(text: unknown, at = place) {
  const errors: SseError[] = [];
  return { event: decodeEvent(text, at, (error) => errors.push(error)), errors };
}

const name = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
  .filter(
    (text) =>
      !/[\0\r\n]/.test(text) && text.isWellFormed() && !['connected', 'heartbeat', 'gap', 'closing'].includes(text),
  );
const outgoing: fc.Arbitrary<OutgoingEvent> = fc.record({
  key: fc.constant(place.key),
  event: name,
  data: fc.string({ unit: 'binary', maxLength: 200 }),
  json: fc.boolean(),
  timestamp: fc.double({ noNaN: true, noDefaultInfinity: true }),
  expiresAt: fc.oneof(fc.constant(0), fc.integer({ min: 0 })),
});

test('what is encoded comes back as it was', () => {
  fc.assert(
    fc.property(outgoing, (event) => {
      const { event: decoded, errors } = decode(encodeEvent(event));
      expect(errors).toEqual([]);
      // A number has one zero on the way.
      expect(decoded).toEqual({ ...event, timestamp: event.timestamp + 0, ...place, frame: undefined });
    }),
  );
});

test('no text makes it throw, and what comes out can stand in a stream', () => {
  const header = fc
    .tuple(fc.constantFrom('1j', '1t', '2j', '1x', ''), fc.string(), fc.string())
    .map((parts) => parts.join(' '));
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.tuple(header, fc.string()).map((parts) => parts.join('\n')),
  );
  fc.assert(
    fc.property(text, (rubbish) => {
      const { event, errors } = decode(rubbish);
      expect(errors).toHaveLength(event === undefined ? 1 : 0);
      expect(event?.event ?? '').not.toMatch(/[\0\r\n]/);
      expect(Number.isFinite(event?.timestamp ?? 0) && Number.isFinite(event?.expiresAt ?? 0)).toBe(true);
    }),
    { numRuns: 1_000 },
  );
});

describe('dropped and told:', () => {
  const good = encodeEvent({ key: place.key, event: 'e', data: 'd', json: false, timestamp: 1, expiresAt: 0 });
  const wrong: Record<string, [text: unknown, at?: typeof place]> = {
    'no text': [Buffer.from(good)],
    nothing: [undefined],
    'another version': [good.replace('1t', '2t')],
    'a kind that is none': [good.replace('1t', '1q')],
    'a header without a line end': ['1t 1 0 e'],
    'a header without a name': ['1t 1 0 \nd'],
    'a header without numbers': ['1t\nd'],
    'a timestamp that is no number': ['1t x 0 e\nd'],
    'a timestamp without end': ['1t Infinity 0 e\nd'],
    'an expiry that is empty': ['1t 1  e\nd'],
    'a number of many digits': [`1t ${'1'.repeat(40)} 0 e\nd`],
    'a line end in the name': ['1t 1 0 a\rb\nd'],
    'NUL in the name': ['1t 1 0 a\0b\nd'],
    'a name of the broker’s own': ['1t 1 0 gap\nd'],
    'a name that is too long': [`1t 1 0 ${'n'.repeat(257)}\nd`],
    'a key without a kind': [good, { ...place, key: 'x' }],
    'a key with a line end': [good, { ...place, key: 't::a\nb' }],
    'a key that is too long': [good, { ...place, key: `t::${'x'.repeat(5_000)}` }],
    'a key with half a surrogate': [good, { ...place, key: 't::\ud800' }],
    'an id with a line end': [good, { ...place, id: 'a\nb' }],
    'an id that is too long': [good, { ...place, id: 'a'.repeat(129) }],
    'a sequence of zero': [good, { ...place, sequence: 0 }],
    'a sequence beyond all numbers': [good, { ...place, sequence: 2 ** 53 }],
    'a sequence that is none': [good, { ...place, sequence: Number.NaN }],
  };
  expect(decode(good).errors).toEqual([]);
  for (const [what, [text, at]] of Object.entries(wrong)) {
    test(what, () => {
      const { event, errors } = decode(text, at);
      expect(event).toBeUndefined();
      expect(errors.map(({ code }) => code)).toEqual(['SSE_ERR_INVALID_BUS_EVENT']);
    });
  }
});

test('data beyond 64 Mi characters is dropped', () => {
  expect(decode(`1t 1 0 e\n${'x'.repeat(64 * 1024 * 1024)}`).event).toBeDefined();
  expect(decode(`1t 1 0 e\n${'x'.repeat(64 * 1024 * 1024 + 1)}`).event).toBeUndefined();
});

test('channel keys', () => {
  for (const key of ['t::a', 'u:ten%20ant:x y', 'e::', 'c::id', 'n::', 't::ünï🎈'])
    expect(keyProblem(key)).toBeUndefined();
  for (const key of ['', 't', 'T::a', 'tt::a', 't::\u007f', 5]) expect(keyProblem(key)).toBeDefined();
});
