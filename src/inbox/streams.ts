/**
 * The streams of this node that have a user: their mailboxes, what the other nodes say of their users, and up to where their
 * devices were served.
 *
 * A device's cursor moves on evidence only: its client comes back and says what it has, or it was handed everything and took
 * all of it, and has not gone within the grace time since.
 */
import type { BusEvent } from '../core/event.js';
import type { Mailbox, MailboxHost, MailboxProvider, MailboxRequest } from '../core/mailbox.js';
import { Deliveries, type StreamMove } from './deliveries.js';
import { GroupChanges } from './group-changes.js';
import { Settled } from './settled.js';
import type { InboxStore, ReadSelection } from './store.js';
import { StreamMailbox, type StreamsHost } from './stream-mailbox.js';
import { Telling } from './telling.js';
import { UnreadCounters } from './unread.js';
import { noticeIn, type UserNotice } from './user-notice.js';

/** Cursors that a store is given at once: what their devices have got lies side by side. */
const MOVES = 1_000;
/** How often a device is said to be there that gets nothing, at the least; a quarter of its time to live, where that is less. */
const SEEN_EVERY_MS = 24 * 60 * 60_000;

export interface StreamsOptions {
  readonly unreadEvent: string | false;
  readonly deviceGrace: number;
  readonly deviceTtl: number;
  readonly maxDevicesPerUser: number;
}

export class Streams implements MailboxProvider {
  /** Messages delivered in rounds. */
  backlogged = 0;
  readonly settled = new Settled();
  readonly counters: UnreadCounters;
  readonly #store: InboxStore;
  readonly #host: MailboxHost;
  readonly #options: StreamsOptions;
  /** And when their devices were last said to be there, in monotonic ms. */
  readonly #streams = new Map<StreamMailbox, number>();
  readonly #streamsHost: StreamsHost;
  readonly #groups: GroupChanges;
  readonly #telling: Telling;
  readonly #deliveries = new Deliveries();
  #claimsAt = 0;
  #advancing: Promise<void> | undefined = undefined;

  constructor(store: InboxStore, host: MailboxHost, options: StreamsOptions, started: () => Promise<void>) {
    this.#store = store;
    this.#host = host;
    this.#options = options;
    this.counters = new UnreadCounters(store, host, options.unreadEvent);
    const streamsOf = (userId: string, tenantId: string): StreamMailbox[] =>
      this.counters.of(userId, tenantId).flatMap((user) => [...user.streams] as StreamMailbox[]);
    const settled = (): number => this.settled.position;
    this.#groups = new GroupChanges({ store, host, started, streamsOf, settled });
    this.#telling = new Telling(host);
    this.#streamsHost = this.#makeStreamsHost();
  }

  get placeTag(): string {
    return this.settled.tag;
  }

  open(request: MailboxRequest): Mailbox {
    const mailbox = new StreamMailbox(this.#streamsHost, request);
    mailbox.user = this.counters.add(mailbox.reader, mailbox);
    this.#streams.set(mailbox, Number.NEGATIVE_INFINITY);
    return mailbox;
  }

  passing(tag: string, id: string): string | undefined {
    return this.settled.passing(tag, id);
  }

  async asked(text: string): Promise<number> {
    return this.take(noticeIn(text));
  }

  /** What was told, here or on another node. Resolves when this node's streams have it, to how many there are. */
  async take(notice: UserNotice): Promise<number> {
    if (notice.what === 'welcome') {
      if (notice.node === this.#host.nodeId) this.interrupted();
      return 0;
    }
    const { userId, tenantId } = notice;
    if (notice.what === 'read') return this.#takeRead(userId, tenantId, notice.read);
    await this.#groups.take(notice);
    const users = this.counters.of(userId, tenantId);
    for (const user of users) this.counters.recount(user);
    return users.reduce((count, { streams }) => count + streams.size, 0);
  }

  /** Asks anew for whatever other nodes may have said meanwhile: the next ticks do it. */
  interrupted(): void {
    this.#groups.doubt(this.#streams.keys());
    this.counters.allChanged();
  }

  /** That node asks anew, too. */
  joined(node: string): void {
    void this.#telling.tell({ what: 'welcome', node });
  }

  /** Tells this node and all others; what other nodes do not answer is reported, and told again. Never rejects. */
  async tell(notice: UserNotice): Promise<void> {
    try {
      await this.take(notice);
    } catch (error) {
      this.#host.report(error);
    }
    await this.#telling.tell(notice);
  }

  /** Moves the cursors of devices that have kept up; `now`: ms since 1970. */
  tick(now: number): void {
    this.counters.tick(now);
    const monotonic = this.#host.clock.monotonic();
    this.#groups.tick(monotonic);
    this.#telling.tick(monotonic);
    if (monotonic < this.#claimsAt || this.#advancing !== undefined) return;
    this.#claimsAt = monotonic + this.#options.deviceGrace;
    this.#advancing = Promise.all([this.#advance(), this.#groups.ask((stream) => this.counters.recount(stream.user))])
      .catch((error: unknown) => this.#host.report(error))
      .then(() => {
        this.#advancing = undefined;
      });
  }

  async close(): Promise<void> {
    this.counters.close();
    await this.#groups.close();
    await this.#advancing;
  }

  async #advance(): Promise<void> {
    const { deviceTtl, maxDevicesPerUser } = this.#options;
    const seenEvery = deviceTtl === 0 ? SEEN_EVERY_MS : Math.min(SEEN_EVERY_MS, deviceTtl / 4);
    const got = this.#deliveries.byStream();
    let moves: StreamMove[] = [];
    const flush = async (): Promise<void> => {
      const some = moves;
      moves = [];
      if (some.length === 0) return;
      const seenAt = this.#host.clock.monotonic();
      try {
        await this.#store.advance(some.map(this.#deliveries.moveOf), {
          now: this.#host.clock.now(),
          maxDevices: maxDevicesPerUser,
          delivered: some.flatMap(({ stream, position }) => got.get(stream)?.filter((one) => one <= position) ?? []),
        });
        // Not before: what failed is tried again.
        for (const { stream, position } of some) {
          stream.advanced = Math.max(stream.advanced, position);
          if (!stream.isClosed) this.#streams.set(stream, seenAt);
        }
      } catch (error) {
        this.#host.report(error);
      }
    };
    for (const [stream, seenAt] of [...this.#streams]) {
      if (stream.isClosed) continue;
      // What its client said when it came is certain; the rest only where the socket has taken all, a grace time later.
      const isKeepingUp = this.#host.isKeepingUp(stream.clientId);
      const isServed = stream.claim > stream.advanced && (!stream.isLive || isKeepingUp);
      // Else a device whose user is sent nothing would be forgotten as one that does not come.
      const isUnseen = stream.advanced > 0 && this.#host.clock.monotonic() - seenAt > seenEvery;
      if (isServed || isUnseen) moves.push({ stream, position: isServed ? stream.claim : stream.advanced });
      if (stream.isLive && isKeepingUp && stream.hasNews) {
        stream.hasNews = stream.served < stream.newest;
        stream.claim = stream.served;
      }
      if (moves.length < MOVES) continue;
      await flush();
      // A store of this process takes its time of the process's: sockets have their turn in between.
      await new Promise((resolve) => setImmediate(resolve));
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

  #makeStreamsHost(): StreamsHost {
    const { settled } = this;
    return {
      store: this.#store,
      get settled() {
        return settled.position;
      },
      now: () => this.#host.clock.now(),
      subscriptionsOf: (reader) => this.#groups.subscriptionsOf(reader),
      gets: (mailbox, position) => this.#deliveries.add(mailbox, position),
      arrived: (mailbox, { expiresAt }: Pick<BusEvent, 'expiresAt'>) => {
        if (expiresAt > 0) this.counters.expires(mailbox.user, expiresAt);
        this.counters.changed(mailbox.user);
      },
      replayed: (position, id) => settled.replayed(position, id),
      delivered: (count) => {
        this.backlogged += count;
      },
      tell: (clientId, data) => this.#host.tell(clientId, this.#options.unreadEvent as string, data),
      live: (mailbox) => this.counters.changed(mailbox.user),
      closed: (mailbox) => {
        this.counters.remove(mailbox.user, mailbox);
        this.#streams.delete(mailbox);
        this.#groups.closed(mailbox);
      },
    };
  }
}
