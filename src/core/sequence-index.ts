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
  #numbers: number[] = [];
  #first = 0;

  constructor(key: string, lostThrough: number) {
    this.key = key;
    this.lostThrough = lostThrough;
  }

  get length(): number {
    return this.#numbers.length - this.#first;
  }

  at(index: number): number {
    return this.#numbers[this.#first + index]!;
  }

  push(sequence: number): void {
    this.#numbers.push(sequence);
  }

  shift(): number {
    const sequence = this.#numbers[this.#first++]!;
    this.lostThrough = sequence;
    // Amortised: half of the array at a time.
    if (this.#first > 32 && this.#first * 2 > this.#numbers.length) {
      this.#numbers = this.#numbers.slice(this.#first);
      this.#first = 0;
    }
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

  /** Newest sequence that a key cannot serve, whether it is known or not. */
  lostThroughOf(name: string): number {
    return this.#keys.get(name)?.lostThrough ?? this.#rememberedOf(name);
  }

  page({ keys, after, limit, max }: PageRequest): Page {
    let lostThrough = 0;
    let count = 0;
    const cursors: { readonly key: KeySequences; index: number }[] = [];
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
      const sequence = takeOldest(cursors);
      if (skip > 0) {
        skip--;
        lostThrough = Math.max(lostThrough, sequence);
      } else {
        sequences.push(sequence);
      }
    }
    return { sequences, more: cursors.length > 0, lostThrough };
  }

  #rememberedOf(key: string): number {
    return this.#young.get(key) ?? this.#old.get(key) ?? this.#forgotten;
  }
}

/** The oldest sequence at the cursors, which moves its cursor on. A client has few keys: a scan beats a heap. */
function takeOldest(cursors: { readonly key: KeySequences; index: number }[]): number {
  let best = 0;
  let oldest = cursors[0]!.key.at(cursors[0]!.index);
  for (let i = 1; i < cursors.length; i++) {
    const sequence = cursors[i]!.key.at(cursors[i]!.index);
    if (sequence < oldest) {
      oldest = sequence;
      best = i;
    }
  }
  const cursor = cursors[best]!;
  if (++cursor.index === cursor.key.length) {
    cursors[best] = cursors[cursors.length - 1]!;
    cursors.pop();
  }
  return oldest;
}
