/**
 * What only a client has that does not keep up, or is ending: its queue, what was dropped of it, and since when its sink is
 * full. A hundred bytes that all others spare.
 */
import type { Client } from './client.js';
import type { ClientHost } from './client-host.js';
import type { Frame } from './frame.js';
import { type Gap, gapFrame } from './gap.js';
import type { OverflowPolicy } from './options.js';
import type { Queue } from './queue.js';

/** Room for a gap frame: two ids of at most 128 bytes, three times, and its text. */
const GAP_BYTES = 512;

export class Backlog {
  queue: Queue | undefined = undefined;
  /** Tick since when a full sink took nothing, or since when the client is ending. */
  stalledSince = 0;
  progress = 0;
  /** Frames dropped since the client was last told. */
  gap: { requested: string; resumedFrom: string; sequence: number } | undefined = undefined;

  /** Queues one frame by the overflow policy; false where the client had to go, or was ended by a listener. */
  admit(frame: Frame, client: Client, host: ClientHost): boolean {
    const queue = this.queue!;
    const overflow = overflowOf(client, host);
    // Frames were dropped after the newest in the queue: the gap takes its place before this one.
    const owesGap = overflow === 'drop-newest' && this.gap !== undefined;
    const limit = owesGap ? queue.limitHitBy(2, frame.bytes + GAP_BYTES) : queue.limitHitBy(1, frame.bytes);
    if (limit === undefined) {
      const gap = owesGap ? this.takeGap() : undefined;
      if (gap !== undefined) queue.push(gapFrame(gap, gap.resumedFrom));
      queue.push(frame);
      if (gap !== undefined) host.gapTold(client, gap);
      return !client.isOver;
    }
    if (overflow === 'disconnect') {
      host.dropped(queue.length + 1);
      host.overflowed(client, limit);
      client.fail('overflow');
      return false;
    }
    const isFirst = !queue.hasOverflowed;
    queue.hasOverflowed = true;
    if (this.gap === undefined) {
      const requested = overflow === 'drop-oldest' ? queue.lastId : queue.newestId;
      this.gap = { requested, resumedFrom: requested, sequence: -1 };
    }
    if (overflow === 'drop-newest') {
      // A more urgent one takes the place of the newest that waits, as long as it goes ahead of others.
      const less = queue.popFor(frame);
      this.#drop(less ?? frame, host);
      if (less !== undefined) {
        this.gap.requested = queue.newestId;
        if (queue.limitHitBy(1, frame.bytes) === undefined) queue.push(frame);
        else this.#drop(frame, host);
      }
    } else {
      const isFull = (): boolean => queue.limitHitBy(1, frame.bytes) !== undefined;
      while (queue.length > 0 && isFull() && !queue.isAllAbove(frame)) this.#drop(queue.shift()!, host);
      if (isFull()) this.#drop(frame, host);
      else queue.push(frame);
    }
    // When all is in its place: a listener may end this client.
    if (isFirst) host.overflowed(client, limit);
    return !client.isOver;
  }

  /** The gap that is owed. Its `gapTold` comes after it was handed over: a listener may end the stream. */
  takeGap(): Gap {
    const { requested, resumedFrom } = this.gap!;
    this.gap = undefined;
    return { reason: 'overflow', requested: requested || null, resumedFrom };
  }

  #drop(frame: Frame, host: ClientHost): void {
    const { gap } = this;
    host.dropped(frame.count);
    const sequence = frame.source?.sequence ?? gap!.sequence;
    // With priorities it may be from before one that was dropped already.
    if (frame.lastId === '' || sequence < gap!.sequence) return;
    gap!.resumedFrom = frame.lastId;
    gap!.sequence = sequence;
  }
}

/** One with a mailbox comes back, and gets it all from history or the store: nothing of that may be dropped. */
export function overflowOf({ mailbox }: Client, { options }: ClientHost): OverflowPolicy {
  return mailbox === undefined ? options.overflow : 'disconnect';
}
