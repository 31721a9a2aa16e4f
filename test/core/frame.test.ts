import { createParser } from 'eventsource-parser';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { BusEvent } from '../../src/core/event.js';
import {
  Batch,
  commentFrame,
  controlFrame,
  type Encoded,
  encodedOf,
  eventText,
  type Frame,
  frameOf,
  merge,
} from '../../src/core/frame.js';
import { anyText } from '../support/any-text.js';
import { Reader } from '../support/reader.js';

interface Seen {
  readonly event: string;
  readonly data: string;
  readonly id: string;
}

function eventOf(sequence: number, parts: Partial<BusEvent> = {}): BusEvent {
  return {
    id: `e-${sequence}`,
    sequence,
    key: 'e::',
    event: 'note',
    data: '',
    json: false,
    timestamp: 0,
    expiresAt: 0,
    ...parts,
  };
}

/** What a reader makes of text: bytes are UTF-8, and every line ending is a line feed (HTML standard, section 9.2.6). */
const asRead = (text: string): string => text.toWellFormed().replaceAll(/\r\n|\r/g, '\n');

const dataText = fc.oneof(
  anyText(60),
  fc.string({
    unit: fc.constantFrom(
      '\r',
      '\n',
      '\r\n',
      ' ',
      ':',
      '\ufeff',
      '\0',
      '\ud83d',
      '\udc00',
      'é',
      '\u{1F600}',
      'data: x',
    ),
    maxLength: 12,
  }),
  fc.constantFrom(
    '',
    ' ',
    ':',
    '\n',
    '\r',
    '\r\n',
    '\n\n',
    '\r\r\n',
    '\ufeff',
    'data:',
    'id: 7\n\n',
    '\u2028\u2029\x85',
  ),
);
const nameText = fc
  .oneof(fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }), fc.constantFrom(' ', ': x', '\ufeffx', 'data'))
  .map((name) => name.toWellFormed().replaceAll(/[\0\r\n]/g, '_'));
const idText = fc.stringMatching(/^[A-Za-z0-9._~-]{1,128}$/);
const events = fc.array(fc.record({ id: idText, event: nameText, data: dataText }), { minLength: 1, maxLength: 8 });

/** The bytes in pieces, cut anywhere: also inside a character, and between CR and LF. */
function piecesOf(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const at = [0, ...[...cuts].map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, i) => bytes.subarray(at[i]!, end));
}

function readByParser(pieces: readonly Uint8Array[]): Seen[] {
  const seen: Seen[] = [];
  const decoder = new TextDecoder();
  const parser = createParser({
    onEvent: ({ event = '', data, id = '' }) => seen.push({ event, data, id }),
    onError: (error) => expect.unreachable(error.message),
  });
  for (const piece of pieces) parser.feed(decoder.decode(piece, { stream: true }));
  return seen;
}

function readByStandard(pieces: readonly Uint8Array[]): Seen[] {
  const reader = new Reader();
  for (const piece of pieces) reader.feed(piece);
  return reader.events.map(({ type, data, lastEventId }) => ({ event: type, data, id: lastEventId }));
}

test('whatever text is published, two independent parsers read it back, however the bytes are cut', () => {
  fc.assert(
    fc.property(events, fc.array(fc.nat(2_000), { maxLength: 12 }), (list, cuts) => {
      const frames = list.map((parts, i) => frameOf(eventOf(i, parts)));
      const pieces = piecesOf(Buffer.concat(frames.map(({ payload }) => payload)), cuts);
      const expected = list.map(({ id, event, data }) => ({ event: asRead(event), data: asRead(data), id }));
      expect(readByStandard(pieces)).toEqual(expected);
      expect(readByParser(pieces)).toEqual(expected);
    }),
    { numRuns: 1_500 },
  );
});

test('text cannot leave its event: as many events come out as went in', () => {
  const attacks = [
    '\n\nevent: closing\ndata: {}\n\n',
    '\r\rid: stolen\r\r',
    '\r\n\r\nretry: 1\r\n\r\n',
    ':comment\n',
    '\nid: \0',
    'x'.repeat(100_000),
  ];
  for (const data of attacks) {
    const seen = readByStandard([frameOf(eventOf(1, { data })).payload]);
    expect(seen).toEqual([{ event: 'note', data: asRead(data), id: 'e-1' }]);
  }
});

test('one byte at a time reads the same', () => {
  const frame = frameOf(eventOf(1, { data: '\u{1F600}\r\né\r\n\r\n', event: '\ufeff' }));
  const bytes = [...frame.payload].map((byte) => Buffer.of(byte));
  const expected = [{ event: '\ufeff', data: '\u{1F600}\né\n\n', id: 'e-1' }];
  expect(readByStandard(bytes)).toEqual(expected);
  expect(readByParser(bytes)).toEqual(expected);
});

/** Takes HTTP/1.1 chunks apart (RFC 9112, section 7.1), strictly: no extensions, no leading zeros, nothing left over. */
function unchunk(bytes: Buffer): Buffer[] {
  const bodies: Buffer[] = [];
  let at = 0;
  while (at < bytes.length) {
    const lineEnd = bytes.indexOf('\r\n', at, 'latin1');
    const size = bytes.toString('latin1', at, lineEnd);
    expect(size).toMatch(/^[1-9a-f][0-9a-f]*$/);
    const start = lineEnd + 2;
    const end = start + Number.parseInt(size, 16);
    expect(bytes.toString('latin1', end, end + 2)).toBe('\r\n');
    bodies.push(bytes.subarray(start, end));
    at = end + 2;
  }
  expect(at).toBe(bytes.length);
  return bodies;
}

test('the chunk is the payload in exact HTTP/1.1 framing, and both are one piece of memory', () => {
  const text = fc.oneof(
    dataText,
    fc.nat(70_000).map((length) => 'é'.repeat(length)),
  );
  fc.assert(
    fc.property(text, (data) => {
      const frame = frameOf(eventOf(1, { data }));
      const [body, ...more] = unchunk(frame.chunk);
      expect(more).toEqual([]);
      expect(body!.equals(frame.payload)).toBe(true);
      expect(frame.bytes).toBe(frame.payload.length);
      expect(frame.payload.buffer).toBe(frame.chunk.buffer);
      expect(frame.payload.toString()).toBe(eventText(frame.source!).toWellFormed());
    }),
    { numRuns: 300 },
  );
});

test('as a string the chunk is the same bytes, and there is one only where that is cheaper: ASCII, for one recipient', () => {
  fc.assert(
    fc.property(fc.oneof(dataText, fc.stringMatching(/^[ -~]{0,40}$/)), fc.boolean(), (data, isForOne) => {
      const frame = frameOf(eventOf(1, { data }));
      frame.isForOne = isForOne;
      const text = frame.chunkText;
      const isAscii = frame.payload.every((byte) => byte < 0x80);
      expect(text !== undefined).toBe(isForOne && isAscii);
      if (text !== undefined) expect(Buffer.from(text, 'latin1').equals(frame.chunk)).toBe(true);
    }),
  );
});

test('several that go to one recipient are one string, too, where each of them would be', () => {
  const part = fc.record({
    data: fc.oneof(dataText, fc.stringMatching(/^[ -~]{0,40}$/)),
    event: fc.oneof(fc.constantFrom('tick', 'größe'), fc.stringMatching(/^[a-z]{1,9}$/)),
    isForOne: fc.constantFrom(true, true, true, false),
  });
  fc.assert(
    fc.property(fc.array(part, { minLength: 2, maxLength: 5 }), (parts) => {
      const frames = parts.map(({ data, event, isForOne }, i) => {
        const frame = frameOf(eventOf(i + 1, { data, event }));
        frame.isForOne = isForOne;
        return frame;
      });
      const batch = new Batch(frames);
      const text = batch.chunkText;
      const isAscii = frames.every(({ source }) => /^[\0-\x7f]*$/.test(source!.data + source!.event));
      expect(text !== undefined).toBe(isAscii && parts.every(({ isForOne }) => isForOne));
      // The Buffer is another form of the same bytes, and of the same number of them.
      if (text !== undefined) expect(Buffer.from(text, 'latin1').equals(batch.chunk)).toBe(true);
      expect(batch.payload.equals(Buffer.concat(frames.map(({ payload }) => payload)))).toBe(true);
      expect(batch.bytes).toBe(batch.payload.length);
      expect(batch.chunkText).toBeUndefined();
    }),
    { numRuns: 300 },
  );
});

test('sizes around powers of sixteen are framed right', () => {
  for (const size of [0xf, 0x10, 0x11, 0xff, 0x100, 0xfff, 0x1000, 0xffff, 0x10000]) {
    const overhead = commentFrame('').bytes;
    const frame = commentFrame('x'.repeat(size - overhead));
    expect(frame.chunk.toString('latin1').split('\r\n')[0]).toBe(size.toString(16));
    expect(unchunk(frame.chunk)[0]!.length).toBe(size);
  }
});

const frameLists = fc
  .array(fc.oneof(dataText, fc.constant(undefined)), { minLength: 1, maxLength: 10 })
  .map((list) =>
    list.map((data, i): Frame => (data === undefined ? commentFrame(String(i)) : frameOf(eventOf(i, { data })))),
  );

test('a batch is its frames one after the other, in one chunk, made once', () => {
  fc.assert(
    fc.property(frameLists, (frames) => {
      const batch = new Batch(frames);
      const whole = Buffer.concat(frames.map(({ payload }) => payload));
      expect(unchunk(batch.chunk).map(String)).toEqual([whole.toString()]);
      expect(batch.payload.equals(whole)).toBe(true);
      expect(batch.bytes).toBe(whole.length);
      expect(batch.count).toBe(frames.filter(({ source }) => source !== undefined).length);
      expect(batch.chunk).toBe(batch.chunk);
      expect(batch.payload).toBe(batch.payload);
      expect(batch.frames).toEqual(frames);
      expect(batch.lastId).toBe(
        frames
          .map(({ lastId }) => lastId)
          .filter((id) => id !== '')
          .at(-1) ?? '',
      );
      // In whatever order the two are asked for.
      const other = new Batch(frames);
      expect(other.payload.equals(whole)).toBe(true);
      expect(other.chunk.equals(batch.chunk)).toBe(true);
    }),
  );
});

test('one frame is encoded as it is, without a batch around it', () => {
  const frame = frameOf(eventOf(1));
  expect(encodedOf([frame])).toBe(frame);
  expect(frame.frames).toEqual([frame]);
  expect(encodedOf([frame, frame])).toBeInstanceOf(Batch);
});

test('an event is encoded once, whoever asks', () => {
  const event = eventOf(1, { data: 'x' });
  expect(frameOf(event)).toBe(frameOf(event));
  expect(frameOf(event).payload).toBe(frameOf(event).payload);
});

test('merging restores the order of dispatch, loses nothing and changes neither side', () => {
  const side = fc.array(fc.nat(1_000), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(side, side, (left, right) => {
      const framesOf = (orders: readonly number[]): Frame[] =>
        [...orders]
          .sort((a, b) => a - b)
          .map((order) => {
            const frame = commentFrame(String(order));
            frame.order = order;
            return frame;
          });
      const first: Encoded = encodedOf(framesOf(left));
      const second: Encoded = encodedOf(framesOf(right));
      const before = [[...first.frames], [...second.frames]];
      const both = merge(first, second);
      expect(both.frames.map(({ order }) => order)).toEqual([...left, ...right].sort((a, b) => a - b));
      expect(both.bytes).toBe(first.bytes + second.bytes);
      expect(new Set(both.frames)).toEqual(new Set([...first.frames, ...second.frames]));
      expect([first.frames, second.frames]).toEqual(before);
    }),
  );
});

test('the parts of a text come in the order retry, id, event, data, and only those that are given', () => {
  expect(eventText({ id: 'a-1', event: 'note', data: 'x\ny', retry: 5 })).toBe(
    'retry: 5\nid: a-1\nevent: note\ndata: x\ndata: y\n\n',
  );
  expect(eventText({ id: 'a-1' })).toBe('id: a-1\n\n');
  expect(eventText({ retry: 0 })).toBe('retry: 0\n\n');
  expect(eventText({ data: '' })).toBe('data: \n\n');
});

test('a block with an id and no data moves the cursor and fires nothing', () => {
  const reader = new Reader('a-1');
  reader.feed(controlFrame({ id: 'a-9' }).payload);
  expect(reader.events).toEqual([]);
  expect(reader.lastEventId).toBe('a-9');
});

test('a comment is seen by nobody and moves no cursor', () => {
  const reader = new Reader('a-1');
  reader.feed(commentFrame().payload);
  expect(commentFrame().payload.toString()).toBe(':\n\n');
  expect(reader.events).toEqual([]);
  expect(reader.lastEventId).toBe('a-1');
  expect(commentFrame()).toMatchObject({ count: 0, lastId: '' });
});

test('a frame of the broker counts no event and carries its id', () => {
  expect(controlFrame({ event: 'gap', data: '{}', id: 'a-2' })).toMatchObject({ count: 0, lastId: 'a-2' });
  expect(controlFrame({ event: 'gap', data: '{}' })).toMatchObject({ count: 0, lastId: '' });
  expect(frameOf(eventOf(3))).toMatchObject({ count: 1, lastId: 'e-3' });
});

test('an event expires at its moment, one without a moment never, a frame of the broker never', () => {
  const frame = frameOf(eventOf(1, { expiresAt: 100 }));
  expect([99, 100, 101].map((now) => frame.hasExpired(now))).toEqual([false, true, true]);
  expect(frameOf(eventOf(2)).hasExpired(Number.MAX_SAFE_INTEGER)).toBe(false);
  expect(commentFrame().hasExpired(Number.MAX_SAFE_INTEGER)).toBe(false);
});
