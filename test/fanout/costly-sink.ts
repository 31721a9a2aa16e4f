/** Sinks by the ten thousand, and a clock by which only writing takes time: counting instead of measuring. */
import { onTestFinished } from 'vitest';
import type { Encoded, Sink, SinkOwner } from '../../src/index.js';

/** `performance.now()` that stands still except where {@link WorkClock.spend} says so. Undone when the test ends. */
export class WorkClock {
  #now = performance.now();

  constructor() {
    // Not a spy: it would remember every call.
    const { now } = performance;
    performance.now = () => this.#now;
    onTestFinished(() => {
      performance.now = now;
    });
  }

  get now(): number {
    return this.#now;
  }

  spend(ms: number): void {
    this.#now += ms;
  }
}

/** Takes everything, at a price; keeps what it was given, by reference. */
export class CostlySink implements Sink {
  readonly writes: Encoded[] = [];
  owner: SinkOwner | undefined;
  /** Full: the next write is refused. */
  isFull = false;
  readonly #cost: () => void;

  constructor(cost: () => void = () => {}) {
    this.#cost = cost;
  }

  open(owner: SinkOwner): void {
    this.owner = owner;
  }
  write(encoded: Encoded): boolean {
    this.writes.push(encoded);
    this.#cost();
    return !this.isFull;
  }
  end(last?: Encoded): void {
    if (last !== undefined) this.writes.push(last);
    queueMicrotask(() => this.owner?.closed());
  }
  destroy(): void {
    queueMicrotask(() => this.owner?.closed());
  }
  progress(): number {
    return 0;
  }

  /** The carrier takes bytes again. */
  drain(): void {
    this.isFull = false;
    this.owner?.drained();
  }

  get text(): string {
    return this.writes.map(({ payload }) => payload.toString()).join('');
  }

  /** Numbers that were published as data. */
  get numbers(): number[] {
    return [...this.text.matchAll(/^data: (\d+)$/gm)].map((match) => Number(match[1]));
  }
}

export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
