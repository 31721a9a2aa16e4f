/**
 * The broker's side of mailboxes: who makes them, what each client's is for, and what their maker can do with the broker. The
 * contract is in mailbox.ts.
 */
import type { Client } from './client.js';
import { SseError, shown } from './errors.js';
import { type BusEvent, marked } from './event.js';
import { controlFrame, type Frame, frameOf, frameWithId } from './frame.js';
import type { Mailbox, MailboxHost, MailboxProvider } from './mailbox.js';
import type { Joined, Membership } from './membership.js';
import { keyOf } from './publishing.js';
import { sectionsOf } from './tagged-id.js';
import { nameProblem, topicKey } from './topic.js';

/** What mailboxes need of the broker, besides what their maker does. */
export interface MailboxesHost
  extends Omit<MailboxHost, 'restore' | 'isKeepingUp' | 'addTopic' | 'removeTopic' | 'handOver' | 'tell'> {
  clientOf(clientId: string): Client | undefined;
  readonly membership: Membership;
  /** Hands over what was dispatched to a client. */
  settle(client: Client): void;
}

export class Mailboxes {
  readonly #host: MailboxesHost;
  #provider: MailboxProvider | undefined = undefined;
  /** Topics that clients got by their mailboxes; false: and lost again. Every other topic of theirs is the application's. */
  readonly #given = new WeakMap<Client, Map<string, boolean>>();

  constructor(host: MailboxesHost) {
    this.#host = host;
  }

  /** @throws {SseError} `SSE_ERR_INVALID_OPTION` where there is one already */
  attach(make: (host: MailboxHost) => MailboxProvider): () => void {
    if (this.#provider !== undefined) {
      throw new SseError('SSE_ERR_INVALID_OPTION', 'this broker has an inbox already; use that one, or close it first');
    }
    if (typeof make !== 'function') throw new SseError('SSE_ERR_INVALID_OPTION', `got ${shown(make)}`);
    const provider = make(this.#makeHost());
    this.#provider = provider;
    return () => {
      if (this.#provider === provider) this.#provider = undefined;
    };
  }

  /** Gives a client its mailbox, where it has a user and there is an inbox. `device`: what it calls it, a name or not. */
  open(client: Client, device: string, lastEventId: string | undefined): Mailbox | undefined {
    const { identity, id: clientId } = client;
    const { userId } = identity;
    if (this.#provider === undefined || userId === undefined) return undefined;
    client.mailbox = this.#provider.open({
      clientId,
      identity: { ...identity, userId },
      device: nameProblem(device) === undefined ? device : '',
      sections: lastEventId === undefined ? '' : sectionsOf(lastEventId),
      hasOwnTopic: (topic) => this.#hasOwnTopic(client, topic),
    });
    return client.mailbox;
  }

  /** Puts a client on the channels that its mailbox says; resolves when the bus delivers them. */
  async join(client: Client, mailbox: Mailbox): Promise<void> {
    const topics = await mailbox.topics();
    const joins: unknown[] = [];
    for (const topic of topics) {
      if (client.isOver) return;
      joins.push(this.#addTopic(client, topic)?.whenJoined);
    }
    await Promise.all(joins);
  }

  /** The frame of an event for its channel; undefined where it must not be delivered. */
  frameOf(event: BusEvent): Frame | undefined {
    const provider = this.#provider;
    if (provider === undefined) return frameOf(event);
    const tag = event.tag === undefined ? provider.placeTag : provider.passing(event.tag, event.id);
    if (tag === undefined) return undefined;
    if (tag === event.tag) return frameOf(event);
    event.frame ??= frameWithId(event, event.id + tag);
    return event.frame as Frame;
  }

  /** The bus is up, for the first time or again. */
  interrupted(): void {
    this.#provider?.interrupted();
  }

  /** Another node is there, for the first time or again. */
  joined(nodeId: string): void {
    this.#provider?.joined(nodeId);
  }

  /** Another node asks. */
  asked(text: string): number | Promise<number> {
    return this.#provider?.asked(text) ?? 0;
  }

  #addTopic(client: Client, topic: string): Joined | undefined {
    const joined = this.#host.membership.addTopic(client, topic);
    if (joined === undefined) return undefined;
    const given = this.#given.get(client) ?? new Map<string, boolean>();
    this.#given.set(client, given.set(topic, true));
    return joined;
  }

  /** What the application gave stays. */
  #removeTopic(client: Client, topic: string): void {
    const given = this.#given.get(client);
    if (given?.get(topic) !== true) return;
    given.set(topic, false);
    this.#host.membership.removeTopic(client, topic);
  }

  /** Asked of an event that was on its way to the client: one that the application took from it since had it. */
  #hasOwnTopic(client: Client, topic: string): boolean {
    const isGiven = this.#given.get(client)?.get(topic);
    return isGiven === undefined || (!isGiven && client.isOn(topicKey(topic)));
  }

  #makeHost(): MailboxHost {
    const host = this.#host;
    return {
      ...host,
      restore: ({ kind, name, tenantId, event, data, json, timestamp, expiresAt, priority, tag }) => {
        const key = keyOf(kind, name, tenantId);
        const restored = { key, event, data, json, timestamp, expiresAt, id: '', sequence: 0, frame: undefined };
        return marked(restored, priority === 0 ? undefined : priority, tag);
      },
      isKeepingUp: (clientId) => {
        const client = host.clientOf(clientId);
        return client?.isLive === true && !client.isBlocked && client.queuedFrames === 0;
      },
      addTopic: async (clientId, topic) => {
        const client = host.clientOf(clientId);
        if (client === undefined || client.isOver) return false;
        const joined = this.#addTopic(client, topic);
        await joined?.whenJoined;
        return joined !== undefined;
      },
      removeTopic: (clientId, topic) => {
        const client = host.clientOf(clientId);
        if (client !== undefined) this.#removeTopic(client, topic);
      },
      handOver: (clientId) => {
        const client = host.clientOf(clientId);
        if (client !== undefined) host.settle(client);
      },
      tell: (clientId, event, data) => {
        const client = host.clientOf(clientId);
        if (client === undefined) return;
        host.settle(client);
        client.tell(controlFrame({ event, data }));
      },
    };
  }
}
