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
import { audienceOf, clientKey, everybodyKey, topicKey, userKey } from './topic.js';

/** The outcome of joining: a promise where the bus needs time. */
export interface Joined {
  readonly whenJoined: Promise<unknown> | undefined;
}

const JOINED: Joined = { whenJoined: undefined };

const EVERYBODY = everybodyKey().charCodeAt(0);

export class Membership {
  readonly #registry: Registry;
  readonly #bus: Bus;
  readonly #fanout: Fanout;
  /** Joins that the bus has not confirmed yet: whoever comes to such a key waits for the same. */
  readonly #joining = new Map<string, PromiseLike<unknown>>();

  constructor(registry: Registry, bus: Bus, fanout: Fanout) {
    this.#registry = registry;
    this.#bus = bus;
    this.#fanout = fanout;
  }

  /** Puts a new client on the channels of its identity and topics. */
  enter(client: Client, { userId, tenantId }: Identity, topics: readonly string[]): Joined {
    // What waits is for those who were here when it was published, everybody included.
    this.#fanout.settle();
    const everybody = this.#registry.add(client);
    const keys: string[] = [];
    if (tenantId !== undefined) {
      keys.push(everybodyKey(tenantId));
      // Its own user is the one in its tenant.
      if (userId !== undefined) keys.push(userKey(userId));
    }
    const own = userId === undefined ? undefined : userKey(userId, tenantId);
    if (topics.length === 1) pushTopicKeys(keys, topics[0]!, tenantId);
    else for (const topic of new Set(topics)) pushTopicKeys(keys, topic, tenantId);
    const joined = this.#join(client, keys, own, everybody);
    // Interest in what is sent to this client alone; the registry finds it by its id.
    const alone = joinOn(this.#bus, clientKey(client.id));
    return alone === undefined ? joined : { whenJoined: Promise.all([joined.whenJoined, alone]) };
  }

  /** Undefined where the client has the topic already. */
  addTopic(client: Client, topic: string): Joined | undefined {
    if (client.isOn(topicKey(topic))) return undefined;
    return this.#join(client, topicKeys(topic, this.tenantOf(client)));
  }

  /** True where the client had the topic. */
  removeTopic(client: Client, topic: string): boolean {
    const keys = topicKeys(topic, this.tenantOf(client));
    const channels = client.channels.filter((channel) => keys.includes(channel.key));
    this.#fanout.settle();
    for (const channel of channels) this.#leave(client, channel);
    client.left(channels);
    return channels.length > 0;
  }

  /** Takes a client out of the map of all, and off every channel. */
  leaveAll(client: Client): void {
    this.#fanout.settle();
    const isLast = this.#registry.remove(client);
    for (const channel of client.channels) this.#leave(client, channel);
    client.leftAll();
    if (isLast) this.#leaveBus(everybodyKey());
    this.#bus.leave(clientKey(client.id));
  }

  /** Members of the channels of `keys`; of all where undefined. */
  membersOf(keys: readonly string[] | undefined): Set<Client> {
    if (keys === undefined) return new Set(this.#registry.clients.values());
    const clients = new Set<Client>();
    for (const key of keys) for (const client of this.#registry.channel(key)?.members() ?? []) clients.add(client);
    return clients;
  }

  /** The tenant that it came with. Its identity is the application's object, and may say another by now. */
  tenantOf(client: Client): string | undefined {
    for (const { key } of client.channels) {
      const audience = key.charCodeAt(0) === EVERYBODY ? audienceOf(key) : undefined;
      if (audience?.kind === 'everybody') return audience.tenantId;
    }
    return undefined;
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

  #join(client: Client, keys: readonly string[], own?: string, everybody?: Channel): Joined {
    this.#fanout.settle();
    const waits: PromiseLike<unknown>[] = [];
    const channels = keys.map((key) => this.#registry.join(client, key));
    client.joined(channels);
    if (everybody !== undefined) this.#awaitInterest(everybody, waits);
    if (own !== undefined) this.#awaitInterest(this.#registry.join(client, own, true), waits);
    for (const channel of channels) this.#awaitInterest(channel, waits);
    return waits.length === 0 ? JOINED : { whenJoined: Promise.all(waits) };
  }

  /** Interest begins with the first client; who comes while the bus is still joining waits for the same. */
  #awaitInterest({ key, size }: Channel, waits: PromiseLike<unknown>[]): void {
    const joining = size > 1 ? this.#joining.get(key) : this.#joinBus(key);
    if (joining !== undefined) waits.push(joining);
  }

  #joinBus(key: string): PromiseLike<unknown> | undefined {
    const joined = joinOn(this.#bus, key);
    if (joined === undefined) return undefined;
    this.#joining.set(key, joined);
    joined.then(
      () => {
        if (this.#joining.get(key) === joined) this.#joining.delete(key);
      },
      // Stays until the last has left: nobody on this key hears anything.
      () => {},
    );
    return joined;
  }

  #leave(client: Client, channel: Channel): void {
    if (this.#registry.leave(client, channel)) this.#leaveBus(channel.key);
  }

  #leaveBus(key: string): void {
    this.#joining.delete(key);
    this.#bus.leave(key);
  }
}

/** A bus that throws is no different from one that rejects. */
function joinOn(bus: Bus, key: string): PromiseLike<unknown> | undefined {
  try {
    const joined = bus.join(key);
    return isThenable(joined) ? joined : undefined;
  } catch (error) {
    return Promise.reject(error);
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
