/**
 * What of the live frames a client has from history already: a node delivers late what its bus has let a client read.
 *
 * Sequences are compared within one epoch only. A frame that cannot be compared counts as new: that can tell a gap too many,
 * never one too few.
 */
import type { Head } from './bus.js';
import type { Frame } from './frame.js';
import { LossFrame } from './gap.js';

/** Where a client's history ends: a {@link Head} without its id. */
export type Served = Pick<Head, 'sequence' | 'epoch'>;

/** By what a frame stands in the order of `epoch`; what has no place there comes after everything that history could serve. */
export function placeOf(frame: Frame, epoch: string | undefined): number {
  if (frame.source !== undefined) return frame.source.sequence;
  return frame instanceof LossFrame ? frame.throughIn(epoch) : Number.POSITIVE_INFINITY;
}

/** Index of the first of `frames`, in order, that comes after what was served; their number where none does. */
export function firstUnserved(frames: readonly Frame[], served: Served): number {
  let first = Math.max(0, beginningOf(frames, served.epoch));
  while (first < frames.length && placeOf(frames[first]!, served.epoch) <= served.sequence) first++;
  return first;
}

/**
 * Index of the loss by which the node learns that `epoch` has begun; -1 where there is none. To who was served out of `epoch`
 * already, all before it is of an epoch that is over, and so are its numbers.
 */
export function beginningOf(frames: readonly Frame[], epoch: string | undefined): number {
  return frames.findLastIndex((frame) => frame instanceof LossFrame && frame.begins(epoch));
}
