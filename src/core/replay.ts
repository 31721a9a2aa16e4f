/**
 * How a client joins the live stream: hold, read, merge, go live.
 *
 * While this runs, live frames are held (held-frames.ts). History is read page by page, as the socket drains, up to the
 * head; then the held frames that are newer go out and the client is live. What a client reads is never copied for it: pages
 * are references to shared frames. Of large events a page is cut short, since many that read nothing may each be in another
 * place of history. What was sent to this client alone is in no history: it goes out in its place between the others.
 *
 * A client with a mailbox (mailbox.ts) gets what waits there in between, in rounds: see {@link Round}.
 *
 * The cursor that a client keeps must never run ahead of what it has got, wherever the stream is cut: the
 * `connected` event carries the head only where nothing is missing, else what the client asked with; after the replay a
 * block with an id and no data moves the cursor to the head (HTML standard, section 9.2.6: it sets the last event id and
 * fires no event).
 */
import type { Bus, Head, ReadResult } from './bus.js';
import { EVENT_ID } from './bus.js';
import type { Client, Holder } from './client.js';
import { isThenable } from './diagnostics.js';
import { controlFrame, type Encoded, type EventText, encodedOf, type Frame } from './frame.js';
import { type Gap, gapFrame } from './gap.js';
import { HeldFrames } from './held-frames.js';
import { PAGE_BYTES, type Slice, slicesOf } from './page-slices.js';
import { Round } from './round.js';
import { beginningOf, placeOf } from './served.js';
import { busIdOf, overtakenIn, sectionsOf } from './tagged-id.js';

/** What a replay needs of the broker. */
export interface ReplayHost {
  readonly bus: Bus;
  readonly maxReplayEvents: number;
  /** Most bytes of live frames held for a client: `clientBufferBytes`, 0 for no limit. */
  readonly maxHeldBytes: number;
  now(): number;
  /** Offers frames that wait in channels, so that they are held, not delivered twice. */
  settle(): void;
  /** The first frame of the stream; without `id` the client keeps the cursor it has. */
  firstFrame(client: Client, id: string | undefined): EventText;
  gapTold(client: Client, gap: Gap): void;
  replayed(events: number): void;
  dropped(events: number): void;
  failed(client: Client, error: unknown): void;
}

/** Events read at once; fewer where they are large. */
const PAGE_EVENTS = 128;
const NOTHING_HELD: readonly Frame[] = [];
const NO_SEQUENCES: ReadonlySet<number> = new Set();

export class Replay implements Holder {
  readonly #client: Client;
  readonly #host: ReplayHost;
  /** As it came; undefined where it has none. */
  readonly #requested: string | undefined;
  /** The id of the bus after which history is read. */
  #cursor: string;
  /** Sequences of events after it that the client has all the same. */
  #overtaken: ReadonlySet<number>;
  #isStarted = false;
  /** There is something to go on with, once the socket takes it. */
  #isUnderWay = false;
  #hasFirstFrame = false;
  #isFirst = true;
  /** What waits in the client's mailbox is being delivered. */
  #round: Round | undefined = undefined;
  #isReading = false;
  #pageEvents = PAGE_EVENTS;
  #page: readonly Slice[] = [];
  #pageNext = 0;
  /** Set when the page is the last: what the client has once it is written. */
  #head: Head | undefined = undefined;
  /** The cursor the client has by now; empty where it is its own affair. */
  #told = '';
  /** Live frames of meanwhile. */
  readonly #held: HeldFrames;
  /** History was read for other topics than the client has now. */
  #mustReadAgain = false;

  /** `requested`: the client's Last-Event-ID; undefined where it has none. */
  constructor(client: Client, host: ReplayHost, requested: string | undefined) {
    this.#client = client;
    this.#host = host;
    this.#requested = requested;
    this.#held = new HeldFrames(host.maxHeldBytes, host.dropped);
    this.#cursor = requested === undefined ? '' : busIdOf(requested);
    this.#overtaken = requested?.includes('~o') ? new Set(overtakenIn(sectionsOf(requested))) : NO_SEQUENCES;
  }

  /** When the bus has joined: what is published from here on is held. `head`: where it was asked for already. */
  start(head?: Promise<Head>): void {
    this.#isStarted = true;
    if (this.#requested !== undefined) {
      if (this.#client.mailbox?.isDue === true) this.#beginRound(idOr(this.#cursor, ''), false);
      else this.#goOn();
      return;
    }
    this.#ask(
      () => head ?? this.#host.bus.head(),
      (current) => {
        if (this.#client.endIfDue(this.#host.now())) return;
        if (this.#client.mailbox !== undefined) {
          this.#head = current;
          this.#cursor = current.id;
          this.#beginRound(current.id, false);
          return;
        }
        this.#holdAll();
        this.#writeFirst(current.id);
        this.#goLiveFrom(current);
      },
    );
  }

  #goOn(): void {
    this.#isUnderWay = true;
    this.proceed();
  }

  /** `base`: what its events' ids begin with; empty where they can have none. */
  #beginRound(base: string, isAfterLoss: boolean, begun?: (cursor: string | undefined) => void): void {
    this.#isReading = true;
    const round = new Round(this.#client, base);
    this.#ask(
      () => round.begin(isAfterLoss),
      () => {
        this.#isReading = false;
        this.#round = round;
        if (begun !== undefined) begun(round.cursor);
        // Its own id says how far it got, until the next event says more.
        else this.#writeFirst(idOr(this.#requested ?? '', round.cursor));
        this.#goOn();
      },
    );
  }

  hold(encoded: Encoded): void {
    this.#held.hold(encoded);
  }

  proceed(): void {
    // A socket may fill with heartbeats and drain before there is anything to replay.
    if (!this.#isStarted || !this.#isUnderWay) return;
    while (!this.#isReading && !this.#client.endIfDue(this.#host.now()) && !this.#client.isLive) {
      if (this.#round !== undefined) {
        this.#goRound(this.#round);
        if (this.#client.isBlocked) return;
      } else if (this.#pageNext < this.#page.length) {
        this.#writePage();
        if (this.#client.isBlocked) return;
      } else if (this.#head !== undefined && !this.#mustReadAgain && !this.#held.hasLetGo) {
        this.#holdAll();
        // That was more than is held.
        if (this.#held.hasLetGo) continue;
        const { mailbox } = this.#client;
        const cursor = this.#head.id + (mailbox?.tag ?? '');
        const isTold = mailbox === undefined ? busIdOf(this.#told) === cursor : this.#told === cursor;
        if (!isTold) this.#client.write(controlFrame({ id: cursor }));
        this.#goLive(this.#head);
      } else {
        this.#read();
      }
    }
  }

  /** What was dispatched so far is of the time before an answer; among it may be a loss that the answer is beyond. */
  #holdAll(): void {
    this.#host.settle();
    this.#client.flush(this.#host.now());
  }

  #goRound(round: Round): void {
    round.write(this.#host.now());
    this.#told = round.told || this.#told;
    if (this.#client.isBlocked || round.hasMore) return;
    if (round.isThrough) {
      this.#round = undefined;
      return;
    }
    this.#isReading = true;
    this.#ask(
      () => round.read(),
      () => {
        this.#isReading = false;
        this.proceed();
      },
    );
  }

  #read(): void {
    this.#isReading = true;
    this.#mustReadAgain = false;
    this.#held.readsOn();
    // What was dispatched in this turn stands in history already.
    this.#holdAll();
    // Its topics of now.
    const keys = this.#client.keys();
    const max = this.#isFirst ? this.#host.maxReplayEvents : 0;
    this.#ask(
      () => this.#host.bus.read({ keys, after: this.#cursor, limit: this.#pageEvents, max }),
      (page, isLate) => {
        this.#isReading = false;
        if (!isLate) {
          this.#take(page);
        } else if (this.#client.keys().every((key) => keys.includes(key))) {
          this.#take(page);
          this.proceed();
        } else {
          // A topic came meanwhile: what was published to it until the answer is in neither. Once more, with it.
          this.#mustReadAgain = true;
          this.proceed();
        }
      },
    );
  }

  #take(page: ReadResult): void {
    this.#isFirst = false;
    if (!this.#hasFirstFrame) {
      const { mailbox } = this.#client;
      if (page.events.length === 0 && page.loss === undefined) this.#writeFirst(page.head.id + (mailbox?.tag ?? ''));
      else this.#writeFirst(idOr(this.#requested ?? '', undefined));
    }
    // Sequences of another epoch say nothing about this one.
    if (page.loss === 'epoch' || page.loss === 'unknown') this.#overtaken = NO_SEQUENCES;
    if (page.loss !== undefined) this.#takeLoss(page);
    this.#page = slicesOf(page.events);
    this.#pageNext = 0;
    let kept = 0;
    let bytes = 0;
    for (const { frames, encoded } of this.#page) {
      kept += frames.length;
      bytes += encoded.bytes;
    }
    const isCut = kept < page.events.length;
    if (isCut) this.#pageEvents = kept;
    else if (2 * bytes < PAGE_BYTES) this.#pageEvents = Math.min(2 * this.#pageEvents, PAGE_EVENTS);
    const hasMore = page.more || isCut;
    this.#cursor = hasMore && kept > 0 ? page.events[kept - 1]!.id : page.head.id;
    this.#head = hasMore ? undefined : page.head;
  }

  /** Writes until the page is through or the socket is full. */
  #writePage(): void {
    const now = this.#host.now();
    while (this.#pageNext < this.#page.length && !this.#client.isBlocked) {
      const slice = this.#page[this.#pageNext++]!;
      const encoded = this.#isAllFor(slice, now) ? slice.encoded : this.#partOf(slice, now);
      if (encoded === undefined) continue;
      this.#told = encoded.lastId;
      this.#host.replayed(encoded.frames.length);
      this.#client.write(encoded);
    }
    if (this.#pageNext === this.#page.length) {
      this.#page = [];
      this.#pageNext = 0;
    }
  }

  /** Looked at again for each slice: a slow client may have lost a topic since the page was read. */
  #isAllFor({ expiresAt, keys, hasMail, through }: Slice, now: number): boolean {
    if (expiresAt <= now || this.#overtaken.size > 0) return false;
    if (hasMail && this.#client.mailbox !== undefined) return false;
    for (const key of keys) if (!this.#client.isOn(key)) return false;
    return !this.#held.hasOwnThrough(through);
  }

  /** What is for this client now, with its own frames in their places; undefined where there is nothing. */
  #partOf(slice: Slice, now: number): Encoded | undefined {
    const frames: Frame[] = [];
    for (const frame of slice.frames) {
      const { sequence, key } = frame.source!;
      for (let own = this.#held.takeOwnBefore(sequence); own !== undefined; own = this.#held.takeOwnBefore(sequence)) {
        if (!own.hasExpired(now)) frames.push(own);
      }
      if (frame.hasExpired(now) || !this.#client.isOn(key)) continue;
      if (!this.#overtaken.has(sequence) && !this.#client.hides(frame)) frames.push(frame);
    }
    return frames.length === 0 ? undefined : encodedOf(frames);
  }

  #goLive(head: Head): void {
    let held = this.#held.takeAll();
    if (this.#overtaken.size > 0) held = held.filter(({ source }) => !this.#overtaken.has(source?.sequence ?? 0));
    this.#tellOwnDropped();
    this.#client.goLive(held, head);
  }

  /** More was sent to this client alone than was held for it: in no history, so it can only be told. */
  #tellOwnDropped(): void {
    const dropped = this.#held.takeDropped();
    if (dropped === undefined) return;
    const requested = this.#told === '' ? null : this.#told;
    const gap: Gap = { reason: 'overflow', requested, resumedFrom: dropped.lastId };
    this.#client.write(gapFrame(gap, undefined));
    this.#host.gapTold(this.#client, gap);
  }

  /**
   * A client without a cursor begins at the head: what a late bus delivers of the time before may have holes, because its
   * keys were not joined at once. Only what was sent to this client alone is its own from the start.
   */
  #goLiveFrom(head: Head): void {
    const held = this.#held.takeAll();
    const { letGoThrough: missed, letGoEpoch } = this.#held;
    this.#tellOwnDropped();
    const { epoch } = head;
    // What was let go of last is of the head's epoch: no other began meanwhile, or just that.
    const isSameEpoch = letGoEpoch === undefined || letGoEpoch.begins(epoch);
    const isOver = beginningOf(held, epoch) >= 0;
    if (missed === undefined || isOver || (isSameEpoch && placeOf(missed, epoch) <= head.sequence)) {
      this.#client.goLive(held, head);
      return;
    }
    const gap: Gap = { reason: 'overflow', requested: head.id, resumedFrom: missed.lastId || null };
    this.#client.write(gapFrame(gap, gap.resumedFrom));
    const sequence = missed.source?.sequence;
    this.#client.goLive(held, isSameEpoch && sequence !== undefined ? { sequence, epoch } : undefined);
    this.#host.gapTold(this.#client, gap);
  }

  #writeFirst(id: string | undefined): void {
    this.#hasFirstFrame = true;
    this.#told = id ?? '';
    this.#client.write(controlFrame(this.#host.firstFrame(this.#client, id)));
  }

  /** What the bus has lost, the mailbox may have: its round comes before what the bus still has. */
  #takeLoss(page: ReadResult): void {
    if (this.#client.mailbox === undefined) {
      // With `evicted` older events of other audiences may follow: the cursor must not be past them.
      this.#tellGap(page, page.events.length === 0 ? page.head.id : undefined);
      return;
    }
    const base = page.events.length === 0 ? page.head.id : busIdOf(this.#told);
    this.#beginRound(base, true, (cursor) => this.#tellGap(page, cursor));
  }

  #tellGap(page: ReadResult, id: string | undefined): void {
    const gap: Gap = {
      reason: page.loss!,
      requested: this.#told === '' ? null : this.#told,
      resumedFrom: page.completeAfter ?? page.head.id,
    };
    this.#client.write(gapFrame(gap, id));
    if (id !== undefined) this.#told = id;
    this.#host.gapTold(this.#client, gap);
  }

  /** A bus that throws is no different from one that rejects, and neither is one that answers nonsense. */
  #ask<T>(question: () => T | Promise<T>, then: (value: T, isLate: boolean) => void): void {
    const failed = (error: unknown) => this.#host.failed(this.#client, error);
    try {
      const value = question();
      if (isThenable(value)) {
        value
          .then((result) => {
            if (!this.#client.isOver) then(result as T, true);
          })
          .then(undefined, failed);
      } else {
        then(value as T, false);
      }
    } catch (error) {
      failed(error);
    }
  }
}

/**
 * Starts a client that has no cursor, on a bus that has joined. Where the bus knows its head there is nothing to wait for
 * and nothing to hold, so no Replay is made: most connects go that way.
 */
export function startFresh(client: Client, host: ReplayHost): void {
  try {
    const head = host.bus.head();
    if (isThenable(head)) {
      const replay = new Replay(client, host, undefined);
      client.holder = replay;
      replay.start(head as Promise<Head>);
      return;
    }
    if (client.endIfDue(host.now())) return;
    const first = controlFrame(host.firstFrame(client, head.id));
    // Live before the first byte is out: what a sink publishes from inside its write would find nobody to hold it.
    client.goLive(NOTHING_HELD, head);
    client.write(first);
  } catch (error) {
    host.failed(client, error);
  }
}

/** What came as an id, where it can be written as one. */
const idOr = <T>(id: string, otherwise: T): string | T => (EVENT_ID.test(id) ? id : otherwise);
