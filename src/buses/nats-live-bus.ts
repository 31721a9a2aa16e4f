/**
 * The bus over core NATS alone: events pass by, nothing is kept.
 *
 * What holds: a node delivers in one order, in which the events of each publisher keep theirs; an id stands for its event on
 * every node. What cannot hold without anybody who counts: two publishers' events may come in another order on another node,
 * and an event that got lost on the way is not noticed by a number. So every interruption of a node's connection is a loss
 * (`disabled`), and so is coming back with a cursor that this node did not see go by.
 */
import { randomBytes } from 'node:crypto';
import type { Bus, BusReceiver, BusStatus, Head, ReadRequest, ReadResult } from '../core/bus.js';
import type { SseError } from '../core/errors.js';
import type { OutgoingEvent } from '../core/event.js';
import { SequenceIndex } from '../core/sequence-index.js';
import { isLiveOnly } from '../core/topic.js';
import { decodeEvent, encodeEvent } from './envelope.js';
import type { NatsConnection, NatsMessage } from './nats-client.js';
import { failureOf, unavailable } from './nats-failure.js';
import { NatsInterest } from './nats-interest.js';
import { NatsLink } from './nats-link.js';
import type { ResolvedNatsBusOptions } from './nats-options.js';
import { sizeProblem } from './nats-outbox.js';
import { NatsSubjects } from './nats-subjects.js';
import { NextBatch } from './next-batch.js';

/** Ids of which this node remembers the place; a client that comes back with an older one is told a gap. */
const REMEMBERED_IDS = 20_000;

export class NatsLiveBus implements Bus {
  readonly name = 'nats';
  readonly isShared = true;
  readonly #options: ResolvedNatsBusOptions;
  readonly #connection: NatsConnection;
  readonly #subjects: NatsSubjects;
  readonly #interest: NatsInterest;
  readonly #link: NatsLink;
  /** Of this node and start: the publisher's part of ids, and the mark of cursors that are no event. */
  readonly #epoch = randomBytes(9).toString('hex');
  readonly #flush = new NextBatch(() => this.#flushed());
  #index = new SequenceIndex();
  #places = new Map<string, number>();
  #oldPlaces = new Map<string, number>();
  #receiver: BusReceiver | undefined = undefined;
  #sequence = 0;
  #published = 0;
  #down: string | undefined = 'not started';
  #isClosed = false;
  #timer: NodeJS.Timeout | undefined = undefined;
  readonly #pending = new Set<(error: SseError) => void>();

  constructor(options: ResolvedNatsBusOptions) {
    this.#options = options;
    this.#connection = options.connection;
    this.#subjects = new NatsSubjects(options.subjectPrefix, options.namespace);
    this.#interest = new NatsInterest(
      {
        subscribe: (key, callback) => this.#connection.subscribe(this.#subjects.plain(key), { callback }),
        confirm: (key, isStillWanted) => this.#confirm(key, isStillWanted),
        arrived: (key, message) => this.#arrived(key, message),
        left: () => {},
      },
      options.linger,
    );
    this.#link = new NatsLink(options.connection, {
      disconnected: (reason) => this.#goDown(reason),
      // The subscriptions are on their way again: what is published before they are there goes by unseen, so it must be
      // part of the loss that is told.
      reconnected: () =>
        void this.#flush.get().then(
          () => this.#goUp(),
          (error: Error) => this.#goDown(error.message),
        ),
      refused: (error) => {
        this.#interest.refused(error);
        this.#receiver?.error(failureOf('a subscription was refused', error));
      },
    });
  }

  async start(receiver: BusReceiver): Promise<void> {
    if (this.#isClosed) throw unavailable('the bus is closed');
    if (this.#connection.isClosed()) throw unavailable('the NATS connection is closed');
    if (this.#receiver !== undefined) return;
    await this.#flush.get();
    if (this.#isClosed) throw unavailable('the bus is closed');
    this.#receiver = receiver;
    this.#link.start();
    this.#down = undefined;
    receiver.status(this.status());
    this.#check();
  }

  async publish(event: OutgoingEvent): Promise<string> {
    if (this.#down !== undefined || this.#isClosed) throw unavailable(this.#down ?? 'the bus is closed');
    const id = `${this.#epoch}.${++this.#published}`;
    // The id goes before the event, because no header of the carrier holds it.
    const payload = Buffer.from(`${id} ${encodeEvent(event)}`);
    const problem = sizeProblem(payload.length, this.#connection.info?.max_payload);
    if (problem !== undefined) throw problem;
    try {
      this.#connection.publish(this.#subjects.plain(event.key), payload);
    } catch (error) {
      throw failureOf('the event was not sent', error);
    }
    // The server has it then, and this node has its own.
    await this.#flush.get();
    return id;
  }

  join(key: string): void | Promise<void> {
    if (this.#receiver === undefined || this.#isClosed) return Promise.reject(unavailable('the bus is not started'));
    if (this.#connection.isClosed()) return Promise.reject(unavailable('the NATS connection is closed'));
    return this.#interest.join(key);
  }

  leave(key: string): void {
    this.#interest.leave(key);
  }

  head(): Head {
    return { id: `${this.#epoch}-${this.#sequence}`, sequence: this.#sequence };
  }

  read({ keys, after }: ReadRequest): ReadResult {
    const head = this.head();
    const cursor = this.#cursorOf(after);
    if (typeof cursor === 'string') return { events: [], more: false, head, loss: cursor, completeAfter: head.id };
    const isComplete = keys.every((key) => isLiveOnly(key) || this.#index.lostThroughOf(key) <= cursor);
    if (isComplete) return { events: [], more: false, head };
    return { events: [], more: false, head, loss: 'disabled', completeAfter: head.id };
  }

  status(): BusStatus {
    const details = { joinedKeys: this.#interest.size };
    return this.#down === undefined ? { state: 'up', details } : { state: 'down', reason: this.#down, details };
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    if (this.#down === undefined) await this.#flush.get().catch(() => {});
    this.#isClosed = true;
    this.#receiver = undefined;
    clearTimeout(this.#timer);
    this.#link.stop();
    this.#interest.close();
    for (const reject of [...this.#pending]) reject(unavailable('the bus is closed'));
    this.#down = 'closed';
  }

  async #confirm(key: string, isStillWanted: () => boolean): Promise<void> {
    await this.#flush.get();
    // A refusal has come in with the answer, and is told by another way.
    await new Promise(setImmediate);
    // What was published before went by unseen.
    if (isStillWanted()) this.#index.markLost(key, this.#sequence);
  }

  #arrived(key: string, { data }: NatsMessage): void {
    const receiver = this.#receiver;
    if (receiver === undefined) return;
    const text = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString();
    const space = text.indexOf(' ');
    const id = text.slice(0, Math.max(0, Math.min(space, 64)));
    const place = { key, sequence: this.#sequence + 1, id };
    const event = decodeEvent(text.slice(space + 1), place, (error) => receiver.error(error));
    if (event === undefined) return;
    this.#sequence = event.sequence;
    if (!isLiveOnly(key)) this.#index.markLost(key, event.sequence);
    this.#places.set(id, event.sequence);
    if (this.#places.size > REMEMBERED_IDS / 2) {
      this.#oldPlaces = this.#places;
      this.#places = new Map();
    }
    try {
      receiver.deliver(event);
    } catch (error) {
      receiver.error(error);
    }
  }

  /** Where an event went by, or where a head was. */
  #cursorOf(id: string): number | 'epoch' | 'unknown' {
    const place = this.#places.get(id) ?? this.#oldPlaces.get(id);
    if (place !== undefined) return place;
    const match = /^([0-9a-f]{18})([-.])(0|[1-9][0-9]{0,15})$/.exec(id);
    if (match === null) return 'unknown';
    if (match[1] !== this.#epoch || match[2] === '.') return 'epoch';
    const sequence = Number(match[3]);
    return sequence <= this.#sequence ? sequence : 'unknown';
  }

  async #flushed(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const settle = (finish: () => void): void => {
        clearTimeout(timer);
        this.#pending.delete(fail);
        finish();
      };
      const fail = (error: unknown): void => settle(() => reject(failureOf('NATS is not available', error)));
      const timer = setTimeout(() => fail(new Error('no answer in time')), this.#options.requestTimeout);
      this.#pending.add(fail);
      this.#connection.flush().then(() => settle(resolve), fail);
    });
  }

  /** A connection that is open and dead is not told by the client for minutes. */
  #check(): void {
    const { checkInterval } = this.#options;
    this.#timer = setTimeout(
      () => {
        // It does not come back, and nothing can be asked of it.
        if (this.#connection.isClosed()) return;
        this.#renewed()
          .then(
            () => this.#goUp(),
            (error: Error) => this.#goDown(error.message),
          )
          .then(() => {
            if (!this.#isClosed) this.#check();
          });
      },
      checkInterval * (0.9 + Math.random() * 0.2),
    );
    this.#timer.unref();
  }

  /** Resolves when the server has all subscriptions. */
  async #renewed(): Promise<void> {
    for (const refusal of this.#interest.renew()) {
      this.#receiver?.error(failureOf('a subscription was ended', refusal));
    }
    await this.#flush.get();
  }

  #goDown(reason: string): void {
    if (this.#isClosed) return;
    for (const reject of [...this.#pending]) reject(unavailable(reason));
    if (this.#down === reason) return;
    this.#down = reason;
    this.#receiver?.status(this.status());
  }

  #goUp(): void {
    if (this.#isClosed || this.#down === undefined) return;
    this.#down = undefined;
    // Nobody can know what went by: nothing before this is complete, for any key.
    this.#index = new SequenceIndex(++this.#sequence);
    this.#receiver?.lost({ reason: 'disabled', head: this.head() });
    this.#receiver?.status(this.status());
  }
}
