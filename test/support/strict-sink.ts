/**
 * A sink under a test's thumb that holds both sides to the contract in src/core/sink.ts: it tells nothing by itself, and
 * takes note of every call that the contract forbids.
 */
import { expect, onTestFinished } from 'vitest';
import type { Encoded, Sink, SinkOwner } from '../../src/index.js';
import { type ReadEvent, Reader } from './reader.js';

export class StrictSink implements Sink {
  /** Everything written, the last word of `end` included. */
  readonly writes: Encoded[] = [];
  /** What was called against the contract. */
  readonly violations: string[] = [];
  isOpen = false;
  isEnded = false;
  isDestroyed = false;
  isClosed = false;
  /** Full: it owes its owner a `drained`. */
  isFull = false;
  /** Writes it takes until it is full. */
  room: number;
  #progress = 0;
  #owner: SinkOwner | undefined;

  constructor(room = Number.POSITIVE_INFINITY) {
    this.room = room;
  }

  /** One that is gone at the end of the test, before its broker is closed. */
  static forTest(room?: number): StrictSink {
    const sink = new StrictSink(room);
    onTestFinished(() => sink.close());
    return sink;
  }

  get text(): string {
    return this.writes.map(({ payload }) => payload.toString()).join('');
  }

  /** What an EventSource would have seen. */
  get events(): readonly ReadEvent[] {
    return this.read().events;
  }

  read(lastEventId = ''): Reader {
    const reader = new Reader(lastEventId);
    for (const { payload } of this.writes) reader.feed(payload);
    return reader;
  }

  /** Data of the events of that name, parsed. */
  all<T = unknown>(type: string): T[] {
    return this.events.filter((event) => event.type === type).map((event) => JSON.parse(event.data) as T);
  }

  open(owner: SinkOwner): void {
    if (this.isOpen) this.violations.push('opened twice');
    this.isOpen = true;
    this.#owner = owner;
  }

  write(encoded: Encoded): boolean {
    if (!this.isOpen) this.violations.push('written to before open');
    if (this.isEnded || this.isDestroyed || this.isClosed) this.violations.push('written to after its end');
    this.writes.push(encoded);
    if (this.room > 0) this.room--;
    if (this.room > 0) return true;
    this.isFull = true;
    return false;
  }

  end(last?: Encoded): void {
    if (this.isEnded || this.isDestroyed || this.isClosed) return;
    this.isEnded = true;
    if (last !== undefined) this.writes.push(last);
  }

  destroy(): void {
    this.isDestroyed = true;
  }

  progress(): number {
    return this.#progress;
  }

  /** The carrier took bytes, but still has too many. */
  advance(): void {
    this.#progress++;
  }

  /** The carrier takes `room` more writes. */
  drain(room = Number.POSITIVE_INFINITY): void {
    this.#progress++;
    this.room = room;
    if (!this.isFull) return;
    this.isFull = false;
    this.#owner?.drained();
  }

  /** The carrier is gone. */
  close(cause?: Error): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#owner?.closed(cause);
  }

  /** Fails the test where the broker's side broke the contract. */
  check(): void {
    expect(this.violations).toEqual([]);
  }
}
