/** Time as the broker sees it; inject one to test without waiting. */
export interface Clock {
  /** ms since 1970. */
  now(): number;
  /** ms that never go backwards. */
  monotonic(): number;
  /** Calls `callback` every `ms` without holding the process; returns its undo. */
  every(ms: number, callback: () => void): () => void;
}

export const systemClock: Clock = Object.freeze({
  now: () => Date.now(),
  monotonic: () => performance.now(),
  every(ms: number, callback: () => void) {
    const timer = setInterval(callback, ms);
    timer.unref?.();
    return () => clearInterval(timer);
  },
});
