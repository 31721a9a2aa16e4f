/**
 * What goes out by another than the one that wrote it: messages enqueued in somebody's transaction, and those that a node had
 * stored and not published when it died. And this node's own lease, by which others know that it has not.
 *
 * Looked for at every interval, and at once where the database tells of something enqueued. Many nodes may look: the store gives
 * each message to one. A node that dies with what it was given loses its lease, and another takes over: so a message may be
 * published twice, with the same tag, by which nodes know it again.
 */
import { withinMs } from '../core/deadline.js';
import type { MailboxHost } from '../core/mailbox.js';
import type { Outbound } from './outbound.js';
import type { Settled } from './settled.js';
import type { InboxStore, StoredMessage } from './store.js';

/** Messages taken at once. */
const TAKEN = 256;
/** Of more than these the bus has to take some before more are taken. */
const MOST_GIVEN = 4 * TAKEN;
/** How long what was asked for without an answer may yet be carried out, in ms. */
const DOUBT_MS = 5 * 60_000;
/** How long closing waits for the bus to take what was taken, in ms. */
const CLOSE_MS = 1_000;
/** No node asks for a longer lease, in ms. */
const FOREIGN_LEASE_MS = 60 * 60_000;

export interface RelayOptions {
  readonly relayInterval: number;
  readonly nodeLease: number;
}

export class Relay {
  /** Messages that went out by this node, and that others had written. */
  relayed = 0;
  readonly #store: InboxStore;
  readonly #host: MailboxHost;
  readonly #outbound: Outbound;
  readonly #settled: Settled;
  readonly #options: RelayOptions;
  #stopHearing: (() => Promise<void>) | undefined = undefined;
  #isClosed = false;
  #running: Promise<void> | undefined = undefined;
  #learning: Promise<void> | undefined = undefined;
  #isHeard = false;
  #lookAt = 0;
  #renewAt = 0;
  #renewedThrough = 0;
  /** Taken, and not yet said to be out. */
  readonly #given = new Set<number>();
  /** Of those, what is published. */
  #done: number[] = [];
  #saying: Promise<void> | undefined = undefined;
  /** What is being published. */
  #publishing: Promise<unknown> = Promise.resolve();
  #isFull = false;
  /** Until then an answer that got lost may be about messages which nobody else gets. */
  #doubtUntil = 0;
  /** All is said. */
  #isOver = false;

  constructor(store: InboxStore, host: MailboxHost, outbound: Outbound, settled: Settled, options: RelayOptions) {
    this.#store = store;
    this.#host = host;
    this.#outbound = outbound;
    this.#settled = settled;
    this.#options = options;
  }

  /** It may have been given messages without knowing. */
  get isInDoubt(): boolean {
    return this.#host.clock.monotonic() < this.#doubtUntil;
  }

  /** Takes the lease; before anything is stored. */
  async open(): Promise<void> {
    await this.#renew();
    if (!this.#host.isShared) await this.#succeed();
    await this.#learnOthers();
    await this.#learnSettled();
  }

  /** Hears of what is enqueued; after all that may fail, for it needs an end. */
  async listen(): Promise<void> {
    this.#stopHearing = await this.#store.onEnqueued?.(() => {
      this.#isHeard = true;
      this.tick();
    });
  }

  /**
   * On a bus of its own a node is the only one there is, and follows on those that were: what they may have left is published
   * now, not after their leases, so that it is settled before anything new.
   */
  async #succeed(): Promise<void> {
    const now = this.#host.clock.now() + Math.max(FOREIGN_LEASE_MS, this.#options.nodeLease);
    for (let isMore = true; isMore; ) {
      isMore = await this.#outbound.exclusively(() => this.#relaySome(now));
      await this.#publishing;
    }
  }

  /** Called often: does what is due. */
  tick(): void {
    if (this.#running !== undefined || this.#isClosed) return;
    const now = this.#host.clock.monotonic();
    if (!this.#isHeard && now < this.#lookAt) return;
    this.#isHeard = false;
    this.#lookAt = now + this.#options.relayInterval * (0.75 + Math.random() / 2);
    this.#running = this.#look()
      .catch((error: unknown) => this.#host.report(error))
      .finally(() => {
        this.#running = undefined;
        if (this.#isHeard) this.tick();
      });
  }

  /** Says that this node ends: what it has not published is for others. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#stopHearing?.();
    await this.#running;
    await withinMs(this.#publishing, CLOSE_MS);
    await this.#saying;
    this.#isOver = true;
    await this.#say();
    // What may still come to be stored is for others only while this node is not forgotten: its lease is over now.
    const leaseUntil = this.#outbound.isInDoubt ? this.#host.clock.now() : 0;
    await this.#store.renewNode(this.#host.nodeId, this.#outbound.publishedThrough, leaseUntil);
  }

  async #look(): Promise<void> {
    const isAsked = this.#host.isShared || this.isInDoubt;
    const isBehind = this.#outbound.publishedThrough > this.#renewedThrough && isAsked;
    if (isBehind || this.#host.clock.monotonic() >= this.#renewAt) await this.#renew();
    await this.#learnOthers();
    // Not awaited: a bus that is away may keep the question until it is back.
    void this.#learnSettled();
    if (this.#done.length > 0) this.#sayLater();
    for (let isMore = true; isMore && !this.#isClosed; ) {
      this.#isFull = this.#given.size >= MOST_GIVEN;
      isMore = !this.#isFull && (await this.#outbound.exclusively(() => this.#relaySome()));
    }
  }

  /** Takes some, and begins to publish them: in the lane, which a bus that takes its time must not hold up. True: there may be more. */
  async #relaySome(now = this.#host.clock.now()): Promise<boolean> {
    const { clock, nodeId: node } = this.#host;
    const again = this.isInDoubt;
    // Asked again, the store gives these as well.
    const known = new Set(this.#given);
    const limit = again ? TAKEN + known.size : TAKEN;
    let messages: StoredMessage[];
    try {
      messages = await this.#store.relay({ node, limit, now, ...(again && { again }) });
    } catch (error) {
      this.#doubtUntil = clock.monotonic() + DOUBT_MS;
      this.#outbound.givenThrough = this.#outbound.newest;
      throw error;
    }
    const fresh = messages.filter(({ position }) => !known.has(position));
    if (fresh.length === 0) return false;
    this.relayed += fresh.length;
    for (const { position } of fresh) this.#given.add(position);
    const isOut = this.#outbound.publishOthers(fresh, (positions) => this.#isOut(positions));
    this.#publishing = Promise.all([this.#publishing, isOut]);
    return fresh.length >= TAKEN;
  }

  #isOut(positions: readonly number[]): void {
    if (this.#isOver) return;
    this.#done.push(...positions);
    this.#sayLater();
  }

  #sayLater(): void {
    this.#saying ??= this.#say()
      .catch((error: unknown) => this.#host.report(error))
      .finally(() => {
        this.#saying = undefined;
        if (!this.#isFull || this.#given.size >= TAKEN) return;
        this.#isHeard = true;
        this.tick();
      });
  }

  async #say(): Promise<void> {
    do {
      // At the end of the turn: what went out in it is one statement.
      await new Promise((resolve) => setImmediate(resolve));
      const positions = this.#done;
      this.#done = [];
      if (positions.length === 0) return;
      try {
        await this.#store.relayed(this.#host.nodeId, positions);
      } catch (error) {
        // They would go out again only after this node's end; said with the next look.
        this.#done.push(...positions);
        throw error;
      }
      for (const position of positions) this.#given.delete(position);
    } while (this.#done.length > 0);
  }

  async #renew(): Promise<void> {
    const { clock, nodeId } = this.#host;
    const { nodeLease } = this.#options;
    const through = this.#outbound.publishedThrough;
    await this.#store.renewNode(nodeId, through, clock.now() + nodeLease);
    this.#renewedThrough = through;
    this.#renewAt = clock.monotonic() + nodeLease / 3;
  }

  /**
   * What is settled is learned from messages that come by; with none, by asking the bus: what was published before an echo has
   * come to this node when the echo has.
   */
  #learnSettled(): Promise<void> {
    this.#learning ??= this.#askBus()
      .catch((error: unknown) => this.#host.report(error))
      .finally(() => {
        this.#learning = undefined;
      });
    return this.#learning;
  }

  async #askBus(): Promise<void> {
    if (!this.#host.isShared) return;
    const settled = this.#outbound.settledBefore(Number.MAX_SAFE_INTEGER);
    if (settled > this.#settled.position && (await this.#host.echo())) this.#settled.raise(settled);
  }

  /** Up to where everybody else has published what they stored. */
  async #learnOthers(): Promise<void> {
    const { isInDoubt } = this;
    // Before the question: what comes to be stored in between is not in its answer.
    const head = this.#host.isShared || isInDoubt ? await this.#store.head() : Number.POSITIVE_INFINITY;
    // Nobody's name: what this node was given without knowing counts as well.
    const first = await this.#store.firstUnpublished(isInDoubt ? '' : this.#host.nodeId);
    const through = first === 0 ? head : first - 1;
    this.#outbound.othersThrough = through;
    this.#outbound.givenThrough = isInDoubt ? through : Number.POSITIVE_INFINITY;
  }
}
