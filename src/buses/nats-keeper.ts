/**
 * Keeps the bus up: looks at it now and then, and soon after every doubt; says when it went down and when it came back; lets
 * those wait for a while who come in between. What there is to look at its host knows.
 */
import type { SseError } from '../core/errors.js';
import { unavailable } from './nats-failure.js';

export interface KeeperHost {
  /** Looks whether all is as it should be, and mends it. Rejects where it is not. */
  check(): Promise<void>;
  /** All is well, perhaps again. */
  resumed(): void;
  /** Nothing goes on, perhaps still. */
  stopped(error: Error): void;
  /** The state changed. */
  changed(): void;
}

export interface KeeperOptions {
  /** ms. */
  readonly checkInterval: number;
  /** For so long somebody waits for a bus that is down. ms */
  readonly requestTimeout: number;
  /** Of a carrier that is closed for good nothing is to be expected. */
  isClosed(): boolean;
}

interface Waiting {
  resolve(): void;
  reject(error: SseError): void;
}

/** Between two looks at a bus that is down, in ms, ± a half. */
const PROBE_EVERY_MS = 1_000;

export class NatsKeeper {
  readonly #host: KeeperHost;
  readonly #options: KeeperOptions;
  readonly #waiting = new Set<Waiting>();
  #down: string | undefined = 'not started';
  #timer: NodeJS.Timeout | undefined = undefined;
  /** Of the running check; one of an older connection does not hold up the next. */
  #checking: Promise<void> | undefined = undefined;
  #isOver = false;

  constructor(host: KeeperHost, options: KeeperOptions) {
    this.#host = host;
    this.#options = options;
  }

  /** Why the bus is down; undefined where it is up. */
  get down(): string | undefined {
    return this.#down;
  }

  /** It could not begin. */
  failed(reason: string): void {
    this.#down = reason;
  }

  goUp(): void {
    this.#host.resumed();
    for (const { resolve } of [...this.#waiting]) resolve();
    if (this.#down === undefined || this.#isOver) return;
    this.#down = undefined;
    this.#host.changed();
  }

  goDown(error: Error): void {
    if (this.#isOver) return;
    this.#host.stopped(error);
    if (this.#down === error.message) return;
    this.#down = error.message;
    this.#host.changed();
  }

  /** A check that runs is of a connection that is gone. */
  disconnected(): void {
    this.#checking = undefined;
  }

  /** Looks now, or joins the look that runs. Rejects where something is wrong; the next look is arranged. */
  check(): Promise<void> {
    if (this.#checking !== undefined) return this.#checking;
    const checking = this.#host.check().then(
      () => {
        if (this.#checking === checking) this.#checking = undefined;
      },
      (error: unknown) => {
        if (this.#checking === checking) {
          this.#checking = undefined;
          this.goDown(error as Error);
        }
        throw error;
      },
    );
    this.#checking = checking;
    return checking;
  }

  /** Looks in `ms`, instead of when it would have. */
  schedule(ms = this.#nextCheck()): void {
    clearTimeout(this.#timer);
    if (this.#isOver) return;
    this.#timer = setTimeout(() => {
      if (this.#options.isClosed()) return;
      this.schedule();
      this.check().then(
        () => this.schedule(),
        () => this.schedule(),
      );
    }, ms);
    this.#timer.unref();
  }

  /** Waits until the bus is up, for a while: who comes during a short interruption is served after it. */
  up(): Promise<void> {
    if (this.#isOver) return Promise.reject(unavailable('the bus is closed'));
    if (this.#down === undefined) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(waiting);
      };
      const waiting: Waiting = {
        resolve: () => {
          settle();
          resolve();
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      };
      const giveUp = () => waiting.reject(unavailable(`NATS is not available: ${this.#down}`));
      const timer = setTimeout(giveUp, this.#options.requestTimeout);
      this.#waiting.add(waiting);
    });
  }

  /** Looks no more, and nobody waits any more. The state stays what it is until {@link closed}. */
  stop(reason: SseError): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    for (const { reject } of [...this.#waiting]) reject(reason);
  }

  closed(): void {
    this.#down = 'closed';
  }

  #nextCheck(): number {
    const { checkInterval } = this.#options;
    if (this.#down === undefined) return checkInterval * (0.9 + Math.random() * 0.2);
    return Math.min(PROBE_EVERY_MS, checkInterval) * (0.5 + Math.random());
  }
}
