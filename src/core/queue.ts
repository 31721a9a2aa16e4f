/**
 * A client's bounded buffer of frames that its socket could not take yet: a ring of references to shared frames.
 * It knows its two limits and nothing of policies, which are the client's.
 */
import { type Encoded, encodedOf, type Frame } from './frame.js';

const INITIAL_SLOTS = 16;

/** What waits in all queues of a broker together. */
export interface QueueTotals {
  frames: number;
  bytes: number;
}

export class Queue {
  /** Bytes of SSE text that wait. */
  bytes = 0;
  /** Frames that wait. */
  length = 0;
  /** Id of the last event that left: what the client knows of, once its socket has it. */
  lastId = '';
  /** A limit was hit since it was last empty: the client's to set, and to tell once. */
  hasOverflowed = false;
  #slots: (Frame | undefined)[] = new Array(INITIAL_SLOTS);
  #head = 0;
  readonly #maxFrames: number;
  readonly #maxBytes: number;
  readonly #totals: QueueTotals;

  /** `maxFrames` and `maxBytes`: 0 for no limit. */
  constructor(maxFrames: number, maxBytes: number, totals: QueueTotals) {
    this.#maxFrames = maxFrames;
    this.#maxBytes = maxBytes;
    this.#totals = totals;
  }

  /** The limit that `frames` frames of `bytes` bytes would break, or undefined where they fit. */
  limitHitBy(frames: number, bytes: number): 'frames' | 'bytes' | undefined {
    if (this.#maxFrames > 0 && this.length + frames > this.#maxFrames) return 'frames';
    if (this.#maxBytes > 0 && this.bytes + bytes > this.#maxBytes) return 'bytes';
    return undefined;
  }

  /** Id of the newest event in it, or of the last that left. */
  get newestId(): string {
    for (let i = this.length - 1; i >= 0; i--) {
      const { lastId } = this.#slots[(this.#head + i) & (this.#slots.length - 1)]!;
      if (lastId !== '') return lastId;
    }
    return this.lastId;
  }

  push(frame: Frame): void {
    if (this.length === this.#slots.length) this.#grow();
    this.#slots[(this.#head + this.length) & (this.#slots.length - 1)] = frame;
    this.#count(1, frame.bytes);
  }

  shift(): Frame | undefined {
    if (this.length === 0) return undefined;
    const frame = this.#slots[this.#head]!;
    // Let go of it: the frame may be shared with a history that has dropped it since.
    this.#slots[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#slots.length - 1);
    this.#count(-1, -frame.bytes);
    return frame;
  }

  /** Takes frames from the front, at least one and then as many as fit `maxBytes`, without those that expired. */
  take(maxBytes: number, now: number): Encoded | undefined {
    const frames: Frame[] = [];
    let bytes = 0;
    while (this.length > 0) {
      const next = this.#slots[this.#head]!;
      if (frames.length > 0 && bytes + next.bytes > maxBytes) break;
      this.shift();
      if (next.hasExpired(now)) continue;
      frames.push(next);
      bytes += next.bytes;
    }
    if (frames.length === 0) return undefined;
    const encoded = encodedOf(frames);
    if (encoded.lastId !== '') this.lastId = encoded.lastId;
    return encoded;
  }

  clear(): void {
    this.#count(-this.length, -this.bytes);
    this.#slots = [];
  }

  #count(frames: number, bytes: number): void {
    this.length += frames;
    this.bytes += bytes;
    this.#totals.frames += frames;
    this.#totals.bytes += bytes;
  }

  #grow(): void {
    const slots = new Array<Frame | undefined>(this.#slots.length * 2);
    for (let i = 0; i < this.length; i++) slots[i] = this.#slots[(this.#head + i) & (this.#slots.length - 1)];
    this.#slots = slots;
    this.#head = 0;
  }
}
