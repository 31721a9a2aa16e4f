/**
 * Messages that wait for their user. A send is stored, then published over the broker: who is connected gets it now, everybody
 * else when they come. See docs/guides/inbox.md.
 *
 * This file checks what it is given and says who does what: outbound.ts stores and publishes, streams.ts and
 * stream-mailbox.ts deliver to those who connect, unread.ts keeps counters right, relay.ts looks after what others left.
 */
import { SseError, shown } from '../core/errors.js';
import type { EventMap } from '../core/event.js';
import type { MailboxHost } from '../core/mailbox.js';
import { checkOptionNames } from '../core/option-names.js';
import { checkTenantId, checkTopic, checkUserId, topicsDisabled } from '../core/topic.js';
import {
  addressOf,
  checkEventTypes,
  checkSendOptions,
  idOf,
  limitOf,
  PENDING_OPTIONS,
  RECEIVER_TYPES,
  type ReceiverKind,
  selectionOf,
  TENANT_OPTIONS,
} from './inbox-arguments.js';
import { type ResolvedInboxOptions, resolveInboxOptions } from './inbox-options.js';
import type {
  InboxApi,
  InboxMessage,
  InboxOptions,
  InboxReceiver,
  InboxSendOptions,
  InboxStats,
  InboxSubscription,
  InboxTenantOptions,
  MarkReadSelection,
  PendingOptions,
} from './inbox-types.js';
import { checkContents, checkSame } from './message-check.js';
import { newMessageId } from './message-id.js';
import { Outbound } from './outbound.js';
import { isOnlineAnywhere } from './presence.js';
import { Relay } from './relay.js';
import { shownMessage } from './shown-message.js';
import type { InboxStore, NewMessage, Reader, Receiver, StoredMessage } from './store.js';
import { Streams } from './streams.js';
import { Subscribing } from './subscribing.js';
import type { SubscriptionKey } from './user-notice.js';

/** How often this looks at what is due, in ms. */
const TICK_MS = 250;
const NO_OPTIONS: InboxSendOptions = Object.freeze({});
/** Messages deleted, or devices forgotten, in one step. */
const CLEANUP_STEP = 500;

export class Inbox<Events extends EventMap = Record<string, unknown>> implements InboxApi<Events> {
  readonly #options: ResolvedInboxOptions<Events>;
  readonly #store: InboxStore;
  readonly #host: MailboxHost;
  readonly #detach: () => void;
  readonly #leave: (() => Promise<void>) | undefined;
  readonly #outbound: Outbound;
  readonly #streams: Streams;
  readonly #subscribing: Subscribing;
  readonly #relay: Relay;
  #starting: Promise<void> | undefined = undefined;
  #closing: Promise<void> | undefined = undefined;
  #stopTicks: (() => void) | undefined = undefined;
  #cleaned = 0;
  #cleanAt = 0;
  #cleaning: Promise<number> | undefined = undefined;

  /** @throws {SseError} `SSE_ERR_INVALID_OPTION`, naming the option, the value and what is allowed. */
  constructor(options: InboxOptions<Events>) {
    this.#options = resolveInboxOptions(options);
    const { broker, store, presence } = this.#options;
    this.#store = store;
    const started = (): Promise<void> => this.start();
    let made!: { host: MailboxHost; streams: Streams };
    this.#detach = broker.attachMailboxes((host) => {
      made = { host, streams: new Streams(store, host, this.#options, started) };
      return made.streams;
    });
    this.#host = made.host;
    this.#streams = made.streams;
    this.#subscribing = new Subscribing(store, made.streams, this.#options.maxSubscriptionsPerUser);
    this.#outbound = new Outbound(store, made.host, started);
    this.#relay = new Relay(store, made.host, this.#outbound, this.#streams.settled, this.#options);
    try {
      this.#leave = presence?.attach(broker, (error) => made.host.report(error));
    } catch (error) {
      this.#detach();
      throw error;
    }
  }

  start(): Promise<void> {
    if (this.#closing !== undefined) return rejected(closed());
    this.#starting ??= this.#start().catch((error: unknown) => {
      // The next call tries again.
      this.#starting = undefined;
      throw error;
    });
    return this.#starting;
  }

  sendToUser<Name extends keyof Events & string>(
    userId: string,
    event: Name,
    data: Events[Name],
    options?: InboxSendOptions,
  ): Promise<string> {
    return this.#send('user', userId, event, data, options);
  }

  sendToGroup<Name extends keyof Events & string>(
    group: string,
    event: Name,
    data: Events[Name],
    options?: InboxSendOptions,
  ): Promise<string> {
    return this.#send('topic', group, event, data, options);
  }

  broadcast<Name extends keyof Events & string>(
    event: Name,
    data: Events[Name],
    options?: InboxSendOptions,
  ): Promise<string> {
    return this.#send('everybody', '', event, data, options);
  }

  async enqueue<Name extends keyof Events & string>(
    tx: unknown,
    receiver: InboxReceiver,
    event: Name,
    data: Events[Name],
    options: Omit<InboxSendOptions, 'persist' | 'dedupConflict'> = {},
  ): Promise<string> {
    const message = this.#messageOf(...addressOf(receiver), event, data, options);
    if ((options as InboxSendOptions).persist === false) throw needsStore('enqueue');
    if ((options as InboxSendOptions).dedupConflict !== undefined) {
      // Duplicates are found when it is published, long after this.
      throw new SseError('SSE_ERR_INVALID_OPTION', 'dedupConflict is for sends; leave it out of enqueue');
    }
    // Not started here: tx is open, and on SQLite it may be on the only connection there is.
    await this.#store.enqueue(tx, [message]);
    return message.eventId;
  }

  async pending(userId: string, options: PendingOptions = {}): Promise<InboxMessage[]> {
    const reader = this.#readerOf(userId, options, PENDING_OPTIONS);
    const { after } = options;
    const limit = limitOf(options);
    await this.start();
    const position = after === undefined ? 0 : (await this.#known(reader, after)).position;
    const now = this.#host.clock.now();
    const messages = await this.#store.pending({ reader, after: position, limit, now });
    return messages.map(shownMessage);
  }

  async markRead(userId: string, selection: MarkReadSelection, options: InboxTenantOptions = {}): Promise<number> {
    const reader = this.#readerOf(userId, options);
    const read = selectionOf(selection);
    await this.start();
    if (read !== 'all' && 'upTo' in read) await this.#known(reader, read.upTo);
    const changed = await this.#store.markRead(reader, read, this.#host.clock.now());
    if (changed > 0) void this.#streams.tell({ what: 'read', userId, tenantId: reader.tenants.at(-1)!, read });
    return changed;
  }

  async unreadCount(userId: string, options: InboxTenantOptions = {}): Promise<number> {
    const reader = this.#readerOf(userId, options);
    await this.start();
    return this.#store.unreadCount(reader, this.#host.clock.now());
  }

  async isOnline(userId: string, options: InboxTenantOptions = {}): Promise<boolean> {
    this.#readerOf(userId, options);
    return isOnlineAnywhere(this.#options.presence, this.#host, userId, options.tenantId);
  }

  async subscribe(
    userId: string,
    group: string,
    eventTypes?: readonly string[],
    options: InboxTenantOptions = {},
  ): Promise<boolean> {
    const of = this.#subscriptionOf(userId, group, options);
    checkEventTypes(eventTypes);
    await this.start();
    return this.#subscribing.subscribe(of, eventTypes);
  }

  async unsubscribe(userId: string, group: string, options: InboxTenantOptions = {}): Promise<boolean> {
    const of = this.#subscriptionOf(userId, group, options);
    await this.start();
    return this.#subscribing.unsubscribe(of);
  }

  async subscriptions(userId: string, options: InboxTenantOptions = {}): Promise<InboxSubscription[]> {
    const reader = this.#readerOf(userId, options);
    await this.start();
    const found = await this.#store.subscriptions(reader);
    return found.map(({ group, eventTypes, tenantId }) => ({
      group,
      ...(eventTypes !== undefined && { eventTypes }),
      ...(tenantId !== '' && { tenantId }),
    }));
  }

  async cleanup(): Promise<number> {
    await this.start();
    this.#cleaning ??= this.#clean().finally(() => {
      this.#cleaning = undefined;
    });
    return this.#cleaning;
  }

  getStats(): InboxStats {
    const { relayed } = this.#relay;
    return { ...this.#outbound.figures, relayed, backlogged: this.#streams.backlogged, cleaned: this.#cleaned };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #start(): Promise<void> {
    await this.#store.start();
    await this.#relay.open();
    if (!this.#host.isShared) {
      const head = await this.#store.head();
      // Whoever comes to a bus that has no past begins with a round, so what is stored by now needs no other way to them.
      this.#streams.settled.raise(this.#host.isNew() ? head : this.#outbound.settledBefore(head + 1));
    }
    await this.#relay.listen();
    const { relayInterval, cleanupInterval } = this.#options;
    this.#cleanAt = this.#host.clock.monotonic() + cleanupInterval * Math.random();
    this.#stopTicks = this.#host.clock.every(Math.min(TICK_MS, relayInterval), () => this.#tick());
  }

  #tick(): void {
    this.#relay.tick();
    this.#streams.tick(this.#host.clock.now());
    const { cleanupInterval } = this.#options;
    const now = this.#host.clock.monotonic();
    if (cleanupInterval === 0 || now < this.#cleanAt) return;
    // Nodes that were started together drift apart.
    this.#cleanAt = now + cleanupInterval * (0.75 + Math.random() / 2);
    this.cleanup().catch((error: unknown) => this.#host.report(error));
  }

  async #clean(): Promise<number> {
    const { keepRead, keepMessages, deviceTtl } = this.#options;
    const since = (now: number, ms: number): number => (ms === 0 ? 0 : Math.max(0, now - ms));
    const deleted = await this.#inSteps(async () => {
      const now = this.#host.clock.now();
      const [readBefore, createdBefore] = [since(now, keepRead), since(now, keepMessages)];
      const count = await this.#store.cleanup({ now, readBefore, createdBefore, limit: CLEANUP_STEP });
      this.#cleaned += count;
      return count;
    });
    if (deleted > 0) this.#streams.counters.allChanged();
    if (deviceTtl > 0) {
      await this.#inSteps(async () => {
        const seenBefore = since(this.#host.clock.now(), deviceTtl);
        return this.#store.forgetDevices({ seenBefore, limit: CLEANUP_STEP });
      });
    }
    return deleted;
  }

  /** Until a step finds less than a step's worth. */
  async #inSteps(step: () => Promise<number>): Promise<number> {
    let total = 0;
    for (;;) {
      const count = await step();
      total += count;
      if (count < CLEANUP_STEP || this.#closing !== undefined) return total;
      // In between, what waits for the database or the process has its turn.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async #close(): Promise<void> {
    this.#stopTicks?.();
    try {
      if (this.#starting !== undefined) await this.#end(this.#starting);
    } finally {
      // Also where the store could not be told. Not awaited where there is none: a broker may have another inbox right after.
      if (this.#leave !== undefined) await this.#leave();
      this.#detach();
    }
  }

  async #end(starting: Promise<void>): Promise<void> {
    // One that could not start has nothing to end.
    const isStarted = await starting.then(
      () => true,
      () => false,
    );
    this.#stopTicks?.();
    await this.#outbound.close();
    await this.#streams.close();
    await this.#cleaning?.catch(() => {});
    if (isStarted) await this.#relay.close();
  }

  /** No promise but the one that {@link Outbound} makes, in the usual case. */
  #send(
    kind: ReceiverKind,
    name: string,
    event: string,
    data: unknown,
    options: InboxSendOptions | undefined,
  ): Promise<string> {
    try {
      if (options?.persist === false) return this.#publishOnly(kind, name, event, data, options);
      const message = this.#messageOf(kind, name, event, data, options);
      const sent = this.#outbound.send(message);
      return options?.dedupConflict === 'reject' ? this.#compared(message, sent) : sent;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Rejects where what was sent is a duplicate of another message. */
  async #compared(message: NewMessage, sent: Promise<string>): Promise<string> {
    const id = await sent;
    if (id !== message.eventId) checkSame(message, await this.#store.find(id));
    return id;
  }

  async #publishOnly(
    kind: ReceiverKind,
    name: string,
    event: string,
    data: unknown,
    options: InboxSendOptions,
  ): Promise<string> {
    checkSendOptions(options);
    if (options.dedupKey !== undefined) throw needsStore('dedupKey');
    if (this.#closing !== undefined) throw closed();
    const { ttl, priority, tenantId } = options;
    return this.#host.publish(this.#host.prepare(kind, name, event, data, { ttl, priority, tenantId }));
  }

  /** Checked like every event that the broker sends, and for what a store refuses. */
  #messageOf(
    kind: ReceiverKind,
    name: string,
    event: string,
    data: unknown,
    options: InboxSendOptions | undefined,
  ): NewMessage {
    if (this.#closing !== undefined) throw closed();
    if (options !== undefined) checkSendOptions(options);
    const { dedupKey, tenantId, ttl, priority } = options ?? NO_OPTIONS;
    const checked = this.#host.prepare(kind, name, event, data, options && { ttl, priority, tenantId });
    const message: NewMessage = {
      eventId: newMessageId(),
      receiver: { type: RECEIVER_TYPES[kind], name, tenantId: tenantId ?? '' },
      event,
      data: checked.data,
      json: checked.json,
      priority: checked.priority ?? 0,
      // What one row stands for many with is on its way to all of them with the publish.
      status: kind === 'user' ? 'pending' : 'sent',
      expiresAt: Math.ceil(checked.expiresAt),
      createdAt: Math.round(checked.timestamp),
      dedupKey,
    };
    // One bad message must not take those of the same transaction with it.
    checkContents(message);
    return message;
  }

  #readerOf(userId: string, options: InboxTenantOptions, known = TENANT_OPTIONS): Reader {
    if (this.#closing !== undefined) throw closed();
    checkOptionNames('this call', options, known);
    const { tenantId } = options;
    checkUserId(userId);
    return { userId, tenants: tenantId === undefined ? [''] : ['', checkTenantId(tenantId)] };
  }

  #subscriptionOf(userId: string, group: string, options: InboxTenantOptions): SubscriptionKey {
    const { tenants } = this.#readerOf(userId, options);
    if (!this.#options.broker.options.enableTopics) throw topicsDisabled();
    return { userId, tenantId: tenants.at(-1)!, group: checkTopic(group) };
  }

  /** A message by its id, where it is this reader's to see. */
  async #known(reader: Reader, id: string): Promise<StoredMessage> {
    const message = await this.#store.find(idOf(id));
    const receiver: Receiver | undefined = message?.receiver;
    const isTheirs =
      receiver !== undefined &&
      reader.tenants.includes(receiver.tenantId) &&
      (receiver.type !== 'user' || receiver.name === reader.userId);
    if (!isTheirs)
      throw new SseError('SSE_ERR_UNKNOWN_MESSAGE', `no message ${shown(id)}: it was cleaned up, or never was`);
    return message!;
  }
}

function closed(): SseError {
  return new SseError('SSE_ERR_BROKER_CLOSED', 'the inbox is closed; make another');
}

function needsStore(what: string): SseError {
  return new SseError('SSE_ERR_INVALID_OPTION', `${what} needs a stored message: leave it or persist: false out`);
}

function rejected(error: SseError): Promise<never> {
  return Promise.reject(error);
}
