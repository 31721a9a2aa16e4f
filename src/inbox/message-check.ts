/** What every store refuses before it writes: text that has no UTF-8, and values no contract allows. */
import { SseError, shown } from '../core/errors.js';
import { MAX_NAME_LENGTH } from '../core/topic.js';
import type { NewMessage } from './store.js';

const EVENT_ID = /^[A-Za-z0-9.-]{1,64}$/;
/** Longest `dedupKey`, in UTF-16 units. */
const MAX_DEDUP_KEY_LENGTH = 128;

/** @throws {SseError} `SSE_ERR_INVALID_DATA`, `SSE_ERR_INVALID_OPTION` */
export function checkMessages(messages: readonly NewMessage[]): void {
  for (const { eventId, receiver, event, data, dedupKey, expiresAt, createdAt } of messages) {
    if (!EVENT_ID.test(eventId)) {
      throw new SseError('SSE_ERR_INVALID_OPTION', `eventId must match ${EVENT_ID.source}; got ${shown(eventId)}`);
    }
    if (dedupKey !== undefined && (dedupKey.length === 0 || dedupKey.length > MAX_DEDUP_KEY_LENGTH)) {
      throw new SseError(
        'SSE_ERR_INVALID_OPTION',
        `dedupKey must have 1 to ${MAX_DEDUP_KEY_LENGTH} characters; got ${dedupKey.length}`,
      );
    }
    checkNames(receiver.name, receiver.tenantId, event, dedupKey ?? '');
    checkText(data);
    // Fractions of a ms and everything beyond 2^53 would be kept by one database and rounded by another.
    for (const time of [expiresAt, createdAt]) {
      if (!Number.isSafeInteger(time) || time < 0) {
        throw new SseError('SSE_ERR_INVALID_OPTION', `times must be whole ms since 1970; got ${shown(time)}`);
      }
    }
  }
}

/** @throws {SseError} `SSE_ERR_INVALID_DATA` where `text` has no UTF-8. */
export function checkText(text: string): void {
  if (text.isWellFormed()) return;
  throw new SseError('SSE_ERR_INVALID_DATA', `text must be well-formed Unicode; got ${shown(text)}`);
}

/**
 * Names as they stand in keys: a database that cuts off what is too long would mix two of them up.
 *
 * @throws {SseError} `SSE_ERR_INVALID_DATA`, `SSE_ERR_INVALID_OPTION`
 */
export function checkNames(...names: readonly string[]): void {
  for (const name of names) {
    checkText(name);
    if (name.length <= MAX_NAME_LENGTH) continue;
    throw new SseError(
      'SSE_ERR_INVALID_OPTION',
      `names must have at most ${MAX_NAME_LENGTH} characters; got ${name.length}`,
    );
  }
}
