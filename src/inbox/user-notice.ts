/** What nodes tell each other about a user. */
import type { ReadSelection } from './store.js';

/** Whose subscription to what. */
export interface SubscriptionKey {
  readonly userId: string;
  readonly tenantId: string;
  readonly group: string;
}

/** What is told of a subscription: never what is stored, for what two nodes tell may cross. */
export type GroupNotice =
  /** A subscription is about to be stored: streams take what it takes from now on, until `changed` names the same change. */
  | (SubscriptionKey & {
      readonly what: 'opening';
      readonly change: string;
      readonly eventTypes?: readonly string[] | undefined;
    })
  /** It may have changed: what is stored counts. */
  | (SubscriptionKey & { readonly what: 'changed'; readonly change?: string | undefined });

export type UserNotice =
  /** The teller has just learned that this node is there: what it told before did not come to it. */
  | { readonly what: 'welcome'; readonly node: string }
  /** `tenantId`: of who read. What was sent without a tenant counts in every one, but what was marked is told in theirs only. */
  | {
      readonly what: 'read';
      readonly userId: string;
      readonly tenantId: string;
      readonly read?: ReadSelection | undefined;
    }
  | GroupNotice;

/** @throws {TypeError} where another node says what this one does not understand. */
export function noticeIn(text: string): UserNotice {
  const notice = JSON.parse(text) as Partial<Record<string, unknown>>;
  const { what, node, userId, tenantId, group, change, eventTypes, read } = notice ?? {};
  const isText = (value: unknown): value is string => typeof value === 'string';
  const isList = (value: unknown): boolean => Array.isArray(value) && value.every(isText);
  if (what === 'welcome' && isText(node)) return { what, node };
  const isNamed = isText(userId) && isText(tenantId);
  const isRead =
    read === undefined ||
    read === 'all' ||
    isList((read as { eventIds?: unknown } | null)?.eventIds) ||
    isText((read as { upTo?: unknown } | null)?.upTo);
  const isKnown =
    (what === 'read' && isRead) ||
    (what === 'changed' && isText(group) && (change === undefined || isText(change))) ||
    (what === 'opening' && isText(group) && isText(change) && (eventTypes === undefined || isList(eventTypes)));
  if (!isNamed || !isKnown) throw new TypeError('a node told something about a user that makes no sense');
  return notice as unknown as UserNotice;
}
