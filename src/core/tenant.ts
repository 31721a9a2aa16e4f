/** One tenant of a broker. */
import type { EventMap, PublishOptions } from './event.js';
import type { ClusterPresence } from './presence.js';
import { type AudienceKind, Sender } from './sender.js';

/** Questions about who is here, on this node; {@link ClusterPresence} is about all nodes. */
export interface Presence {
  /** True where the user has a stream. */
  isUserOnline(userId: string): boolean;
  /** Users with a stream. */
  getOnlineUsers(): string[];
  /** Streams of a user. */
  getUserConnectionCount(userId: string): number;
  /** Topics that clients have. */
  getActiveTopics(): string[];
  /** Clients that have a topic. */
  getTopicConnectionCount(topic: string): number;
}

/** How a tenant publishes. */
export type TenantPublish = (
  kind: AudienceKind,
  name: string,
  event: string,
  data: unknown,
  options: PublishOptions | undefined,
) => Promise<string>;

/** One tenant of a broker: sends reach its clients only, and questions are about them only. */
export class TenantBroker<Events extends EventMap = Record<string, unknown>>
  extends Sender<Events>
  implements Presence
{
  readonly tenantId: string;
  readonly #publish: TenantPublish;
  readonly #presence: Presence;
  readonly #cluster: () => ClusterPresence;

  /** @internal Made by `Broker.tenant`. */
  constructor(tenantId: string, publish: TenantPublish, presence: Presence, cluster: () => ClusterPresence) {
    super();
    this.#cluster = cluster;
    this.tenantId = tenantId;
    this.#publish = publish;
    this.#presence = presence;
  }

  /** Who of this tenant is online, on all nodes. */
  get presence(): ClusterPresence {
    return this.#cluster();
  }

  isUserOnline(userId: string): boolean {
    return this.#presence.isUserOnline(userId);
  }

  getOnlineUsers(): string[] {
    return this.#presence.getOnlineUsers();
  }

  getUserConnectionCount(userId: string): number {
    return this.#presence.getUserConnectionCount(userId);
  }

  getActiveTopics(): string[] {
    return this.#presence.getActiveTopics();
  }

  getTopicConnectionCount(topic: string): number {
    return this.#presence.getTopicConnectionCount(topic);
  }

  protected override publishTo(
    kind: AudienceKind,
    name: string,
    event: string,
    data: unknown,
    options: PublishOptions | undefined,
  ): Promise<string> {
    return this.#publish(kind, name, event, data, options);
  }
}
