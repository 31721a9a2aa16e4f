/**
 * Events that were made from stored bytes and may be asked for again: clients that resume together get the same objects,
 * and with them the same encoded frames. Two generations: what was not asked for while one filled up goes.
 */
import type { BusEvent } from './event.js';

/** What an event costs besides its text, roughly: the object, its id, the frame's own. */
const EVENT_OVERHEAD = 400;

export class EventCache {
  readonly #generationBytes: number;
  #young = new Map<number, BusEvent>();
  #old = new Map<number, BusEvent>();
  #youngBytes = 0;

  /** `bytes`: about how much may be held. */
  constructor(bytes: number) {
    this.#generationBytes = bytes / 2;
  }

  get(sequence: number): BusEvent | undefined {
    const event = this.#young.get(sequence);
    if (event !== undefined) return event;
    const old = this.#old.get(sequence);
    if (old !== undefined) this.set(old);
    return old;
  }

  set(event: BusEvent): void {
    // Once as text, once encoded.
    this.#youngBytes += event.data.length * 2 + EVENT_OVERHEAD;
    if (this.#youngBytes > this.#generationBytes) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#youngBytes = event.data.length * 2 + EVENT_OVERHEAD;
    }
    this.#young.set(event.sequence, event);
  }
}
