/**
 * Events kept where the garbage collector does not look.
 *
 * A history of a hundred thousand events as objects is copied twice while it is young and looked through ever after: it
 * made publishing cost more than twice as much (bench/replay.mjs). So 256 consecutive events are packed together: their
 * texts into one Buffer, their numbers into a few arrays. An event becomes an object again when it is read, and then stays in
 * a cache for a while, with its encoded frame. Of the newest events the texts are kept as they came, until there are
 * enough of them: one long text is copied in a fifth of the time of many short ones.
 *
 * The events of one key are a list through the packs: each knows the one before and the one after it. So publishing
 * touches one small object per key, and otherwise only memory that is written or read in order; with a ring of
 * sequences per key, publishing to ten thousand keys cost a third more (bench/README.md).
 *
 * Dropped events leave holes. When too much is held for what is kept, packs that are mostly holes are made small.
 */
import type { BusEvent } from './event.js';
import { EventCache } from './event-cache.js';
import {
  AFTER,
  Arrays,
  BEFORE,
  type Chain,
  FLAGS,
  IS_COUNTED,
  IS_JSON,
  LINKS,
  MARKS,
  MAX_DISTANCE,
  NUMBERS,
  PACK_OVERHEAD,
  Pack,
  SIZE,
  SLOTS,
  START,
  TIMESTAMP,
} from './event-pack.js';
import { closeHoles, joinTexts, sparseOf, unpack } from './pack-texts.js';

/** Packs that are found without a look-up in a Map; a power of two. */
const NEAR_PACKS = 4_096;
/** A pack of so few events keeps them as objects and nothing else. */
const SPARSE = 32;
/** What an event costs besides its text. */
const EVENT_OVERHEAD = 64;
/** For events that are read again and again. */
const CACHE_BYTES = 16 * 1024 * 1024;
/** Emptied packs whose arrays are used again. */
const SPARE_PACKS = 2;
/** Holes that are always allowed. */
const SLACK_BYTES = 128 * 1024;

export class PackedEvents<C extends Chain = Chain> {
  readonly #idOf: (sequence: number) => string;
  readonly #packs = new Map<number, Pack<C>>();
  readonly #near = new Array<Pack<C> | undefined>(NEAR_PACKS).fill(undefined);
  readonly #cache = new EventCache(CACHE_BYTES);
  readonly #spare: Arrays<C>[] = [];
  #oldest: Pack<C> | undefined = undefined;
  #newest: Pack<C> | undefined = undefined;
  /** What the packs hold, holes included, and above what they are made small. */
  #heldBytes = 0;
  #heldLimit = 0;
  /** Events kept. */
  length = 0;
  /** What they cost. */
  bytes = 0;
  /** Sequence through which {@link dropPlain} has dropped everything. */
  droppedThrough = 0;
  /** What {@link before} would have said of the last event with an `expiresAt` that was dropped. */
  beforeDropped = 0;

  constructor(idOf: (sequence: number) => string) {
    this.#idOf = idOf;
  }

  /**
   * Adds events after the newest: those of `events` from index `from` up to `to`, each to the chain of the same index.
   * `storedAt`: when each came, in ms since 1970, where that matters. Many at once, since that takes half the time.
   */
  push(
    events: readonly (BusEvent | undefined)[],
    chains: readonly (C | undefined)[],
    storedAt: Float64Array | undefined,
    from: number,
    to: number,
  ): void {
    for (let next = from; next < to; ) {
      const { sequence } = events[next]!;
      let pack = this.#newest;
      if (pack === undefined || sequence - pack.base >= SLOTS) {
        pack = this.#open(Math.floor(sequence / SLOTS), sequence % SLOTS);
      }
      next = this.#fill(pack, events, chains, storedAt, next, to);
    }
  }

  /** {@link push} as far as the pack reaches; gives the index of the first event that has no place in it. */
  #fill(
    pack: Pack<C>,
    events: readonly (BusEvent | undefined)[],
    chains: readonly (C | undefined)[],
    storedAt: Float64Array | undefined,
    from: number,
    to: number,
  ): number {
    const { base } = pack;
    const arrays = pack.arrays!;
    const texts = pack.texts!;
    const { marks, links, numbers } = arrays;
    const begin = pack.textBytes;
    let end = begin;
    let next = from;
    let slot = 0;
    for (; next < to; next++) {
      const event = events[next]!;
      const { sequence, data, expiresAt } = event;
      if (sequence - base >= SLOTS) break;
      slot = sequence - base;
      const chain = chains[next]!;
      const before = chain.newest;
      marks[slot * MARKS + START] = end;
      marks[slot * MARKS + FLAGS] = (event.json ? IS_JSON : 0) | (chain.isCounted ? IS_COUNTED : 0);
      links[slot * LINKS + SIZE] = data.length;
      numbers[slot * NUMBERS + TIMESTAMP] = event.timestamp;
      numbers[slot * NUMBERS + BEFORE] = before;
      arrays.chains[slot] = chain;
      arrays.names[slot] = event.event;
      texts[slot] = data;
      if (expiresAt !== 0) arrays.setExpiry(slot, expiresAt);
      if (event.priority !== undefined || event.tag !== undefined) arrays.setExtras(slot, event);
      if (storedAt !== undefined) arrays.setStoredAt(slot, storedAt[next]!);
      end += data.length;
      chain.newest = sequence;
      if (chain.length++ === 0) chain.oldest = sequence;
      else if (before >= base) links[(before - base) * LINKS + AFTER] = sequence - before;
      else this.#link(before, sequence);
    }
    const added = next - from;
    pack.textBytes = end;
    pack.kept += added;
    pack.keptBytes += end - begin;
    this.length += added;
    this.bytes += end - begin + added * EVENT_OVERHEAD;
    if (slot === SLOTS - 1) this.#finish(pack);
    return next;
  }

  /** The event of a sequence that was pushed and not dropped; `pushed` is taken for it where the caller has it still. */
  get(sequence: number, pushed?: BusEvent): BusEvent {
    const pack = this.#packOf(sequence);
    const slot = sequence - pack.base;
    if (pack.sparse !== undefined) return pack.sparse.get(slot)!.event;
    let event = this.#cache.get(sequence);
    if (event === undefined) {
      event = pushed ?? unpack(pack, pack.arrays!, slot, this.#idOf);
      this.#cache.set(event);
    }
    return event;
  }

  /** When the event of a sequence that is kept is not worth delivering any more: ms since 1970, 0 for never. */
  expiresAt(sequence: number): number {
    const { base, sparse, arrays } = this.#packOf(sequence);
    const slot = sequence - base;
    return sparse === undefined ? (arrays!.expiries?.[slot] ?? 0) : sparse.get(slot)!.event.expiresAt;
  }

  /** Sequence of the event before this one in its chain, also where that was dropped; 0 for its first. */
  before(sequence: number): number {
    const { base, sparse, arrays } = this.#packOf(sequence);
    const slot = sequence - base;
    if (sparse !== undefined) return sparse.get(slot)!.before;
    return arrays!.before(slot);
  }

  /**
   * Drops the oldest event of a chain, its `oldest`; gives what {@link expiresAt} said of it. For a chain that is counted, or
   * that was counted just now, or that {@link oldestChain} gave.
   */
  dropOldestOf(chain: C): number {
    const sequence = chain.oldest;
    const pack = this.#packOf(sequence);
    const { arrays, texts } = pack;
    const slot = sequence - pack.base;
    let bytes: number;
    let expiresAt = 0;
    if (arrays !== undefined) {
      const { links, expiries } = arrays;
      const at = slot * LINKS;
      bytes = links[at + SIZE]!;
      links[at + SIZE] = -1;
      chain.oldest = sequence + links[at + AFTER]!;
      if (expiries !== undefined) {
        expiresAt = expiries[slot]!;
        this.beforeDropped = arrays.before(slot);
      }
      if (texts !== undefined) {
        texts[slot] = '';
        pack.hasEarlyHoles = true;
      }
    } else {
      const { event, before, after } = pack.sparse!.get(slot)!;
      bytes = event.data.length;
      expiresAt = event.expiresAt;
      this.beforeDropped = before;
      chain.oldest = after;
      pack.sparse!.delete(slot);
    }
    if (sequence === chain.newest) chain.length = 0;
    else chain.length--;
    pack.keptBytes -= bytes;
    this.length--;
    this.bytes -= bytes + EVENT_OVERHEAD;
    if (--pack.kept === 0 && pack.isFull) this.#remove(pack);
    return expiresAt;
  }

  /**
   * Drops the oldest of all events while they cost more than `bytes`, as long as nothing but the event itself must be
   * touched for it. It stops at one that has an `expiresAt`, that is the last of its chain or of a counted one, or that is
   * not packed: that is for {@link dropOldestOf}. With many keys this is what spares waiting for memory (bench/README.md).
   */
  dropPlain(bytes: number): void {
    for (;;) {
      const pack = this.#oldestKept();
      if (pack?.arrays === undefined || pack.texts !== undefined) return;
      const { links, marks, expiries } = pack.arrays;
      let dropped = 0;
      let droppedBytes = 0;
      let tooMuch = this.bytes - bytes;
      let slot = pack.first;
      for (; slot < SLOTS && tooMuch > 0; slot++) {
        const size = links[slot * LINKS + SIZE]!;
        if (size < 0) continue;
        if (links[slot * LINKS + AFTER]! < 0 || (marks[slot * MARKS + FLAGS]! & IS_COUNTED) !== 0) break;
        if (expiries !== undefined && expiries[slot] !== 0) break;
        links[slot * LINKS + SIZE] = -1;
        tooMuch -= size + EVENT_OVERHEAD;
        droppedBytes += size;
        dropped++;
      }
      if (dropped === 0) return;
      pack.first = slot;
      pack.kept -= dropped;
      pack.keptBytes -= droppedBytes;
      this.length -= dropped;
      this.bytes -= droppedBytes + dropped * EVENT_OVERHEAD;
      this.droppedThrough = pack.base + slot - 1;
      if (pack.kept === 0) this.#remove(pack);
      if (slot < SLOTS) return;
    }
  }

  /**
   * Brings `length` and `oldest` of a chain up to date. Where it holds more than `many` they are kept so from now on, or this
   * would cost too much the next time.
   */
  count(chain: C, many: number): void {
    if (chain.isCounted) return;
    let length = 0;
    let oldest = chain.newest;
    for (let sequence = oldest; sequence >= chain.oldest && sequence > this.droppedThrough; ) {
      oldest = sequence;
      length++;
      sequence = this.before(sequence);
    }
    chain.length = length;
    chain.oldest = oldest;
    if (length <= many) return;
    chain.isCounted = true;
    for (let sequence = chain.newest; length > 0; length--) {
      const { base, arrays } = this.#packOf(sequence);
      if (arrays !== undefined) arrays.marks[(sequence - base) * MARKS + FLAGS]! |= IS_COUNTED;
      sequence = this.before(sequence);
    }
  }

  /** The oldest event's chain, whose `oldest` that is from now on; undefined where there is none. */
  oldestChain(): C | undefined {
    const pack = this.#oldestKept();
    if (pack === undefined) return undefined;
    let slot = pack.first;
    let chain = pack.arrays?.chains[slot];
    if (pack.sparse !== undefined) for ([slot, { chain }] of pack.sparse) break;
    chain!.oldest = pack.base + slot;
    return chain;
  }

  /** When the oldest event was stored, in ms since 1970; Infinity where there is none. */
  oldestStoredAt(): number {
    const pack = this.#oldestKept();
    if (pack === undefined) return Number.POSITIVE_INFINITY;
    if (pack.sparse !== undefined) for (const { storedAt } of pack.sparse.values()) return storedAt;
    return pack.arrays!.storedAt?.[pack.first] ?? 0;
  }

  /** The pack with the oldest event, its `first` being that. */
  #oldestKept(): Pack<C> | undefined {
    const pack = this.#oldest;
    // Only the newest pack may be empty: it is filled again.
    if (pack === undefined || pack.kept === 0) return undefined;
    if (pack.sparse === undefined) {
      const { links } = pack.arrays!;
      while (links[pack.first * LINKS + SIZE]! < 0) pack.first++;
    }
    return pack;
  }

  #packOf(sequence: number): Pack<C> {
    const number = Math.floor(sequence / SLOTS);
    const near = this.#near[number & (NEAR_PACKS - 1)];
    return near !== undefined && near.number === number ? near : this.#packs.get(number)!;
  }

  /** Notes `after` as the one behind `before`, which is not in the newest pack. */
  #link(before: number, after: number): void {
    const pack = this.#packOf(before);
    const slot = before - pack.base;
    // A quiet key's next event may come billions of events later. There is room for that where there are no arrays.
    if (after - before > MAX_DISTANCE && pack.arrays !== undefined) this.#makeSparse(pack, pack.arrays);
    if (pack.sparse === undefined) pack.arrays!.links[slot * LINKS + AFTER] = after - before;
    else pack.sparse.get(slot)!.after = after;
  }

  #open(number: number, slot: number): Pack<C> {
    const unfinished = this.#newest;
    // Its last slots are of events that are not kept.
    if (unfinished !== undefined && !unfinished.isFull) this.#finish(unfinished);
    const pack = new Pack<C>(number, this.#spare.pop() ?? new Arrays());
    pack.first = slot;
    pack.previous = this.#newest;
    if (this.#newest === undefined) this.#oldest = pack;
    else this.#newest.next = pack;
    this.#newest = pack;
    this.#packs.set(number, pack);
    this.#near[number & (NEAR_PACKS - 1)] = pack;
    return pack;
  }

  #finish(pack: Pack<C>): void {
    pack.isFull = true;
    if (pack.kept === 0) this.#remove(pack);
    else this.#pack(pack);
  }

  #remove(pack: Pack<C>): void {
    this.#packs.delete(pack.number);
    const near = pack.number & (NEAR_PACKS - 1);
    if (this.#near[near] === pack) this.#near[near] = undefined;
    if (pack.previous === undefined) this.#oldest = pack.next;
    else pack.previous.next = pack.next;
    if (pack.next === undefined) this.#newest = pack.previous;
    else pack.next.previous = pack.previous;
    this.#release(pack);
  }

  #release(pack: Pack<C>): void {
    const { arrays } = pack;
    if (arrays === undefined) return;
    if (pack.texts === undefined) this.#heldBytes -= pack.textBytes + PACK_OVERHEAD;
    pack.arrays = undefined;
    arrays.links.fill(-1);
    arrays.expiries = undefined;
    arrays.storedAt = undefined;
    arrays.extras = undefined;
    if (this.#spare.length < SPARE_PACKS) this.#spare.push(arrays);
  }

  /** Texts of a full pack into one Buffer. */
  #pack(pack: Pack<C>): void {
    const chars = pack.keptBytes;
    if (!joinTexts(pack)) return;
    this.bytes += pack.keptBytes - chars;
    this.#heldBytes += pack.textBytes + PACK_OVERHEAD;
    this.#heldLimit = Math.max(this.#heldLimit, this.bytes + SLACK_BYTES);
    if (this.#heldBytes > this.#heldLimit) this.#makeSmall();
  }

  /** Packs that are mostly holes let go of them: all at once, so that it costs little per event that was dropped. */
  #makeSmall(): void {
    for (let pack = this.#oldest; pack !== undefined; pack = pack.next) {
      if (pack.arrays === undefined || pack.texts !== undefined) continue;
      if (pack.kept <= SPARSE) this.#makeSparse(pack, pack.arrays);
      else if (pack.keptBytes * 2 < pack.textBytes) this.#heldBytes -= closeHoles(pack, pack.arrays);
    }
    this.#heldLimit = Math.max(this.bytes, 1.25 * this.#heldBytes) + SLACK_BYTES;
  }

  #makeSparse(pack: Pack<C>, arrays: Arrays<C>): void {
    const { sparse, chars } = sparseOf(pack, arrays, this.#idOf, this.#cache);
    this.bytes += chars - pack.keptBytes;
    pack.keptBytes = chars;
    this.#release(pack);
    pack.texts = undefined;
    pack.sparse = sparse;
  }
}
