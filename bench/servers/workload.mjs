/**
 * Publishes what a scenario asks for, inside the server's process, as an application would. The rules are the same for
 * every server: the same seeds, the same pace, the same bound on what is under way.
 */
import { BROADCAST, TOPIC, topicName, USER, userName } from '../shared/names.mjs';
import { PayloadWriter } from '../shared/payload.mjs';
import { createRandom } from '../shared/random.mjs';

/**
 * @typedef {object} PublishPlan
 * @property {'broadcast' | 'users' | 'topics' | 'mixed'} kind
 * @property {number} seconds
 * @property {number} rate publishes per second; 0: as fast as possible
 * @property {number} perTurn publishes in one turn of the event loop, when as fast as possible
 * @property {number} window at most so many publishes under way, when as fast as possible
 * @property {number} [least] so many publishes at the least, when as fast as possible, also when the time is up; not above `window`
 */

export class Workload {
  #target;
  #payload;
  #random;
  #globalSeq = 0;
  #broadcastSeq = 0;
  /** @type {number[]} */
  #userSeq;
  /** @type {number[]} */
  #topicSeq;
  #userNames;
  #topicNames;
  /** What the load client said last. */
  #slowestGlobal = -1;
  /** @type {(() => void) | null} */
  #onAck = null;

  /**
   * @param {import('./harness.mjs').Target} target
   * @param {{ users: number, topics: number, payloadBytes: number, seed: number }} plan
   */
  constructor(target, { users, topics, payloadBytes, seed }) {
    this.#target = target;
    this.#payload = new PayloadWriter(payloadBytes);
    this.#random = createRandom(seed);
    this.#userSeq = new Array(users).fill(0);
    this.#topicSeq = new Array(topics).fill(0);
    // Made before: an application has these strings at hand, and they are not what is measured.
    this.#userNames = Array.from({ length: users }, (_, i) => userName(i));
    this.#topicNames = Array.from({ length: topics }, (_, i) => topicName(i));
  }

  /** @param {PublishPlan} plan */
  async run(plan) {
    const from = this.#globalSeq;
    const paced = plan.rate > 0;
    const seconds = await (paced ? this.#publishPaced(plan) : this.#publishByTurn(plan));
    return {
      published: this.#globalSeq - from,
      seconds,
      totals: { broadcast: this.#broadcastSeq, users: this.#userSeq, topics: this.#topicSeq },
    };
  }

  /** @param {import('node:net').Socket} socket */
  readAcks(socket) {
    let pending = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      pending = pending.length === 0 ? bytes : Buffer.concat([pending, bytes]);
      const whole = pending.length - (pending.length % 8);
      if (whole === 0) return;
      this.#slowestGlobal = pending.readDoubleLE(whole - 8);
      pending = pending.subarray(whole);
      this.#onAck?.();
    });
  }

  /**
   * On an absolute schedule, so the rate holds even if a timer is late. One publish per turn, or as many as a millisecond
   * asks for; what is overdue waits for the next turn. Else a server that falls behind would be given larger turns, which
   * are cheaper, and would look better for being slow.
   *
   * @param {PublishPlan} plan
   * @returns {Promise<number>} seconds
   */
  #publishPaced({ kind, rate, seconds }) {
    return new Promise((resolve, reject) => {
      const total = Math.max(1, Math.round(rate * seconds));
      const perTurn = Math.ceil(rate / 1000);
      const begin = performance.now();
      let done = 0;
      const turn = () => {
        try {
          const due = Math.min(total, Math.floor(((performance.now() - begin) / 1000) * rate) + 1, done + perTurn);
          while (done < due) {
            this.#publish(kind);
            done++;
          }
        } catch (error) {
          reject(error);
          return;
        }
        const wait = begin + (done / rate) * 1000 - performance.now();
        if (done === total) resolve((performance.now() - begin) / 1000);
        else if (wait > 0) setTimeout(turn, wait);
        else setImmediate(turn);
      };
      turn();
    });
  }

  /**
   * As fast as possible: `perTurn` publishes, then the event loop gets its turn, and so on. Once `window` publishes
   * have not reached the slowest reader it waits for the next acknowledgement, asleep, so waiting costs no CPU.
   *
   * @param {PublishPlan} plan
   * @returns {Promise<number>} seconds
   */
  #publishByTurn({ kind, seconds, perTurn, window, least = 0 }) {
    return new Promise((resolve, reject) => {
      const begin = performance.now();
      const enough = this.#globalSeq + least;
      let isQueued = false;
      // Acknowledgements may stop for good, if a reader misses the last event: the time is up nonetheless.
      const timer = setTimeout(() => enqueue(), seconds * 1000 + 5);
      const turn = () => {
        isQueued = false;
        const elapsed = (performance.now() - begin) / 1000;
        const mustWait = this.#globalSeq - 1 - this.#slowestGlobal + perTurn > window;
        if (elapsed >= seconds && (mustWait || this.#globalSeq >= enough)) {
          clearTimeout(timer);
          this.#onAck = null;
          resolve(elapsed);
          return;
        }
        if (mustWait) return;
        try {
          for (let i = 0; i < perTurn; i++) this.#publish(kind);
        } catch (error) {
          clearTimeout(timer);
          this.#onAck = null;
          reject(error);
          return;
        }
        enqueue();
      };
      const enqueue = () => {
        if (isQueued) return;
        isQueued = true;
        setImmediate(turn);
      };
      this.#onAck = enqueue;
      enqueue();
    });
  }

  /** @param {PublishPlan['kind']} kind */
  #publish(kind) {
    const actual = kind === 'mixed' ? MIXED[Math.floor(this.#random() * MIXED.length)] : kind;
    const globalSeq = this.#globalSeq++;
    const target = this.#target;
    if (actual === 'users') {
      const user = Math.floor(this.#random() * this.#userSeq.length);
      const data = this.#payload.make(USER, user, this.#userSeq[user]++, globalSeq);
      target.toUser?.(this.#userNames[user], data, globalSeq);
    } else if (actual === 'topics') {
      const topic = Math.floor(this.#random() * this.#topicSeq.length);
      const data = this.#payload.make(TOPIC, topic, this.#topicSeq[topic]++, globalSeq);
      target.toTopic?.(this.#topicNames[topic], data, globalSeq);
    } else {
      const data = this.#payload.make(BROADCAST, 0, this.#broadcastSeq++, globalSeq);
      target.broadcast?.(data, globalSeq);
    }
  }
}

const MIXED = /** @type {const} */ (['broadcast', 'users', 'topics']);
