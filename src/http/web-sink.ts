/** Sink for web streams: the body of a Fetch `Response`. */
import type { GzipStream } from '../core/deflate.js';
import type { Encoded } from '../core/frame.js';
import type { Sink, SinkOwner } from '../core/sink.js';

/** Bytes that the stream holds before it counts as full; what a Node socket holds too. */
const HIGH_WATER_MARK = 16 * 1024;

/** A Request, by the part that is used. */
type Leaver = Pick<Request, 'signal'>;

export class WebSink implements Sink {
  /** The body of the response. */
  readonly body: ReadableStream<Uint8Array>;
  readonly #gzip: GzipStream | undefined;
  /** Kept whole: Node's signal of a Request that nobody holds any more never aborts. */
  readonly #request: Leaver | undefined;
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  #owner: SinkOwner | undefined = undefined;
  #isWaiting = false;
  /** Nothing may be written any more; what was is still to be read. */
  #isEnding = false;

  /** `gzip` where the head of the response says so; `request`: by its signal a runtime tells that the client left. */
  constructor(gzip?: GzipStream, request?: Leaver) {
    this.#gzip = gzip;
    this.#request = request;
    this.body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        pull: () => this.#onPull(),
        cancel: () => this.#closed(),
      },
      new ByteLengthQueuingStrategy({ highWaterMark: HIGH_WATER_MARK }),
    );
  }

  open(owner: SinkOwner): void {
    this.#owner = owner;
    this.#request?.signal.addEventListener('abort', this.#onAbort);
    if (this.#gzip !== undefined) this.#enqueue(this.#gzip.header.payload);
  }

  write(encoded: Encoded): boolean {
    if (this.#owner === undefined || this.#isEnding) return true;
    this.#enqueue((this.#gzip?.next(encoded) ?? encoded).payload);
    if ((this.#controller.desiredSize ?? 1) > 0) return true;
    this.#isWaiting = true;
    return false;
  }

  end(last?: Encoded): void {
    if (this.#owner === undefined || this.#isEnding) return;
    if (last !== undefined) this.#enqueue((this.#gzip?.next(last) ?? last).payload);
    if (this.#gzip !== undefined) this.#enqueue(this.#gzip.trailer.payload);
    this.#isEnding = true;
    if (this.#isRead()) this.#finish();
  }

  destroy(): void {
    if (this.#owner === undefined) return;
    this.#isEnding = true;
    this.#deafen();
    this.#controller.error(new Error('the stream was cut by the server'));
    queueMicrotask(() => this.#closed());
  }

  /** Not told by `pull`, which comes only when there is room again. */
  progress(): number {
    return this.#controller.desiredSize ?? 0;
  }

  /** The reader has room: called after every read that leaves some. */
  #onPull(): void {
    if (this.#isEnding) {
      if (this.#isRead()) this.#finish();
    } else if (this.#isWaiting) {
      this.#isWaiting = false;
      this.#owner?.drained();
    }
  }

  #isRead(): boolean {
    return this.#controller.desiredSize === HIGH_WATER_MARK;
  }

  /** Once all is read, and not before: only then a broker that closes may say that this stream has ended. */
  #finish(): void {
    if (this.#owner === undefined) return;
    this.#deafen();
    this.#controller.close();
    queueMicrotask(() => this.#closed());
  }

  // Not an error: to a runtime that still reads, this is the end.
  readonly #onAbort = (): void => {
    this.#controller.close();
    this.#closed();
  };

  /** A copy: a runtime may transfer the bytes to another thread, and these are shared with every other client. */
  #enqueue(payload: Buffer): void {
    this.#controller.enqueue(new Uint8Array(payload));
  }

  #closed(): void {
    const owner = this.#owner;
    this.#owner = undefined;
    this.#deafen();
    owner?.closed();
  }

  #deafen(): void {
    this.#request?.signal.removeEventListener('abort', this.#onAbort);
  }
}
