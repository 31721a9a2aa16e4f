/**
 * A client's bounded buffer of frames that its socket could not take yet: a ring of references to shared frames.
 * It knows its two limits and nothing of policies, which are the client's.
 *
 * Events of a higher priority go ahead of the ring. That must not move the client's cursor past what it has not got: such an
 * event is sent with the id that the client has, and with its own sequence behind it (`~o`, see tagged-id.ts); so are the
 * events that it overtook. A client that is cut in between comes back to its place, and gets nothing twice.
 */
import { controlFrame, type Encoded, encodedOf, type Frame, frameWithId } from './frame.js';
import { busIdOf, MAX_ID_LENGTH, overtakenSection, sectionsAhead, withoutOvertaken } from './tagged-id.js';
import { isLiveOnly } from './topic.js';

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
  /** Frames that go ahead, the most urgent first, those of one priority in order. */
  #ahead: Frame[] = [];
  /** Sequences of events that were sent ahead of some that still wait. */
  #overtaken: number[] = [];
  /** Frames of the broker's own in the ring: nothing goes ahead of a gap. */
  #barriers = 0;
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

  /** True where events wait to go ahead of others. */
  get hasAhead(): boolean {
    return this.#ahead.length > 0;
  }

  /** Id of the newest event in it, or of the last that left. */
  get newestId(): string {
    for (let i = this.#ringLength - 1; i >= 0; i--) {
      const { lastId } = this.#slots[(this.#head + i) & (this.#slots.length - 1)]!;
      if (lastId !== '') return lastId;
    }
    return this.lastId;
  }

  get #ringLength(): number {
    return this.length - this.#ahead.length;
  }

  push(frame: Frame): void {
    if (this.#goesAhead(frame)) {
      const priority = priorityOf(frame);
      const at = this.#ahead.findIndex((other) => priorityOf(other) < priority);
      this.#ahead.splice(at === -1 ? this.#ahead.length : at, 0, frame);
    } else {
      if (this.#ringLength === this.#slots.length) this.#grow();
      this.#slots[(this.#head + this.#ringLength) & (this.#slots.length - 1)] = frame;
      if (frame.source === undefined) this.#barriers++;
    }
    this.#count(1, frame.bytes);
  }

  /** The first that would be dropped: the oldest of the lowest priority. */
  shift(): Frame | undefined {
    if (this.#ringLength > 0) return this.#shiftRing();
    const frame = this.#ahead.pop();
    if (frame !== undefined) this.#count(-1, -frame.bytes);
    return frame;
  }

  /** True where everything in it is more urgent than `frame`. */
  isAllAbove(frame: Frame): boolean {
    return this.#ringLength === 0 && this.#ahead.every((other) => priorityOf(other) > priorityOf(frame));
  }

  /** Takes out the newest frame where one that is more urgent, and goes ahead, needs its place; undefined where there is none. */
  popFor(frame: Frame): Frame | undefined {
    if (this.#ringLength < 2 || !this.#goesAhead(frame)) return undefined;
    const index = (this.#head + this.#ringLength - 1) & (this.#slots.length - 1);
    const newest = this.#slots[index]!;
    if (priorityOf(newest) >= priorityOf(frame)) return undefined;
    this.#slots[index] = undefined;
    this.#count(-1, -newest.bytes);
    return newest;
  }

  /** Takes frames from the front, at least one and then as many as fit `maxBytes`, without those that expired. */
  take(maxBytes: number, now: number): Encoded | undefined {
    const frames: Frame[] = [];
    let bytes = 0;
    while (this.length > 0) {
      const isAhead = this.#ahead.length > 0;
      const next = isAhead ? this.#ahead[0]! : this.#slots[this.#head]!;
      if (frames.length > 0 && bytes + next.bytes > maxBytes) break;
      if (isAhead) {
        this.#ahead.shift();
        this.#count(-1, -next.bytes);
      } else {
        this.#shiftRing();
      }
      if (next.hasExpired(now)) continue;
      const sent = isAhead ? this.#sentAhead(next) : this.#overtaken.length > 0 ? this.#sentBehind(next) : next;
      frames.push(sent);
      if (sent.lastId !== '') this.lastId = sent.lastId;
      bytes += next.bytes;
    }
    return frames.length === 0 ? undefined : encodedOf(frames);
  }

  clear(): void {
    this.#count(-this.length, -this.bytes);
    this.#slots = [];
    this.#ahead = [];
  }

  /** Where the ring is empty it overtakes nothing; without a cursor, or with too many of them, the client could not be told. */
  #goesAhead(frame: Frame): boolean {
    if (priorityOf(frame) === 0 || this.#ringLength === 0 || this.#barriers > 0) return false;
    if (this.lastId === '' || isLiveOnly(frame.source!.key)) return false;
    const sequences = [
      ...this.#overtaken,
      ...this.#ahead.map(({ source }) => source!.sequence),
      frame.source!.sequence,
    ];
    return idAhead(this.lastId, frame, sequences).length <= MAX_ID_LENGTH;
  }

  #sentAhead(frame: Frame): Frame {
    const event = frame.source!;
    this.#overtaken.push(event.sequence);
    const sent = frameWithId(event, idAhead(this.lastId, frame, this.#overtaken));
    sent.isForOne = true;
    return sent;
  }

  /** One that others went ahead of, or that comes when they have all been overtaken in turn. */
  #sentBehind(frame: Frame): Frame {
    const { source, control } = frame;
    if (source !== undefined) this.#overtaken = this.#overtaken.filter((sequence) => sequence > source.sequence);
    if (this.#overtaken.length === 0 || frame.lastId === '') return frame;
    const id = frame.lastId + overtakenSection(this.#overtaken);
    // Too long to be an id: then it says less, and something may come twice, but nothing is missed.
    if (id.length > MAX_ID_LENGTH) return frame;
    const sent = source === undefined ? controlFrame({ ...control, id }) : frameWithId(source, id);
    sent.isForOne = true;
    return sent;
  }

  #shiftRing(): Frame {
    const frame = this.#slots[this.#head]!;
    // Let go of it: the frame may be shared with a history that has dropped it since.
    this.#slots[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#slots.length - 1);
    if (frame.source === undefined) this.#barriers--;
    this.#count(-1, -frame.bytes);
    return frame;
  }

  #count(frames: number, bytes: number): void {
    this.length += frames;
    this.bytes += bytes;
    this.#totals.frames += frames;
    this.#totals.bytes += bytes;
  }

  #grow(): void {
    const slots = new Array<Frame | undefined>(this.#slots.length * 2);
    for (let i = 0; i < this.#ringLength; i++) slots[i] = this.#slots[(this.#head + i) & (this.#slots.length - 1)];
    this.#slots = slots;
    this.#head = 0;
  }
}

const priorityOf = ({ source }: Frame): number => source?.priority ?? 0;

/** The cursor that the client has, with what this event is and which ones it has ahead of their places. */
function idAhead(cursor: string, frame: Frame, sequences: readonly number[]): string {
  const kept = withoutOvertaken(cursor);
  return busIdOf(kept) + sectionsAhead(kept, frame.source!.tag) + overtakenSection(sequences);
}
