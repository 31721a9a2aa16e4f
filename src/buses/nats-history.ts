/**
 * History as one node reads it: which sequences each key has, and what of them was dropped.
 *
 * Of every joined key the node keeps the sequences that went by, or that it has listed once; so a thousand clients that come
 * back together cost one listing per key, and a node knows for certain that a quiet key missed nothing. Whether that is
 * still all is asked each time: the server says what the newest of a key is.
 */
import type { LossReason } from '../core/bus.js';
import type { BusEvent } from '../core/event.js';
import { EventCache } from '../core/event-cache.js';
import type { NatsStoredMessage } from './nats-client.js';
import { unavailable } from './nats-failure.js';
import { type NatsStream, replaced, type StreamView } from './nats-stream.js';
import { NextBatch } from './next-batch.js';

/** What is known of one key. */
interface Known {
  /** Every event after this is in `sequences`, or was dropped through `lostThrough`. */
  after: number;
  /** … until this. */
  through: number;
  lostThrough: number;
  sequences: number[];
}

/** What keys have after their cursors. */
export interface Selection {
  /** In order. */
  readonly entries: readonly Entry[];
  /** Newest sequence that cannot be served, and the keys that lost something; 0 where nothing is missing. */
  readonly lostThrough: number;
  readonly lostKeys: readonly string[];
}

export interface Entry {
  readonly sequence: number;
  readonly key: string;
}

/** Sequences that are remembered over all keys; eight bytes each. */
const MAX_SEQUENCES = 500_000;
/** Messages of others that are told once. */
const MAX_RUBBISH = 10_000;
/** Questions to the server at once. */
const PARALLEL = 64;

/** Makes an event of what the stream keeps; undefined where it is none. */
export type Decode = (message: NatsStoredMessage, key: string) => BusEvent | undefined;

export class NatsHistory {
  readonly #stream: NatsStream;
  readonly #decode: Decode;
  readonly #cacheBytes: number;
  readonly #known = new Map<string, Known>();
  readonly #newest = new Map<string, NextBatch<number>>();
  #cache: EventCache;
  #sequences = 0;
  /** Messages that are no events: told once, not at every reading. */
  readonly #rubbish = new Set<number>();

  constructor(stream: NatsStream, cacheBytes: number, decode: Decode) {
    this.#stream = stream;
    this.#decode = decode;
    this.#cacheBytes = cacheBytes;
    this.#cache = new EventCache(cacheBytes);
  }

  /** Sequences remembered. */
  get size(): number {
    return this.#sequences;
  }

  /** Every later event of `key` will be told by {@link delivered}. */
  joined(key: string, sequence: number): void {
    this.#known.set(key, { after: sequence, through: sequence, lostThrough: 0, sequences: [] });
  }

  left(key: string): void {
    this.#forgetKey(key);
  }

  /** `historySize`: of the stream as it was seen last. */
  delivered(event: BusEvent, historySize: number): void {
    this.#cache.set(event);
    const known = this.#known.get(event.key);
    if (known === undefined || event.sequence <= known.through) return;
    known.sequences.push(event.sequence);
    known.through = event.sequence;
    this.#sequences++;
    // In steps: shifting one by one would copy the rest each time.
    if (known.sequences.length >= 2 * historySize + 16) this.#trim(known, historySize);
    if (this.#sequences > MAX_SEQUENCES) this.#shrink();
  }

  /** What went by may have had holes: of these keys (all where absent) nothing is known any more. */
  lost(keys: readonly string[] | undefined, sequence: number): void {
    for (const key of keys ?? [...this.#known.keys()]) {
      if (!this.#known.has(key)) continue;
      this.#forgetKey(key);
      this.joined(key, sequence);
    }
  }

  /** Another stream: sequences begin again, and after `sequence` everything goes by. */
  clear(sequence: number): void {
    this.#cache = new EventCache(this.#cacheBytes);
    this.#rubbish.clear();
    this.lost(undefined, sequence);
  }

  /** The newest sequence of a key that is kept, 0 for none; asked after this call, once for all who ask in a turn. */
  newest(key: string): Promise<number> {
    let batch = this.#newest.get(key);
    if (batch === undefined) {
      batch = new NextBatch(async () => {
        this.#newest.delete(key);
        const message = await this.#stream.last(key);
        if (message !== undefined) this.#remember(message, key);
        return message?.seq ?? 0;
      });
      this.#newest.set(key, batch);
    }
    return batch.get();
  }

  /** Whether all that keys have after `cursor` has gone by here. */
  covers(keys: readonly string[], cursor: number): boolean {
    return keys.every((key) => (this.#known.get(key)?.after ?? Number.POSITIVE_INFINITY) <= cursor);
  }

  /**
   * What keys have after their cursors, through `view.last`. `isOwn`: {@link covers} has said so of all, and
   * nothing is asked.
   */
  async select(
    view: StreamView,
    keys: readonly string[],
    after: (key: string) => number,
    isOwn = false,
  ): Promise<Selection> {
    const newest = new Map<string, number>();
    let mustLookAgain = false;
    await inParallel(keys, async (key) => {
      const known = this.#known.get(key);
      const isKnown = known !== undefined && known.after <= after(key);
      const sequence = isOwn && isKnown ? newestOf(known) : await this.newest(key);
      newest.set(key, sequence);
      mustLookAgain ||= sequence === 0 && !isKnown;
    });
    // What age and bytes had dropped by the time of the answers, not by that of `view`.
    const now = mustLookAgain ? await this.#viewAgain(view) : view;
    const entries: Entry[] = [];
    const lostKeys: string[] = [];
    let lostThrough = 0;
    await inParallel(keys, async (key) => {
      const cursor = after(key);
      const known = await this.#after(now, key, cursor, newest.get(key)!);
      const lost = Math.max(known.lostThrough, known.after);
      if (lost > cursor) {
        lostKeys.push(key);
        lostThrough = Math.max(lostThrough, lost);
      }
      const { sequences } = known;
      for (let i = firstAfter(sequences, Math.max(cursor, known.lostThrough)); i < sequences.length; i++) {
        const sequence = sequences[i]!;
        if (sequence > view.last) break;
        entries.push({ sequence, key });
      }
    });
    if (keys.length > 1) entries.sort((a, b) => a.sequence - b.sequence);
    return { entries, lostThrough, lostKeys };
  }

  /** The events themselves. What is no event (somebody else wrote into the stream) is left out. */
  async load(entries: readonly Entry[]): Promise<BusEvent[]> {
    const events: (BusEvent | undefined)[] = new Array(entries.length);
    const indexes = [...entries.keys()];
    await inParallel(indexes, async (index) => {
      const { sequence, key } = entries[index]!;
      const cached = this.#cache.get(sequence);
      if (cached !== undefined) {
        if (cached.key !== key) throw replaced();
        events[index] = cached;
        return;
      }
      const message = await this.#stream.body(sequence, key);
      if (message === undefined) {
        // Dropped since it was listed: whoever asks again is told.
        const known = this.#known.get(key);
        if (known !== undefined) this.#dropThrough(known, sequence);
        throw unavailable('history was dropped while it was read');
      }
      events[index] = this.#remember(message, key);
    });
    return events.filter((event) => event !== undefined);
  }

  reason(view: StreamView): LossReason {
    return view.historySize > 0 ? 'evicted' : 'disabled';
  }

  /** What is known of a key when everything after `cursor` is. `after` beyond the cursor: nobody can know of before. */
  async #after(view: StreamView, key: string, cursor: number, newest: number): Promise<Readonly<Known>> {
    const own = this.#known.get(key);
    if (newest === 0) {
      // Nothing is kept. A node that has seen all of it knows what there was.
      const isKnown = own !== undefined && own.after <= cursor;
      const lost = isKnown ? newestOf(own) : view.first - 1;
      return { after: cursor, through: view.last, lostThrough: lost > cursor ? lost : 0, sequences: [] };
    }
    // Age and bytes drop the oldest first, so nothing newer was dropped.
    if (newest <= cursor) return { after: cursor, through: view.last, lostThrough: 0, sequences: [] };
    if (view.historySize === 0) return { after: cursor, through: view.last, lostThrough: newest, sequences: [] };
    if (own !== undefined && own.after <= cursor && own.through >= newest) {
      this.#dropOlder(own, view);
      return own;
    }
    const from = own !== undefined && own.after <= cursor ? Math.max(own.through, cursor) : cursor;
    const sequences = await this.#stream.list(key, from, newest, (message) => this.#remember(message, key));
    const now = await this.#viewAgain(view);
    // Nobody can know what was dropped between the cursor and the oldest that the stream keeps.
    const fresh: Known = {
      after: Math.max(from, now.first - 1),
      through: sequences[sequences.length - 1]!,
      lostThrough: 0,
      sequences,
    };
    const joined = this.#known.get(key);
    if (joined !== undefined && joined.after <= fresh.through && fresh.after <= joined.through) {
      this.#merge(joined, fresh);
      this.#dropOlder(joined, now);
      return joined;
    }
    this.#dropOlder(fresh, now, false);
    return fresh;
  }

  async #viewAgain(view: StreamView): Promise<StreamView> {
    const now = await this.#stream.view();
    if (now.epoch !== view.epoch) throw replaced();
    return now;
  }

  /** Two stretches that touch, as one. */
  #merge(known: Known, fresh: Known): void {
    const sequences = [...new Set([...known.sequences, ...fresh.sequences])].sort((a, b) => a - b);
    this.#sequences += sequences.length - known.sequences.length;
    known.sequences = sequences;
    known.after = Math.min(known.after, fresh.after);
    known.through = Math.max(known.through, fresh.through);
  }

  /** What the stream does not keep any more was dropped. */
  #dropOlder(known: Known, { first, historySize }: StreamView, isCounted = true): void {
    const { sequences } = known;
    const old = Math.max(firstAfter(sequences, first - 1), sequences.length - historySize);
    if (old <= 0) return;
    known.lostThrough = Math.max(known.lostThrough, sequences[old - 1]!);
    known.sequences = sequences.slice(old);
    if (isCounted) this.#sequences -= old;
  }

  #dropThrough(known: Known, sequence: number): void {
    const old = firstAfter(known.sequences, sequence);
    known.lostThrough = Math.max(known.lostThrough, sequence);
    known.sequences = known.sequences.slice(old);
    this.#sequences -= old;
  }

  #trim(known: Known, historySize: number): void {
    this.#dropOlder(known, { first: 0, historySize } as StreamView);
  }

  /** The keys that were joined first forget: they can be listed again. */
  #shrink(): void {
    for (const [key, known] of this.#known) {
      if (known.sequences.length === 0) continue;
      const { through } = known;
      this.#forgetKey(key);
      this.joined(key, through);
      if (this.#sequences < MAX_SEQUENCES * 0.8) return;
    }
  }

  #forgetKey(key: string): void {
    this.#sequences -= this.#known.get(key)?.sequences.length ?? 0;
    this.#known.delete(key);
  }

  #remember(message: NatsStoredMessage, key: string): BusEvent | undefined {
    const cached = this.#cache.get(message.seq);
    if (cached !== undefined && cached.key === key) return cached;
    if (this.#rubbish.has(message.seq)) return undefined;
    const event = this.#decode(message, key);
    if (event !== undefined) this.#cache.set(event);
    else if (this.#rubbish.size < MAX_RUBBISH) this.#rubbish.add(message.seq);
    return event;
  }
}

/** The newest that is known of a key, kept or not. */
function newestOf({ sequences, lostThrough }: Known): number {
  return sequences[sequences.length - 1] ?? lostThrough;
}

/** Index of the first one after `sequence`. */
function firstAfter(sequences: readonly number[], sequence: number): number {
  let low = 0;
  let high = sequences.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sequences[middle]! <= sequence) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A few at a time; rejects with the first failure, after those that had begun. */
export async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) await work(items[next++]!);
  };
  const workers = Array.from({ length: Math.min(PARALLEL, items.length) }, worker);
  const results = await Promise.allSettled(workers);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
