/**
 * Puts back into order what a single NATS server republishes out of it, exactly.
 *
 * A stream without replicas on a server before 2.10 stores under a lock and republishes after it: of two events that two
 * connections publish at once the second may come first, mostly by microseconds, on a busy machine by tens of milliseconds.
 * But whatever has a smaller sequence is in the stream by then. So where sequences are missing (they may be of keys that
 * nobody here wants, or on their way), what comes after them waits a moment, and then the stream is asked what they are:
 * what is wanted of them goes in its place, and its late copy is dropped.
 *
 * It must never: release out of order, release twice, hold without bound. Where a question fails or too much waits it gives
 * up: its host doubts everything, takes what waits as it is, and says from where on to begin again.
 */

/** Sequences that did not come, from `first` through `last`. */
export interface Range {
  readonly first: number;
  readonly last: number;
}

/** Something that waits for its place. */
export interface Waiting {
  readonly sequence: number;
  release(): void;
}

export interface ReorderHost {
  /** What is wanted here of these sequences, in order; the stream has all that it ever had of them. May reject. */
  find(missing: readonly Range[]): Promise<readonly Waiting[]>;
  /** What is missing cannot be told. What is released after this is in no order. */
  doubt(error: unknown): void;
}

/** Most that waits, and most of its text. */
export interface ReorderLimits {
  readonly events: number;
  readonly characters: number;
}

interface Held {
  readonly sequence: number;
  /** When it came; undefined for what only fills its place. */
  readonly since: number | undefined;
  readonly characters: number;
  readonly release: () => void;
}

const LIMITS: ReorderLimits = Object.freeze({ events: 10_000, characters: 16 * 1024 * 1024 });
/** Late copies that are waited for at most; older ones have long come. */
const MAX_FOUND = 10_000;

export class Reorder {
  readonly #host: ReorderHost;
  readonly #window: number;
  readonly #limits: ReorderLimits;
  /** In order of their sequences. */
  #held: Held[] = [];
  #characters = 0;
  /** Everything through this was released, or is nobody's here. Undefined: nobody knows yet, and everything waits. */
  #through: number | undefined = undefined;
  /** What was released from the stream, so that its late copy is known. */
  readonly #found = new Set<number>();
  #timer: NodeJS.Timeout | undefined = undefined;
  /** Of the question that is asked, if one is. */
  #asking: symbol | undefined = undefined;

  /** `window`: ms for which nothing is asked. Holds everything until {@link begin}. */
  constructor(host: ReorderHost, window: number, limits: ReorderLimits = LIMITS) {
    this.#host = host;
    this.#window = window;
    this.#limits = limits;
  }

  /** Events that wait, and places that are known to be nobody's. */
  get size(): number {
    return this.#held.length;
  }

  /** Whether a copy of `sequence` that comes now was released long ago. */
  hasFound(sequence: number): boolean {
    return this.#found.has(sequence);
  }

  /**
   * `release` is called when everything before has been: at once where nothing is missing, or where the place has passed
   * already (which is for the one who takes it to judge). `characters`: what it weighs.
   */
  push(sequence: number, characters: number, release: () => void): void {
    const through = this.#through;
    if (through !== undefined && sequence <= through) {
      if (!this.#found.delete(sequence)) release();
      return;
    }
    if (sequence === (through ?? sequence) + 1 && this.#held.length === 0) {
      this.#through = sequence;
      release();
      return;
    }
    this.#insert({ sequence, since: performance.now(), characters, release });
    this.#releaseReady();
    if (this.#held.length > this.#limits.events || this.#characters > this.#limits.characters) {
      this.#giveUp(new Error('too many events wait for one that is missing'));
    }
  }

  /** A sequence that will not come: of a key that is not listened to. */
  account(sequence: number): void {
    // It only spares a question, so it may be forgotten.
    if (this.#through === undefined || sequence <= this.#through || this.#held.length >= this.#limits.events) return;
    this.#insert({ sequence, since: undefined, characters: 0, release: () => {} });
    this.#releaseReady();
  }

  /** Everything through `sequence` is cared for: what waits of it goes on, and what comes of it later is passed on. */
  begin(sequence: number): void {
    this.#through = Math.max(this.#through ?? 0, sequence);
    this.#releaseReady();
  }

  /** Nothing is known any more of what comes: what waits goes on at once, and what comes waits for {@link begin}. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#asking = undefined;
    this.#through = undefined;
    this.#found.clear();
    this.#release(this.#held.length);
  }

  #insert(held: Held): void {
    let at = this.#held.length;
    while (at > 0 && this.#held[at - 1]!.sequence > held.sequence) at--;
    this.#held.splice(at, 0, held);
    this.#characters += held.characters;
  }

  #releaseReady(): void {
    if (this.#through === undefined) return;
    let ready = 0;
    let through = this.#through;
    for (; ready < this.#held.length && this.#held[ready]!.sequence <= through + 1; ready++) {
      through = Math.max(through, this.#held[ready]!.sequence);
    }
    this.#through = through;
    this.#release(ready);
    this.#wait();
  }

  #release(count: number): void {
    if (count === 0) return;
    for (const { characters, release } of this.#held.splice(0, count)) {
      this.#characters -= characters;
      release();
    }
  }

  /** Until the oldest of what waits has waited long enough. */
  #wait(): void {
    if (this.#timer !== undefined || this.#asking !== undefined || this.#through === undefined) return;
    const oldest = this.#held.find(({ since }) => since !== undefined)?.since;
    if (oldest === undefined) return;
    const wait = Math.max(1, oldest + this.#window - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#ask();
    }, wait);
    this.#timer.unref();
  }

  /** Asks for what is missing before the newest that has waited long enough. */
  async #ask(): Promise<void> {
    // Timers fire up to a millisecond early.
    const due = performance.now() - this.#window + 1;
    const last = this.#held.findLast(({ since }) => since !== undefined && since <= due)?.sequence;
    if (last === undefined || this.#through === undefined) {
      this.#wait();
      return;
    }
    const asking = Symbol('asking');
    this.#asking = asking;
    try {
      const found = await this.#host.find(this.#missing(last));
      if (this.#asking !== asking) return;
      this.#asking = undefined;
      this.#fill(found, last);
    } catch (error) {
      if (this.#asking === asking) this.#giveUp(error);
    }
  }

  #missing(last: number): Range[] {
    const missing: Range[] = [];
    let next = this.#through! + 1;
    for (const { sequence } of this.#held) {
      if (sequence > last) break;
      if (sequence > next) missing.push({ first: next, last: sequence - 1 });
      next = Math.max(next, sequence + 1);
    }
    return missing;
  }

  /** What was found takes its place, and through `last` nothing is missing. */
  #fill(found: readonly Waiting[], last: number): void {
    const came = new Set(this.#held.map(({ sequence }) => sequence));
    for (const one of found) {
      // It came while the question was asked, or somebody else cared for it.
      if (one.sequence <= this.#through! || came.has(one.sequence)) continue;
      this.#insert({ sequence: one.sequence, since: undefined, characters: 0, release: () => one.release() });
      this.#found.add(one.sequence);
    }
    for (const sequence of this.#found) {
      if (this.#found.size <= MAX_FOUND) break;
      this.#found.delete(sequence);
    }
    this.begin(last);
  }

  #giveUp(error: unknown): void {
    this.#host.doubt(error);
    this.flush();
  }
}
