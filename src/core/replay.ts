/**
 * How a client joins the live stream: hold, read, merge, go live.
 *
 * While this runs, live frames are held here. History is read page by page, as the socket drains, up to the head; then
 * the held frames that are newer go out and the client is live. What a client reads is never copied for it: pages
 * are references to shared frames, and when more is held than `HOLD_FRAMES`, all of it is let go, because history has it.
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
import { controlFrame, type Encoded, type EventText, type Frame, frameOf } from './frame.js';
import { type Gap, gapFrame } from './gap.js';
import { SharedBatches } from './shared-batches.js';
import { clientKey } from './topic.js';

/** What a replay needs of the broker. */
export interface ReplayHost {
  readonly bus: Bus;
  readonly maxReplayEvents: number;
  now(): number;
  /** Offers frames that wait in channels, so that they are held, not delivered twice. */
  settle(): void;
  /** The first frame of the stream; without `id` the client keeps the cursor it has. */
  firstFrame(client: Client, id: string | undefined): EventText;
  gapTold(client: Client, gap: Gap): void;
  replayed(events: number): void;
  failed(client: Client, error: unknown): void;
}

/** Events read at once. */
const PAGE_EVENTS = 128;
/** Of all brokers of this process: frames are theirs alone, so nothing is mixed up. */
const batches = new SharedBatches();

/** Bytes written at once. */
const WRITE_BYTES = 64 * 1024;
/** Most live frames held; history has them too. */
const HOLD_FRAMES = 256;

export class Replay implements Holder {
  readonly #client: Client;
  readonly #host: ReplayHost;
  readonly #requested: string | undefined;
  #cursor: string;
  #isStarted = false;
  #isFirst = true;
  #isReading = false;
  #page: Frame[] = [];
  #pageNext = 0;
  /** Set when the page is the last: what the client has once it is written. */
  #head: Head | undefined = undefined;
  /** The cursor the client has by now; empty where it is its own affair. */
  #told = '';
  #held: Frame[] = [];
  #hasLetGo = false;
  /** The last frame that was let go of. */
  #letGoThrough: Frame | undefined = undefined;

  /** `requested`: the client's Last-Event-ID; undefined where it has none. */
  constructor(client: Client, host: ReplayHost, requested: string | undefined) {
    this.#client = client;
    this.#host = host;
    this.#requested = requested;
    this.#cursor = requested ?? '';
  }

  /** When the bus has joined: what is published from here on is held. */
  start(): void {
    this.#isStarted = true;
    if (this.#requested !== undefined) {
      this.proceed();
      return;
    }
    this.#ask(
      () => this.#host.bus.head(),
      (head) => {
        if (this.#client.endIfDue(this.#host.now())) return;
        this.#writeFirst(head.id);
        this.#goLiveFrom(head);
      },
    );
  }

  hold(encoded: Encoded): void {
    if (this.#held.length + encoded.frames.length <= HOLD_FRAMES) {
      this.#held.push(...encoded.frames);
      return;
    }
    this.#held = [];
    this.#hasLetGo = true;
    this.#letGoThrough = encoded.frames[encoded.frames.length - 1];
  }

  proceed(): void {
    // A socket may fill with heartbeats and drain before there is anything to replay.
    if (!this.#isStarted || this.#requested === undefined) return;
    while (!this.#isReading && !this.#client.endIfDue(this.#host.now()) && !this.#client.isLive) {
      if (this.#pageNext < this.#page.length) {
        this.#writePage();
        if (this.#client.isBlocked) return;
      } else if (this.#head !== undefined && !this.#hasLetGo) {
        if (this.#told !== this.#head.id) this.#client.write(controlFrame({ id: this.#head.id }));
        this.#goLive(this.#head);
      } else {
        this.#read();
      }
    }
  }

  #read(): void {
    this.#isReading = true;
    this.#hasLetGo = false;
    // What was dispatched in this turn stands in history already.
    this.#host.settle();
    this.#client.flush(this.#host.now());
    // Its topics of now, and what was sent to it alone since it is here.
    const keys = [...this.#client.channels.map(({ key }) => key), clientKey(this.#client.id)];
    const max = this.#isFirst ? this.#host.maxReplayEvents : 0;
    this.#ask(
      () => this.#host.bus.read({ keys, after: this.#cursor, limit: PAGE_EVENTS, max }),
      (page, isLate) => {
        this.#isReading = false;
        if (!isLate) {
          this.#take(page);
        } else if (this.#client.channels.every(({ key }) => keys.includes(key))) {
          this.#take(page);
          this.proceed();
        } else {
          // A topic came meanwhile: what was published to it until the answer is in neither. Once more, with it.
          this.#hasLetGo = true;
          this.proceed();
        }
      },
    );
  }

  #take(page: ReadResult): void {
    if (this.#isFirst) {
      this.#isFirst = false;
      if (page.events.length === 0 && page.loss === undefined) this.#writeFirst(page.head.id);
      else this.#writeFirst(EVENT_ID.test(this.#cursor) ? this.#cursor : undefined);
    }
    if (page.loss !== undefined) this.#tellGap(page);
    this.#page = page.events.map(frameOf);
    this.#pageNext = 0;
    const last = page.events[page.events.length - 1];
    this.#cursor = page.more && last !== undefined ? last.id : page.head.id;
    this.#head = page.more ? undefined : page.head;
  }

  /** Writes until the page is through or the socket is full. */
  #writePage(): void {
    const now = this.#host.now();
    while (this.#pageNext < this.#page.length && !this.#client.isBlocked) {
      const frames: Frame[] = [];
      let bytes = 0;
      while (this.#pageNext < this.#page.length && bytes < WRITE_BYTES) {
        const frame = this.#page[this.#pageNext++]!;
        // Looked at again here: a slow client may have lost a topic since the page was read.
        if (frame.hasExpired(now) || !this.#client.isOn(frame.source!.key)) continue;
        frames.push(frame);
        bytes += frame.bytes;
      }
      if (frames.length === 0) continue;
      const encoded = batches.of(frames);
      this.#told = encoded.lastId;
      this.#host.replayed(frames.length);
      this.#client.write(encoded);
    }
    if (this.#pageNext === this.#page.length) {
      this.#page = [];
      this.#pageNext = 0;
    }
  }

  #goLive(head: Head): void {
    const held = this.#held;
    this.#held = [];
    this.#client.goLive(held, head.sequence, true);
  }

  /**
   * A client without a cursor begins at the head: what a late bus delivers of the time before may have holes, because its
   * keys were not joined at once. Only what was sent to this client alone is its own from the start.
   */
  #goLiveFrom(head: Head): void {
    const held = this.#held;
    const missed = this.#letGoThrough?.source;
    this.#held = [];
    if (missed === undefined || missed.sequence <= head.sequence) {
      this.#client.goLive(held, head.sequence, false);
      return;
    }
    const gap: Gap = { reason: 'overflow', requested: head.id, resumedFrom: missed.id };
    this.#client.write(gapFrame(gap, gap.resumedFrom));
    this.#client.goLive(held, missed.sequence, false);
    this.#host.gapTold(this.#client, gap);
  }

  #writeFirst(id: string | undefined): void {
    this.#told = id ?? '';
    this.#client.write(controlFrame(this.#host.firstFrame(this.#client, id)));
  }

  #tellGap(page: ReadResult): void {
    const gap: Gap = {
      reason: page.loss!,
      requested: this.#told === '' ? null : this.#told,
      resumedFrom: page.completeAfter ?? page.head.id,
    };
    // With `evicted` older events of other audiences may follow: the cursor must not be past them.
    const id = page.events.length === 0 ? page.head.id : undefined;
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
