/** The entry `sse-broker/inbox`: messages that wait for their users, and the stores that keep them. */

export {
  CACHED_STORE_DEFAULTS,
  CachedStore,
  type CachedStoreOptions,
  type CachedStoreStats,
} from './cached-store.js';
export { Inbox } from './inbox.js';
export { DEFAULT_INBOX_OPTIONS } from './inbox-options.js';
export type {
  InboxApi,
  InboxMessage,
  InboxOptions,
  InboxReceiver,
  InboxSendOptions,
  InboxStats,
  InboxSubscription,
  InboxTenantOptions,
  MarkReadSelection,
  PendingOptions,
} from './inbox-types.js';
export type { KyselyLike } from './kysely-connection.js';
export { MemoryStore } from './memory-store.js';
export { MemoryTransaction } from './memory-transaction.js';
export { messageIdOf } from './message-tag.js';
export type { Presence, PresenceSource, PresentClient } from './presence.js';
export type { RedisPlaceOptions } from './redis-connection.js';
export { REDIS_PRESENCE_DEFAULTS, RedisPresence, type RedisPresenceOptions } from './redis-presence.js';
export type { SqlDialectName } from './sql-dialect.js';
export { SqlStore, type SqlStoreOptions } from './sql-store.js';
export type { SqliteHandle } from './sqlite-connection.js';
export type {
  AdvanceRequest,
  Appended,
  BacklogCursor,
  DeviceMove,
  InboxStore,
  MessageStatus,
  NewMessage,
  PriorityLevel,
  Reader,
  ReadSelection,
  Receiver,
  StoredMessage,
  Subscription,
} from './store.js';
