/**
 * From one event to its clients: frames of a turn are collected per channel, offered to the members once, and
 * flushed at the end of the turn with one write per client.
 *
 * - Cost is per recipient and turn, not per recipient and event: fifty events on one channel are one Batch.
 * - Clients that are in several channels get the frames merged in dispatch order; those that are in the same
 *   ones share the merged Batch.
 * - Membership must not change while frames wait in a channel: whoever changes it calls {@link Fanout.settle} first.
 * - With `flush: 'adaptive'` a flush waits as long as the one before it took, so a process that cannot keep up spends
 *   half its time at most on writing, and batches what comes meanwhile; one that keeps up never waits.
 * - A flush gives way to the event loop when it has run for `SLICE_MS`; what is published meanwhile is merged
 *   behind what a client has not got yet.
 */
import type { Client } from './client.js';
import { type Encoded, encodedOf, type Frame, merge } from './frame.js';
import type { Channel, Crowd } from './registry.js';

/** Bytes or frames after which a long turn is flushed in the middle, so that sending in a loop stays bounded. */
const TURN_BYTES = 64 * 1024;
const TURN_FRAMES = 128;

/** A slice of fan-out, in ms; between slices timers and sockets get their turn. */
const SLICE_MS = 8;

/** Clients between two looks at the clock. */
const LOOK_EVERY = 32;

export class Fanout {
  readonly #now: () => number;
  /** Longest wait between two flushes, in ms; 0 for none. */
  readonly #maxDelay: number;
  /** When the last whole flush ended, and what it took; ms of performance.now(). */
  #flushedAt = 0;
  #flushTook = 0;
  /** The flush that runs was begun in an earlier turn. */
  #isSliced = false;
  #dirty: Crowd[] = [];
  #ready: (Client | undefined)[] = [];
  #next = 0;
  #order = 0;
  #turnBytes = 0;
  #turnFrames = 0;
  #isFlushing = false;
  #immediate: NodeJS.Immediate | undefined = undefined;
  #timer: NodeJS.Timeout | undefined = undefined;
  readonly #run = (): void => {
    this.#immediate = undefined;
    // A flush in the middle of a turn may have been cut into slices while the timer waited.
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.flush();
  };

  /** `now`: ms since 1970. `maxDelay`: longest wait of an adaptive flush, in ms; 0 flushes at the end of every turn. */
  constructor(now: () => number, maxDelay: number) {
    this.#now = now;
    this.#maxDelay = maxDelay;
  }

  /** True where nothing waits. */
  get isIdle(): boolean {
    return this.#dirty.length === 0 && this.#next === this.#ready.length;
  }

  /** One event for the members of `channel`. */
  dispatch(channel: Channel, frame: Frame): void {
    frame.order = ++this.#order;
    const { crowd } = channel;
    if (crowd === undefined) {
      frame.isForOne = true;
      channel.single?.offer(frame);
    } else if (crowd.frames === undefined) {
      crowd.frames = [frame];
      this.#dirty.push(crowd);
    } else {
      crowd.frames.push(frame);
    }
    this.#count(frame);
  }

  /** One event for one client. */
  dispatchTo(client: Client, frame: Frame): void {
    frame.order = ++this.#order;
    frame.isForOne = true;
    client.offer(frame);
    this.#count(frame);
  }

  /** `client` has something to flush. */
  ready(client: Client): void {
    this.#ready.push(client);
    this.#schedule();
  }

  /** Offers what waits in channels to their members: before any change of membership. */
  settle(): void {
    if (this.#dirty.length === 0) return;
    const dirty = this.#dirty;
    this.#dirty = [];
    for (const crowd of dirty) {
      const encoded = encodedOf(crowd.frames!);
      crowd.frames = undefined;
      offerAll(crowd.clients.values(), encoded);
    }
  }

  /** Writes to every client that has something, for at most a slice; the rest follows in the next turn. */
  flush(): void {
    // A listener that publishes while a client is being ended: the loop below takes that up as well.
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    this.#turnBytes = 0;
    this.#turnFrames = 0;
    const startedAt = performance.now();
    this.settle();
    const ready = this.#ready;
    const now = this.#now();
    // Offering to very many is part of the slice, but leaves half of one for writing: else nothing would ever go out.
    const until = Math.max(startedAt + SLICE_MS, performance.now() + SLICE_MS / 2);
    let next = this.#next;
    while (next < ready.length) {
      // A listener has published: what waits in a channel comes before what was offered to single clients since.
      if (this.#dirty.length > 0) this.settle();
      const client = ready[next]!;
      ready[next++] = undefined;
      client.flush(now);
      if (next % LOOK_EVERY === 0 && performance.now() >= until) break;
    }
    this.#isFlushing = false;
    // One that found nothing to do, since a long turn was flushed in the middle, says nothing about what writing costs.
    if (this.#maxDelay > 0 && ready.length > 0) {
      this.#flushedAt = performance.now();
      this.#flushTook = this.#flushedAt - startedAt + (this.#isSliced ? this.#flushTook : 0);
    }
    this.#isSliced = next < ready.length;
    if (this.#isSliced) {
      this.#next = next;
      // With more to write than there is time the end is never reached: what is done is let go, half of the list at a time.
      if (next * 2 > ready.length) {
        this.#ready = ready.slice(next);
        this.#next = 0;
      }
      this.#immediate ??= setImmediate(this.#run);
    } else {
      this.#ready = [];
      this.#next = 0;
      // A listener published while a client was being ended.
      if (this.#dirty.length > 0) this.#schedule();
    }
  }

  /** Everything, now, however long it takes: for shutdown. */
  flushAll(): void {
    // Called by a listener in the middle of a flush: the loop that runs takes it all along.
    if (this.#isFlushing) return;
    do this.flush();
    while (!this.isIdle);
    if (this.#immediate !== undefined) clearImmediate(this.#immediate);
    clearTimeout(this.#timer);
    this.#immediate = undefined;
    this.#timer = undefined;
  }

  #count(frame: Frame): void {
    this.#turnBytes += frame.bytes;
    if (this.#turnBytes > TURN_BYTES || ++this.#turnFrames > TURN_FRAMES) this.flush();
    else this.#schedule();
  }

  #schedule(): void {
    if (this.#immediate !== undefined || this.#timer !== undefined || this.#isFlushing) return;
    if (this.#maxDelay > 0) {
      const wait = Math.min(this.#flushTook, this.#maxDelay) - (performance.now() - this.#flushedAt);
      if (wait >= 1) {
        this.#timer = setTimeout(this.#run, wait);
        return;
      }
    }
    // setImmediate, not a microtask: publishing in a loop with `await` between is one turn too.
    this.#immediate = setImmediate(this.#run);
  }
}

/** Most members have nothing yet, or all the same: they share the Batch that comes of merging. */
function offerAll(members: Iterable<Client>, encoded: Encoded): void {
  let merged: Map<Encoded, Encoded> | undefined;
  for (const client of members) {
    const before = client.pending;
    if (before === undefined) {
      client.offer(encoded);
      continue;
    }
    merged ??= new Map();
    let both = merged.get(before);
    if (both === undefined) {
      both = merge(before, encoded);
      merged.set(before, both);
    }
    client.pending = both;
  }
}
