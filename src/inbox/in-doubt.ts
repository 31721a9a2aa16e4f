/**
 * Messages of appends that failed without an answer: the database may have stored them, or may do so yet. They are looked for by
 * their ids; what is found was stored by this node, and is for it to publish. Looking stores nothing: who sent them was told that
 * they failed, and sends them again or does not.
 */
import type { Clock } from '../core/clock.js';
import { SseError } from '../core/errors.js';
import type { InboxStore, NewMessage, StoredMessage } from './store.js';

/** Ids that are kept in mind: of more, the oldest are given up. */
const LIMIT = 10_000;
/** How long they are looked for, in ms: longer than a database lets a statement wait for a lock. */
const DOUBT_MS = 5 * 60_000;
/** Of more appends than these, a look that must be short does not look for any. */
const FEW = 16;

/** The messages of one append, which are stored together or not at all. */
interface Batch {
  readonly eventIds: readonly string[];
  /** Is there if any of them is; undefined where each may be a duplicate of another message. */
  readonly witness: string | undefined;
  readonly until: number;
}

export class InDoubt {
  readonly #store: InboxStore;
  readonly #clock: Clock;
  readonly #report: (error: unknown) => void;
  #batches: Batch[] = [];
  readonly #eventIds = new Set<string>();
  #through = 0;

  constructor(store: InboxStore, clock: Clock, report: (error: unknown) => void) {
    this.#store = store;
    this.#clock = clock;
    this.#report = report;
  }

  get isEmpty(): boolean {
    return this.#batches.length === 0;
  }

  /** None of them has a position up to here, or will. */
  get through(): number {
    return this.isEmpty ? Number.POSITIVE_INFINITY : this.#through;
  }

  has(eventId: string): boolean {
    return this.#eventIds.has(eventId);
  }

  /** The append of these failed; it began when positions up to `through` had been given. */
  add(messages: readonly NewMessage[], through: number): void {
    this.#through = Math.min(this.through, through);
    const eventIds = messages.map(({ eventId }) => eventId);
    this.#batches.push({ eventIds, witness: witnessOf(messages), until: this.#clock.monotonic() + DOUBT_MS });
    for (const eventId of eventIds) this.#eventIds.add(eventId);
    while (this.#eventIds.size > LIMIT) this.#giveUp();
  }

  /**
   * Gives what is stored: from now on the caller's to publish. Not while an append of this node is under way. Rejects
   * where the store cannot be asked; then all is as it was. `isShort`: looks for none where there are many.
   *
   * What is not found may yet come: its statement may wait for a lock, in a driver's queue or on the network, and nothing that is
   * stored later proves that it has ended. But positions are given in the order of commits: what was not there after the head was
   * read comes above that head, if ever. So others' messages need not wait for it.
   */
  async look({ isShort }: { readonly isShort: boolean }): Promise<StoredMessage[]> {
    if (this.isEmpty) return [];
    const head = await this.#store.head();
    const isSkipped = isShort && this.#batches.length > FEW;
    // Whatever was stored since would have moved the head.
    const isSearched = head > this.#through && !isSkipped;
    const found: StoredMessage[] = [];
    const settled = new Set<Batch>();
    for (const batch of isSearched ? this.#batches : []) {
      const there = await this.#find(batch);
      if (there.length > 0) settled.add(batch);
      found.push(...there);
    }
    if (!isSkipped) {
      this.#through = Math.max(this.#through, head);
      const now = this.#clock.monotonic();
      for (const batch of this.#batches) if (batch.until <= now) settled.add(batch);
    }
    this.#batches = this.#batches.filter((batch) => !settled.has(batch));
    for (const { eventIds } of settled) for (const eventId of eventIds) this.#eventIds.delete(eventId);
    return found;
  }

  async #find({ eventIds, witness }: Batch): Promise<StoredMessage[]> {
    if (witness !== undefined && (await this.#store.find(witness)) === undefined) return [];
    const found: StoredMessage[] = [];
    for (const eventId of eventIds) {
      const message = await this.#store.find(eventId);
      if (message !== undefined) found.push(message);
    }
    return found;
  }

  #giveUp(): void {
    const { eventIds } = this.#batches.shift()!;
    for (const eventId of eventIds) this.#eventIds.delete(eventId);
    const text = `too many messages may be stored or not: ${eventIds.length} of them, if they are, come only with what waits`;
    this.#report(new SseError('SSE_ERR_STORE_UNAVAILABLE', text));
  }
}

/** The one that is cleaned up last, of those that are known by nothing but their ids. */
function witnessOf(messages: readonly NewMessage[]): string | undefined {
  const end = ({ expiresAt }: NewMessage): number => (expiresAt === 0 ? Number.POSITIVE_INFINITY : expiresAt);
  let last: NewMessage | undefined;
  for (const message of messages) {
    if (message.dedupKey === undefined && (last === undefined || end(message) > end(last))) last = message;
  }
  return last?.eventId;
}
