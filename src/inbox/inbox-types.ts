/** What an {@link Inbox} is given, takes and gives: the shapes of its public methods. The class is in inbox.ts. */
import type { Broker } from '../core/broker.js';
import type { EventMap, Priority } from '../core/event.js';
import type { Presence } from './presence.js';
import type { InboxStore, MessageStatus } from './store.js';

/** Options of `new Inbox(options)`. Durations are in milliseconds. */
export interface InboxOptions<Events extends EventMap = Record<string, unknown>> {
  /** Carries messages to those who are online, and delivers what waits when they connect. One inbox per broker. */
  broker: Broker<Events>;
  /** Where messages wait. All nodes that share it must share the broker's bus too. It stays the caller's to close. */
  store: InboxStore;
  /**
   * Asked by {@link Inbox.isOnline}, and told of the users of this node; such as a {@link RedisPresence}, of this inbox alone. Default:
   * what the broker knows.
   */
  presence?: Presence | undefined;
  /** Name of the event that tells a user's streams their unread count. Default `unread`; false: none is sent. */
  unreadEvent?: string | false | undefined;
  /**
   * How long a stream must have taken what it was handed, in ms, before its device counts as served where it does not come back
   * and say so. Default 5 000.
   */
  deviceGrace?: number | undefined;
  /** Silence in ms after which another node publishes what this one has stored and not published. Default 15 000. */
  nodeLease?: number | undefined;
  /** How often enqueued messages and those of dead nodes are looked for, in ms, ± a quarter. Default 1 000. */
  relayInterval?: number | undefined;
  /** How long a message is kept after its user has read it, in ms. Default 7 days; 0: for ever. */
  keepRead?: number | undefined;
  /** How long any message is kept, read or not, in ms. Default 90 days; 0: for ever. */
  keepMessages?: number | undefined;
  /** How often messages are cleaned up, in ms, ± a quarter. Default 60 000; 0: only when {@link Inbox.cleanup} is called. */
  cleanupInterval?: number | undefined;
  /**
   * How long the cursor of a device is kept that does not come, in ms. Default 90 days; 0: for ever. A device that comes later gets
   * what is unread, as a new one does.
   */
  deviceTtl?: number | undefined;
  /**
   * Most devices of a user in a tenant whose cursors are kept. With one more, that one is forgotten that did not come for longest.
   * Default 50; 0: no limit.
   */
  maxDevicesPerUser?: number | undefined;
  /** Most subscriptions of a user in a tenant; {@link Inbox.subscribe} refuses one more. Default 1 000; 0: no limit. */
  maxSubscriptionsPerUser?: number | undefined;
}

/** Options of every send method. */
export interface InboxSendOptions {
  /** Orders what waits: at a connect, and in the queue of a slow client. Default `normal`. */
  priority?: Priority | undefined;
  /** False: only to who is connected now, as the broker's own send methods; nothing is stored. Default true. */
  persist?: boolean | undefined;
  /** How long the message is worth delivering, in ms from the call; 0 is for ever. Default 0. */
  ttl?: number | undefined;
  /**
   * A second send with the same key, in the same tenant, stores and publishes nothing and resolves to the id of the first, for as
   * long as that is kept. At most 128 characters. Not with `persist: false`.
   */
  dedupKey?: string | undefined;
  /**
   * What a second send with a `dedupKey` is that is another message: to somebody else, or of another event, data, priority or
   * ttl. `ignore`: it resolves to the id of the first as well. `reject`: it rejects with `SSE_ERR_IDEMPOTENCY_CONFLICT`. Default
   * `ignore`.
   */
  dedupConflict?: 'ignore' | 'reject' | undefined;
  /** Only readers of this tenant; without it, those of every tenant and of none. */
  tenantId?: string | undefined;
}

/** Whom an enqueued message is for. */
export type InboxReceiver = { readonly userId: string } | { readonly group: string } | { readonly everybody: true };

/** In which tenant a user is meant. */
export interface InboxTenantOptions {
  /** Default: none; then only what was sent without a tenant is theirs. */
  tenantId?: string | undefined;
}

/** Options of {@link Inbox.pending}. */
export interface PendingOptions extends InboxTenantOptions {
  /** Id of the message after which to go on; as in the message, or the SSE id it came with. */
  after?: string | undefined;
  /** Most messages, 1 to 1 000. Default 100. */
  limit?: number | undefined;
}

/** A message that waits. */
export interface InboxMessage {
  readonly id: string;
  readonly event: string;
  /** As it was sent: parsed where it was JSON. */
  readonly data: unknown;
  readonly priority: Priority;
  /** `pending` until a device of the user has it, `sent` from then on; to a group or everybody always `sent`. */
  readonly status: MessageStatus;
  /** Present where it was sent to a group. */
  readonly group?: string | undefined;
  /** True where it was sent to everybody. */
  readonly isBroadcast: boolean;
  /** ms since 1970. */
  readonly createdAt: number;
  /** ms since 1970; 0 for never. */
  readonly expiresAt: number;
}

/** What {@link Inbox.markRead} marks: some, all up to one (what is not newer than it), or all. Ids as in {@link PendingOptions.after}. */
export type MarkReadSelection = readonly string[] | { readonly upTo: string } | 'all';

/** A durable subscription of a user. */
export interface InboxSubscription {
  readonly group: string;
  /** Absent: all types. */
  readonly eventTypes?: readonly string[] | undefined;
  /** Absent: in no tenant, so it takes what was sent without one. */
  readonly tenantId?: string | undefined;
}

/** Figures of an inbox on this node. */
export interface InboxStats {
  /** Messages stored, duplicates not counted. */
  readonly stored: number;
  /** Sends that were duplicates by their `dedupKey`. */
  readonly duplicates: number;
  /** Messages given to the bus, those of other nodes and enqueued ones included. */
  readonly published: number;
  /** Of those: enqueued, or stored by a node that died. */
  readonly relayed: number;
  /** Messages delivered at connects. */
  readonly backlogged: number;
  /** Messages deleted by cleaning. */
  readonly cleaned: number;
}

/**
 * The public face of {@link Inbox}, which implements it.
 *
 * Every method may reject with `SSE_ERR_STORE_UNAVAILABLE` (retryable), `SSE_ERR_BROKER_CLOSED` (after close), and for names
 * `SSE_ERR_INVALID_USER`, `SSE_ERR_INVALID_TOPIC` (a group), `SSE_ERR_INVALID_TENANT`, and for options and selections
 * `SSE_ERR_INVALID_OPTION`; the send methods and `enqueue` also with `SSE_ERR_INVALID_EVENT_NAME`, `SSE_ERR_RESERVED_EVENT_NAME`,
 * `SSE_ERR_INVALID_DATA`, `SSE_ERR_EVENT_TOO_LARGE`, `SSE_ERR_TOPICS_DISABLED` (groups); `pending` and `markRead({ upTo })` with
 * `SSE_ERR_UNKNOWN_MESSAGE` (404) where there is no message of that id for the user.
 */
export interface InboxApi<Events extends EventMap = Record<string, unknown>> {
  /** Prepares store and relay. Implied by the first call of any other method; calling it again gives the same promise. */
  start(): Promise<void>;
  /** Resolves to the message's id when it is stored, and published or sure to be. With `persist: false`: the event's id. */
  sendToUser<Name extends keyof Events & string>(
    userId: string,
    event: Name,
    data: Events[Name],
    options?: InboxSendOptions,
  ): Promise<string>;
  /** To who is subscribed, and live to every client that has the topic of that name. Stored once. */
  sendToGroup<Name extends keyof Events & string>(
    group: string,
    event: Name,
    data: Events[Name],
    options?: InboxSendOptions,
  ): Promise<string>;
  /** To every user. Stored once. */
  broadcast<Name extends keyof Events & string>(
    event: Name,
    data: Events[Name],
    options?: InboxSendOptions,
  ): Promise<string>;
  /**
   * Writes within the caller's own transaction `tx`; goes out after its commit. Resolves to the message's id. It is part of the
   * transaction that is open at the call, though its end should wait for it; that of an SQLite handle may not.
   */
  enqueue<Name extends keyof Events & string>(
    tx: unknown,
    receiver: InboxReceiver,
    event: Name,
    data: Events[Name],
    options?: Omit<InboxSendOptions, 'persist' | 'dedupConflict'>,
  ): Promise<string>;
  /** Unread, unexpired messages, the oldest first. */
  pending(userId: string, options?: PendingOptions): Promise<InboxMessage[]>;
  /** Resolves to how many changed; ids of others' messages, and of those that are read, change nothing. */
  markRead(userId: string, selection: MarkReadSelection, options?: InboxTenantOptions): Promise<number>;
  unreadCount(userId: string, options?: InboxTenantOptions): Promise<number>;
  /**
   * Whether the user has a stream: on any node where the bus is one that nodes share, or there is a `presence`, else on this one. With
   * a `tenantId` in that tenant, without in any or none. Where presence cannot be asked: what the broker knows.
   */
  isOnline(userId: string, options?: InboxTenantOptions): Promise<boolean>;
  /**
   * Makes or replaces a subscription; live streams have it when this resolves. True where it was new. Rejects with
   * `SSE_ERR_TOO_MANY_TOPICS` (409) where the user has `maxSubscriptionsPerUser` already.
   */
  subscribe(
    userId: string,
    group: string,
    eventTypes?: readonly string[],
    options?: InboxTenantOptions,
  ): Promise<boolean>;
  /** Resolves to true where there was one. Its messages are not unread any more. */
  unsubscribe(userId: string, group: string, options?: InboxTenantOptions): Promise<boolean>;
  subscriptions(userId: string, options?: InboxTenantOptions): Promise<InboxSubscription[]>;
  /**
   * Deletes messages that expired, were read long ago, or are old, and forgets devices that did not come for `deviceTtl`, in small
   * steps; resolves to how many messages. Runs by itself as well.
   */
  cleanup(): Promise<number>;
  getStats(): InboxStats;
  /** Stops; what is under way is finished first. Broker and store stay open. May be called twice. */
  close(): Promise<void>;
}
