/** The entry `sse-broker/inbox`: messages that wait for their users, and the stores that keep them. */

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
export { MemoryStore, MemoryTransaction } from './memory-store.js';
export { messageIdOf } from './message-tag.js';
export type { SqlDialectName } from './sql-dialect.js';
export { SqlStore, type SqlStoreOptions } from './sql-store.js';
export type { SqliteHandle } from './sqlite-connection.js';
export type {
  Appended,
  BacklogCursor,
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
