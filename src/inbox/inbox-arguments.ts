/** What the methods of an inbox are called with: checked, and in the form that the store and the broker know. */
import { SseError, shown } from '../core/errors.js';
import { checkEventName } from '../core/event.js';
import { checkOptionNames } from '../core/option-names.js';
import type { InboxReceiver, InboxSendOptions, MarkReadSelection, PendingOptions } from './inbox-types.js';
import { messageIdOf } from './message-tag.js';
import type { ReadSelection } from './store.js';

/** Largest `limit` of pending. */
const MAX_PENDING = 1_000;
/** Ids in one call of markRead, and event types of one subscription. */
const MAX_LIST = 1_000;

const SEND_OPTIONS = ['priority', 'persist', 'ttl', 'dedupKey', 'dedupConflict', 'tenantId'];
export const TENANT_OPTIONS: readonly string[] = ['tenantId'];
export const PENDING_OPTIONS: readonly string[] = [...TENANT_OPTIONS, 'after', 'limit'];

/** What a store calls those whom the broker calls otherwise. */
export const RECEIVER_TYPES = { user: 'user', topic: 'group', everybody: 'everybody' } as const;
export type ReceiverKind = keyof typeof RECEIVER_TYPES;

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
export function addressOf(receiver: InboxReceiver): [kind: ReceiverKind, name: string] {
  const { userId, group, everybody } = Object(receiver) as Record<string, string> & { everybody?: unknown };
  const named = ['userId', 'group', 'everybody'].filter((kind) => kind in Object(receiver));
  // Of two, one would be left out without a word.
  if (named.length === 1) {
    if (named[0] === 'userId') return ['user', userId!];
    if (named[0] === 'group') return ['topic', group!];
    if (everybody === true) return ['everybody', ''];
  }
  throw new SseError('SSE_ERR_INVALID_OPTION', 'receiver must be { userId }, { group } or { everybody: true }');
}

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
export function checkSendOptions(options: InboxSendOptions): void {
  checkOptionNames('a send', options, SEND_OPTIONS);
  const { dedupKey, dedupConflict, persist } = options;
  if (persist !== undefined && typeof persist !== 'boolean') {
    throw new SseError('SSE_ERR_INVALID_OPTION', `persist must be true or false; got ${shown(persist)}`);
  }
  if (dedupKey !== undefined && typeof dedupKey !== 'string') {
    throw new SseError('SSE_ERR_INVALID_OPTION', `dedupKey must be a string; got ${shown(dedupKey)}`);
  }
  if (dedupConflict !== undefined && dedupConflict !== 'ignore' && dedupConflict !== 'reject') {
    const got = shown(dedupConflict);
    throw new SseError('SSE_ERR_INVALID_OPTION', `dedupConflict must be 'ignore' or 'reject'; got ${got}`);
  }
}

/** Of what a page has: the message's id, or the id of the event that brought it. */
export function idOf(id: string): string {
  if (typeof id !== 'string')
    throw new SseError('SSE_ERR_INVALID_OPTION', `a message id must be a string; got ${shown(id)}`);
  return messageIdOf(id) ?? id;
}

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
export function selectionOf(selection: MarkReadSelection): ReadSelection {
  if (selection === 'all') return 'all';
  if (Array.isArray(selection) && selection.length <= MAX_LIST) return { eventIds: selection.map(idOf) };
  if (typeof (selection as { upTo?: unknown } | null)?.upTo === 'string') {
    return { upTo: idOf((selection as { upTo: string }).upTo) };
  }
  throw new SseError(
    'SSE_ERR_INVALID_OPTION',
    `selection must be a list of at most ${MAX_LIST} ids, { upTo: id } or 'all'; got ${shown(selection)}`,
  );
}

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
export function limitOf({ limit = 100 }: PendingOptions): number {
  if (Number.isSafeInteger(limit) && limit >= 1 && limit <= MAX_PENDING) return limit;
  throw new SseError('SSE_ERR_INVALID_OPTION', `limit must be 1 to ${MAX_PENDING}; got ${shown(limit)}`);
}

/** @throws {SseError} `SSE_ERR_INVALID_OPTION`, or as every event name is refused */
export function checkEventTypes(eventTypes: readonly string[] | undefined): void {
  if (eventTypes === undefined) return;
  if (!Array.isArray(eventTypes) || eventTypes.length === 0 || eventTypes.length > MAX_LIST) {
    const allowed = `a list of 1 to ${MAX_LIST} names, or left out`;
    throw new SseError('SSE_ERR_INVALID_OPTION', `eventTypes must be ${allowed}; got ${shown(eventTypes)}`);
  }
  for (const type of eventTypes) checkEventName(type);
}
