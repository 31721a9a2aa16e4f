/** Options of an inbox: defaults in one place, and one function that fills in and checks. */
import { SseError, shown } from '../core/errors.js';
import { checkEventName, type EventMap } from '../core/event.js';
import type { InboxOptions } from './inbox-types.js';

const DAY = 24 * 60 * 60_000;

/** The defaults; docs/guides/inbox.md lists them. */
export const DEFAULT_INBOX_OPTIONS = Object.freeze({
  unreadEvent: 'unread' as string | false,
  deviceGrace: 5_000,
  nodeLease: 15_000,
  relayInterval: 1_000,
  keepRead: 7 * DAY,
  keepMessages: 90 * DAY,
  cleanupInterval: 60_000,
  deviceTtl: 90 * DAY,
  maxDevicesPerUser: 50,
  maxSubscriptionsPerUser: 1_000,
});

type Needs = 'broker' | 'store' | 'presence';

/** Options with every default filled in. */
export type ResolvedInboxOptions<Events extends EventMap> = Pick<InboxOptions<Events>, Needs> & {
  readonly [K in keyof typeof DEFAULT_INBOX_OPTIONS]: Exclude<InboxOptions[K], undefined>;
};

const LEAST = {
  deviceGrace: 10,
  nodeLease: 1_000,
  relayInterval: 10,
  keepRead: 0,
  keepMessages: 0,
  cleanupInterval: 0,
  deviceTtl: 0,
};
/** Ages: they may be longer than a timer takes. */
const AGES = ['keepRead', 'keepMessages', 'deviceTtl'];
const LIMITS = ['maxDevicesPerUser', 'maxSubscriptionsPerUser'];

function refuse(option: string, value: unknown, allowed: string): never {
  throw new SseError('SSE_ERR_INVALID_OPTION', `${option} must be ${allowed}; got ${shown(value)}`);
}

/** @throws {SseError} `SSE_ERR_INVALID_OPTION`, naming the option, the value and what is allowed. */
export function resolveInboxOptions<Events extends EventMap>(
  options: InboxOptions<Events>,
): ResolvedInboxOptions<Events> {
  if (typeof options !== 'object' || options === null) refuse('options', options, 'an object');
  const known = ['broker', 'store', 'presence', ...Object.keys(DEFAULT_INBOX_OPTIONS)];
  const given: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options)) {
    if (!known.includes(name)) {
      throw new SseError(
        'SSE_ERR_INVALID_OPTION',
        `unknown inbox option ${shown(name)}; known are ${known.join(', ')}`,
      );
    }
    if (value !== undefined) given[name] = value;
  }
  const { broker, store, presence } = options as Partial<InboxOptions<Events>>;
  if (typeof broker?.attachMailboxes !== 'function') refuse('broker', broker, 'a Broker');
  for (const method of ['append', 'backlog', 'relay'] as const) {
    if (typeof store?.[method] !== 'function')
      refuse('store', store, 'an InboxStore, such as a MemoryStore or SqlStore');
  }
  if (presence !== undefined && typeof presence?.attach !== 'function') {
    refuse('presence', presence, 'a Presence, such as a RedisPresence');
  }
  for (const [name, least] of Object.entries(LEAST)) {
    const value = given[name];
    if (value === undefined) continue;
    const most = AGES.includes(name) ? Number.MAX_SAFE_INTEGER : name === 'nodeLease' ? 3_600_000 : 2 ** 31 - 1;
    if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most) {
      refuse(name, value, `a whole number of ms from ${least} to ${most}`);
    }
  }
  for (const name of LIMITS) {
    const value = given[name];
    if (value === undefined || (Number.isSafeInteger(value) && (value as number) >= 0)) continue;
    refuse(name, value, 'a whole number, or 0 for no limit');
  }
  if (given.unreadEvent !== undefined && given.unreadEvent !== false) checkEventName(given.unreadEvent);
  return Object.freeze({ ...DEFAULT_INBOX_OPTIONS, ...given }) as unknown as ResolvedInboxOptions<Events>;
}
