/**
 * One client: a raw socket that asks for an event stream and hands the body to a `StreamReader`.
 *
 * `onread` with one buffer for all sockets spares the client a Buffer, a stream push and an event per read; it is most
 * of why this process keeps up with the servers it measures.
 */
import net from 'node:net';
import { nowMicros } from '../shared/clock.mjs';
import { Ledger } from './ledger.mjs';
import { StreamReader } from './stream-reader.mjs';

// Ports of one source address run out after 28 000 connections, those in TIME_WAIT included: spread over several.
const SOURCE_ADDRESSES = 8;
const IS_LINUX = process.platform === 'linux';
/** A server that has not sent its head by then never will. */
const HEAD_DEADLINE_MS = 15_000;
let opened = 0;

const readBuffer = Buffer.allocUnsafeSlow(1 << 18);

/**
 * @typedef {object} ConnectionPlan
 * @property {number} port
 * @property {string} path
 * @property {number} user
 * @property {number[]} topics
 * @property {boolean} fromStart false: joins while others publish
 * @property {boolean} [isStalled] stops reading once the head is there
 */

export class Connection {
  /** `opening` → `open` → `closed`. */
  state = 'opening';
  /** True once we decided to leave: what the server does after that is its right. */
  isLeaving = false;
  ledger;
  isStalled;
  #reader;
  #socket;
  #shared;
  #head = '';
  /** @type {(isOpen: boolean) => void} */
  #settle = () => {};
  #deadline;

  /**
   * @param {ConnectionPlan} plan
   * @param {ConstructorParameters<typeof StreamReader>[1]} shared
   */
  constructor(plan, shared) {
    this.#shared = shared;
    this.isStalled = plan.isStalled === true;
    this.ledger = new Ledger(shared.tally, plan.user, plan.topics, plan.fromStart);
    this.#reader = new StreamReader(this.ledger, shared);
    /** Resolves when the head is complete: false if the stream did not come about. @type {Promise<boolean>} */
    this.opened = new Promise((resolve) => {
      this.#settle = resolve;
    });
    const source = `127.0.0.${2 + (opened++ % SOURCE_ADDRESSES)}`;
    this.#socket = net.connect({
      host: '127.0.0.1',
      port: plan.port,
      noDelay: true,
      // Other systems have only 127.0.0.1 on loopback.
      ...(IS_LINUX ? { localAddress: source } : {}),
      onread: { buffer: readBuffer, callback: (length) => this.#onRead(length) },
    });
    this.#socket.on('error', (error) => this.#onClosed(error.message));
    this.#socket.on('close', () => this.#onClosed('closed'));
    this.#deadline = setTimeout(() => this.#socket.destroy(new Error('the head did not come')), HEAD_DEADLINE_MS);
    this.#socket.write(
      `GET ${plan.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n\r\n`,
    );
  }

  /** Closes the connection from our side; with a reset if `abruptly`. */
  leave(abruptly = false) {
    this.isLeaving = true;
    if (abruptly) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }

  /** @param {number} length @returns {boolean} */
  #onRead(length) {
    const { tally } = this.#shared;
    tally.reads++;
    tally.bytesRead += length;
    // A stalled client that got more in the same read as the head drops it: it never looks at anything again.
    if (this.state === 'open' && !this.isStalled) this.#read(readBuffer, length);
    else if (this.state === 'opening') this.#readHead(length);
    return !this.isStalled || this.state === 'opening';
  }

  /** @param {number} length */
  #readHead(length) {
    this.#head += readBuffer.toString('latin1', 0, length);
    const end = this.#head.indexOf('\r\n\r\n');
    if (end === -1) return;
    clearTimeout(this.#deadline);
    const head = this.#head.slice(0, end).toLowerCase();
    const rest = this.#head.slice(end + 4);
    this.#head = '';
    const isStream = head.startsWith('http/1.1 200') && head.includes('content-type: text/event-stream');
    if (!isStream || !head.includes('transfer-encoding: chunked')) {
      this.#shared.tally.refused++;
      this.#shared.tally.note(`no chunked event stream: ${JSON.stringify(head.slice(0, 200))}`);
      this.state = 'closed';
      this.#settle(false);
      this.leave();
      return;
    }
    this.state = 'open';
    if (this.isStalled) this.#socket.pause();
    else if (rest !== '') this.#read(Buffer.from(rest, 'latin1'), rest.length);
    this.#settle(true);
  }

  /** @param {Buffer} bytes @param {number} length */
  #read(bytes, length) {
    this.#reader.feed(bytes, length, nowMicros());
    if (this.#reader.error !== null) this.leave();
    else if (this.#reader.isEnded) this.#onClosed('ended');
  }

  /** @param {string} reason */
  #onClosed(reason) {
    if (this.state === 'closed') return;
    clearTimeout(this.#deadline);
    const { tally } = this.#shared;
    if (this.state === 'opening') {
      if (!this.isLeaving) {
        tally.refused++;
        tally.note(`no head: ${reason}`);
      }
      this.#settle(false);
    } else if (!this.isLeaving && !this.isStalled) {
      tally.closedByServer++;
      tally.note(`user ${this.ledger.user}: stream ${reason} by the server`);
    }
    this.state = 'closed';
    this.#socket.destroy();
  }
}
