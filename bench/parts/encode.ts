/** What does one event cost before anybody gets it? */
import { Bench } from 'tinybench';
import { GzipStream } from '../../src/core/deflate.js';
import type { BusEvent } from '../../src/core/event.js';
import { Batch, eventText, Frame, frameOf } from '../../src/core/frame.js';

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
const small = JSON.stringify({ text: 'x'.repeat(180) });
const lines = 'a line of text\n'.repeat(14);
const wide = JSON.stringify({ text: '日本語'.repeat(30) });
const frames = Array.from({ length: 50 }, () => frameOf(event(small)));

export const bench = new Bench({ name: 'encode', time: 300 })
  .add('text of 200 B', () => eventText(event(small)))
  .add('frame of 200 B, as one string', () => {
    const frame = new Frame(eventText(event(small)), event(small));
    frame.isForOne = true;
    return frame.chunkText;
  })
  .add('frame of 200 B, as one Buffer', () => frameOf(event(small)).chunk)
  .add('frame of 14 lines', () => frameOf(event(lines)).chunk)
  .add('frame of 270 B that are not ASCII', () => frameOf(event(wide)).chunk)
  .add('batch of 50 frames', () => new Batch(frames).chunk)
  .add('frame of 200 B, deflated', () => new GzipStream().next(frameOf(event(small))).chunk);
