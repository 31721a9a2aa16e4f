/** Blocks of deflate in any order make valid gzip, and no block knows of another. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { GzipStream } from '../../src/core/deflate.js';
import { Batch, controlFrame, type Encoded, type Frame, frameOf, merge } from '../../src/core/frame.js';
import { Broker, type Sink } from '../../src/index.js';
import { PipeSink } from '../support/pipe-sink.js';
import { checkGzip, inflateBlock } from './gzip-stream.js';

const frame = (data: string, order = 0): Frame => {
  const made = frameOf({
    id: `f-${order}`,
    sequence: order,
    key: 'e::',
    event: 'n',
    data,
    json: false,
    timestamp: 0,
    expiresAt: 0,
  } as never);
  made.order = order;
  return made;
};

const text = fc.oneof(
  { weight: 6, arbitrary: fc.string({ unit: 'binary', maxLength: 60 }) },
  { weight: 2, arbitrary: fc.string({ unit: 'grapheme', maxLength: 30 }) },
  // Around the sizes of windows, blocks and zlib's own buffers.
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.constantFrom(1_000, 8_191, 8_192, 8_193, 16_384, 16_400, 70_000), fc.nat(40), fc.boolean())
      .map(([length, more, isNoise]) =>
        Array.from({ length: length + more }, (_, i) =>
          isNoise ? String.fromCharCode(33 + ((Math.imul(i + length, 2_654_435_761) >>> 13) % 90)) : 'ab'[i & 1],
        ).join(''),
      ),
  },
);
/** Frames of which each client has some, in writes of one or more. */
const writes = fc.array(fc.array(fc.nat(11), { minLength: 1, maxLength: 5 }), { maxLength: 12 });

test('any frames, in any order, in any batches, for any number of clients: text, checksum and length are right', () => {
  fc.assert(
    fc.property(
      fc.array(text, { minLength: 12, maxLength: 12 }),
      fc.array(writes, { minLength: 1, maxLength: 5 }),
      (texts, clients) => {
        const frames = texts.map((data, i) => (i === 11 ? controlFrame({ data }) : frame(data, i)));
        // Shared by the clients, as a fan-out shares them.
        const batches = new Map<string, Encoded>();
        for (const script of clients) {
          const stream = new GzipStream();
          const bytes = [stream.header.payload];
          let expected = '';
          for (const numbers of script) {
            const key = numbers.join();
            const members = numbers.map((number) => frames[number]!);
            const encoded = batches.get(key) ?? (members.length === 1 ? members[0]! : new Batch(members));
            batches.set(key, encoded);
            bytes.push(stream.next(encoded).payload);
            expected += members.map(({ payload }) => payload.toString()).join('');
          }
          bytes.push(stream.trailer.payload);
          checkGzip(Buffer.concat(bytes), expected);
        }
      },
    ),
    { numRuns: 150 },
  );
});

test("what goes over HTTP/1.1's raw socket is the same bytes inside one chunk", () => {
  const stream = new GzipStream();
  const batch = new Batch([frame('a', 1), frame('b'.repeat(9_000), 2)]);
  for (const { chunk, payload } of [stream.header, stream.next(frame('x', 3)), stream.next(batch), stream.trailer]) {
    expect(chunk.toString('latin1')).toBe(`${payload.length.toString(16)}\r\n${payload.toString('latin1')}\r\n`);
  }
});

/** A compressed client of a broker, which also keeps what each write came to. */
class GzipSink extends PipeSink {
  readonly stream = new GzipStream();
  readonly compressed: Buffer[] = [this.stream.header.payload];
  plain = '';
  override write(encoded: Encoded): boolean {
    this.plain += encoded.payload.toString();
    this.compressed.push(this.stream.next(encoded).payload);
    return super.write(encoded);
  }
  override end(last?: Encoded): void {
    if (last !== undefined) {
      this.plain += last.payload.toString();
      this.compressed.push(this.stream.next(last).payload);
    }
    this.compressed.push(this.stream.trailer.payload);
    super.end(last);
  }
}

test('clients with different users and topics, in any turns: each one gets a valid stream of exactly its own', async () => {
  const step = fc.oneof(
    { weight: 8, arbitrary: fc.record({ to: fc.constantFrom('a', 'b', 'user', 'all'), user: fc.nat(4), data: text }) },
    { weight: 2, arbitrary: fc.constant('turn' as const) },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.subarray(['a', 'b']), { minLength: 5, maxLength: 5 }),
      fc.array(step, { maxLength: 40 }),
      async (topics, script) => {
        const broker = new Broker({ clientBufferSize: 0, clientBufferBytes: 0 });
        const sinks = topics.map((list, user) => {
          const sink = new GzipSink();
          broker.connect({ sink: sink satisfies Sink, identity: { userId: `u${user}` }, topics: list });
          return sink;
        });
        const expected = sinks.map((): string[] => []);
        for (const [i, action] of script.entries()) {
          if (action === 'turn') {
            await new Promise((resolve) => setImmediate(resolve));
            continue;
          }
          const { to, user, data } = action;
          for (const [n, list] of topics.entries()) {
            if (to === 'all' || (to === 'user' && n === user) || list.includes(to)) expected[n]!.push(`event: e${i}\n`);
          }
          if (to === 'all') void broker.broadcast(`e${i}`, { data });
          else if (to === 'user') void broker.sendToUser(`u${user}`, `e${i}`, { data });
          else void broker.sendToTopic(to, `e${i}`, { data });
        }
        await broker.close();
        for (const [n, sink] of sinks.entries()) {
          checkGzip(Buffer.concat(sink.compressed), sink.plain);
          expect(sink.plain.match(/^event: e\d+\n/gm) ?? []).toEqual(expected[n]);
        }
      },
    ),
    { numRuns: 80 },
  );
});

test('the size of an event says nothing about what went before it, not even in the same turn', () => {
  const blockOf = (...frames: Frame[]) =>
    new GzipStream().next(frames.length === 1 ? frames[0]! : new Batch(frames)).payload.length;
  fc.assert(
    fc.property(fc.array(text, { minLength: 1, maxLength: 4 }), text, (before, secret) => {
      const alone = blockOf(frame(secret, 1));
      // A guess that hits is as long as one that misses.
      for (const guesses of [before, [secret], [`${secret}${secret}`, secret.slice(0, 20)]]) {
        const frames = guesses.map((guess) => frame(guess, 1));
        const sizes = frames.map((one) => blockOf(one));
        const sum = sizes.reduce((total, size) => total + size, 0);
        expect(blockOf(...frames, frame(secret, 1)) - sum).toBe(alone);
        // Nor is it one that was merged of two audiences.
        const both = merge(frames[0]!, frame(secret, 1));
        expect(new GzipStream().next(both).payload.length).toBe(sizes[0]! + alone);
      }
    }),
    { numRuns: 100 },
  );
});

test('a block can be read by itself: it refers to nothing before it', async () => {
  const words = 'the same words again and again, which any dictionary would remember ';
  const stream = new GzipStream();
  const one = frame(words, 1);
  const other = frame(`${words}${words}`, 2);
  stream.next(one);
  const batch = stream.next(new Batch([one, other])).payload;
  const alone = stream.next(other).payload;
  expect(await inflateBlock(alone)).toBe(other.payload.toString());
  expect(batch.subarray(-alone.length).equals(alone)).toBe(true);
});
