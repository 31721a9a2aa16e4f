/**
 * Sink for Node's HTTP/2 streams, behind the compatibility response: bytes go to the stream, or through the response where
 * somebody has wrapped that.
 */
import type { Http2ServerResponse } from 'node:http2';
import type { GzipStream } from '../core/deflate.js';
import type { Encoded } from '../core/frame.js';
import type { Sink, SinkOwner } from '../core/sink.js';

/** Whether somebody (compression middleware, an access log) has put something between the response and its stream. */
function isWrapped(res: Http2ServerResponse): boolean {
  // Not imported: who serves no HTTP/2 need not load it, and who does has.
  const { prototype } = process.getBuiltinModule('node:http2').Http2ServerResponse;
  return res.write !== prototype.write || res.end !== prototype.end;
}

/**
 * Bytes handed over at once. A stream does not tell how far it is with a write that is under way, so a reader that takes its
 * time over a large event would look like one that is gone.
 */
const PIECE_BYTES = 64 * 1024;

type MaybeCompressing = Http2ServerResponse & { flush?: () => void };

/** What response and stream have in common. */
interface Carrier {
  write(payload: Buffer): boolean;
  end(): unknown;
  on(event: 'drain', listener: () => void): unknown;
  off(event: 'drain', listener: () => void): unknown;
}

export class Http2Sink implements Sink {
  readonly #res: MaybeCompressing;
  /** Takes the bytes. */
  readonly #carrier: Carrier;
  readonly #gzip: GzipStream | undefined;
  #owner: SinkOwner | undefined = undefined;
  #isWaiting = false;
  /** What was taken and is still to be handed over, in order; undefined for nothing. */
  #rest: Buffer[] | undefined = undefined;
  /** Nothing may be written any more; the end comes behind the rest. */
  #isEnding = false;
  /** Kept from the first time on: `once` on a response that compression has wrapped is never removed. */
  #onDrain: (() => void) | undefined = undefined;

  /** `res` has its head written; `gzip` where that says so. */
  constructor(res: Http2ServerResponse, gzip?: GzipStream) {
    this.#res = res;
    this.#carrier = isWrapped(res) ? (res as Carrier) : res.stream;
    this.#gzip = gzip;
  }

  open(owner: SinkOwner): void {
    this.#owner = owner;
    const { stream } = this.#res;
    stream.once('close', () => {
      this.#owner = undefined;
      this.#rest = undefined;
      if (this.#onDrain !== undefined) this.#carrier.off('drain', this.#onDrain);
      owner.closed();
    });
    // A reset by the peer is an error and a close; the close is what counts.
    stream.on('error', () => {});
    if (this.#gzip !== undefined) this.#write(this.#gzip.header.payload);
  }

  write(encoded: Encoded): boolean {
    if (!this.#isOpen || this.#write((this.#gzip?.next(encoded) ?? encoded).payload)) return true;
    this.#awaitDrain();
    return false;
  }

  end(last?: Encoded): void {
    if (!this.#isOpen) return;
    if (last !== undefined) this.#write((this.#gzip?.next(last) ?? last).payload);
    if (this.#gzip !== undefined) this.#write(this.#gzip.trailer.payload);
    this.#isEnding = true;
    if (this.#rest === undefined) this.#carrier.end();
    else this.#awaitDrain();
  }

  destroy(): void {
    this.#res.stream.destroy();
  }

  progress(): number {
    let waiting = this.#res.stream.writableLength;
    if (this.#rest !== undefined) for (const { length } of this.#rest) waiting += length;
    return -waiting;
  }

  get #isOpen(): boolean {
    return this.#res.stream.writable && !this.#res.writableEnded && !this.#isEnding;
  }

  #write(payload: Buffer): boolean {
    if (this.#rest !== undefined) {
      this.#rest.push(payload);
      return false;
    }
    if (payload.length <= PIECE_BYTES || this.#carrier === this.#res) return this.#hand(payload);
    this.#rest = [payload];
    return this.#handRest();
  }

  /** Hands over pieces while there is room; true where that was all. */
  #handRest(): boolean {
    let hasRoom = true;
    while (hasRoom && this.#rest !== undefined) {
      const [payload, ...others] = this.#rest as [Buffer, ...Buffer[]];
      const isLast = payload.length <= PIECE_BYTES;
      if (!isLast) this.#rest[0] = payload.subarray(PIECE_BYTES);
      else this.#rest = others.length > 0 ? others : undefined;
      hasRoom = this.#hand(isLast ? payload : payload.subarray(0, PIECE_BYTES));
    }
    return hasRoom;
  }

  #hand(payload: Buffer): boolean {
    const hasRoom = this.#carrier.write(payload);
    // Compression middleware collects until it is told not to.
    if (this.#carrier === this.#res) this.#res.flush?.();
    return hasRoom;
  }

  #awaitDrain(): void {
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    if (this.#onDrain !== undefined) return;
    this.#onDrain = () => {
      if (!this.#isWaiting) return;
      if (this.#rest !== undefined && !this.#handRest()) return;
      this.#isWaiting = false;
      if (this.#isEnding) this.#carrier.end();
      else this.#owner?.drained();
    };
    this.#carrier.on('drain', this.#onDrain);
  }
}
