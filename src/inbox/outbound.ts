/**
 * From a send to the bus: what is sent in one turn is stored in one transaction, and then published in the order of its
 * positions.
 *
 * Everything that gives positions goes through one lane, one at a time: so this node publishes in their order, and can say
 * with each message up to which position all are out. What is stored and could not be published is tried again until it is;
 * if the process dies before, other nodes do it (see relay.ts).
 */
import { isThenable } from '../core/diagnostics.js';
import type { MailboxHost } from '../core/mailbox.js';
import type { AudienceKind } from '../core/sender.js';
import { messageTag } from './message-tag.js';
import type { Appended, InboxStore, NewMessage, StoredMessage } from './store.js';

/** Messages, and characters of data, in one transaction. */
const BATCH_MESSAGES = 256;
const BATCH_CHARS = 1024 * 1024;
/** How long until what the bus refused is tried again, in ms. */
const RETRY_MS = 500;

const KINDS = { user: 'user', group: 'topic', everybody: 'everybody' } as const satisfies Record<string, AudienceKind>;

/** Told the positions of what is out. */
type Done = (positions: readonly number[]) => void;

interface Refused {
  readonly message: NewMessage;
  readonly position: number;
  readonly done: Done | undefined;
}

interface Waiting {
  readonly message: NewMessage;
  readonly resolve: (id: string) => void;
  readonly reject: (error: unknown) => void;
}

/** What is counted. */
export interface OutboundFigures {
  stored: number;
  duplicates: number;
  published: number;
}

export class Outbound {
  readonly figures: OutboundFigures = { stored: 0, duplicates: 0, published: 0 };
  readonly #store: InboxStore;
  readonly #host: MailboxHost;
  readonly #started: () => Promise<void>;
  #waiting: Waiting[] = [];
  #lane: Promise<unknown> = Promise.resolve();
  #isScheduled = false;
  /** Positions of what is stored, and not published yet. */
  readonly #unpublished = new Set<number>();
  /** They were added in the order of their positions, the last of them this one: the first is the smallest. */
  #isInOrder = true;
  #lastUnpublished = 0;
  /** What the bus would not take, to be tried again. */
  #refused: Refused[] = [];
  #retry: NodeJS.Timeout | undefined = undefined;
  #isClosed = false;
  /** The newest position that this node has stored. */
  #newest = 0;
  /** Up to where the other nodes have published everything. */
  #othersThrough = 0;

  constructor(store: InboxStore, host: MailboxHost, started: () => Promise<void>) {
    this.#store = store;
    this.#host = host;
    this.#started = started;
  }

  /** Stores and publishes; resolves to the id, which is that of an earlier message where this one is a duplicate. */
  send(message: NewMessage): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ message, resolve, reject });
      if (this.#isScheduled) return;
      this.#isScheduled = true;
      // At the end of the turn, or when the lane is free: what comes until then shares the transaction.
      setImmediate(() => void this.#begin());
    });
  }

  /** Runs `work` alone in the lane: nothing else gives positions meanwhile. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#lane.then(work);
    this.#lane = done.catch(() => {});
    return done;
  }

  /** Publishes what was stored by somebody else, in the lane; resolves when it is out, or is sure to be tried again. */
  async publishOthers(messages: readonly StoredMessage[], done: Done): Promise<void> {
    const sorted = [...messages].sort((a, b) => a.position - b.position);
    await this.#publish(
      sorted,
      sorted.map(({ position }) => position),
      done,
    );
  }

  /** Everything that this node stored up to here is published. */
  get publishedThrough(): number {
    const first = this.#firstUnpublished();
    return first === Number.POSITIVE_INFINITY ? this.#newest : Math.min(this.#newest, first - 1);
  }

  /** Says up to where other nodes have published all; Infinity where there are none. */
  set othersThrough(position: number) {
    this.#othersThrough = Math.max(this.#othersThrough, position);
  }

  /** Every message up to here is published, whoever stored it. */
  settledBefore(position: number): number {
    return Math.max(0, Math.min(position - 1, this.#firstUnpublished() - 1, this.#othersThrough));
  }

  /** When all that was sent is stored, and given to the bus once. */
  async close(): Promise<void> {
    // What was sent in this turn comes into the lane with the next.
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    await this.exclusively(async () => {});
    this.#isClosed = true;
    clearTimeout(this.#retry);
  }

  #firstUnpublished(): number {
    let first = Number.POSITIVE_INFINITY;
    for (const position of this.#unpublished) {
      if (position < first) first = position;
      if (this.#isInOrder) break;
    }
    return first;
  }

  #unpublishedIs(position: number): void {
    // What a dead node left is older than what this one has stored.
    this.#isInOrder = this.#unpublished.size === 0 || (this.#isInOrder && position > this.#lastUnpublished);
    this.#lastUnpublished = position;
    this.#unpublished.add(position);
  }

  /** Not in the lane yet: starting needs it. */
  async #begin(): Promise<void> {
    try {
      await this.#started();
    } catch (error) {
      this.#isScheduled = false;
      for (const { reject } of this.#waiting.splice(0)) reject(error);
      return;
    }
    await this.exclusively(() => this.#storeSome());
  }

  async #storeSome(): Promise<void> {
    this.#isScheduled = false;
    while (this.#waiting.length > 0) {
      const batch = this.#takeBatch();
      let appended: readonly Appended[];
      try {
        appended = await this.#store.append(
          batch.map(({ message }) => message),
          this.#host.nodeId,
        );
      } catch (error) {
        for (const { reject } of batch) reject(error);
        continue;
      }
      const stored: NewMessage[] = [];
      const positions: number[] = [];
      for (let i = 0; i < appended.length; i++) {
        if (appended[i]!.isDuplicate) continue;
        stored.push(batch[i]!.message);
        positions.push(appended[i]!.position);
      }
      this.figures.stored += stored.length;
      this.figures.duplicates += appended.length - stored.length;
      this.#newest = Math.max(this.#newest, positions.at(-1) ?? 0);
      const isOut = this.#publish(stored, positions, undefined);
      const settle = (): void => {
        for (let i = 0; i < batch.length; i++) batch[i]!.resolve(appended[i]!.eventId);
      };
      // Not awaited here: the next transaction need not wait for the bus.
      isOut.then(settle, settle);
    }
  }

  #takeBatch(): Waiting[] {
    let count = 0;
    let chars = 0;
    while (count < this.#waiting.length && count < BATCH_MESSAGES && chars < BATCH_CHARS) {
      chars += this.#waiting[count++]!.message.data.length;
    }
    return this.#waiting.splice(0, count);
  }

  /** Gives them to the bus, in this order. Never rejects: what the bus refuses is kept and tried again. */
  async #publish(messages: readonly NewMessage[], positions: readonly number[], done: Done | undefined): Promise<void> {
    // All at once, before the first is given: what is out is said of those before it only.
    for (const position of positions) this.#unpublishedIs(position);
    const underWay: PromiseLike<void>[] = [];
    for (let i = 0; i < messages.length; i++) {
      const isOut = this.#publishOne(messages[i]!, positions[i]!, done);
      if (isOut !== undefined) underWay.push(isOut);
    }
    if (underWay.length > 0) await Promise.all(underWay);
  }

  /** A bus of this process has it when this returns: the next message says so. */
  #publishOne(message: NewMessage, position: number, done: Done | undefined): PromiseLike<void> | undefined {
    const { expiresAt } = message;
    try {
      // Nobody would get one that has expired.
      const isDue = expiresAt === 0 || expiresAt > this.#host.clock.now();
      const published = isDue ? this.#host.publish(this.#eventOf(message, position)) : undefined;
      if (isThenable(published)) {
        return published.then(
          () => this.#isOut(position, done),
          (error: unknown) => this.#retryLater(error, { message, position, done }),
        );
      }
      this.#isOut(position, done);
    } catch (error) {
      this.#retryLater(error, { message, position, done });
    }
    return undefined;
  }

  #isOut(position: number, done: Done | undefined): void {
    this.#unpublished.delete(position);
    this.figures.published++;
    done?.([position]);
  }

  #retryLater(error: unknown, refused: Refused): void {
    if (this.#isClosed) return;
    this.#host.report(error);
    this.#refused.push(refused);
    this.#retry ??= setTimeout(
      () => {
        this.#retry = undefined;
        const again = this.#refused.sort((a, b) => a.position - b.position);
        this.#refused = [];
        void this.exclusively(async () => {
          for (const { message, position, done } of again) await this.#publishOne(message, position, done);
        });
      },
      RETRY_MS * (0.75 + Math.random() / 2),
    ).unref();
  }

  #eventOf(message: NewMessage, position: number) {
    const { eventId, receiver, event, data, json, createdAt, expiresAt, priority } = message;
    const { type, name, tenantId } = receiver;
    return this.#host.restore({
      kind: KINDS[type],
      name,
      tenantId: tenantId === '' ? undefined : tenantId,
      event,
      data,
      json,
      timestamp: createdAt,
      expiresAt,
      priority,
      tag: messageTag(eventId, { position, settled: this.settledBefore(position) }),
    });
  }
}
