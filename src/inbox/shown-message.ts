/** A stored message, as an application sees it. */
import { PRIORITIES } from '../core/event.js';
import type { InboxMessage } from './inbox-types.js';
import type { StoredMessage } from './store.js';

export function shownMessage(message: StoredMessage): InboxMessage {
  const { eventId: id, event, priority, status, receiver, createdAt, expiresAt } = message;
  return {
    id,
    event,
    data: dataOf(message),
    priority: PRIORITIES[priority]!,
    status,
    ...(receiver.type === 'group' && { group: receiver.name }),
    isBroadcast: receiver.type === 'everybody',
    createdAt,
    expiresAt,
  };
}

function dataOf({ data, json }: StoredMessage): unknown {
  if (!json) return data;
  try {
    return JSON.parse(data);
  } catch {
    // Another serialiser than JSON.stringify.
    return data;
  }
}
