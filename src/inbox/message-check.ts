/** What every store refuses before it writes: text that has no UTF-8, and values no contract allows. */
import { SseError, shown } from '../core/errors.js';
import { MAX_NAME_LENGTH } from '../core/topic.js';
import type { NewMessage } from './store.js';

const EVENT_ID = /^[A-Za-z0-9.-]{1,64}$/;
/** Longest `dedupKey`, in UTF-16 units. */
const MAX_DEDUP_KEY_LENGTH = 128;

/** @throws {SseError} `SSE_ERR_INVALID_DATA`, `SSE_ERR_INVALID_OPTION` */
export function checkMessages(messages: readonly NewMessage[]): void {
  for (const message of messages) {
    const { eventId } = message;
    if (!EVENT_ID.test(eventId)) {
      throw new SseError('SSE_ERR_INVALID_OPTION', `eventId must match ${EVENT_ID.source}; got ${shown(eventId)}`);
    }
    checkContents(message);
  }
}

/**
 * All but the id, which an inbox makes itself. Without a list or a closure: every send comes by here twice, in the inbox and in
 * its store.
 *
 * @throws {SseError} `SSE_ERR_INVALID_DATA`, `SSE_ERR_INVALID_OPTION`
 */
export function checkContents({ receiver, event, data, dedupKey, expiresAt, createdAt }: NewMessage): void {
  if (dedupKey !== undefined) {
    if (dedupKey.length === 0 || dedupKey.length > MAX_DEDUP_KEY_LENGTH) {
      throw new SseError(
        'SSE_ERR_INVALID_OPTION',
        `dedupKey must have 1 to ${MAX_DEDUP_KEY_LENGTH} characters; got ${dedupKey.length}`,
      );
    }
    checkText(dedupKey);
  }
  checkName(receiver.name);
  checkName(receiver.tenantId);
  checkName(event);
  checkText(data);
  checkTime(expiresAt);
  checkTime(createdAt);
}

/**
 * Whether a send that the store took for a duplicate says what the first one said; where that is gone meanwhile nobody knows.
 *
 * @throws {SseError} `SSE_ERR_IDEMPOTENCY_CONFLICT`
 */
export function checkSame(sent: NewMessage, first: NewMessage | undefined): void {
  if (first === undefined) return;
  const life = ({ expiresAt, createdAt }: NewMessage): number => (expiresAt === 0 ? 0 : expiresAt - createdAt);
  const isSame =
    sent.receiver.type === first.receiver.type &&
    sent.receiver.name === first.receiver.name &&
    sent.event === first.event &&
    sent.json === first.json &&
    sent.data === first.data &&
    sent.priority === first.priority &&
    // Both ends of each are rounded.
    (sent.expiresAt === 0) === (first.expiresAt === 0) &&
    Math.abs(life(sent) - life(first)) <= 2;
  if (isSame) return;
  throw new SseError('SSE_ERR_IDEMPOTENCY_CONFLICT', 'this dedupKey came with another message; use a new one');
}

/** Fractions of a ms and everything beyond 2^53 would be kept by one database and rounded by another. */
function checkTime(time: number): void {
  if (Number.isSafeInteger(time) && time >= 0) return;
  throw new SseError('SSE_ERR_INVALID_OPTION', `times must be whole ms since 1970; got ${shown(time)}`);
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
  for (const name of names) checkName(name);
}

function checkName(name: string): void {
  checkText(name);
  if (name.length <= MAX_NAME_LENGTH) return;
  throw new SseError(
    'SSE_ERR_INVALID_OPTION',
    `names must have at most ${MAX_NAME_LENGTH} characters; got ${name.length}`,
  );
}

/** @throws {SseError} `SSE_ERR_TOO_MANY_TOPICS` where there are `limit` subscriptions already; 0: any number is allowed. */
export function checkSubscriptionLimit(count: number, limit: number): void {
  if (limit === 0 || count < limit) return;
  const message = `a user may have ${limit} subscriptions in a tenant, and has them; end one, or raise maxSubscriptionsPerUser`;
  // What stands in the way is the state of this user, not their rights.
  throw new SseError('SSE_ERR_TOO_MANY_TOPICS', message, { status: 409 });
}
