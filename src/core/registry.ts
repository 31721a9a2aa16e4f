/**
 * The maps of clients, users and topics. It knows channel keys and who is on them; it neither encodes nor sends.
 *
 * An event costs its recipients: a channel is found by one look-up and holds its own members, and a client holds its
 * own channels, so leaving scans nothing.
 */
import type { Client } from './client.js';
import type { Frame } from './frame.js';

/** The clients of one channel key on this node. Most users have one connection: the first member needs no Set. */
export class Channel {
  readonly key: string;
  /** Members whose own user this is, rather than one of the same name in any tenant. */
  owners = 0;
  /** Frames of this turn that its members have not been offered yet: see fanout.ts. */
  frames: Frame[] | undefined = undefined;
  #one: Client | undefined = undefined;
  #many: Set<Client> | undefined = undefined;

  constructor(key: string) {
    this.key = key;
  }

  get size(): number {
    if (this.#many !== undefined) return this.#many.size;
    return this.#one === undefined ? 0 : 1;
  }

  /** The member where there is exactly one and always was. */
  get single(): Client | undefined {
    return this.#one;
  }

  /** The members where there are, or were, several. */
  get several(): ReadonlySet<Client> | undefined {
    return this.#many;
  }

  add(client: Client): void {
    if (this.#many !== undefined) {
      this.#many.add(client);
    } else if (this.#one === undefined) {
      this.#one = client;
    } else {
      this.#many = new Set([this.#one, client]);
      this.#one = undefined;
    }
  }

  delete(client: Client): void {
    if (this.#many !== undefined) this.#many.delete(client);
    else if (this.#one === client) this.#one = undefined;
  }

  /** A copy of the members, safe against changes while it is used. */
  members(): Client[] {
    if (this.#many !== undefined) return [...this.#many];
    return this.#one === undefined ? [] : [this.#one];
  }
}

const USER = 'u'.charCodeAt(0);
const TOPIC = 't'.charCodeAt(0);
const IN_ALL_TENANTS = ':'.charCodeAt(0);

export class Registry {
  readonly clients = new Map<string, Client>();
  readonly #users = new Map<string, Channel>();
  readonly #topics = new Map<string, Channel>();
  readonly #everybody = new Map<string, Channel>();
  #userCount = 0;
  #topicCount = 0;

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
    return kind === USER ? this.#users : kind === TOPIC ? this.#topics : this.#everybody;
  }

  channel(key: string): Channel | undefined {
    return this.#mapOf(key).get(key);
  }

  /** Puts `client` on the channel of `key`. The caller adds what is returned to the client's own channels. */
  join(client: Client, key: string, isOwn = false): Channel {
    const map = this.#mapOf(key);
    let channel = map.get(key);
    if (channel === undefined) {
      channel = new Channel(key);
      map.set(key, channel);
      if (map === this.#topics && key.charCodeAt(2) === IN_ALL_TENANTS) this.#topicCount++;
    }
    channel.add(client);
    if (isOwn) {
      client.ownUser = channel;
      if (channel.owners++ === 0) this.#userCount++;
    }
    return channel;
  }

  /** Takes `client` off `channel`; true where nobody is left there. */
  leave(client: Client, channel: Channel): boolean {
    const at = client.channels.indexOf(channel);
    if (at === -1) return false;
    client.channels[at] = client.channels[client.channels.length - 1]!;
    client.channels.pop();
    channel.delete(client);
    if (channel === client.ownUser && --channel.owners === 0) this.#userCount--;
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
