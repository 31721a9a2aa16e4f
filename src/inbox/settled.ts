/**
 * Up to which position every message was published, as this node may say of the events that it delivers from now on. It is
 * learned from the tags of messages, in the order of the bus: whoever has all events up to one has what that one calls settled.
 *
 * By the way it finds messages that come a second time: one that a node published and died before it could say so, and that
 * another has published again.
 */
import { messageIdOf, messageTag, placeIn, settledTag } from './message-tag.js';

/** Positions above the settled ones that are kept in mind; a node that is down for long could make them many. */
const RECENT = 10_000;

export class Settled {
  #position: number;
  #tag: string;
  /** Positions above that which came by. */
  readonly #recent = new Set<number>();
  /** Those that came out of the bus's history, and the ids of their events: history may be ahead of what has come by. */
  readonly #replayed = new Map<number, string>();

  /** `position`: what is settled for every event from now on. */
  constructor(position = 0) {
    this.#position = position;
    this.#tag = settledTag(position);
  }

  get position(): number {
    return this.#position;
  }

  /** Tag of an event that is no message. */
  get tag(): string {
    return this.#tag;
  }

  /** Everything up to `position` was published before what comes by from now on. */
  raise(position: number): void {
    if (position <= this.#position) return;
    this.#position = position;
    while (this.#recent.delete(this.#position + 1)) this.#position++;
    for (const one of this.#recent) if (one <= this.#position) this.#recent.delete(one);
    for (const one of this.#replayed.keys()) if (one <= this.#position) this.#replayed.delete(one);
    this.#tag = settledTag(this.#position);
  }

  /** A message came out of the bus's history: what another node publishes of it later is the second time. */
  replayed(position: number, id: string): void {
    if (position <= this.#position) return;
    const [oldest] = this.#replayed.keys();
    if (this.#replayed.size >= RECENT) this.#replayed.delete(oldest!);
    this.#replayed.set(position, id);
  }

  /**
   * An event with this tag and id comes by. Gives the tag that goes to clients, with what is known to be settled by now; undefined where
   * its message came by before.
   */
  passing(tag: string, id: string): string | undefined {
    const place = placeIn(tag);
    if (place === undefined) return tag;
    const { position, settled } = place;
    if (position <= this.#position || this.#recent.has(position)) return undefined;
    if ((this.#replayed.get(position) ?? id) !== id) return undefined;
    this.raise(settled);
    const shown =
      settled === this.#position ? tag : messageTag(messageIdOf(tag)!, { position, settled: this.#position });
    if (position === this.#position + 1) this.raise(position);
    else this.#note(position);
    return shown;
  }

  #note(position: number): void {
    if (this.#recent.size >= RECENT) this.#recent.delete(this.#recent.values().next().value!);
    this.#recent.add(position);
  }
}
