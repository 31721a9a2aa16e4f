/** What does a client that cannot keep up cost per event? */
import { Bench } from 'tinybench';
import { commentFrame } from '../../src/core/frame.js';
import { Queue } from '../../src/core/queue.js';

const totals = { frames: 0, bytes: 0 };
const frame = commentFrame('x'.repeat(200));
const queue = new Queue(256, 1024 * 1024, totals);
for (let i = 0; i < 200; i++) queue.push(frame);

export const bench = new Bench({ name: 'queue', time: 300 })
  .add('push and shift', () => {
    queue.push(frame);
    queue.shift();
  })
  .add('200 pushes and one take', () => {
    const fresh = new Queue(256, 1024 * 1024, totals);
    for (let i = 0; i < 200; i++) fresh.push(frame);
    return fresh.take(64 * 1024, 0);
  });
