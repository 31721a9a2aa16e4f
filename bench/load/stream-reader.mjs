/**
 * Reads the body of one event stream: HTTP/1.1 chunks, SSE lines in them, payloads in those. Strict: a byte that the
 * two formats do not allow ends the connection as malformed.
 *
 * Fast where it may be (see `images.mjs`), and otherwise without a step per byte: lines are found by `indexOf`, the
 * payload has a fixed size, its filler is compared as a block.
 */
import { MARK } from '../shared/payload.mjs';
import { Run } from './images.mjs';

const CR = 13;
const LF = 10;
const COLON = 58;
const SPACE = 32;
const QUOTE = 34;
const BRACE = 125;

/** Value of a hexadecimal digit, or -1. */
const HEX_VALUE = new Int8Array(256).fill(-1);
for (let i = 0; i < 16; i++) {
  HEX_VALUE[i.toString(16).charCodeAt(0)] = i;
  HEX_VALUE[i.toString(16).toUpperCase().charCodeAt(0)] = i;
}

// One for the process: what is parsed is parsed to its end before the next read begins.
const run = new Run();

export class StreamReader {
  /** The server closed the stream in the proper way, with an empty chunk. */
  isEnded = false;
  /** @type {string | null} */
  error = null;
  /** The beginning of a chunk whose end is still to come. @type {Buffer | null} */
  #tail = null;
  /** The beginning of an event whose end is in a later chunk. @type {Buffer | null} */
  #partial = null;
  #ledger;
  #images;
  #payload;
  #tally;

  /**
   * @param {import('./ledger.mjs').Ledger} ledger
   * @param {{ images: import('./images.mjs').Images, payload: import('../shared/payload.mjs').PayloadReader, tally: import('./tally.mjs').Tally }} shared
   */
  constructor(ledger, shared) {
    this.#ledger = ledger;
    this.#images = shared.images;
    this.#payload = shared.payload;
    this.#tally = shared.tally;
  }

  /**
   * @param {Buffer} buffer not kept: what is needed later is copied
   * @param {number} length
   * @param {number} now
   */
  feed(buffer, length, now) {
    let bytes = buffer;
    let end = length;
    if (this.#tail !== null) {
      bytes = Buffer.concat([this.#tail, buffer.subarray(0, length)]);
      end = bytes.length;
      this.#tail = null;
    }
    let at = 0;
    let runStart = 0;
    // The rest of an event that began in an earlier read makes no image: its start is not in these bytes.
    let isRunning = this.#partial !== null;
    if (isRunning) run.spoil();

    while (at < end && this.error === null && !this.isEnded) {
      if (this.#partial === null) {
        const image = this.#images.at(this.#ledger.broadcastNext);
        if (image !== undefined && this.#ledger.lastGlobal < image.firstGlobal) {
          const size = image.bytes.length;
          if (end - at >= size && image.bytes.compare(bytes, at, at + size, 0, size) === 0) {
            this.#ledger.enterImage(image, now);
            at += size;
            isRunning = false;
            continue;
          }
        }
        if (!isRunning) {
          run.start();
          runStart = at;
          isRunning = true;
        }
      }
      const next = this.#readChunk(bytes, at, end, now);
      if (next === at) break;
      at = next;
      if (this.#partial === null) {
        if (run.isPure && run.times.length > 0) this.#images.put(run.toImage(bytes.subarray(runStart, at)));
        isRunning = false;
      }
    }
    if (at < end && this.error === null && !this.isEnded) this.#tail = Buffer.from(bytes.subarray(at, end));
  }

  /** @param {Buffer} bytes @param {number} at @param {number} end @param {number} now @returns {number} after the chunk, or `at` if its end is missing */
  #readChunk(bytes, at, end, now) {
    let size = 0;
    let i = at;
    while (i < end && bytes[i] !== CR) {
      const value = HEX_VALUE[bytes[i]];
      if (value === -1 || i - at > 7) return this.#fail(`no chunk size: ${preview(bytes, at, end)}`, at);
      size = size * 16 + value;
      i++;
    }
    if (i + 1 >= end) return at;
    if (i === at || bytes[i + 1] !== LF) return this.#fail(`no chunk size: ${preview(bytes, at, end)}`, at);
    const start = i + 2;
    const stop = start + size;
    if (stop + 2 > end) return at;
    if (bytes[stop] !== CR || bytes[stop + 1] !== LF) return this.#fail('a chunk is longer than it says', at);
    if (size === 0) {
      this.isEnded = true;
    } else if (this.#partial === null) {
      const used = this.#readEvents(bytes, start, stop, now);
      if (used < stop) this.#partial = Buffer.from(bytes.subarray(used, stop));
    } else {
      const joined = Buffer.concat([this.#partial, bytes.subarray(start, stop)]);
      const used = this.#readEvents(joined, 0, joined.length, now);
      this.#partial = used < joined.length ? Buffer.from(joined.subarray(used)) : null;
    }
    return stop + 2;
  }

  /** @param {Buffer} bytes @param {number} start @param {number} end @param {number} now @returns {number} where an event without its end begins */
  #readEvents(bytes, start, end, now) {
    let eventStart = start;
    let line = start;
    let dataLines = 0;
    let dataAt = 0;
    let dataEnd = 0;
    let nameAt = 0;
    let nameEnd = 0;
    while (line < end) {
      const lf = bytes.indexOf(LF, line);
      if (lf === -1 || lf >= end) break;
      const lineEnd = lf > line && bytes[lf - 1] === CR ? lf - 1 : lf;
      if (lineEnd === line) {
        if (dataLines > 0) this.#dispatch(bytes, dataLines, dataAt, dataEnd, nameAt, nameEnd, now);
        dataLines = 0;
        nameAt = 0;
        nameEnd = 0;
        eventStart = lf + 1;
      } else {
        const colon = fieldLength(bytes, line);
        if (colon === -1) return this.#fail(`no SSE field: ${preview(bytes, line, lineEnd)}`, end);
        const value = line + colon + (bytes[line + colon] === SPACE ? 1 : 0);
        if (colon === 5 && bytes[line] === 100) {
          dataLines++;
          dataAt = value;
          dataEnd = lineEnd;
        } else if (colon === 6 && bytes[line] === 101) {
          nameAt = value;
          nameEnd = lineEnd;
        }
      }
      line = lf + 1;
    }
    return eventStart;
  }

  /** @param {Buffer} bytes @param {number} dataLines @param {number} dataAt @param {number} dataEnd @param {number} nameAt @param {number} nameEnd @param {number} now */
  #dispatch(bytes, dataLines, dataAt, dataEnd, nameAt, nameEnd, now) {
    // As text the payload is the whole line, as JSON it follows a quote; inside an object it is further in.
    let at = bytes[dataAt] === QUOTE ? dataAt + 1 : dataAt;
    if (bytes[at] !== MARK[0] || bytes[at + 1] !== MARK[1]) {
      at = bytes.indexOf(MARK, dataAt);
      if (at === -1 || at >= dataEnd) {
        this.#tally.countOther(nameEnd > nameAt ? bytes.toString('latin1', nameAt, nameEnd) : 'message');
        return;
      }
    }
    const payload = this.#payload;
    const end = at + payload.length;
    if (dataLines !== 1 || end > dataEnd || !payload.read(bytes, at) || !isWrapping(bytes, end, dataEnd)) {
      run.spoil();
      this.#tally.malformed++;
      this.#tally.note(`a payload is harmed: ${preview(bytes, dataAt, dataEnd)}`);
      return;
    }
    const wasNext = this.#ledger.enter(payload, now);
    if (wasNext && payload.kind === 42) run.add(payload.seq, payload.globalSeq, payload.timeMicros);
    else run.spoil();
  }

  /** @param {string} reason @param {number} result */
  #fail(reason, result) {
    this.error ??= reason;
    this.#tally.malformed++;
    this.#tally.note(reason);
    run.spoil();
    return result;
  }
}

/** How long the field name and its colon are: only names that the standard knows, and comments. @param {Buffer} bytes @param {number} at */
function fieldLength(bytes, at) {
  switch (bytes[at]) {
    case COLON:
      return 1;
    case 100: // data
      return bytes[at + 4] === COLON ? 5 : -1;
    case 101: // event
    case 114: // retry
      return bytes[at + 5] === COLON ? 6 : -1;
    case 105: // id
      return bytes[at + 2] === COLON ? 3 : -1;
    default:
      return -1;
  }
}

/** What may follow a payload on its line: nothing, or the end of the JSON around it. @param {Buffer} bytes @param {number} at @param {number} end */
function isWrapping(bytes, at, end) {
  if (at === end) return true;
  if (bytes[at] !== QUOTE) return false;
  return at + 1 === end || (at + 2 === end && bytes[at + 1] === BRACE);
}

/** @param {Buffer} bytes @param {number} at @param {number} end */
function preview(bytes, at, end) {
  return JSON.stringify(bytes.toString('latin1', at, Math.min(end, at + 60)));
}
