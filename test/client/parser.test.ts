/** The parser reads what the HTML standard says (sections 9.2.5 and 9.2.6), wherever the bytes are cut, in linear time. */
import { createParser as createOtherParser } from 'eventsource-parser';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SSEClientError } from '../../src/client/index.js';
import { createParser } from '../../src/client/parser.js';

type Seen = ['block', string, string | undefined, string | undefined] | ['retry', number];

const encode = (text: string) => new TextEncoder().encode(text);

function read(pieces: readonly Uint8Array[], maxEventBytes = Number.POSITIVE_INFINITY): Seen[] {
  const seen: Seen[] = [];
  const parse = createParser(maxEventBytes, {
    block: (...block) => seen.push(['block', ...block]),
    retry: (delay) => seen.push(['retry', delay]),
  });
  for (const piece of pieces) parse(piece);
  return seen;
}

/** The standard, to the letter, over the whole stream at once. */
function readByModel(bytes: Uint8Array): Seen[] {
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
  const lines = (text.startsWith('\ufeff') ? text.slice(1) : text).split(/\r\n|\n|\r/);
  // What follows the last line end is not a line yet.
  lines.pop();
  const seen: Seen[] = [];
  let data = '';
  let type = '';
  let id: string | undefined;
  for (const line of lines) {
    if (line === '') {
      if (data !== '' || id !== undefined) seen.push(['block', type, data === '' ? undefined : data.slice(0, -1), id]);
      data = type = '';
      id = undefined;
      continue;
    }
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line)!;
    if (field === 'data') data += `${value}\n`;
    else if (field === 'event') type = value;
    else if (field === 'id' && !/\0/.test(value)) id = value;
    else if (field === 'retry' && /^[0-9]+$/.test(value)) seen.push(['retry', Number.parseInt(value, 10)]);
  }
  return seen;
}

/** Cut anywhere: also inside a character, and between CR and LF. */
function piecesOf(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, i) => bytes.subarray(at[i]!, end));
}

const token = fc.oneof(
  fc.constantFrom(
    'data',
    'event',
    'id',
    'retry',
    'Data',
    'dat',
    'datax',
    'i',
    ':',
    ': ',
    ' ',
    '',
    '\0',
    '\ufeff',
    '0',
    '12',
    '-1',
  ),
  fc.constantFrom(
    'data: x',
    'data:',
    'id: 7',
    'id:',
    'id: a\0b',
    'event: note',
    'event:',
    'retry: 250',
    'retry: 2x',
    ':c',
  ),
  fc.constantFrom('\n', '\r', '\r\n', '\n\n', '\r\r', '\r\n\r\n', '\n\r'),
  fc.constantFrom('é', '世', '\u{1F600}', 'ï»¿', '\u2028'),
);
const streams = fc
  .tuple(fc.constantFrom('', '\ufeff', '\ufeff\ufeff', 'ï»¿'), fc.array(token, { maxLength: 40 }))
  .map(([start, tokens]) => encode(start + tokens.join('')));

test('any bytes, cut anywhere, are read as the standard reads them', () => {
  fc.assert(
    fc.property(streams, fc.array(fc.nat(200), { maxLength: 12 }), (bytes, cuts) => {
      expect(read(piecesOf(bytes, cuts))).toEqual(readByModel(bytes));
    }),
    { numRuns: 3_000 },
  );
});

test('one byte at a time reads the same', () => {
  fc.assert(
    fc.property(streams, (bytes) => {
      expect(read([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(readByModel(bytes));
    }),
    { numRuns: 1_000 },
  );
});

test('bytes that are not UTF-8 become U+FFFD, and end nothing', () => {
  const bytes = Uint8Array.of(...encode('data: a'), 0xff, 0xc3, ...encode('\n\n'));
  expect(read([bytes])).toEqual([['block', '', 'a\ufffd\ufffd', undefined]]);
});

test('U+FEFF that is not at the start is a character, also where a chunk begins with it, and a chunk may be empty', () => {
  const pieces = [
    encode('\ufeffdata: a'),
    encode('\ufeff\n\ufeffdata: b\n'),
    encode('\n'),
    encode('\ufeffdata: c\ndata: d\n\n'),
  ];
  expect(read(pieces).map(([, , data]) => data)).toEqual(['a\ufeff', 'd']);
  const character = encode('世');
  const cut = [encode('data: '), character.subarray(0, 1), new Uint8Array(), character.subarray(1), encode('\n\n')];
  expect(read(cut).map(([, , data]) => data)).toEqual(['世']);
});

test('a block is told with its last byte, not with the first of the next: CR too', () => {
  for (const end of ['\n\n', '\r\r', '\r\n\r\n', '\n\r']) expect(read([encode(`data: x${end}`)])).toHaveLength(1);
  expect(read([encode('data: x\r\n\r'), encode('\n'), encode('data: y\r\r')])).toHaveLength(2);
});

test('it reads what eventsource-parser reads, but for the text that looks like a byte order mark', () => {
  const other = (text: string) => {
    const seen: string[] = [];
    createOtherParser({ onEvent: ({ data }) => seen.push(data) }).feed(text);
    return seen;
  };
  const ours = (text: string) => read([encode(text)]).flatMap((one) => (one[0] === 'block' ? [one[2]] : []));
  expect(ours('data: x\r\ndata: y\r\n\r\n')).toEqual(other('data: x\r\ndata: y\r\n\r\n'));
  const trap = 'ï»¿data: not a field\n\ndata: x\n\n';
  expect(ours(trap)).toEqual(['x']);
  // Why it is not used. When this fails, look again.
  expect(other(trap)).toEqual(['not a field', 'x']);
});

/** Milliseconds of CPU for a line of so many bytes, in pieces of 1 KiB. */
function timeOfLine(bytes: number): number {
  const piece = new Uint8Array(1_024).fill(120);
  const pieces = [encode('data: '), ...new Array<Uint8Array>(bytes / 1_024).fill(piece), encode('\n\n')];
  const before = process.cpuUsage();
  const [block] = read(pieces);
  const { user, system } = process.cpuUsage(before);
  expect(block?.[0] === 'block' && block[2]?.length).toBe(bytes);
  return (user + system) / 1_000;
}

test('a line of 16 MiB in pieces of 1 KiB takes time in proportion to its length', () => {
  timeOfLine(1 << 22);
  const one = Math.min(timeOfLine(1 << 24), timeOfLine(1 << 24), timeOfLine(1 << 24));
  // Long enough that a collection of garbage in between does not decide.
  const four = Math.min(timeOfLine(1 << 26), timeOfLine(1 << 26));
  // Four times as much; sixteen times where each piece looks at all that came before.
  expect(four / Math.max(one, 1)).toBeLessThan(10);
});

test('lines without a colon, and short ones by the thousand, are not looked at twice', () => {
  const before = process.cpuUsage();
  const text = encode('data\n'.repeat(200_000));
  expect(read([text, encode('\n')])).toHaveLength(1);
  const { user } = process.cpuUsage(before);
  expect(user / 1_000).toBeLessThan(2_000);
});

test('an event of maxEventBytes passes, one byte more does not, in one piece or many', () => {
  // The block with the end of its line: 'data: ' + x + LF.
  const fits = encode(`data: ${'x'.repeat(1_017)}\n\n`);
  const tooLarge = encode(`data: ${'x'.repeat(1_018)}\n\n`);
  for (const size of [1, 7, 1_024, 5_000]) {
    const cut = (bytes: Uint8Array) =>
      Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
    expect(read([...cut(fits), ...cut(fits)], 1_024)).toHaveLength(2);
    expect(() => read([...cut(fits), ...cut(tooLarge)], 1_024)).toThrow(SSEClientError);
  }
  const large = encode(`data: ${'世'.repeat(400)}\n\n`);
  expect(() => read([large], 1_024)).toThrow(
    expect.objectContaining({ code: 'SSE_CLIENT_TOO_LARGE', retryable: true }),
  );
  expect(() => read([encode('x'.repeat(2_000))], 1_024)).toThrow(SSEClientError);
});
