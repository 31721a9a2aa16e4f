/**
 * CONTRACT: what waits for a user, delivered at a connect ahead of the live stream; the inbox implements it.
 *
 * A client of a user has a {@link Mailbox} for as long as it lives. While the client is held (see replay.ts) the mailbox is
 * asked for what waits, in rounds: one for a client that comes without a cursor, or was cut in the middle of one, and one
 * more wherever the bus has lost something. What it delivers in a round, and what it delivered before, must not reach the
 * client once more as a live event: for each live event with a tag the mailbox is asked whether it hides it.
 *
 * Tags are written behind the ids of events (tagged-id.ts), so a client says by its cursor how far it got, within a round too.
 */
import type { Clock } from './clock.js';
import type { BusEvent, PriorityLevel, PublishOptions } from './event.js';
import type { Identity } from './identity.js';
import type { AudienceKind } from './sender.js';

/** A client that has a user and was registered just now. */
export interface MailboxRequest {
  readonly clientId: string;
  readonly identity: Identity & { readonly userId: string };
  /** Whether it has a topic by the application, not by its mailbox: at the connect, or given to it since. */
  readonly hasOwnTopic: (topic: string) => boolean;
  /** How the client names its device; empty where it does not. */
  readonly device: string;
  /** The sections of its Last-Event-ID; empty where it has none. */
  readonly sections: string;
}

/** An event out of a mailbox. */
export interface WaitingEvent {
  readonly event: string;
  /** As text. */
  readonly data: string;
  readonly json: boolean;
  readonly timestamp: number;
  /** ms since 1970; 0 for never. */
  readonly expiresAt: number;
  /** Behind the client's cursor it is this event's id. */
  readonly tag: string;
}

/** What waits for the user of one client. */
export interface Mailbox {
  /** Whether a round is due before history is read: there is no cursor, or a round was cut. */
  readonly isDue: boolean;
  /** Tag of the cursor that the client has when it is told nothing else now: within a round, and after it. */
  readonly tag: string;
  /** Topics that the client is to have; asked once, before anything else. */
  topics(): Promise<readonly string[]>;
  /** Begins a round; `isAfterLoss`: not the first, or the client has a cursor but history has not all that came after it. */
  begin(isAfterLoss: boolean): Promise<void>;
  /** The next events of the round, in order; none: it is through. */
  next(): Promise<readonly WaitingEvent[]>;
  /** True where this client must not get the live or replayed event: it has it, or does not want it. Called once for each. */
  hides(event: BusEvent): boolean;
  /** The client is live. */
  live(): void;
  /** The client is gone. */
  close(): void;
}

/** What makes mailboxes. */
export interface MailboxProvider {
  /** Tag for events that have none. */
  readonly placeTag: string;
  open(request: MailboxRequest): Mailbox;
  /**
   * An event with a tag comes by, in the order of the bus; `id`: its own. Gives the tag that goes to clients; undefined where the event came by
   * before and must not be delivered again.
   */
  passing(tag: string, id: string): string | undefined;
  /** The bus is up, for the first time or again: what other nodes asked meanwhile did not come. */
  interrupted(): void;
  /** Another node is there, for the first time or again: what this one asked meanwhile did not come to it. */
  joined(nodeId: string): void;
  /** Another node asks; what it resolves to is added up for the asker. */
  asked(text: string): number | Promise<number>;
}

/** What a provider can do with the broker that it is attached to. */
export interface MailboxHost {
  readonly nodeId: string;
  readonly clock: Clock;
  /** Whether there may be other nodes. */
  readonly isShared: boolean;
  /** True where nothing was ever published on the bus, and nobody can come back to it from before. */
  isNew(): boolean;
  /** An event that is checked like every other one, and not published. @throws {SseError} as the send methods reject */
  prepare(
    kind: AudienceKind,
    name: string,
    event: string,
    data: unknown,
    options: PublishOptions | undefined,
  ): BusEvent;
  /** Publishes what {@link prepare} or {@link restore} made, once, and starts the bus for it. Gives or resolves to the event's id. */
  publish(event: BusEvent): string | Promise<string>;
  /** An event that was checked before, out of a store. */
  restore(event: RestoredEvent): BusEvent;
  isOnline(userId: string, tenantId: string | undefined): boolean;
  /** True where a client of this node was handed everything and its socket has taken it. */
  isKeepingUp(clientId: string): boolean;
  /** Resolves when the bus delivers the topic; false where the client has it already or is gone. */
  addTopic(clientId: string, topic: string): Promise<boolean>;
  /** Takes back what {@link addTopic}, or the mailbox at the connect, gave; a topic of the application's stays. */
  removeTopic(clientId: string, topic: string): void;
  /** Hands a client what was delivered to it and waits for the end of the turn: its mailbox has seen all of that then. */
  handOver(clientId: string): void;
  /** An event for one client of this node, past the bus, without an id. */
  tell(clientId: string, event: string, data: string): void;
  /** Asks the providers of the other nodes; resolves to the sum. */
  askNodes(text: string): Promise<number>;
  /** Resolves to true when everything that was published before, by whomever, has come to this node; false where nobody can say. */
  echo(): Promise<boolean>;
  /** Tells an error that nobody waits for. */
  report(error: unknown): void;
}

export interface RestoredEvent {
  readonly kind: AudienceKind;
  readonly name: string;
  readonly tenantId: string | undefined;
  readonly event: string;
  readonly data: string;
  readonly json: boolean;
  readonly timestamp: number;
  readonly expiresAt: number;
  readonly priority: PriorityLevel;
  readonly tag: string;
}
