/** What a message says, as an event has it. */
import type { RestoredEvent } from '../core/mailbox.js';
import type { NewMessage } from './store.js';

/** All but whom it is for, and its tag. */
export function contentOf({
  event,
  data,
  json,
  createdAt,
  expiresAt,
  priority,
}: NewMessage): Omit<RestoredEvent, 'kind' | 'name' | 'tenantId' | 'tag'> {
  return { event, data, json, timestamp: createdAt, expiresAt, priority };
}
