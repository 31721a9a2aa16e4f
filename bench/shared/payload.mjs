/**
 * The payload of a benchmark event: text of a fixed size in which every byte is known or checked, so the load client
 * can tell a wrong recipient, a lost, doubled or misplaced event, a torn frame, and how long it took.
 *
 * ```
 * SBP:*0000000.0000000012.0000000345.000001234567890.1a2b3c4d.<filler>;
 *     scope    seq in the  seq of     µs, monotonic   check    text that depends on seq
 *              scope       all events
 * ```
 *
 * No quotes, backslashes or line ends: a server may send it as it is or as a JSON string; both hold the same bytes.
 */
import { nowMicros } from './clock.mjs';
import { createRandom } from './random.mjs';

export const MARK = Buffer.from('SBP:');
export const HEADER_LENGTH = 60;
export const MIN_PAYLOAD_BYTES = 64;

const SCOPE_AT = 4;
const SEQ_AT = 13;
const GLOBAL_AT = 24;
const TIME_AT = 35;
const CHECK_AT = 51;
const DOT = 46;
const END = 59; // ';'
const HEX = Buffer.from('0123456789abcdef');

// The filler of an event is a window into this text, moved by its sequence number: pieces of two events do not mix.
const WINDOWS = 64;
const MAX_FILLER = 1 << 20;
let filler = Buffer.alloc(0);

/** @param {number} length */
function fillerOf(length) {
  if (length > MAX_FILLER) throw new RangeError(`payload of ${length} bytes: at most ${MAX_FILLER}`);
  if (filler.length < length + WINDOWS) {
    const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-';
    const random = createRandom(1);
    filler = Buffer.alloc(length + WINDOWS);
    for (let i = 0; i < filler.length; i++) filler[i] = letters.charCodeAt(Math.floor(random() * 64));
  }
  return filler;
}

/** @param {Buffer} bytes @param {number} at @param {number} length @param {number} payloadBytes */
function checksum(bytes, at, length, payloadBytes) {
  let hash = 2166136261 ^ payloadBytes;
  for (let i = at; i < at + length; i++) hash = Math.imul(hash ^ bytes[i], 16777619);
  return hash >>> 0;
}

/** @param {Buffer} bytes @param {number} at @param {number} width @param {number} value */
function writeDecimal(bytes, at, width, value) {
  let rest = value;
  for (let i = at + width - 1; i >= at; i--) {
    const next = Math.floor(rest / 10);
    bytes[i] = 48 + (rest - next * 10);
    rest = next;
  }
}

/** @param {Buffer} bytes @param {number} at @param {number} width @returns {number} NaN where a byte is no digit */
function readDecimal(bytes, at, width) {
  let value = 0;
  for (let i = at; i < at + width; i++) {
    const digit = bytes[i] - 48;
    if (digit < 0 || digit > 9) return Number.NaN;
    value = value * 10 + digit;
  }
  return value;
}

/** Makes payloads of one size. One Buffer is reused: an event costs one string. */
export class PayloadWriter {
  #bytes;

  /** @param {number} payloadBytes */
  constructor(payloadBytes) {
    if (payloadBytes < MIN_PAYLOAD_BYTES) throw new RangeError(`payload of ${payloadBytes} bytes: at least 64`);
    this.#bytes = Buffer.alloc(payloadBytes, DOT);
    MARK.copy(this.#bytes);
    this.#bytes[payloadBytes - 1] = END;
    fillerOf(payloadBytes);
  }

  /**
   * @param {number} kind BROADCAST, USER or TOPIC
   * @param {number} index which user or topic; 0 for a broadcast
   * @param {number} seq position in the scope
   * @param {number} globalSeq position among all events of this server
   */
  make(kind, index, seq, globalSeq) {
    const bytes = this.#bytes;
    bytes[SCOPE_AT] = kind;
    writeDecimal(bytes, SCOPE_AT + 1, 7, index);
    writeDecimal(bytes, SEQ_AT, 10, seq);
    writeDecimal(bytes, GLOBAL_AT, 10, globalSeq);
    writeDecimal(bytes, TIME_AT, 15, Math.floor(nowMicros()));
    const check = checksum(bytes, SCOPE_AT, CHECK_AT - SCOPE_AT, bytes.length);
    for (let i = 0; i < 8; i++) bytes[CHECK_AT + i] = HEX[(check >>> (28 - 4 * i)) & 15];
    const from = seq % WINDOWS;
    filler.copy(bytes, HEADER_LENGTH, from, from + bytes.length - HEADER_LENGTH - 1);
    return bytes.toString('latin1');
  }
}

/** Reads payloads of one size; what it read last is in its fields. */
export class PayloadReader {
  kind = 0;
  index = 0;
  seq = 0;
  globalSeq = 0;
  timeMicros = 0;
  #length;
  #filler;

  /** @param {number} payloadBytes */
  constructor(payloadBytes) {
    this.#length = payloadBytes;
    this.#filler = fillerOf(payloadBytes);
  }

  /** Bytes of one payload. */
  get length() {
    return this.#length;
  }

  /**
   * Checks every byte of the payload that starts at `at`.
   *
   * @param {Buffer} bytes @param {number} at
   * @returns {boolean} false if any byte is not what its sequence number says
   */
  read(bytes, at) {
    const end = at + this.#length;
    if (end > bytes.length || bytes[end - 1] !== END || bytes[at + HEADER_LENGTH - 1] !== DOT) return false;
    this.kind = bytes[at + SCOPE_AT];
    this.index = readDecimal(bytes, at + SCOPE_AT + 1, 7);
    this.seq = readDecimal(bytes, at + SEQ_AT, 10);
    this.globalSeq = readDecimal(bytes, at + GLOBAL_AT, 10);
    this.timeMicros = readDecimal(bytes, at + TIME_AT, 15);
    const check = checksum(bytes, at + SCOPE_AT, CHECK_AT - SCOPE_AT, this.#length);
    for (let i = 0; i < 8; i++) if (bytes[at + CHECK_AT + i] !== HEX[(check >>> (28 - 4 * i)) & 15]) return false;
    const from = this.seq % WINDOWS;
    const size = this.#length - HEADER_LENGTH - 1;
    return this.#filler.compare(bytes, at + HEADER_LENGTH, end - 1, from, from + size) === 0;
  }
}
