/**
 * Tells Redis of every write before it is made, or sees to it that nobody trusts the cache meanwhile.
 *
 * A node that writes has a lease in Redis. While it has, each write is marked there before the database is asked, and its mark
 * stays, renewed with the lease, until after the commit. A node that cannot reach Redis lets its lease run out before it writes
 * on: from then on no node gives out a cached count, until this one is back, has turned every version, and all that it wrote
 * without a mark is done; or until it counts as dead.
 *
 * Ends of leases are times of Redis's clock, reckoned from an answer of it: so what Redis carries out late grants no more than
 * this node has reckoned with.
 */
import { v4 as uuid } from 'uuid';
import { RedisHealer } from '../buses/redis-healer.js';
import { SseError } from '../core/errors.js';
import type { CacheMark, RedisCache } from './redis-cache.js';

export interface CacheWriterOptions {
  readonly nodeLease: number;
  readonly writeLease: number;
  readonly onError: (error: SseError) => void;
}

/** A write that may begin. Exactly one of the two is called. */
export interface AnnouncedWrite {
  /** It is done; `changed`: the names of which something changed. */
  end(changed: readonly string[]): void;
  /** It failed, and may be carried out yet. */
  abandon(): void;
}

interface OpenMark extends CacheMark {
  /** Told to Redis last, in ms that never go back. */
  toldAt: number;
}

export class CacheWriter {
  /** True while this node has its lease, as far as it knows. */
  isUp = false;
  readonly #cache: RedisCache;
  readonly #options: CacheWriterOptions;
  readonly #node = uuid();
  readonly #healer: RedisHealer;
  readonly #stopListening: () => void;
  #joining: Promise<void> | undefined = undefined;
  #opening: Promise<void> | undefined = undefined;
  /** After this, in ms that never go back, Redis has no lease of this node, whatever it carries out late. */
  #leaseEnd = 0;
  /** A time of Redis, and not before when it was. */
  #known = { time: 0, at: 0 };
  readonly #open = new Map<string, OpenMark>();
  #number = 0;
  /** Writes without a mark that are under way, and of those the ones that failed and may be carried out yet. */
  #unmarked = 0;
  #abandoned = 0;
  /** Something was written without a mark since Redis was told last. */
  #isOwing = false;
  /** Stands for all writes without a mark, on everything, since this node is back. */
  #unmarkedMark: OpenMark | undefined = undefined;
  readonly #ends = new Set<Promise<void>>();
  #beats: NodeJS.Timeout | undefined = undefined;
  #isBeating = false;
  #isClosed = false;
  #wake: (() => void)[] = [];

  constructor(cache: RedisCache, options: CacheWriterOptions) {
    this.#cache = cache;
    this.#options = options;
    this.#healer = new RedisHealer({ heal: () => this.#joinOnce(), changed: () => {} });
    this.#stopListening = cache.onReady(() => this.#healer.hurry());
  }

  /** Takes the lease; resolves when that was tried. */
  open(): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    this.#opening ??= this.#cache
      .whenReady()
      .then(() => this.#joinOnce())
      .catch((error: unknown) => this.#failed(error));
    return this.#opening;
  }

  /**
   * Resolves when a write to `names` may begin: at once where Redis answers; where it does not, when no node trusts the cache.
   *
   * @throws {SseError} `SSE_ERR_BROKER_CLOSED`
   */
  async begin(names: readonly string[]): Promise<AnnouncedWrite> {
    await this.open();
    for (;;) {
      if (this.#isClosed) throw new SseError('SSE_ERR_BROKER_CLOSED', 'the store is closed; make another');
      if (this.isUp) {
        const mark = await this.#mark(names);
        if (mark !== undefined) return this.#announced(mark);
      } else if (this.#joining !== undefined) {
        await this.#joining.catch(() => {});
      } else {
        const left = this.#leaseEnd - performance.now();
        if (left <= 0) return this.#unannounced();
        await this.#whenBackOrAfter(left);
      }
    }
  }

  /** Redis does not answer, says somebody who asked it. */
  failed(error: unknown): void {
    if (this.isUp) this.#failed(error);
  }

  /** When all writes are done: gives the lease back. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stopListening();
    this.#healer.close();
    await this.#opening;
    await this.#joining?.catch(() => {});
    while (this.#open.size > 0 || this.#unmarked > this.#abandoned) {
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
    await Promise.all(this.#ends);
    clearInterval(this.#beats);
    const isSettled = this.isUp && this.#unmarked === 0;
    this.isUp = false;
    // Else its lease runs out, as that of a node that died.
    if (isSettled) await this.#cache.leave(this.#node).catch(() => {});
  }

  /** Undefined where Redis did not take it. */
  async #mark(names: readonly string[]): Promise<OpenMark | undefined> {
    const mark = { writer: `${this.#node}.${++this.#number}`, names, toldAt: performance.now() };
    this.#open.set(mark.writer, mark);
    try {
      if (await this.#cache.begin(this.#node, mark)) return mark;
      // This process stood still for so long.
      this.isUp = false;
      this.#joinSoon();
    } catch (error) {
      this.failed(error);
    }
    this.#open.delete(mark.writer);
    return undefined;
  }

  #announced(mark: OpenMark): AnnouncedWrite {
    const done = (changed: readonly string[] | undefined): void => {
      this.#open.delete(mark.writer);
      this.#wakeAll();
      // The mark says enough until then, and where this cannot be said it runs out.
      if (changed !== undefined && this.isUp) this.#end(mark, changed);
    };
    return { end: done, abandon: () => done(undefined) };
  }

  #unannounced(): AnnouncedWrite {
    this.#unmarked++;
    this.#isOwing = true;
    const end = (): void => {
      this.#unmarked--;
      this.#wakeAll();
      if (this.#unmarked === 0) this.#settleUnmarked();
    };
    const abandon = (): void => {
      this.#abandoned++;
      this.#wakeAll();
      setTimeout(() => {
        this.#abandoned--;
        end();
      }, this.#options.writeLease).unref();
    };
    return { end, abandon };
  }

  #settleUnmarked(): void {
    const mark = this.#unmarkedMark;
    if (mark === undefined) return;
    this.#unmarkedMark = undefined;
    if (this.isUp) this.#end(mark, mark.names);
  }

  #end(mark: CacheMark, changed: readonly string[]): void {
    const ended = this.#cache.end(mark, changed).catch((error: unknown) => this.failed(error));
    this.#ends.add(ended);
    void ended.then(() => this.#ends.delete(ended));
  }

  #failed(error: unknown): void {
    this.isUp = false;
    clearInterval(this.#beats);
    // What was standing for these in Redis may run out before they are done.
    if (this.#unmarked > 0) this.#isOwing = true;
    this.#unmarkedMark = undefined;
    if (this.#isClosed) return;
    const failure = error as SseError;
    this.#healer.ail(failure.message);
    try {
      this.#options.onError(failure);
    } catch {
      // What a listener throws is no reason to stop a send.
    }
  }

  #joinSoon(): void {
    this.#joinOnce().catch((error: unknown) => this.#failed(error));
  }

  /** While it runs no write begins. */
  #joinOnce(): Promise<void> {
    this.#joining ??= this.#join().finally(() => {
      this.#joining = undefined;
      this.#wakeAll();
    });
    return this.#joining;
  }

  async #join(): Promise<void> {
    // What comes too late of this does no harm.
    this.#learn(await this.#cache.time());
    const mark =
      this.#unmarked === 0 ? undefined : { writer: `${this.#node}.0`, names: [''], toldAt: performance.now() };
    const marks = [...this.#open.values(), ...(mark === undefined ? [] : [mark])];
    const time = await this.#cache.join(this.#node, this.#nextEnd(), this.#isOwing, marks);
    this.#learn(time);
    this.isUp = true;
    this.#isOwing = false;
    this.#unmarkedMark = mark;
    if (this.#unmarked === 0) this.#settleUnmarked();
    clearInterval(this.#beats);
    this.#beats = setInterval(() => void this.#beat(), this.#options.nodeLease / 3).unref();
  }

  /** Renews the lease, and the marks of what takes long. */
  async #beat(): Promise<void> {
    if (this.#isBeating || !this.isUp) return;
    this.#isBeating = true;
    try {
      const now = performance.now();
      const all = this.#unmarkedMark === undefined ? [] : [this.#unmarkedMark];
      const due = [...all, ...this.#open.values()].filter(({ toldAt }) => now - toldAt > this.#options.writeLease / 3);
      const time = await this.#cache.renew(this.#node, this.#nextEnd(), due);
      for (const mark of due) mark.toldAt = now;
      if (time !== false) this.#learn(time);
      else if (this.isUp) {
        this.isUp = false;
        this.#joinSoon();
      }
    } catch (error) {
      this.failed(error);
    } finally {
      this.#isBeating = false;
    }
  }

  /** Where a lease asked for now is to end, by Redis's clock: not after it ends by this node's. */
  #nextEnd(): number {
    const end = performance.now() + this.#options.nodeLease;
    this.#leaseEnd = Math.max(this.#leaseEnd, end);
    return Math.floor(this.#known.time + end - this.#known.at);
  }

  #learn(time: number): void {
    this.#known = { time, at: performance.now() };
  }

  #whenBackOrAfter(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #wakeAll(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}
