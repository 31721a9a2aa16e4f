/**
 * The object an application holds: it connects clients, publishes events and gives an account of both.
 *
 * There is one way from an event to its clients: publish → bus → dispatch → fan-out. What is published here comes back
 * from the bus like everything else, so order is the same on every node and nothing has to be told apart.
 */

import { checkAdmission, checkTopics } from './admission.js';
import type { Bus, BusReceiver, Head, LossReason } from './bus.js';
import { Client, type ClientHost, type DisconnectReason } from './client.js';
import {
  type BrokerEventName,
  type BrokerListener,
  type ClientInfo,
  Diagnostics,
  type ErrorOrigin,
  isThenable,
} from './diagnostics.js';
import { type ErrorCode, SseError, shown } from './errors.js';
import type { BusEvent, EventMap, PublishOptions } from './event.js';
import { Fanout } from './fanout.js';
import { type EventText, frameOf } from './frame.js';
import { type Gap, gapFrame } from './gap.js';
import { Heartbeat } from './heartbeat.js';
import { ANONYMOUS, type Identity } from './identity.js';
import { Membership } from './membership.js';
import { MemoryBus } from './memory-bus.js';
import { type BrokerOptions, type ResolvedOptions, resolveOptions } from './options.js';
import { Publishing, type PublishingHost } from './publishing.js';
import { Registry } from './registry.js';
import { Replay, type ReplayHost } from './replay.js';
import { type AudienceKind, Sender } from './sender.js';
import {
  type CloseOptions,
  type CloseResult,
  endStreams,
  type ResolvedCloseOptions,
  resolveCloseOptions,
} from './shutdown.js';
import type { Sink } from './sink.js';
import { type BrokerStats, Counters } from './stats.js';
import { type Presence, TenantBroker } from './tenant.js';
import { audienceOf, checkClientId, checkTenantId, checkTopic, checkUserId, nameProblem, userKey } from './topic.js';

/** What {@link Broker.connect} is given. */
export interface ConnectRequest {
  /** Where the bytes go; ready to be written to. */
  readonly sink: Sink;
  /** Default: anonymous. */
  readonly identity?: Identity | undefined;
  readonly topics?: readonly string[] | undefined;
  /** The client's Last-Event-ID, as it came. Anything that is not an id of the bus is told as a gap. */
  readonly lastEventId?: string | undefined;
}

const IDLE = 0;
const RUNNING = 1;
const CLOSING = 2;
const CLOSED = 3;

/**
 * Pushes events to users, topics or everybody. `Events` maps event names to their data and types every send method.
 *
 * @example
 * const broker = new Broker<{ 'job.progress': { jobId: string; progress: number } }>();
 * await broker.sendToUser('alice', 'job.progress', { jobId: '7', progress: 0.5 });
 */
export class Broker<Events extends EventMap = Record<string, unknown>> extends Sender<Events> implements Presence {
  readonly #options: ResolvedOptions;
  readonly #bus: Bus;
  readonly #registry = new Registry();
  readonly #fanout: Fanout;
  readonly #membership: Membership;
  readonly #publishing: Publishing;
  readonly #presence: Presence;
  readonly #heartbeat: Heartbeat;
  readonly #diagnostics: Diagnostics;
  readonly #counters = new Counters();
  readonly #ending = new Set<Client>();
  /** Clients whose keys the bus has not joined yet, by id, with the promise that it will have. */
  readonly #arriving = new Map<string, Promise<void>>();
  readonly #clientHost: ClientHost;
  readonly #replayHost: ReplayHost;
  #state = IDLE;
  #started: void | Promise<void> = undefined;
  #closing: Promise<CloseResult> | undefined = undefined;
  #whenEmpty: (() => void) | undefined = undefined;

  /** @throws {SseError} `SSE_ERR_INVALID_OPTION`, naming the option, the value and what is allowed. */
  constructor(options: BrokerOptions = {}) {
    super();
    this.#options = resolveOptions(options);
    const { clock, historySize, historyBytes, historyTtl, logger } = this.#options;
    this.#bus = this.#options.bus ?? new MemoryBus({ historySize, historyBytes, historyTtl, clock });
    this.#diagnostics = new Diagnostics(logger);
    this.#fanout = new Fanout(() => clock.now(), this.#options.flush === 'adaptive' ? this.#options.maxFlushDelay : 0);
    this.#membership = new Membership(this.#registry, this.#bus, this.#fanout);
    this.#presence = this.#membership.presence();
    this.#heartbeat = new Heartbeat(this.#options);
    this.#publishing = new Publishing(this.#makePublishingHost());
    this.#clientHost = this.#makeClientHost();
    this.#replayHost = this.#makeReplayHost();
  }

  /** Connects the bus. Implied by the first connect or publish; calling it again gives the same promise. */
  start(): Promise<void> {
    if (this.#state >= CLOSING) {
      return this.#guarded('publish', () => {
        throw new SseError('SSE_ERR_BROKER_CLOSED', 'the broker is closed; make another');
      });
    }
    const started = Promise.resolve(this.#start());
    // It has been reported; a caller who does not await must not lose the process.
    started.catch(() => {});
    return started;
  }

  /** Calls `listener` on each event of that name; see {@link BrokerEvents}. A listener that throws fails alone. */
  on<Name extends BrokerEventName>(name: Name, listener: BrokerListener<Name>): this {
    this.#diagnostics.on(name, listener as (...args: unknown[]) => unknown);
    return this;
  }

  /** Like {@link on}, for the next event only. */
  once<Name extends BrokerEventName>(name: Name, listener: BrokerListener<Name>): this {
    this.#diagnostics.once(name, listener as (...args: unknown[]) => unknown);
    return this;
  }

  /** Undoes {@link on} and {@link once}. */
  off<Name extends BrokerEventName>(name: Name, listener: BrokerListener<Name>): this {
    this.#diagnostics.off(name, listener as (...args: unknown[]) => unknown);
    return this;
  }

  /** The same send methods and questions, inside one tenant. */
  tenant(tenantId: string): TenantBroker<Events> {
    checkTenantId(tenantId);
    return new TenantBroker<Events>(
      tenantId,
      (kind, name, event, data, options) => this.#publishing.publish(kind, name, event, data, options, tenantId),
      this.#membership.presence(tenantId),
    );
  }

  /**
   * Whether a client may connect now: what a handler asks before it answers.
   *
   * @throws {SseError} `SSE_ERR_BROKER_CLOSED`, `SSE_ERR_TOO_MANY_CONNECTIONS`, `SSE_ERR_TOO_MANY_USER_CONNECTIONS`,
   * `SSE_ERR_TOPICS_DISABLED`, `SSE_ERR_TOO_MANY_TOPICS`, `SSE_ERR_INVALID_TOPIC`, `SSE_ERR_INVALID_USER`,
   * `SSE_ERR_INVALID_TENANT`, `SSE_ERR_UNAUTHENTICATED` (the identity has expired).
   */
  admit(identity: Identity, topics: readonly string[] = []): void {
    if (this.#state >= CLOSING) throw new SseError('SSE_ERR_BROKER_CLOSED', 'the broker is closing; connect elsewhere');
    checkAdmission(this.#options, this.#registry, identity, topics);
  }

  /**
   * Registers a stream and returns its client id. The handlers call this; call it yourself with a {@link Sink} of your
   * own. History after `lastEventId` goes out first, then live events, in order.
   *
   * @throws {SseError} as {@link admit}, and what the sink's `open` throws.
   */
  connect({ sink, identity = ANONYMOUS, topics = [], lastEventId }: ConnectRequest): string {
    this.admit(identity, topics);
    const client = new Client(this.#clientHost, sink, this.#newClientId(), identity);
    client.deadline = this.#deadlineOf(client, identity);
    client.open();
    this.#counters.connects++;
    // A carrier that was gone before it began: it is in no map yet, and must not come into one.
    if (client.isOver) return client.id;
    const started = this.#start();
    this.#registry.clients.set(client.id, client);
    this.#heartbeat.add(client);
    const { whenJoined } = this.#membership.enter(client, identity, topics);
    const replay = new Replay(client, this.#replayHost, lastEventId);
    client.holder = replay;
    if (whenJoined === undefined && !isThenable(started)) {
      replay.start();
    } else {
      const arriving = Promise.all([started, whenJoined]).then(() => {});
      this.#arriving.set(client.id, arriving);
      arriving.then(
        () => {
          this.#arriving.delete(client.id);
          if (!client.isOver) replay.start();
        },
        (error: unknown) => {
          this.#arriving.delete(client.id);
          this.#failClient(client, error, 'bus');
        },
      );
    }
    // One that failed at once was never there, for listeners; the error is told.
    if (client.isOver) return client.id;
    client.isAnnounced = true;
    if (this.#diagnostics.listenerCount('clientConnected') > 0) {
      this.#diagnostics.emit('clientConnected', this.#infoOf(client));
    }
    return client.id;
  }

  /**
   * Gives a client one more topic. Resolves to true where it was new. No `authorizeTopic` is asked: this is the
   * application's own word. Rejects with `SSE_ERR_UNKNOWN_CLIENT`, `SSE_ERR_INVALID_TOPIC`, `SSE_ERR_TOPICS_DISABLED`,
   * `SSE_ERR_TOO_MANY_TOPICS`.
   */
  subscribe(clientId: string, topic: string): Promise<boolean> {
    return this.#guarded('publish', () => {
      const client = this.#clientOf(clientId);
      checkTopics(this.#options, [...this.#membership.topicsOf(client).filter((one) => one !== topic), topic]);
      const joined = this.#membership.addTopic(client, topic);
      if (joined === undefined) return false;
      return joined.whenJoined === undefined ? true : this.#subscribed(client, topic, joined.whenJoined);
    });
  }

  /** Takes a topic from a client; resolves to true where it had it. Rejects with `SSE_ERR_UNKNOWN_CLIENT`. */
  unsubscribe(clientId: string, topic: string): Promise<boolean> {
    return this.#guarded('publish', () => {
      return this.#membership.removeTopic(this.#clientOf(clientId), checkTopic(topic));
    });
  }

  /**
   * Ends a stream. The client is told `reason` in the `closing` event; a browser's EventSource comes back unless the
   * authenticator refuses it. Resolves to false where there is no such client.
   */
  disconnect(clientId: string, reason?: string): Promise<boolean> {
    return this.#guarded('publish', () => {
      const client = this.#registry.clients.get(checkClientId(clientId));
      if (client === undefined) return false;
      this.#end(client, 'disconnected', reason);
      return true;
    });
  }

  /** Ends all streams of a user, in every tenant or in one; resolves to how many. */
  disconnectUser(userId: string, options: { tenantId?: string; reason?: string } = {}): Promise<number> {
    return this.#guarded('publish', () => {
      const { tenantId, reason } = options ?? {};
      const key = userKey(checkUserId(userId), tenantId === undefined ? undefined : checkTenantId(tenantId));
      const clients = this.#registry.channel(key)?.members() ?? [];
      for (const client of clients) this.#end(client, 'disconnected', reason);
      return clients.length;
    });
  }

  /** True where the user has a stream on this node, in any tenant. */
  isUserOnline(userId: string): boolean {
    return this.#presence.isUserOnline(userId);
  }

  /** Users with a stream on this node, of all tenants. */
  getOnlineUsers(): string[] {
    return this.#presence.getOnlineUsers();
  }

  /** Streams of a user on this node, in all tenants. */
  getUserConnectionCount(userId: string): number {
    return this.#presence.getUserConnectionCount(userId);
  }

  /** Topics that clients of this node have, in all tenants. */
  getActiveTopics(): string[] {
    return this.#presence.getActiveTopics();
  }

  /** Clients of this node that have a topic, in all tenants. */
  getTopicConnectionCount(topic: string): number {
    return this.#presence.getTopicConnectionCount(topic);
  }

  /** A client of this node; undefined where there is none of that id. */
  getClient(clientId: string): ClientInfo | undefined {
    const client = this.#registry.clients.get(clientId);
    return client === undefined ? undefined : this.#infoOf(client);
  }

  /** All clients of this node, one by one: there may be many. */
  *getClients(): Generator<ClientInfo, void, void> {
    for (const client of this.#registry.clients.values()) yield this.#infoOf(client);
  }

  /** Figures for operators; cheap at any size. */
  getStats(): BrokerStats {
    const { published, delivered, dropped, replayed, bytes, writes, gaps, connects, refused } = this.#counters;
    return {
      totalClients: this.#registry.clients.size,
      totalUsers: this.#registry.userCount,
      totalTopics: this.#registry.topicCount,
      isRunning: this.#state === RUNNING,
      bufferSize: this.#options.clientBufferSize,
      maxConnections: this.#options.maxConnections,
      published,
      delivered,
      dropped,
      replayed,
      bytes,
      writes,
      gaps,
      queuedFrames: this.#counters.queue.frames,
      queuedBytes: this.#counters.queue.bytes,
      connects,
      refused,
      disconnects: { ...this.#counters.disconnects },
      ending: this.#ending.size,
      errors: this.#diagnostics.errors,
      bus: { name: this.#bus.name, ...this.#bus.status() },
    };
  }

  /** The options in force, defaults included. */
  get options(): ResolvedOptions {
    return this.#options;
  }

  /**
   * Counts a refused request and tells `requestRefused`. For handlers.
   */
  refused(error: SseError): void {
    this.#counters.refused++;
    if (this.#diagnostics.listenerCount('requestRefused') > 0) {
      this.#diagnostics.emit('requestRefused', { code: error.code, status: error.status ?? 500 });
    }
  }

  /** Counts an error that nobody waits for and tells the `error` event. For handlers and sources. */
  reportError(error: unknown, origin: ErrorOrigin, code?: ErrorCode): void {
    this.#diagnostics.report(error, origin, code);
  }

  /**
   * Stops accepting, flushes, tells every client when to come back, ends all streams, and closes the bus; after
   * `timeoutMs` what has not ended is cut. Calling it again gives the same promise.
   */
  close(options: CloseOptions = {}): Promise<CloseResult> {
    return this.#guarded('publish', () => {
      this.#closing ??= this.#close(resolveCloseOptions(options));
      return this.#closing;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  protected override publishTo(
    kind: AudienceKind,
    name: string,
    event: string,
    data: unknown,
    options: PublishOptions | undefined,
  ): Promise<string> {
    return this.#publishing.publish(kind, name, event, data, options, undefined);
  }

  /** The one place where events come in. */
  #dispatch(event: BusEvent): void {
    if (event.key.startsWith('c:')) {
      const client = this.#registry.clients.get(event.key.slice(3));
      if (client !== undefined) this.#fanout.dispatchTo(client, frameOf(event));
      return;
    }
    const channel = this.#registry.channel(event.key);
    if (channel !== undefined) this.#fanout.dispatch(channel, frameOf(event));
  }

  #start(): void | Promise<void> {
    if (this.#state !== IDLE) return this.#started;
    this.#state = RUNNING;
    const receiver: BusReceiver = {
      deliver: (event) => this.#dispatch(event),
      lost: ({ reason, keys }) => this.#lost(reason, keys),
      status: (status) => this.#diagnostics.emit('busStatus', status),
      error: (error) => this.#diagnostics.report(error, 'bus'),
    };
    let started: void | Promise<void>;
    try {
      started = this.#bus.start(receiver);
    } catch (error) {
      started = Promise.reject(error);
    }
    if (isThenable(started)) {
      this.#started = started;
      started.then(
        () => {
          this.#started = undefined;
        },
        (error: unknown) => {
          // The next call tries again.
          this.#state = this.#state === RUNNING ? IDLE : this.#state;
          this.#started = undefined;
          this.#diagnostics.report(error, 'bus', 'SSE_ERR_BUS_UNAVAILABLE');
        },
      );
    }
    return this.#started;
  }

  #lost(reason: LossReason, keys: readonly string[] | undefined): void {
    const clients = this.#membership.membersOf(keys);
    this.#fanout.settle();
    const head = this.#bus.head();
    if (isThenable(head)) {
      // A bus that has just noticed a loss knows its head; one that must ask first cannot place the gap.
      throw new SseError('SSE_ERR_INTERNAL', `bus ${this.#bus.name} reported a loss while its head is unknown`);
    }
    const gap: Gap = { reason, requested: null, resumedFrom: (head as Head).id };
    const frame = gapFrame(gap, gap.resumedFrom);
    for (const client of clients) {
      this.#fanout.dispatchTo(client, frame);
      this.#gapTold(client, gap);
    }
  }

  #gapTold(client: Client, gap: Gap): void {
    this.#counters.gaps++;
    if (this.#diagnostics.listenerCount('gapTold') > 0) this.#diagnostics.emit('gapTold', this.#infoOf(client), gap);
  }

  #end(client: Client, reason: DisconnectReason, message?: string, reconnectIn?: number): void {
    // What was published before goes out before the end.
    this.#fanout.settle();
    client.flush(this.#options.clock.now());
    client.end(reason, message, reconnectIn);
  }

  #failClient(client: Client, error: unknown, origin: ErrorOrigin): void {
    this.#diagnostics.report(error, origin, 'SSE_ERR_BUS_UNAVAILABLE');
    client.fail('failed', error instanceof Error ? error : undefined);
  }

  #unregister(client: Client, reason: DisconnectReason, message: string | undefined, cause: Error | undefined): void {
    const isTold = client.isAnnounced && this.#diagnostics.listenerCount('clientDisconnected') > 0;
    const info = isTold ? this.#infoOf(client) : undefined;
    this.#registry.clients.delete(client.id);
    this.#membership.leaveAll(client);
    this.#ending.add(client);
    this.#counters.disconnects[reason]++;
    if (cause !== undefined) this.#diagnostics.report(cause, 'stream', 'SSE_ERR_STREAM_FAILED');
    if (info !== undefined) this.#diagnostics.emit('clientDisconnected', info, reason, message);
  }

  async #close({ timeoutMs, reconnectWithinMs }: ResolvedCloseOptions): Promise<CloseResult> {
    const wasStarted = this.#state === RUNNING;
    const deadline = this.#options.clock.monotonic() + timeoutMs;
    this.#state = CLOSING;
    this.#fanout.flushAll();
    const result = await endStreams(
      {
        clients: this.#registry.clients,
        ending: this.#ending,
        onceEmpty: (callback) => {
          this.#whenEmpty = callback;
        },
        end: (client, reconnectIn) => this.#end(client, 'shutdown', undefined, reconnectIn),
      },
      this.#options.clock,
      timeoutMs,
      reconnectWithinMs,
    );
    this.#heartbeat.close();
    if (wasStarted) await this.#closeBus(Math.max(1_000, deadline - this.#options.clock.monotonic()));
    this.#state = CLOSED;
    return result;
  }

  /** A bus that cannot close, or takes for ever, does not keep the process: the streams are ended. */
  async #closeBus(timeoutMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`bus ${this.#bus.name} did not close within ${timeoutMs} ms`)),
        timeoutMs,
      );
    });
    try {
      await Promise.race([this.#bus.close(), timeout]);
    } catch (error) {
      this.#diagnostics.report(error, 'bus', 'SSE_ERR_BUS_UNAVAILABLE');
    } finally {
      clearTimeout(timer);
    }
  }

  /** A topic that the bus could not join would be a silent one: it is taken away again. */
  async #subscribed(client: Client, topic: string, whenJoined: Promise<unknown>): Promise<boolean> {
    try {
      await whenJoined;
      return true;
    } catch (error) {
      this.#membership.removeTopic(client, topic);
      throw error;
    }
  }

  /** A second client of the same id would put the first one out of every map but its own stream. */
  #newClientId(): string {
    const id = this.#options.createId();
    const problem = nameProblem(id) ?? (this.#registry.clients.has(id) ? 'must be new at every call' : undefined);
    if (problem === undefined) return id;
    throw new SseError('SSE_ERR_INVALID_OPTION', `what createId returns ${problem}; got ${shown(id)}`);
  }

  #deadlineOf(client: Client, { expiresAt }: Identity): number {
    const { maxConnectionAge } = this.#options;
    // A deploy makes many streams at once: they must not all grow old at once.
    const oldAt = maxConnectionAge > 0 ? client.connectedAt + maxConnectionAge * (0.9 + Math.random() * 0.1) : 0;
    if (expiresAt === undefined || expiresAt === 0 || (oldAt > 0 && oldAt < expiresAt)) {
      client.deadlineReason = 'max-age';
      return oldAt;
    }
    return expiresAt;
  }

  #clientOf(clientId: string): Client {
    const client = this.#registry.clients.get(checkClientId(clientId));
    if (client === undefined) throw unknownClient(clientId);
    return client;
  }

  #infoOf(client: Client): ClientInfo {
    const { id, identity, connectedAt, queuedFrames, queuedBytes } = client;
    const { userId, tenantId, sessionId } = identity;
    const topics = this.#membership.topicsOf(client);
    return { id, userId, tenantId, sessionId, identity, topics, connectedAt, queuedFrames, queuedBytes };
  }

  #guarded<T>(origin: ErrorOrigin, action: () => T | Promise<T>): Promise<T> {
    let result: Promise<T>;
    try {
      result = Promise.resolve(action());
    } catch (error) {
      result = Promise.reject(error);
    }
    result.catch((error: unknown) => this.#diagnostics.report(error, origin));
    return result;
  }

  #makePublishingHost(): PublishingHost {
    const isClosed = () => this.#state >= CLOSING;
    return {
      bus: this.#bus,
      options: this.#options,
      get isClosed() {
        return isClosed();
      },
      start: () => this.#start(),
      startFor: (clientId) => this.#arriving.get(clientId) ?? this.#start(),
      checkClient: (clientId, tenantId) => {
        const client = this.#clientOf(clientId);
        if (tenantId !== undefined && client.identity.tenantId !== tenantId) throw unknownClient(clientId);
      },
      published: (id, { event, data, timestamp, key }) => {
        this.#counters.published++;
        if (this.#diagnostics.listenerCount('eventPublished') === 0) return;
        this.#diagnostics.emit('eventPublished', { id, event, data, timestamp, audience: audienceOf(key) });
      },
      failed: (error) => this.#diagnostics.report(error, 'publish', 'SSE_ERR_BUS_UNAVAILABLE'),
    };
  }

  #makeClientHost(): ClientHost {
    const counters = this.#counters;
    const heartbeat = this.#heartbeat;
    const { clock } = this.#options;
    return {
      options: this.#options,
      queueTotals: counters.queue,
      get tick() {
        return heartbeat.tick;
      },
      now: () => clock.now(),
      ready: (client) => this.#fanout.ready(client),
      wrote: (events, bytes) => {
        counters.delivered += events;
        counters.bytes += bytes;
        counters.writes++;
      },
      dropped: (events) => {
        counters.dropped += events;
      },
      overflowed: (client, limit) => {
        const { overflow: policy } = this.#options;
        this.#diagnostics.warn('client overflowed', { clientId: client.id, policy, limit });
        if (this.#diagnostics.listenerCount('clientOverflowed') > 0) {
          this.#diagnostics.emit('clientOverflowed', this.#infoOf(client), { policy, limit });
        }
      },
      gapTold: (client, gap) => this.#gapTold(client, gap),
      ended: (client, reason, message, cause) => this.#unregister(client, reason, message, cause),
      closed: (client) => {
        this.#heartbeat.delete(client);
        this.#ending.delete(client);
        if (this.#ending.size === 0 && this.#registry.clients.size === 0) this.#whenEmpty?.();
      },
    };
  }

  #makeReplayHost(): ReplayHost {
    return {
      bus: this.#bus,
      maxReplayEvents: this.#options.maxReplayEvents,
      now: this.#clientHost.now,
      settle: () => this.#fanout.settle(),
      firstFrame: (client, id) => this.#firstFrame(client, id),
      gapTold: (client, gap) => this.#gapTold(client, gap),
      replayed: (events) => {
        this.#counters.replayed += events;
      },
      failed: (client, error) => this.#failClient(client, error, 'replay'),
    };
  }

  #firstFrame(client: Client, id: string | undefined): EventText {
    const { retry: middle, connectedEvent, heartbeatInterval } = this.#options;
    const retry = middle === 0 ? undefined : Math.round(middle * (0.75 + Math.random() * 0.5));
    if (!connectedEvent) return { id, retry };
    const { userId = null, tenantId = null } = client.identity;
    const data = JSON.stringify({
      clientId: client.id,
      userId,
      tenantId,
      topics: this.#membership.topicsOf(client),
      serverTime: this.#options.clock.now(),
      heartbeatInterval,
      retry: retry ?? 0,
    });
    return { id, retry, event: 'connected', data };
  }
}

function unknownClient(clientId: string): SseError {
  return new SseError('SSE_ERR_UNKNOWN_CLIENT', `no client ${shown(clientId)}: it has gone, or never was here`);
}
