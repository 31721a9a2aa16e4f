/**
 * What goes out by another than the one that wrote it: messages enqueued in somebody's transaction, and those that a node had
 * stored and not published when it died. And this node's own lease, by which others know that it has not.
 *
 * Looked for at every interval, and at once where the database tells of something enqueued. Many nodes may look: the store gives
 * each message to one. A node that dies with what it was given loses its lease, and another takes over: so a message may be
 * published twice, with the same tag, by which nodes know it again.
 */
import type { MailboxHost } from '../core/mailbox.js';
import type { Outbound } from './outbound.js';
import type { Settled } from './settled.js';
import type { InboxStore } from './store.js';

/** Messages taken at once. */
const TAKEN = 256;
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
  #isHeard = false;
  #lookAt = 0;
  #renewAt = 0;
  #renewedThrough = 0;
  /** Published, and not yet said so. */
  #done: number[] = [];
  #saying: Promise<void> = Promise.resolve();

  constructor(store: InboxStore, host: MailboxHost, outbound: Outbound, settled: Settled, options: RelayOptions) {
    this.#store = store;
    this.#host = host;
    this.#outbound = outbound;
    this.#settled = settled;
    this.#options = options;
  }

  /** Takes the lease; before anything is stored. */
  async open(): Promise<void> {
    await this.#renew();
    if (!this.#host.isShared) await this.#succeed();
    await this.#learnOthers();
    await this.#learnSettled();
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
    while ((await this.#outbound.exclusively(() => this.#relaySome(now))) === TAKEN);
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
    await this.#saying;
    await this.#say();
    // What may still come to be stored is for others only while this node is not forgotten: its lease is over now.
    const leaseUntil = this.#outbound.isInDoubt ? this.#host.clock.now() : 0;
    await this.#store.renewNode(this.#host.nodeId, this.#outbound.publishedThrough, leaseUntil);
  }

  async #look(): Promise<void> {
    const isBehind = this.#outbound.publishedThrough > this.#renewedThrough && this.#host.isShared;
    if (isBehind || this.#host.clock.monotonic() >= this.#renewAt) await this.#renew();
    await this.#learnOthers();
    await this.#learnSettled();
    for (;;) {
      const count = await this.#outbound.exclusively(() => this.#relaySome());
      if (count < TAKEN || this.#isClosed) return;
    }
  }

  async #relaySome(now = this.#host.clock.now()): Promise<number> {
    const messages = await this.#store.relay({ node: this.#host.nodeId, limit: TAKEN, now });
    if (messages.length === 0) return 0;
    this.relayed += messages.length;
    await this.#outbound.publishOthers(messages, (positions) => this.#isOut(positions));
    return messages.length;
  }

  #isOut(positions: readonly number[]): void {
    this.#done.push(...positions);
    // At the end of the turn: what went out in it is one statement.
    if (this.#done.length === positions.length) {
      this.#saying = this.#saying.then(() => this.#say()).catch((error: unknown) => this.#host.report(error));
    }
  }

  async #say(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    const positions = this.#done;
    this.#done = [];
    if (positions.length === 0) return;
    try {
      await this.#store.relayed(this.#host.nodeId, positions);
    } catch (error) {
      // They would go out again only after this node's end; said with the next.
      this.#done.push(...positions);
      throw error;
    }
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
  async #learnSettled(): Promise<void> {
    if (!this.#host.isShared) return;
    const settled = this.#outbound.settledBefore(Number.MAX_SAFE_INTEGER);
    if (settled > this.#settled.position && (await this.#host.echo())) this.#settled.raise(settled);
  }

  /** Up to where everybody else has published what they stored. */
  async #learnOthers(): Promise<void> {
    // Before the question: what comes to be stored in between is not in its answer.
    const head = this.#host.isShared ? await this.#store.head() : Number.POSITIVE_INFINITY;
    const first = await this.#store.firstUnpublished(this.#host.nodeId);
    this.#outbound.othersThrough = first === 0 ? head : first - 1;
  }
}
