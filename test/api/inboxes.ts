/** Inboxes that end with their test. */
import { onTestFinished } from 'vitest';
import { Inbox } from '../../src/inbox/inbox.js';
import { type InboxOptions, MemoryStore } from '../../src/inbox/index.js';
import type { InboxStore } from '../../src/inbox/store.js';
import type { Broker } from '../../src/index.js';

/** An inbox of `broker`, in memory where no store is given. */
export function inboxOf(
  broker: Broker,
  store: InboxStore = new MemoryStore(),
  options: Partial<InboxOptions> = {},
): Inbox {
  const inbox = new Inbox({ ...options, broker, store });
  onTestFinished(() => inbox.close());
  return inbox;
}
