/**
 * How a stream begins: a client is made, put into the maps, and gets its first frame, from history or from now on.
 *
 * Where the bus answers at once, all of that is one call. Else the client is registered and held until its keys are
 * joined, so that nothing that is published meanwhile is lost.
 */
import { shedDelay } from './admission.js';
import { Arrivals } from './arrivals.js';
import type { Bus } from './bus.js';
import { Client, type ClientHost } from './client.js';
import { connectedData } from './connected-data.js';
import { type ErrorOrigin, isThenable } from './diagnostics.js';
import { SseError, shown } from './errors.js';
import type { EventText } from './frame.js';
import type { Heartbeat } from './heartbeat.js';
import { ANONYMOUS, type Identity } from './identity.js';
import type { Mailboxes } from './mailboxes.js';
import type { Membership } from './membership.js';
import type { ResolvedOptions } from './options.js';
import type { Registry } from './registry.js';
import { Replay, type ReplayHost, startFresh } from './replay.js';
import type { Sink } from './sink.js';
import type { Counters } from './stats.js';
import { nameProblem } from './topic.js';

/** What {@link Broker.connect} is given. */
export interface ConnectRequest {
  /** Where the bytes go; ready to be written to. */
  readonly sink: Sink;
  /** Default: anonymous. */
  readonly identity?: Identity | undefined;
  readonly topics?: readonly string[] | undefined;
  /** The client's Last-Event-ID, as it came. Anything that is not an id of the bus is told as a gap. */
  readonly lastEventId?: string | undefined;
  /** How the client names its device, for an inbox: at most 256 characters. Default: not at all. */
  readonly device?: string | undefined;
}

/** What connecting needs of the broker. */
export interface ConnectingHost {
  readonly options: ResolvedOptions;
  readonly bus: Bus;
  readonly registry: Registry;
  readonly membership: Membership;
  readonly mailboxes: Mailboxes;
  readonly heartbeat: Heartbeat;
  readonly counters: Counters;
  readonly clientHost: ClientHost;
  /** Starts the bus where it has not been; a promise while that takes time. */
  start(): void | Promise<void>;
  /** Offers frames that wait in channels. */
  settle(): void;
  /** It is in its place: listeners are told. */
  connected(client: Client): void;
  /** The bus did not do what a stream needs to begin. */
  failed(error: unknown, origin: ErrorOrigin): void;
}

export class Connecting {
  readonly #host: ConnectingHost;
  readonly #replayHost: ReplayHost;
  readonly #arrivals = new Arrivals();

  constructor(host: ConnectingHost) {
    this.#host = host;
    this.#replayHost = this.#makeReplayHost();
  }

  /** Registers a stream that was admitted; gives its client's id. Throws what the sink's `open` throws. */
  connect({ sink, identity = ANONYMOUS, topics = [], lastEventId, device = '' }: ConnectRequest): string {
    const { clientHost, counters, heartbeat, mailboxes, membership } = this.#host;
    const client = new Client(clientHost, sink, this.#newClientId(), identity);
    client.deadline = this.#deadlineOf(client, identity);
    client.open();
    counters.connects++;
    // A carrier that was gone before it began: it is in no map yet, and must not come into one.
    if (client.isOver) return client.id;
    const started = this.#host.start();
    heartbeat.add(client);
    const { whenJoined } = membership.enter(client, identity, topics);
    const { firstFrames } = counters;
    const mailbox = mailboxes.open(client, device, lastEventId);
    if (mailbox !== undefined) {
      const joined = mailboxes.join(client, mailbox);
      this.#startLater(client, lastEventId, Promise.all([started, whenJoined, joined]));
    } else if (whenJoined !== undefined || isThenable(started)) {
      this.#startLater(client, lastEventId, Promise.all([started, whenJoined]));
    } else if (lastEventId === undefined) {
      startFresh(client, this.#replayHost);
    } else {
      this.#holdingFor(client, lastEventId).start();
    }
    // One that failed at once was never there, for listeners; the error is told.
    if (client.isOver) return client.id;
    if (firstFrames === counters.firstFrames) this.#arrivals.expectFirstFrame(client.id);
    this.#host.connected(client);
    return client.id;
  }

  /** Undefined where the bus has joined a client's keys, or where the client is unknown. */
  whenJoined(clientId: string): Promise<void> | undefined {
    return this.#arrivals.whenJoined(clientId);
  }

  /** Resolves with the first frame, or the end; undefined where there is nothing to wait for. */
  whenStreaming(clientId: string): Promise<void> | undefined {
    return this.#arrivals.whenBegun(clientId);
  }

  /** A client is over; what it waited for may never come. */
  gone(client: Client): void {
    this.#arrivals.gone(client.id);
  }

  #holdingFor(client: Client, lastEventId: string | undefined): Replay {
    const replay = new Replay(client, this.#replayHost, lastEventId);
    client.holder = replay;
    return replay;
  }

  #startLater(client: Client, lastEventId: string | undefined, whenReady: Promise<unknown>): void {
    const replay = this.#holdingFor(client, lastEventId);
    this.#arrivals.joining(
      client.id,
      whenReady,
      () => {
        if (!client.isOver) replay.start();
      },
      (error) => this.#fail(client, error, 'bus'),
    );
  }

  #fail(client: Client, error: unknown, origin: ErrorOrigin): void {
    this.#host.failed(error, origin);
    // A stream that may have no first frame yet, and many of them at once: each is told when to come back.
    client.end('failed', undefined, shedDelay(this.#host.options));
  }

  /** A second client of the same id would put the first one out of every map but its own stream. */
  #newClientId(): string {
    const { options, registry } = this.#host;
    const id = options.createId();
    const problem = nameProblem(id) ?? (registry.clients.has(id) ? 'must be new at every call' : undefined);
    if (problem === undefined) return id;
    throw new SseError('SSE_ERR_INVALID_OPTION', `what createId returns ${problem}; got ${shown(id)}`);
  }

  #deadlineOf(client: Client, { expiresAt }: Identity): number {
    const { maxConnectionAge } = this.#host.options;
    // A deploy makes many streams at once: they must not all grow old at once.
    const oldAt = maxConnectionAge > 0 ? client.connectedAt + maxConnectionAge * (0.9 + Math.random() * 0.1) : 0;
    if (expiresAt === undefined || expiresAt === 0 || (oldAt > 0 && oldAt < expiresAt)) {
      client.deadlineReason = 'max-age';
      return oldAt;
    }
    return expiresAt;
  }

  #firstFrame(client: Client, id: string | undefined): EventText {
    const { options, membership } = this.#host;
    const { retry: middle, connectedEvent, heartbeatInterval } = options;
    const retry = middle === 0 ? undefined : Math.round(middle * (0.75 + Math.random() * 0.5));
    if (!connectedEvent) return { id, retry };
    const data = connectedData(client, membership.topicsOf(client), {
      serverTime: options.clock.now(),
      heartbeatInterval,
      retry: retry ?? 0,
    });
    return { id, retry, event: 'connected', data };
  }

  #makeReplayHost(): ReplayHost {
    const { bus, options, counters, clientHost } = this.#host;
    return {
      bus,
      maxReplayEvents: options.maxReplayEvents,
      maxHeldBytes: options.clientBufferBytes,
      now: clientHost.now,
      settle: () => this.#host.settle(),
      firstFrame: (client, id) => {
        counters.firstFrames++;
        this.#arrivals.firstFrameCame(client.id);
        return this.#firstFrame(client, id);
      },
      gapTold: clientHost.gapTold,
      replayed: (events) => {
        counters.replayed += events;
      },
      dropped: clientHost.dropped,
      failed: (client, error) => this.#fail(client, error, 'replay'),
    };
  }
}
