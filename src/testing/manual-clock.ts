/** A clock that stands still until it is told: for what takes minutes in the field. */
import type { Clock } from '../core/clock.js';

interface Timer {
  readonly ms: number;
  due: number;
  readonly callback: () => void;
}

/**
 * A {@link Clock} for tests.
 *
 * @example
 * const clock = new ManualClock();
 * const broker = new Broker({ clock, historySize: 10, historyTtl: 60_000 });
 * clock.advance(60_000); // a minute has passed: timers that fell due have been called
 */
export class ManualClock implements Clock {
  #now: number;
  #elapsed = 0;
  readonly #timers = new Set<Timer>();

  /** `now`: where it starts, in ms since 1970. */
  constructor(now = 1_700_000_000_000) {
    this.#now = now;
  }

  /** Timers that have not been undone: 0 where everything was closed. */
  get timers(): number {
    return this.#timers.size;
  }

  readonly now = (): number => this.#now;
  readonly monotonic = (): number => this.#elapsed;
  readonly every = (ms: number, callback: () => void): (() => void) => {
    const timer: Timer = { ms, due: this.#elapsed + ms, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  };

  /** Lets `ms` pass: every timer is called as often as it falls due, in order. */
  advance(ms: number): void {
    const target = this.#elapsed + ms;
    for (let next = this.#nextUntil(target); next !== undefined; next = this.#nextUntil(target)) {
      this.#moveTo(next.due);
      next.due += next.ms;
      next.callback();
    }
    this.#moveTo(target);
  }

  #nextUntil(target: number): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.due <= target && (next === undefined || timer.due < next.due)) next = timer;
    }
    return next;
  }

  #moveTo(elapsed: number): void {
    this.#now += elapsed - this.#elapsed;
    this.#elapsed = elapsed;
  }
}
