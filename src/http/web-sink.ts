/** Sink for web streams: the body of a Fetch `Response`. */
import type { GzipStream } from '../core/deflate.js';
import type { Encoded } from '../core/frame.js';
import type { Sink, SinkOwner } from '../core/sink.js';

/** Bytes that the stream holds before it counts as full; what a Node socket holds too. */
const HIGH_WATER_MARK = 16 * 1024;

export class WebSink implements Sink {
  /** The body of the response. */
  readonly body: ReadableStream<Uint8Array>;
  readonly #gzip: GzipStream | undefined;
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  #owner: SinkOwner | undefined = undefined;
  #isWaiting = false;
  #taken = 0;

  /** `gzip` where the head of the response says so. */
  constructor(gzip?: GzipStream) {
    this.#gzip = gzip;
    this.body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        pull: () => {
          this.#taken++;
          if (!this.#isWaiting) return;
          this.#isWaiting = false;
          this.#owner?.drained();
        },
        cancel: () => this.closed(),
      },
      new ByteLengthQueuingStrategy({ highWaterMark: HIGH_WATER_MARK }),
    );
  }

  open(owner: SinkOwner): void {
    this.#owner = owner;
    if (this.#gzip !== undefined) this.#enqueue(this.#gzip.header.payload);
  }

  write(encoded: Encoded): boolean {
    if (this.#owner === undefined) return true;
    this.#enqueue((this.#gzip?.next(encoded) ?? encoded).payload);
    if ((this.#controller.desiredSize ?? 1) > 0) return true;
    this.#isWaiting = true;
    return false;
  }

  end(last?: Encoded): void {
    if (this.#owner === undefined) return;
    if (last !== undefined) this.#enqueue((this.#gzip?.next(last) ?? last).payload);
    if (this.#gzip !== undefined) this.#enqueue(this.#gzip.trailer.payload);
    this.#controller.close();
    // A web stream does not tell when its reader has read the rest; for the broker it is over.
    queueMicrotask(() => this.closed());
  }

  destroy(): void {
    if (this.#owner === undefined) return;
    this.#controller.error(new Error('the stream was cut by the server'));
    queueMicrotask(() => this.closed());
  }

  progress(): number {
    return this.#taken;
  }

  /** A copy: a runtime may transfer the bytes to another thread, and these are shared with every other client. */
  #enqueue(payload: Buffer): void {
    this.#controller.enqueue(new Uint8Array(payload));
  }

  /** The reader is gone. */
  closed(): void {
    const owner = this.#owner;
    this.#owner = undefined;
    owner?.closed();
  }
}
