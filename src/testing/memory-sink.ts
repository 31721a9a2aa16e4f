/** A sink that keeps what a client would read: for tests that need no sockets. */
import type { Encoded } from '../core/frame.js';
import type { Sink, SinkOwner } from '../core/sink.js';

/**
 * A {@link Sink} for tests: hand it to `broker.connect`, and read `text`.
 *
 * @example
 * const sink = new MemorySink();
 * broker.connect({ sink, identity: { userId: 'alice' } });
 * await broker.sendToUser('alice', 'greeting', 'hello');
 * await sink.wrote('data: hello');
 */
export class MemorySink implements Sink {
  #owner: SinkOwner | undefined = undefined;
  #chunks: Buffer[] = [];
  #room: number;
  #isFull = false;
  #isClosed = false;
  #progress = 0;
  #watchers: (() => void)[] = [];

  /** `room`: bytes it takes until it is full, like the socket of a reader that stalls. Default: it is never full. */
  constructor(room = Number.POSITIVE_INFINITY) {
    this.#room = room;
  }

  /** Everything written so far, as an event stream. */
  get text(): string {
    return Buffer.concat(this.#chunks).toString();
  }

  /** True where the stream is over. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Resolves when `text` contains `part`; rejects when the stream ends without. */
  wrote(part: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (this.text.includes(part)) resolve();
        else if (this.#isClosed) reject(new Error(`the stream ended without ${JSON.stringify(part)}`));
        else this.#watchers.push(look);
      };
      look();
    });
  }

  /** The reader takes `bytes` more, and the broker goes on. */
  drain(bytes = Number.POSITIVE_INFINITY): void {
    this.#room = Math.max(this.#room, 0) + bytes;
    this.#progress++;
    if (!this.#isFull) return;
    this.#isFull = false;
    this.#owner?.drained();
  }

  /** The reader leaves; with `cause`, its carrier breaks. Safe to call twice. */
  leave(cause?: Error): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#owner?.closed(cause);
    this.#look();
  }

  open(owner: SinkOwner): void {
    this.#owner = owner;
  }

  write({ payload, bytes }: Encoded): boolean {
    if (this.#isClosed) return true;
    this.#chunks.push(payload);
    this.#room -= bytes;
    this.#look();
    if (this.#room > 0) return true;
    this.#isFull = true;
    return false;
  }

  end(last?: Encoded): void {
    if (last !== undefined && !this.#isClosed) this.#chunks.push(last.payload);
    // A sink never calls back from inside `end`.
    queueMicrotask(() => this.leave());
  }

  destroy(): void {
    queueMicrotask(() => this.leave());
  }

  progress(): number {
    return this.#progress;
  }

  #look(): void {
    const watchers = this.#watchers;
    this.#watchers = [];
    for (const look of watchers) look();
  }
}
