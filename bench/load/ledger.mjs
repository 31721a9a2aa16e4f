/**
 * What one connection should get next, and what it got instead. One counter per scope it listens to: everybody, its
 * user, each of its topics; and one order over all of them.
 */
import { BROADCAST, TOPIC, USER } from '../shared/names.mjs';

/** A connection that joined while others publish: its first event of a scope says where it starts. */
export const UNKNOWN = -1;

export class Ledger {
  broadcastNext;
  userNext;
  /** @type {number[]} */
  topicNext;
  lastGlobal = -1;
  /** Skipped so far: they may still come, late. @type {Set<string> | null} */
  #missing = null;
  #tally;

  /**
   * @param {import('./tally.mjs').Tally} tally
   * @param {number} user
   * @param {number[]} topics
   * @param {boolean} fromStart false: joined in the middle
   */
  constructor(tally, user, topics, fromStart) {
    const first = fromStart ? 0 : UNKNOWN;
    this.#tally = tally;
    this.user = user;
    this.topics = topics;
    this.broadcastNext = first;
    this.userNext = first;
    this.topicNext = topics.map(() => first);
  }

  get missing() {
    return this.#missing === null ? 0 : this.#missing.size;
  }

  /**
   * Enters one payload that was read whole and unharmed.
   *
   * @param {import('../shared/payload.mjs').PayloadReader} payload
   * @param {number} now
   * @returns {boolean} true if it was the very next one
   */
  enter(payload, now) {
    const tally = this.#tally;
    const { kind, index, seq } = payload;
    let next;
    if (kind === BROADCAST && index === 0) {
      next = this.broadcastNext;
      if (seq >= next) this.broadcastNext = seq + 1;
    } else if (kind === USER && index === this.user) {
      next = this.userNext;
      if (seq >= next) this.userNext = seq + 1;
    } else {
      const at = kind === TOPIC ? this.topics.indexOf(index) : -1;
      if (at === -1) {
        tally.misdelivered++;
        tally.note(`user ${this.user} got ${String.fromCharCode(kind)}${index} #${seq}`);
        return false;
      }
      next = this.topicNext[at];
      if (seq >= next) this.topicNext[at] = seq + 1;
    }
    if (seq !== next && next !== UNKNOWN && !this.#explain(kind, index, seq, next)) return false;

    tally.delivered++;
    tally.latency.record(now - payload.timeMicros);
    if (payload.globalSeq > this.lastGlobal) {
      this.lastGlobal = payload.globalSeq;
      return seq === next;
    }
    if (seq >= next) {
      tally.misordered++;
      tally.note(`user ${this.user}: event ${payload.globalSeq} came after ${this.lastGlobal}`);
    }
    return false;
  }

  /**
   * Enters a stretch of broadcasts that was verified before, byte by byte, for another connection.
   *
   * @param {import('./images.mjs').Image} image
   * @param {number} now
   */
  enterImage(image, now) {
    const { times } = image;
    const { latency } = this.#tally;
    this.broadcastNext = image.firstSeq + times.length;
    this.lastGlobal = image.lastGlobal;
    this.#tally.delivered += times.length;
    for (let i = 0; i < times.length; i++) latency.record(now - times[i]);
  }

  /**
   * @param {{ broadcast: number, users: number[], topics: number[] }} published how many events each scope has had
   * @returns {number} how many of them this connection still lacks
   */
  lacking(published) {
    let count = this.missing;
    if (this.broadcastNext !== UNKNOWN) count += published.broadcast - this.broadcastNext;
    if (this.userNext !== UNKNOWN) count += (published.users[this.user] ?? 0) - this.userNext;
    for (let i = 0; i < this.topics.length; i++) {
      if (this.topicNext[i] !== UNKNOWN) count += (published.topics[this.topics[i]] ?? 0) - this.topicNext[i];
    }
    return count;
  }

  /** @param {number} kind @param {number} index @param {number} seq @param {number} next @returns {boolean} counts as delivered */
  #explain(kind, index, seq, next) {
    const scope = `${String.fromCharCode(kind)}${index}#`;
    if (seq > next) {
      this.#missing ??= new Set();
      for (let i = next; i < seq && this.#missing.size < 100_000; i++) this.#missing.add(scope + i);
      return true;
    }
    if (this.#missing?.delete(scope + seq)) {
      this.#tally.misordered++;
      this.#tally.note(`user ${this.user}: ${scope}${seq} came after ${scope}${next - 1}`);
      return true;
    }
    this.#tally.duplicates++;
    this.#tally.note(`user ${this.user}: ${scope}${seq} came twice`);
    return false;
  }
}
