/** A sink of a pretended carrier: keeps every byte, and is full after as many as the test says. */
import type { Encoded, Sink, SinkOwner } from '../../src/index.js';

export class PipeSink implements Sink {
  /** Everything written. */
  readonly written: Buffer[] = [];
  isClosed = false;
  #owner: SinkOwner | undefined;
  #room: number;
  #isWaiting = false;
  #progress = 0;

  /** `room`: bytes it takes before it is full. */
  constructor(room = Number.POSITIVE_INFINITY) {
    this.#room = room;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.written);
  }

  open(owner: SinkOwner): void {
    this.#owner = owner;
  }

  write(encoded: Encoded): boolean {
    if (this.isClosed) return true;
    this.written.push(encoded.payload);
    this.#room -= encoded.bytes;
    if (this.#room > 0) return true;
    this.#isWaiting = true;
    return false;
  }

  /** The carrier takes `room` more bytes. */
  drain(room: number): void {
    this.#room = Math.max(this.#room, 0) + room;
    this.#progress++;
    if (!this.#isWaiting) return;
    this.#isWaiting = false;
    this.#owner?.drained();
  }

  end(last?: Encoded): void {
    if (last !== undefined && !this.isClosed) this.written.push(last.payload);
    queueMicrotask(() => this.close());
  }

  destroy(): void {
    queueMicrotask(() => this.close());
  }

  progress(): number {
    return this.#progress;
  }

  /** The carrier is gone. */
  close(cause?: Error): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#owner?.closed(cause);
  }
}
