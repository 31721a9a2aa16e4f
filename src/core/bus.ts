/**
 * CONTRACT: carries events between nodes, puts them in one order, and may keep history.
 *
 * Obligations of a bus:
 * - **Order.** All events of a namespace have one total order. `deliver` is called in that order, once per event, for
 *   every channel key this node has joined, the publisher's own events included. (Events of other keys may be
 *   delivered too: the broker looks each up. A bus that crosses a network should not.)
 * - **Publish** gives the event its place, stores it where history is on, and returns its id, or a promise of it. It
 *   throws or rejects with a retryable `SSE_ERR_BUS_UNAVAILABLE` when the carrier is down. A bus may deliver before
 *   `publish` returns; a bus in the same process does, synchronously.
 * - **Join** returns when every later event of the key will be delivered. **Leave** is a hint.
 * - **Ids** match `[A-Za-z0-9._~-]{1,128}`; `~` and what follows is the broker's own, so a bus makes none with it. They are
 *   opaque to everyone else; a broker hands them back to `read`.
 * - **Read** serves history for several keys as one ordered list, says whether more follows and whether something after
 *   the cursor is missing: exactly then when an event of those keys was dropped, or nobody can know. An event past its ttl
 *   is missed by nobody; a bus that cannot tell those it dropped from others tells a loss.
 * - **Loss.** A bus that notices a loss and cannot repair it calls `lost` before it delivers anything later, with the `head`
 *   after which nothing is missing where it knows it. Without one the broker asks `head()`; where that takes time, clients
 *   are told the gap all the same, but keep the cursor they have.
 * - **Epochs.** Where history was lost, or replaced by another, `lost` tells `epoch` for all keys, with a head whose `epoch` is
 *   that of the new history; all that is delivered after it is of that one. `head` and `read` answer with a head of another
 *   epoch only after `lost` has told of it: a node may find out by such a question, and then tells first, and answers then.
 *   Who was served out of an epoch that its node tells late is told no gap by that, and nothing twice.
 * - **Live-only keys.** Keys that start with `c:` (one client) and `n:` (messages between brokers) are carried like all
 *   others, in the same order, but never stored, never read back, and never a loss: see `isLiveOnly` in topic.ts. A broker
 *   holds what was sent to one client itself, and repairs what its messages to other brokers say.
 * - **Nodes.** A bus that other nodes may publish on says so by `isShared`; only there do brokers talk to each other.
 * - **Close** may be called twice. After it nothing is delivered. What the caller made (a Redis client) stays open.
 */
import type { BusEvent, OutgoingEvent } from './event.js';

/** Why history could not be served completely. */
export type LossReason =
  /** History no longer reaches back that far. */
  | 'evicted'
  /** The bus lost its history since: another epoch. */
  | 'epoch'
  /** Not an id of this bus. */
  | 'unknown'
  /** The bus keeps no history, and something was published since. */
  | 'disabled';

/** What {@link Bus.read} is asked. */
export interface ReadRequest {
  /** The channel keys of one client. */
  readonly keys: readonly string[];
  /** The id after which to read; any string, also one that no bus made. */
  readonly after: string;
  /** Most events to return now. */
  readonly limit: number;
  /** Most events to serve in all: where more follow, only the newest `max`, with `loss: 'evicted'`. 0 for no limit. */
  readonly max: number;
}

/** The newest event of a namespace: the cursor of somebody who has everything. */
export interface Head {
  readonly id: string;
  readonly sequence: number;
  /**
   * The history to which `sequence` belongs: any text, another one for every history. Sequences are compared within one
   * only. A bus that never tells a loss by `epoch` may leave it out.
   */
  readonly epoch?: string | undefined;
}

/** What {@link Bus.read} answers. */
export interface ReadResult {
  /** In order, all after the cursor. */
  readonly events: readonly BusEvent[];
  /** True where more follow the last of `events`: read again after its id. */
  readonly more: boolean;
  /** Where the namespace was at the time of reading. */
  readonly head: Head;
  /** Present where something after the cursor cannot be served. */
  readonly loss?: LossReason;
  /** With `loss`: nothing is missing after this id. */
  readonly completeAfter?: string;
}

/** Losing the bus is a state, not an end. */
export interface BusStatus {
  readonly state: 'up' | 'down';
  /** Why it is down. */
  readonly reason?: string;
  /** What the implementation counts, for operators. */
  readonly details?: Readonly<Record<string, number>>;
}

/** What {@link BusReceiver.lost} is told. */
export interface Loss {
  readonly reason: LossReason;
  /** The channel keys that lost something; all where absent. */
  readonly keys?: readonly string[] | undefined;
  /** Nothing is missing after this. Absent where the bus would have to ask. */
  readonly head?: Head | undefined;
}

/** What a bus calls: the broker. */
export interface BusReceiver {
  /** The next event in order. */
  deliver(event: BusEvent): void;
  /** Events were lost and cannot be read any more. */
  lost(loss: Loss): void;
  /** The state changed. */
  status(status: BusStatus): void;
  /** Something failed that no caller waits for. */
  error(error: unknown): void;
}

/** Carries events between nodes and orders them. See the head of this file for its obligations. */
export interface Bus {
  /** `memory`, `redis`, …; for people. */
  readonly name: string;
  /** True where other nodes may publish and listen on the same namespace. Default false. */
  readonly isShared?: boolean;
  /**
   * Called by the broker before anything else; again after it threw or rejected, where the receiver may be another object;
   * never after it succeeded.
   */
  start(receiver: BusReceiver): void | Promise<void>;
  /** Gives the event its place. The object is the bus' own from here on: it may complete and deliver it as it is. */
  publish(event: OutgoingEvent): string | Promise<string>;
  join(key: string): void | Promise<void>;
  leave(key: string): void;
  head(): Head | Promise<Head>;
  read(request: ReadRequest): ReadResult | Promise<ReadResult>;
  status(): BusStatus;
  close(): void | Promise<void>;
}

/** What an event id may look like; anything else that comes in as Last-Event-ID is not an id of ours. */
export const EVENT_ID = /^[A-Za-z0-9._~-]{1,128}$/;

/** What a tag may look like: see `tag` of an event. */
export const EVENT_TAG = /^~[A-Za-z0-9._~-]{1,127}$/;
