/**
 * The server's side of one open stream: a sink, the frames it could not take yet, and a state machine.
 *
 *   holding ──▶ live ──▶ ending ──▶ closed
 *      └───────────┴────────────────▶┘
 *
 * holding: history is being replayed, live frames wait in the replay. live: frames go to the sink; while it is full
 * they wait in the queue. ending: told to go, the sink is finishing. closed: the carrier is gone.
 *
 * Nothing here allocates per event. A client that keeps up has no queue.
 */
import { controlFrame, type Encoded, encodedOf, type Frame, merge } from './frame.js';
import { type Gap, gapFrame } from './gap.js';
import type { Identity } from './identity.js';
import type { ResolvedOptions } from './options.js';
import { Queue, type QueueTotals } from './queue.js';
import type { Channel } from './registry.js';
import type { Sink, SinkOwner } from './sink.js';
import { clientKey } from './topic.js';

/**
 * Why a stream ended; the table in docs/reference/events.md says who should come back.
 *
 * - `left`: the client went away. - `disconnected`: `disconnect()` or `disconnectUser()`. - `shutdown`: `close()`.
 * - `overflow`: its buffer was full and the policy is `disconnect`. - `timeout`: it took no byte for `clientTimeout`.
 * - `expired`: its identity expired. - `max-age`: `maxConnectionAge`. - `failed`: the carrier or the bus broke.
 */
export type DisconnectReason =
  | 'left'
  | 'disconnected'
  | 'shutdown'
  | 'overflow'
  | 'timeout'
  | 'expired'
  | 'max-age'
  | 'failed';

export const DISCONNECT_REASONS: readonly DisconnectReason[] = [
  'left',
  'disconnected',
  'shutdown',
  'overflow',
  'timeout',
  'expired',
  'max-age',
  'failed',
];

/** What a client tells the broker, and what it counts into. */
export interface ClientHost {
  readonly options: ResolvedOptions;
  /** Ticks of the heartbeat since start. */
  readonly tick: number;
  now(): number;
  /** The client has something to flush. */
  ready(client: Client): void;
  wrote(events: number, bytes: number): void;
  readonly queueTotals: QueueTotals;
  dropped(events: number): void;
  /** First drop since the queue was last empty. */
  overflowed(client: Client, limit: 'frames' | 'bytes'): void;
  gapTold(client: Client, gap: Gap): void;
  /** It is over for the application: take it out of every map. */
  ended(client: Client, reason: DisconnectReason, message: string | undefined, cause: Error | undefined): void;
  /** The carrier is gone. */
  closed(client: Client): void;
}

/** What holds live frames back while history is replayed: see replay.ts. */
export interface Holder {
  hold(encoded: Encoded): void;
  /** The sink takes bytes again. */
  proceed(): void;
}

/** Bytes handed to the sink at once when a queue drains: enough to keep a pipe full, little to have in flight. */
const DRAIN_BYTES = 64 * 1024;

/** Room for a gap frame: two ids of at most 128 bytes, three times, and its text. */
const GAP_BYTES = 512;

/** Shared by all that have none yet; never changed. */
const NO_CHANNELS: Channel[] = [];

const HOLDING = 0;
const LIVE = 1;
const ENDING = 2;
const CLOSED = 3;

export class Client implements SinkOwner {
  // What every write needs comes first, in one or two cache lines: with ten thousand clients that is what costs.
  /** What it gets at the end of the turn. */
  pending: Encoded | undefined = undefined;
  #state = HOLDING;
  isBlocked = false;
  /** ms since 1970 at which the stream must end; 0 for never. Later events are not delivered. */
  deadline = 0;
  /** Tick of the last write: what spares it a heartbeat. */
  lastWriteTick: number;
  readonly #host: ClientHost;
  readonly #sink: Sink;
  /** Present while history is replayed. */
  holder: Holder | undefined = undefined;
  #queue: Queue | undefined = undefined;
  readonly id: string;
  readonly identity: Identity;
  /** ms since 1970. */
  readonly connectedAt: number;
  /** Where it is a member; membership's to change, as an array of exactly that length: most clients keep theirs. */
  channels: Channel[] = NO_CHANNELS;
  /** The channel of its own user. */
  ownUser: Channel | undefined = undefined;
  deadlineReason: 'expired' | 'max-age' = 'expired';
  /** Listeners know of it, so they are told of its end. */
  isAnnounced = false;
  /** Neighbours in the heartbeat's slot. */
  before: Client | undefined = undefined;
  after: Client | undefined = undefined;
  slot = -1;
  /** Tick since when a full sink took nothing, or since when it is ending. */
  stalledSince = 0;
  #progress = 0;
  /** Sequence through which history was served, until something later was delivered. */
  #served = 0;
  #isOwnServed = true;
  /** Frames dropped since the client was last told. */
  #gap: { requested: string; resumedFrom: string } | undefined = undefined;

  constructor(host: ClientHost, sink: Sink, id: string, identity: Identity) {
    this.#host = host;
    this.#sink = sink;
    this.id = id;
    this.identity = identity;
    this.connectedAt = host.now();
    this.lastWriteTick = host.tick;
  }

  /** From here on the sink may call back. Throws what the sink throws. */
  open(): void {
    this.#sink.open(this);
  }

  get isOver(): boolean {
    return this.#state >= ENDING;
  }

  get isLive(): boolean {
    return this.#state === LIVE;
  }

  get queuedFrames(): number {
    return this.#queue?.length ?? 0;
  }

  get queuedBytes(): number {
    return this.#queue?.bytes ?? 0;
  }

  isOn(key: string): boolean {
    for (const channel of this.channels) if (channel.key === key) return true;
    return this.isOwn(key);
  }

  /** True for the key of what is sent to this client alone. */
  isOwn(key: string): boolean {
    return key === clientKey(this.id);
  }

  /** Takes frames for the end of the turn; order is restored where two audiences of it were hit. */
  offer(encoded: Encoded): void {
    if (this.pending === undefined) {
      this.pending = encoded;
      this.#host.ready(this);
    } else {
      this.pending = merge(this.pending, encoded);
    }
  }

  /**
   * Ends the stream where its deadline has passed; true where it is over. Asked before anything is written that may have
   * been published after the deadline: the heartbeat comes by only once a second.
   */
  endIfDue(now: number): boolean {
    if (this.deadline !== 0 && this.deadline <= now) this.end(this.deadlineReason);
    return this.isOver;
  }

  /** The end of the turn. */
  flush(now: number): void {
    let encoded = this.pending;
    if (encoded === undefined) return;
    this.pending = undefined;
    if (this.#state === LIVE) {
      if (this.endIfDue(now)) return;
      if (this.#served !== 0) {
        encoded = this.#unserved(encoded.frames, encoded);
        if (encoded === undefined) return;
      }
      if (this.isBlocked) this.#enqueue(encoded);
      else this.write(encoded);
    } else if (this.#state === HOLDING) {
      this.holder?.hold(encoded);
    }
  }

  /** Hands bytes to the sink, past the queue: for the flush, and for frames of the broker's own. */
  write(encoded: Encoded): void {
    if (this.#state >= ENDING) return;
    this.lastWriteTick = this.#host.tick;
    this.#host.wrote(encoded.count, encoded.bytes);
    if (!this.#send(encoded) && !this.isBlocked) {
      this.isBlocked = true;
      this.stalledSince = this.#host.tick;
      this.hasProgressed();
      if (this.isOver) return;
      const { clientBufferSize, clientBufferBytes } = this.#host.options;
      this.#queue ??= new Queue(clientBufferSize, clientBufferBytes, this.#host.queueTotals);
    }
    if (this.#queue !== undefined && encoded.lastId !== '') this.#queue.lastId = encoded.lastId;
  }

  /**
   * History is served through sequence `served`, or begins after it. `held` are the live frames that came meanwhile. A bus
   * may deliver late what it has let us read: such events are left out, but what was sent to this client alone only
   * where that was read as well (`isOwnServed`).
   */
  goLive(held: readonly Frame[], served = 0, isOwnServed = true): void {
    if (this.#state !== HOLDING) return;
    this.#state = LIVE;
    this.holder = undefined;
    this.#served = served;
    this.#isOwnServed = isOwnServed;
    if (held.length === 0) return;
    const encoded = served === 0 ? encodedOf(held) : this.#unserved(held);
    if (encoded === undefined) return;
    if (this.isBlocked) this.#enqueue(encoded);
    else this.write(encoded);
  }

  /** Whether a full sink has taken anything since the last call. */
  hasProgressed(): boolean {
    let progress = this.#progress;
    try {
      progress = this.#sink.progress();
    } catch (cause) {
      this.fail('failed', errorOf(cause));
    }
    const moved = progress !== this.#progress;
    this.#progress = progress;
    return moved;
  }

  /**
   * Ends the stream in an orderly way: what is queued goes out, then a `closing` event, then the end. Safe to call
   * twice. `reconnectIn`: ms after which the client should come back.
   */
  end(reason: DisconnectReason, message?: string, reconnectIn?: number): void {
    if (this.#state >= ENDING) return;
    const wasLive = this.#state === LIVE;
    this.#state = ENDING;
    this.stalledSince = this.#host.tick;
    this.pending = undefined;
    this.holder = undefined;
    this.#host.ended(this, reason, message, undefined);
    // An identity that expired must not read on, not even what was queued in time.
    if (wasLive && reason !== 'expired') this.#handOverQueue();
    this.#dropQueue();
    const data = JSON.stringify(message === undefined ? { reason } : { reason, message });
    try {
      this.#sink.end(controlFrame({ retry: reconnectIn, event: 'closing', data }));
    } catch (cause) {
      this.fail('failed', errorOf(cause));
    }
  }

  /** Ends the stream now: for a reader that takes nothing, or a carrier that broke. */
  fail(reason: DisconnectReason, cause?: Error): void {
    if (this.#state === CLOSED) return;
    const wasEnding = this.#state === ENDING;
    this.#state = ENDING;
    this.pending = undefined;
    this.holder = undefined;
    if (!wasEnding) this.#host.ended(this, reason, undefined, cause);
    this.#dropQueue();
    try {
      this.#sink.destroy();
    } catch {
      // It will not tell its end either.
      this.closed();
    }
  }

  drained(): void {
    if (!this.isBlocked || this.#state >= ENDING) return;
    this.isBlocked = false;
    const queue = this.#queue!;
    let gap: Gap | undefined;
    if (this.#gap !== undefined && this.#host.options.overflow === 'drop-oldest') gap = this.#writeGap();
    while (!this.isBlocked && queue.length > 0) {
      const encoded = queue.take(DRAIN_BYTES, this.#host.now());
      if (encoded !== undefined) this.write(encoded);
    }
    if (queue.length === 0 && this.#gap !== undefined) gap = this.#writeGap();
    if (!this.isBlocked) this.#queue = undefined;
    // When all is in its place: a listener may end this client.
    if (gap !== undefined) this.#host.gapTold(this, gap);
    if (!this.isBlocked) this.holder?.proceed();
  }

  closed(cause?: Error): void {
    if (this.#state === CLOSED) return;
    const wasOver = this.#state === ENDING;
    this.#state = CLOSED;
    this.pending = undefined;
    this.holder = undefined;
    this.#dropQueue();
    if (!wasOver) this.#host.ended(this, cause === undefined ? 'left' : 'failed', undefined, cause);
    this.#host.closed(this);
  }

  /**
   * The frames that history has not served. They are in order, so all behind the first are new; also behind a frame of the
   * broker's own, which tells that the bus began anew.
   */
  #unserved(frames: readonly Frame[], whole?: Encoded): Encoded | undefined {
    let first = frames.findIndex(({ source }) => source === undefined || source.sequence > this.#served);
    if (first === -1) first = frames.length;
    else this.#served = 0;
    if (first === 0 && whole !== undefined) return whole;
    const rest = this.#isOwnServed ? [] : frames.slice(0, first).filter(({ source }) => this.isOwn(source!.key));
    for (let i = first; i < frames.length; i++) rest.push(frames[i]!);
    return rest.length === 0 ? undefined : encodedOf(rest);
  }

  #enqueue(encoded: Encoded): void {
    const queue = this.#queue!;
    const { frames } = encoded;
    for (let i = 0; i < frames.length; i++) {
      if (this.#admit(queue, frames[i]!)) continue;
      // What follows shares the fate of the frame that was one too many.
      if (this.#host.options.overflow === 'disconnect') this.#host.dropped(frames.length - i - 1);
      return;
    }
  }

  /** Queues one frame by the overflow policy; false where the client had to go, or was ended by a listener. */
  #admit(queue: Queue, frame: Frame): boolean {
    const { overflow } = this.#host.options;
    // Frames were dropped after the newest in the queue: the gap takes its place before this one.
    const owesGap = overflow === 'drop-newest' && this.#gap !== undefined;
    const limit = owesGap ? queue.limitHitBy(2, frame.bytes + GAP_BYTES) : queue.limitHitBy(1, frame.bytes);
    if (limit === undefined) {
      const gap = owesGap ? this.#takeGap() : undefined;
      if (gap !== undefined) queue.push(gapFrame(gap, gap.resumedFrom));
      queue.push(frame);
      if (gap !== undefined) this.#host.gapTold(this, gap);
      return !this.isOver;
    }
    if (overflow === 'disconnect') {
      this.#host.dropped(queue.length + 1);
      this.#host.overflowed(this, limit);
      this.fail('overflow');
      return false;
    }
    const isFirst = !queue.hasOverflowed;
    queue.hasOverflowed = true;
    if (this.#gap === undefined) {
      const requested = overflow === 'drop-oldest' ? queue.lastId : queue.newestId;
      this.#gap = { requested, resumedFrom: requested };
    }
    if (overflow === 'drop-newest') {
      this.#drop(frame);
    } else {
      while (queue.length > 0 && queue.limitHitBy(1, frame.bytes) !== undefined) this.#drop(queue.shift()!);
      if (queue.limitHitBy(1, frame.bytes) === undefined) queue.push(frame);
      else this.#drop(frame);
    }
    // When all is in its place: a listener may end this client.
    if (isFirst) this.#host.overflowed(this, limit);
    return !this.isOver;
  }

  #drop(frame: Frame): void {
    this.#host.dropped(frame.count);
    if (frame.lastId !== '') this.#gap!.resumedFrom = frame.lastId;
  }

  /** The gap that is owed. Its `gapTold` comes after it was handed over: a listener may end the stream. */
  #takeGap(): Gap {
    const { requested, resumedFrom } = this.#gap!;
    this.#gap = undefined;
    return { reason: 'overflow', requested: requested || null, resumedFrom };
  }

  #writeGap(): Gap {
    const gap = this.#takeGap();
    this.write(gapFrame(gap, gap.resumedFrom));
    return gap;
  }

  /** All that waits, at once: the stream ends after it, so nothing can pile up behind. */
  #handOverQueue(): void {
    const queue = this.#queue;
    if (queue === undefined) return;
    let gap: Gap | undefined;
    if (this.#gap !== undefined && this.#host.options.overflow === 'drop-oldest') {
      gap = this.#takeGap();
      this.#send(gapFrame(gap, gap.resumedFrom));
    }
    const encoded = queue.take(Number.POSITIVE_INFINITY, this.#host.now());
    if (encoded !== undefined) {
      this.#host.wrote(encoded.count, encoded.bytes);
      this.#send(encoded);
    }
    if (gap !== undefined) this.#host.gapTold(this, gap);
  }

  /** The sink's answer; one that throws has failed, and takes nobody with it. */
  #send(encoded: Encoded): boolean {
    try {
      return this.#sink.write(encoded);
    } catch (cause) {
      this.fail('failed', errorOf(cause));
      return true;
    }
  }

  #dropQueue(): void {
    this.#queue?.clear();
    this.#queue = undefined;
  }
}

const errorOf = (cause: unknown): Error => (cause instanceof Error ? cause : new Error(String(cause)));
