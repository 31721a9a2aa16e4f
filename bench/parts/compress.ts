/** What does compressing cost: once for an event, and then for each client? And what comes of it? */
import { Bench } from 'tinybench';
import { GzipStream } from '../../src/core/deflate.js';
import type { BusEvent } from '../../src/core/event.js';
import { Batch, frameOf } from '../../src/core/frame.js';

const event = (data: string): BusEvent => ({
  id: 'mwpykany1w7m79-12345',
  sequence: 12_345,
  key: 'u::alice',
  event: 'job.progress',
  data,
  json: true,
  timestamp: 0,
  expiresAt: 0,
});

/** JSON as applications send it: names that come again, values that do not. */
const rows = (count: number) =>
  JSON.stringify(
    Array.from({ length: count }, (_, n) => ({
      jobId: `job-${(n * 7919 + 13) % 9973}`,
      progress: ((n * 37) % 100) / 100,
      status: n % 3 === 0 ? 'running' : 'waiting',
    })),
  );
const sizes = [1, 4, 16, 64].map((count) => rows(count));

export const bench = new Bench({ name: 'compress', time: 300 });
for (const data of sizes) {
  const frame = frameOf(event(data));
  const { length } = new GzipStream().next(frame).payload;
  bench.add(`once: ${frame.bytes} B become ${length} B`, () => new GzipStream().next(frameOf(event(data))).chunk);
}
const shared = frameOf(event(sizes[1]!));
const batch = new Batch(Array.from({ length: 50 }, () => frameOf(event(sizes[1]!))));
const stream = new GzipStream();
stream.next(shared);
stream.next(batch);
bench
  .add('each client: a write of one event', () => stream.next(shared).chunk)
  .add('each client: a write of fifty', () => stream.next(batch).chunk);
