/**
 * Priorities in a client's waiting queue: the urgent go first, and wherever the stream is cut, a client that comes back gets what it
 * has not got, each event once.
 */
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import {
  Broker,
  type Encoded,
  type OverflowPolicy,
  type Priority,
  type Sink,
  type SinkOwner,
} from '../../src/index.js';
import { Reader } from '../support/reader.js';

const PRIORITIES: readonly Priority[] = ['normal', 'high', 'urgent'];

/** Takes what it is given one event after the other, as far as it is let. */
class SlowSink implements Sink {
  readonly bytes: Buffer[] = [];
  isFull = false;
  #owner: SinkOwner | undefined = undefined;

  open(owner: SinkOwner): void {
    this.#owner = owner;
  }

  write(encoded: Encoded): boolean {
    this.bytes.push(Buffer.from(encoded.payload));
    return !this.isFull;
  }

  end(): void {}
  destroy(): void {}

  progress(): number {
    return 0;
  }

  drain(): void {
    this.isFull = false;
    this.#owner?.drained();
  }

  leave(): void {
    this.#owner?.closed();
    this.#owner = undefined;
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

const numbersOf = (reader: Reader): number[] =>
  reader.events.filter(({ type }) => type === 'number').map(({ data }) => Number(data));

async function makeBroker(overflow: OverflowPolicy, clientBufferSize: number): Promise<Broker> {
  const broker = new Broker({ historySize: 1_000, overflow, clientBufferSize, clientTimeout: 0 });
  onTestFinished(async () => {
    await broker.close({ timeoutMs: 10 });
  });
  return broker;
}

test('the urgent go first, each priority in order, and a client that keeps up gets all in order', async () => {
  const broker = await makeBroker('disconnect', 256);
  const slow = new SlowSink();
  const quick = new SlowSink();
  for (const sink of [slow, quick]) broker.connect({ sink, identity: { userId: 'anna' } });
  slow.isFull = true;
  const send = (number: number, priority: Priority) => broker.sendToUser('anna', 'number', number, { priority });
  await send(1, 'normal');
  await turn();
  for (const [number, level] of [0, 1, 2, 0, 1, 2].entries()) await send(number + 2, PRIORITIES[level]!);
  await turn();
  slow.drain();
  const read = ({ bytes }: SlowSink) => {
    const reader = new Reader();
    for (const one of bytes) reader.feed(one);
    return numbersOf(reader);
  };
  // The second waits first: nothing else does yet.
  expect(read(slow)).toEqual([1, 4, 7, 3, 6, 2, 5]);
  expect(read(quick)).toEqual([1, 2, 3, 4, 5, 6, 7]);
});

test.each(['drop-oldest', 'drop-newest'] as const)('with %s the lowest priority is dropped first', async (overflow) => {
  const broker = await makeBroker(overflow, 4);
  const sink = new SlowSink();
  broker.connect({ sink, identity: { userId: 'anna' } });
  sink.isFull = true;
  const levels = [0, 0, 0, 0, 0, 2, 2];
  for (const [number, level] of levels.entries()) {
    await broker.sendToUser('anna', 'number', number, { priority: PRIORITIES[level]! });
    await turn();
  }
  sink.drain();
  const reader = new Reader();
  for (const one of sink.bytes) reader.feed(one);
  expect(numbersOf(reader)).toEqual(overflow === 'drop-oldest' ? [0, 5, 6, 3, 4] : [0, 5, 6, 1, 2]);
});

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('send' as const),
      levels: fc.array(fc.nat(2), { minLength: 1, maxLength: 6 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('stall' as const) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('drain' as const) }) },
);

test('cut anywhere, a client that comes back gets the rest, and nothing twice', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 25 }), fc.nat(), async (steps, at) => {
      const broker = new Broker({ historySize: 1_000, clientTimeout: 0, clientBufferSize: 0, clientBufferBytes: 0 });
      try {
        const sink = new SlowSink();
        broker.connect({ sink, identity: { userId: 'anna' } });
        let sent = 0;
        for (const one of steps) {
          if (one.kind === 'send') {
            for (const level of one.levels) {
              await broker.sendToUser('anna', 'number', sent++, { priority: PRIORITIES[level]! });
            }
          } else if (one.kind === 'stall') sink.isFull = true;
          else sink.drain();
          await turn();
        }
        const all = Buffer.concat(sink.bytes);
        // Every end of an event, and one place in the middle of something.
        const cuts = [at % (all.length + 1)];
        for (let i = all.indexOf('\n\n'); i !== -1; i = all.indexOf('\n\n', i + 2)) cuts.push(i + 2);
        for (const cut of cuts) {
          const first = new Reader();
          first.feed(all.subarray(0, cut));
          // Before the first frame it has no cursor, and begins at the head.
          if (first.lastEventId === '') continue;
          const again = new SlowSink();
          broker.connect({ sink: again, identity: { userId: 'anna' }, lastEventId: first.lastEventId });
          const second = new Reader(first.lastEventId);
          for (const bytes of again.bytes) second.feed(bytes);
          again.leave();
          const got = [...numbersOf(first), ...numbersOf(second)];
          expect(
            got.toSorted((a, b) => a - b),
            `cut at ${cut} with ${first.lastEventId}`,
          ).toEqual(Array.from({ length: sent }, (_, i) => i));
        }
        sink.leave();
      } finally {
        await broker.close({ timeoutMs: 10 });
      }
    }),
    { numRuns: 150 },
  );
}, 60_000);
