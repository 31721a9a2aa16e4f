/** Sink for Node's HTTP/2 streams, behind the compatibility response. */
import type { Http2ServerResponse } from 'node:http2';
import type { GzipStream } from '../core/deflate.js';
import type { Encoded } from '../core/frame.js';
import type { Sink, SinkOwner } from '../core/sink.js';

export class Http2Sink implements Sink {
  readonly #res: Http2ServerResponse;
  readonly #gzip: GzipStream | undefined;
  #owner: SinkOwner | undefined = undefined;
  #isWaiting = false;

  /** `res` has its head written; `gzip` where that says so. */
  constructor(res: Http2ServerResponse, gzip?: GzipStream) {
    this.#res = res;
    this.#gzip = gzip;
  }

  open(owner: SinkOwner): void {
    this.#owner = owner;
    const { stream } = this.#res;
    stream.once('close', () => {
      this.#owner = undefined;
      owner.closed();
    });
    // A reset by the peer is an error and a close; the close is what counts.
    stream.on('error', () => {});
    if (this.#gzip !== undefined) stream.write(this.#gzip.header.payload);
  }

  write(encoded: Encoded): boolean {
    const { stream } = this.#res;
    if (!stream.writable || stream.write((this.#gzip?.next(encoded) ?? encoded).payload)) return true;
    if (!this.#isWaiting) {
      this.#isWaiting = true;
      stream.once('drain', () => {
        this.#isWaiting = false;
        this.#owner?.drained();
      });
    }
    return false;
  }

  end(last?: Encoded): void {
    const { stream } = this.#res;
    if (!stream.writable) return;
    if (last !== undefined) stream.write((this.#gzip?.next(last) ?? last).payload);
    stream.end(this.#gzip?.trailer.payload);
  }

  destroy(): void {
    this.#res.stream.destroy();
  }

  progress(): number {
    return -this.#res.stream.writableLength;
  }
}
