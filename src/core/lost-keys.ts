/**
 * What channel keys lost that keep nothing any more. It is remembered for a while; of older ones only all together is,
 * which can tell a gap too many, never one too few.
 */
import { joined, type Losses } from './losses.js';

/** Keys that are remembered one by one: two generations of these. */
const REMEMBERED_KEYS = 50_000;

export class LostKeys {
  #young = new Map<string, Losses>();
  #old = new Map<string, Losses>();
  /** Of all keys that are not remembered. */
  #forgotten: Losses;

  /** `forgotten`: what a key that is not known may have lost. */
  constructor(forgotten: Losses = 0) {
    this.#forgotten = forgotten;
  }

  of(key: string): Losses {
    return this.#young.get(key) ?? this.#old.get(key) ?? this.#forgotten;
  }

  set(key: string, losses: Losses): void {
    this.#young.set(key, losses);
    if (this.#young.size < REMEMBERED_KEYS) return;
    for (const old of this.#old.values()) this.#forgotten = joined(this.#forgotten, old);
    this.#old = this.#young;
    this.#young = new Map();
  }
}
