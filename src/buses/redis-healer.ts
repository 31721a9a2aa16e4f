/**
 * Gets well again by trying, with pauses that no two nodes share: when a Redis comes back, a thousand nodes must not be there
 * in the same instant. The first try falls anywhere into half a second; every failure doubles that, up to five seconds.
 */

const FIRST_WINDOW_MS = 500;
const LAST_WINDOW_MS = 5_000;

/** What a healer needs. */
export interface HealerHost {
  /** One try; rejects with the reason why it failed. */
  heal(): Promise<void>;
  /** {@link RedisHealer.reason} has changed. */
  changed(): void;
}

export class RedisHealer {
  readonly #host: HealerHost;
  #reason: string | undefined = undefined;
  #timer: NodeJS.Timeout | undefined = undefined;
  #isTrying = false;
  /** Something went wrong while a try ran: its success says nothing about that. */
  #isWorse = false;
  #failures = 0;
  #isClosed = false;

  constructor(host: HealerHost) {
    this.#host = host;
  }

  /** What is wrong; undefined where nothing is. */
  get reason(): string | undefined {
    return this.#reason;
  }

  /** Something is wrong. */
  ail(reason: string): void {
    if (this.#isClosed) return;
    this.#isWorse = true;
    this.#tell(reason);
    this.#trySoon();
  }

  /** There is news that makes the next try worth more: it comes as soon as the first would. */
  hurry(): void {
    if (this.#timer === undefined || this.#failures === 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#failures = 0;
    this.#trySoon();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #trySoon(): void {
    if (this.#timer !== undefined || this.#isTrying || this.#isClosed) return;
    const window = Math.min(LAST_WINDOW_MS, FIRST_WINDOW_MS * 2 ** this.#failures);
    // The first anywhere in its window, the later ones in its second half: a Redis that is away is not asked all the time.
    const least = this.#failures === 0 ? 0 : 0.5;
    this.#timer = setTimeout(() => void this.#try(), window * (least + Math.random() * (1 - least)));
    this.#timer.unref();
  }

  async #try(): Promise<void> {
    this.#timer = undefined;
    this.#isTrying = true;
    this.#isWorse = false;
    let reason: string | undefined;
    try {
      await this.#host.heal();
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
    }
    this.#isTrying = false;
    if (this.#isClosed) return;
    if (reason === undefined && !this.#isWorse) {
      this.#failures = 0;
      this.#tell(undefined);
      return;
    }
    this.#failures++;
    if (reason !== undefined) this.#tell(reason);
    this.#trySoon();
  }

  #tell(reason: string | undefined): void {
    if (this.#reason === reason) return;
    this.#reason = reason;
    this.#host.changed();
  }
}
