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
import { Backlog, overflowOf } from './backlog.js';
import type { ClientHost, DisconnectReason, Holder } from './client-host.js';
import { type Batch, controlFrame, type Encoded, encodedOf, type Frame, merge, withoutId } from './frame.js';
import { type Gap, gapFrame } from './gap.js';
import type { Identity } from './identity.js';
import type { Mailbox } from './mailbox.js';
import { Queue } from './queue.js';
import type { Channel } from './registry.js';
import { firstUnserved, type Served } from './served.js';
import type { Sink, SinkOwner } from './sink.js';
import { everybodyKey, isLiveOnly } from './topic.js';

export { DISCONNECT_REASONS } from './client-host.js';
export type { ClientHost, DisconnectReason, Holder };

/** Bytes handed to the sink at once when a queue drains: enough to keep a pipe full, little to have in flight. */
const DRAIN_BYTES = 64 * 1024;

const HOLDING = 0;
const LIVE = 1;
const ENDING = 2;
const CLOSED = 3;

const BLOCKED = 1;
const ANNOUNCED = 2;
const GROWS_OLD = 4;

/** ms since 1970 of the first connect: times are kept from there on, as small integers, which need no object of their own. */
let origin = 0;

export class Client implements SinkOwner {
  // What every write needs comes first, in one or two cache lines: with ten thousand clients that is what costs.
  /** What it gets at the end of the turn. */
  pending: Encoded | undefined = undefined;
  #state = HOLDING;
  #flags = 0;
  /** ms since 1970 at which the stream must end; 0 for never. Later events are not delivered. */
  deadline = 0;
  /** Tick of the last write: what spares it a heartbeat. */
  lastWriteTick: number;
  readonly #host: ClientHost;
  readonly #sink: Sink;
  /** Present while history is replayed. */
  holder: Holder | undefined = undefined;
  #backlog: Backlog | undefined = undefined;
  readonly id: string;
  readonly identity: Identity;
  readonly #connectedAfter: number;
  /** Where it is a member besides its own user: one channel needs no array, and most clients have one. */
  #others: Channel | Channel[] | undefined = undefined;
  /** What waits for its user, where there is an inbox. */
  mailbox: Mailbox | undefined = undefined;
  /** The channel of its own user; the registry's to set. */
  ownUser: Channel | undefined = undefined;
  /** Neighbours in the heartbeat's slot. */
  before: Client | undefined = undefined;
  after: Client | undefined = undefined;
  slot = -1;
  /** Sequence through which history was served, until something later was delivered; then -1. */
  #served = -1;
  /** The epoch of that sequence. */
  #servedIn: string | undefined = undefined;

  constructor(host: ClientHost, sink: Sink, id: string, identity: Identity) {
    this.#host = host;
    this.#sink = sink;
    this.id = id;
    this.identity = identity;
    const now = host.now();
    if (origin === 0) origin = now;
    const after = now - origin;
    // Optimised code keeps the difference of two times as a double, even where it is a small integer.
    this.#connectedAfter = after === (after | 0) ? after | 0 : after;
    this.lastWriteTick = host.tick;
  }

  /** From here on the sink may call back. Throws what the sink throws. */
  open(): void {
    this.#sink.open(this);
  }

  get isOver(): boolean {
    return this.#state >= ENDING;
  }

  /** The carrier is gone. */
  get isClosed(): boolean {
    return this.#state === CLOSED;
  }

  /** ms since 1970. */
  get connectedAt(): number {
    return origin + this.#connectedAfter;
  }

  /** Its sink is full. */
  get isBlocked(): boolean {
    return (this.#flags & BLOCKED) !== 0;
  }

  /** Listeners know of it, so they are told of its end. */
  get isAnnounced(): boolean {
    return (this.#flags & ANNOUNCED) !== 0;
  }

  set isAnnounced(isAnnounced: boolean) {
    this.#flags = isAnnounced ? this.#flags | ANNOUNCED : this.#flags & ~ANNOUNCED;
  }

  /** Why it ends at its deadline. */
  get deadlineReason(): 'expired' | 'max-age' {
    return (this.#flags & GROWS_OLD) === 0 ? 'expired' : 'max-age';
  }

  set deadlineReason(reason: 'expired' | 'max-age') {
    this.#flags = reason === 'max-age' ? this.#flags | GROWS_OLD : this.#flags & ~GROWS_OLD;
  }

  /** Tick since when a full sink took nothing, or since when it is ending. */
  get stalledSince(): number {
    return this.#backlog?.stalledSince ?? 0;
  }

  set stalledSince(tick: number) {
    this.#backlog ??= new Backlog();
    this.#backlog.stalledSince = tick;
  }

  get isLive(): boolean {
    return this.#state === LIVE;
  }

  get queuedFrames(): number {
    return this.#backlog?.queue?.length ?? 0;
  }

  get queuedBytes(): number {
    return this.#backlog?.queue?.bytes ?? 0;
  }

  /** Where it is a member, but for everybody's channel; a copy. */
  get channels(): Channel[] {
    const others = this.#others;
    const channels = others === undefined ? [] : Array.isArray(others) ? [...others] : [others];
    if (this.ownUser !== undefined) channels.push(this.ownUser);
    return channels;
  }

  /** The channel keys it gets events of, everybody's included. */
  keys(): string[] {
    return [everybodyKey(), ...this.channels.map(({ key }) => key)];
  }

  /** It is a member of these now; `channels` is kept. Its own user's is not among them: see the registry. */
  joined(channels: Channel[]): void {
    if (channels.length === 0) return;
    const others = this.#others;
    // Of exactly their number, as concat makes it: a pushed array keeps room for more.
    if (others !== undefined) this.#others = ([] as Channel[]).concat(others, channels);
    else this.#others = channels.length === 1 ? channels[0] : channels;
  }

  /** It is a member of these no more. */
  left(channels: readonly Channel[]): void {
    const rest = this.channels.filter((channel) => channel !== this.ownUser && !channels.includes(channel));
    if (this.ownUser !== undefined && channels.includes(this.ownUser)) this.ownUser = undefined;
    this.#others = rest.length > 1 ? rest.slice() : rest[0];
  }

  /** It is a member of nothing any more. */
  leftAll(): void {
    this.#others = undefined;
    this.ownUser = undefined;
  }

  isOn(key: string): boolean {
    if (key === this.ownUser?.key || key === everybodyKey()) return true;
    const others = this.#others;
    if (!Array.isArray(others)) return others?.key === key;
    for (const channel of others) if (channel.key === key) return true;
    return false;
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
      if (this.#served >= 0) {
        encoded = this.#unserved(encoded.frames, encoded);
        if (encoded === undefined) return;
      }
      if (this.mailbox !== undefined && (encoded as Frame | Batch).hasMail) {
        const wanted = encoded.frames.filter((frame) => !this.hides(frame));
        if (wanted.length === 0) return;
        if (wanted.length < encoded.frames.length) encoded = encodedOf(wanted);
      }
      this.#hand(encoded);
    } else if (this.#state === HOLDING) {
      this.holder?.hold(encoded);
    }
  }

  /** Whether its mailbox keeps an event from it. To be asked once for each. */
  hides({ source }: Frame): boolean {
    return this.mailbox !== undefined && source?.tag !== undefined && this.mailbox.hides(source);
  }

  /** A frame of the broker's own, behind all that it was handed so far; dropped where it is not live. */
  tell(frame: Frame): void {
    if (this.#state === LIVE) this.#hand(frame);
  }

  #hand(encoded: Encoded): void {
    if (this.isBlocked) this.#enqueue(encoded);
    else this.write(encoded);
  }

  /** Hands bytes to the sink, past the queue: for the flush, and for frames of the broker's own. */
  write(encoded: Encoded): void {
    if (this.#state >= ENDING) return;
    this.lastWriteTick = this.#host.tick;
    this.#host.wrote(encoded.count, encoded.bytes);
    if (!this.#send(encoded) && !this.isBlocked) {
      this.#flags |= BLOCKED;
      this.stalledSince = this.#host.tick;
      this.hasProgressed();
      if (this.isOver) return;
      const { clientBufferSize, clientBufferBytes } = this.#host.options;
      this.#backlog!.queue ??= new Queue(clientBufferSize, clientBufferBytes, this.#host.queueTotals);
    }
    const queue = this.#backlog?.queue;
    if (queue !== undefined && encoded.lastId !== '') queue.lastId = encoded.lastId;
  }

  /**
   * History is served through `served`, or begins after it. `held` are the live frames that came meanwhile. A bus may
   * deliver late what it has let us read: such events are left out, but not what was sent to this client alone, which is
   * in no history.
   */
  goLive(held: readonly Frame[], served?: Served): void {
    if (this.#state !== HOLDING) return;
    this.#state = LIVE;
    this.holder = undefined;
    if (served !== undefined) {
      this.#served = served.sequence;
      this.#servedIn = served.epoch;
    }
    if (held.length > 0) {
      const encoded = served === undefined ? encodedOf(held) : this.#unserved(held);
      // A replay may have waited for a slow reader.
      const now = this.#host.now();
      const wanted = encoded?.frames.filter((frame) => !this.hides(frame) && !frame.hasExpired(now)) ?? [];
      if (wanted.length > 0) this.#hand(encodedOf(wanted));
    }
    this.mailbox?.live();
  }

  /** Whether a full sink has taken anything since the last call. */
  hasProgressed(): boolean {
    this.#backlog ??= new Backlog();
    const backlog = this.#backlog;
    let { progress } = backlog;
    try {
      progress = this.#sink.progress();
    } catch (cause) {
      this.fail('failed', errorOf(cause));
    }
    const moved = progress !== backlog.progress;
    backlog.progress = progress;
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
    this.#flags &= ~BLOCKED;
    const backlog = this.#backlog!;
    const queue = backlog.queue!;
    let gap: Gap | undefined;
    if (backlog.gap !== undefined && overflowOf(this, this.#host) === 'drop-oldest') gap = this.#writeGap(backlog);
    while (!this.isBlocked && queue.length > 0) {
      const encoded = queue.take(DRAIN_BYTES, this.#host.now());
      if (encoded !== undefined) this.write(encoded);
    }
    if (queue.length === 0 && backlog.gap !== undefined) gap = this.#writeGap(backlog);
    if (!this.isBlocked && !this.isOver) this.#backlog = undefined;
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
   * The frames that history has not served. They are in order, so all behind the first are new; also behind a loss that
   * tells that the bus began anew, in another epoch than that of which history was served.
   */
  #unserved(frames: readonly Frame[], whole?: Encoded): Encoded | undefined {
    const first = firstUnserved(frames, { sequence: this.#served, epoch: this.#servedIn });
    if (first < frames.length) {
      this.#served = -1;
      this.#servedIn = undefined;
    }
    if (first === 0 && whole !== undefined) return whole;
    const rest: Frame[] = [];
    for (let i = 0; i < first; i++) {
      const { source } = frames[i]!;
      if (source !== undefined && isLiveOnly(source.key)) rest.push(withoutId(source));
    }
    for (let i = first; i < frames.length; i++) rest.push(frames[i]!);
    return rest.length === 0 ? undefined : encodedOf(rest);
  }

  #enqueue(encoded: Encoded): void {
    const backlog = this.#backlog!;
    const { frames } = encoded;
    for (let i = 0; i < frames.length; i++) {
      if (backlog.admit(frames[i]!, this, this.#host)) continue;
      // What follows shares the fate of the frame that was one too many.
      if (overflowOf(this, this.#host) === 'disconnect') this.#host.dropped(frames.length - i - 1);
      return;
    }
  }

  #writeGap(backlog: Backlog): Gap {
    const gap = backlog.takeGap();
    // What still waits to go ahead may be from before what was dropped: the cursor stays.
    this.write(gapFrame(gap, backlog.queue?.hasAhead ? undefined : gap.resumedFrom));
    return gap;
  }

  /** All that waits, at once: the stream ends after it, so nothing can pile up behind. */
  #handOverQueue(): void {
    const backlog = this.#backlog;
    const queue = backlog?.queue;
    if (backlog === undefined || queue === undefined) return;
    let gap: Gap | undefined;
    if (backlog.gap !== undefined && overflowOf(this, this.#host) === 'drop-oldest') {
      gap = backlog.takeGap();
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
    const backlog = this.#backlog;
    backlog?.queue?.clear();
    if (backlog !== undefined) backlog.queue = undefined;
  }
}

const errorOf = (cause: unknown): Error => (cause instanceof Error ? cause : new Error(String(cause)));
