/**
 * The send methods without anything else: for workers, cron jobs and scripts that publish and are gone again.
 *
 * It has no clients, joins nothing and has no timers. It uses the bus that it is given, so it starts and closes that; what
 * the caller made for the bus (a Redis client) is the caller's, as always.
 */
import type { Bus, BusStatus } from './bus.js';
import { CheckedBus } from './checked-bus.js';
import { type Clock, systemClock } from './clock.js';
import { type BrokerListener, Diagnostics, isThenable } from './diagnostics.js';
import { SseError, shown } from './errors.js';
import type { EventMap, PublishOptions, Serializer } from './event.js';
import { checkedOptions, DEFAULT_OPTIONS, type Logger } from './options.js';
import { Publishing } from './publishing.js';
import { type AudienceKind, Sender } from './sender.js';
import { audienceOf, checkTenantId } from './topic.js';

/** Options of {@link createPublisher}; those without a remark are those of a broker. */
export interface PublisherOptions {
  /** The bus that the brokers have, on the same namespace. It belongs to this publisher, which closes it. */
  bus: Bus;
  /** Largest data of an event, in bytes of UTF-8. Default 1 MiB; 0: no limit. */
  maxEventBytes?: number | undefined;
  /** Turns data that is not a string into text. Default `JSON.stringify`. */
  serialize?: Serializer | undefined;
  /** Default: the system's. */
  clock?: Clock | undefined;
  /** Default: none; everything is an event as well. */
  logger?: Logger | undefined;
}

/** The events of a publisher, as those of a broker. */
export type PublisherEventName = 'eventPublished' | 'busStatus' | 'error';

/** Figures of a publisher. */
export interface PublisherStats {
  /** Events that have their place in the order. */
  readonly published: number;
  /** Calls that were rejected, and what else failed. */
  readonly errors: number;
  readonly bus: BusStatus & { readonly name: string };
}

const KNOWN = ['bus', 'maxEventBytes', 'serialize', 'clock', 'logger'] as const;

type Publish = (
  kind: AudienceKind,
  name: string,
  event: string,
  data: unknown,
  options: PublishOptions | undefined,
) => Promise<string>;

/** The send methods, inside one tenant. */
class TenantPublisher<Events extends EventMap> extends Sender<Events> {
  readonly #publish: Publish;

  constructor(publish: Publish) {
    super();
    this.#publish = publish;
  }

  protected override publishTo(...call: Parameters<Publish>): Promise<string> {
    return this.#publish(...call);
  }
}

/**
 * Sends events through a bus to the clients of the brokers that share it; made by {@link createPublisher}. It knows no
 * clients: `sendToClient` resolves also where that client has gone.
 */
export class Publisher<Events extends EventMap = Record<string, unknown>> extends Sender<Events> {
  readonly #bus: Bus;
  readonly #diagnostics: Diagnostics;
  readonly #publishing: Publishing;
  #published = 0;
  #started: void | Promise<void> = undefined;
  #isStarted = false;
  #closing: Promise<void> | undefined = undefined;

  /** @internal Made by `createPublisher`. */
  constructor(options: PublisherOptions) {
    super();
    const given = checkedOptions(options, KNOWN);
    if (given.bus === undefined) {
      throw new SseError(
        'SSE_ERR_INVALID_OPTION',
        `bus must be the bus that the brokers have; got ${shown(undefined)}`,
      );
    }
    const { bus, serialize = JSON.stringify, clock = systemClock, logger } = options;
    const { maxEventBytes = DEFAULT_OPTIONS.maxEventBytes } = options;
    this.#bus = new CheckedBus(bus);
    this.#diagnostics = new Diagnostics(logger);
    const isClosed = () => this.#closing !== undefined;
    this.#publishing = new Publishing({
      bus: this.#bus,
      options: { clock, maxEventBytes, serialize: serialize as Serializer, enableTopics: true },
      get isClosed() {
        return isClosed();
      },
      start: () => this.#start(),
      startFor: () => this.#start(),
      published: (id, { event, data, timestamp, key }) => {
        this.#published++;
        if (this.#diagnostics.listenerCount('eventPublished') === 0) return;
        this.#diagnostics.emit('eventPublished', { id, event, data, timestamp, audience: audienceOf(key) });
      },
      failed: (error) => this.#diagnostics.report(error, 'publish', 'SSE_ERR_BUS_UNAVAILABLE'),
    });
  }

  /** Calls `listener` on each event of that name. A listener that throws fails alone. */
  on<Name extends PublisherEventName>(name: Name, listener: BrokerListener<Name>): this {
    this.#diagnostics.on(name, listener as (...args: unknown[]) => unknown);
    return this;
  }

  /** Like {@link on}, for the next event only. */
  once<Name extends PublisherEventName>(name: Name, listener: BrokerListener<Name>): this {
    this.#diagnostics.once(name, listener as (...args: unknown[]) => unknown);
    return this;
  }

  /** Undoes {@link on} and {@link once}. */
  off<Name extends PublisherEventName>(name: Name, listener: BrokerListener<Name>): this {
    this.#diagnostics.off(name, listener as (...args: unknown[]) => unknown);
    return this;
  }

  /** The same send methods, inside one tenant. */
  tenant(tenantId: string): Sender<Events> {
    checkTenantId(tenantId);
    return new TenantPublisher<Events>((...call) => this.#publishing.publish(...call, tenantId));
  }

  getStats(): PublisherStats {
    return {
      published: this.#published,
      errors: this.#diagnostics.errors,
      bus: { name: this.#bus.name, ...this.#bus.status() },
    };
  }

  /** Closes the bus; what was sent before and is under way is settled by that. Calling it again gives the same promise. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  protected override publishTo(...call: Parameters<Publish>): Promise<string> {
    return this.#publishing.publish(...call, undefined);
  }

  #start(): void | Promise<void> {
    if (this.#isStarted) return this.#started;
    this.#isStarted = true;
    let started: void | Promise<void>;
    try {
      started = this.#bus.start({
        // It has joined nothing; a bus may deliver all the same.
        deliver: () => {},
        lost: () => {},
        status: (status) => this.#diagnostics.emit('busStatus', status),
        error: (error) => this.#diagnostics.report(error, 'bus'),
      });
    } catch (error) {
      // As for one that rejects.
      this.#isStarted = false;
      throw error;
    }
    if (!isThenable(started)) return undefined;
    this.#started = started.then(
      () => {
        this.#started = undefined;
      },
      (error: unknown) => {
        // The next call tries again.
        this.#isStarted = false;
        this.#started = undefined;
        throw error;
      },
    );
    this.#started.catch(() => {});
    return this.#started;
  }

  async #close(): Promise<void> {
    if (!this.#isStarted) return;
    try {
      await this.#bus.close();
    } catch (error) {
      this.#diagnostics.report(error, 'bus', 'SSE_ERR_BUS_UNAVAILABLE');
    }
  }
}

/**
 * A {@link Publisher}: the send methods for a process that has no streams.
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 * @example
 * const publisher = createPublisher<Events>({ bus: new RedisBus({ client: redis }) });
 * await publisher.sendToTopic('job:7', 'job.progress', { jobId: '7', progress: 0.5 });
 * await publisher.close();
 */
export function createPublisher<Events extends EventMap = Record<string, unknown>>(
  options: PublisherOptions,
): Publisher<Events> {
  return new Publisher<Events>(options);
}
