/**
 * The entry `sse-broker/nats`: a bus over NATS, for brokers on many nodes.
 *
 * With JetStream one stream per namespace orders and keeps the events (nats-stream-bus.ts). Without, events only pass by
 * (nats-live-bus.ts).
 */
import type { Bus, BusReceiver, BusStatus, Head, ReadRequest, ReadResult } from '../core/bus.js';
import type { OutgoingEvent } from '../core/event.js';
import type { JetStream, NatsConnection } from './nats-client.js';
import { NatsLiveBus } from './nats-live-bus.js';
import type { NatsBusOptions, NatsPublishBuffer } from './nats-options.js';
import { NATS_BUS_DEFAULTS, resolveNatsOptions } from './nats-options.js';
import { NatsStreamBus } from './nats-stream-bus.js';

export type { JetStream, NatsBusOptions, NatsConnection, NatsPublishBuffer };
export { NATS_BUS_DEFAULTS };

/**
 * A bus over NATS. Every node has one of its own, with the same `namespace`, over a connection of the application.
 *
 * @example
 * const connection = await connect({ servers: 'nats://localhost', maxReconnectAttempts: -1 });
 * const broker = new Broker({ bus: new NatsBus({ connection, jetstream: jetstream(connection) }) });
 */
export class NatsBus implements Bus {
  readonly name = 'nats';
  readonly isShared = true;
  readonly #carrier: Bus;

  /** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
  constructor(options: NatsBusOptions) {
    const resolved = resolveNatsOptions(options);
    const { jetstream } = resolved;
    this.#carrier = jetstream === false ? new NatsLiveBus(resolved) : new NatsStreamBus(resolved, jetstream);
  }

  /**
   * Makes the stream where there is none. Rejects with `SSE_ERR_BUS_UNAVAILABLE` where NATS cannot be asked, with
   * `SSE_ERR_HISTORY_UNUSABLE` where a stream of that name cannot serve. May be called again after that.
   */
  start(receiver: BusReceiver): void | Promise<void> {
    return this.#carrier.start(receiver);
  }

  /**
   * Resolves with the id when the event is stored; without JetStream, when the server has it. Rejects with
   * `SSE_ERR_BUS_UNAVAILABLE` (the event may have been stored where an answer did not come), or with
   * `SSE_ERR_EVENT_TOO_LARGE` where it is beyond the server's `max_payload`.
   */
  publish(event: OutgoingEvent): string | Promise<string> {
    return this.#carrier.publish(event);
  }

  /** Rejects with `SSE_ERR_BUS_UNAVAILABLE` where NATS is away for longer than `requestTimeout`, or refuses. */
  join(key: string): void | Promise<void> {
    return this.#carrier.join(key);
  }

  leave(key: string): void {
    this.#carrier.leave(key);
  }

  head(): Head | Promise<Head> {
    return this.#carrier.head();
  }

  read(request: ReadRequest): ReadResult | Promise<ReadResult> {
    return this.#carrier.read(request);
  }

  status(): BusStatus {
    return this.#carrier.status();
  }

  /** Waits for answers to what was published, then lets go of the connection, which stays open. Safe to call twice. */
  async close(): Promise<void> {
    await this.#carrier.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
