/**
 * Who is on which channel: the registry and the bus' interest, changed together.
 *
 * Every change settles the fan-out first, so frames that wait in a channel reach who was there when they were
 * published, and nobody else.
 */
import type { Bus } from './bus.js';
import type { Client } from './client.js';
import { isThenable } from './diagnostics.js';
import type { Fanout } from './fanout.js';
import type { Identity } from './identity.js';
import type { Channel, Registry } from './registry.js';
import type { Presence } from './tenant.js';
import { everybodyKey, topicKey, userKey } from './topic.js';

/** The outcome of joining: the channel keys, and a promise where the bus needs time. */
export interface Joined {
  readonly keys: readonly string[];
  readonly whenJoined: Promise<unknown> | undefined;
}

export class Membership {
  readonly #registry: Registry;
  readonly #bus: Bus;
  readonly #fanout: Fanout;

  constructor(registry: Registry, bus: Bus, fanout: Fanout) {
    this.#registry = registry;
    this.#bus = bus;
    this.#fanout = fanout;
  }

  /** Puts a new client on the channels of its identity and topics. */
  enter(client: Client, { userId, tenantId }: Identity, topics: readonly string[]): Joined {
    const keys = [everybodyKey()];
    if (tenantId !== undefined) keys.push(everybodyKey(tenantId));
    if (userId !== undefined) {
      keys.push(userKey(userId));
      // Its own user is the one in its tenant, and comes last: see #join.
      if (tenantId !== undefined) keys.push(userKey(userId, tenantId));
    }
    const own = userId === undefined ? undefined : keys[keys.length - 1];
    for (const topic of new Set(topics)) pushTopicKeys(keys, topic, tenantId);
    return this.#join(client, keys, own);
  }

  /** Undefined where the client has the topic already. */
  addTopic(client: Client, topic: string): Joined | undefined {
    if (client.isOn(topicKey(topic))) return undefined;
    return this.#join(client, topicKeys(topic, client.identity.tenantId), undefined);
  }

  /** True where the client had the topic. */
  removeTopic(client: Client, topic: string): boolean {
    const keys = topicKeys(topic, client.identity.tenantId);
    const channels = client.channels.filter((channel) => keys.includes(channel.key));
    this.#fanout.settle();
    for (const channel of channels) this.#leave(client, channel);
    return channels.length > 0;
  }

  /** Takes a client off every channel. */
  leaveAll(client: Client): void {
    this.#fanout.settle();
    const { channels } = client;
    while (channels.length > 0) this.#leave(client, channels[channels.length - 1]!);
  }

  /** Members of the channels of `keys`; of all where undefined. */
  membersOf(keys: readonly string[] | undefined): Set<Client> {
    if (keys === undefined) return new Set(this.#registry.clients.values());
    const clients = new Set<Client>();
    for (const key of keys) for (const client of this.#registry.channel(key)?.members() ?? []) clients.add(client);
    return clients;
  }

  topicsOf(client: Client): string[] {
    const prefix = topicKey('');
    const topics: string[] = [];
    for (const { key } of client.channels) if (key.startsWith(prefix)) topics.push(key.slice(prefix.length));
    return topics;
  }

  /** Who is here, in one tenant or in all. */
  presence(tenantId?: string): Presence {
    const registry = this.#registry;
    return {
      isUserOnline: (userId) => registry.channel(userKey(userId, tenantId)) !== undefined,
      getOnlineUsers: () => registry.names('u', userKey('', tenantId)),
      getUserConnectionCount: (userId) => registry.channel(userKey(userId, tenantId))?.size ?? 0,
      getActiveTopics: () => registry.names('t', topicKey('', tenantId)),
      getTopicConnectionCount: (topic) => registry.channel(topicKey(topic, tenantId))?.size ?? 0,
    };
  }

  #join(client: Client, keys: readonly string[], own: string | undefined): Joined {
    this.#fanout.settle();
    let waits: PromiseLike<unknown>[] | undefined;
    const channels = keys.map((key) => this.#registry.join(client, key, key === own));
    client.channels = client.channels.length === 0 ? channels : [...client.channels, ...channels];
    for (const { key, size } of channels) {
      // Interest begins with the first client.
      if (size > 1) continue;
      const joined = this.#bus.join(key);
      if (!isThenable(joined)) continue;
      waits ??= [];
      waits.push(joined);
    }
    return { keys, whenJoined: waits === undefined ? undefined : Promise.all(waits) };
  }

  #leave(client: Client, channel: Channel): void {
    if (this.#registry.leave(client, channel)) this.#bus.leave(channel.key);
  }
}

function pushTopicKeys(keys: string[], topic: string, tenantId: string | undefined): void {
  keys.push(topicKey(topic));
  if (tenantId !== undefined) keys.push(topicKey(topic, tenantId));
}

function topicKeys(topic: string, tenantId: string | undefined): string[] {
  const keys: string[] = [];
  pushTopicKeys(keys, topic, tenantId);
  return keys;
}
