/** What history gives: pages for clients that come back, and what this node has missed itself. */
import type { Head, LossReason, ReadRequest, ReadResult } from '../core/bus.js';
import type { SseError } from '../core/errors.js';
import type { BusEvent } from '../core/event.js';
import { EventCache } from '../core/event-cache.js';
import { isLiveOnly } from '../core/topic.js';
import { decodeEvent } from './envelope.js';
import type { Look, Page, Point, RedisStore, StoredEvent } from './redis-store.js';
import type { Recovery, RecoveryRequest, SequencerHost } from './sequencer.js';

/** Keys of one call of the script, and events of its answer, while a node recovers. */
const CHUNK_KEYS = 256;
const CHUNK_EVENTS = 256;
/** Keys of one question for their newest sequences. */
const NEWEST_KEYS = 1_000;

/** As in `run-sequence`. */
const ID = /^([a-z0-9]{1,32})-(0|[1-9][0-9]{0,15})$/;

export const idOf = ({ run, sequence }: Point): string => `${run}-${sequence}`;
export const headOf = (point: Point, epoch: string): Head => ({ id: idOf(point), sequence: point.sequence, epoch });

/** What was being read is not what Redis has now: whoever asks again gets that. */
export class HistoryReplaced extends Error {
  constructor() {
    super('Redis has begun another history meanwhile');
  }
}

/** A part of the keys that a recovery reads, with what was read and not delivered yet. */
interface Chunk {
  readonly keys: readonly string[];
  events: readonly StoredEvent[];
  more: boolean;
}

export class RedisHistory {
  readonly #store: RedisStore;
  readonly #isKept: boolean;
  readonly #cacheBytes: number;
  readonly #error: (error: SseError) => void;
  readonly #lost: SequencerHost['lost'];
  #cache: EventCache;

  constructor(
    store: RedisStore,
    options: { readonly historySize: number; readonly cacheBytes: number },
    host: { error(error: SseError): void; lost: SequencerHost['lost'] },
  ) {
    this.#store = store;
    this.#isKept = options.historySize > 0;
    this.#cacheBytes = options.cacheBytes;
    this.#cache = new EventCache(this.#cacheBytes);
    this.#error = (error) => host.error(error);
    this.#lost = (loss) => host.lost(loss);
  }

  /** Why something is missing that was there once. */
  get #missing(): LossReason {
    return this.#isKept ? 'evicted' : 'disabled';
  }

  /** A page for a client; undefined where Redis is empty, so that there is not even a head. */
  async read({ keys, after, limit, max }: ReadRequest): Promise<ReadResult | undefined> {
    const match = ID.exec(after);
    const cursor = match === null ? undefined : { run: match[1]!, sequence: Number(match[2]) };
    const tracked = keys.filter((key) => !isLiveOnly(key));
    const page = await this.#store.read({
      keys: tracked,
      run: cursor?.run ?? '',
      after: [cursor?.sequence ?? 0],
      // What no bus made asks for nothing but the head.
      limit: cursor === undefined ? 0 : limit,
      max,
    });
    if (page === undefined) return undefined;
    const head = headOf(page, page.epoch);
    const loss = cursor === undefined ? 'unknown' : page.verdict === 'ok' ? undefined : page.verdict;
    if (loss !== undefined) return { events: [], more: false, head, loss, completeAfter: head.id };
    const { events, unreadable } = this.#eventsOf(page.events);
    const { more, missing } = page;
    const last = unreadable[unreadable.length - 1];
    if (last !== undefined) return { events, more, head, loss: 'unknown', completeAfter: idOf(last) };
    if (missing === undefined) return { events, more, head };
    return { events, more, head, loss: this.#missing, completeAfter: idOf(missing) };
  }

  /** What a node has missed through the point where Redis stands. `newest`: of the keys that had something. */
  recover(request: RecoveryRequest, point: Look, newest: ReadonlyMap<string, number>): Promise<Recovery> {
    return this.#recover(request, point, newest, (key) => request.seen(key));
  }

  /** After another history began: everything of it; all of the one before is lost. */
  async recoverAll(request: RecoveryRequest, look: Look, newest: ReadonlyMap<string, number>): Promise<Recovery> {
    const { start } = look;
    const recovery = await this.#recover(request, look, newest, () => start.sequence);
    // Later than the start where some of that is gone too.
    const since = this.#isKept ? (recovery.loss?.head ?? headOf(start, look.epoch)) : recovery.head;
    return { ...recovery, loss: { reason: 'epoch', head: since } };
  }

  async #recover(
    request: RecoveryRequest,
    point: Look,
    newest: ReadonlyMap<string, number>,
    seen: (key: string) => number | undefined,
  ): Promise<Recovery> {
    const keys: string[] = [];
    for (const [key, sequence] of newest) {
      if (!isLiveOnly(key) && sequence > (seen(key) ?? sequence)) keys.push(key);
    }
    if (!this.#isKept) return this.#recoverWithout(request, point, keys);
    const chunks: Chunk[] = [];
    const lostKeys: string[] = [];
    let missing: Point | undefined;
    for (let i = 0; i < keys.length; i += CHUNK_KEYS) {
      const part = keys.slice(i, i + CHUNK_KEYS);
      const page = await this.#readChunk(
        part,
        part.map((key) => seen(key) ?? point.sequence),
        point,
      );
      lostKeys.push(...page.lostKeys);
      if (page.missing !== undefined && page.missing.sequence > (missing?.sequence ?? 0)) missing = page.missing;
      chunks.push({ keys: part, events: page.events, more: page.more });
    }
    const recovery = { epoch: point.run, head: headOf(point, point.epoch), pages: this.#merged(chunks, point) };
    if (missing === undefined) return recovery;
    return { ...recovery, loss: { reason: 'evicted', keys: lostKeys, head: headOf(missing, point.epoch) } };
  }

  /** The newest sequences of all joined keys: where too much has changed to list it, or Redis has forgotten some. */
  async newestOf(keys: Iterable<string>, forgotten: number): Promise<Map<string, number>> {
    const all = [...keys].filter((key) => !isLiveOnly(key));
    const newest = new Map<string, number>();
    for (let i = 0; i < all.length; i += NEWEST_KEYS) {
      const part = all.slice(i, i + NEWEST_KEYS);
      const sequences = await this.#store.newestOf(part);
      for (const [j, key] of part.entries()) newest.set(key, sequences[j] ?? forgotten);
    }
    return newest;
  }

  /** After another history began: sequences may mean something else now. */
  forget(): void {
    this.#cache = new EventCache(this.#cacheBytes);
  }

  /** Without history only what has come in since the connection stands can go on; the rest is lost. */
  #recoverWithout(request: RecoveryRequest, point: Look, keys: readonly string[]): Recovery {
    const first = new Map<string, number>();
    let before = point.sequence;
    for (const { key, sequence, previous } of request.held()) {
      before = Math.min(before, sequence - 1);
      if (previous !== undefined && !first.has(key)) first.set(key, previous);
    }
    const lostKeys = keys.filter((key) => (first.get(key) ?? Number.POSITIVE_INFINITY) > request.seen(key)!);
    // What is held comes after this, and shows its own holes.
    const head = headOf({ run: point.run, sequence: Math.max(before, request.position) }, point.epoch);
    if (lostKeys.length === 0) return { epoch: point.run, head };
    return { epoch: point.run, head, loss: { reason: 'disabled', keys: lostKeys, head } };
  }

  async #readChunk(keys: readonly string[], after: readonly number[], point: Look): Promise<Page> {
    const page = await this.#store.read({ keys, run: '', after, limit: CHUNK_EVENTS, max: 0, through: point.sequence });
    if (page === undefined || page.run !== point.run) throw new HistoryReplaced();
    return page;
  }

  /** The events of all chunks in order: up to where the first chunk ends of which more is to be read. */
  async *#merged(chunks: readonly Chunk[], point: Look): AsyncGenerator<readonly BusEvent[]> {
    for (;;) {
      let bound = point.sequence;
      for (const { events, more } of chunks) if (more) bound = Math.min(bound, events[events.length - 1]!.sequence);
      const page: StoredEvent[] = [];
      for (const chunk of chunks) {
        const count = countThrough(chunk.events, bound);
        page.push(...chunk.events.slice(0, count));
        chunk.events = chunk.events.slice(count);
      }
      page.sort((a, b) => a.sequence - b.sequence);
      let rest = page;
      while (rest.length > 0) {
        const {
          events,
          unreadable: [unreadable],
        } = this.#eventsOf(rest);
        if (unreadable === undefined) {
          yield events;
          break;
        }
        yield events.filter(({ sequence }) => sequence < unreadable.sequence);
        this.#lost({ reason: 'unknown', keys: [unreadable.key], head: headOf(unreadable, point.epoch) });
        rest = rest.filter(({ sequence }) => sequence > unreadable.sequence);
      }
      const open = chunks.filter(({ events, more }) => more && events.length === 0);
      if (open.length === 0) return;
      for (const chunk of open) {
        const next = await this.#readChunk(chunk.keys, [bound], point);
        // Dropped while it was read: the cursor stays where everything is complete.
        if (next.lostKeys.length > 0)
          this.#lost({
            reason: 'evicted',
            keys: next.lostKeys,
            head: headOf({ ...point, sequence: bound }, point.epoch),
          });
        chunk.events = next.events;
        chunk.more = next.more;
      }
    }
  }

  /** The same event is the same object for everybody; `unreadable` are those that are none. */
  #eventsOf(stored: readonly StoredEvent[]): { events: BusEvent[]; unreadable: StoredEvent[] } {
    const events: BusEvent[] = [];
    const unreadable: StoredEvent[] = [];
    for (const one of stored) {
      const id = idOf(one);
      let event = this.#cache.get(one.sequence);
      if (event === undefined || event.id !== id || event.key !== one.key) {
        event = decodeEvent(one.text, { key: one.key, sequence: one.sequence, id }, this.#error);
        if (event === undefined) {
          unreadable.push(one);
          continue;
        }
        this.#cache.set(event);
      }
      events.push(event);
    }
    return { events, unreadable };
  }
}

function countThrough(events: readonly StoredEvent[], bound: number): number {
  let count = 0;
  while (count < events.length && events[count]!.sequence <= bound) count++;
  return count;
}
