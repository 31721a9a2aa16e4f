/**
 * What waits for the user of one stream, and what of the live events that stream has already: a {@link Mailbox}.
 *
 * A round delivers what is unread with positions above `from` and up to `through`, the head of the store when the round
 * began: later ones come live, because the stream was on all its channels before. So a live message up to `through` is one
 * that the round had, or one that the user has read; either way it is hidden.
 */

import type { BusEvent } from '../core/event.js';
import type { Mailbox, MailboxRequest, WaitingEvent } from '../core/mailbox.js';
import { audienceOf } from '../core/topic.js';
import { GroupFilter, type TakenGroup } from './group-filter.js';
import { type CursorSections, cursorIn, placeIn, type RoundProgress, roundTag, settledTag } from './message-tag.js';
import type { BacklogCursor, InboxStore, Reader, StoredMessage } from './store.js';
import type { Counted, CountedUser } from './unread.js';

/** Messages read at once: at most, and before it is known how large they are. */
const PAGE = 100;
const FIRST_PAGE = 16;
/** Positions that a stream notes while it gets a group late. */
const MOST_NOTES = 10_000;
/** Characters of data that a page should not have more of: a stream that stalls keeps its page. */
const PAGE_CHARS = 128 * 1024;

/** What a stream's mailbox needs of the inbox. */
export interface StreamsHost {
  readonly store: InboxStore;
  /** Every message up to here was published before whatever is published from now on. */
  readonly settled: number;
  now(): number;
  subscriptionsOf(reader: Reader): Promise<readonly TakenGroup[]>;
  /** It gets a message to its user. */
  gets(mailbox: StreamMailbox, position: number): void;
  /** A message for this user came by. */
  arrived(mailbox: StreamMailbox, event: Pick<BusEvent, 'expiresAt'>): void;
  /** A message came out of the bus's history; `id`: of its event. */
  replayed(position: number, id: string): void;
  delivered(count: number): void;
  tell(clientId: string, data: string): void;
  live(mailbox: StreamMailbox): void;
  closed(mailbox: StreamMailbox): void;
}

export class StreamMailbox implements Mailbox, Counted {
  readonly reader: Reader;
  readonly clientId: string;
  readonly device: string;
  readonly filter: GroupFilter;
  isLive = false;
  isClosed = false;
  told: number | undefined = undefined;
  /** Whose counter it shows; set by who made it. */
  user!: CountedUser;
  /** It got messages since its device's cursor was last claimed. */
  hasNews = false;
  /** The highest position that it got. */
  newest = 0;
  /** Its device counts as served up to here unless the stream stalls; 0 for nothing. */
  claim = 0;
  /** The cursor of the device as far as this stream knows. */
  advanced = 0;
  /** What its device got above this, it got by this stream. */
  knownAfter = 0;
  readonly #host: StreamsHost;
  /** Whether it has read its groups: from then on it is told of changes. */
  #isListening = false;
  /** How many groups it gets late, and the positions of group messages that it got meanwhile. */
  #lateGroups = 0;
  readonly #noted = new Set<number>();
  /** It has, or does not want, everything up to here. */
  #through = 0;
  /** And this one. */
  #one: number | undefined = undefined;
  #round: RoundProgress | undefined = undefined;
  #isRoundOpen = false;
  #pageSize = FIRST_PAGE;
  /** What came out of the bus's history: one that was published again, after a node's death, stands there twice. */
  #replayed: Set<number> | undefined = undefined;
  /** What its client says that it has. */
  readonly #said: CursorSections;
  /** Its client says nothing of messages, or what cannot be. */
  #isFresh = true;
  #isCut = false;

  constructor(host: StreamsHost, request: MailboxRequest) {
    const { identity, clientId, device, sections, hasOwnTopic } = request;
    const { userId, tenantId } = identity;
    this.#host = host;
    this.reader = { userId, tenants: tenantId === undefined ? [''] : ['', tenantId] };
    this.clientId = clientId;
    this.device = device;
    this.filter = new GroupFilter(hasOwnTopic);
    this.#said = cursorIn(sections);
  }

  get isDue(): boolean {
    return this.#isFresh || this.#isCut;
  }

  get tag(): string {
    if (this.#isRoundOpen) return roundTag(this.#round!);
    return settledTag(this.served);
  }

  async topics(): Promise<readonly string[]> {
    for (const one of await this.#host.subscriptionsOf(this.reader)) this.filter.set(one);
    this.#isListening = true;
    // Not before: reading them starts the inbox, and with that this node knows what is settled.
    await this.#hear(this.#said);
    return this.filter.groups;
  }

  async begin(isAfterLoss: boolean): Promise<void> {
    const { store } = this.#host;
    this.#isRoundOpen = true;
    if (this.#isCut && !isAfterLoss && this.#round !== undefined) return;
    // After a round, or with a cursor that says so, the stream knows what it has; else only its device does.
    const isKnown = this.#through > 0;
    const served = isKnown ? this.#through : await store.cursor(this.reader, this.device);
    const through = await store.head();
    // A device that was served what the store never had was served by another store.
    const from = isKnown || served <= through ? served : 0;
    this.advanced = isKnown ? 0 : from;
    const one = this.#one !== undefined && this.#one > from ? this.#one : undefined;
    this.#round = { from, through: Math.max(from, through), after: undefined, one };
  }

  async next(): Promise<readonly WaitingEvent[]> {
    const { store } = this.#host;
    while (true) {
      const { from, through, after, one } = this.#round!;
      const now = this.#host.now();
      const range = { reader: this.reader, from, through, after, limit: this.#pageSize, now };
      const messages = from < through ? await store.backlog(range) : [];
      const last = messages.at(-1);
      if (last === undefined) {
        this.#through = Math.max(this.#through, through);
        this.#isRoundOpen = false;
        return [];
      }
      this.#pageSize = pageSizeAfter(messages);
      const events = messages
        .filter(({ position }) => position !== this.#one)
        .map((message) => this.#waiting(message, { from, through, after: placeOf(message), one }));
      this.#round = { from, through, after: placeOf(last), one };
      if (events.length === 0) continue;
      for (const { receiver, position } of messages) if (receiver.type === 'user') this.#host.gets(this, position);
      this.hasNews = true;
      this.#host.delivered(events.length);
      return events;
    }
  }

  hides(event: BusEvent): boolean {
    const place = event.tag === undefined ? undefined : placeIn(event.tag);
    if (place === undefined) return false;
    const { position } = place;
    const group = groupOf(event.key);
    const take = group === undefined ? 'waits' : this.filter.take(group, event.event, position);
    if (take !== 'waits') return take === 'no';
    if (position <= this.#through || position === this.#one) return true;
    if (group !== undefined && !this.#isFirst(position)) return true;
    this.#gets(position);
    if (event.key.startsWith('u:')) this.#host.gets(this, position);
    if (!this.isLive) {
      this.#replayed ??= new Set();
      if (this.#replayed.has(position)) return true;
      this.#replayed.add(position);
      this.#host.replayed(position, event.id);
    }
    this.#host.arrived(this, event);
    return false;
  }

  /** From now on it notes which group messages it gets. */
  noteGroups(): void {
    this.#lateGroups++;
  }

  endNotes(): void {
    if (--this.#lateGroups === 0) this.#noted.clear();
  }

  /** Whether it is to get a message to that group out of the store; then it does not get it live any more. */
  takesStored(
    group: string,
    type: string,
    { position, expiresAt }: Pick<StoredMessage, 'position' | 'expiresAt'>,
  ): boolean {
    if (this.filter.take(group, type, position) !== 'waits' || !this.#isFirst(position)) return false;
    this.#gets(position);
    if (expiresAt > 0) this.#host.arrived(this, { expiresAt });
    return true;
  }

  live(): void {
    this.isLive = true;
    this.#replayed = undefined;
    this.#host.live(this);
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.isLive = false;
    this.#host.closed(this);
  }

  tell(data: string): void {
    this.#host.tell(this.clientId, data);
  }

  get isListening(): boolean {
    return this.#isListening;
  }

  /** It has, or does not want, everything up to here. */
  get through(): number {
    return this.#through;
  }

  /** Up to where it was served for certain, if its client has taken all that it was handed. */
  get served(): number {
    return Math.max(this.#through, this.#host.settled);
  }

  #gets(position: number): void {
    this.hasNews = true;
    if (position > this.newest) this.newest = position;
  }

  /** False where a group's message came before, while it gets a group late. */
  #isFirst(position: number): boolean {
    if (this.#lateGroups === 0) return true;
    if (this.#noted.has(position)) return false;
    if (this.#noted.size >= MOST_NOTES) this.#noted.delete(this.#noted.values().next().value!);
    this.#noted.add(position);
    return true;
  }

  /**
   * Does not believe a cursor that is ahead of the store: it is of another one, of this one before a backup was put back, or made up.
   * Whoever was believed that would not get what comes to have these positions, and neither would their device.
   */
  async #hear(said: CursorSections): Promise<void> {
    const { settled, position = 0, round } = said;
    if (settled === undefined && round === undefined) return;
    const head = await this.#host.store.head();
    if (Math.max(settled ?? 0, position, round?.through ?? 0) <= Math.max(head, this.#host.settled)) {
      this.#believe(said, head);
    }
  }

  #believe({ settled, position, round }: CursorSections, head: number): void {
    this.#round = round && { ...round, one: position };
    this.#isCut = round !== undefined;
    // One that never heard of an inbox is from before there was one.
    this.#isFresh = settled === undefined;
    this.#through = settled ?? 0;
    this.#one = position;
    // What it has of all that there is, it got by other streams.
    this.knownAfter = Math.max(head, position ?? 0);
    if (settled === undefined) return;
    this.claim = settled;
    // It may have more than its cursor says: what a round brought is not in the ids of the live events after it.
    this.hasNews = true;
    this.newest = this.knownAfter;
  }

  #waiting(message: StoredMessage, progress: RoundProgress): WaitingEvent {
    const { eventId, event, data, json, createdAt, expiresAt } = message;
    if (expiresAt > 0) this.#host.arrived(this, { expiresAt });
    return { event, data, json, timestamp: createdAt, expiresAt, tag: roundTag(progress, eventId) };
  }
}

/** Looks at the rest of a key only where it is a group's: most are users'. */
function groupOf(key: string): string | undefined {
  if (!key.startsWith('t:')) return undefined;
  const audience = audienceOf(key);
  return audience.kind === 'topic' ? audience.topic : undefined;
}

const placeOf = ({ priority, position }: StoredMessage): BacklogCursor => ({ priority, position });

/** As many of their size as a page should have. */
function pageSizeAfter(messages: readonly StoredMessage[]): number {
  let chars = 0;
  for (const { data } of messages) chars += data.length;
  return Math.min(PAGE, Math.max(1, Math.floor((PAGE_CHARS * messages.length) / Math.max(chars, 1))));
}
