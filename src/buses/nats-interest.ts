/**
 * The keys that this node listens to: one subscription each, which lingers a while after the last client left, because the
 * next one often comes at once (a reload, a reconnect).
 */
import { isLiveOnly } from '../core/topic.js';
import type { NatsMessage, NatsSubscription } from './nats-client.js';
import { failureOf, messageOf, unavailable } from './nats-failure.js';

export interface InterestHost {
  subscribe(key: string, callback: (error: Error | null, message: NatsMessage) => void): NatsSubscription;
  /** Resolves when every later event of the key will be delivered. */
  confirm(key: string, isStillWanted: () => boolean): Promise<void>;
  arrived(key: string, message: NatsMessage): void;
  left(key: string): void;
}

interface Interest {
  subscription: NatsSubscription;
  /** Undefined once it is confirmed. */
  joining: Promise<void> | undefined;
  lingering: NodeJS.Timeout | undefined;
  refusal: Error | undefined;
}

export class NatsInterest {
  readonly #host: InterestHost;
  readonly #linger: number;
  readonly #interests = new Map<string, Interest>();

  /** `linger`: ms. */
  constructor(host: InterestHost, linger: number) {
    this.#host = host;
    this.#linger = linger;
  }

  get size(): number {
    return this.#interests.size;
  }

  join(key: string): void | Promise<void> {
    const known = this.#interests.get(key);
    if (known !== undefined) {
      clearTimeout(known.lingering);
      known.lingering = undefined;
      return known.joining;
    }
    let subscription: NatsSubscription;
    try {
      subscription = this.#subscribe(key);
    } catch (error) {
      // The connection is one that its owner closes, or lets run dry.
      this.#host.left(key);
      return Promise.reject(failureOf('nothing can be subscribed', error));
    }
    const interest: Interest = {
      subscription,
      joining: undefined,
      lingering: undefined,
      refusal: undefined,
    };
    this.#interests.set(key, interest);
    interest.joining = this.#confirm(key, interest);
    return interest.joining;
  }

  leave(key: string): void {
    const interest = this.#interests.get(key);
    if (interest === undefined) return;
    // An id of a client is never used again.
    if (isLiveOnly(key) || this.#linger === 0) {
      this.#end(key, interest);
      return;
    }
    clearTimeout(interest.lingering);
    interest.lingering = setTimeout(() => this.#end(key, interest), this.#linger);
    interest.lingering.unref();
  }

  /** Subscribes again where the server has ended a subscription; returns why it did, where it did. */
  renew(): Error[] {
    const refusals: Error[] = [];
    for (const [key, interest] of this.#interests) {
      if (interest.joining !== undefined || !interest.subscription.isClosed()) continue;
      refusals.push(interest.refusal ?? unavailable(`the server ended the subscription of ${JSON.stringify(key)}`));
      interest.subscription = this.#subscribe(key);
    }
    return refusals;
  }

  /** The server took fewer subscriptions than it was sent: those that it has not confirmed are given up. */
  refused(error: Error): void {
    for (const interest of this.#interests.values()) {
      if (interest.joining === undefined) continue;
      interest.refusal = error;
      interest.subscription.unsubscribe();
    }
  }

  close(): void {
    for (const [key, interest] of this.#interests) this.#end(key, interest);
  }

  #subscribe(key: string): NatsSubscription {
    return this.#host.subscribe(key, (error, message) => {
      if (error === null) {
        this.#host.arrived(key, message);
        return;
      }
      const interest = this.#interests.get(key);
      if (interest !== undefined) interest.refusal = error;
    });
  }

  async #confirm(key: string, interest: Interest): Promise<void> {
    try {
      await this.#host.confirm(key, () => this.#interests.get(key) === interest && !interest.subscription.isClosed());
      if (interest.subscription.isClosed() && this.#interests.get(key) === interest) {
        throw unavailable(
          `NATS refused a subscription: ${messageOf(interest.refusal ?? 'it was closed')}`,
          interest.refusal,
        );
      }
      interest.joining = undefined;
    } catch (error) {
      this.#end(key, interest);
      throw error;
    }
  }

  #end(key: string, interest: Interest): void {
    clearTimeout(interest.lingering);
    if (this.#interests.get(key) !== interest) return;
    this.#interests.delete(key);
    interest.subscription.unsubscribe();
    this.#host.left(key);
  }
}
