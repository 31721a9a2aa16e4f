/**
 * The maps of clients, users and topics. It knows channel keys and who is on them; it neither encodes nor sends.
 *
 * An event costs its recipients: a channel is found by one look-up and holds its own members, and a client holds its
 * own channels, so leaving scans nothing.
 */
import type { Client } from './client.js';
import type { Frame } from './frame.js';
import { everybodyKey } from './topic.js';

/** The members of a channel that has, or had, several, and what that needs. */
export class Crowd {
  /** Members whose own user this is, rather than one of the same name in any tenant. */
  owners = 0;
  /** Frames of this turn that the members have not been offered yet: see fanout.ts. */
  frames: Frame[] | undefined = undefined;
  readonly clients: Set<Client> | ReadonlyMap<string, Client>;

  constructor(clients: Set<Client> | ReadonlyMap<string, Client>) {
    this.clients = clients;
  }
}

/** The clients of one channel key on this node. Most users have one connection: the first member needs no Crowd. */
export class Channel {
  readonly key: string;
  #members: Client | Crowd | undefined;

  /** `crowd`: members that are counted elsewhere; nobody is added here then. */
  constructor(key: string, crowd?: Crowd) {
    this.key = key;
    this.#members = crowd;
  }

  get size(): number {
    const members = this.#members;
    if (members instanceof Crowd) return members.clients.size;
    return members === undefined ? 0 : 1;
  }

  /** Members whose own user this is. */
  get owners(): number {
    const members = this.#members;
    if (members instanceof Crowd) return members.owners;
    return members?.ownUser === this ? 1 : 0;
  }

  /** The member where there is exactly one and always was. */
  get single(): Client | undefined {
    const members = this.#members;
    return members instanceof Crowd ? undefined : members;
  }

  /** Where there are, or were, several members. */
  get crowd(): Crowd | undefined {
    const members = this.#members;
    return members instanceof Crowd ? members : undefined;
  }

  /** A client says beforehand whether this is its own user's. */
  add(client: Client): void {
    const members = this.#members;
    if (members === undefined) {
      this.#members = client;
      return;
    }
    let crowd: Crowd;
    if (members instanceof Crowd) {
      crowd = members;
      (crowd.clients as Set<Client>).add(client);
    } else {
      crowd = new Crowd(new Set([members, client]));
      if (members.ownUser === this) crowd.owners++;
      this.#members = crowd;
    }
    if (client.ownUser === this) crowd.owners++;
  }

  delete(client: Client): void {
    const members = this.#members;
    if (members === client) this.#members = undefined;
    else if (members instanceof Crowd && (members.clients as Set<Client>).delete(client)) {
      if (client.ownUser === this) members.owners--;
    }
  }

  /** A copy of the members, safe against changes while it is used. */
  members(): Client[] {
    const members = this.#members;
    if (members instanceof Crowd) return [...members.clients.values()];
    return members === undefined ? [] : [members];
  }
}

const EVERYBODY = everybodyKey();
const USER = 'u'.charCodeAt(0);
const TOPIC = 't'.charCodeAt(0);
const IN_ALL_TENANTS = ':'.charCodeAt(0);

export class Registry {
  readonly #clients = new Map<string, Client>();
  /** Everybody, in every tenant: the clients themselves, counted once. */
  readonly #all = new Channel(EVERYBODY, new Crowd(this.#clients));
  readonly #users = new Map<string, Channel>();
  readonly #topics = new Map<string, Channel>();
  /** Everybody of a tenant. */
  readonly #tenants = new Map<string, Channel>();
  #userCount = 0;
  #topicCount = 0;

  /** By id. */
  get clients(): ReadonlyMap<string, Client> {
    return this.#clients;
  }

  /** Users on this node; one of the same name in another tenant is another user. */
  get userCount(): number {
    return this.#userCount;
  }

  /** Topics on this node; the same name in two tenants counts once. */
  get topicCount(): number {
    return this.#topicCount;
  }

  #mapOf(key: string): Map<string, Channel> {
    const kind = key.charCodeAt(0);
    return kind === USER ? this.#users : kind === TOPIC ? this.#topics : this.#tenants;
  }

  channel(key: string): Channel | undefined {
    if (key === EVERYBODY) return this.#clients.size > 0 ? this.#all : undefined;
    return this.#mapOf(key).get(key);
  }

  /** Puts `client` into the map of all; gives the channel of everybody. */
  add(client: Client): Channel {
    this.#clients.set(client.id, client);
    return this.#all;
  }

  /** Takes `client` out of it; true where it was the last one. */
  remove(client: Client): boolean {
    return this.#clients.delete(client.id) && this.#clients.size === 0;
  }

  /** Puts `client` on the channel of `key`. The caller tells the client. */
  join(client: Client, key: string, isOwn = false): Channel {
    const map = this.#mapOf(key);
    let channel = map.get(key);
    if (channel === undefined) {
      channel = new Channel(key);
      map.set(key, channel);
      if (map === this.#topics && key.charCodeAt(2) === IN_ALL_TENANTS) this.#topicCount++;
    }
    if (isOwn) {
      if (channel.owners === 0) this.#userCount++;
      client.ownUser = channel;
    }
    channel.add(client);
    return channel;
  }

  /** Takes `client` off `channel`; true where nobody is left there. The caller tells the client, afterwards. */
  leave(client: Client, channel: Channel): boolean {
    channel.delete(client);
    if (channel === client.ownUser && channel.owners === 0) this.#userCount--;
    if (channel.size > 0) return false;
    const map = this.#mapOf(channel.key);
    map.delete(channel.key);
    if (map === this.#topics && channel.key.charCodeAt(2) === IN_ALL_TENANTS) this.#topicCount--;
    return true;
  }

  /** Names of the users or topics whose keys start with `prefix` (`u::`, `t:acme:`). */
  names(kind: 'u' | 't', prefix: string): string[] {
    const names: string[] = [];
    for (const key of (kind === 'u' ? this.#users : this.#topics).keys()) {
      if (key.startsWith(prefix)) names.push(key.slice(prefix.length));
    }
    return names;
  }
}
