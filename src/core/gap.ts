/** The event by which a client learns that something is missing: always before any later event. */
import type { LossReason } from './bus.js';
import { controlFrame, type Frame } from './frame.js';

/** Why a client is told a gap: the reasons of the bus, and its own buffer. */
export type GapReason = LossReason | 'overflow';

/** Data of the `gap` event. */
export interface Gap {
  readonly reason: GapReason;
  /** The id that the client came with, or the last it had got; null where it is not known. */
  readonly requested: string | null;
  /** Nothing is missing after this id. */
  readonly resumedFrom: string;
}

/** `id` becomes the client's cursor; without it the client keeps the one it has. */
export function gapFrame(gap: Gap, id: string | undefined): Frame {
  return controlFrame({ id, event: 'gap', data: JSON.stringify(gap) });
}
