/** What a store must answer, worked out the long way: from everything that ever happened to it. */
import type { NewMessage, Reader, Receiver } from '../../src/inbox/store.js';

export interface Known {
  readonly message: NewMessage;
  readonly index: number;
  readonly readers: Set<string>;
  /** When the user it was for read it. */
  readAt: number;
}

interface Taken {
  readonly user: string;
  readonly tenant: string;
  readonly group: string;
  types: readonly string[] | undefined;
  /** Messages from this one on. */
  readonly from: number;
}

export class Model {
  /** In order of position; `undefined` where cleaned up. */
  readonly all: (Known | undefined)[] = [];
  #subscriptions: Taken[] = [];

  append(message: NewMessage): boolean {
    const isKnown = this.all.some(
      (known) =>
        known !== undefined &&
        (known.message.eventId === message.eventId ||
          (message.dedupKey !== undefined &&
            known.message.dedupKey === message.dedupKey &&
            known.message.receiver.tenantId === message.receiver.tenantId)),
    );
    if (!isKnown) this.all.push({ message, index: this.all.length, readers: new Set(), readAt: 0 });
    return !isKnown;
  }

  subscribe(user: string, tenant: string, group: string, types: readonly string[] | undefined): void {
    const old = this.#find(user, tenant, group);
    if (old) old.types = types;
    else this.#subscriptions.push({ user, tenant, group, types, from: this.all.length });
  }

  unsubscribe(user: string, tenant: string, group: string): void {
    const old = this.#find(user, tenant, group);
    this.#subscriptions = this.#subscriptions.filter((one) => one !== old);
  }

  hasSubscription(user: string, tenant: string, group: string): boolean {
    return this.#find(user, tenant, group) !== undefined;
  }

  unread(reader: Reader, now: number): Known[] {
    return this.all.filter((known): known is Known => known !== undefined && this.#isUnread(known, reader, now));
  }

  /** Whether the reader may ever get it, as subscriptions are: read or not, expired or not, from before one or not. */
  isFor(receiver: Receiver, event: string, { userId, tenants }: Reader): boolean {
    if (!tenants.includes(receiver.tenantId)) return false;
    if (receiver.type !== 'group') return receiver.type === 'everybody' || receiver.name === userId;
    return this.#takes(userId, tenants, receiver.name).some(({ types }) => types?.includes(event) ?? true);
  }

  markRead(known: Known, reader: Reader, now: number): void {
    known.readers.add(reader.userId);
    if (known.message.receiver.type === 'user') known.readAt = now;
  }

  mayGo(known: Known, now: number, readBefore: number, createdBefore: number): boolean {
    const { expiresAt, createdAt } = known.message;
    const isRead = known.readAt > 0 && known.readAt < readBefore;
    return (expiresAt > 0 && expiresAt <= now) || isRead || createdAt < createdBefore;
  }

  #find(user: string, tenant: string, group: string): Taken | undefined {
    return this.#subscriptions.find((one) => one.user === user && one.tenant === tenant && one.group === group);
  }

  #takes(userId: string, tenants: readonly string[], group: string): Taken[] {
    return this.#subscriptions.filter(
      (one) => one.user === userId && tenants.includes(one.tenant) && one.group === group,
    );
  }

  #isUnread({ message, index, readers }: Known, { userId, tenants }: Reader, now: number): boolean {
    const { receiver, event, expiresAt } = message;
    if (readers.has(userId) || (expiresAt > 0 && expiresAt <= now)) return false;
    if (!tenants.includes(receiver.tenantId)) return false;
    if (receiver.type === 'user') return receiver.name === userId;
    if (receiver.type === 'everybody') return true;
    return this.#takes(userId, tenants, receiver.name).some(
      ({ types, from }) => index >= from && (types === undefined || types.includes(event)),
    );
  }
}
