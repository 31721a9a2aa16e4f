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
import { checkedOptions } from './options.js';
import { PackedEvents } from './packed-events.js';
import { type KeySequences, SequenceIndex } from './sequence-index.js';
import { clientKey } from './topic.js';

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

/** What the keys of single clients start with. */
const ONE_CLIENT = clientKey('');

/** The in-memory bus: the default of a {@link Broker}. */
export class MemoryBus implements Bus {
  readonly name = 'memory';
  readonly #historySize: number;
  readonly #historyBytes: number;
  readonly #historyTtl: number;
  readonly #clock: Clock;
  readonly #prefix: string;
  readonly #index = new SequenceIndex();
  readonly #events = new PackedEvents((sequence) => this.#prefix + sequence);
  #receiver: BusReceiver | undefined = undefined;
  #sequence = 0;
  #stopExpiry: (() => void) | undefined = undefined;

  /** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
  constructor(options: MemoryBusOptions = {}) {
    checkedOptions(options, ['historySize', 'historyBytes', 'historyTtl', 'clock']);
    this.#historySize = options.historySize ?? 0;
    this.#historyBytes = options.historyBytes ?? 64 * 1024 * 1024;
    this.#historyTtl = options.historyTtl ?? 0;
    this.#clock = options.clock ?? systemClock;
    this.#prefix = `${newEpoch(this.#clock.now())}-`;
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
    if (this.#historySize > 0) this.#store(event);
    else this.#index.markLost(event.key, sequence);
    this.#receiver?.deliver(event);
    return id;
  }

  join(): void {}

  leave(key: string): void {
    // What was sent to one connection ends with it: nobody can ask for it again.
    if (!key.startsWith(ONE_CLIENT)) return;
    for (let known = this.#index.get(key); known !== undefined; known = this.#index.get(key)) this.#drop(known);
    this.#index.forget(key);
  }

  head(): Head {
    return { id: this.#prefix + this.#sequence, sequence: this.#sequence };
  }

  read({ keys, after, limit, max }: ReadRequest): ReadResult {
    const head = this.head();
    const cursor = this.#sequenceOf(after);
    if (typeof cursor === 'string') return { events: [], more: false, head, loss: cursor, completeAfter: head.id };
    this.#expire();

    const { sequences, more, lostThrough } = this.#index.page({ keys, after: cursor, limit, max });
    const events = sequences.map((sequence) => this.#events.get(sequence));
    if (lostThrough <= cursor) return { events, more, head };
    const loss = this.#historySize > 0 ? 'evicted' : 'disabled';
    return { events, more, head, loss, completeAfter: this.#prefix + lostThrough };
  }

  status(): BusStatus {
    const details = {
      historyKeys: this.#index.size,
      historyEvents: this.#events.length,
      historyBytes: this.#events.bytes,
    };
    return { state: 'up', details };
  }

  close(): void {
    this.#stopExpiry?.();
    this.#stopExpiry = undefined;
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

  #store(event: BusEvent): void {
    const key = this.#index.get(event.key) ?? this.#index.add(event.key);
    key.push(event.sequence);
    this.#events.push(event, key, this.#historyTtl > 0 ? this.#clock.now() : 0);
    if (key.length > this.#historySize) this.#drop(key);
    while (this.#historyBytes > 0 && this.#events.bytes > this.#historyBytes) this.#dropOldest();
    if (this.#historyTtl > 0) {
      this.#expire();
      this.#stopExpiry ??= this.#clock.every(Math.max(100, Math.min(this.#historyTtl, 60_000)), () => this.#expire());
    }
  }

  #drop(key: KeySequences): void {
    this.#events.delete(this.#index.drop(key));
  }

  #dropOldest(): void {
    const oldest = this.#events.oldest();
    // The oldest of all is the oldest of its key.
    if (oldest !== undefined) this.#drop(oldest.key);
  }

  #expire(): void {
    if (this.#historyTtl === 0) return;
    const limit = this.#clock.now() - this.#historyTtl;
    let oldest = this.#events.oldest();
    while (oldest !== undefined && oldest.storedAt <= limit) {
      this.#dropOldest();
      oldest = this.#events.oldest();
    }
    if (oldest === undefined) {
      this.#stopExpiry?.();
      this.#stopExpiry = undefined;
    }
  }
}
