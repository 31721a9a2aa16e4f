/**
 * What is on its way into the stream, in the order of the calls.
 *
 * Without a buffer, an event whose storing is in doubt (no answer, the connection broke) is rejected: it may have been
 * stored. With one it stays, at its place, and is sent again with the number that it had, which the server knows for two
 * minutes: so it is stored once. While anything is in doubt nothing newer is sent.
 */
import { type ErrorCode, SseError } from '../core/errors.js';
import { unavailable } from './nats-failure.js';

/** What an outbox needs of its bus. */
export interface OutboxHost {
  /** Stores; resolves with the id. `messageId` where it may be sent again. */
  store(key: string, payload: Uint8Array, messageId: string | undefined): Promise<string>;
  /** Storing failed in a way that says something about the carrier. */
  failed(): void;
}

export interface OutboxLimits {
  readonly maxEvents: number;
  readonly maxBytes: number;
  /** For so long the server recognises what it is sent again. ms */
  readonly repeatWindow: number;
}

interface Letter {
  readonly key: string;
  readonly payload: Uint8Array;
  readonly messageId: string | undefined;
  readonly resolve: (id: string) => void;
  readonly reject: (error: SseError) => void;
  /** When it was sent first, by a monotonic clock; 0 before. */
  sentAt: number;
  /** Of the attempt that counts; late answers of older ones do not. */
  attempt: number;
  isSent: boolean;
}

/** What sending again cannot change. */
const FINAL: ReadonlySet<ErrorCode> = new Set(['SSE_ERR_EVENT_TOO_LARGE', 'SSE_ERR_INVALID_DATA']);

export class NatsOutbox {
  readonly #host: OutboxHost;
  readonly #limits: OutboxLimits | undefined;
  readonly #sender: string;
  readonly #letters = new Set<Letter>();
  #bytes = 0;
  #count = 0;
  #whenDrained: (() => void) | undefined = undefined;
  /** Why nothing is sent; undefined where everything is. */
  #obstacle: SseError | undefined = unavailable('the bus is not started');

  /** `sender`: in all processes the one of this outbox. Without `limits` nothing waits. */
  constructor(host: OutboxHost, sender: string, limits: OutboxLimits | undefined) {
    this.#host = host;
    this.#sender = sender;
    this.#limits = limits;
  }

  /** Events that have no answer yet. */
  get size(): number {
    return this.#letters.size;
  }

  publish(key: string, payload: Uint8Array): Promise<string> {
    const refusal = this.#obstacle && this.#refusal(this.#obstacle, payload.length);
    if (refusal !== undefined) return Promise.reject(refusal);
    return new Promise((resolve, reject) => {
      const messageId = this.#limits === undefined ? undefined : `${this.#sender}-${++this.#count}`;
      const letter: Letter = { key, payload, messageId, resolve, reject, sentAt: 0, attempt: 0, isSent: false };
      this.#letters.add(letter);
      this.#bytes += payload.length;
      if (this.#obstacle === undefined) this.#send(letter);
    });
  }

  /** The carrier is gone: what was sent is in doubt. */
  stop(reason: SseError): void {
    this.#obstacle = reason;
    for (const letter of this.#letters) this.#doubt(letter, reason);
    this.#keepLimits(reason);
  }

  /** The carrier is back: what waits is sent, oldest first. */
  resume(): void {
    this.#obstacle = undefined;
    for (const letter of this.#letters) {
      if (this.#obstacle !== undefined) return;
      if (!letter.isSent) this.#send(letter);
    }
  }

  /** Resolves when nothing waits for an answer any more, or after `ms`. */
  drained(ms: number): Promise<void> {
    if (this.#letters.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#whenDrained = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** For good. */
  close(reason: SseError): void {
    this.#obstacle = reason;
    for (const letter of this.#letters) this.#settle(letter).reject(reason);
  }

  #send(letter: Letter): void {
    const now = performance.now();
    if (letter.sentAt === 0) letter.sentAt = now;
    else if (now - letter.sentAt > this.#limits!.repeatWindow) {
      const message = 'an event waited for an answer until the server would not have recognised it; it may be stored';
      this.#settle(letter).reject(unavailable(message));
      return;
    }
    letter.isSent = true;
    const attempt = ++letter.attempt;
    this.#host.store(letter.key, letter.payload, letter.messageId).then(
      (id) => {
        // Also the late answer of an attempt that was given up: it is stored.
        if (this.#letters.has(letter)) this.#settle(letter).resolve(id);
      },
      (error: SseError) => {
        if (letter.attempt !== attempt || !letter.isSent || !this.#letters.has(letter)) return;
        if (FINAL.has(error.code)) {
          this.#settle(letter).reject(error);
          return;
        }
        // What was sent after it is in doubt too, or the order of what is sent again would not be that of the calls.
        if (this.#limits !== undefined) this.stop(error);
        else this.#doubt(letter, error);
        this.#host.failed();
      },
    );
  }

  #doubt(letter: Letter, reason: SseError): void {
    if (this.#limits === undefined) this.#settle(letter).reject(reason);
    else letter.isSent = false;
  }

  /** Why one more of `bytes` cannot wait. */
  #refusal(reason: SseError, bytes: number): SseError | undefined {
    if (this.#limits === undefined) return reason;
    const { maxEvents, maxBytes } = this.#limits;
    if (this.#letters.size < maxEvents && this.#bytes + bytes <= maxBytes) return undefined;
    const message = `publishBuffer is full (${maxEvents} events, ${maxBytes} bytes) while NATS is away: ${reason.message}`;
    return unavailable(message, reason);
  }

  /** What was on its way when the carrier went may be more than may wait. The newest go: the order of the rest stays. */
  #keepLimits(reason: SseError): void {
    const letters = [...this.#letters];
    for (let i = letters.length - 1; i >= 0; i--) {
      const letter = letters[i]!;
      this.#settle(letter);
      const refusal = this.#refusal(reason, letter.payload.length);
      if (refusal === undefined) {
        // It fits, and so do all before it. At the end of the order is where it was.
        this.#letters.add(letter);
        this.#bytes += letter.payload.length;
        return;
      }
      letter.reject(refusal);
    }
  }

  #settle(letter: Letter): Letter {
    if (this.#letters.delete(letter)) this.#bytes -= letter.payload.length;
    if (this.#letters.size === 0) this.#whenDrained?.();
    return letter;
  }
}

/** Whether a payload fits; undefined where it does. */
export function sizeProblem(bytes: number, maxPayload: number | undefined): SseError | undefined {
  // Headers count: message id, stream, what the server adds.
  if (maxPayload === undefined || bytes + 512 <= maxPayload) return undefined;
  const message = `the event has ${bytes} bytes, the NATS server takes ${maxPayload} with headers; raise its max_payload`;
  return new SseError('SSE_ERR_EVENT_TOO_LARGE', message);
}
