/**
 * The entry `sse-broker/redis`: a bus for many nodes over Redis or Valkey.
 *
 * Publishing is one atomic script: place in the order, history of the channel key, Pub/Sub message with the sequence of the
 * one before. Each node listens on one connection to the keys that its own clients want. Pub/Sub forgets, so the sequencer
 * of each node watches for holes, and reads what is missing from history; what nobody has any more is told.
 *
 * Doubt is cheap: after every new connection, every hole, and now and then for nothing, the node asks Redis where it stands
 * and which keys have something newer. The same question carries what the node has seen, so Redis notices a fail-over that
 * lost acknowledged writes, and sends a barrier through Pub/Sub, so the node knows that the connection on which it listens
 * is alive and that all older messages have come in.
 */
import type { Bus, BusReceiver, BusStatus, Head, Loss, ReadRequest, ReadResult } from '../core/bus.js';
import { SseError, shown } from '../core/errors.js';
import type { OutgoingEvent } from '../core/event.js';
import { decodeEvent } from './envelope.js';
import { NextBatch } from './next-batch.js';
import { redisLink } from './redis-caller.js';
import type { IoredisClient, NodeRedisClient, RedisClient, RedisLink, Subscriber } from './redis-client.js';
import { failureOf, isLasting } from './redis-failure.js';
import { RedisHealer } from './redis-healer.js';
import { headOf, RedisHistory } from './redis-history.js';
import { RedisInterest, withDeadline } from './redis-interest.js';
import {
  REDIS_BUS_DEFAULTS,
  type RedisBusOptions,
  type RedisPublishBuffer,
  type ResolvedRedisBusOptions,
  resolveRedisOptions,
} from './redis-options.js';
import { RedisPublisher } from './redis-publisher.js';
import { type Look, type PublishMode, RedisStore } from './redis-store.js';
import { RedisWatch } from './redis-watch.js';
import { Sequencer } from './sequencer.js';

export type { IoredisClient, NodeRedisClient, RedisBusOptions, RedisClient, RedisPublishBuffer };
export { REDIS_BUS_DEFAULTS };

/** A bus for many nodes: history, order and Pub/Sub of a Redis, a Sentinel or a cluster. */
export class RedisBus implements Bus {
  readonly name = 'redis';
  readonly isShared = true;
  readonly #options: ResolvedRedisBusOptions;
  readonly #link: RedisLink;
  readonly #store: RedisStore;
  readonly #publisher: RedisPublisher;
  readonly #sequencer: Sequencer;
  readonly #interest: RedisInterest;
  readonly #history: RedisHistory;
  readonly #healer: RedisHealer;
  readonly #heads: NextBatch<Look>;
  /** In all processes the one of this bus. */
  readonly #node = randomName();
  readonly #channelPrefix: string;
  readonly #barrierChannel: string;
  readonly #watch: RedisWatch;
  #receiver: BusReceiver | undefined = undefined;
  #starting: Promise<void> | undefined = undefined;
  #closing: Promise<void> | undefined = undefined;
  #isStarted = false;
  #connection: { readonly subscriber: Subscriber; readonly mode: PublishMode } | undefined = undefined;
  #stopListening: (() => void) | undefined = undefined;
  #reconnects = 0;
  /** The history that the broker knows of: what is delivered is of this one. */
  #epoch = '';

  /** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
  constructor(options: RedisBusOptions) {
    this.#options = resolveRedisOptions(options);
    const { client, publishBuffer, linger, commandTimeout } = this.#options;
    this.#link = redisLink(client);
    this.#store = new RedisStore(this.#link, this.#options);
    this.#channelPrefix = `${this.#store.channelRoot}:c:`;
    this.#barrierChannel = `${this.#store.channelRoot}:b:${this.#node}`;
    const error = (error: unknown) => this.#receiver?.error(error);
    this.#sequencer = new Sequencer({
      deliver: (event) => this.#receiver?.deliver(event),
      lost: (loss) => this.#lost(loss),
      recover: (request) => this.#watch.recover(request),
      // A recovery that failed is tried again.
      error: (problem) => {
        if (!this.#watch.hasTold(problem)) error(problem);
      },
      live: () => this.#interest.notify(),
    });
    this.#history = new RedisHistory(this.#store, this.#options, {
      error,
      lost: (loss) => this.#lost(loss),
    });
    this.#publisher = new RedisPublisher(
      {
        store: (number, batch) => this.#store.publish(this.#node, number, batch),
        failed: (error) => this.#ail(error),
      },
      publishBuffer,
    );
    this.#heads = new NextBatch(() => this.#look());
    const isUp = () => this.#healer.reason === undefined;
    this.#interest = new RedisInterest(
      {
        sequencer: this.#sequencer,
        get isUp() {
          return isUp();
        },
        channelOf: (key) => this.#channelPrefix + key,
        head: () => this.#heads.get(),
        failed: (reason) => this.#disconnected(reason),
        // What comes of it is told as the state of the bus.
        doubt: () => void this.#sequencer.recover().catch(() => {}),
        error,
      },
      linger,
      commandTimeout,
    );
    this.#healer = new RedisHealer({ heal: () => this.#heal(), changed: () => this.#changed() });
    this.#watch = new RedisWatch(
      {
        store: this.#store,
        history: this.#history,
        sequencer: this.#sequencer,
        barrierChannel: this.#barrierChannel,
        get isUp() {
          return isUp();
        },
        failed: (error) => this.#ail(error),
        stuck: (reason) => this.#healer.ail(reason),
        deaf: (reason) => this.#disconnected(reason),
      },
      this.#options,
    );
  }

  /**
   * Connects. Rejects with `SSE_ERR_BUS_UNAVAILABLE` where Redis cannot be reached, and may be called again then; with
   * `SSE_ERR_INVALID_OPTION` where `shardedPubSub` contradicts how the namespace is published already.
   */
  start(receiver: BusReceiver): Promise<void> {
    if (this.#closing !== undefined) return Promise.reject(failureOf('the bus is closed'));
    if (this.#receiver !== undefined && this.#receiver !== receiver) {
      const message = 'this RedisBus has a broker already; give each broker one of its own';
      return Promise.reject(new SseError('SSE_ERR_INVALID_OPTION', message));
    }
    this.#receiver = receiver;
    this.#starting ??= this.#start().catch((error: unknown) => {
      this.#starting = undefined;
      // Who tries again may come as another object.
      this.#receiver = undefined;
      throw error instanceof SseError ? error : failureOf('the connection for listening', error);
    });
    return this.#starting;
  }

  /** Resolves when the event is ordered and stored; rejects with `SSE_ERR_BUS_UNAVAILABLE`: then it may be stored, or not. */
  publish(event: OutgoingEvent): Promise<string> {
    return this.#publisher.publish(event);
  }

  join(key: string): Promise<void> {
    return this.#interest.join(key);
  }

  leave(key: string): void {
    this.#interest.leave(key);
  }

  head(): Promise<Head> {
    return this.#told(
      async () => {
        const look = await this.#heads.get();
        return headOf(look, look.epoch);
      },
      ({ epoch }) => epoch,
    );
  }

  read(request: ReadRequest): Promise<ReadResult> {
    return this.#told(
      () => this.#read(request),
      ({ head }) => head.epoch,
    );
  }

  status(): BusStatus {
    const details = {
      joinedKeys: this.#sequencer.size,
      subscribedKeys: this.#interest.size,
      unansweredPublishes: this.#publisher.size,
      heldEvents: this.#sequencer.held,
      reconnects: this.#reconnects,
      recoveries: this.#watch.recoveries,
    };
    const reason = this.#reason;
    return reason === undefined ? { state: 'up', details } : { state: 'down', reason, details };
  }

  /** Waits for what is being published, then closes its own connection; yours stays open. Safe to call twice. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  get #reason(): string | undefined {
    if (this.#closing !== undefined) return 'closed';
    return this.#isStarted ? this.#healer.reason : 'not started';
  }

  async #start(): Promise<void> {
    await this.#whenClientReady();
    const look = await this.#store.look();
    const { shardedPubSub } = this.#options;
    if (shardedPubSub !== 'auto' && shardedPubSub !== (look.mode === 's')) {
      const found = look.mode === 's' ? 'sharded' : 'plain';
      throw new SseError(
        'SSE_ERR_INVALID_OPTION',
        `shardedPubSub is ${shardedPubSub}, but the namespace is published with ${found} Pub/Sub already; use another`,
      );
    }
    await this.#connect(look.mode);
    if (this.#closing !== undefined) throw failureOf('the bus is closed');
    this.#epoch = look.epoch;
    this.#sequencer.begin(look.run, headOf(look, look.epoch));
    this.#isStarted = true;
    this.#publisher.resume();
    this.#stopListening = this.#link.onReady(() => this.#healer.hurry());
    this.#watch.start();
    this.#changed();
  }

  /** An application starts its client and its broker side by side. */
  async #whenClientReady(): Promise<void> {
    let problem = this.#link.problem();
    if (problem === undefined) return;
    let undo: (() => void) | undefined;
    const ready = new Promise<void>((resolve) => {
      undo = this.#link.onReady(resolve);
    });
    const deadline = performance.now() + this.#options.commandTimeout;
    await withDeadline(ready, deadline, problem).catch(() => {});
    undo?.();
    problem = this.#link.problem();
    if (problem !== undefined) throw failureOf(problem);
  }

  /** One try to be as if nothing had happened: commands, then the connection that listens, then what was missed. */
  async #heal(): Promise<void> {
    const look = await this.#store.look();
    this.#publisher.resume();
    if (this.#connection !== undefined && this.#connection.mode !== look.mode) this.#disconnect();
    if (this.#connection === undefined) {
      this.#reconnects++;
      await this.#connect(look.mode);
    }
    if (!this.#sequencer.isLive) await this.#sequencer.recover();
    this.#interest.notify();
  }

  async #connect(mode: PublishMode): Promise<void> {
    const { commandTimeout } = this.#options;
    const deadline = performance.now() + commandTimeout;
    let isOver = false;
    const opening = this.#link.open(this.#store.channelRoot, mode === 's', {
      message: (channel, text) => this.#arrived(channel, text),
      closed: (reason) => {
        isOver = true;
        if (this.#connection?.subscriber === subscriber) this.#disconnected(reason);
      },
    });
    let subscriber: Subscriber;
    try {
      subscriber = await withDeadline(opening, deadline, 'Redis did not accept a connection');
    } catch (error) {
      // Too late is not never.
      opening.then((late) => late.close()).catch(() => {});
      throw error;
    }
    this.#connection = { subscriber, mode };
    try {
      const barrier = subscriber.subscribe([this.#barrierChannel]);
      await withDeadline(barrier, deadline, 'Redis did not confirm a subscription');
      await this.#interest.attach(subscriber);
      if (isOver || this.#closing !== undefined) throw failureOf('the connection was closed');
    } catch (error) {
      this.#disconnect();
      throw error;
    }
  }

  #disconnect(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#sequencer.suspend();
    this.#interest.detach();
    connection?.subscriber.close();
  }

  #disconnected(reason: string): void {
    this.#disconnect();
    if (this.#isStarted) this.#healer.ail(`the connection for listening: ${reason}`);
  }

  #ail(error: unknown): void {
    const failure = error instanceof SseError ? error : failureOf('Redis', error);
    if (!this.#isStarted || isLasting(failure)) return;
    this.#publisher.stop(failure);
    this.#healer.ail(failure.message);
  }

  #changed(): void {
    this.#receiver?.status(this.status());
    this.#interest.notify();
  }

  async #look(): Promise<Look> {
    try {
      return await this.#store.look();
    } catch (error) {
      this.#ail(error);
      throw error;
    }
  }

  #lost(loss: Loss): void {
    if (loss.reason === 'epoch') this.#epoch = loss.head?.epoch ?? '';
    this.#receiver?.lost(loss);
  }

  async #read(request: ReadRequest): Promise<ReadResult> {
    try {
      const page = await this.#history.read(request);
      if (page !== undefined) return page;
    } catch (error) {
      this.#ail(error);
      throw error;
    }
    const look = await this.#heads.get();
    const head = headOf(look, look.epoch);
    return { events: [], more: false, head, loss: 'epoch', completeAfter: head.id };
  }

  /** An answer out of a history of which the broker does not know waits until that is told; then it is asked for again. */
  async #told<Answer>(ask: () => Promise<Answer>, epochOf: (answer: Answer) => string | undefined): Promise<Answer> {
    const deadline = performance.now() + this.#options.commandTimeout;
    for (;;) {
      const answer = await ask();
      if (epochOf(answer) === this.#epoch) return answer;
      if (performance.now() > deadline) throw failureOf('Redis loses its history again and again');
      this.#interest.doubt();
      await this.#interest.whenReady(deadline);
    }
  }

  #arrived(channel: string, text: string): void {
    if (!channel.startsWith(this.#channelPrefix)) {
      this.#watch.arrived(text);
      return;
    }
    // run, sequence, previous, event
    const first = text.indexOf(' ');
    const second = text.indexOf(' ', first + 1);
    const third = text.indexOf(' ', second + 1);
    const run = text.slice(0, first);
    const sequence = Number(text.slice(first + 1, second));
    const before = text.slice(second + 1, third);
    const key = channel.slice(this.#channelPrefix.length);
    const place = { key, sequence, id: `${run}-${sequence}` };
    const error = (problem: SseError) => this.#receiver?.error(problem);
    const event = decodeEvent(text.slice(third + 1), place, error);
    if (event === undefined) return;
    const previous = before === '-' ? undefined : Number(before);
    // Taken for what is complete, a place beyond this event would hide all that follows.
    if (previous !== undefined && !(Number.isSafeInteger(previous) && previous >= 0 && previous < sequence)) {
      const message = `an event of another node was dropped: the one before it is ${shown(before)}`;
      error(new SseError('SSE_ERR_INVALID_BUS_EVENT', message));
      return;
    }
    this.#sequencer.accept(event, previous, run);
  }

  async #close(): Promise<void> {
    // A start that is on its way would open a connection after this.
    await this.#starting?.catch(() => {});
    await this.#publisher.close(this.#options.commandTimeout, failureOf('the bus is closed'));
    this.#receiver = undefined;
    this.#watch.close();
    this.#healer.close();
    this.#stopListening?.();
    this.#interest.close();
    this.#disconnect();
  }
}

function randomName(): string {
  return Math.random().toString(36).slice(2, 12).padEnd(10, '0');
}
