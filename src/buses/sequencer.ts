/**
 * What one node has of the one order: it delivers what a lossy carrier brings, notices what is missing, and repairs it.
 *
 * A carrier that forgets (Redis Pub/Sub, core NATS) says with each event the sequence of the one before it on the same
 * channel key. Where a node has not seen that one, something was lost, and nobody knows what else with it: so everything
 * stops, all joined keys are read from history after the place through which they are known to be complete, and what came
 * in meanwhile follows in its order. What history cannot give is told as lost, at its place: after all that is older, before
 * all that is newer. So the order over all keys holds at every moment, and a cursor is never ahead of what was delivered.
 *
 * It must never: deliver an event twice, deliver one before an older one, skip one without telling, hold without bound.
 * It opens no connection and has no timer; its bus asks it to recover after every doubt (a new connection, a check).
 */
import type { Head, Loss } from '../core/bus.js';
import type { BusEvent } from '../core/event.js';

/** What a recovery has to find out. */
export interface RecoveryRequest {
  readonly epoch: string;
  /** The newest sequence delivered, in `epoch`. A carrier that stands before it has lost something. */
  readonly position: number;
  /** Every joined key is complete through this, and through {@link RecoveryRequest.seen} of its own. */
  readonly verified: number;
  /** The joined keys. */
  keys(): Iterable<string>;
  /** Through which sequence a joined key is complete; undefined where it is not joined. */
  seen(key: string): number | undefined;
  /** What has come in and waits; `previous` is undefined for live-only keys. */
  held(): readonly { readonly key: string; readonly sequence: number; readonly previous: number | undefined }[];
}

/** What history gave. */
export interface Recovery {
  /** Another one than was asked for only with a `loss`, or where the carrier vouches that nothing was lost between. */
  readonly epoch: string;
  /** After `pages` every joined key is complete through this. Whatever the carrier brought of before has come in. */
  readonly head: Head;
  /**
   * What cannot be read: `keys` lost something at or before `loss.head`, and nothing after it. All keys where absent. With
   * another epoch everything before is lost, and `loss.head` is where its own history begins to be complete.
   */
  readonly loss?: Loss & { readonly head: Head };
  /** What the joined keys missed, through `head`: in order, each event once. Bounded pages. */
  readonly pages?: AsyncIterable<readonly BusEvent[]> | Iterable<readonly BusEvent[]>;
}

/** What a sequencer needs of its bus. */
export interface SequencerHost {
  deliver(event: BusEvent): void;
  lost(loss: Loss): void;
  /** Reads what is missing. May reject: then the sequencer goes on holding until {@link Sequencer.recover} is called. */
  recover(request: RecoveryRequest): Promise<Recovery>;
  /** Something failed that nobody waits for. */
  error(error: unknown): void;
  /** A recovery is through, and nothing is held any more. */
  live?(): void;
}

/** Most events held while a recovery runs, and most of their text. Beyond that history must have them. */
export interface SequencerLimits {
  readonly events: number;
  readonly characters: number;
}

const LIMITS: SequencerLimits = Object.freeze({ events: 10_000, characters: 16 * 1024 * 1024 });

/** An event as the carrier brought it. */
interface Arrival {
  readonly event: BusEvent;
  readonly previous: number | undefined;
  readonly epoch: string;
  /** The recovery that ran, or the last before it. */
  readonly round: number;
}

export class Sequencer {
  readonly #host: SequencerHost;
  readonly #limits: SequencerLimits;
  /** Newest sequence that each joined key had, or the one after which it was joined. */
  readonly #last = new Map<string, number>();
  /** Keys that are being joined, with the newest sequence that came in meanwhile. */
  readonly #expected = new Map<string, number>();
  #epoch = '';
  /** The newest event delivered, or the head after which all began. */
  #position: Head = { id: '', sequence: 0 };
  #verified = 0;
  /** True from a doubt on, until a recovery that began after it is through. */
  #isSuspended = true;
  #recovering: Promise<void> | undefined = undefined;
  #held: Arrival[] = [];
  #heldCharacters = 0;
  /** The next held event that a running recovery has not passed. */
  #heldAt = 0;
  /** Counts recoveries. */
  #round = 0;
  /** Sequence of the event that showed the last hole. */
  #doubted = 0;
  /** Set where held events were let go of, or came from an epoch that the running recovery does not know. */
  #mustRepeat = false;

  /** Holds everything until {@link begin} or the first {@link recover}. */
  constructor(host: SequencerHost, limits: SequencerLimits = LIMITS) {
    this.#host = host;
    this.#limits = limits;
  }

  /** Which history this node follows. */
  get epoch(): string {
    return this.#epoch;
  }

  /** The newest sequence delivered. */
  get position(): number {
    return this.#position.sequence;
  }

  /** Every joined key is complete through this. */
  get verified(): number {
    return this.#verified;
  }

  /** False while events are held. */
  get isLive(): boolean {
    return !this.#isSuspended && this.#recovering === undefined;
  }

  /** Events that wait for a recovery. */
  get held(): number {
    return this.#held.length;
  }

  /** Joined keys. */
  get size(): number {
    return this.#last.size;
  }

  keys(): IterableIterator<string> {
    return this.#last.keys();
  }

  /** Through which sequence a joined key is complete. */
  seen(key: string): number | undefined {
    const last = this.#last.get(key);
    return last === undefined ? undefined : Math.max(last, this.#verified);
  }

  /** Live from here on; nothing before `head` is owed to anybody. */
  begin(epoch: string, head: Head): void {
    this.#epoch = epoch;
    this.#position = head;
    this.#verified = head.sequence;
    this.#isSuspended = false;
  }

  /** The carrier is about to be asked for a key: call it before, and {@link join} when it has confirmed. */
  expect(key: string): void {
    if (!this.#last.has(key) && !this.#expected.has(key)) this.#expected.set(key, 0);
  }

  /**
   * A key whose events come in by now, and which is owed everything after `sequence`: the head of the namespace, read after
   * the carrier had confirmed. False where that is too old to count, or where events are held: read it again then.
   */
  join(key: string, epoch: string, sequence: number): boolean {
    if (!this.isLive || epoch !== this.#epoch || sequence < this.#verified) return false;
    // What came in before the head was known is older than the end of the join: who joins reads it from history. It cannot
    // be delivered, because newer events of other keys have been.
    if (!this.#last.has(key)) this.#last.set(key, Math.max(sequence, this.#expected.get(key) ?? 0));
    this.#expected.delete(key);
    return true;
  }

  leave(key: string): void {
    this.#last.delete(key);
    this.#expected.delete(key);
  }

  /**
   * The next event that the carrier brings. `previous`: the sequence of the one before it on its key, 0 for none; undefined
   * for events that may be lost (live-only keys).
   */
  accept(event: BusEvent, previous: number | undefined, epoch: string): void {
    if (!this.#last.has(event.key)) {
      const expected = this.#expected.get(event.key);
      if (expected !== undefined && epoch === this.#epoch && event.sequence > expected) {
        this.#expected.set(event.key, event.sequence);
      }
      return;
    }
    if (!this.isLive) {
      this.#hold(event, previous, epoch);
    } else if (epoch !== this.#epoch || this.#hasHole(event, previous)) {
      this.#doubted = event.sequence;
      this.#hold(event, previous, epoch);
      this.#recoverSoon();
    } else {
      this.#take(event, previous);
    }
  }

  /** The keys that a check found complete are all: what it saw of them is here. */
  verify(sequence: number): void {
    if (sequence > this.#verified) this.#verified = sequence;
  }

  /** The connection broke: what comes in from here on may have holes anywhere. Holds until {@link recover}. */
  suspend(): void {
    this.#isSuspended = true;
  }

  /**
   * Makes all joined keys complete. Resolves when everything is delivered or told and the node is live again, or when
   * another doubt came meanwhile; rejects where history cannot be asked, and holds on. Safe to call at any time.
   */
  recover(): Promise<void> {
    if (this.#recovering !== undefined) {
      // It began before this call's doubt.
      if (this.#isSuspended) this.#mustRepeat = true;
      this.#isSuspended = false;
      return this.#recovering;
    }
    this.#isSuspended = false;
    const recovering = this.#recover().then(
      () => {
        this.#recovering = undefined;
        if (!this.#isSuspended) this.#release();
        if (this.isLive) this.#host.live?.();
      },
      (error: unknown) => {
        this.#recovering = undefined;
        this.#isSuspended = true;
        throw error;
      },
    );
    this.#recovering = recovering;
    return recovering;
  }

  #recoverSoon(): void {
    this.recover().catch((error: unknown) => this.#host.error(error));
  }

  async #recover(): Promise<void> {
    do {
      this.#mustRepeat = false;
      this.#round++;
      const before = this.#epoch;
      const recovery = await this.#host.recover({
        epoch: before,
        position: this.#position.sequence,
        verified: this.#verified,
        keys: () => this.keys(),
        seen: (key) => this.seen(key),
        held: () => this.#held.map(({ event: { key, sequence }, previous }) => ({ key, sequence, previous })),
      });
      await this.#deliverRecovered(recovery);
      this.#dropRecovered(recovery, before);
    } while (this.#mustRepeat && !this.#isSuspended);
  }

  async #deliverRecovered({ epoch, head, loss, pages = [] }: Recovery): Promise<void> {
    this.#heldAt = 0;
    let untold = loss;
    if (loss !== undefined && epoch !== this.#epoch) {
      untold = undefined;
      this.#beginAgain(epoch, loss);
    }
    const lostKeys = untold === undefined ? undefined : new Set(untold.keys ?? this.#last.keys());
    // Keys of which something is missing whose place has passed: newer events of other keys are out already.
    const late = new Set<string>();
    const tellLate = () => {
      if (late.size > 0) this.#tell({ reason: 'evicted', keys: [...late], head: this.#position });
      late.clear();
    };
    for await (const page of pages) {
      for (const event of page) {
        if (untold !== undefined && event.sequence > untold.head.sequence) {
          this.#deliverHeldLiveOnly(untold.head.sequence, epoch);
          this.#tellThrough(untold, lostKeys!);
          untold = undefined;
        }
        // What is before the place of a loss is told with it.
        if (untold !== undefined && lostKeys!.has(event.key)) continue;
        const last = this.#last.get(event.key);
        if (last === undefined || event.sequence <= last) continue;
        this.#last.set(event.key, event.sequence);
        if (event.sequence <= this.#position.sequence) {
          late.add(event.key);
          continue;
        }
        tellLate();
        this.#deliverHeldLiveOnly(event.sequence, epoch);
        this.#deliver(event);
      }
      tellLate();
    }
    if (untold !== undefined) {
      this.#deliverHeldLiveOnly(untold.head.sequence, epoch);
      this.#tellThrough(untold, lostKeys!);
    }
    this.#deliverHeldLiveOnly(head.sequence, epoch);
    if (epoch === this.#epoch) {
      this.verify(head.sequence);
    } else {
      // Vouched for: what was complete still is.
      this.#restart(epoch, head);
    }
  }

  /** What comes of these keys through there is older than what was told. */
  #tellThrough(loss: Loss & { readonly head: Head }, keys: ReadonlySet<string>): void {
    this.#tell(loss);
    for (const key of keys) {
      const last = this.#last.get(key);
      if (last !== undefined && last < loss.head.sequence) this.#last.set(key, loss.head.sequence);
    }
  }

  /** Another history, which may count from one again: nothing of the old one is compared with it. */
  #beginAgain(epoch: string, loss: Loss & { readonly head: Head }): void {
    this.#tell(loss);
    this.#restart(epoch, { id: loss.head.id, sequence: 0 });
    this.#deliverHeldLiveOnly(loss.head.sequence, epoch);
    this.#restart(epoch, loss.head);
  }

  #restart(epoch: string, head: Head): void {
    this.#epoch = epoch;
    this.#position = head;
    this.#verified = head.sequence;
    for (const key of this.#last.keys()) this.#last.set(key, head.sequence);
    for (const key of this.#expected.keys()) this.#expected.set(key, 0);
  }

  /** What history does not keep has come in before the recovery ends, and has its place in the order too. */
  #deliverHeldLiveOnly(through: number, newEpoch: string): void {
    for (; this.#heldAt < this.#held.length; this.#heldAt++) {
      const { event, previous, epoch } = this.#held[this.#heldAt]!;
      if (epoch !== this.#epoch && epoch !== newEpoch) continue;
      if (event.sequence > through) return;
      if (previous === undefined && event.sequence > this.#position.sequence) this.#deliver(event);
    }
  }

  /** What was held and is delivered, or told as lost, by now. */
  #dropRecovered({ epoch, head, loss }: Recovery, before: string): void {
    this.#heldAt = 0;
    this.#heldCharacters = 0;
    this.#held = this.#held.filter(({ event, epoch: own, round }) => {
      const isNew = own !== epoch && own !== before && round === this.#round;
      // The carrier began yet another epoch while this one was read.
      if (isNew) this.#mustRepeat = true;
      const isCurrent = own === epoch || (own === before && loss === undefined);
      const isKept = isNew || (isCurrent && event.sequence > head.sequence);
      if (isKept) this.#heldCharacters += event.data.length;
      return isKept;
    });
  }

  /** What was held goes the way of everything that comes in; a hole stops it again. */
  #release(): void {
    const held = this.#held;
    this.#held = [];
    this.#heldCharacters = 0;
    for (const { event, previous } of held) {
      if (event.sequence === this.#doubted && this.#last.has(event.key) && this.#hasHole(event, previous)) {
        // History does not know what the carrier says it has: asking again would go on for ever.
        this.#tell({ reason: 'unknown', keys: [event.key], head: this.#position });
        this.#last.set(event.key, previous!);
      }
      // Also what is of the epoch before, where nothing of that was lost.
      this.accept(event, previous, this.#epoch);
    }
  }

  #hasHole({ key }: BusEvent, previous: number | undefined): boolean {
    return previous !== undefined && previous > this.#last.get(key)! && previous > this.#verified;
  }

  #take(event: BusEvent, previous: number | undefined): void {
    const { key, sequence } = event;
    if (previous !== undefined) {
      // The carrier brought what a recovery had read, or what was published before the key was joined.
      if (sequence <= this.#last.get(key)!) return;
      this.#last.set(key, sequence);
    }
    if (sequence > this.#position.sequence) this.#deliver(event);
    else if (previous !== undefined) this.#tell({ reason: 'evicted', keys: [key], head: this.#position });
  }

  #deliver(event: BusEvent): void {
    this.#position = { id: event.id, sequence: event.sequence };
    try {
      this.#host.deliver(event);
    } catch (error) {
      this.#host.error(error);
    }
  }

  #tell(loss: Loss): void {
    try {
      this.#host.lost(loss);
    } catch (error) {
      this.#host.error(error);
    }
  }

  #hold(event: BusEvent, previous: number | undefined, epoch: string): void {
    // In order, whatever the carrier did: but not before what a running recovery has passed.
    let at = this.#held.length;
    for (; at > this.#heldAt; at--) {
      const before = this.#held[at - 1]!;
      if (before.epoch !== epoch || before.event.sequence <= event.sequence) break;
    }
    this.#held.splice(at, 0, { event, previous, epoch, round: this.#round });
    this.#heldCharacters += event.data.length;
    if (this.#held.length <= this.#limits.events && this.#heldCharacters <= this.#limits.characters) return;
    // History has them too, as far as anybody has.
    this.#held = [];
    this.#heldAt = 0;
    this.#heldCharacters = 0;
    this.#mustRepeat = true;
  }
}
