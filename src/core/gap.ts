/** The event by which a client learns that something is missing: always before any later event. */
import type { Head, LossReason } from './bus.js';
import { controlFrame, type EventText, eventText, Frame } from './frame.js';

/** Why a client is told a gap: the reasons of the bus, and its own buffer. */
export type GapReason = LossReason | 'overflow';

/** Data of the `gap` event. */
export interface Gap {
  readonly reason: GapReason;
  /** The id that the client came with, or the last it had got; null where it is not known. */
  readonly requested: string | null;
  /** Nothing is missing after this id; null where the bus could not say. */
  readonly resumedFrom: string | null;
}

/** `id` becomes the client's cursor; without it the client keeps the one it has. */
export function gapFrame(gap: Gap, id: string | null | undefined): Frame {
  return controlFrame(textOf(gap, id));
}

/**
 * A loss of the bus, for all who are concerned at once. Who was served history beyond its place while the bus was behind has
 * lost nothing: history has told what it lost, and what the bus repairs after the loss is what that client has already.
 */
export class LossFrame extends Frame {
  /** True where places of before mean nothing any more. */
  readonly isBeginning: boolean;
  readonly #head: Head | undefined;

  /** `head`: nothing after it is lost; undefined where nobody knows. */
  constructor(gap: Gap, head: Head | undefined) {
    const parts = textOf(gap, gap.resumedFrom);
    super(eventText(parts), undefined, parts);
    this.isForOne = true;
    this.isBeginning = gap.reason === 'epoch' || gap.reason === 'unknown';
    this.#head = head;
  }

  /** True where `epoch` is what this loss leads to. */
  begins(epoch: string | undefined): boolean {
    return this.isBeginning && epoch !== undefined && this.#head?.epoch === epoch;
  }

  /** Nothing after this sequence of `epoch` is lost; Infinity where that cannot be said. */
  throughIn(epoch: string | undefined): number {
    if (this.#head === undefined) return Number.POSITIVE_INFINITY;
    const { epoch: own, sequence } = this.#head;
    // Where the bus names no epochs, a loss that begins none is of the one that is.
    const isSame = own === undefined || epoch === undefined ? !this.isBeginning : own === epoch;
    return isSame ? sequence : Number.POSITIVE_INFINITY;
  }
}

function textOf(gap: Gap, id: string | null | undefined): EventText {
  return { id: id ?? undefined, event: 'gap', data: JSON.stringify(gap) };
}
