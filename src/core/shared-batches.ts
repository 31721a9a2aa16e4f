/**
 * What clients in the same place of history are sent: a thousand that resume together get the same bytes, encoded once
 * (bench/replay.mjs, `resume`). Only the last few batches are remembered, and only while their frames are the same ones.
 */
import { type Encoded, encodedOf, type Frame } from './frame.js';

/** Batches of at most 64 KiB or one frame each: see `WRITE_BYTES` in page-slices.ts. */
const REMEMBERED = 16;

export class SharedBatches {
  readonly #byFirst = new Map<Frame, Encoded>();

  /** `frames`, at least one, as what goes out together. */
  of(frames: readonly Frame[]): Encoded {
    const first = frames[0]!;
    if (frames.length === 1) return first;
    const known = this.#byFirst.get(first);
    if (known !== undefined && isSame(known.frames, frames)) return known;
    const batch = encodedOf(frames);
    this.#byFirst.delete(first);
    this.#byFirst.set(first, batch);
    if (this.#byFirst.size > REMEMBERED) {
      for (const oldest of this.#byFirst.keys()) {
        this.#byFirst.delete(oldest);
        break;
      }
    }
    return batch;
  }
}

function isSame(left: readonly Frame[], right: readonly Frame[]): boolean {
  if (left.length !== right.length) return false;
  for (let i = 0; i < left.length; i++) if (left[i] !== right[i]) return false;
  return true;
}
