/** The send methods, in every spelling: what a Broker, one tenant of it, and a publisher have in common. */
import type { EventMap, EventName, PublishOptions } from './event.js';

/** The event-bus spelling of {@link Sender.sendToTopic}. */
export interface BusMessage<Events extends EventMap, Name extends EventName<Events>> {
  /** The event name. */
  readonly type: Name;
  /** The topic. */
  readonly channel: string;
  readonly data: Events[Name];
  /** When it happened: ms since 1970 or a Date. Default: now. */
  readonly timestamp?: number | Date | undefined;
}

/** Kinds of {@link Audience}. */
export type AudienceKind = 'user' | 'topic' | 'client' | 'everybody';

/**
 * Every method resolves with the event id once the event has its place in the order (and is stored, where the bus keeps
 * history); it does not wait for clients. `data` is serialised at the call: changing it afterwards changes nothing. A
 * rejection that nobody awaits does not harm the process; each one also reaches the `error` event.
 *
 * Errors: `SSE_ERR_INVALID_EVENT_NAME`, `SSE_ERR_RESERVED_EVENT_NAME`, `SSE_ERR_INVALID_DATA`,
 * `SSE_ERR_EVENT_TOO_LARGE`, `SSE_ERR_INVALID_OPTION`, `SSE_ERR_INVALID_TENANT`, `SSE_ERR_BROKER_CLOSED`,
 * `SSE_ERR_BUS_UNAVAILABLE` (retryable), and those of each method.
 */
export abstract class Sender<Events extends EventMap = Record<string, unknown>> {
  /** To all connections of a user. Also rejects with `SSE_ERR_INVALID_USER`. */
  sendToUser<Name extends EventName<Events>>(
    userId: string,
    event: Name,
    data: Events[Name],
    options?: PublishOptions,
  ): Promise<string> {
    return this.publishTo('user', userId, event, data, options);
  }

  /** To all clients that have a topic. Also rejects with `SSE_ERR_INVALID_TOPIC`, `SSE_ERR_TOPICS_DISABLED`. */
  sendToTopic<Name extends EventName<Events>>(
    topic: string,
    event: Name,
    data: Events[Name],
    options?: PublishOptions,
  ): Promise<string> {
    return this.publishTo('topic', topic, event, data, options);
  }

  /** To every client. */
  broadcast<Name extends EventName<Events>>(
    event: Name,
    data: Events[Name],
    options?: PublishOptions,
  ): Promise<string> {
    return this.publishTo('everybody', '', event, data, options);
  }

  /**
   * To one connection. It lives and ends with the connection: a client that reconnects has a new id, and these
   * events are not replayed. Also rejects with `SSE_ERR_INVALID_CLIENT`, `SSE_ERR_UNKNOWN_CLIENT`.
   */
  sendToClient<Name extends EventName<Events>>(
    clientId: string,
    event: Name,
    data: Events[Name],
    options?: PublishOptions,
  ): Promise<string> {
    return this.publishTo('client', clientId, event, data, options);
  }

  /** {@link sendToTopic} as an event bus spells it; "channel" means topic. */
  publish<Name extends EventName<Events>>(message: BusMessage<Events, Name>): Promise<string> {
    // Something that is no message is refused like any other bad call: by a rejection.
    const { type, channel, data, timestamp } = message ?? ({} as BusMessage<Events, Name>);
    return this.publishTo('topic', channel, type, data, { timestamp });
  }

  protected abstract publishTo(
    kind: AudienceKind,
    name: string,
    event: string,
    data: unknown,
    options: PublishOptions | undefined,
  ): Promise<string>;
}
