/**
 * Which messages to their users streams have got since the cursors of their devices moved: whoever marks what has arrived need not
 * look for it. One list for all streams, in the order in which messages come: noting one costs next to nothing that way.
 */
import type { DeviceMove } from './store.js';
import type { StreamMailbox } from './stream-mailbox.js';

/** Deliveries that are kept in mind; with more, stores look for themselves until cursors are past them. */
const MOST = 256 * 1024;
/** Below so many, what is no longer needed may stay. */
const FEW = 1_024;

/** That the cursor of the stream's device is to be at `position`. */
export interface StreamMove {
  readonly stream: StreamMailbox;
  readonly position: number;
}

export class Deliveries {
  #streams: StreamMailbox[] = [];
  #positions: number[] = [];
  /** Length at which it is looked through for what is no longer needed. */
  #settleAt = FEW;
  /** What came up to here may be forgotten. */
  #forgotThrough = 0;

  add(stream: StreamMailbox, position: number): void {
    if (this.#positions.length >= this.#settleAt) this.#makeRoom();
    this.#streams.push(stream);
    this.#positions.push(position);
  }

  /** As the store is told of it: `isListed` where all that the stream got, and the cursor is not past, is in mind. */
  readonly moveOf = ({ stream, position }: StreamMove): DeviceMove => {
    const { reader, device, advanced, knownAfter } = stream;
    return { reader, device, position, isListed: advanced >= knownAfter && advanced >= this.#forgotThrough };
  };

  /** What each stream has got, in no order, and perhaps more than once. What is no longer needed is forgotten. */
  byStream(): ReadonlyMap<StreamMailbox, readonly number[]> {
    this.#settle();
    const all = new Map<StreamMailbox, number[]>();
    for (let i = 0; i < this.#positions.length; i++) {
      const stream = this.#streams[i]!;
      const known = all.get(stream);
      if (known === undefined) all.set(stream, [this.#positions[i]!]);
      else known.push(this.#positions[i]!);
    }
    return all;
  }

  /** Forgets what cursors are past, and streams that are closed. */
  #settle(): void {
    const streams = this.#streams;
    const positions = this.#positions;
    let kept = 0;
    for (let i = 0; i < positions.length; i++) {
      const stream = streams[i]!;
      if (stream.isClosed || positions[i]! <= stream.advanced) continue;
      streams[kept] = stream;
      positions[kept++] = positions[i]!;
    }
    streams.length = kept;
    positions.length = kept;
    this.#settleAt = Math.min(MOST, Math.max(FEW, 2 * kept));
  }

  #makeRoom(): void {
    this.#settle();
    if (this.#positions.length < MOST) return;
    for (const one of this.#positions) if (one > this.#forgotThrough) this.#forgotThrough = one;
    this.#streams = [];
    this.#positions = [];
    this.#settleAt = FEW;
  }
}
