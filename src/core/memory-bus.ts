/**
 * The reference Bus: one process, one order, history in memory. Everything is synchronous.
 *
 * History is a ring per channel key, so a busy topic never evicts a quiet one's events; all entries are also on one
 * list in order of publishing, whose head is what the limits on bytes and age take next.
 */
import type { Bus, BusReceiver, BusStatus, Head, ReadRequest, ReadResult } from './bus.js';
import type { Clock } from './clock.js';
import { systemClock } from './clock.js';
import { SseError } from './errors.js';
import type { BusEvent, OutgoingEvent } from './event.js';
import { checkedOptions } from './options.js';
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

/** What an entry costs besides its text, roughly: objects, its place in the ring. */
const ENTRY_OVERHEAD = 200;

/** What the keys of single clients start with. */
const ONE_CLIENT = clientKey('');

/** Keys of which only the newest sequence is remembered; two generations of these. */
const REMEMBERED_KEYS = 50_000;

interface Entry {
  readonly event: BusEvent;
  readonly history: KeyHistory;
  readonly bytes: number;
  /** ms since 1970; not the event's own timestamp, which the caller may choose. */
  readonly storedAt: number;
  /** Neighbours in order of publishing. */
  previous: Entry | undefined;
  next: Entry | undefined;
}

/** The history of one channel key: a queue of entries, oldest first. */
class KeyHistory {
  readonly key: string;
  /** Sequence of the newest event that was dropped. */
  lostThrough: number;
  #entries: (Entry | undefined)[] = [];
  #first = 0;

  constructor(key: string, lostThrough: number) {
    this.key = key;
    this.lostThrough = lostThrough;
  }

  get length(): number {
    return this.#entries.length - this.#first;
  }

  at(index: number): Entry {
    return this.#entries[this.#first + index]!;
  }

  push(entry: Entry): void {
    this.#entries.push(entry);
  }

  shift(): Entry {
    const entry = this.#entries[this.#first]!;
    this.#entries[this.#first++] = undefined;
    this.lostThrough = entry.event.sequence;
    // Amortised: half of the array at a time.
    if (this.#first > 32 && this.#first * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#first);
      this.#first = 0;
    }
    return entry;
  }

  /** Index of the first entry after `sequence`. */
  indexAfter(sequence: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.at(middle).event.sequence <= sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Remembers a number per key for about the last {@link REMEMBERED_KEYS} keys, in constant time. */
class Memory {
  /** Largest number that was forgotten. */
  forgotten = 0;
  #young = new Map<string, number>();
  #old = new Map<string, number>();

  set(key: string, sequence: number): void {
    this.#young.set(key, sequence);
    if (this.#young.size < REMEMBERED_KEYS) return;
    for (const old of this.#old.values()) if (old > this.forgotten) this.forgotten = old;
    this.#old = this.#young;
    this.#young = new Map();
  }

  delete(key: string): void {
    this.#young.delete(key);
    this.#old.delete(key);
  }

  get(key: string): number {
    return this.#young.get(key) ?? this.#old.get(key) ?? this.forgotten;
  }
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
  readonly #historyBytes: number;
  readonly #historyTtl: number;
  readonly #clock: Clock;
  readonly #prefix: string;
  readonly #histories = new Map<string, KeyHistory>();
  /** Newest lost sequence of keys without a history: those that were emptied, or all where none is kept. */
  readonly #lost = new Memory();
  #receiver: BusReceiver | undefined = undefined;
  #sequence = 0;
  #bytes = 0;
  #entries = 0;
  #oldest: Entry | undefined = undefined;
  #newest: Entry | undefined = undefined;
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
    else this.#lost.set(event.key, sequence);
    this.#receiver?.deliver(event);
    return id;
  }

  join(): void {}

  leave(key: string): void {
    // What was sent to one connection ends with it: nobody can ask for it again.
    if (!key.startsWith(ONE_CLIENT)) return;
    const history = this.#histories.get(key);
    while (history !== undefined && history.length > 0) this.#drop(history);
    this.#lost.delete(key);
  }

  head(): Head {
    return { id: this.#prefix + this.#sequence, sequence: this.#sequence };
  }

  read({ keys, after, limit, max }: ReadRequest): ReadResult {
    const head = this.head();
    const cursor = this.#sequenceOf(after);
    if (typeof cursor === 'string') return { events: [], more: false, head, loss: cursor, completeAfter: head.id };
    this.#expire();

    let from = cursor;
    let lostThrough = 0;
    for (const key of keys) {
      lostThrough = Math.max(lostThrough, this.#histories.get(key)?.lostThrough ?? this.#lost.get(key));
    }
    const cursors: { history: KeyHistory; index: number }[] = [];
    let count = 0;
    for (const key of keys) {
      const history = this.#histories.get(key);
      const index = history?.indexAfter(from) ?? 0;
      if (history === undefined || index === history.length) continue;
      cursors.push({ history, index });
      count += history.length - index;
    }
    const events: BusEvent[] = [];
    let skip = max > 0 ? Math.max(0, count - max) : 0;
    const wanted = limit + skip;
    for (let i = 0; i < wanted && cursors.length > 0; i++) {
      const event = takeOldest(cursors);
      if (skip > 0) {
        skip--;
        from = event.sequence;
        lostThrough = Math.max(lostThrough, from);
      } else {
        events.push(event);
      }
    }
    const more = cursors.length > 0;
    if (lostThrough <= cursor) return { events, more, head };
    const loss = this.#historySize > 0 ? 'evicted' : 'disabled';
    return { events, more, head, loss, completeAfter: this.#prefix + lostThrough };
  }

  status(): BusStatus {
    const details = {
      historyKeys: this.#histories.size,
      historyEvents: this.#entries,
      historyBytes: this.#bytes,
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
    const { key } = event;
    let history = this.#histories.get(key);
    if (history === undefined) {
      history = new KeyHistory(key, this.#lost.get(key));
      this.#histories.set(key, history);
    }
    const bytes = (event.data.length + event.event.length) * 2 + ENTRY_OVERHEAD;
    const storedAt = this.#historyTtl > 0 ? this.#clock.now() : 0;
    const entry: Entry = { event, history, bytes, storedAt, previous: this.#newest, next: undefined };
    history.push(entry);
    if (this.#newest === undefined) this.#oldest = entry;
    else this.#newest.next = entry;
    this.#newest = entry;
    this.#bytes += bytes;
    this.#entries++;
    if (history.length > this.#historySize) this.#drop(history);
    while (this.#historyBytes > 0 && this.#bytes > this.#historyBytes) this.#dropOldest();
    if (this.#historyTtl > 0) {
      this.#expire();
      this.#stopExpiry ??= this.#clock.every(Math.max(100, Math.min(this.#historyTtl, 60_000)), () => this.#expire());
    }
  }

  /** Drops the oldest entry of one key. */
  #drop(history: KeyHistory): void {
    const entry = history.shift();
    if (entry.previous === undefined) this.#oldest = entry.next;
    else entry.previous.next = entry.next;
    if (entry.next === undefined) this.#newest = entry.previous;
    else entry.next.previous = entry.previous;
    this.#bytes -= entry.bytes;
    this.#entries--;
    if (history.length === 0) {
      this.#histories.delete(history.key);
      this.#lost.set(history.key, history.lostThrough);
    }
  }

  #dropOldest(): void {
    // The oldest of all is the oldest of its key: both lists are in order of publishing.
    if (this.#oldest !== undefined) this.#drop(this.#oldest.history);
  }

  #expire(): void {
    if (this.#historyTtl === 0) return;
    const limit = this.#clock.now() - this.#historyTtl;
    while (this.#oldest !== undefined && this.#oldest.storedAt <= limit) this.#dropOldest();
    if (this.#oldest === undefined) {
      this.#stopExpiry?.();
      this.#stopExpiry = undefined;
    }
  }
}

/** The oldest event at the cursors, which moves its cursor on. A client has few keys: a scan beats a heap. */
function takeOldest(cursors: { history: KeyHistory; index: number }[]): BusEvent {
  let best = 0;
  let oldest = cursors[0]!.history.at(cursors[0]!.index).event;
  for (let i = 1; i < cursors.length; i++) {
    const { event } = cursors[i]!.history.at(cursors[i]!.index);
    if (event.sequence < oldest.sequence) {
      oldest = event;
      best = i;
    }
  }
  const cursor = cursors[best]!;
  if (++cursor.index === cursor.history.length) {
    cursors[best] = cursors[cursors.length - 1]!;
    cursors.pop();
  }
  return oldest;
}
