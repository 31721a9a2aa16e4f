/**
 * One client: an EventSource behind a load balancer. When its stream ends it waits as long as the last `retry:` says, and
 * goes with its last id to any node in rotation.
 */
import http from 'node:http';
import { createParser } from 'eventsource-parser';
import { nowMicros } from '../shared/clock.mjs';
import { Account } from './account.mjs';

/** Without a word of the server, as in browsers; less, and with jitter, since all clients lose their network at once. */
const RETRY_MS = 100;

export class Client {
  account = new Account();
  isStreaming = false;
  #path;
  #host;
  #lastId = '';
  #retryMs = RETRY_MS;
  /** @type {http.ClientRequest | undefined} */
  #request = undefined;
  /** @type {NodeJS.Timeout | undefined} */
  #timer = undefined;
  #leftAt = 0;
  #isOffline = false;

  /**
   * @param {string} topic
   * @param {{ pickPort(): number | undefined, connected(awayMicros: number, openedMicros: number): void, seen(lateMicros: number): void, refused(): void }} host
   */
  constructor(topic, host) {
    this.#path = `/?topics=${topic}`;
    this.#host = host;
  }

  open() {
    if (this.#isOffline) return;
    const port = this.#host.pickPort();
    if (port === undefined) {
      this.#openLater(RETRY_MS);
      return;
    }
    const openedAt = nowMicros();
    const headers = { accept: 'text/event-stream', ...(this.#lastId === '' ? {} : { 'last-event-id': this.#lastId }) };
    const request = http.get({ host: '127.0.0.1', port, path: this.#path, headers, agent: false });
    this.#request = request;
    const parser = createParser({
      onRetry: (ms) => {
        this.#retryMs = ms;
      },
      onEvent: ({ id, event, data }) => {
        if (id !== undefined) this.#lastId = id;
        if (event === 'tick') {
          const { n, at } = JSON.parse(data);
          this.account.event(n);
          this.#host.seen(nowMicros() - at);
        } else if (event === 'connected') {
          this.isStreaming = true;
          const now = nowMicros();
          this.#host.connected(this.#leftAt === 0 ? Number.NaN : now - this.#leftAt, now - openedAt);
        } else if (event === 'gap') {
          this.account.gaps++;
        }
      },
    });
    request.on('error', () => {});
    request.on('response', (response) => {
      if (response.statusCode !== 200) this.#host.refused();
      const decoder = new TextDecoder();
      response.on('error', () => {});
      response.on('data', (bytes) => {
        if (this.#request === request && !this.#isOffline) parser.feed(decoder.decode(bytes, { stream: true }));
      });
    });
    request.on('close', () => {
      if (this.#request !== request || this.#isOffline) return;
      this.#gone();
      this.#openLater(this.#retryMs);
    });
  }

  /**
   * Loses its TCP connection for `ms`. In silence: what the server sends meanwhile is taken by nobody, and the reset comes at
   * the end; otherwise the reset comes at once.
   *
   * @param {number} ms
   * @param {boolean} isSilent
   */
  loseNetwork(ms, isSilent) {
    clearTimeout(this.#timer);
    this.#isOffline = true;
    const request = this.#request;
    this.#gone();
    if (isSilent) request?.socket?.pause();
    else request?.socket?.resetAndDestroy();
    setTimeout(() => {
      request?.socket?.resetAndDestroy();
      request?.destroy();
      this.#isOffline = false;
      this.open();
    }, ms);
  }

  close() {
    clearTimeout(this.#timer);
    this.#isOffline = true;
    this.#request?.destroy();
  }

  #gone() {
    if (this.isStreaming) this.#leftAt = nowMicros();
    this.isStreaming = false;
    this.#request = undefined;
  }

  /** @param {number} ms */
  #openLater(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.open(), ms);
  }
}
