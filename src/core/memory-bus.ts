/**
 * The reference Bus: one process, one order, history in memory. Everything is synchronous.
 *
 * History is kept per channel key, so a busy topic never evicts a quiet one's events; the events of all keys lie packed
 * in order of publishing, and the limits on bytes and age take the oldest of all.
 */
import type { Bus, BusReceiver, BusStatus, Head, ReadRequest, ReadResult } from './bus.js';
import type { Clock } from './clock.js';
import { systemClock } from './clock.js';
import { SseError } from './errors.js';
import type { BusEvent, OutgoingEvent } from './event.js';
import { History } from './history.js';
import { checkedOptions } from './options.js';
import { isLiveOnly } from './topic.js';

/** Options of {@link MemoryBus}. */
export interface MemoryBusOptions {
  /** Events kept per channel key. Default 0: none. */
  historySize?: number | undefined;
  /** Bytes kept in all. Default 64 MiB; 0: no limit. */
  historyBytes?: number | undefined;
  /** Age in ms at which an event is forgotten. Default 0: no age limit. */
  historyTtl?: number | undefined;
  clock?: Clock | undefined;
}

let epochs = 0;

/** An epoch: differs between processes, restarts and buses of one process. */
function newEpoch(now: number): string {
  const random = Math.floor(Math.random() * 36 ** 5).toString(36);
  return `${now.toString(36)}${(++epochs).toString(36)}${random}`;
}

/** The in-memory bus: the default of a {@link Broker}. */
export class MemoryBus implements Bus {
  readonly name = 'memory';
  readonly #historySize: number;
  readonly #prefix: string;
  readonly #history: History;
  #receiver: BusReceiver | undefined = undefined;
  #sequence = 0;

  /** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
  constructor(options: MemoryBusOptions = {}) {
    checkedOptions(options, ['historySize', 'historyBytes', 'historyTtl', 'clock']);
    const { historySize = 0, historyBytes = 64 * 1024 * 1024, historyTtl = 0, clock = systemClock } = options;
    this.#historySize = historySize;
    this.#prefix = `${newEpoch(clock.now())}-`;
    this.#history = new History(
      { historySize, historyBytes, historyTtl },
      clock,
      (sequence) => this.#prefix + sequence,
    );
  }

  start(receiver: BusReceiver): void {
    if (this.#receiver !== undefined) {
      throw new SseError(
        'SSE_ERR_INVALID_OPTION',
        'this MemoryBus has a broker already; give each broker one of its own',
      );
    }
    this.#receiver = receiver;
    receiver.status(this.status());
  }

  publish(outgoing: OutgoingEvent): string {
    const sequence = ++this.#sequence;
    const id = this.#prefix + sequence;
    const event = outgoing as { -readonly [K in keyof BusEvent]: BusEvent[K] };
    event.id = id;
    event.sequence = sequence;
    event.frame = undefined;
    if (!isLiveOnly(event.key)) this.#history.push(event);
    this.#receiver?.deliver(event);
    return id;
  }

  join(): void {}

  leave(_key: string): void {}

  head(): Head {
    return { id: this.#prefix + this.#sequence, sequence: this.#sequence };
  }

  read({ keys, after, limit, max }: ReadRequest): ReadResult {
    const head = this.head();
    const cursor = this.#sequenceOf(after);
    if (typeof cursor === 'string') return { events: [], more: false, head, loss: cursor, completeAfter: head.id };
    const { events, more, lostThrough } = this.#history.page(keys, cursor, limit, max);
    if (lostThrough <= cursor) return { events, more, head };
    const loss = this.#historySize > 0 ? 'evicted' : 'disabled';
    return { events, more, head, loss, completeAfter: this.#prefix + lostThrough };
  }

  status(): BusStatus {
    return { state: 'up', details: this.#history.details };
  }

  close(): void {
    this.#history.close();
    this.#receiver = undefined;
  }

  #sequenceOf(id: string): number | 'epoch' | 'unknown' {
    const dash = id.lastIndexOf('-');
    const digits = id.slice(dash + 1);
    if (dash < 1 || !/^(0|[1-9][0-9]{0,15})$/.test(digits)) return 'unknown';
    if (id.slice(0, dash + 1) !== this.#prefix) return /^[a-z0-9]+$/.test(id.slice(0, dash)) ? 'epoch' : 'unknown';
    const sequence = Number(digits);
    return sequence <= this.#sequence ? sequence : 'unknown';
  }
}
