/**
 * How {@link PackedEvents} lays out 256 consecutive events: plain data, without what is done with it.
 *
 * What is read and written together lies side by side, and what is touched where the caches are cold is small: at ten
 * thousand channel keys publishing costs what it waits for memory (bench/README.md).
 */
import type { BusEvent } from './event.js';

export const SLOTS = 256;
/** Small integers of an event that are needed to read it, side by side. */
export const MARKS = 2;
/** Where its text is among those of the pack. */
export const START = 0;
/** What is known of it as bits: `IS_JSON`, `IS_COUNTED`. */
export const FLAGS = 1;
export const IS_JSON = 1;
/** Its chain was counted when it came, or since: see {@link Chain.isCounted}. */
export const IS_COUNTED = 2;
/** What is needed to link and to drop it: apart, since that is done where caches are cold, and small, so that they hold more. */
export const LINKS = 2;
/** Distance to the sequence of the event of its key after it; -1 where there is none yet. */
export const AFTER = 0;
/** Of its text, as `START`; -1 where the event was dropped. */
export const SIZE = 1;
/** Longest of these; see `#link`. */
export const MAX_DISTANCE = 2 ** 31 - 1;
/** Other numbers of an event. */
export const NUMBERS = 2;
export const TIMESTAMP = 0;
/** Sequence of the event of its key before it. */
export const BEFORE = 1;
/** What a pack costs besides the texts. */
export const PACK_OVERHEAD = SLOTS * (4 * (MARKS + LINKS) + 8 * NUMBERS + 2 * 8);

/** The events of one channel key: a list from `oldest` to `newest`. Owned by {@link PackedEvents}; others only read it. */
export class Chain {
  // What every push needs comes first, in one or two cache lines.
  /** Events of it; where it is not counted, at least as many, and 0 only where there is none. */
  length = 0;
  /** Sequence; meaningless where `length` is 0. */
  newest = 0;
  /**
   * Each of its events is accounted for when it is dropped. Most chains are not counted: where the oldest of all events
   * is dropped, its chain is in no cache (see `PackedEvents.dropPlain`).
   */
  isCounted = false;
  /** Sequence, as `newest`. Where the chain is not counted, it may be one that was dropped. */
  oldest = 0;
  readonly key: string;

  constructor(key: string) {
    this.key = key;
  }
}

/** The arrays of a pack that is not sparse. */
export class Arrays<C extends Chain> {
  readonly chains = new Array<C | undefined>(SLOTS).fill(undefined);
  readonly names = new Array<string>(SLOTS).fill('');
  readonly marks = new Int32Array(SLOTS * MARKS);
  readonly links = new Int32Array(SLOTS * LINKS).fill(-1);
  readonly numbers = new Float64Array(SLOTS * NUMBERS);
  /** ms since 1970; absent where all are 0. */
  expiries: Float64Array | undefined = undefined;
  storedAt: Float64Array | undefined = undefined;
  /** By slot, of the few events that have them. */
  extras: Map<number, Pick<BusEvent, 'priority' | 'tag'>> | undefined = undefined;
  text: Buffer = Buffer.alloc(0);

  /** Sequence of the event before this one in its chain. */
  before(slot: number): number {
    const sequence = this.numbers[slot * NUMBERS + BEFORE]!;
    // V8 takes what comes out of a Float64Array for a fraction, and everything that is calculated with it as well, until it
    // is told otherwise.
    return sequence < 2 ** 31 ? sequence | 0 : sequence;
  }

  setExpiry(slot: number, ms: number): void {
    this.expiries ??= new Float64Array(SLOTS);
    this.expiries[slot] = ms;
  }

  setExtras(slot: number, { priority, tag }: BusEvent): void {
    this.extras ??= new Map();
    this.extras.set(slot, { priority, tag });
  }

  setStoredAt(slot: number, ms: number): void {
    this.storedAt ??= new Float64Array(SLOTS);
    this.storedAt[slot] = ms;
  }
}

/** An event of a sparse pack. */
export interface Sparse<C extends Chain> {
  readonly event: BusEvent;
  readonly chain: C;
  readonly storedAt: number;
  readonly before: number;
  after: number;
}

export class Pack<C extends Chain> {
  readonly number: number;
  /** Sequence of the first slot. */
  readonly base: number;
  arrays: Arrays<C> | undefined;
  /** The texts themselves, until they are packed. */
  texts: string[] | undefined = new Array<string>(SLOTS).fill('');
  /** Something was dropped before it was packed. */
  hasEarlyHoles = false;
  /** In order; instead of the arrays, when few are left. */
  sparse: Map<number, Sparse<C>> | undefined = undefined;
  /** Bytes of `arrays.text` in use; before that, characters of `texts`. */
  textBytes = 0;
  isAscii = true;
  /** No more come. */
  isFull = false;
  kept = 0;
  keptBytes = 0;
  /** Slots before it are dropped. */
  first = 0;
  previous: Pack<C> | undefined = undefined;
  next: Pack<C> | undefined = undefined;

  constructor(number: number, arrays: Arrays<C>) {
    this.number = number;
    this.base = number * SLOTS;
    this.arrays = arrays;
  }
}
