/** Whether the joined keys have all that the stream has of them: also those on which nothing follows that would say so. */
import { isLiveOnly } from '../core/topic.js';
import { inParallel, type NatsHistory } from './nats-history.js';
import { pause } from './nats-pause.js';
import type { Sequencer } from './sequencer.js';

/** Joined keys that are looked at in one go, and the rest between two goes: 500 questions a second. */
const VERIFY_KEYS = 250;
const VERIFY_PAUSE_MS = 500;
/** For so long an event that is stored may be on its way. */
const IN_FLIGHT_MS = 300;

export class NatsVerifier {
  readonly #history: NatsHistory;
  readonly #sequencer: Sequencer;
  #isVerifying = false;
  #joins = 0;

  constructor(history: NatsHistory, sequencer: Sequencer) {
    this.#history = history;
    this.#sequencer = sequencer;
  }

  /** A key that is joined while others are looked at is not looked at. */
  joined(): void {
    this.#joins++;
  }

  /**
   * Resolves with true where all is here through `last`, the newest sequence of `epoch` when this was called. Where something
   * is missing, and does not come, it is recovered. Never rejects: who asks again sees what is wrong.
   */
  async verify(epoch: string, last: number): Promise<boolean> {
    if (this.#isVerifying || last <= this.#sequencer.verified) return false;
    this.#isVerifying = true;
    try {
      const joins = this.#joins;
      const behind = await this.#behind();
      if (behind.length > 0) {
        await this.#recoverStuck(behind);
        return false;
      }
      return joins === this.#joins && epoch === this.#sequencer.epoch && this.#sequencer.isLive;
    } catch {
      return false;
    } finally {
      this.#isVerifying = false;
    }
  }

  async #behind(): Promise<string[]> {
    const keys = [...this.#sequencer.keys()].filter((key) => !isLiveOnly(key));
    const behind: string[] = [];
    for (let i = 0; i < keys.length; i += VERIFY_KEYS) {
      if (i > 0) await pause(VERIFY_PAUSE_MS);
      behind.push(...(await this.#behindOf(keys.slice(i, i + VERIFY_KEYS))));
    }
    return behind;
  }

  async #behindOf(keys: readonly string[]): Promise<string[]> {
    const behind: string[] = [];
    await inParallel(keys, async (key) => {
      const newest = await this.#history.newest(key);
      if (newest > (this.#sequencer.seen(key) ?? newest)) behind.push(key);
    });
    return behind;
  }

  /** What was on its way has come after a while; what has not moved lacks something. */
  async #recoverStuck(behind: readonly string[]): Promise<void> {
    await pause(IN_FLIGHT_MS);
    const seen = new Map<string, number | undefined>();
    for (const key of behind) seen.set(key, this.#sequencer.seen(key));
    const still = await this.#behindOf(behind);
    if (still.some((key) => this.#sequencer.seen(key) === seen.get(key))) await this.#sequencer.recover();
  }
}
