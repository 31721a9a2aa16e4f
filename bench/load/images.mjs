/**
 * Verified bytes, kept to verify the same bytes again by comparing them.
 *
 * A broadcast reaches a thousand connections as the same bytes. The first copy is taken apart and checked field by
 * field; from then on a connection that awaits the same event and finds exactly these bytes has the same, checked,
 * events. That is one `memcmp` instead of a parse, and no less strict: every byte of every delivery is still looked at.
 */

/**
 * @typedef {object} Image
 * @property {Buffer} bytes whole HTTP chunks, from a clean start to a clean end
 * @property {number} firstSeq broadcast sequence of the first event inside
 * @property {number} firstGlobal
 * @property {number} lastGlobal
 * @property {Float64Array} times when each event was published
 */

const SLOTS = 1024;

export class Images {
  /** @type {(Image | undefined)[]} */
  #slots = new Array(SLOTS).fill(undefined);

  /** The image that starts at this broadcast event, if one is known. @param {number} seq */
  at(seq) {
    if (seq < 0) return undefined;
    const image = this.#slots[seq % SLOTS];
    return image !== undefined && image.firstSeq === seq ? image : undefined;
  }

  /** @param {Image} image */
  put(image) {
    this.#slots[image.firstSeq % SLOTS] = image;
  }
}

/** Collects what one stretch of bytes held, while it is parsed; only plain broadcasts in order make an image. */
export class Run {
  isPure = false;
  /** @type {number[]} */
  times = [];
  firstSeq = 0;
  firstGlobal = 0;
  lastGlobal = 0;

  start() {
    this.isPure = true;
    this.times.length = 0;
  }

  spoil() {
    this.isPure = false;
  }

  /** @param {number} seq @param {number} globalSeq @param {number} timeMicros */
  add(seq, globalSeq, timeMicros) {
    if (this.times.length === 0) {
      this.firstSeq = seq;
      this.firstGlobal = globalSeq;
    }
    this.lastGlobal = globalSeq;
    this.times.push(timeMicros);
  }

  /** @param {Buffer} bytes copied @returns {Image} */
  toImage(bytes) {
    return {
      bytes: Buffer.from(bytes),
      firstSeq: this.firstSeq,
      firstGlobal: this.firstGlobal,
      lastGlobal: this.lastGlobal,
      times: Float64Array.from(this.times),
    };
  }
}
