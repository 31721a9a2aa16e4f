/** Ids of messages: UUIDs of version 7, which grow as time goes on, so that databases append to their index. */
import { randomFillSync } from 'node:crypto';
import { v7 } from 'uuid';

const BYTES = 16;
// The system is asked for randomness once for 256 ids: asking for each costs more than all else about it (bench/README.md).
const pool = new Uint8Array(256 * BYTES);
let used = pool.length;
let lastTime = 0;
let sequence = 0;

// Used for every id. Put together of pieces, one would leave a kilobyte of garbage, and be copied when it is first looked into.
const random = new Uint8Array(BYTES);
const bytes = new Uint8Array(BYTES);
const text = Buffer.from('xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx');
/** Where the two digits of each byte stand in it. */
const PLACES = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
const DIGITS = Buffer.from('0123456789abcdef');

/** A new id; greater than all that this process made before. */
export function newMessageId(): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  for (let i = 0; i < BYTES; i++) random[i] = pool[used++]!;
  const now = Date.now();
  if (now > lastTime) {
    lastTime = now;
    // 31 random bits, so that there is always room to count on.
    sequence = ((random[0]! & 0x7f) << 24) | (random[1]! << 16) | (random[2]! << 8) | random[3]!;
  } else if (++sequence > 0xffff_ffff) {
    sequence = 0;
    lastTime++;
  }
  v7({ random, msecs: lastTime, seq: sequence }, bytes);
  for (let i = 0; i < BYTES; i++) {
    const at = PLACES[i]!;
    text[at] = DIGITS[bytes[i]! >> 4]!;
    text[at + 1] = DIGITS[bytes[i]! & 15]!;
  }
  return text.toString('latin1');
}
