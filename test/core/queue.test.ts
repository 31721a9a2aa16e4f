import fc from 'fast-check';
import { expect, test } from 'vitest';
import { commentFrame, controlFrame, type Frame, frameOf } from '../../src/core/frame.js';
import { Queue, type QueueTotals } from '../../src/core/queue.js';
import { stillHeld } from '../support/garbage.js';

let sequence = 0;

function frameWith(bytes: number, expiresAt: number): Frame {
  sequence++;
  const event = { id: `q-${sequence}`, sequence, key: 'e::', event: 'n', json: false, timestamp: 0, expiresAt };
  return frameOf({ ...event, data: 'x'.repeat(bytes) });
}

type Command =
  | { do: 'push'; kind: 'event' | 'comment' | 'control'; bytes: number; expiresAt: number }
  | { do: 'shift' }
  | { do: 'take'; maxBytes: number; now: number }
  | { do: 'clear' };

const commands: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('push' as const),
      kind: fc.constantFrom('event' as const, 'event' as const, 'comment' as const, 'control' as const),
      bytes: fc.nat(60),
      expiresAt: fc.constantFrom(0, 0, 0, 5, 15),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('shift' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('take' as const), maxBytes: fc.nat(400), now: fc.constantFrom(0, 10, 20) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('clear' as const) }) },
);

test('a queue behaves like a list: order, bytes, limits, cursor and the totals of all queues', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.boolean(), commands), { maxLength: 200, size: 'max' }),
      fc.nat(20),
      fc.nat(600),
      (script, maxFrames, maxBytes) => {
        const totals: QueueTotals = { frames: 0, bytes: 0 };
        // Two queues share the totals.
        const queues = [new Queue(maxFrames, maxBytes, totals), new Queue(maxFrames, maxBytes, totals)];
        const models: { frames: Frame[]; lastId: string }[] = [
          { frames: [], lastId: '' },
          { frames: [], lastId: '' },
        ];
        const bytesOf = (frames: readonly Frame[]) => frames.reduce((sum, frame) => sum + frame.bytes, 0);
        for (const [which, command] of script) {
          const queue = queues[Number(which)]!;
          const model = models[Number(which)]!;
          if (command.do === 'push') {
            const frame =
              command.kind === 'event'
                ? frameWith(command.bytes, command.expiresAt)
                : command.kind === 'comment'
                  ? commentFrame('c')
                  : controlFrame({ id: `gap-${++sequence}`, event: 'gap', data: '{}' });
            const breaksFrames = maxFrames > 0 && model.frames.length + 1 > maxFrames;
            const breaksBytes = maxBytes > 0 && bytesOf(model.frames) + frame.bytes > maxBytes;
            expect(queue.limitHitBy(1, frame.bytes)).toBe(breaksFrames ? 'frames' : breaksBytes ? 'bytes' : undefined);
            queue.push(frame);
            model.frames.push(frame);
          } else if (command.do === 'shift') {
            expect(queue.shift()).toBe(model.frames.shift());
          } else if (command.do === 'clear') {
            queue.clear();
            model.frames = [];
          } else {
            const expected: Frame[] = [];
            while (model.frames.length > 0) {
              const next = model.frames[0]!;
              if (expected.length > 0 && bytesOf(expected) + next.bytes > command.maxBytes) break;
              model.frames.shift();
              if (!next.hasExpired(command.now)) expected.push(next);
            }
            expect(queue.take(command.maxBytes, command.now)?.frames ?? []).toEqual(expected);
            model.lastId =
              expected
                .map(({ lastId }) => lastId)
                .filter((id) => id !== '')
                .at(-1) ?? model.lastId;
          }
          expect(queue.length).toBe(model.frames.length);
          expect(queue.bytes).toBe(bytesOf(model.frames));
          expect(queue.lastId).toBe(model.lastId);
          expect(queue.newestId).toBe(
            model.frames
              .map(({ lastId }) => lastId)
              .filter((id) => id !== '')
              .at(-1) ?? model.lastId,
          );
          expect(totals).toEqual({
            frames: models[0]!.frames.length + models[1]!.frames.length,
            bytes: bytesOf(models[0]!.frames) + bytesOf(models[1]!.frames),
          });
        }
        for (const [i, queue] of queues.entries()) {
          for (const frame of models[i]!.frames) expect(queue.shift()).toBe(frame);
          expect(queue.shift()).toBeUndefined();
          expect(queue.take(100, 0)).toBeUndefined();
        }
        expect(totals).toEqual({ frames: 0, bytes: 0 });
      },
    ),
    { numRuns: 300 },
  );
});

test('limits of 0 are none', () => {
  const queue = new Queue(0, 0, { frames: 0, bytes: 0 });
  for (let i = 0; i < 1_000; i++) queue.push(frameWith(1_000, 0));
  expect(queue.limitHitBy(1_000_000, 1e12)).toBeUndefined();
  expect(queue.length).toBe(1_000);
});

test('a frame larger than what is asked for is taken all the same: a queue never gets stuck', () => {
  const queue = new Queue(0, 0, { frames: 0, bytes: 0 });
  const frame = frameWith(1_000, 0);
  queue.push(frame);
  queue.push(frameWith(1, 0));
  expect(queue.take(10, 0)).toBe(frame);
  expect(queue.length).toBe(1);
});

test('what left the queue is let go of', async () => {
  const queue = new Queue(0, 0, { frames: 0, bytes: 0 });
  const references: WeakRef<Frame>[] = [];
  for (let i = 0; i < 100; i++) {
    const frame = frameWith(10, 0);
    references.push(new WeakRef(frame));
    queue.push(frame);
  }
  while (queue.shift() !== undefined);
  expect(await stillHeld(references)).toBeLessThan(5);
});

test('ids are plain again once everything that was overtaken has gone out', () => {
  const queue = new Queue(0, 0, { frames: 0, bytes: 0 });
  queue.lastId = 'q-0';
  const frames = [frameWith(1, 0), frameWith(1, 0), frameWith(1, 0), frameWith(1, 0)];
  Object.assign(frames[2]!.source!, { priority: 2 });
  for (const frame of frames.slice(0, 3)) queue.push(frame);
  const ids = queue.take(1_000, 0)!.frames.map(({ lastId }) => lastId);
  expect(ids.every((id) => id.includes('~o'))).toBe(true);
  queue.push(frames[3]!);
  expect(queue.take(1_000, 0)!.lastId).toBe(frames[3]!.source!.id);
});
