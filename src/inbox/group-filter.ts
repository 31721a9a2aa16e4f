/**
 * Which group messages one stream takes: by its user's durable subscriptions, with their types, beside the topics that the
 * application gave the stream itself.
 *
 * The types are checked at delivery, for messages of the inbox only, rather than by a channel per type: a send costs one publish
 * whatever is subscribed, and a subscription to all types needs no list of them.
 */
import type { Subscription } from './store.js';

/** A subscription; without `since` where it is about to be stored. */
export type TakenGroup = Pick<Subscription, 'group' | 'tenantId' | 'eventTypes'> & {
  readonly since?: number | undefined;
};

interface Taken {
  /** Undefined for all. */
  readonly types: ReadonlySet<string> | undefined;
  /** Messages above this position: the bus may have older ones, in its history, or published late by who took over from a node. */
  readonly since: number;
}

export class GroupFilter {
  /** By group, then by the tenant of the subscription. */
  readonly #groups = new Map<string, Map<string, Taken>>();
  readonly #hasOwn: (topic: string) => boolean;

  /** `hasOwn`: whether the stream has a topic by the application's word; asked at delivery, for that may change. */
  constructor(hasOwn: (topic: string) => boolean) {
    this.#hasOwn = hasOwn;
  }

  get groups(): string[] {
    return [...this.#groups.keys()];
  }

  /** Whether a subscription of that tenant takes any of the group. */
  has(group: string, tenantId: string): boolean {
    return this.#groups.get(group)?.has(tenantId) === true;
  }

  /** What subscriptions take of a group as of now; later changes of the filter do not change it. */
  takenNow(group: string): (event: string, position: number) => boolean {
    const tenants = new Map(this.#groups.get(group));
    return (event, position) => isTaken(tenants, event, position);
  }

  set({ group, tenantId, eventTypes, since = 0 }: TakenGroup): void {
    const tenants = this.#groups.get(group) ?? new Map<string, Taken>();
    tenants.set(tenantId, { types: eventTypes === undefined ? undefined : new Set(eventTypes), since });
    this.#groups.set(group, tenants);
  }

  /** What it takes of the group already, and these types. */
  widen(group: string, tenantId: string, eventTypes: readonly string[] | undefined): void {
    const known = this.#groups.get(group)?.get(tenantId);
    const isAll = eventTypes === undefined || (known !== undefined && known.types === undefined);
    const types = isAll ? undefined : [...(known?.types ?? []), ...eventTypes];
    this.set({ group, tenantId, eventTypes: types, since: known?.since });
  }

  /** True where no subscription needs the group's topic any more. */
  delete(group: string, tenantId: string): boolean {
    const tenants = this.#groups.get(group);
    if (tenants?.delete(tenantId) !== true || tenants.size > 0) return false;
    this.#groups.delete(group);
    return true;
  }

  /** For what the bus does not deliver. */
  forget(group: string): void {
    this.#groups.delete(group);
  }

  /** Makes it exactly these; gives the groups whose topics no subscription needs any more. */
  replace(subscriptions: readonly TakenGroup[]): string[] {
    const before = this.groups;
    this.#groups.clear();
    for (const one of subscriptions) this.set(one);
    return before.filter((group) => !this.#groups.has(group));
  }

  /**
   * What becomes of a message at `position`. `waits`: a subscription takes it, so it waits for the user. `live`: the stream gets it,
   * but nothing waits.
   */
  take(group: string, event: string, position: number): 'waits' | 'live' | 'no' {
    const tenants = this.#groups.get(group);
    if (tenants !== undefined && isTaken(tenants, event, position)) return 'waits';
    return this.#hasOwn(group) ? 'live' : 'no';
  }
}

function isTaken(tenants: ReadonlyMap<string, Taken>, event: string, position: number): boolean {
  for (const { types, since } of tenants.values()) if (position > since && (types?.has(event) ?? true)) return true;
  return false;
}
