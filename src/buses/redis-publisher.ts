/**
 * What is on its way into Redis, in the order of the calls.
 *
 * What is published in one turn is one batch: one call of the script, so the events of a batch stand side by side in the
 * order. One batch at a time is under way; what is published meanwhile is the next. So a batch whose answer was lost can be
 * sent again before anything newer, with the number that it had, by which Redis knows that it has it.
 */
import type { SseError } from '../core/errors.js';
import type { OutgoingEvent } from '../core/event.js';
import { encodeEvent } from './envelope.js';
import { failureOf, isLasting } from './redis-failure.js';
import type { Point } from './redis-store.js';

/** What a publisher needs of its bus. */
export interface PublisherHost {
  /** Stores a batch; see `RedisStore.publish`. */
  store(number: number, batch: readonly Publication[]): Promise<Point>;
  /** Storing failed; why publishing is stopped until {@link RedisPublisher.resume}. */
  failed(error: SseError): void;
}

export interface Publication {
  readonly key: string;
  readonly text: string;
  readonly resolve: (id: string) => void;
  readonly reject: (error: SseError) => void;
}

/** Of one call of the script: it holds Redis up for about 10 µs per event. */
const BATCH_EVENTS = 256;
const BATCH_CHARACTERS = 1024 * 1024;

/** What may be under way while Redis answers; without a buffer it is not more than a moment's. */
const LIMITS = Object.freeze({ maxEvents: 100_000, maxBytes: 64 * 1024 * 1024 });

export class RedisPublisher {
  readonly #host: PublisherHost;
  readonly #isBuffered: boolean;
  readonly #maxEvents: number;
  readonly #maxBytes: number;
  #waiting: Publication[] = [];
  /** The batch that is under way, or in doubt. */
  #batch: readonly Publication[] = [];
  #number = 0;
  /** UTF-16 units of all of them. */
  #characters = 0;
  #isSending = false;
  #flushing: NodeJS.Immediate | undefined = undefined;
  /** Why nothing is sent; undefined where everything is. */
  #obstacle: SseError | undefined = failureOf('the bus is not started');
  #isClosed = false;
  #whenIdle: (() => void)[] = [];

  constructor(host: PublisherHost, buffer: false | { readonly maxEvents: number; readonly maxBytes: number }) {
    this.#host = host;
    this.#isBuffered = buffer !== false;
    const { maxEvents, maxBytes } = buffer === false ? LIMITS : buffer;
    this.#maxEvents = maxEvents;
    this.#maxBytes = maxBytes;
  }

  /** Events that have no answer yet. */
  get size(): number {
    return this.#waiting.length + this.#batch.length;
  }

  publish(event: OutgoingEvent): Promise<string> {
    const obstacle = this.#obstacle;
    if (obstacle !== undefined && (!this.#isBuffered || this.#isClosed)) return Promise.reject(obstacle);
    const text = encodeEvent(event);
    // UTF-8 takes one to three bytes per unit; that what waits is mostly text is near enough for a limit.
    if (this.size >= this.#maxEvents || this.#characters + text.length > this.#maxBytes) {
      const limits = `${this.#maxEvents} events, ${this.#maxBytes} bytes`;
      return Promise.reject(failureOf(`too much waits to be published (${limits})`, obstacle));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ key: event.key, text, resolve, reject });
      this.#characters += text.length;
      this.#flushSoon();
    });
  }

  /** Redis is gone: without a buffer what waits is rejected; what is under way has its own answer. */
  stop(reason: SseError): void {
    if (this.#isClosed) return;
    this.#obstacle = reason;
    if (this.#isBuffered) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#reject(waiting, reason);
  }

  /** Redis is back. */
  resume(): void {
    if (this.#isClosed) return;
    this.#obstacle = undefined;
    this.#flushSoon();
  }

  /** Resolves when nothing is under way, or `timeoutMs` have passed; then all that has no answer is rejected for good. */
  async close(timeoutMs: number, reason: SseError): Promise<void> {
    if (this.size > 0 && this.#obstacle === undefined) {
      let timer: NodeJS.Timeout | undefined;
      const timeout = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, timeoutMs);
      });
      await Promise.race([new Promise<void>((resolve) => this.#whenIdle.push(resolve)), timeout]);
      clearTimeout(timer);
    }
    this.#isClosed = true;
    this.#obstacle = reason;
    if (this.#flushing !== undefined) clearImmediate(this.#flushing);
    const rest = [...this.#batch, ...this.#waiting];
    this.#batch = [];
    this.#waiting = [];
    this.#reject(rest, reason);
  }

  #flushSoon(): void {
    // The end of the turn, and of the promise jobs behind it.
    if (!this.#isSending && this.#obstacle === undefined) this.#flushing ??= setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#flushing = undefined;
    if (this.#isSending || this.#obstacle !== undefined) return;
    if (this.#batch.length === 0) {
      if (this.#waiting.length === 0) {
        this.#tellIdle();
        return;
      }
      this.#batch = this.#takeBatch();
      this.#number++;
    }
    const batch = this.#batch;
    this.#isSending = true;
    this.#host.store(this.#number, batch).then(
      (first) => {
        this.#isSending = false;
        this.#settle(batch);
        let { sequence } = first;
        for (const { resolve } of batch) resolve(`${first.run}-${sequence++}`);
        if (this.#waiting.length > 0) this.#flush();
        else this.#tellIdle();
      },
      (error: SseError) => {
        this.#isSending = false;
        this.#failed(batch, error);
      },
    );
  }

  #failed(batch: readonly Publication[], error: SseError): void {
    if (this.#isClosed) return;
    const isRefused = isLasting(error);
    if (isRefused || !this.#isBuffered) {
      this.#settle(batch);
      for (const { reject } of batch) reject(error);
    }
    if (isRefused) {
      // Redis is there; it refused this batch.
      if (this.#waiting.length > 0) this.#flushSoon();
      else this.#tellIdle();
      return;
    }
    this.#obstacle = error;
    this.#host.failed(error);
    // Unless somebody has said so already.
    if (this.#obstacle !== undefined) this.stop(this.#obstacle);
    this.#tellIdle();
  }

  #takeBatch(): readonly Publication[] {
    let characters = 0;
    let count = 0;
    while (count < this.#waiting.length && count < BATCH_EVENTS && characters < BATCH_CHARACTERS) {
      characters += this.#waiting[count++]!.text.length;
    }
    if (count < this.#waiting.length) return this.#waiting.splice(0, count);
    const all = this.#waiting;
    this.#waiting = [];
    return all;
  }

  #settle(batch: readonly Publication[]): void {
    if (this.#batch === batch) this.#batch = [];
    for (const { text } of batch) this.#characters -= text.length;
  }

  #reject(publications: readonly Publication[], reason: SseError): void {
    for (const { text, reject } of publications) {
      this.#characters -= text.length;
      reject(reason);
    }
  }

  #tellIdle(): void {
    const waiting = this.#whenIdle;
    this.#whenIdle = [];
    for (const resolve of waiting) resolve();
  }
}
