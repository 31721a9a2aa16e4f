/**
 * The life of a broker's bus: started by the first who needs it, tried again after it failed, closed with a deadline.
 */

import type { Bus, BusReceiver, Head } from './bus.js';
import { withinMs } from './deadline.js';
import { isThenable } from './diagnostics.js';
import { busFailure } from './errors.js';

/** What it needs of the broker. */
export interface BusLifeHost {
  readonly bus: Bus;
  readonly receiver: BusReceiver;
  /** What comes right after the bus has started; undefined for nothing. */
  readonly opened: (() => Promise<void>) | undefined;
  /** The bus could not be started, or not be closed. */
  failed(error: unknown): void;
}

const IDLE = 0;
const RUNNING = 1;
const OVER = 2;

export class BusLife {
  readonly #host: BusLifeHost;
  #state = IDLE;
  #started: void | Promise<void> = undefined;
  #isMissing = false;

  constructor(host: BusLifeHost) {
    this.#host = host;
  }

  get isRunning(): boolean {
    return this.#state === RUNNING;
  }

  /** The bus could not be started, and nobody has got it to since. */
  get isMissing(): boolean {
    return this.#isMissing;
  }

  /** Starts the bus, unless that is done; after a failure the next call tries again. Undefined where there is nothing to wait for. */
  start(): void | Promise<void> {
    if (this.#state !== IDLE) return this.#started;
    this.#state = RUNNING;
    const { bus, receiver, opened } = this.#host;
    let started: void | Promise<void>;
    try {
      started = bus.start(receiver);
    } catch (error) {
      started = Promise.reject(error);
    }
    if (opened !== undefined) started = isThenable(started) ? started.then(opened) : opened();
    if (isThenable(started)) {
      started = started.then(undefined, (cause: unknown) => {
        throw busFailure(`bus ${bus.name} could not be started`, cause);
      });
      this.#started = started;
      started.then(
        () => {
          this.#started = undefined;
          this.#isMissing = false;
        },
        (error: unknown) => {
          this.#isMissing = true;
          if (this.#state === RUNNING) this.#state = IDLE;
          this.#started = undefined;
          this.#host.failed(error);
        },
      );
    } else {
      this.#isMissing = false;
    }
    return this.#started;
  }

  /** Where the bus stands, where that can be known at once: later events do not wait for an answer. */
  headNow(): Head | undefined {
    try {
      const head = this.#host.bus.head();
      if (!isThenable(head)) return head;
      head.then(undefined, () => {});
    } catch {
      // It has just lost something; that it does not know its head either is no news.
    }
    return undefined;
  }

  /** It is not started any more. True where it was. */
  end(): boolean {
    const wasRunning = this.isRunning;
    this.#state = OVER;
    return wasRunning;
  }

  /**
   * Closes the bus, after `goodbye`. One that cannot close, or takes for ever, does not keep the process: the streams are
   * ended.
   */
  async close(goodbye: Promise<void> | undefined, timeoutMs: number): Promise<void> {
    const { bus } = this.#host;
    const deadline = performance.now() + timeoutMs;
    if (goodbye !== undefined) await withinMs(goodbye, timeoutMs / 2);
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`bus ${bus.name} did not close within ${timeoutMs} ms`)),
        Math.max(0, deadline - performance.now()),
      );
    });
    try {
      await Promise.race([bus.close(), timeout]);
    } catch (error) {
      this.#host.failed(error);
    } finally {
      clearTimeout(timer);
    }
  }
}
