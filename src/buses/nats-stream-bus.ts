/**
 * The bus over a JetStream stream: the order and history are the server's, what is live comes over core NATS, and each node
 * proves to itself that nothing is missing (sequencer.ts).
 *
 * Three paths meet here. Publishing goes through the outbox into the stream. What the stream has stored comes back over one
 * subscription per joined key, and through the sequencer to the broker. Questions (head, history, recovery, check) go to
 * the stream's leader.
 */
import { randomBytes } from 'node:crypto';
import type { Bus, BusReceiver, BusStatus, Head, Loss, ReadRequest, ReadResult } from '../core/bus.js';
import type { BusEvent, OutgoingEvent } from '../core/event.js';
import { isLiveOnly } from '../core/topic.js';
import { encodeEvent } from './envelope.js';
import { NatsArrivals } from './nats-arrivals.js';
import type { JetStream, NatsConnection, NatsSubscription } from './nats-client.js';
import { NatsEpochs } from './nats-epochs.js';
import { failureOf, unavailable } from './nats-failure.js';
import { type Entry, NatsHistory } from './nats-history.js';
import { NatsInterest } from './nats-interest.js';
import { NatsKeeper } from './nats-keeper.js';
import { NatsLink } from './nats-link.js';
import type { ResolvedNatsBusOptions } from './nats-options.js';
import { NatsOutbox, sizeProblem } from './nats-outbox.js';
import { pause } from './nats-pause.js';
import { NatsReader } from './nats-reader.js';
import { DUPLICATE_WINDOW_MS, NatsStream, replaced, type StreamView } from './nats-stream.js';
import { NatsSubjects } from './nats-subjects.js';
import { NatsVerifier } from './nats-verifier.js';
import { NextBatch } from './next-batch.js';
import { type Recovery, type RecoveryRequest, Sequencer } from './sequencer.js';

/** Events that one step of a recovery reads. */
const PAGE_EVENTS = 128;
/** How often a read begins again because history was dropped under it. */
const READ_ATTEMPTS = 3;
/** How long a stream that stands before what was delivered has time to say that it was a mistake. */
const STALE_LEADER_MS = 500;

export class NatsStreamBus implements Bus {
  readonly name = 'nats';
  readonly isShared = true;
  readonly #options: ResolvedNatsBusOptions;
  readonly #connection: NatsConnection;
  readonly #subjects: NatsSubjects;
  readonly #stream: NatsStream;
  readonly #history: NatsHistory;
  readonly #sequencer: Sequencer;
  readonly #outbox: NatsOutbox;
  readonly #interest: NatsInterest;
  readonly #link: NatsLink;
  readonly #arrivals: NatsArrivals;
  readonly #verifier: NatsVerifier;
  readonly #reader: NatsReader;
  readonly #keeper: NatsKeeper;
  readonly #epochs = new NatsEpochs();
  readonly #flush = new NextBatch(() => this.#connection.flush());
  #receiver: BusReceiver | undefined = undefined;
  #starting: Promise<void> | undefined = undefined;
  #closing: Promise<void> | undefined = undefined;
  /** Begins every stream, and so gives away one that has replaced another to nodes that listen to nothing else. */
  #anchors: NatsSubscription | undefined = undefined;
  readonly #counts = { recoveries: 0, losses: 0, checks: 0 };

  constructor(options: ResolvedNatsBusOptions, jetstream: JetStream) {
    this.#options = options;
    this.#connection = options.connection;
    this.#subjects = new NatsSubjects(options.subjectPrefix, options.namespace);
    this.#stream = new NatsStream(jetstream, this.#subjects, options);
    this.#history = new NatsHistory(this.#stream, options.cacheBytes, (message, key) =>
      this.#arrivals.decode(message.data, key, message.seq, this.#sequencer.epoch),
    );
    this.#sequencer = new Sequencer({
      deliver: (event) => this.#deliver(event),
      lost: (loss) => this.#lost(loss),
      recover: (request) => this.#recover(request),
      error: (error) => this.#doubt(error),
    });
    this.#verifier = new NatsVerifier(this.#history, this.#sequencer);
    this.#reader = new NatsReader(this.#history, this.#sequencer, this.#epochs, () => this.#look());
    this.#keeper = new NatsKeeper(
      {
        check: () => this.#check(),
        resumed: () => this.#outbox.resume(),
        stopped: (error) => this.#outbox.stop(failureOf('NATS is not available', error)),
        changed: () => this.#receiver?.status(this.status()),
      },
      { ...options, isClosed: () => this.#connection.isClosed() },
    );
    this.#arrivals = new NatsArrivals(
      {
        suspicious: () => this.#keeper.schedule(0),
        doubt: () => {
          this.#sequencer.suspend();
          this.#sequencer.recover().catch((error: unknown) => this.#doubt(error));
        },
        error: (error) => this.#receiver?.error(error),
      },
      {
        connection: this.#connection,
        subjects: this.#subjects,
        stream: this.#stream,
        history: this.#history,
        sequencer: this.#sequencer,
        epochs: this.#epochs,
        reorderWindow: options.reorderWindow,
      },
    );
    const { publishBuffer } = options;
    this.#outbox = new NatsOutbox(
      {
        store: (key, payload, messageId) => this.#store(key, payload, messageId),
        // It says something about the server, the stream or the connection: a check finds out what.
        failed: () => {
          if (this.#keeper.down === undefined) this.#keeper.schedule(0);
        },
      },
      randomBytes(9).toString('base64url'),
      publishBuffer === false ? undefined : { ...publishBuffer, repeatWindow: DUPLICATE_WINDOW_MS * 0.75 },
    );
    this.#interest = new NatsInterest(
      {
        subscribe: (key, callback) => {
          this.#sequencer.expect(key);
          this.#arrivals.expect(key);
          return this.#connection.subscribe(this.#subjects.live(key), { callback });
        },
        confirm: (key, isStillWanted) => this.#confirm(key, isStillWanted),
        arrived: (key, message) => {
          if (this.#receiver !== undefined) this.#arrivals.arrived(key, message);
        },
        left: (key) => {
          this.#sequencer.leave(key);
          this.#arrivals.leave(key);
          this.#history.left(key);
        },
      },
      options.linger,
    );
    this.#link = new NatsLink(options.connection, {
      disconnected: (reason) => this.#disconnected(reason),
      reconnected: () => this.#keeper.schedule(Math.random() * options.recoveryJitter),
      refused: (error) => {
        this.#interest.refused(error);
        this.#receiver?.error(failureOf('a subscription was refused', error));
      },
    });
  }

  start(receiver: BusReceiver): Promise<void> {
    if (this.#closing !== undefined) return Promise.reject(unavailable('the bus is closed'));
    this.#starting ??= this.#start(receiver).catch((error: unknown) => {
      this.#starting = undefined;
      this.#keeper.failed((error as Error).message);
      receiver.status(this.status());
      throw error;
    });
    return this.#starting;
  }

  publish(event: OutgoingEvent): Promise<string> {
    if (this.#closing !== undefined) return Promise.reject(unavailable('the bus is closed'));
    const payload = Buffer.from(encodeEvent(event));
    const problem = sizeProblem(payload.length, this.#connection.info?.max_payload);
    return problem === undefined ? this.#outbox.publish(event.key, payload) : Promise.reject(problem);
  }

  join(key: string): void | Promise<void> {
    if (this.#closing !== undefined || this.#starting === undefined) {
      return Promise.reject(unavailable(this.#closing === undefined ? 'the bus is not started' : 'the bus is closed'));
    }
    if (this.#connection.isClosed()) return Promise.reject(unavailable('the NATS connection is closed'));
    return this.#interest.join(key);
  }

  leave(key: string): void {
    this.#interest.leave(key);
  }

  async head(): Promise<Head> {
    await this.#keeper.up();
    return this.#epochs.headOf(await this.#look());
  }

  async read(request: ReadRequest): Promise<ReadResult> {
    for (let attempt = 1; ; attempt++) {
      await this.#keeper.up();
      try {
        return await this.#reader.read(request);
      } catch (error) {
        if (attempt === READ_ATTEMPTS || this.#closing !== undefined) throw failureOf('history cannot be read', error);
      }
    }
  }

  status(): BusStatus {
    const details = {
      joinedKeys: this.#sequencer.size,
      heldEvents: this.#sequencer.held,
      waitingPublishes: this.#outbox.size,
      historySequences: this.#history.size,
      ...this.#counts,
    };
    const { down } = this.#keeper;
    return down === undefined ? { state: 'up', details } : { state: 'down', reason: down, details };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #start(receiver: BusReceiver): Promise<void> {
    if (this.#connection.isClosed()) throw unavailable('the NATS connection is closed');
    const view = await this.#stream.open();
    if (this.#closing !== undefined) throw unavailable('the bus is closed');
    this.#receiver = receiver;
    this.#epochs.see(view);
    this.#sequencer.begin(this.#epochs.of(view), this.#epochs.headOf(view));
    this.#arrivals.begin(view.last);
    this.#anchors = this.#connection.subscribe(this.#subjects.liveAnchor, {
      callback: (error, message) => {
        if (error !== null || this.#subjects.tokenIn(message.subject) === this.#epochs.view.token) return;
        this.#epochs.replaced();
        this.#keeper.schedule(Math.random() * this.#options.recoveryJitter);
      },
    });
    this.#link.start();
    this.#keeper.goUp();
    this.#keeper.schedule();
  }

  async #store(key: string, payload: Uint8Array, messageId: string | undefined): Promise<string> {
    const { epoch } = this.#sequencer;
    const newest = Math.max(this.#epochs.newest, this.#sequencer.position);
    const sequence = await this.#stream.store(key, payload, messageId);
    // The server does not say which stream of that name has it. One that has replaced another one counts from one again.
    const isNext = sequence > newest && epoch === this.#sequencer.epoch && this.#sequencer.isLive;
    if (!isNext || this.#epochs.isReplaced) return this.#idOfStored(sequence, key, payload, epoch);
    this.#epochs.stored(sequence);
    this.#arrivals.stored(key, sequence);
    return `${epoch}-${sequence}`;
  }

  /** The id of an event that was stored at `sequence`, when this node believed that it is in `epoch`. */
  async #idOfStored(sequence: number, key: string, payload: Uint8Array, epoch: string): Promise<string> {
    const view = await this.#look();
    const stored = await this.#stream.body(sequence, key);
    const own = this.#epochs.of(view);
    if (stored === undefined ? own === epoch : Buffer.compare(stored.data, payload) === 0) return `${own}-${sequence}`;
    throw unavailable('the stream was replaced when the event had been stored; it is not there any more');
  }

  #deliver(event: BusEvent): void {
    if (!isLiveOnly(event.key)) this.#history.delivered(event, this.#epochs.view.historySize);
    this.#receiver?.deliver(event);
  }

  #lost(loss: Loss): void {
    this.#counts.losses++;
    this.#history.lost(loss.keys, loss.head?.sequence ?? this.#sequencer.position);
    const { head } = loss;
    this.#receiver?.lost(head === undefined ? loss : { ...loss, head: { epoch: this.#sequencer.epoch, ...head } });
  }

  async #confirm(key: string, isStillWanted: () => boolean): Promise<void> {
    const deadline = performance.now() + this.#options.requestTimeout;
    while (isStillWanted()) {
      await this.#keeper.up();
      await this.#flush.get().catch((error: unknown) => {
        throw failureOf('a subscription was not confirmed', error);
      });
      if (!isStillWanted()) return;
      const view = await this.#look();
      if (!isStillWanted()) return;
      if (this.#sequencer.join(key, this.#epochs.of(view), view.last)) {
        this.#verifier.joined();
        if (!isLiveOnly(key)) this.#history.joined(key, this.#sequencer.seen(key)!);
        return;
      }
      if (performance.now() > deadline) throw unavailable('a subscription was not confirmed in time');
      // Held events wait for a recovery, and so does this.
      await this.#keeper.check();
    }
  }

  // Questions.

  /** The stream as it is now. A doubt that comes up is followed behind the back of the one who asks. */
  async #look(): Promise<StreamView> {
    // Taken before the question: what is delivered while the answer is on its way does not make that answer an old one.
    const { position } = this.#sequencer;
    const view = await this.#stream.view().catch((error: unknown) => {
      this.#keeper.schedule(0);
      throw error;
    });
    if (this.#epochs.of(view) !== this.#sequencer.epoch) {
      await this.#keeper.check();
      return this.#epochs.view;
    }
    if (view.last < position) {
      this.#keeper.schedule(0);
      throw unavailable('the stream stands before what it has republished');
    }
    return view;
  }

  async #recover(request: RecoveryRequest): Promise<Recovery> {
    if (this.#closing !== undefined) throw unavailable('the bus is closed');
    this.#counts.recoveries++;
    let view = await this.#stream.open();
    if (this.#epochs.of(view) === request.epoch && view.last < request.position) {
      // A leader that was cut off, perhaps.
      await pause(STALE_LEADER_MS);
      view = await this.#stream.open();
      if (this.#epochs.of(view) === request.epoch && view.last < request.position) {
        this.#epochs.fork(view);
      }
    }
    const epoch = this.#epochs.of(view);
    const head = this.#epochs.headOf(view);
    this.#epochs.see(view);
    if (epoch !== request.epoch) {
      this.#history.clear(head.sequence);
      this.#arrivals.flush();
      this.#arrivals.begin(head.sequence);
      return { epoch, head, loss: { reason: 'epoch', head } };
    }
    this.#arrivals.begin(view.last);
    const keys = [...request.keys()].filter((key) => !isLiveOnly(key));
    const selection = await this.#history.select(view, keys, (key) => request.seen(key) ?? view.last);
    const { entries, lostThrough, lostKeys } = selection;
    const pages = this.#pagesOf(entries, view);
    if (lostKeys.length === 0) return { epoch, head, pages };
    const place: Head = { id: `${epoch}-${lostThrough}`, sequence: lostThrough, epoch };
    return { epoch, head, pages, loss: { reason: this.#history.reason(view), keys: lostKeys, head: place } };
  }

  async *#pagesOf(entries: readonly Entry[], { epoch }: StreamView): AsyncIterable<BusEvent[]> {
    for (let i = 0; i < entries.length; i += PAGE_EVENTS) {
      const page = await this.#history.load(entries.slice(i, i + PAGE_EVENTS));
      // A stream that has replaced this one has other events at the same places.
      if ((await this.#stream.view()).epoch !== epoch) throw replaced();
      yield page;
    }
  }

  // Up and down.

  async #check(): Promise<void> {
    this.#counts.checks++;
    // As in #look: what is delivered while the answer is on its way is no doubt.
    const { position } = this.#sequencer;
    const view = await this.#stream.view().catch(() => undefined);
    const isMine = view !== undefined && this.#epochs.of(view) === this.#sequencer.epoch;
    const refusals = this.#interest.renew();
    for (const refusal of refusals) this.#receiver?.error(failureOf('a subscription was ended', refusal));
    const isWell = isMine && view.last >= position && refusals.length === 0;
    // `open` makes the stream where it is gone, and says what is wrong where it cannot.
    if (!isWell || !this.#sequencer.isLive) await this.#sequencer.recover();
    if (this.#closing !== undefined) return;
    if (!this.#sequencer.isLive) throw unavailable('the connection broke again');
    if (isWell) {
      this.#epochs.see(view);
      void this.#verify(view);
    }
    this.#keeper.goUp();
    await this.#stream.anchor(this.#epochs.view).catch((error: unknown) => {
      // Of a bus that is down the state says why.
      if (this.#keeper.down === undefined) this.#receiver?.error(error);
    });
  }

  async #verify(view: StreamView): Promise<void> {
    if (!(await this.#verifier.verify(this.#epochs.of(view), view.last))) return;
    this.#sequencer.verify(view.last);
    this.#arrivals.begin(view.last);
  }

  #disconnected(reason: string): void {
    const error = unavailable(reason);
    this.#keeper.disconnected();
    this.#sequencer.suspend();
    this.#arrivals.flush();
    this.#stream.interrupt(error);
    this.#keeper.goDown(error);
  }

  /** A recovery failed that an event had asked for. */
  #doubt(error: unknown): void {
    // Of a bus that is down the state says why.
    if (this.#keeper.down === undefined) this.#receiver?.error(failureOf('a recovery failed', error));
    this.#keeper.schedule(0);
  }

  async #close(): Promise<void> {
    await this.#starting?.catch(() => {});
    const reason = unavailable('the bus is closed');
    this.#keeper.stop(reason);
    // What is on its way has been sent: its answer comes, or it is in doubt.
    if (this.#keeper.down === undefined) await this.#outbox.drained(this.#options.requestTimeout);
    this.#outbox.close(reason);
    this.#receiver = undefined;
    this.#arrivals.flush();
    this.#link.stop();
    this.#anchors?.unsubscribe();
    this.#interest.close();
    this.#stream.interrupt(reason);
    this.#keeper.closed();
  }
}
