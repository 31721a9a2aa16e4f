/** Changes of subscriptions: in the store, and on the streams that are there, of every node (see group-changes.ts). */
import { v7 as uuid } from 'uuid';
import { checkSubscriptionLimit } from './message-check.js';
import type { InboxStore } from './store.js';
import type { Streams } from './streams.js';
import type { SubscriptionKey } from './user-notice.js';

export class Subscribing {
  readonly #store: InboxStore;
  readonly #streams: Streams;
  /** Most subscriptions of a user in a tenant; 0: any number. */
  readonly #limit: number;

  constructor(store: InboxStore, streams: Streams, limit: number) {
    this.#store = store;
    this.#streams = streams;
    this.#limit = limit;
  }

  async subscribe(of: SubscriptionKey, eventTypes: readonly string[] | undefined): Promise<boolean> {
    await this.#checkLimit(of);
    const change = uuid();
    // Streams first: what is stored for the user from the moment of the subscription on comes live to all of them.
    await this.#streams.tell({ what: 'opening', ...of, change, eventTypes });
    try {
      const isNew = await this.#store.subscribe(of.userId, of.tenantId, of.group, eventTypes, this.#limit);
      await this.#streams.tell({ what: 'changed', ...of, change });
      return isNew;
    } catch (error) {
      // Whether it is stored is not known: the streams ask.
      void this.#streams.tell({ what: 'changed', ...of, change });
      throw error;
    }
  }

  /** Before any stream opens the group for one that the store is going to refuse; of several at once, the store knows. */
  async #checkLimit({ userId, tenantId, group }: SubscriptionKey): Promise<void> {
    if (this.#limit === 0) return;
    // One that cannot be asked is to say so itself.
    const own = await this.#store.subscriptions({ userId, tenants: [tenantId] }).catch(() => []);
    if (!own.some((one) => one.group === group)) checkSubscriptionLimit(own.length, this.#limit);
  }

  async unsubscribe(of: SubscriptionKey): Promise<boolean> {
    try {
      const was = await this.#store.unsubscribe(of.userId, of.tenantId, of.group);
      if (was) await this.#streams.tell({ what: 'changed', ...of });
      return was;
    } catch (error) {
      void this.#streams.tell({ what: 'changed', ...of });
      throw error;
    }
  }
}
