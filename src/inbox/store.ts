/**
 * CONTRACT: where messages wait for their users, and what was read.
 *
 * Words: a *message* is addressed to a user, to a group, or to everybody; a group's and everybody's messages are stored
 * once. A *reader* is a user in the tenants whose messages are theirs: `''` (no tenant) and, where they have one, their own.
 * What is addressed without a tenant is the same message for that user in every tenant, and has one state.
 *
 * Obligations of a store:
 * - **Positions** grow, and are given in the order of commits: whoever has seen position p will never see a smaller one
 *   appear. (In SQL: a counter row that stays locked from the moment a position is taken until the commit.) They are safe
 *   integers above 0; numbers may be left out.
 * - **Append** is atomic and durable when it resolves. A message whose `dedupKey` is known in its tenant is not stored
 *   again: the answer names the one that is there. An `eventId` is stored once; appending it again answers likewise, within
 *   one call too. Both are forgotten with the message, when {@link InboxStore.cleanup} deletes it.
 * - **Enqueued** messages (written in the caller's own transaction) have no position until {@link InboxStore.relay} gives
 *   them one, and are nowhere to be seen before. Duplicates among them are dropped there, by the rules of append.
 * - **Text** comes back as it was given: quotes, NUL, 4-byte UTF-8, a mebibyte of data. Names are compared by their code
 *   points: no case folding, no trailing blanks cut off, no normal forms. What has no UTF-8 (a lone surrogate) is refused
 *   with `SSE_ERR_INVALID_DATA` before anything is written.
 * - **Time** is the caller's: every method that judges expiry takes `now` (ms since 1970). What has `expiresAt` of 1 to
 *   `now` is neither pending nor counted, whether it has been cleaned up or not; and it may stay so for calls with an earlier
 *   `now` (of a node whose clock is behind).
 * - **Unread** of a reader: unexpired messages to that user that are not read; messages to everybody that are not read; and
 *   messages to groups that are not read, where a subscription of the user takes them. A subscription takes a message where
 *   both are of this reader's tenants (not necessarily the same: what is sent without a tenant reaches every tenant's
 *   subscribers, as it does live), the group is the same, the type is among the subscribed ones, and the position is above
 *   `since`. {@link InboxStore.unreadCount} equals the length of the whole of {@link InboxStore.pending} at every moment. A
 *   store over a database answers it at a cost that follows neither the number of messages, read or unread, nor of members.
 * - **Reading** marks exactly what is unread for this reader at that moment; what a subscription does not take stays as it
 *   is, and is unread should a wider subscription take it later.
 * - **Limits.** No method returns more rows than its `limit`, or deletes more messages; a cost per member of a group is not
 *   allowed.
 * - **Concurrency.** Any number of processes over one database. Every method is atomic.
 * - **Errors** of the database are thrown as `SSE_ERR_STORE_UNAVAILABLE` (retryable, with `cause`). After one, whether an
 *   append was stored is not known: appending the same `eventId` again is safe.
 * - **Close** ends what the store itself opened (timers, a listening connection); the caller's pool stays open. May be
 *   called twice.
 */

/** 0 normal, 1 high, 2 urgent. */
export type PriorityLevel = 0 | 1 | 2;

/**
 * `pending`: no device of its user has it, as far as is known. `sent`: one has; a message to many is from the beginning. `read`:
 * by its user; groups keep that per reader.
 */
export type MessageStatus = 'pending' | 'sent' | 'read';

/** Whom a message waits for. `everybody` has the name `''`. */
export interface Receiver {
  readonly type: 'user' | 'group' | 'everybody';
  readonly name: string;
  /** `''` for none. */
  readonly tenantId: string;
}

/** A message before it is stored. */
export interface NewMessage {
  /** Unique; `[A-Za-z0-9.-]{1,64}`. */
  readonly eventId: string;
  readonly receiver: Receiver;
  readonly event: string;
  /** As text: JSON where `json`, else the string that was sent. */
  readonly data: string;
  readonly json: boolean;
  readonly priority: PriorityLevel;
  readonly status: 'pending' | 'sent';
  /** ms since 1970; 0 for never. */
  readonly expiresAt: number;
  /** ms since 1970. */
  readonly createdAt: number;
  /** A second message with the same key in the same tenant is not stored. At most 128 characters. */
  readonly dedupKey?: string | undefined;
}

/** A message with its place. */
export interface StoredMessage extends NewMessage {
  readonly position: number;
}

/** Whose messages are asked for. */
export interface Reader {
  readonly userId: string;
  /** `['']`, or `['', tenantId]`. */
  readonly tenants: readonly string[];
}

/** What became of one appended message. */
export interface Appended {
  readonly eventId: string;
  readonly position: number;
  /** True where it was there already: `eventId` and `position` are those of the first. */
  readonly isDuplicate: boolean;
}

/** A durable subscription of a user to a group. */
export interface Subscription {
  readonly group: string;
  /** Absent: all types. */
  readonly eventTypes?: readonly string[] | undefined;
  readonly tenantId: string;
  /** Messages up to this position are from before the subscription. */
  readonly since: number;
}

/** Up to where a device has everything. It belongs to a user in the innermost of the reader's tenants. */
export interface DeviceMove {
  readonly reader: Reader;
  readonly device: string;
  readonly position: number;
  /** All messages to that user that the device has got with this move are `delivered`: a store need not look for them. */
  readonly isListed?: boolean | undefined;
}

/** With the moves of devices. */
export interface AdvanceRequest {
  /** ms since 1970. */
  readonly now: number;
  /** Most devices of one user in one tenant; 0: any number. */
  readonly maxDevices: number;
  /**
   * Positions of messages to users that have reached a device of theirs, which the caller vouches for: in no order, some perhaps
   * twice, some of messages that were read since, or are gone. Default: none.
   */
  readonly delivered?: readonly number[] | undefined;
}

/** Where a list in delivery order goes on: after the message of this priority and position. */
export interface BacklogCursor {
  readonly priority: PriorityLevel;
  readonly position: number;
}

/** What is to be marked read: some by their ids, all up to one (by id: what is not newer than it), or all there are. */
export type ReadSelection = { readonly eventIds: readonly string[] } | { readonly upTo: string } | 'all';

/** The messages, subscriptions and read states of an application. See the head of this file for its obligations. */
export interface InboxStore {
  /** `memory`, `sqlite`, …; for people. */
  readonly name: string;
  /** Makes the tables or brings them up to date, once; safe when several processes start together. */
  start(): Promise<void>;

  /** Stores messages in one transaction, in this order. `node`: who will publish them, see {@link renewNode}. */
  append(messages: readonly NewMessage[], node: string): Promise<Appended[]>;
  /** A message by its id; undefined where there is none (any more). */
  find(eventId: string): Promise<StoredMessage | undefined>;
  /** The newest position; 0 where nothing was ever stored. */
  head(): Promise<number>;

  /** Unread, unexpired messages by position, after `after`, the oldest first. */
  pending(request: {
    readonly reader: Reader;
    readonly after: number;
    readonly limit: number;
    readonly now: number;
  }): Promise<StoredMessage[]>;
  /**
   * Unread, unexpired messages in delivery order (priority from urgent to normal, then position) with positions above
   * `from` and up to `through`, after `after` in that order where it is given.
   */
  backlog(request: {
    readonly reader: Reader;
    readonly from: number;
    readonly through: number;
    readonly after?: BacklogCursor | undefined;
    readonly limit: number;
    readonly now: number;
  }): Promise<StoredMessage[]>;
  unreadCount(reader: Reader, now: number): Promise<number>;
  /**
   * When the first of a reader's unread messages expires, in ms since 1970, after `now`; 0 where none does. It may be earlier: the
   * time at which one expires that this reader has read.
   */
  nextExpiry(reader: Reader, now: number): Promise<number>;
  /** Marks what is this reader's and unread; resolves to how many changed. Other people's ids are not found. */
  markRead(reader: Reader, selection: ReadSelection, now: number): Promise<number>;

  /**
   * Makes or replaces a subscription; resolves to true where it was new. A replaced one keeps its `since`. A new one that would be
   * more than `limit` (absent or 0: any number) of this user in this tenant is refused with `SSE_ERR_TOO_MANY_TOPICS`, whichever
   * processes subscribe at once.
   */
  subscribe(
    userId: string,
    tenantId: string,
    group: string,
    eventTypes: readonly string[] | undefined,
    limit?: number,
  ): Promise<boolean>;
  /** Resolves to true where there was one. Its messages are not unread any more. */
  unsubscribe(userId: string, tenantId: string, group: string): Promise<boolean>;
  /** All of a reader's, or those to one group. */
  subscriptions(reader: Reader, group?: string): Promise<Subscription[]>;

  /** Up to where a device (`''`: the user) has been served; 0 where it is new, or was forgotten. */
  cursor(reader: Reader, device: string): Promise<number>;
  /**
   * Says that devices were seen at `now` and have everything up to these positions. Cursors move forward, never back. What is
   * `pending` of the messages to that user in the reader's tenants, unexpired and unread, between a device's cursor and its new
   * one is `sent` from then on; and so is what is `delivered`, whoever it is for. Of a user's devices in one tenant that are more
   * than `maxDevices`, when a new one is among the moves, those are forgotten that were not seen for longest. May be done in
   * steps, each cursor not before what it is past is `sent`; where it rejects, some may be done, and it is called again.
   */
  advance(moves: readonly DeviceMove[], request: AdvanceRequest): Promise<void>;
  /**
   * Forgets at most `limit` devices that were last seen before `seenBefore`, ms since 1970; a store may take them for seen up to a
   * minute later than they were. Resolves to how many; below `limit`: that was all.
   */
  forgetDevices(request: { readonly seenBefore: number; readonly limit: number }): Promise<number>;

  /**
   * Says that `node` lives until `leaseUntil` and has published everything that it appended up to `publishedThrough`. With an
   * append under way, `publishedThrough` must not be above what was published before it began: its positions may be smaller
   * than those of one that was called later. A node renews before its first append. Never moves `publishedThrough` back.
   * `leaseUntil` 0: the node ends; it is forgotten where nothing is left to publish, else others take over.
   */
  renewNode(node: string, publishedThrough: number, leaseUntil: number): Promise<void>;
  /**
   * Messages that somebody must publish and nobody does: enqueued ones, which get their positions here (and are `sent` or
   * `pending` as they were enqueued), and those that a node has appended or relayed whose lease is over by `now`. They are the
   * caller's from now on, and are returned once: no other caller gets them while the lease of `node` lasts, or ever, once
   * {@link relayed} has said that they are out. `again`: the answer of an earlier call may have got lost, so also what was given
   * to `node` before, and is not said to be out, comes first.
   */
  relay(request: {
    readonly node: string;
    readonly limit: number;
    readonly now: number;
    readonly again?: boolean | undefined;
  }): Promise<StoredMessage[]>;
  /** Says that `node` has published these, which {@link relay} gave it. Positions of others are passed over. */
  relayed(node: string, positions: readonly number[]): Promise<void>;
  /**
   * The smallest position that a node other than `node` has still to publish, as far as nodes have said: what they appended above
   * their `publishedThrough`, and what {@link relay} gave them. 0 where there is none.
   */
  firstUnpublished(node: string): Promise<number>;
  /**
   * Writes messages inside the caller's own transaction `tx` (a Kysely transaction or the driver's connection); they go out
   * after its commit. Throws `SSE_ERR_INVALID_OPTION` for a `tx` that this store cannot use.
   */
  enqueue(tx: unknown, messages: readonly NewMessage[]): Promise<void>;
  /** Calls back when something was enqueued, where the database can tell; returns the undo. Absent: poll. */
  onEnqueued?(callback: () => void): Promise<() => Promise<void>>;

  /**
   * Deletes at most `limit` messages that expired, were read by the user they were for before `readBefore`, or were created
   * before `createdBefore` (0: not for that reason); with them what was kept about them. What nobody has published yet is
   * deleted like all else. Resolves to how many; below `limit`: that was all.
   */
  cleanup(request: {
    readonly now: number;
    readonly readBefore: number;
    readonly createdBefore: number;
    readonly limit: number;
  }): Promise<number>;
  close(): Promise<void>;
}
