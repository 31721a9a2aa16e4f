/**
 * Tells the other nodes of a change, until all that are there have heard it: what a node did not answer, because it or the bus
 * was away, is told again. A node that dies is none of them after the broker's `nodeTimeout`.
 */
import type { MailboxHost } from '../core/mailbox.js';
import type { UserNotice } from './user-notice.js';

/** How often, and for how long, what was not answered is told again, in ms. */
const RETELL_MS = 1_000;
const RETELL_FOR_MS = 60_000;
/** Changes that wait for that; the oldest goes first. Counts are looked at every minute anyway. */
const MOST_UNTOLD = 1_000;

export class Telling {
  readonly #host: MailboxHost;
  /** By what they are about: the same twice is told once. */
  readonly #untold = new Map<string, number>();
  #retelling: Promise<void> | undefined = undefined;
  #retellAt = 0;

  constructor(host: MailboxHost) {
    this.#host = host;
  }

  /** Resolves when all have answered, or one has not. Never rejects. */
  async tell(notice: UserNotice): Promise<void> {
    try {
      await this.#host.askNodes(JSON.stringify(notice));
    } catch (error) {
      // A node that came and went again is no failure.
      if (notice.what !== 'welcome') this.#host.report(error);
      // What opens streams in advance is of no use later: the change itself follows.
      if (notice.what !== 'opening') this.#keep(notice);
    }
  }

  tick(monotonic: number): void {
    if (this.#untold.size === 0 || this.#retelling !== undefined || monotonic < this.#retellAt) return;
    this.#retellAt = monotonic + RETELL_MS;
    this.#retelling = this.#retell().then(() => {
      this.#retelling = undefined;
    });
  }

  #keep(notice: UserNotice): void {
    // Not what was read, by which message: pages have their counter right, and the list is old by then.
    const again = notice.what === 'read' ? { ...notice, read: undefined } : notice;
    const text = JSON.stringify(again);
    this.#untold.delete(text);
    this.#untold.set(text, this.#host.clock.monotonic() + RETELL_FOR_MS);
    const [oldest] = this.#untold.keys();
    if (this.#untold.size > MOST_UNTOLD) this.#untold.delete(oldest!);
  }

  async #retell(): Promise<void> {
    for (const [text, until] of [...this.#untold]) {
      try {
        await this.#host.askNodes(text);
      } catch {
        // Reported the first time. The others would not be answered either.
        if (this.#host.clock.monotonic() < until) return;
      }
      if (this.#untold.get(text) === until) this.#untold.delete(text);
    }
  }
}
