/**
 * All connections of a load process: those that stay and must miss nothing, those that stall, and those that come
 * and go.
 */
import { nowMicros, sleep } from '../shared/clock.mjs';
import { requestPath } from '../shared/names.mjs';
import { PayloadReader } from '../shared/payload.mjs';
import { createRandom, pickDistinct } from '../shared/random.mjs';
import { Connection } from './connection.mjs';
import { Histogram } from './histogram.mjs';
import { Images } from './images.mjs';
import { Tally } from './tally.mjs';

/** As many handshakes at once: fewer than the 511 that a Node server lets wait. */
const CONNECTING_AT_ONCE = 200;

/**
 * @typedef {object} FleetPlan
 * @property {number} port
 * @property {number} clients that read
 * @property {number} stalled that do not
 * @property {number} topics how many topics exist
 * @property {number} topicsPerClient
 * @property {number} payloadBytes
 * @property {number} seed
 */

export class Fleet {
  tally = new Tally();
  /** Connections that stay and read. @type {Connection[]} */
  steady = [];
  /** @type {Connection[]} */
  stalled = [];
  #plan;
  #shared;
  #random;
  #nextUser = 0;

  /** @param {FleetPlan} plan */
  constructor(plan) {
    this.#plan = plan;
    this.#random = createRandom(plan.seed);
    this.#shared = { images: new Images(), payload: new PayloadReader(plan.payloadBytes), tally: this.tally };
  }

  /** Opens the steady and the stalled connections; resolves when each has its head, or has failed. */
  async connect() {
    const { clients, stalled } = this.#plan;
    const total = clients + stalled;
    let started = 0;
    const worker = async () => {
      while (started < total) {
        // The stalled ones are spread among the others, as in life; not all first, not all last.
        const isStalled = Math.floor((started * stalled) / total) !== Math.floor(((started + 1) * stalled) / total);
        started++;
        const connection = this.open({ fromStart: true, isStalled });
        (isStalled ? this.stalled : this.steady).push(connection);
        await connection.opened;
      }
    };
    await Promise.all(Array.from({ length: CONNECTING_AT_ONCE }, worker));
  }

  /** @param {{ fromStart: boolean, isStalled?: boolean }} how */
  open({ fromStart, isStalled = false }) {
    const { port, topics, topicsPerClient } = this.#plan;
    const user = this.#nextUser++;
    const wanted = pickDistinct(this.#random, topicsPerClient, topics);
    const path = requestPath(user, wanted);
    return new Connection({ port, path, user, topics: wanted, fromStart, isStalled }, this.#shared);
  }

  /**
   * Connections that come, stay for `holdMs`, and leave, at an even rate.
   *
   * @param {{ rate: number, seconds: number, holdMs: number, abruptShare?: number, hastyShare?: number }} plan
   * `abruptShare` leave with a reset; `hastyShare` leave before the head came
   */
  async churn({ rate, seconds, holdMs, abruptShare = 0, hastyShare = 0 }) {
    const connectLatency = new Histogram();
    const random = createRandom(this.#plan.seed + 1);
    const begin = nowMicros();
    const total = Math.round(rate * seconds);
    let opened = 0;
    let completed = 0;
    /** @type {Promise<void>[]} */
    const visits = [];

    const visit = async () => {
      const startedAt = nowMicros();
      const connection = this.open({ fromStart: false });
      if (random() < hastyShare) {
        setImmediate(() => connection.leave(true));
        await connection.opened;
        completed++;
        return;
      }
      const isOpen = await connection.opened;
      if (!isOpen) return;
      connectLatency.record(nowMicros() - startedAt);
      await sleep(holdMs);
      if (connection.state === 'open') completed++;
      this.tally.lostByVisitors += connection.ledger.missing;
      connection.leave(random() < abruptShare);
    };

    while (opened < total) {
      const due = Math.min(total, Math.floor(((nowMicros() - begin) / 1e6) * rate) + 1);
      while (opened < due) {
        opened++;
        visits.push(visit());
      }
      await sleep(1);
    }
    await Promise.all(visits);
    return { opened, completed, seconds: (nowMicros() - begin) / 1e6, latency: connectLatency.summary() };
  }

  /**
   * Smallest last event that any steady connection has read: what the server may count as arrived everywhere. A stream
   * that broke is a fault already, and holds nobody up.
   */
  slowestGlobal() {
    let slowest = Number.POSITIVE_INFINITY;
    for (const { ledger, state } of this.steady) {
      if (ledger.lastGlobal < slowest && state === 'open') slowest = ledger.lastGlobal;
    }
    return slowest;
  }

  /**
   * Waits until every steady connection has everything, or nothing has moved for a while; then counts what is lost.
   *
   * @param {{ broadcast: number, users: number[], topics: number[] }} published
   * @param {number} patienceMs without any progress
   */
  async drain(published, patienceMs) {
    const lacking = () => this.steady.reduce((sum, { ledger }) => sum + ledger.lacking(published), 0);
    let left = lacking();
    let movedAt = nowMicros();
    let before = this.tally.delivered;
    while (left > 0 && nowMicros() - movedAt < patienceMs * 1000) {
      await sleep(5);
      if (this.tally.delivered !== before) {
        movedAt = nowMicros();
        before = this.tally.delivered;
      }
      left = lacking();
    }
    if (left > 0) this.tally.note(`${left} deliveries are lacking after ${patienceMs} ms without a delivery`);
    this.tally.lost = left;
  }

  leave() {
    for (const connection of [...this.steady, ...this.stalled]) connection.leave();
    this.steady = [];
    this.stalled = [];
  }

  /** Opens connections that stop reading once they have their head. @param {number} count */
  async stall(count) {
    const connections = Array.from({ length: count }, () => this.open({ fromStart: false, isStalled: true }));
    this.stalled.push(...connections);
    await Promise.all(connections.map(({ opened }) => opened));
  }

  leaveStalled() {
    for (const connection of this.stalled) connection.leave();
    this.stalled = [];
  }
}
