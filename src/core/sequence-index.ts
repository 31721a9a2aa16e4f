/**
 * Which sequences a bus keeps for each channel key, and through which it has dropped them. Numbers only: where the
 * events themselves lie is the bus' affair.
 *
 * A key drops from its oldest end alone, so one number says what it lost. Of keys that keep nothing any more that number
 * is remembered for a while; of older ones only the largest of all is, which can tell a gap too many, never one too few.
 */

/** Emptied keys of which the newest sequence is remembered; two generations of these. */
const REMEMBERED_KEYS = 50_000;

/** The sequences of one channel key, oldest first. */
export class KeySequences {
  readonly key: string;
  /** Sequence of the newest event that was dropped. */
  lostThrough: number;
  /** For the bus: what it calls the key elsewhere. */
  tag = 0;
  /** A ring whose length is a power of two: nothing is allocated while as many come as go (bench/replay.mjs, `publish`). */
  #ring: number[] = [0, 0, 0, 0];
  #first = 0;
  length = 0;

  constructor(key: string, lostThrough: number) {
    this.key = key;
    this.lostThrough = lostThrough;
  }

  at(index: number): number {
    return this.#ring[(this.#first + index) & (this.#ring.length - 1)]!;
  }

  push(sequence: number): void {
    const ring = this.#ring;
    if (this.length === ring.length) {
      this.#ring = [...ring.slice(this.#first), ...ring.slice(0, this.#first), ...ring.fill(0)];
      this.#first = 0;
    }
    this.#ring[(this.#first + this.length++) & (this.#ring.length - 1)] = sequence;
  }

  shift(): number {
    const sequence = this.#ring[this.#first]!;
    this.#first = (this.#first + 1) & (this.#ring.length - 1);
    this.length--;
    this.lostThrough = sequence;
    return sequence;
  }

  /** Index of the first one after `sequence`. */
  indexAfter(sequence: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.at(middle) <= sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** What {@link SequenceIndex.page} is asked: a ReadRequest whose cursor is understood. */
export interface PageRequest {
  readonly keys: readonly string[];
  readonly after: number;
  readonly limit: number;
  readonly max: number;
}

export interface Page {
  /** In order. */
  readonly sequences: readonly number[];
  readonly more: boolean;
  /** Newest sequence that these keys cannot serve; a loss where it is after the cursor. */
  readonly lostThrough: number;
}

export class SequenceIndex {
  readonly #keys = new Map<string, KeySequences>();
  #young = new Map<string, number>();
  #old = new Map<string, number>();
  /** Largest `lostThrough` of a key that is not remembered. */
  #forgotten: number;

  /** `forgotten`: through which sequence a key that is not known may have lost something. */
  constructor(forgotten = 0) {
    this.#forgotten = forgotten;
  }

  /** Keys with at least one sequence. */
  get size(): number {
    return this.#keys.size;
  }

  get(key: string): KeySequences | undefined {
    return this.#keys.get(key);
  }

  /** Adds a key that {@link get} does not know. */
  add(key: string): KeySequences {
    const added = new KeySequences(key, this.#rememberedOf(key));
    this.#keys.set(key, added);
    return added;
  }

  /** Drops the oldest sequence of a key and returns it. */
  drop(key: KeySequences): number {
    const sequence = key.shift();
    if (key.length === 0) {
      this.#keys.delete(key.key);
      this.markLost(key.key, sequence);
    }
    return sequence;
  }

  /** A key that keeps nothing lost everything through `sequence`. */
  markLost(key: string, sequence: number): void {
    this.#young.set(key, sequence);
    if (this.#young.size < REMEMBERED_KEYS) return;
    for (const old of this.#old.values()) if (old > this.#forgotten) this.#forgotten = old;
    this.#old = this.#young;
    this.#young = new Map();
  }

  /** For a key that keeps nothing and that nobody will ask for again. */
  forget(key: string): void {
    this.#young.delete(key);
    this.#old.delete(key);
  }

  /** Newest sequence that a key cannot serve, whether it is known or not. */
  lostThroughOf(name: string): number {
    return this.#keys.get(name)?.lostThrough ?? this.#rememberedOf(name);
  }

  page({ keys, after, limit, max }: PageRequest): Page {
    let lostThrough = 0;
    let count = 0;
    const cursors: Cursor[] = [];
    for (const name of keys) {
      const key = this.#keys.get(name);
      lostThrough = Math.max(lostThrough, key?.lostThrough ?? this.#rememberedOf(name));
      const index = key?.indexAfter(after) ?? 0;
      if (key === undefined || index === key.length) continue;
      cursors.push({ key, index });
      count += key.length - index;
    }
    const sequences: number[] = [];
    let skip = max > 0 ? Math.max(0, count - max) : 0;
    while (cursors.length > 0 && sequences.length < limit) {
      // A run: what the key with the oldest sequence has before any other key's.
      const { cursor, until } = oldestOf(cursors);
      const { key } = cursor;
      do {
        const sequence = key.at(cursor.index++);
        if (skip > 0) {
          skip--;
          lostThrough = Math.max(lostThrough, sequence);
        } else {
          sequences.push(sequence);
        }
      } while (cursor.index < key.length && sequences.length < limit && key.at(cursor.index) < until);
      if (cursor.index === key.length) {
        cursors[cursors.indexOf(cursor)] = cursors[cursors.length - 1]!;
        cursors.pop();
      }
    }
    return { sequences, more: cursors.length > 0, lostThrough };
  }

  #rememberedOf(key: string): number {
    return this.#young.get(key) ?? this.#old.get(key) ?? this.#forgotten;
  }
}

interface Cursor {
  readonly key: KeySequences;
  index: number;
}

/** The cursor at the oldest sequence, and the next one of another. A client has few keys: a scan beats a heap. */
function oldestOf(cursors: readonly Cursor[]): { cursor: Cursor; until: number } {
  let best = cursors[0]!;
  let oldest = best.key.at(best.index);
  let until = Number.POSITIVE_INFINITY;
  for (let i = 1; i < cursors.length; i++) {
    const cursor = cursors[i]!;
    const sequence = cursor.key.at(cursor.index);
    if (sequence < oldest) {
      until = oldest;
      oldest = sequence;
      best = cursor;
    } else if (sequence < until) {
      until = sequence;
    }
  }
  return { cursor: best, until };
}
