/** A clock that stands still until it is told: for what takes minutes in the field. */
import type { Clock } from '../../src/index.js';

export class ManualClock implements Clock {
  #now = 1_700_000_000_000;
  #elapsed = 0;
  readonly #timers = new Set<{ readonly ms: number; due: number; readonly callback: () => void }>();

  /** Timers that have not been undone. */
  get timers(): number {
    return this.#timers.size;
  }

  readonly now = (): number => this.#now;
  readonly monotonic = (): number => this.#elapsed;
  readonly every = (ms: number, callback: () => void): (() => void) => {
    const timer = { ms, due: this.#elapsed + ms, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  };

  /** Lets `ms` pass: every timer is called as often as it falls due, in order. */
  advance(ms: number): void {
    const target = this.#elapsed + ms;
    for (;;) {
      let next: { readonly ms: number; due: number; readonly callback: () => void } | undefined;
      for (const timer of this.#timers)
        if (timer.due <= target && (next === undefined || timer.due < next.due)) next = timer;
      if (next === undefined) break;
      this.#move(next.due);
      next.due += next.ms;
      next.callback();
    }
    this.#move(target);
  }

  #move(elapsed: number): void {
    this.#now += elapsed - this.#elapsed;
    this.#elapsed = elapsed;
  }
}
