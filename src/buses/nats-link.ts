/**
 * The connection as the bus sees it: there, gone, back, or closed for good by its owner. Never closes it, and leaves no
 * listener behind.
 */
import type { NatsConnection, NatsStatus } from './nats-client.js';

/** What a server says whose `max_subscriptions` is reached; what a user may not subscribe the client tells by itself. */
const TOO_MANY = /maximum subscriptions/i;

export interface LinkHost {
  /** Nothing comes in or goes out. */
  disconnected(reason: string): void;
  /** It is there again, and its subscriptions are. */
  reconnected(): void;
  /** The server did not take a subscription, and did not say which: one of those that were on their way. */
  refused(error: Error): void;
}

export class NatsLink {
  readonly #connection: NatsConnection;
  readonly #host: LinkHost;
  #statuses: AsyncIterable<NatsStatus> | undefined = undefined;

  constructor(connection: NatsConnection, host: LinkHost) {
    this.#connection = connection;
    this.#host = host;
  }

  /** Tells what happens from here on. */
  start(): void {
    if (this.#statuses !== undefined) return;
    const statuses = this.#connection.status();
    this.#statuses = statuses;
    void this.#watch(statuses);
    this.#connection.closed().then((error) => {
      if (this.#statuses !== statuses) return;
      const cause = error instanceof Error ? ` (${error.message})` : '';
      this.#host.disconnected(`the NATS connection was closed${cause}; it does not come back`);
    });
  }

  stop(): void {
    const statuses = this.#statuses as { stop?: () => void } | undefined;
    this.#statuses = undefined;
    // Else the client would keep what happens for a listener that never asks again.
    statuses?.stop?.();
  }

  async #watch(statuses: AsyncIterable<NatsStatus>): Promise<void> {
    for await (const { type, error } of statuses) {
      if (this.#statuses !== statuses) return;
      if (type === 'disconnect') this.#host.disconnected('disconnected from NATS');
      else if (type === 'reconnect') this.#host.reconnected();
      else if (type === 'error' && TOO_MANY.test(error?.message ?? '')) this.#host.refused(error!);
    }
  }
}
