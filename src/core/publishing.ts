/** From a send method to the bus: names are checked, data becomes text, the audience becomes a channel key. */
import type { Bus } from './bus.js';
import { isThenable } from './diagnostics.js';
import { isSseError, SseError, shown } from './errors.js';
import {
  type BusEvent,
  checkEventName,
  checkTimestamp,
  checkTtl,
  type OutgoingEvent,
  type PublishOptions,
  serializeData,
} from './event.js';
import type { ResolvedOptions } from './options.js';
import type { AudienceKind } from './sender.js';
import {
  checkTenantId,
  checkTopic,
  checkUserId,
  clientKey,
  everybodyKey,
  topicKey,
  topicsDisabled,
  userKey,
} from './topic.js';

/** What publishing needs of the broker. */
export interface PublishingHost {
  readonly bus: Bus;
  readonly options: Pick<ResolvedOptions, 'clock' | 'enableTopics' | 'maxEventBytes' | 'serialize'>;
  readonly isClosed: boolean;
  /** Starts the bus where it has not been; a promise while that takes time. */
  start(): void | Promise<void>;
  /** The same for what is sent to one client, which also waits until the bus delivers to that. */
  startFor(clientId: string): void | Promise<void>;
  /** Throws where there is no such client, or not in that tenant. */
  checkClient(clientId: string, tenantId: string | undefined): void;
  published(id: string, event: OutgoingEvent): void;
  failed(error: unknown): void;
}

export class Publishing {
  readonly #host: PublishingHost;

  constructor(host: PublishingHost) {
    this.#host = host;
  }

  /** Resolves with the event id. `tenantId`: the tenant of the send methods, where they have one. */
  publish(
    kind: AudienceKind,
    name: string,
    event: string,
    data: unknown,
    options: PublishOptions | undefined,
    tenantId: string | undefined,
  ): Promise<string> {
    let result: string | Promise<string>;
    let outgoing: OutgoingEvent;
    try {
      outgoing = this.#outgoing(kind, name, event, data, options, tenantId);
      const started = kind === 'client' ? this.#host.startFor(name) : this.#host.start();
      result = isThenable(started)
        ? started.then(() => this.#host.bus.publish(outgoing))
        : this.#host.bus.publish(outgoing);
    } catch (error) {
      return this.#rejected(error);
    }
    if (typeof result === 'string') {
      this.#host.published(result, outgoing);
      return Promise.resolve(result);
    }
    if (!isThenable(result)) return this.#rejected(noId(result));
    const published = (result as Promise<string>).then(
      (id) => {
        if (typeof id !== 'string') return this.#rejected(noId(id));
        this.#host.published(id, outgoing);
        return id;
      },
      (error: unknown) => this.#rejected(error),
    );
    published.catch(() => {});
    return published;
  }

  /** In the shape of an event that a bus has completed: a bus in this process need not copy it. */
  #outgoing(
    kind: AudienceKind,
    name: string,
    event: string,
    data: unknown,
    options: PublishOptions | undefined,
    tenantId: string | undefined,
  ): BusEvent {
    if (this.#host.isClosed) {
      throw new SseError('SSE_ERR_BROKER_CLOSED', 'the broker is closed; nothing more can be sent');
    }
    const { clock, maxEventBytes, serialize } = this.#host.options;
    const now = clock.now();
    return {
      key: this.#keyOf(kind, name, tenantOf(options, tenantId)),
      event: checkEventName(event),
      data: serializeData(data, serialize, maxEventBytes),
      json: typeof data !== 'string',
      timestamp: checkTimestamp(options?.timestamp, now),
      expiresAt: checkTtl(options?.ttl, now),
      id: '',
      sequence: 0,
      frame: undefined,
    };
  }

  #keyOf(kind: AudienceKind, name: string, tenantId: string | undefined): string {
    switch (kind) {
      case 'user':
        return userKey(checkUserId(name), tenantId);
      case 'topic':
        if (!this.#host.options.enableTopics) throw topicsDisabled();
        return topicKey(checkTopic(name), tenantId);
      case 'everybody':
        return everybodyKey(tenantId);
      default:
        this.#host.checkClient(name, tenantId);
        return clientKey(name);
    }
  }

  /**
   * Tells the error, and gives the caller a rejection of it. One who does not await must not lose the process. What does
   * not come from us comes from the bus.
   */
  #rejected(error: unknown): Promise<string> {
    const known = isSseError(error)
      ? error
      : new SseError('SSE_ERR_BUS_UNAVAILABLE', 'the bus could not publish; see cause', { cause: error });
    const rejected = Promise.reject(known);
    rejected.catch(() => this.#host.failed(known));
    return rejected;
  }
}

const noId = (answer: unknown): TypeError =>
  new TypeError(`the bus must give the event's id as a string; got ${shown(answer)}`);

function tenantOf(options: PublishOptions | undefined, tenantId: string | undefined): string | undefined {
  const asked = options?.tenantId;
  if (asked === undefined) return tenantId;
  if (tenantId !== undefined && asked !== tenantId) {
    throw new SseError(
      'SSE_ERR_INVALID_TENANT',
      `options.tenantId is another than the tenant of these methods (${tenantId})`,
    );
  }
  return checkTenantId(asked);
}
