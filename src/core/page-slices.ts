/**
 * A page of history as it goes out: in slices of a write each, with what must be looked at again for every client.
 *
 * A thousand clients that resume together read the same page. They share its frames, the bytes of each slice, and the
 * question of which channel keys and expiries are in it: what is left per client is a few comparisons and a write
 * (bench/replay.mjs, `resume`).
 */
import type { BusEvent } from './event.js';
import { type Encoded, type Frame, frameOf } from './frame.js';
import { SharedBatches } from './shared-batches.js';

/** Bytes written at once. */
const WRITE_BYTES = 64 * 1024;

/** Bytes of a page that are kept: what a client that reads nothing holds, besides what its socket has. */
export const PAGE_BYTES = 512 * 1024;

/** At least one event. */
export interface Slice {
  readonly frames: readonly Frame[];
  readonly encoded: Encoded;
  /** The channel keys in it, each once. */
  readonly keys: readonly string[];
  /** When the first of its events is past its ttl, in ms since 1970; Infinity where none has one. */
  readonly expiresAt: number;
  /** True where one of them may be hidden by a mailbox. */
  readonly hasMail: boolean;
  /** Sequence of the last event. */
  readonly through: number;
}

/** Of all brokers of this process: frames are theirs alone, so nothing is mixed up. */
const batches = new SharedBatches();

/** By the list that a bus gave: one that gives the same page to many gives the same list. */
const known = new WeakMap<readonly BusEvent[], readonly Slice[]>();

/** The slices of a page; of one with large events only the first, and the rest is to be read again. */
export function slicesOf(events: readonly BusEvent[]): readonly Slice[] {
  let slices = known.get(events);
  if (slices === undefined) {
    slices = cut(events);
    known.set(events, slices);
  }
  return slices;
}

function cut(events: readonly BusEvent[]): Slice[] {
  const slices: Slice[] = [];
  let pageBytes = 0;
  for (let next = 0; next < events.length && pageBytes < PAGE_BYTES; ) {
    const frames: Frame[] = [];
    const keys: string[] = [];
    let bytes = 0;
    let expiresAt = Number.POSITIVE_INFINITY;
    while (next < events.length && bytes < WRITE_BYTES) {
      const event = events[next++]!;
      const frame = frameOf(event);
      frames.push(frame);
      bytes += frame.bytes;
      if (!keys.includes(event.key)) keys.push(event.key);
      if (event.expiresAt !== 0 && event.expiresAt < expiresAt) expiresAt = event.expiresAt;
    }
    pageBytes += bytes;
    const hasMail = frames.some((frame) => frame.hasMail);
    slices.push({ frames, encoded: batches.of(frames), keys, expiresAt, hasMail, through: events[next - 1]!.sequence });
  }
  return slices;
}
