/**
 * The history of the in-memory bus: which events of which channel key are kept, what was dropped, and pages of it.
 *
 * Writing is what happens all the time, so it keeps nothing but lists through the packed events; reading needs places
 * in them, and makes itself rings of sequences, which are kept for a while and brought up to date when they are read
 * again. A ring reaches back only as far as somebody asked: reading costs what was missed, not what is kept. In the same way
 * the loss of plain events, which the limit on bytes takes, is noted nowhere: the list of a key shows it at its end.
 */
import type { Clock } from './clock.js';
import type { BusEvent } from './event.js';
import { Chain } from './event-pack.js';
import { type Losses, lostThrough, withLoss } from './losses.js';
import { LostKeys } from './lost-keys.js';
import { PackedEvents } from './packed-events.js';
import { pageOf } from './page.js';
import { RecentPages } from './recent-pages.js';
import { SequenceRing } from './sequence-ring.js';

/** What {@link History.page} answers. */
export interface HistoryPage {
  /** In order. The same list for whoever reads the same page. */
  readonly events: readonly BusEvent[];
  readonly more: boolean;
  /** Newest sequence that these keys cannot serve. */
  readonly lostThrough: number;
}

export interface HistoryLimits {
  /** Events kept per channel key; 0 keeps none, and remembers what was lost. */
  readonly historySize: number;
  /** Bytes kept in all; 0 for no limit. */
  readonly historyBytes: number;
  /** Age in ms at which an event is forgotten; 0 for no limit. */
  readonly historyTtl: number;
}

/** A channel key that keeps something. */
class Key extends Chain {
  /** What it lost, but for plain events that it lost last: those {@link History} finds when it is asked. */
  losses: Losses;
  /** The last event with a `ttl` that is among them. */
  lastEnding = 0;

  constructor(name: string, losses: Losses) {
    super(name);
    this.losses = losses;
  }
}

/** Part of a key's sequences: all that are kept after `from` and up to `through`. */
interface Reading {
  readonly ring: SequenceRing;
  readonly from: number;
  through: number;
}

/**
 * Events, and characters of text, that wait for their place. In a loop over many it takes half the time that it takes
 * in between everything else that a publish does (bench/README.md).
 */
const ARRIVALS = 128;
const ARRIVED_CHARS = 64 * 1024;

/** Most characters of an event that is kept as it was published for a while, so that these cannot add up to much. */
const RECENT_CHARS = 4 * 1024;

/** Sequences in rings, of all keys, above which they are let go. */
const READING_SEQUENCES = 256 * 1024;
/** What a ring costs, in sequences. */
const READING_OVERHEAD = 32;

export class History {
  readonly #limits: HistoryLimits;
  readonly #clock: Clock;
  readonly #keys = new Map<string, Key>();
  readonly #lost = new LostKeys();
  readonly #events: PackedEvents<Key>;
  /**
   * The newest events as they were published, with the frames that live clients got; those before `#settled` have their
   * places. A new array each time: to the garbage collector, writing to an old one is dearer.
   */
  #arrivals = new Array<BusEvent | undefined>(ARRIVALS);
  /** When those came, where that matters: ms since 1970. */
  readonly #arrivedAt = new Float64Array(ARRIVALS);
  /** Of each, while they get their places. */
  readonly #keysOfArrivals = new Array<Key | undefined>(ARRIVALS).fill(undefined);
  #arrived = 0;
  #settled = 0;
  #arrivedChars = 0;
  /** One of them is longer than `RECENT_CHARS`. */
  #hasLong = false;
  /** Those before. */
  #earlier: readonly (BusEvent | undefined)[] = [];
  readonly #readings = new Map<Key, Reading>();
  #readingSequences = 0;
  readonly #recent = new RecentPages<Key>();
  #stopExpiry: (() => void) | undefined = undefined;

  constructor(limits: HistoryLimits, clock: Clock, idOf: (sequence: number) => string) {
    this.#limits = limits;
    this.#clock = clock;
    this.#events = new PackedEvents(idOf);
  }

  /** For operators. */
  get details(): { historyKeys: number; historyEvents: number; historyBytes: number } {
    this.settle();
    return { historyKeys: this.#keys.size, historyEvents: this.#events.length, historyBytes: this.#events.bytes };
  }

  /** Adds the newest event. */
  push(event: BusEvent): void {
    if (this.#limits.historySize === 0) {
      this.#markLost(event);
      return;
    }
    const { historyTtl } = this.#limits;
    if (historyTtl > 0) {
      this.#arrivedAt[this.#arrived] = this.#clock.now();
      this.#stopExpiry ??= this.#clock.every(Math.max(100, Math.min(historyTtl, 60_000)), () => this.expire());
    }
    this.#arrivals[this.#arrived++] = event;
    const chars = event.data.length;
    this.#arrivedChars += chars;
    if (chars > RECENT_CHARS) this.#hasLong = true;
    if (this.#arrived === ARRIVALS || this.#arrivedChars > ARRIVED_CHARS) this.settle();
  }

  /** Puts what has arrived in its place; before anything is read or counted. */
  settle(): void {
    const count = this.#arrived;
    if (count === this.#settled) return;
    this.#arrivedChars = 0;
    this.#recent.clear();
    const arrivals = this.#arrivals;
    const keysOf = this.#keysOfArrivals;
    const { historySize, historyBytes, historyTtl } = this.#limits;
    const from = this.#settled;
    const nearlyFull = historySize - ARRIVALS;
    let mayBeFull = false;
    const keys = this.#keys;
    // A loop of its own: so the processor waits for several of these look-ups at once, where the caches are cold.
    for (let i = from; i < count; i++) {
      const name = arrivals[i]!.key;
      let key = keys.get(name);
      if (key === undefined) {
        key = new Key(name, this.#lost.of(name));
        keys.set(name, key);
      }
      keysOf[i] = key;
      if (key.length > nearlyFull) mayBeFull = true;
    }
    const events = this.#events;
    events.push(arrivals, keysOf, historyTtl > 0 ? this.#arrivedAt : undefined, from, count);
    if (mayBeFull) {
      for (let i = from; i < count; i++) {
        const key = keysOf[i]!;
        if (key.length <= historySize) continue;
        events.count(key, historySize >> 1);
        if (key.length > historySize) this.#drop(key);
      }
    }
    if (this.#hasLong) {
      this.#hasLong = false;
      for (let i = from; i < count; i++) if (arrivals[i]!.data.length > RECENT_CHARS) arrivals[i] = undefined;
    }
    this.#settled = count;
    if (count === ARRIVALS) {
      this.#earlier = arrivals;
      this.#arrivals = new Array<BusEvent | undefined>(ARRIVALS);
      this.#arrived = this.#settled = 0;
    }
    if (historyBytes === 0) return;
    while (events.bytes > historyBytes) {
      events.dropPlain(historyBytes);
      if (events.bytes > historyBytes) this.#drop(events.oldestChain()!);
    }
  }

  /** Forgets what is too old. */
  expire(): void {
    this.settle();
    const { historyTtl } = this.#limits;
    if (historyTtl === 0) return;
    const limit = this.#clock.now() - historyTtl;
    while (this.#events.oldestStoredAt() <= limit) {
      this.#recent.clear();
      this.#drop(this.#events.oldestChain()!);
    }
    if (this.#events.length === 0) this.close();
  }

  /** Stops its timer; it starts again with the next event. */
  close(): void {
    this.#stopExpiry?.();
    this.#stopExpiry = undefined;
  }

  /** A page of the events of these keys, and through which sequence they cannot be served. */
  page(names: readonly string[], after: number, limit: number, max: number): HistoryPage {
    this.expire();
    const now = this.#clock.now();
    const keys: Key[] = [];
    const rings: SequenceRing[] = [];
    let lost = 0;
    for (const name of names) {
      const key = this.#keys.get(name);
      lost = Math.max(lost, lostThrough(key === undefined ? this.#lost.of(name) : key.losses, now));
      if (key === undefined || key.newest <= after) continue;
      const ring = this.#ringOf(key, after);
      keys.push(key);
      rings.push(ring);
      lost = Math.max(lost, plainLoss(key, this.#events.before(ring.at(0))));
    }
    const known = this.#recent.find(keys, after, limit, max);
    if (known !== undefined) return { events: known.events, more: known.more, lostThrough: lost };
    const isExpired = (sequence: number) => {
      const expiresAt = this.#events.expiresAt(sequence);
      return expiresAt !== 0 && expiresAt <= now;
    };
    const { sequences, more, skippedThrough } = pageOf(rings, { after, limit, max, isExpired });
    const events = sequences.map((sequence) => this.#eventOf(sequence));
    // What is skipped depends on the time.
    if (skippedThrough === 0) this.#recent.add({ keys, after, limit, max, events, more });
    return { events, more, lostThrough: Math.max(lost, skippedThrough) };
  }

  #eventOf(sequence: number): BusEvent {
    return this.#events.get(sequence, find(this.#arrivals, sequence) ?? find(this.#earlier, sequence));
  }

  #markLost({ key, sequence, expiresAt }: BusEvent): void {
    if (expiresAt === 0) this.#lost.set(key, sequence);
    else this.#lost.set(key, withLoss(this.#lost.of(key), sequence, expiresAt, this.#clock.now()));
  }

  #drop(key: Key): void {
    const sequence = key.oldest;
    const events = this.#events;
    const expiresAt = events.dropOldestOf(key);
    if (expiresAt === 0) {
      key.losses = sequence;
    } else {
      const losses = plainLoss(key, events.beforeDropped) || key.losses;
      key.losses = withLoss(losses, sequence, expiresAt, this.#clock.now());
      key.lastEnding = sequence;
    }
    // So few that counting them again is cheaper than keeping count.
    if (key.isCounted && key.length < this.#limits.historySize >> 2) key.isCounted = false;
    if (key.length > 0) return;
    this.#keys.delete(key.key);
    this.#lost.set(key.key, key.losses);
    this.#letGo(key);
  }

  /** All that `key` keeps after `after`, at least. */
  #ringOf(key: Key, after: number): SequenceRing {
    let reading = this.#readings.get(key);
    if (reading === undefined || reading.from > after) {
      if (reading !== undefined) this.#letGo(key);
      if (this.#readingSequences > READING_SEQUENCES) {
        this.#readings.clear();
        this.#readingSequences = 0;
      }
      reading = { ring: new SequenceRing(), from: after, through: after };
      this.#readings.set(key, reading);
      this.#readingSequences += READING_OVERHEAD;
    }
    const { ring } = reading;
    this.#readingSequences -= ring.length;
    const dropped = Math.max(key.oldest - 1, this.#events.droppedThrough);
    while (ring.length > 0 && ring.at(0) <= dropped) ring.shift();
    const added: number[] = [];
    const stop = Math.max(reading.through, dropped);
    for (let sequence = key.newest; sequence > stop; sequence = this.#events.before(sequence)) added.push(sequence);
    for (let i = added.length - 1; i >= 0; i--) ring.push(added[i]!);
    reading.through = key.newest;
    this.#readingSequences += ring.length;
    return ring;
  }

  #letGo(key: Key): void {
    const reading = this.#readings.get(key);
    if (reading === undefined) return;
    this.#readingSequences -= reading.ring.length + READING_OVERHEAD;
    this.#readings.delete(key);
  }
}

/**
 * What a key lost beyond what is noted: `before` is the sequence before the oldest one that it keeps, or of those that are
 * read. 0 where that is noted.
 */
function plainLoss({ losses, lastEnding }: Key, before: number): number {
  const noted = typeof losses === 'number' ? Math.max(losses, lastEnding) : lastEnding;
  return before > noted ? before : 0;
}

function find(arrivals: readonly (BusEvent | undefined)[], sequence: number): BusEvent | undefined {
  return arrivals.find((event) => event?.sequence === sequence);
}
