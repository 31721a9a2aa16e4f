/**
 * Which messages to their users streams have got since the cursors of their devices moved: whoever marks what has arrived need not
 * look for it. One list for all streams, in the order in which messages come: noting one costs next to nothing that way.
 */
import type { DeviceMove } from './store.js';
import type { StreamMailbox } from './stream-mailbox.js';

/** Deliveries that are kept in mind; with more, stores look for themselves until cursors are past them. */
const MOST = 256 * 1024;

/** That the cursor of the stream's device is to be at `position`. */
export interface StreamMove {
  readonly stream: StreamMailbox;
  readonly position: number;
}

export class Deliveries {
  #streams: StreamMailbox[] = [];
  #positions: number[] = [];
  /** What came up to here may be forgotten. */
  #forgotThrough = 0;

  add(stream: StreamMailbox, position: number): void {
    if (this.#positions.length >= MOST) {
      for (const one of this.#positions) if (one > this.#forgotThrough) this.#forgotThrough = one;
      this.#streams = [];
      this.#positions = [];
    }
    this.#streams.push(stream);
    this.#positions.push(position);
  }

  /** As the store is told of it: `isListed` where all that the stream got, and the cursor is not past, is in mind. */
  readonly moveOf = ({ stream, position }: StreamMove): DeviceMove => {
    const { reader, device, advanced, knownAfter } = stream;
    return { reader, device, position, isListed: advanced >= knownAfter && advanced >= this.#forgotThrough };
  };

  /** What each of these has got, up to its position; in no order, and perhaps more than once. */
  of(moves: readonly StreamMove[]): number[] {
    const through = new Map(moves.map(({ stream, position }) => [stream, position]));
    return this.#positions.filter((position, i) => position <= (through.get(this.#streams[i]!) ?? 0));
  }

  /** Forgets what cursors are past, and streams that are closed. */
  settle(): void {
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
  }
}
