/**
 * Shared compression: each event is deflated once, as a block of its own, and the same bytes go to every client behind
 * one gzip header (RFC 1952, RFC 1951 section 3.2.3).
 *
 * A full flush ends every block on a byte and forgets the dictionary: blocks can be put together in any order, so a batch
 * is its events' blocks one after the other, and a client that missed some still gets a valid stream. No event is compressed
 * against another's text, not even in the same batch: one user's data cannot be guessed through the size of another's.
 *
 * A gzip stream ends with a checksum of all its text. Two checksums are joined without the text, so a client costs one
 * multiplication per write and not a pass over the bytes.
 */
import { constants, crc32, deflateRawSync } from 'node:zlib';
import { chunked, type Encoded } from './frame.js';

/** Text as deflated bytes. */
interface Deflated {
  readonly chunk: Buffer;
  readonly payload: Buffer;
  readonly crc: number;
  /** What joining this behind something multiplies that something's checksum by. */
  readonly shift: number;
  readonly bytes: number;
}

// Small windows: events are small, and setting up a large window costs more than it saves.
const OPTIONS = { finishFlush: constants.Z_FULL_FLUSH, level: 6, windowBits: 13, memLevel: 5 } as const;

const memo = new WeakMap<Encoded, Deflated>();

function deflated(encoded: Encoded): Deflated {
  let result = memo.get(encoded);
  if (result === undefined) {
    const { frames } = encoded;
    result = frames.length === 1 ? deflate(encoded.payload) : join(frames.map(deflated));
    memo.set(encoded, result);
  }
  return result;
}

function deflate(text: Buffer): Deflated {
  const { chunk, payload } = chunked(deflateRawSync(text, OPTIONS));
  return { chunk, payload, crc: crc32(text), shift: powerOfX(text.length * 8), bytes: text.length };
}

function join(blocks: readonly Deflated[]): Deflated {
  let crc = 0;
  let shift = ONE;
  let bytes = 0;
  for (const block of blocks) {
    crc = (multiply(block.shift, crc) ^ block.crc) >>> 0;
    shift = multiply(block.shift, shift);
    bytes += block.bytes;
  }
  const { chunk, payload } = chunked(Buffer.concat(blocks.map((block) => block.payload)));
  return { chunk, payload, crc, shift, bytes };
}

/** Magic, deflate, no flags, no time, no extra flags, unknown system. */
const HEADER = chunked(Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]));

/** Bytes for the carrier: as an HTTP/1.1 chunk, and without. */
export interface Bytes {
  readonly chunk: Buffer;
  readonly payload: Buffer;
}

/** The gzip stream of one client: a running checksum, and nothing else. */
export class GzipStream {
  #crc = 0;
  #bytes = 0;

  /** What comes before everything else. */
  get header(): Bytes {
    return HEADER;
  }

  next(encoded: Encoded): Bytes {
    const block = deflated(encoded);
    this.#crc = (multiply(block.shift, this.#crc) ^ block.crc) >>> 0;
    this.#bytes = (this.#bytes + block.bytes) >>> 0;
    return block;
  }

  /** What comes after everything else: an empty last block, checksum and length. */
  get trailer(): Bytes {
    const trailer = Buffer.alloc(10);
    trailer[0] = 3;
    trailer.writeUInt32LE(this.#crc, 2);
    trailer.writeUInt32LE(this.#bytes, 6);
    return chunked(trailer);
  }
}

/*
 * CRC-32 is the remainder of the text, as a polynomial over GF(2), so crc(A‖B) = crc(A)·x^(8·|B|) + crc(B) modulo the
 * generator (the complements at both ends cancel out). Bits are reflected: x^0 is the highest bit.
 */
const GENERATOR = 0xedb88320;
const ONE = 0x80000000;

function multiply(a: number, b: number): number {
  let product = 0;
  let factor = b;
  for (let bit = ONE; bit !== 0; bit >>>= 1) {
    if ((a & bit) !== 0) product ^= factor;
    factor = (factor & 1) !== 0 ? (factor >>> 1) ^ GENERATOR : factor >>> 1;
  }
  return product >>> 0;
}

/** x^(2^i) modulo the generator. */
const SQUARES: readonly number[] = (() => {
  const squares = [ONE >>> 1];
  for (let i = 1; i < 40; i++) squares.push(multiply(squares[i - 1]!, squares[i - 1]!));
  return squares;
})();

function powerOfX(exponent: number): number {
  let power = ONE;
  for (let i = 0, rest = exponent; rest > 0; i++, rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) power = multiply(SQUARES[i]!, power);
  }
  return power;
}
