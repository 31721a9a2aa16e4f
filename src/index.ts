/** The root entry of `sse-broker`: the broker, the handlers, and the contracts to extend them. */

export { Broker } from './core/broker.js';
export type { Bus, BusReceiver, BusStatus, Head, Loss, LossReason, ReadRequest, ReadResult } from './core/bus.js';
export { EVENT_ID } from './core/bus.js';
export type { DisconnectReason } from './core/client.js';
export type { Clock } from './core/clock.js';
export type { NodeInfo, NodeLeaveReason, NodeStats } from './core/cluster.js';
export type { NodeFigures } from './core/cluster-message.js';
export type { ConnectRequest } from './core/connecting.js';
export type {
  BrokerEventName,
  BrokerEvents,
  BrokerListener,
  ClientInfo,
  ErrorOrigin,
  PublishedEvent,
} from './core/diagnostics.js';
export type { ErrorCode, SseErrorOptions } from './core/errors.js';
export { ERROR_CODES, isSseError, SseError } from './core/errors.js';
export type {
  BusEvent,
  EventMap,
  EventName,
  OutgoingEvent,
  Priority,
  PriorityLevel,
  PublishOptions,
  Serializer,
} from './core/event.js';
export type { Encoded } from './core/frame.js';
export type { Gap, GapReason } from './core/gap.js';
export type { Identity } from './core/identity.js';
export type { MemoryBusOptions } from './core/memory-bus.js';
export { MemoryBus } from './core/memory-bus.js';
export type { BrokerOptions, Logger, OverflowPolicy, ResolvedOptions } from './core/options.js';
export { DEFAULT_OPTIONS } from './core/options.js';
export type { ClusterPresence, OnlineUser, UserConnection } from './core/presence.js';
export type { PublisherEventName, PublisherOptions, PublisherStats } from './core/publisher.js';
export { createPublisher, Publisher } from './core/publisher.js';
export type { BusMessage } from './core/sender.js';
export { Sender } from './core/sender.js';
export type { CloseOptions, CloseResult } from './core/shutdown.js';
export type { Sink, SinkOwner } from './core/sink.js';
export type { BrokerStats, ClusterStats } from './core/stats.js';
export type { Presence, TenantBroker } from './core/tenant.js';
export type { Audience } from './core/topic.js';
export type { Authenticator, QueryAuthenticatorOptions } from './http/authenticator.js';
export { queryAuthenticator } from './http/authenticator.js';
export type { CorsOptions } from './http/cors.js';
export type { FetchHandler } from './http/fetch-handler.js';
export { createFetchHandler } from './http/fetch-handler.js';
export { createHandler } from './http/handler.js';
export type { HandlerOptions, RefusalStyle } from './http/options.js';
export { createFetchPollHandler, createPollHandler } from './http/poll-handler.js';
export type { RequestLike } from './http/request.js';
export type { NodeHandler, NodeRequest, NodeResponse } from './http/serve-node.js';
export type { AuthorizeTopic, QueryTopicResolverOptions, TopicResolver } from './http/topic-resolver.js';
export { queryTopicResolver } from './http/topic-resolver.js';
