/** From a send method to the bus: names are checked, data becomes text, the audience becomes a channel key. */
import type { Bus } from './bus.js';
import { isThenable } from './diagnostics.js';
import { busFailure, SseError, shown } from './errors.js';
import {
  type BusEvent,
  checkEventName,
  checkPriority,
  checkTimestamp,
  checkTtl,
  marked,
  type OutgoingEvent,
  type PublishOptions,
  serializeData,
} from './event.js';
import { checkOptionNames } from './option-names.js';
import type { ResolvedOptions } from './options.js';
import type { AudienceKind } from './sender.js';
import {
  checkClientId,
  checkTenantId,
  checkTopic,
  checkUserId,
  clientKey,
  everybodyKey,
  topicKey,
  topicsDisabled,
  userKey,
} from './topic.js';

const PUBLISH_OPTIONS: readonly (keyof PublishOptions)[] = ['tenantId', 'timestamp', 'ttl', 'priority'];

/** What publishing needs of the broker. */
export interface PublishingHost {
  readonly bus: Bus;
  readonly options: Pick<ResolvedOptions, 'clock' | 'enableTopics' | 'maxEventBytes' | 'serialize'>;
  readonly isClosed: boolean;
  /** Starts the bus where it has not been; a promise while that takes time. */
  start(): void | Promise<void>;
  /**
   * The same for what is sent to one client, which also waits until the bus delivers to that. Throws or rejects where there
   * is no such client on any node, or not in that tenant.
   */
  startFor(clientId: string, tenantId: string | undefined): void | Promise<void>;
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
      outgoing = this.prepare(kind, name, event, data, options, tenantId);
      const started = kind === 'client' ? this.#host.startFor(name, tenantOf(options, tenantId)) : this.#host.start();
      result = this.#publish(outgoing, started);
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

  /**
   * An event that {@link prepare} made, or one like it. Gives its id, at once with a bus of this process. Errors are thrown or
   * rejected, and not told.
   */
  publishPrepared(outgoing: OutgoingEvent): string | Promise<string> {
    const checked = (id: string): string => {
      if (typeof id !== 'string') throw noId(id);
      this.#host.published(id, outgoing);
      return id;
    };
    const result = this.#publish(outgoing, this.#host.start());
    return isThenable(result) ? result.then(checked) : checked(result);
  }

  #publish(outgoing: OutgoingEvent, started: void | Promise<void>): string | Promise<string> {
    if (isThenable(started)) return started.then(() => this.#host.bus.publish(outgoing));
    return this.#host.bus.publish(outgoing);
  }

  /**
   * Checks; data becomes text. In the shape of an event that a bus has completed: a bus in this process need not copy it.
   *
   * @throws {SseError} as the send methods reject
   */
  prepare(
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
    // A misspelt `tenantId` would send to the user of that name in every tenant.
    if (options !== undefined && options !== null) checkOptionNames('a send', options, PUBLISH_OPTIONS);
    const { clock, maxEventBytes, serialize } = this.#host.options;
    const now = clock.now();
    const prepared: BusEvent = {
      key: this.#checkedKey(kind, name, tenantOf(options, tenantId)),
      event: checkEventName(event),
      data: serializeData(data, serialize, maxEventBytes),
      json: typeof data !== 'string',
      timestamp: checkTimestamp(options?.timestamp, now),
      expiresAt: checkTtl(options?.ttl, now),
      id: '',
      sequence: 0,
      frame: undefined,
    };
    // Most events have none, and are of one shape.
    const priority = options?.priority === undefined ? 0 : checkPriority(options.priority);
    return priority === 0 ? prepared : marked(prepared, priority, undefined);
  }

  #checkedKey(kind: AudienceKind, name: string, tenantId: string | undefined): string {
    if (kind === 'user') checkUserId(name);
    else if (kind === 'topic') {
      if (!this.#host.options.enableTopics) throw topicsDisabled();
      checkTopic(name);
    } else if (kind === 'client') checkClientId(name);
    return keyOf(kind, name, tenantId);
  }

  /**
   * Tells the error, and gives the caller a rejection of it. One who does not await must not lose the process. What does
   * not come from us comes from the bus.
   */
  #rejected(error: unknown): Promise<string> {
    const known = busFailure('the bus could not publish', error);
    const rejected = Promise.reject(known);
    rejected.catch(() => this.#host.failed(known));
    return rejected;
  }
}

/** The channel key of an audience whose names were checked. */
export function keyOf(kind: AudienceKind, name: string, tenantId: string | undefined): string {
  switch (kind) {
    case 'user':
      return userKey(name, tenantId);
    case 'topic':
      return topicKey(name, tenantId);
    case 'everybody':
      return everybodyKey(tenantId);
    default:
      return clientKey(name);
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
