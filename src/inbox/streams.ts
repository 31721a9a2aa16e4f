/**
 * The streams of this node that have a user: their mailboxes, what the other nodes say of their users, and up to where their
 * devices were served.
 *
 * A device's cursor moves on evidence only: its client comes back and says what it has, or it was handed everything and took
 * all of it, and has not gone within the grace time since.
 */
import type { BusEvent } from '../core/event.js';
import type { Mailbox, MailboxHost, MailboxProvider, MailboxRequest } from '../core/mailbox.js';
import { Settled } from './settled.js';
import type { InboxStore, Reader, ReadSelection, Subscription } from './store.js';
import { StreamMailbox, type StreamsHost } from './stream-mailbox.js';
import { UnreadCounters } from './unread.js';

/** Cursors moved in one transaction. */
const MOVES = 500;
/** How long a node remembers a change of a subscription for streams that are just connecting, in ms. */
const RECENT_MS = 30_000;

/** What nodes tell each other about a user. */
export type UserNotice =
  /** `tenantId`: of who read. What was sent without a tenant counts in every one, but what was marked is told in theirs only. */
  | {
      readonly what: 'read';
      readonly userId: string;
      readonly tenantId: string;
      readonly read?: ReadSelection | undefined;
    }
  | {
      readonly what: 'subscribe';
      readonly userId: string;
      readonly tenantId: string;
      readonly group: string;
      readonly eventTypes?: readonly string[] | undefined;
    }
  | { readonly what: 'unsubscribe'; readonly userId: string; readonly tenantId: string; readonly group: string }
  /** What is stored counts; a change to the group may have failed. */
  | { readonly what: 'reload'; readonly userId: string; readonly tenantId: string; readonly group: string };

type Change = Extract<UserNotice, { what: 'subscribe' | 'unsubscribe' }>;

export interface StreamsOptions {
  readonly unreadEvent: string | false;
  readonly deviceGrace: number;
}

export class Streams implements MailboxProvider {
  /** Messages delivered in rounds. */
  backlogged = 0;
  readonly settled = new Settled();
  readonly counters: UnreadCounters;
  readonly #store: InboxStore;
  readonly #host: MailboxHost;
  readonly #options: StreamsOptions;
  readonly #started: () => Promise<void>;
  readonly #streams = new Set<StreamMailbox>();
  readonly #streamsHost: StreamsHost;
  /** Changes of subscriptions, the oldest first, so that a stream which read the store just before does not miss them. */
  readonly #changes = new Map<string, { readonly change: Change; readonly until: number }>();
  /** Streams that could not be told of a change: they ask for what is stored until they have it. */
  readonly #unsure = new Set<StreamMailbox>();
  #claimsAt = 0;
  #advancing: Promise<void> | undefined = undefined;

  constructor(store: InboxStore, host: MailboxHost, options: StreamsOptions, started: () => Promise<void>) {
    this.#store = store;
    this.#host = host;
    this.#options = options;
    this.#started = started;
    this.counters = new UnreadCounters(store, host, options.unreadEvent);
    this.#streamsHost = this.#makeStreamsHost();
  }

  get placeTag(): string {
    return this.settled.tag;
  }

  open(request: MailboxRequest): Mailbox {
    const mailbox = new StreamMailbox(this.#streamsHost, request);
    mailbox.user = this.counters.add(mailbox.reader, mailbox);
    this.#streams.add(mailbox);
    return mailbox;
  }

  passing(tag: string): string | undefined {
    return this.settled.passing(tag);
  }

  async asked(text: string): Promise<number> {
    return this.take(noticeIn(text));
  }

  /** What was told, here or on another node. Resolves when this node's streams have it, to how many there are. */
  async take(notice: UserNotice): Promise<number> {
    const { userId, tenantId } = notice;
    if (notice.what === 'read') return this.#takeRead(userId, tenantId, notice.read);
    const users = this.counters.of(userId, tenantId);
    const key = JSON.stringify([userId, tenantId, notice.group]);
    // At the end of the map: what is told last is forgotten last.
    this.#changes.delete(key);
    if (notice.what !== 'reload') {
      this.#changes.set(key, { change: notice, until: this.#host.clock.monotonic() + RECENT_MS });
    }
    const streams = users.flatMap((user) => [...user.streams] as StreamMailbox[]);
    await Promise.all(streams.map((stream) => this.#applyAlone(stream, notice)));
    for (const user of users) this.counters.changed(user);
    return streams.length;
  }

  /** Tells this node and all others; what other nodes do not answer is reported. Never rejects. */
  async tell(notice: UserNotice): Promise<void> {
    try {
      await this.take(notice);
      await this.#host.askNodes(JSON.stringify(notice));
    } catch (error) {
      this.#host.report(error);
    }
  }

  /** Moves the cursors of devices that have kept up; `now`: ms since 1970. */
  tick(now: number): void {
    this.counters.tick(now);
    const monotonic = this.#host.clock.monotonic();
    for (const [key, { until }] of this.#changes) {
      if (until > monotonic) break;
      this.#changes.delete(key);
    }
    if (monotonic < this.#claimsAt || this.#advancing !== undefined) return;
    this.#claimsAt = monotonic + this.#options.deviceGrace;
    this.#advancing = Promise.all([this.#advance(), this.#ask()])
      .catch((error: unknown) => this.#host.report(error))
      .then(() => {
        this.#advancing = undefined;
      });
  }

  async close(): Promise<void> {
    this.counters.close();
    await this.#advancing;
  }

  async #advance(): Promise<void> {
    let moves: { stream: StreamMailbox; position: number }[] = [];
    const flush = async (): Promise<void> => {
      const some = moves;
      moves = [];
      if (some.length === 0) return;
      try {
        await this.#store.advance(
          some.map(({ stream: { reader, device }, position }) => ({ reader, device, position })),
        );
        // Not before: what failed is tried again.
        for (const { stream, position } of some) stream.advanced = Math.max(stream.advanced, position);
      } catch (error) {
        this.#host.report(error);
      }
    };
    for (const stream of [...this.#streams]) {
      if (stream.isClosed) continue;
      // What its client said when it came is certain; the rest only where the socket has taken all, a grace time later.
      const isKeepingUp = this.#host.isKeepingUp(stream.clientId);
      if (stream.claim > stream.advanced && (!stream.isLive || isKeepingUp)) {
        moves.push({ stream, position: stream.claim });
        if (moves.length === MOVES) await flush();
      }
      if (!stream.isLive || !isKeepingUp || !stream.hasNews) continue;
      stream.hasNews = stream.served < stream.newest;
      stream.claim = stream.served;
    }
    await flush();
  }

  #takeRead(userId: string, tenantId: string, read: ReadSelection | undefined): number {
    let streams = 0;
    for (const user of this.counters.of(userId, '')) {
      // The same id in another tenant may be another person: they learn their own number, and nothing else.
      this.counters.changed(user, user.reader.tenants.at(-1) === tenantId ? read : undefined);
      streams += user.streams.size;
    }
    return streams;
  }

  /** Streams that missed a change ask for what is stored, until the first that cannot. */
  async #ask(): Promise<void> {
    for (const stream of [...this.#unsure]) {
      this.#unsure.delete(stream);
      if (stream.isClosed) continue;
      await this.#applyAlone(stream, { what: 'reload' });
      if (this.#unsure.has(stream)) return;
      this.counters.changed(stream.user);
    }
  }

  /** A stream that cannot have it keeps no other one from it; it is reported, and made right later. */
  async #applyAlone(stream: StreamMailbox, notice: Change | { what: 'reload' }): Promise<void> {
    try {
      await this.#apply(stream, notice);
    } catch (error) {
      if (!stream.isClosed) this.#unsure.add(stream);
      this.#host.report(error);
    }
  }

  async #apply(stream: StreamMailbox, notice: Change | { what: 'reload' }): Promise<void> {
    if (notice.what === 'subscribe') {
      stream.filter.set(notice.group, notice.tenantId, notice.eventTypes);
      await this.#host.addTopic(stream.clientId, notice.group);
    } else if (notice.what === 'unsubscribe') {
      if (stream.filter.delete(notice.group, notice.tenantId)) {
        this.#host.removeTopic(stream.clientId, notice.group);
      }
    } else {
      const subscriptions = await this.#subscriptionsOf(stream.reader);
      for (const group of stream.filter.replace(subscriptions)) this.#host.removeTopic(stream.clientId, group);
      await Promise.all(stream.filter.groups.map((group) => this.#host.addTopic(stream.clientId, group)));
    }
  }

  /** What is stored, and what was told of since: it may be under way. */
  async #subscriptionsOf(reader: Reader): Promise<Pick<Subscription, 'group' | 'tenantId' | 'eventTypes'>[]> {
    await this.#started();
    const stored = await this.#store.subscriptions(reader);
    if (this.#changes.size === 0) return stored;
    const all = new Map<string, Pick<Subscription, 'group' | 'tenantId' | 'eventTypes'>>();
    const keyOf = (tenantId: string, group: string): string => JSON.stringify([reader.userId, tenantId, group]);
    for (const one of stored) all.set(keyOf(one.tenantId, one.group), one);
    for (const [key, { change }] of this.#changes) {
      if (change.userId !== reader.userId || !reader.tenants.includes(change.tenantId)) continue;
      if (change.what === 'subscribe') all.set(key, change);
      else all.delete(key);
    }
    return [...all.values()];
  }

  #makeStreamsHost(): StreamsHost {
    const { settled } = this;
    return {
      store: this.#store,
      get settled() {
        return settled.position;
      },
      now: () => this.#host.clock.now(),
      subscriptionsOf: (reader) => this.#subscriptionsOf(reader),
      arrived: (mailbox, { expiresAt }: Pick<BusEvent, 'expiresAt'>) => {
        if (expiresAt > 0) this.counters.expires(mailbox.user, expiresAt);
        this.counters.changed(mailbox.user);
      },
      replayed: (position) => settled.note(position),
      delivered: (count) => {
        this.backlogged += count;
      },
      tell: (clientId, data) => this.#host.tell(clientId, this.#options.unreadEvent as string, data),
      live: (mailbox) => this.counters.changed(mailbox.user),
      closed: (mailbox) => {
        this.counters.remove(mailbox.user, mailbox);
        this.#streams.delete(mailbox);
        this.#unsure.delete(mailbox);
      },
    };
  }
}

/** @throws {TypeError} where another node says what this one does not understand. */
function noticeIn(text: string): UserNotice {
  const notice = JSON.parse(text) as Partial<Record<string, unknown>>;
  const { what, userId, tenantId, group, eventTypes, read } = notice ?? {};
  const isText = (value: unknown): value is string => typeof value === 'string';
  const isList = (value: unknown): boolean => Array.isArray(value) && value.every(isText);
  const isNamed = isText(userId) && isText(tenantId);
  const isRead =
    read === undefined ||
    read === 'all' ||
    isList((read as { eventIds?: unknown } | null)?.eventIds) ||
    isText((read as { upTo?: unknown } | null)?.upTo);
  const isKnown =
    (what === 'read' && isRead) ||
    ((what === 'reload' || what === 'unsubscribe') && isText(group)) ||
    (what === 'subscribe' && isText(group) && (eventTypes === undefined || isList(eventTypes)));
  if (!isNamed || !isKnown) throw new TypeError('a node told something about a user that makes no sense');
  return notice as unknown as UserNotice;
}
