/** What the cases of the store conformance suite are made of. */
import type { InboxStore, NewMessage, Reader, Receiver } from '../inbox/store.js';

/** A store as one case uses it, not started, over data that no other case sees. */
export interface StoreFixture {
  readonly store: InboxStore;
  /** One more store over the same data, as another process would have it, not started. Needed with `shared`. */
  another?(): InboxStore | Promise<InboxStore>;
  /**
   * Runs `work` in a transaction of the caller's, as `enqueue` takes it; rolls back where `work` rejects, and rejects
   * likewise. Needed with `transactions`.
   */
  transaction?(work: (tx: unknown) => Promise<void>): Promise<void>;
  /** Called at the end of the case, after the stores were closed. */
  dispose?(): void | Promise<void>;
}

/** What a case has at hand. */
export interface StoreBench {
  readonly store: InboxStore;
  readonly fixture: StoreFixture;
  /** Starts one more store over the same data, and closes it when the case ends. */
  another(): Promise<InboxStore>;
}

export type StoreTest = (bench: StoreBench) => Promise<void>;
export type AddStoreCase = (name: string, test: StoreTest) => void;

export const NODE = 'node-1';
/** ms since 1970. */
export const NOW = 1_700_000_000_000;
/** When a case says nothing else of devices. */
export const SEEN = { now: NOW, maxDevices: 50 };
export const ANNA: Reader = { userId: 'anna', tenants: [''] };
export const BEN: Reader = { userId: 'ben', tenants: [''] };
export const ANNA_AT_ACME: Reader = { userId: 'anna', tenants: ['', 'acme'] };

export const toUser = (name: string, tenantId = ''): Receiver => ({ type: 'user', name, tenantId });
export const toGroup = (name: string, tenantId = ''): Receiver => ({ type: 'group', name, tenantId });
export const toEverybody = (tenantId = ''): Receiver => ({ type: 'everybody', name: '', tenantId });

/** A message with everything that a case does not care about filled in; `eventId` is also its data. */
export function message(eventId: string, receiver: Receiver, more: Partial<NewMessage> = {}): NewMessage {
  return {
    eventId,
    receiver,
    event: 'note',
    data: JSON.stringify(eventId),
    json: true,
    priority: 0,
    status: 'pending',
    expiresAt: 0,
    createdAt: NOW,
    ...more,
  };
}

export const idsOf = (messages: readonly NewMessage[]): string[] => messages.map(({ eventId }) => eventId);

/** The ids of all that is unread, and what counting says. */
export async function unreadOf(store: InboxStore, reader: Reader, now = NOW): Promise<[string[], number]> {
  const pending = await store.pending({ reader, after: 0, limit: 10_000, now });
  return [idsOf(pending), await store.unreadCount(reader, now)];
}
