/**
 * Keeps the groups of this node's streams as their users' subscriptions are stored, whoever changes them, here or on another node.
 *
 * What is told says only that something may have changed: this node then reads what is stored, one read of a subscription at a
 * time, and once more where it was told of another change meanwhile. So the last read is later than the last change, in whatever
 * order they were heard of. Before a subscription is stored its streams are opened for it: what is sent from the moment of the
 * commit on comes live to all of them. That holds until its maker says that it is done, or for a while where that never comes.
 */
import type { MailboxHost } from '../core/mailbox.js';
import type { TakenGroup } from './group-filter.js';
import { type LateGroup, LateGroups } from './late-groups.js';
import type { InboxStore, Reader } from './store.js';
import type { StreamMailbox } from './stream-mailbox.js';
import type { GroupNotice, SubscriptionKey } from './user-notice.js';

/** How long streams are open for a subscription whose maker says no more, in ms. */
const OPENING_MS = 30_000;

interface Opening {
  readonly of: SubscriptionKey;
  readonly eventTypes: readonly string[] | undefined;
  readonly until: number;
}

/** Reads of one subscription, one after the other. */
interface Following {
  /** Told of a change since the last read began. */
  isDirty: boolean;
  done: Promise<void>;
}

export interface GroupChangesHost {
  readonly store: InboxStore;
  readonly host: MailboxHost;
  /** Starts the inbox, where it has not. */
  started(): Promise<void>;
  /** Streams of that user on this node: in that tenant, or in any where it is ''. */
  streamsOf(userId: string, tenantId: string): StreamMailbox[];
  /** Every message up to here was published before whatever is published from now on. */
  settled(): number;
}

export class GroupChanges {
  readonly #store: InboxStore;
  readonly #host: MailboxHost;
  readonly #started: () => Promise<void>;
  readonly #streamsOf: (userId: string, tenantId: string) => StreamMailbox[];
  /** By their changes, the oldest first. */
  readonly #openings = new Map<string, Opening>();
  readonly #following = new Map<string, Following>();
  /** Reads of all that a user has, and whether they began before something changed. */
  readonly #readings = new Set<{ readonly userId: string; isStale: boolean }>();
  /** Streams for which it could not be read: they ask until they have it. */
  readonly #unsure = new Set<StreamMailbox>();
  readonly #late: LateGroups;

  constructor({ store, host, started, streamsOf, settled }: GroupChangesHost) {
    this.#store = store;
    this.#host = host;
    this.#started = started;
    this.#streamsOf = streamsOf;
    this.#late = new LateGroups({ store, host, settled });
  }

  /** Resolves when the streams of this node have it, or will ask for it. */
  async take(notice: GroupNotice): Promise<void> {
    const { userId, tenantId, group } = notice;
    const of = { userId, tenantId, group };
    if (notice.what === 'changed') {
      if (notice.change !== undefined) this.#openings.delete(notice.change);
      return this.#follow(of);
    }
    const { change, eventTypes } = notice;
    this.#openings.set(change, { of, eventTypes, until: this.#host.clock.monotonic() + OPENING_MS });
    const joins = this.#streamsOf(userId, tenantId).map((stream) => {
      stream.filter.widen(group, tenantId, eventTypes);
      return this.#join(stream, group);
    });
    await Promise.all(joins);
  }

  /** What a stream that connects is to take. */
  async subscriptionsOf(reader: Reader): Promise<TakenGroup[]> {
    await this.#started();
    const reading = { userId: reader.userId, isStale: true };
    this.#readings.add(reading);
    try {
      let stored: readonly TakenGroup[] = [];
      while (reading.isStale) {
        reading.isStale = false;
        stored = await this.#store.subscriptions(reader);
      }
      return this.#withOpenings(reader, stored);
    } finally {
      this.#readings.delete(reading);
    }
  }

  /** Closes what was opened and whose maker has said no more. */
  tick(monotonic: number): void {
    this.#late.tick();
    for (const [change, { of, until }] of this.#openings) {
      if (until > monotonic) return;
      this.#openings.delete(change);
      void this.#follow(of);
    }
  }

  /** Streams that could not be told ask for what is stored, until the first that cannot. `asked`: each that has it now. */
  async ask(asked: (stream: StreamMailbox) => void): Promise<void> {
    for (const stream of [...this.#unsure]) {
      this.#unsure.delete(stream);
      if (stream.isClosed) continue;
      try {
        const taken = await this.subscriptionsOf(stream.reader);
        const known = taken.filter(({ group, tenantId }) => stream.filter.has(group, tenantId));
        for (const group of stream.filter.replace(known)) this.#host.removeTopic(stream.clientId, group);
        await Promise.all(taken.map((one) => this.#give(stream, one)));
      } catch (error) {
        this.#failed([stream], error);
      }
      if (this.#unsure.has(stream)) return;
      asked(stream);
    }
  }

  /** What was told of these may have been missed. */
  doubt(streams: Iterable<StreamMailbox>): void {
    for (const stream of streams) this.#unsure.add(stream);
  }

  closed(stream: StreamMailbox): void {
    this.#unsure.delete(stream);
  }

  async close(): Promise<void> {
    await this.#late.close();
  }

  /** Reads what is stored, after whatever was told up to now. Never rejects. */
  #follow(of: SubscriptionKey): Promise<void> {
    for (const reading of this.#readings) if (reading.userId === of.userId) reading.isStale = true;
    const key = keyOf(of);
    const running = this.#following.get(key);
    if (running !== undefined) {
      running.isDirty = true;
      return running.done;
    }
    if (this.#streamsOf(of.userId, of.tenantId).length === 0) return Promise.resolve();
    const following: Following = { isDirty: true, done: Promise.resolve() };
    this.#following.set(key, following);
    following.done = this.#readAndApply(of, following);
    return following.done;
  }

  async #readAndApply(of: SubscriptionKey, following: Following): Promise<void> {
    const { userId, tenantId, group } = of;
    const joins: Promise<void>[] = [];
    try {
      await this.#started();
      while (following.isDirty) {
        following.isDirty = false;
        const [stored] = await this.#store.subscriptions({ userId, tenants: [tenantId] }, group);
        joins.push(...this.#apply(of, stored));
      }
    } catch (error) {
      this.#failed(this.#streamsOf(userId, tenantId), error);
    } finally {
      // In the same turn as the last look at isDirty: whoever is told of a change from now on begins anew.
      this.#following.delete(keyOf(of));
    }
    await Promise.all(joins);
  }

  #apply(of: SubscriptionKey, stored: TakenGroup | undefined): Promise<void>[] {
    const { userId, tenantId, group } = of;
    const reader = { userId, tenants: [tenantId] };
    const taken = this.#withOpenings(reader, stored === undefined ? [] : [stored]).find((one) => one.group === group);
    return this.#streamsOf(userId, tenantId).map(async (stream) => {
      if (taken === undefined) {
        if (stream.filter.delete(group, tenantId)) this.#host.removeTopic(stream.clientId, group);
        return;
      }
      await this.#give(stream, taken);
    });
  }

  /** What a stream has missed of it comes later. */
  #give(stream: StreamMailbox, taken: TakenGroup): Promise<void> {
    const late = this.#late.expect(stream, taken);
    stream.filter.set(taken);
    return this.#join(stream, taken.group, late);
  }

  /** A stream that cannot have it keeps no other one from it; it is reported, and made right later. */
  async #join(stream: StreamMailbox, group: string, late?: LateGroup): Promise<void> {
    try {
      const isNew = await this.#host.addTopic(stream.clientId, group);
      // One that had the topic, and not by a subscription, had it by the application: it got everything live.
      if (late !== undefined && (isNew || late.had !== undefined)) this.#late.add(late);
      else if (late !== undefined) this.#late.drop(late);
    } catch (error) {
      if (late !== undefined) this.#late.drop(late);
      // Else it would have the topic for ever, and hear nothing of it.
      stream.filter.forget(group);
      this.#host.removeTopic(stream.clientId, group);
      this.#failed([stream], error);
    }
  }

  #failed(streams: readonly StreamMailbox[], error: unknown): void {
    for (const stream of streams) if (!stream.isClosed) this.#unsure.add(stream);
    this.#host.report(error);
  }

  /** What is stored, and what is about to be. */
  #withOpenings({ userId, tenants }: Reader, stored: readonly TakenGroup[]): TakenGroup[] {
    if (this.#openings.size === 0) return [...stored];
    const keyOfOne = ({ tenantId, group }: TakenGroup): string => keyOf({ userId, tenantId, group });
    const all = new Map(stored.map((one) => [keyOfOne(one), one]));
    for (const { of, eventTypes } of this.#openings.values()) {
      if (of.userId !== userId || !tenants.includes(of.tenantId)) continue;
      const known = all.get(keyOf(of));
      const isAll = eventTypes === undefined || (known !== undefined && known.eventTypes === undefined);
      const { group, tenantId } = of;
      all.set(keyOf(of), {
        group,
        tenantId,
        eventTypes: isAll ? undefined : [...(known?.eventTypes ?? []), ...eventTypes],
        since: known?.since,
      });
    }
    return [...all.values()];
  }
}

const keyOf = ({ userId, tenantId, group }: SubscriptionKey): string => JSON.stringify([userId, tenantId, group]);
