/**
 * What was sent to a group after its user had subscribed to it, and before this node knew: its streams did not have the topic then.
 * When they have, they get those messages out of the store, in the order of a round, behind what they have got.
 *
 * They go over the bus to the one client: so each has an id in the order of its stream, and says what else the client has. What
 * comes live meanwhile cannot be told from them by its place, since a message may be published long after it was stored: until
 * all of them are settled the stream notes what it got, so that each comes once, whichever way it comes first.
 */
import type { MailboxHost } from '../core/mailbox.js';
import type { TakenGroup } from './group-filter.js';
import { eventOf } from './message-event.js';
import { storedTag } from './message-tag.js';
import type { BacklogCursor, InboxStore, StoredMessage } from './store.js';
import type { StreamMailbox } from './stream-mailbox.js';

/** Messages read at once. */
const PAGE = 100;
/** How long until what failed is tried again, in ms. */
const RETRY_MS = 1_000;

/** A group that a stream should have had for a while. */
export interface LateGroup {
  readonly stream: StreamMailbox;
  readonly group: string;
  readonly since: number;
  /** What its other subscriptions took of the group; undefined where there was none, and so no topic. */
  readonly had: ((event: string, position: number) => boolean) | undefined;
  /** The head of the store when the stream had the topic: later ones come live. */
  through?: number;
  after?: BacklogCursor | undefined;
  /** Read, and not published. */
  waiting: StoredMessage[];
  isThrough: boolean;
}

export interface LateGroupsHost {
  readonly store: InboxStore;
  readonly host: MailboxHost;
  /** Every message up to here was published before whatever is published from now on. */
  settled(): number;
}

export class LateGroups {
  readonly #store: InboxStore;
  readonly #host: MailboxHost;
  readonly #settled: () => number;
  readonly #late = new Set<LateGroup>();
  #running: Promise<void> | undefined = undefined;
  #retryAt = 0;
  #isClosed = false;

  constructor({ store, host, settled }: LateGroupsHost) {
    this.#store = store;
    this.#host = host;
    this.#settled = settled;
  }

  /** Before the filter of a stream has it: what is stored there, and the stream may have missed messages of. {@link add} it, or {@link drop} it. */
  expect(stream: StreamMailbox, { group, tenantId, since }: TakenGroup): LateGroup | undefined {
    // One that connects reads what is stored by itself; and what is about to be stored takes nothing yet.
    if (!stream.isListening || since === undefined || stream.filter.has(group, tenantId)) return undefined;
    const had = stream.filter.groups.includes(group) ? stream.filter.takenNow(group) : undefined;
    stream.noteGroups();
    return { stream, group, since, had, waiting: [], isThrough: false };
  }

  /** The stream has the topic. */
  add(late: LateGroup): void {
    this.#late.add(late);
    this.tick();
  }

  drop(late: LateGroup): void {
    this.#late.delete(late);
    late.stream.endNotes();
  }

  tick(): void {
    if (this.#late.size === 0 || this.#running !== undefined || this.#isClosed) return;
    if (this.#host.clock.monotonic() < this.#retryAt) return;
    this.#running = this.#goOn().finally(() => {
      this.#running = undefined;
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#running;
  }

  async #goOn(): Promise<void> {
    for (const late of [...this.#late]) {
      const { stream, through = Number.POSITIVE_INFINITY } = late;
      if (this.#isClosed) return;
      if (stream.isClosed || (late.isThrough && this.#settled() >= through)) {
        // What has come by counts as settled, and the stream is asked about it at the end of the turn: first it must know.
        this.#host.handOver(stream.clientId);
        this.drop(late);
        continue;
      }
      if (late.isThrough || !stream.isLive || !this.#host.isKeepingUp(stream.clientId)) continue;
      try {
        await this.#deliverSome(late);
      } catch (error) {
        this.#host.report(error);
        this.#retryAt = this.#host.clock.monotonic() + RETRY_MS;
        return;
      }
    }
  }

  async #deliverSome(late: LateGroup): Promise<void> {
    const { stream, group, waiting } = late;
    late.through ??= await this.#store.head();
    while (waiting.length === 0 && !late.isThrough) waiting.push(...(await this.#read(late, late.through)));
    while (waiting.length > 0 && !stream.isClosed) {
      const message = waiting[0]!;
      // Not where the subscription has ended since.
      const isTaken = stream.filter.take(group, message.event, message.position) === 'waits';
      if (isTaken) await this.#host.publish(this.#eventOf(stream, message));
      waiting.shift();
    }
  }

  async #read(late: LateGroup, through: number): Promise<StoredMessage[]> {
    const { stream, group, since, had, after } = late;
    const from = Math.max(since, stream.through);
    const range = { reader: stream.reader, from, through, after, limit: PAGE, now: this.#host.clock.now() };
    const messages = from < through ? await this.#store.backlog(range) : [];
    const last = messages.at(-1);
    late.isThrough = last === undefined;
    late.after = last;
    return messages.filter(({ receiver, event, position, expiresAt }) => {
      const isOfGroup = receiver.type === 'group' && receiver.name === group;
      return isOfGroup && had?.(event, position) !== true && stream.takesStored(group, event, { position, expiresAt });
    });
  }

  #eventOf({ clientId }: StreamMailbox, message: StoredMessage) {
    const tag = storedTag(message.eventId, this.#settled());
    return this.#host.restore(eventOf(message, 'client', clientId, undefined, tag));
  }
}
