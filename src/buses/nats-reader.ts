/** What a client that comes back is given: history after its id, from memory where this node has seen all of it. */
import type { ReadRequest, ReadResult } from '../core/bus.js';
import { isLiveOnly } from '../core/topic.js';
import type { NatsEpochs } from './nats-epochs.js';
import type { NatsHistory } from './nats-history.js';
import { replaced, type StreamView } from './nats-stream.js';
import type { Sequencer } from './sequencer.js';

export class NatsReader {
  readonly #history: NatsHistory;
  readonly #sequencer: Sequencer;
  readonly #epochs: NatsEpochs;
  readonly #look: () => Promise<StreamView>;

  /** `look`: the stream as it is now. */
  constructor(history: NatsHistory, sequencer: Sequencer, epochs: NatsEpochs, look: () => Promise<StreamView>) {
    this.#history = history;
    this.#sequencer = sequencer;
    this.#epochs = epochs;
    this.#look = look;
  }

  /** Rejects where history was dropped or replaced while it was read: who asks again is told. */
  async read({ keys, after, limit, max }: ReadRequest): Promise<ReadResult> {
    const stored = keys.filter((key) => !isLiveOnly(key));
    const own = this.#ownView(stored, after);
    const view = own ?? (await this.#look());
    const head = this.#epochs.headOf(view);
    const cursor = this.#epochs.cursorOf(after, view);
    if (typeof cursor === 'string') return { events: [], more: false, head, loss: cursor, completeAfter: head.id };
    const { entries, lostThrough: lost } = await this.#history.select(view, stored, () => cursor, own !== undefined);
    const skipped = max > 0 ? Math.max(0, entries.length - max) : 0;
    const lostThrough = skipped === 0 ? lost : Math.max(lost, entries[skipped - 1]!.sequence);
    const page = entries.slice(skipped, skipped + limit);
    const events = await this.#history.load(page);
    // Events of one stream under the head of another: a client would go on from where it never was.
    if (this.#epochs.of(view) !== this.#sequencer.epoch) throw replaced();
    const more = entries.length > skipped + page.length;
    // A page of rubbish only: the next one is asked for by the id of an event.
    if (more && events.length === 0) {
      const last = page[page.length - 1]!.sequence;
      return this.read({ keys, after: `${this.#epochs.of(view)}-${last}`, limit, max });
    }
    if (lostThrough <= cursor) return { events, more, head };
    const completeAfter = `${this.#epochs.of(view)}-${lostThrough}`;
    return { events, more, head, loss: this.#history.reason(view), completeAfter };
  }

  /**
   * The stream as far as it has gone by here, where this node knows all that keys have after a cursor: then nobody need be
   * asked, and thousands that come back read from memory. What is newer goes by after this, so the reader gets it live.
   */
  #ownView(keys: readonly string[], after: string): StreamView | undefined {
    const { view } = this.#epochs;
    if (!this.#sequencer.isLive || this.#epochs.of(view) !== this.#sequencer.epoch) return undefined;
    const own = { ...view, last: Math.max(this.#sequencer.position, this.#sequencer.verified) };
    const cursor = this.#epochs.cursorOf(after, own);
    return typeof cursor === 'number' && this.#history.covers(keys, cursor) ? own : undefined;
  }
}
