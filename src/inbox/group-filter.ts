/**
 * Which group messages one stream takes: by its user's durable subscriptions, with their types, beside the topics that the
 * application gave the stream itself.
 *
 * The types are checked at delivery, for messages of the inbox only, rather than by a channel per type: a send costs one publish
 * whatever is subscribed, and a subscription to all types needs no list of them.
 */
import type { Subscription } from './store.js';

export class GroupFilter {
  /** By group, then by the tenant of the subscription: the types, undefined for all. */
  readonly #groups = new Map<string, Map<string, ReadonlySet<string> | undefined>>();
  readonly #hasOwn: (topic: string) => boolean;

  /** `hasOwn`: whether the stream has a topic by the application's word; asked at delivery, for that may change. */
  constructor(hasOwn: (topic: string) => boolean) {
    this.#hasOwn = hasOwn;
  }

  get groups(): string[] {
    return [...this.#groups.keys()];
  }

  set(group: string, tenantId: string, eventTypes: readonly string[] | undefined): void {
    const tenants = this.#groups.get(group) ?? new Map<string, ReadonlySet<string> | undefined>();
    tenants.set(tenantId, eventTypes === undefined ? undefined : new Set(eventTypes));
    this.#groups.set(group, tenants);
  }

  /** What it takes of the group already, and these. */
  widen(group: string, tenantId: string, eventTypes: readonly string[] | undefined): void {
    const tenants = this.#groups.get(group);
    const known = tenants?.get(tenantId);
    if (tenants?.has(tenantId) && known === undefined) return;
    this.set(group, tenantId, eventTypes === undefined ? undefined : [...(known ?? []), ...eventTypes]);
  }

  /** True where no subscription needs the group's topic any more. */
  delete(group: string, tenantId: string): boolean {
    const tenants = this.#groups.get(group);
    if (tenants?.delete(tenantId) !== true || tenants.size > 0) return false;
    this.#groups.delete(group);
    return true;
  }

  /** Makes it exactly these; gives the groups whose topics no subscription needs any more. */
  replace(subscriptions: readonly Pick<Subscription, 'group' | 'tenantId' | 'eventTypes'>[]): string[] {
    const before = this.groups;
    this.#groups.clear();
    for (const { group, tenantId, eventTypes } of subscriptions) this.set(group, tenantId, eventTypes);
    return before.filter((group) => !this.#groups.has(group));
  }

  /** `waits`: a subscription takes it, so it waits for the user. `live`: the stream gets it, but nothing waits. */
  take(group: string, event: string): 'waits' | 'live' | 'no' {
    const tenants = this.#groups.get(group);
    if (tenants !== undefined) for (const types of tenants.values()) if (types?.has(event) ?? true) return 'waits';
    return this.#hasOwn(group) ? 'live' : 'no';
  }
}
