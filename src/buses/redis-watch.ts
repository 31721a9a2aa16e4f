/**
 * Whether this node has everything: asked after every doubt, and now and then for nothing.
 *
 * One question tells where Redis stands, whether it still has what the node has seen, and which keys have something newer. It
 * also sends a barrier through Pub/Sub: when that comes in, the connection on which the node listens is alive, and all that
 * was published before has come in too.
 */
import type { BusEvent } from '../core/event.js';
import { HistoryReplaced, type RedisHistory } from './redis-history.js';
import { withDeadline } from './redis-interest.js';
import type { Look, LookRequest, RedisStore } from './redis-store.js';
import type { Recovery, RecoveryRequest, Sequencer } from './sequencer.js';

/** Most channel keys whose changes are listed in one answer, unless the node has joined more. */
const LISTED_KEYS = 2_000;

/** What the watch needs of its bus. */
export interface WatchHost {
  readonly store: RedisStore;
  readonly history: RedisHistory;
  readonly sequencer: Sequencer;
  /** Where the barriers of this node come in. */
  readonly barrierChannel: string;
  /** False while something is wrong with Redis. */
  readonly isUp: boolean;
  /** Redis failed: it is looked after. */
  failed(error: unknown): void;
  /** The node holds events until somebody tries again. */
  stuck(reason: string): void;
  /** The connection for listening does not bring what was published. */
  deaf(reason: string): void;
}

interface Barrier {
  readonly request: { readonly channel: string; readonly text: string };
  passed(): Promise<void>;
}

export class RedisWatch {
  readonly #host: WatchHost;
  readonly #timeoutMs: number;
  readonly #checkIntervalMs: number;
  readonly #barriers = new Map<string, () => void>();
  #barrierCount = 0;
  #timer: NodeJS.Timeout | undefined = undefined;
  #isClosed = false;
  readonly #told = new WeakSet<object>();
  /** Recoveries so far. */
  recoveries = 0;

  constructor(host: WatchHost, options: { readonly commandTimeout: number; readonly checkInterval: number }) {
    this.#host = host;
    this.#timeoutMs = options.commandTimeout;
    this.#checkIntervalMs = options.checkInterval;
  }

  /** A message on the barrier channel. */
  arrived(text: string): void {
    this.#barriers.get(text)?.();
  }

  /** Begins to check now and then. */
  start(): void {
    if (this.#isClosed) return;
    this.#timer = setTimeout(
      () => {
        this.#check()
          // It has been told as the state of the bus.
          .catch(() => {})
          .then(() => this.start());
      },
      this.#checkIntervalMs * (0.8 + Math.random() * 0.4),
    ).unref();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /** What the sequencer asks for. */
  async recover(request: RecoveryRequest): Promise<Recovery> {
    this.recoveries++;
    try {
      const recovery = await this.#readMissed(request);
      return recovery.pages === undefined ? recovery : { ...recovery, pages: this.#looked(recovery.pages) };
    } catch (error) {
      this.#fell(error);
      throw error;
    }
  }

  /** The pages are read while they are delivered: where that fails, the node holds events as well. */
  async *#looked(pages: NonNullable<Recovery['pages']>): AsyncGenerator<readonly BusEvent[]> {
    try {
      yield* pages;
    } catch (error) {
      this.#fell(error);
      throw error;
    }
  }

  /** Whether it has been told as the state of the bus. */
  hasTold(error: unknown): boolean {
    return this.#told.has(error as object);
  }

  #fell(error: unknown): void {
    if (error instanceof Error) this.#told.add(error);
    // That Redis began another history under a recovery says nothing against publishing.
    if (!(error instanceof HistoryReplaced)) this.#host.failed(error);
    this.#host.stuck((error as Error).message);
  }

  async #readMissed(request: RecoveryRequest): Promise<Recovery> {
    const { history } = this.#host;
    const look = await this.#lookBehindBarrier((barrier) =>
      this.#host.store.look({
        follows: { run: request.epoch, sequence: request.position },
        barrier,
        changedAfter: request.verified,
        limit: this.#listed,
      }),
    );
    if (!look.isContained) {
      history.forget();
      return history.recoverAll(request, look, await history.newestOf(request.keys(), look.forgotten));
    }
    const isListed = look.changed !== undefined && look.forgotten <= request.verified;
    const newest = isListed ? look.changed! : await history.newestOf(request.keys(), look.forgotten);
    return history.recover(request, look, newest);
  }

  /** Whether everything is here, without stopping anything: a quiet topic shows its losses nowhere else. */
  async #check(): Promise<void> {
    const { sequencer, history } = this.#host;
    if (!this.#host.isUp || !sequencer.isLive) return;
    const { verified, epoch } = sequencer;
    const follows = { run: epoch, sequence: sequencer.position };
    const isOurs = (look: Look) => look.isContained && look.run === epoch && look.forgotten <= verified;
    const first = await this.#lookBehindBarrier(
      (barrier) => this.#look({ follows, barrier, changedAfter: verified, limit: this.#listed }),
      isOurs,
    );
    let newest = isOurs(first) ? first.changed : undefined;
    if (isOurs(first) && newest === undefined) {
      // Too many to list: the joined ones are asked for, and looked at when all of these have come in.
      newest = await history.newestOf(sequencer.keys(), first.forgotten);
      await this.#lookBehindBarrier((barrier) => this.#look({ follows, barrier }));
    }
    if (!sequencer.isLive || sequencer.epoch !== epoch) return;
    let isBehind = newest === undefined;
    for (const [key, sequence] of newest ?? []) if (sequence > (sequencer.seen(key) ?? sequence)) isBehind = true;
    if (isBehind) await sequencer.recover();
    else sequencer.verify(first.sequence);
  }

  get #listed(): number {
    return Math.max(LISTED_KEYS, 2 * this.#host.sequencer.size);
  }

  async #look(request: LookRequest): Promise<Look> {
    try {
      return await this.#host.store.look(request);
    } catch (error) {
      this.#host.failed(error);
      throw error;
    }
  }

  /** `mustPass`: whether that answer is worth the wait for what was published before it. */
  async #lookBehindBarrier(
    look: (barrier: Barrier['request']) => Promise<Look>,
    mustPass: (answer: Look) => boolean = () => true,
  ): Promise<Look> {
    const barrier = this.#newBarrier();
    try {
      const answer = await look(barrier.request);
      if (mustPass(answer)) await barrier.passed();
      return answer;
    } finally {
      this.#barriers.delete(barrier.request.text);
    }
  }

  /** A message that comes in behind all that was published before it. */
  #newBarrier(): Barrier {
    const text = String(++this.#barrierCount);
    const arrived = new Promise<void>((resolve) => this.#barriers.set(text, resolve));
    return {
      request: { channel: this.#host.barrierChannel, text },
      passed: async () => {
        const deadline = performance.now() + this.#timeoutMs;
        try {
          await withDeadline(arrived, deadline, 'what was published did not come in');
        } catch (error) {
          this.#host.deaf((error as Error).message);
          throw error;
        }
      },
    };
  }
}
