/**
 * The object an application holds: it connects clients, publishes events and gives an account of both.
 *
 * There is one way from an event to its clients: publish → bus → dispatch → fan-out. What is published here comes back
 * from the bus like everything else, so order is the same on every node and nothing has to be told apart.
 */

import { v4 as uuid } from 'uuid';
import { checkAdmission } from './admission.js';
import type { Bus, Head, Loss } from './bus.js';
import { BusLife } from './bus-life.js';
import { CheckedBus } from './checked-bus.js';
import type { Client, ClientHost, DisconnectReason } from './client.js';
import { ClientCommands } from './client-commands.js';
import { Cluster } from './cluster.js';
import { Connecting, type ConnectRequest } from './connecting.js';
import {
  type BrokerEventName,
  type BrokerListener,
  type ClientInfo,
  Diagnostics,
  type ErrorOrigin,
} from './diagnostics.js';
import { type ErrorCode, SseError } from './errors.js';
import type { BusEvent, EventMap, PublishOptions } from './event.js';
import { Fanout } from './fanout.js';
import { type Gap, LossFrame } from './gap.js';
import { Heartbeat } from './heartbeat.js';
import { ANONYMOUS, type Identity } from './identity.js';
import type { MailboxHost, MailboxProvider } from './mailbox.js';
import { Mailboxes } from './mailboxes.js';
import { Membership } from './membership.js';
import { MemoryBus } from './memory-bus.js';
import { checkOptionNames } from './option-names.js';
import { type BrokerOptions, type ResolvedOptions, resolveOptions } from './options.js';
import { type ClusterPresence, presenceOf } from './presence.js';
import { PresenceTracker } from './presence-tracker.js';
import { Publishing, type PublishingHost } from './publishing.js';
import { Registry } from './registry.js';
import { type AudienceKind, Sender } from './sender.js';
import {
  type CloseOptions,
  type CloseResult,
  endStreams,
  type ResolvedCloseOptions,
  resolveCloseOptions,
} from './shutdown.js';
import { type BrokerStats, type ClusterStats, Counters, clusterStatsOf } from './stats.js';
import { type Presence, TenantBroker } from './tenant.js';
import { audienceOf, checkTenantId, clientKey, nodeKey, userKey } from './topic.js';

/** What the keys of single clients, and of nodes, start with. */
const ONE_CLIENT = clientKey('').charCodeAt(0);
const NODE = nodeKey('').charCodeAt(0);
const CLIENT_NAME_AT = clientKey('').length;

const OPEN = 0;
const CLOSING = 1;
const CLOSED = 2;

/**
 * Pushes events to users, topics or everybody. `Events` maps event names to their data and types every send method.
 *
 * @example
 * const broker = new Broker<{ 'job.progress': { jobId: string; progress: number } }>();
 * await broker.sendToUser('alice', 'job.progress', { jobId: '7', progress: 0.5 });
 */
export class Broker<Events extends EventMap = Record<string, unknown>> extends Sender<Events> implements Presence {
  /** This broker among those that share a bus: another at every start, drawn at random. */
  readonly nodeId: string = uuid();
  readonly #options: ResolvedOptions;
  readonly #bus: Bus;
  readonly #busLife: BusLife;
  /** The same, where it is not our own. */
  readonly #checkedBus: CheckedBus | undefined;
  readonly #registry = new Registry();
  readonly #fanout: Fanout;
  readonly #membership: Membership;
  readonly #publishing: Publishing;
  readonly #presence: Presence;
  readonly #commands: ClientCommands;
  readonly #mailboxes: Mailboxes;
  /** Present where there may be other nodes, and where somebody has asked for presence. */
  #tracker: PresenceTracker | undefined = undefined;
  readonly #cluster: Cluster | undefined;
  readonly #heartbeat: Heartbeat;
  readonly #diagnostics: Diagnostics;
  readonly #counters = new Counters();
  readonly #ending = new Set<Client>();
  readonly #connecting: Connecting;
  #state = OPEN;
  #closing: Promise<CloseResult> | undefined = undefined;
  #whenEmpty: (() => void) | undefined = undefined;

  /** @throws {SseError} `SSE_ERR_INVALID_OPTION`, naming the option, the value and what is allowed. */
  constructor(options: BrokerOptions = {}) {
    super();
    this.#options = resolveOptions(options);
    const { clock, historySize, historyBytes, historyTtl, logger } = this.#options;
    this.#checkedBus = this.#options.bus === undefined ? undefined : new CheckedBus(this.#options.bus);
    this.#bus = this.#checkedBus ?? new MemoryBus({ historySize, historyBytes, historyTtl, clock });
    this.#diagnostics = new Diagnostics(logger);
    this.#fanout = new Fanout(() => clock.now(), this.#options.flush === 'adaptive' ? this.#options.maxFlushDelay : 0);
    this.#membership = new Membership(this.#registry, this.#bus, this.#fanout);
    this.#presence = this.#membership.presence();
    this.#heartbeat = new Heartbeat(this.#options);
    this.#cluster = this.#bus.isShared === true && this.#options.cluster ? this.#makeCluster() : undefined;
    this.#busLife = this.#makeBusLife();
    this.#commands = this.#makeCommands();
    this.#publishing = new Publishing(this.#makePublishingHost());
    this.#mailboxes = this.#makeMailboxes();
    this.#connecting = this.#makeConnecting();
  }

  /**
   * Connects the bus. Implied by the first connect or publish; calling it again gives the same promise. Rejects with
   * `SSE_ERR_BROKER_CLOSED`, and where the bus cannot be started with `SSE_ERR_BUS_UNAVAILABLE` (retryable) or what it says itself.
   */
  start(): Promise<void> {
    if (this.#state >= CLOSING) {
      return this.#guarded('publish', () => {
        throw new SseError('SSE_ERR_BROKER_CLOSED', 'the broker is closed; make another');
      });
    }
    const started = Promise.resolve(this.#busLife.start());
    // It has been reported; a caller who does not await must not lose the process.
    started.catch(() => {});
    return started;
  }

  /** Calls `listener` on each event of that name; see {@link BrokerEvents}. A listener that throws fails alone. */
  on<Name extends BrokerEventName>(name: Name, listener: BrokerListener<Name>): this {
    this.#diagnostics.on(name, listener as (...args: unknown[]) => unknown);
    if (name === 'userJoined' || name === 'userLeft') this.#track();
    return this;
  }

  /** Like {@link on}, for the next event only. */
  once<Name extends BrokerEventName>(name: Name, listener: BrokerListener<Name>): this {
    this.#diagnostics.once(name, listener as (...args: unknown[]) => unknown);
    if (name === 'userJoined' || name === 'userLeft') this.#track();
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
      () => presenceOf(this.#track().directory, tenantId),
    );
  }

  /**
   * Whether a client may connect now: what a handler asks before it answers. Where the bus could not be started this tries
   * again, and refuses until that has come to something.
   *
   * @throws {SseError} `SSE_ERR_BROKER_CLOSED`, `SSE_ERR_BUS_UNAVAILABLE` (retryable), `SSE_ERR_TOO_MANY_CONNECTIONS`, `SSE_ERR_TOO_MANY_USER_CONNECTIONS`,
   * `SSE_ERR_TOPICS_DISABLED`, `SSE_ERR_TOO_MANY_TOPICS`, `SSE_ERR_INVALID_TOPIC`, `SSE_ERR_INVALID_USER`,
   * `SSE_ERR_INVALID_TENANT`, `SSE_ERR_UNAUTHENTICATED` (the identity has expired).
   */
  admit(identity: Identity, topics: readonly string[] = []): void {
    if (this.#state >= CLOSING) throw new SseError('SSE_ERR_BROKER_CLOSED', 'the broker is closing; connect elsewhere');
    if (this.#busLife.isMissing) this.#busLife.start();
    if (this.#busLife.isMissing) {
      throw new SseError('SSE_ERR_BUS_UNAVAILABLE', `bus ${this.#bus.name} could not be started yet; try again later`);
    }
    const directory = this.#options.connectionLimitScope === 'cluster' ? this.#tracker?.directory : undefined;
    checkAdmission(this.#options, this.#registry, identity, topics, directory);
  }

  /**
   * Registers a stream and returns its client id. The handlers call this; call it yourself with a {@link Sink} of your
   * own. History after `lastEventId` goes out first, then live events, in order.
   *
   * @throws {SseError} as {@link admit}, and what the sink's `open` throws.
   */
  connect(request: ConnectRequest): string {
    const { identity = ANONYMOUS, topics } = request;
    this.admit(identity, topics);
    return this.#connecting.connect(request);
  }

  /**
   * Gives a client, on whichever node, one more topic. Resolves to true where it was new. No `authorizeTopic` is asked: this
   * is the application's own word. Rejects with `SSE_ERR_UNKNOWN_CLIENT`, `SSE_ERR_INVALID_TOPIC`,
   * `SSE_ERR_TOPICS_DISABLED`, `SSE_ERR_TOO_MANY_TOPICS`, `SSE_ERR_BUS_UNAVAILABLE`, also where the bus cannot join it, and
   * for clients of other nodes `SSE_ERR_CLUSTER_TIMEOUT` (retryable both).
   */
  subscribe(clientId: string, topic: string): Promise<boolean> {
    return this.#guarded('publish', () => this.#commands.subscribe(clientId, topic));
  }

  /** Takes a topic from a client, on whichever node; resolves to true where it had it. Rejects as {@link subscribe}. */
  unsubscribe(clientId: string, topic: string): Promise<boolean> {
    return this.#guarded('publish', () => this.#commands.unsubscribe(clientId, topic));
  }

  /**
   * Ends a stream, on whichever node. The client is told `reason` in the `closing` event; a browser's EventSource comes back
   * unless the authenticator refuses it. Resolves to false where no node has such a client. For clients of other nodes it may
   * reject with `SSE_ERR_CLUSTER_TIMEOUT` and `SSE_ERR_BUS_UNAVAILABLE` (retryable both).
   */
  disconnect(clientId: string, reason?: string): Promise<boolean> {
    return this.#guarded('publish', () => this.#commands.disconnect(clientId, reason));
  }

  /**
   * Ends all streams of a user on all nodes, in every tenant or in one; resolves to how many. Rejects as {@link disconnect}
   * where another node did not answer; what could be ended is. Rejects with `SSE_ERR_INVALID_OPTION` for an option that is
   * none, and ends nobody then.
   */
  disconnectUser(userId: string, options: { tenantId?: string; reason?: string } = {}): Promise<number> {
    return this.#guarded('publish', () => {
      // A misspelt `tenantId` would end the streams of that user in every tenant.
      checkOptionNames('disconnectUser', options ?? {}, ['tenantId', 'reason']);
      const { tenantId, reason } = options ?? {};
      return this.#commands.disconnectUser(userId, tenantId, reason);
    });
  }

  /**
   * Who is online, on all nodes where the bus is one that nodes share. The first look begins the book-keeping where there
   * are no other nodes.
   */
  get presence(): ClusterPresence {
    return presenceOf(this.#track().directory, undefined);
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
      isRunning: this.#busLife.isRunning,
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
      bus: { name: this.#bus.name, ...this.#bus.status(), refused: this.#checkedBus?.refused ?? 0 },
    };
  }

  /**
   * Resolves when a stream that was just connected has its first frame, or is over: what is published from then on reaches
   * it. Undefined where that is so already, as with a bus of this process. For handlers.
   */
  whenStreaming(clientId: string): Promise<void> | undefined {
    return this.#connecting.whenStreaming(clientId);
  }

  /**
   * Figures of all nodes, per node and in all; those of other nodes are as old as what they last said, at most a third of
   * `nodeTimeout`. Cheap at any size.
   */
  getClusterStats(): ClusterStats {
    const { totalClients: clients, totalUsers: users, totalTopics: topics } = this.getStats();
    const self = { id: this.nodeId, name: this.#options.nodeName, isSelf: true, isSynced: true, silentFor: 0 };
    const nodes = this.#cluster?.nodes() ?? [{ ...self, clients, users, topics }];
    return clusterStatsOf(nodes, this.#cluster === undefined ? users : this.#track().directory.connectedUserCount);
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
   * Lets an inbox deliver what waits for the users of clients; returns its undo.
   *
   * @internal For `Inbox`.
   */
  attachMailboxes(make: (host: MailboxHost) => MailboxProvider): () => void {
    return this.#mailboxes.attach(make);
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
    const kind = event.key.charCodeAt(0);
    if (kind === ONE_CLIENT) {
      const client = this.#registry.clients.get(event.key.slice(CLIENT_NAME_AT));
      const frame = client && this.#mailboxes.frameOf(event);
      if (frame !== undefined) this.#fanout.dispatchTo(client!, frame);
      return;
    }
    if (kind === NODE) {
      this.#cluster?.receive(event);
      return;
    }
    const channel = this.#registry.channel(event.key);
    // A mailbox must see what is its own, also where nobody gets it.
    if (channel === undefined && event.tag === undefined) return;
    const frame = this.#mailboxes.frameOf(event);
    if (channel !== undefined && frame !== undefined) this.#fanout.dispatch(channel, frame);
  }

  #lost({ reason, keys, head }: Loss): void {
    const clients = this.#membership.membersOf(keys);
    this.#fanout.settle();
    const place = head ?? this.#busLife.headNow();
    // Without a head the cursor stays where it is: who comes back with it is told again, or gets what was missing.
    const gap: Gap = { reason, requested: null, resumedFrom: place?.id ?? null };
    const frame = new LossFrame(gap, place);
    for (const client of clients) {
      if (client.mailbox !== undefined) {
        // What it missed may wait in its mailbox: it comes back with the cursor of before, is told the gap, and gets it.
        this.#end(
          client,
          'failed',
          'the bus has lost events; come back for what is kept',
          Math.round(1_000 * Math.random()),
        );
        continue;
      }
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
    this.#handOver(client);
    client.end(reason, message, reconnectIn);
  }

  #handOver(client: Client): void {
    this.#fanout.settle();
    client.flush(this.#options.clock.now());
  }

  #unregister(client: Client, reason: DisconnectReason, message: string | undefined, cause: Error | undefined): void {
    const isTold = client.isAnnounced && this.#diagnostics.listenerCount('clientDisconnected') > 0;
    const info = isTold ? this.#infoOf(client) : undefined;
    this.#connecting.gone(client);
    client.mailbox?.close();
    this.#membership.leaveAll(client);
    if (!client.isClosed) this.#ending.add(client);
    this.#tracker?.gone(client);
    this.#counters.disconnects[reason]++;
    if (cause !== undefined) this.#diagnostics.report(cause, 'stream', 'SSE_ERR_STREAM_FAILED');
    if (info !== undefined) this.#diagnostics.emit('clientDisconnected', info, reason, message);
  }

  async #close({ timeoutMs, reconnectWithinMs }: ResolvedCloseOptions): Promise<CloseResult> {
    const wasStarted = this.#busLife.end();
    const deadline = this.#options.clock.monotonic() + timeoutMs;
    this.#state = CLOSING;
    // First of all: whoever asks who is online is told right, and the clients come back on the other nodes.
    const goodbye = this.#cluster?.close();
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
    this.#tracker?.close();
    if (wasStarted) await this.#busLife.close(goodbye, Math.max(1_000, deadline - this.#options.clock.monotonic()));
    this.#state = CLOSED;
    return result;
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

  /** Presence, from now on. */
  #track(): PresenceTracker {
    if (this.#tracker !== undefined) return this.#tracker;
    this.#tracker = new PresenceTracker({
      nodeId: this.nodeId,
      clock: this.#options.clock,
      options: this.#options,
      joined: (user) => this.#diagnostics.emit('userJoined', user),
      left: (user) => this.#diagnostics.emit('userLeft', user),
      changed: (connection, isAdded) => this.#cluster?.changed(connection, isAdded),
    });
    for (const client of this.#registry.clients.values()) this.#tracker.arrived(client, true);
    return this.#tracker;
  }

  #makeBusLife(): BusLife {
    const cluster = this.#cluster;
    return new BusLife({
      bus: this.#bus,
      receiver: {
        deliver: (event) => this.#dispatch(event),
        lost: (loss) => this.#lost(loss),
        status: (status) => {
          if (status.state === 'up') this.#mailboxes.interrupted();
          this.#diagnostics.emit('busStatus', status);
        },
        error: (error) => this.#diagnostics.report(error, 'bus'),
      },
      opened: cluster && (() => cluster.open()),
      failed: (error) => this.#diagnostics.report(error, 'bus', 'SSE_ERR_BUS_UNAVAILABLE'),
    });
  }

  #makeCluster(): Cluster {
    const registry = this.#registry;
    return new Cluster({
      nodeId: this.nodeId,
      bus: this.#bus,
      clock: this.#options.clock,
      options: this.#options,
      directory: this.#track().directory,
      figures: () => ({ clients: registry.clients.size, users: registry.userCount, topics: registry.topicCount }),
      run: (request) => this.#commands.run(request),
      joined: (node) => {
        this.#mailboxes.joined(node.id);
        this.#diagnostics.emit('nodeJoined', node);
      },
      left: (node, reason) => this.#diagnostics.emit('nodeLeft', node, reason),
      failed: (error) => this.#diagnostics.report(error, 'cluster', 'SSE_ERR_BUS_UNAVAILABLE'),
    });
  }

  #makeCommands(): ClientCommands {
    return new ClientCommands({
      options: this.#options,
      registry: this.#registry,
      membership: this.#membership,
      cluster: this.#cluster,
      start: () => this.#busLife.start(),
      askedMailboxes: (text) => this.#mailboxes.asked(text),
      arrivalOf: (clientId) => this.#connecting.whenJoined(clientId),
      end: (client, reason) => this.#end(client, 'disconnected', reason),
    });
  }

  #makeMailboxes(): Mailboxes {
    return new Mailboxes({
      nodeId: this.nodeId,
      clock: this.#options.clock,
      isShared: this.#bus.isShared === true,
      isNew: () => {
        const { bus } = this.#options;
        return (bus === undefined || bus instanceof MemoryBus) && (this.#bus.head() as Head).sequence === 0;
      },
      membership: this.#membership,
      clientOf: (clientId) => this.#registry.clients.get(clientId),
      settle: (client) => this.#handOver(client),
      prepare: (kind, name, event, data, options) =>
        this.#publishing.prepare(kind, name, event, data, options, undefined),
      publish: (event) => this.#publishing.publishPrepared(event),
      isOnline: (userId, tenantId) => this.#isOnline(userId, tenantId),
      askNodes: (text) => this.#commands.askMailboxes(text),
      echo: async () => (await this.#cluster?.echo()) ?? false,
      report: (error) => this.#diagnostics.report(error, 'inbox', 'SSE_ERR_INTERNAL'),
    });
  }

  #isOnline(userId: string, tenantId: string | undefined): boolean {
    if (this.#cluster !== undefined) return this.#track().directory.isOnline(userId, tenantId);
    return this.#registry.channel(userKey(userId, tenantId)) !== undefined;
  }

  #makePublishingHost(): PublishingHost {
    const isClosed = () => this.#state >= CLOSING;
    return {
      bus: this.#bus,
      options: this.#options,
      get isClosed() {
        return isClosed();
      },
      start: () => this.#busLife.start(),
      startFor: (clientId, tenantId) => this.#commands.find(clientId, tenantId) ?? this.#busLife.start(),
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

  #makeConnecting(): Connecting {
    return new Connecting({
      options: this.#options,
      bus: this.#bus,
      registry: this.#registry,
      membership: this.#membership,
      mailboxes: this.#mailboxes,
      heartbeat: this.#heartbeat,
      counters: this.#counters,
      clientHost: this.#makeClientHost(),
      start: () => this.#busLife.start(),
      settle: () => this.#fanout.settle(),
      connected: (client) => {
        client.isAnnounced = true;
        if (this.#diagnostics.listenerCount('clientConnected') > 0) {
          this.#diagnostics.emit('clientConnected', this.#infoOf(client));
        }
        // A listener may have ended it.
        if (this.#tracker !== undefined && !client.isOver) this.#tracker.arrived(client);
      },
      failed: (error, origin) => this.#diagnostics.report(error, origin, 'SSE_ERR_BUS_UNAVAILABLE'),
    });
  }
}
