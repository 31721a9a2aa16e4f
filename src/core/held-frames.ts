/**
 * Live frames that wait while a client's history is replayed: at most `HOLD_FRAMES` of them, and its buffer's bytes.
 *
 * When there are more, all that came from a channel is let go: history has it, and is read on. What was sent to this client
 * alone is in no history. It is held apart, in its own order, and where that is too much the rest of it is dropped and told.
 */
import { type Encoded, type Frame, inOrder } from './frame.js';
import { LossFrame } from './gap.js';
import { isLiveOnly } from './topic.js';

/** Of each of the two kinds. */
const HOLD_FRAMES = 256;

export class HeldFrames {
  readonly #maxBytes: number;
  readonly #dropped: (events: number) => void;
  #shared: Frame[] = [];
  #sharedBytes = 0;
  #own: Frame[] = [];
  #ownBytes = 0;
  #lastOwnDropped: Frame | undefined = undefined;
  #hasLetGo = false;
  #letGoThrough: Frame | undefined = undefined;
  #letGoEpoch: LossFrame | undefined = undefined;

  /** `maxBytes`: of each kind, 0 for no limit. `dropped` is told of frames of this client alone that were one too many. */
  constructor(maxBytes: number, dropped: (events: number) => void) {
    this.#maxBytes = maxBytes;
    this.#dropped = dropped;
  }

  /** Something was let go of since {@link readsOn}: only history has it. */
  get hasLetGo(): boolean {
    return this.#hasLetGo;
  }

  /** The last frame that ever was. */
  get letGoThrough(): Frame | undefined {
    return this.#letGoThrough;
  }

  /** The last loss among what was let go of after which places cannot be compared with those of before. */
  get letGoEpoch(): LossFrame | undefined {
    return this.#letGoEpoch;
  }

  hold(encoded: Encoded): void {
    let { frames, bytes } = encoded;
    if (frames.some(isOwn)) {
      for (const frame of frames) if (isOwn(frame)) this.#holdOwn(frame);
      frames = frames.filter((frame) => !isOwn(frame));
      if (frames.length === 0) return;
      bytes = frames.reduce((sum, frame) => sum + frame.bytes, 0);
    }
    if (this.#shared.length + frames.length <= HOLD_FRAMES && this.#hasRoom(this.#sharedBytes, bytes)) {
      this.#shared.push(...frames);
      this.#sharedBytes += bytes;
      return;
    }
    for (const frame of [...this.#shared, ...frames]) {
      if (frame instanceof LossFrame && frame.isBeginning) this.#letGoEpoch = frame;
    }
    this.#shared = [];
    this.#sharedBytes = 0;
    this.#hasLetGo = true;
    this.#letGoThrough = frames[frames.length - 1];
  }

  /** History is about to be read, and has what was let go of so far. */
  readsOn(): void {
    this.#hasLetGo = false;
  }

  /** Whether a frame of this client alone has its place at `sequence` or before. */
  hasOwnThrough(sequence: number): boolean {
    return this.#own.length > 0 && this.#own[0]!.source!.sequence <= sequence;
  }

  /** Takes the next frame of this client alone that has its place before `sequence`; undefined where there is none. */
  takeOwnBefore(sequence: number): Frame | undefined {
    if (this.#own.length === 0 || this.#own[0]!.source!.sequence >= sequence) return undefined;
    const frame = this.#own.shift()!;
    this.#ownBytes -= frame.bytes;
    return frame;
  }

  /** Takes all, in the order of dispatch. */
  takeAll(): readonly Frame[] {
    const frames = inOrder(this.#own, this.#shared);
    this.#own = [];
    this.#ownBytes = 0;
    this.#shared = [];
    this.#sharedBytes = 0;
    return frames;
  }

  /** The last frame of this client alone that was dropped, once; undefined where none was. */
  takeDropped(): Frame | undefined {
    const dropped = this.#lastOwnDropped;
    this.#lastOwnDropped = undefined;
    return dropped;
  }

  #holdOwn(frame: Frame): void {
    const hasRoom = this.#own.length < HOLD_FRAMES && this.#hasRoom(this.#ownBytes, frame.bytes);
    if (hasRoom && this.#lastOwnDropped === undefined) {
      this.#own.push(frame);
      this.#ownBytes += frame.bytes;
      return;
    }
    this.#lastOwnDropped = frame;
    this.#dropped(1);
  }

  /** One is held whatever its size: there may be no history that has it. */
  #hasRoom(held: number, bytes: number): boolean {
    return held === 0 || this.#maxBytes === 0 || held + bytes <= this.#maxBytes;
  }
}

/** True for a frame of one client alone. */
const isOwn = ({ source }: Frame): boolean => source !== undefined && isLiveOnly(source.key);
