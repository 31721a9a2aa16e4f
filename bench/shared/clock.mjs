/**
 * One clock for all processes of a run. Node's monotonic clock is CLOCK_MONOTONIC, the same for every process of a
 * machine, so a time stamped by the server can be subtracted from a time read by the load client.
 *
 * `performance.now()` costs a third of `process.hrtime()`, so the hot paths read that one, moved to the common origin.
 */
const origin = alignClocks();

/** Microseconds since an origin that all processes of this machine share. */
export function nowMicros() {
  return origin + performance.now() * 1000;
}

/** @param {number} ms */
export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * What to add to `performance.now()`. The reading between two near readings of the common clock is the true one; a
 * first call may take milliseconds (the global is made when it is first used), which would make latencies negative.
 */
function alignClocks() {
  let best = 0;
  let uncertainty = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 200; i++) {
    const before = process.hrtime.bigint();
    const own = performance.now();
    const after = process.hrtime.bigint();
    if (Number(after - before) < uncertainty) {
      uncertainty = Number(after - before);
      best = Number((before + after) / 2n) / 1000 - own * 1000;
    }
  }
  return best;
}
