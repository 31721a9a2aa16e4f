/** Sink for Node's HTTP/2 streams, behind the compatibility response. */
import type { Http2ServerResponse } from 'node:http2';
import type { Encoded } from '../core/frame.js';
import type { Sink, SinkOwner } from '../core/sink.js';

export class Http2Sink implements Sink {
  readonly #res: Http2ServerResponse;
  #owner: SinkOwner | undefined = undefined;
  #isWaiting = false;

  /** `res` has its head written. */
  constructor(res: Http2ServerResponse) {
    this.#res = res;
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
  }

  write(encoded: Encoded): boolean {
    const { stream } = this.#res;
    if (!stream.writable || stream.write(encoded.payload)) return true;
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
    if (last === undefined) stream.end();
    else stream.end(last.payload);
  }

  destroy(): void {
    this.#res.stream.destroy();
  }

  progress(): number {
    return -this.#res.stream.writableLength;
  }
}
