/**
 * The part of the NATS client that we call, so that any of its transports (Node, Deno, WebSocket) and versions fits. The
 * application makes, configures and closes what these types stand for.
 */

/** Headers of a message that came in. */
export interface NatsHeaders {
  /** Empty where there is none of that name. */
  get(name: string): string;
}

/** A message that came in. */
export interface NatsMessage {
  readonly subject: string;
  readonly data: Uint8Array;
  readonly headers?: NatsHeaders | undefined;
}

export interface NatsSubscription {
  unsubscribe(): void;
  isClosed(): boolean;
}

/** A connection: `connect()` of `@nats-io/transport-node`. */
export interface NatsConnection {
  /** Absent while it is not connected. */
  readonly info?: { readonly version: string; readonly max_payload: number } | undefined;
  publish(subject: string, payload: Uint8Array): void;
  subscribe(subject: string, options: { callback(error: Error | null, message: NatsMessage): void }): NatsSubscription;
  /** Resolves when the server has read everything that was written before. */
  flush(): Promise<void>;
  isClosed(): boolean;
  closed(): Promise<unknown>;
  status(): AsyncIterable<NatsStatus>;
}

/** What happens to a connection. */
export interface NatsStatus {
  readonly type: string;
  /** Of the type `error`. */
  readonly error?: Error;
}

/** What is published besides the payload. */
export interface NatsPublishOptions {
  /** The server drops a second message with the same one. */
  readonly msgID?: string;
  /** ms. */
  readonly timeout?: number;
  readonly headers?: unknown;
  readonly expect?: { readonly streamName?: string };
}

/** JetStream: `jetstream(connection)` of `@nats-io/jetstream`. */
export interface JetStream {
  publish(subject: string, payload?: Uint8Array, options?: NatsPublishOptions): Promise<{ readonly seq: number }>;
  /** `false`: without asking the server whether there is a JetStream. */
  jetstreamManager(checkAPI: boolean): Promise<JetStreamManager>;
  readonly consumers: {
    getConsumerFromInfo(info: NatsConsumerInfo): {
      fetch(options: { max_messages: number; expires: number }): Promise<AsyncIterable<NatsConsumerMessage>>;
    };
  };
}

export interface NatsConsumerInfo {
  readonly name: string;
  /** Messages that it has still to give. */
  readonly num_pending: number;
}

export interface NatsConsumerMessage {
  readonly seq: number;
  readonly subject: string;
  /** Messages that follow, and how many there were with this one. */
  readonly info: { readonly pending: number; readonly deliverySequence: number };
}

/** A message as the stream keeps it. */
export interface NatsStoredMessage {
  readonly seq: number;
  readonly subject: string;
  readonly data: Uint8Array;
  readonly time: Date;
}

export interface NatsStreamInfo {
  readonly config: {
    readonly subjects?: readonly string[];
    readonly storage?: string;
    readonly num_replicas?: number;
    readonly max_msgs_per_subject?: number;
    /** ns. */
    readonly max_age?: number;
    readonly max_bytes?: number;
    readonly allow_direct?: boolean;
    readonly allow_rollup_hdrs?: boolean;
    readonly republish?: { readonly src?: string; readonly dest?: string } | undefined;
  };
  /** When it was made, to the nanosecond. */
  readonly created: string;
  readonly state: { readonly messages: number; readonly first_seq: number; readonly last_seq: number };
}

/** A question for one message. */
export type NatsMessageQuery =
  | { readonly seq: number }
  | { readonly last_by_subj: string }
  | { readonly seq: number; readonly next_by_subj: string };

export interface JetStreamManager {
  readonly streams: {
    add(config: object & { name: string }): Promise<NatsStreamInfo>;
    update(name: string, config: object): Promise<NatsStreamInfo>;
    info(name: string): Promise<NatsStreamInfo>;
    getMessage(name: string, query: never): Promise<NatsStoredMessage | null>;
  };
  readonly direct: {
    getMessage(name: string, query: never): Promise<NatsStoredMessage | null>;
  };
  readonly consumers: {
    add(stream: string, config: object): Promise<NatsConsumerInfo>;
    delete(stream: string, consumer: string): Promise<unknown>;
  };
}
