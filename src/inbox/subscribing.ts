/**
 * Changes of subscriptions: in the store, and on the streams that are there.
 *
 * Changes of one user's subscription to one group take turns in this process, as each has two halves: of two at once, one
 * would win in the store and the other on the streams. Other processes take no turns with this one, so where there may be
 * any, what is stored is told once more after the write.
 */
import type { MailboxHost } from '../core/mailbox.js';
import type { InboxStore } from './store.js';
import type { Streams } from './streams.js';

/** Whose subscription to what. */
export interface SubscriptionKey {
  readonly userId: string;
  readonly tenantId: string;
  readonly group: string;
}

export class Subscribing {
  readonly #store: InboxStore;
  readonly #host: MailboxHost;
  readonly #streams: Streams;
  /** The last change of each subscription that is being changed; never rejects. */
  readonly #turns = new Map<string, Promise<void>>();

  constructor(store: InboxStore, host: MailboxHost, streams: Streams) {
    this.#store = store;
    this.#host = host;
    this.#streams = streams;
  }

  subscribe(of: SubscriptionKey, eventTypes: readonly string[] | undefined): Promise<boolean> {
    return this.#inTurn(of, async () => {
      // Streams first: what is stored for the user from the moment of the subscription on comes live to all of them.
      await this.#streams.tell({ what: 'subscribe', ...of, eventTypes });
      const isNew = await this.#store.subscribe(of.userId, of.tenantId, of.group, eventTypes);
      if (this.#host.isShared) await this.#tellStored(of);
      return isNew;
    });
  }

  unsubscribe(of: SubscriptionKey): Promise<boolean> {
    return this.#inTurn(of, async () => {
      const was = await this.#store.unsubscribe(of.userId, of.tenantId, of.group);
      if (was && this.#host.isShared) await this.#tellStored(of);
      else if (was) await this.#streams.tell({ what: 'unsubscribe', ...of });
      return was;
    });
  }

  /** Never rejects: the change is made. */
  async #tellStored(of: SubscriptionKey): Promise<void> {
    const { userId, tenantId, group } = of;
    try {
      const all = await this.#store.subscriptions({ userId, tenants: [tenantId] });
      const stored = all.find((one) => one.group === group && one.tenantId === tenantId);
      if (stored === undefined) await this.#streams.tell({ what: 'unsubscribe', ...of });
      else await this.#streams.tell({ what: 'subscribe', ...of, eventTypes: stored.eventTypes });
    } catch (error) {
      this.#host.report(error);
      void this.#streams.tell({ what: 'reload', ...of });
    }
  }

  /** Runs it when the changes of the same subscription before it are through. */
  #inTurn(of: SubscriptionKey, change: () => Promise<boolean>): Promise<boolean> {
    const key = JSON.stringify([of.userId, of.tenantId, of.group]);
    const before = this.#turns.get(key) ?? Promise.resolve();
    const result = before.then(change).catch((error: unknown) => {
      // Whether it is stored is not known: the streams ask.
      void this.#streams.tell({ what: 'reload', ...of });
      throw error;
    });
    const turn = result
      .then(
        () => {},
        () => {},
      )
      .then(() => {
        if (this.#turns.get(key) === turn) this.#turns.delete(key);
      });
    this.#turns.set(key, turn);
    return result;
  }
}
