/**
 * Which sequences a bus keeps for each channel key, and what it has dropped of them. Numbers only: where the events
 * themselves lie is the bus' affair.
 *
 * A key drops from its oldest end alone, so what it lost is one number, or a few where events have a ttl (losses.ts). Of
 * keys that keep nothing any more it is remembered for a while (lost-keys.ts).
 */
import { type Losses, lostThrough, withLoss } from './losses.js';
import { LostKeys } from './lost-keys.js';
import { pageOf } from './page.js';
import { SequenceRing } from './sequence-ring.js';

/** The sequences of one channel key, oldest first. */
export class KeySequences extends SequenceRing {
  readonly key: string;
  losses: Losses;
  /** For the bus: what it calls the key elsewhere. */
  tag = 0;

  constructor(key: string, losses: Losses) {
    super();
    this.key = key;
    this.losses = losses;
  }
}

/** What {@link SequenceIndex.page} is asked: a ReadRequest whose cursor is understood. */
export interface PageRequest {
  readonly keys: readonly string[];
  readonly after: number;
  readonly limit: number;
  readonly max: number;
  /** ms since 1970. */
  readonly now: number;
}

export interface KeysPage {
  /** In order. */
  readonly sequences: readonly number[];
  readonly more: boolean;
  /** Newest sequence that these keys cannot serve; a loss where it is after the cursor. */
  readonly lostThrough: number;
}

export class SequenceIndex {
  readonly #keys = new Map<string, KeySequences>();
  readonly #lost: LostKeys;
  /** Of sequences that are kept: when they are not worth delivering any more. Most events have no ttl. */
  readonly #expiries = new Map<number, number>();

  /** `forgotten`: through which sequence a key that is not known may have lost something. */
  constructor(forgotten = 0) {
    this.#lost = new LostKeys(forgotten);
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
    const added = new KeySequences(key, this.#lost.of(key));
    this.#keys.set(key, added);
    return added;
  }

  /** Adds the newest sequence to a key. `expiresAt`: ms since 1970, 0 for never. */
  push(key: KeySequences, sequence: number, expiresAt: number): void {
    key.push(sequence);
    if (expiresAt !== 0) this.#expiries.set(sequence, expiresAt);
  }

  /** Drops the oldest sequence of a key and returns it. `now`: ms since 1970. */
  drop(key: KeySequences, now: number): number {
    const sequence = key.shift();
    const expiresAt = this.#expiries.get(sequence) ?? 0;
    if (expiresAt !== 0) this.#expiries.delete(sequence);
    key.losses = withLoss(key.losses, sequence, expiresAt, now);
    if (key.length === 0) {
      this.#keys.delete(key.key);
      this.#lost.set(key.key, key.losses);
    }
    return sequence;
  }

  /** A key that keeps nothing lost everything through `sequence`. */
  markLost(key: string, sequence: number): void {
    this.#lost.set(key, sequence);
  }

  /** Newest sequence that a key cannot serve, whether it is known or not. `now`: ms since 1970. */
  lostThroughOf(name: string, now = 0): number {
    return lostThrough(this.#keys.get(name)?.losses ?? this.#lost.of(name), now);
  }

  page({ keys, after, limit, max, now }: PageRequest): KeysPage {
    let lost = 0;
    const rings: SequenceRing[] = [];
    for (const name of keys) {
      lost = Math.max(lost, this.lostThroughOf(name, now));
      const key = this.#keys.get(name);
      if (key !== undefined) rings.push(key);
    }
    const isExpired = (sequence: number) => (this.#expiries.get(sequence) ?? Number.POSITIVE_INFINITY) <= now;
    const { sequences, more, skippedThrough } = pageOf(rings, { after, limit, max, isExpired });
    return { sequences, more, lostThrough: Math.max(lost, skippedThrough) };
  }
}
