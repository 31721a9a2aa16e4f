/**
 * Which channel keys this node listens to: subscribes when the first client of a key comes, and no more a while after the
 * last has left. What comes in one turn is one command; one connection serves all.
 */
import { isLiveOnly } from '../core/topic.js';
import type { Subscriber } from './redis-client.js';
import { failureOf } from './redis-failure.js';
import type { Point } from './redis-store.js';
import type { Sequencer } from './sequencer.js';

/** What the interest needs of its bus. */
export interface InterestHost {
  readonly sequencer: Sequencer;
  /** False while something is wrong with Redis. */
  readonly isUp: boolean;
  channelOf(key: string): string;
  /** Where the namespace stands; asked after this call. */
  head(): Promise<Point>;
  /** The connection does not do what it should. */
  failed(reason: string): void;
  /** The node follows a history that is not that of Redis any more. */
  doubt(): void;
  error(error: unknown): void;
}

/** Channels of one command. */
const CHUNK = 1_000;

export class RedisInterest {
  readonly #host: InterestHost;
  readonly #lingerMs: number;
  readonly #timeoutMs: number;
  /** The keys that are wanted, with the join that is under way. */
  readonly #wanted = new Map<string, Promise<void> | undefined>();
  /** Keys nobody is on any more, with the time of their end. */
  readonly #left = new Map<string, number>();
  readonly #unsubscribed = new Set<string>();
  readonly #unneeded = new Set<string>();
  readonly #watchers = new Set<() => void>();
  #connection: Subscriber | undefined = undefined;
  #turn: NodeJS.Immediate | undefined = undefined;
  /** The keys that are joined in this turn share a promise. */
  #batch: { readonly keys: string[]; readonly joined: Promise<void> } | undefined = undefined;
  #subscribing: Promise<void> | undefined = undefined;
  #sweep: NodeJS.Timeout | undefined = undefined;
  #isClosed = false;

  constructor(host: InterestHost, lingerMs: number, timeoutMs: number) {
    this.#host = host;
    this.#lingerMs = lingerMs;
    this.#timeoutMs = timeoutMs;
  }

  /** Keys that are subscribed, or about to be. */
  get size(): number {
    return this.#wanted.size;
  }

  /** Resolves when every later event of the key will be delivered; rejects where Redis does not confirm in time. */
  join(key: string): Promise<void> {
    if (this.#isClosed) return Promise.reject(failureOf('the bus is closed'));
    this.#left.delete(key);
    if (this.#wanted.has(key)) return this.#wanted.get(key) ?? Promise.resolve();
    this.#unneeded.delete(key);
    this.#unsubscribed.add(key);
    this.#host.sequencer.expect(key);
    this.#batch ??= this.#newBatch();
    this.#batch.keys.push(key);
    this.#wanted.set(key, this.#batch.joined);
    this.#flushSoon();
    return this.#batch.joined;
  }

  leave(key: string): void {
    if (!this.#wanted.has(key) || this.#isClosed) return;
    // A client's own key never comes back.
    if (this.#lingerMs === 0 || isLiveOnly(key)) {
      this.#drop(key);
      return;
    }
    this.#left.set(key, performance.now() + this.#lingerMs);
    this.#sweep ??= setTimeout(() => this.#sweepNow(), this.#lingerMs).unref();
  }

  /** Subscribes all that is wanted on a new connection. Rejects where that fails. */
  async attach(connection: Subscriber): Promise<void> {
    this.#connection = connection;
    this.#unneeded.clear();
    for (const key of this.#wanted.keys()) this.#unsubscribed.add(key);
    // Another one may come while the first are on their way.
    while (this.#connection === connection && this.#unsubscribed.size > 0) await this.#subscribe(connection);
    if (this.#connection !== connection) throw failureOf('the connection was closed');
  }

  /** The connection is gone. */
  detach(): void {
    this.#connection = undefined;
    this.#subscribing = undefined;
  }

  /** Something changed that joins may wait for. */
  notify(): void {
    const watchers = [...this.#watchers];
    this.#watchers.clear();
    for (const watcher of watchers) watcher();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#sweep);
    if (this.#turn !== undefined) clearImmediate(this.#turn);
    this.detach();
    this.#wanted.clear();
    this.notify();
  }

  #newBatch() {
    const keys: string[] = [];
    const joined = new Promise<void>((resolve, reject) => {
      this.#turn ??= setImmediate(() => this.#flush());
      // In the next turn, when all keys of this one are in.
      setImmediate(() => {
        this.#batch = undefined;
        this.#complete(keys).then(resolve, (error: unknown) => {
          for (const key of keys) if (this.#wanted.get(key) === joined) this.#drop(key);
          reject(error);
        });
      });
    });
    joined.then(
      () => {
        for (const key of keys) if (this.#wanted.get(key) === joined) this.#wanted.set(key, undefined);
      },
      // Whoever asked is told.
      () => {},
    );
    return { keys, joined };
  }

  #flushSoon(): void {
    this.#turn ??= setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#turn = undefined;
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#unsubscribe(connection);
    if (this.#unsubscribed.size === 0) return;
    this.#subscribe(connection).catch((error: unknown) => {
      if (this.#connection === connection) this.#host.failed(messageOf(error));
    });
  }

  #unsubscribe(connection: Subscriber): void {
    const channels = [...this.#unneeded].map((key) => this.#host.channelOf(key));
    this.#unneeded.clear();
    for (let i = 0; i < channels.length; i += CHUNK) {
      // One that fails is of a connection that is going; what comes in for nobody is dropped.
      connection.unsubscribe(channels.slice(i, i + CHUNK)).catch(() => {});
    }
  }

  /** Subscribes what is not yet, behind what is being subscribed. */
  #subscribe(connection: Subscriber): Promise<void> {
    const keys = [...this.#unsubscribed];
    this.#unsubscribed.clear();
    const before = this.#subscribing;
    const subscribing = (async () => {
      const commands: Promise<unknown>[] = before === undefined ? [] : [before];
      const channels = keys.map((key) => this.#host.channelOf(key));
      for (let i = 0; i < channels.length; i += CHUNK) {
        commands.push(connection.subscribe(channels.slice(i, i + CHUNK)));
      }
      await withDeadline(
        Promise.all(commands),
        performance.now() + this.#timeoutMs,
        'Redis did not confirm a subscription',
      );
    })();
    this.#subscribing = subscribing;
    const settled = () => {
      if (this.#subscribing === subscribing) this.#subscribing = undefined;
      this.notify();
    };
    subscribing.then(settled, settled);
    return subscribing;
  }

  /** Subscribed is not enough: a key begins at a head that is read after that. */
  async #complete(keys: readonly string[]): Promise<void> {
    const { sequencer } = this.#host;
    const deadline = performance.now() + this.#timeoutMs;
    let rest = keys;
    for (;;) {
      rest = rest.filter((key) => this.#wanted.has(key));
      if (rest.length === 0) return;
      await this.whenReady(deadline);
      let head: Point;
      try {
        head = await this.#host.head();
      } catch (error) {
        // Redis went away: it may be back before the deadline.
        if (this.#host.isUp) throw error;
        continue;
      }
      if (!this.#isReady) continue;
      const { run, sequence } = head;
      rest = rest.filter((key) => this.#wanted.has(key) && !sequencer.join(key, run, sequence));
      if (rest.length > 0 && sequencer.isLive && run !== sequencer.epoch) this.#host.doubt();
    }
  }

  get #isReady(): boolean {
    return (
      this.#host.isUp &&
      this.#connection !== undefined &&
      this.#unsubscribed.size === 0 &&
      this.#subscribing === undefined &&
      this.#host.sequencer.isLive
    );
  }

  /** The history that this node follows may not be that of Redis any more; where it is looked into already, that will do. */
  doubt(): void {
    if (this.#isReady) this.#host.doubt();
  }

  /** Resolves when the node listens to all that is wanted and holds nothing; rejects at `deadline` of the monotonic clock. */
  async whenReady(deadline: number): Promise<void> {
    while (!this.#isReady) {
      if (this.#isClosed) throw failureOf('the bus is closed');
      let watcher: (() => void) | undefined;
      const changed = new Promise<void>((resolve) => {
        watcher = resolve;
        this.#watchers.add(resolve);
      });
      try {
        await withDeadline(changed, deadline, 'Redis is away');
      } finally {
        this.#watchers.delete(watcher!);
      }
    }
  }

  #drop(key: string): void {
    this.#wanted.delete(key);
    this.#left.delete(key);
    this.#host.sequencer.leave(key);
    if (!this.#unsubscribed.delete(key)) this.#unneeded.add(key);
    this.#flushSoon();
  }

  #sweepNow(): void {
    this.#sweep = undefined;
    const now = performance.now();
    for (const [key, end] of this.#left) {
      // In order of leaving: the rest is younger.
      if (end > now) break;
      this.#drop(key);
    }
    const [next] = this.#left.values();
    if (next !== undefined) this.#sweep = setTimeout(() => this.#sweepNow(), Math.max(1, next - now)).unref();
  }
}

/** Rejects at `deadline` (of the monotonic clock) where `promise` has not settled. */
export async function withDeadline<T>(promise: Promise<T>, deadline: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(failureOf(`${what} in time`)), Math.max(0, deadline - performance.now()));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
