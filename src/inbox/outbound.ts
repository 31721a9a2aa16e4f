/**
 * From a send to the bus: what is sent in one turn is stored in one transaction, and then published in the order of its
 * positions.
 *
 * Everything that gives positions goes through one lane, one at a time: so this node publishes in their order, and can say
 * with each message up to which position all are out. What is stored and could not be published is tried again until it is;
 * if the process dies before, other nodes do it (see relay.ts). What is stored although the store said that it failed is
 * looked for, and published like all else (see in-doubt.ts).
 */
import { isThenable } from '../core/diagnostics.js';
import { isSseError, SseError } from '../core/errors.js';
import type { MailboxHost } from '../core/mailbox.js';
import type { AudienceKind } from '../core/sender.js';
import { InDoubt } from './in-doubt.js';
import { eventOf } from './message-event.js';
import { messageTag } from './message-tag.js';
import { type Done, type Refused, RefusedMessages } from './refused.js';
import type { Appended, InboxStore, NewMessage, StoredMessage } from './store.js';

/** Messages, and characters of data, in one transaction. */
const BATCH_MESSAGES = 256;
const BATCH_CHARS = 1024 * 1024;
/** How long until what may be stored or not is looked for, in ms, and where it stays so. */
const LOOK_MS = 500;
const MAX_LOOK_MS = 8_000;

const KINDS = { user: 'user', group: 'topic', everybody: 'everybody' } as const satisfies Record<string, AudienceKind>;

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
  readonly #refused: RefusedMessages;
  /** What may be stored or not. */
  readonly #doubt: InDoubt;
  #look: NodeJS.Timeout | undefined = undefined;
  #lookMs = LOOK_MS;
  #isClosed = false;
  /** What the append under way stores comes above this; Infinity where there is none. */
  #givenBefore = Number.POSITIVE_INFINITY;
  /** The newest position that this node has stored. */
  #newest = 0;
  /** Up to where the other nodes have published everything. */
  #othersThrough = 0;
  /** Of what was stored by others up to here, and given to this node, it knows. */
  #givenThrough = Number.POSITIVE_INFINITY;
  /** The newest position that it was given. */
  #newestGiven = 0;

  constructor(store: InboxStore, host: MailboxHost, started: () => Promise<void>) {
    this.#store = store;
    this.#host = host;
    this.#started = started;
    this.#doubt = new InDoubt(store, host.clock, (error) => host.report(error));
    this.#refused = new RefusedMessages({
      store,
      publish: ({ message, position, done }) => this.#publishOne(message, position, done),
      gone: (position, done) => this.#isSettled(position, done),
    });
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
    const sorted = byPosition(messages);
    this.#newestGiven = Math.max(this.#newestGiven, sorted.at(-1)?.position ?? 0);
    await this.#publish(
      sorted,
      sorted.map(({ position }) => position),
      done,
    );
  }

  /** Everything that this node stored up to here is published. */
  get publishedThrough(): number {
    return Math.min(this.#newest, this.#firstUnpublished() - 1, this.#knownThrough);
  }

  /** Something may be stored that this node does not know of, and would have to publish. */
  get isInDoubt(): boolean {
    return !this.#doubt.isEmpty;
  }

  /** Says up to where other nodes have published all; Infinity where there are none. */
  set othersThrough(position: number) {
    this.#othersThrough = Math.max(this.#othersThrough, position);
  }

  /** The newest position that this node knows of what it has to publish, or had. */
  get newest(): number {
    return Math.max(this.#newest, this.#newestGiven);
  }

  /** Says up to where this node knows of all that it was given to publish; Infinity where it knows of everything. */
  set givenThrough(position: number) {
    this.#givenThrough = position;
  }

  /** Every message up to here is published, whoever stored it. */
  settledBefore(position: number): number {
    const through = Math.min(this.#othersThrough, this.#givenThrough, this.#knownThrough);
    return Math.max(0, Math.min(position - 1, this.#firstUnpublished() - 1, through));
  }

  /** When all that was sent is stored, and given to the bus once. */
  async close(): Promise<void> {
    // What was sent in this turn comes into the lane with the next.
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    // Where it cannot look now, others do when the lease is over.
    await this.exclusively(() => this.#settleDoubt()).catch(() => {});
    this.#isClosed = true;
    this.#refused.close();
    clearTimeout(this.#look);
  }

  /** Whatever this node has stored up to here, it knows of. */
  get #knownThrough(): number {
    return Math.min(this.#doubt.through, this.#givenBefore);
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
      const messages = batch.map(({ message }) => message);
      let appended: readonly Appended[];
      try {
        // First what is older. And where the store cannot be asked, this batch need not come into doubt, too.
        if (this.isInDoubt) void this.#publishFound(await this.#doubt.look({ isShort: true }));
        appended = await this.#append(messages);
      } catch (error) {
        for (const { reject } of batch) reject(error);
        continue;
      }
      const stored: NewMessage[] = [];
      const positions: number[] = [];
      for (let i = 0; i < appended.length; i++) {
        if (appended[i]!.isDuplicate) continue;
        stored.push(messages[i]!);
        positions.push(appended[i]!.position);
      }
      this.figures.duplicates += appended.length - stored.length;
      // What was in doubt may have been stored between this batch and the one before.
      const isOut = this.isInDoubt
        ? this.#publishFound([
            ...(await this.#foundAfter(appended)),
            ...stored.map((message, i) => ({ ...message, position: positions[i]! })),
          ])
        : this.#publishStored(stored, positions);
      // Not awaited here: the next transaction need not wait for the bus.
      void isOut.then(() => this.#settle(batch, appended));
    }
  }

  #settle(batch: readonly Waiting[], appended: readonly Appended[]): void {
    for (let i = 0; i < batch.length; i++) {
      const { eventId, isDuplicate } = appended[i]!;
      // The first is stored, and could not be read to be published: whoever asks again makes sure that it is.
      if (isDuplicate && this.#doubt.has(eventId)) batch[i]!.reject(notYetOut());
      else batch[i]!.resolve(eventId);
    }
  }

  async #append(messages: readonly NewMessage[]): Promise<Appended[]> {
    const others = Number.isFinite(this.#othersThrough) ? this.#othersThrough : 0;
    this.#givenBefore = Math.max(this.#newest, others);
    try {
      return await this.#store.append(messages, this.#host.nodeId);
    } catch (error) {
      // What refused it is done with it; what could not be reached may have stored it, or do it yet.
      const isRefused = isSseError(error) && error.code !== 'SSE_ERR_STORE_UNAVAILABLE';
      if (!isRefused) {
        this.#doubt.add(messages, this.#givenBefore);
        this.#lookMs = LOOK_MS;
        this.#lookLater();
      }
      throw error;
    } finally {
      this.#givenBefore = Number.POSITIVE_INFINITY;
    }
  }

  /** What was in doubt and is stored, as is known after an append. */
  async #foundAfter(appended: readonly Appended[]): Promise<StoredMessage[]> {
    const isNeeded = appended.some(({ eventId, isDuplicate }) => isDuplicate && this.#doubt.has(eventId));
    try {
      return await this.#doubt.look({ isShort: !isNeeded });
    } catch {
      // The next look will tell; what was just stored does not wait for it.
      return [];
    }
  }

  /** Publishes what was in doubt and is stored; in the lane. */
  async #settleDoubt(): Promise<void> {
    void this.#publishFound(await this.#doubt.look({ isShort: false }));
  }

  #lookLater(): void {
    if (this.#isClosed || this.#look !== undefined || this.#doubt.isEmpty) return;
    const pause = this.#lookMs * (0.75 + Math.random() / 2);
    this.#lookMs = Math.min(this.#lookMs * 2, MAX_LOOK_MS);
    this.#look = setTimeout(() => {
      // A store that cannot be asked is reported by those who ask it all the time, see relay.ts.
      const done = this.exclusively(() => this.#settleDoubt()).catch(() => {});
      void done.then(() => {
        this.#look = undefined;
        this.#lookLater();
      });
    }, pause).unref();
  }

  #publishFound(messages: readonly StoredMessage[]): Promise<void> {
    const sorted = byPosition(messages);
    const positions = sorted.map(({ position }) => position);
    return this.#publishStored(sorted, positions);
  }

  /** What this node has stored, by position. */
  #publishStored(messages: readonly NewMessage[], positions: readonly number[]): Promise<void> {
    this.figures.stored += messages.length;
    this.#newest = Math.max(this.#newest, positions.at(-1) ?? 0);
    return this.#publish(messages, positions, undefined);
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
    this.figures.published++;
    this.#isSettled(position, done);
  }

  /** Nobody needs to publish it any more. */
  #isSettled(position: number, done: Done | undefined): void {
    this.#unpublished.delete(position);
    done?.([position]);
  }

  #retryLater(error: unknown, refused: Refused): void {
    if (this.#isClosed) return;
    this.#host.report(error);
    this.#refused.add(refused);
  }

  #eventOf(message: NewMessage, position: number) {
    const { type, name, tenantId } = message.receiver;
    const tag = messageTag(message.eventId, { position, settled: this.settledBefore(position) });
    return this.#host.restore(eventOf(message, KINDS[type], name, tenantId === '' ? undefined : tenantId, tag));
  }
}

function notYetOut(): SseError {
  const text =
    'the message that this one is a duplicate of is stored, and could not be read to be published; send it again';
  return new SseError('SSE_ERR_STORE_UNAVAILABLE', text);
}

const byPosition = (messages: readonly StoredMessage[]): StoredMessage[] =>
  [...messages].sort((a, b) => a.position - b.position);
