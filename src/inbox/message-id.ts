/** Ids of messages: UUIDs of version 7, which grow as time goes on, so that databases append to their index. */
import { randomFillSync } from 'node:crypto';
import { v7 } from 'uuid';

const BYTES = 16;
// The system is asked for randomness once for 256 ids: asking for each costs more than all else about it (bench/README.md).
const pool = new Uint8Array(256 * BYTES);
let used = pool.length;
let lastTime = 0;
let sequence = 0;

/** A new id; greater than all that this process made before. */
export function newMessageId(): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const random = pool.subarray(used, used + BYTES);
  used += BYTES;
  const now = Date.now();
  if (now > lastTime) {
    lastTime = now;
    // 31 random bits, so that there is always room to count on.
    sequence = ((random[0]! & 0x7f) << 24) | (random[1]! << 16) | (random[2]! << 8) | random[3]!;
  } else if (++sequence > 0xffff_ffff) {
    sequence = 0;
    lastTime++;
  }
  return v7({ random, msecs: lastTime, seq: sequence });
}
