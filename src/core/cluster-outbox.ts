/**
 * What this node tells the others of its connections: changes in numbered batches, and all of them when somebody asks.
 *
 * Changes of some milliseconds make one message, and while one is under way the next grows. A message that the bus did not
 * take is not repeated: its number is missing, which the others see at the next one, and then they ask for everything. So
 * nothing here grows while a bus is down.
 */
import type { Clock } from './clock.js';
import { type ClusterMessage, inParts, type NodeFigures } from './cluster-message.js';
import type { UserConnection } from './presence.js';
import { hashOf, type PresenceDirectory } from './presence-directory.js';

/** How this node speaks. */
export interface Speaker {
  readonly nodeId: string;
  readonly clock: Clock;
  readonly directory: PresenceDirectory;
  figures(): NodeFigures;
  /** To one node, or to all where `nodeId` is empty; resolves to false where the bus did not take it. Never rejects. */
  send(nodeId: string, message: ClusterMessage): Promise<boolean>;
}

/** Changes are collected for this many ms. */
const BATCH_MS = 20;
/** Requests for everything are collected for this many ms: those of several nodes are answered at once. */
const REQUEST_MS = 50;
/** Most changes that wait; beyond them the others are left to ask for everything. */
const MAX_PENDING = 10_000;
/** Most ids of ended connections in one message. */
const REMOVED_IDS = 500;

export class Outbox {
  readonly #speaker: Speaker;
  /** ms after which a snapshot that does not get on is given up. */
  readonly #patience: number;
  readonly #pending = new Map<string, { readonly connection: UserConnection; readonly isAdded: boolean }>();
  readonly #requesters = new Set<string>();
  /** Number of the last delta, and what the connections come to after it. */
  #revision = 0;
  #count = 0;
  #hash = 0;
  #inFlight = 0;
  #stopBatch: (() => void) | undefined = undefined;
  #stopRequests: (() => void) | undefined = undefined;
  /** The snapshot that is being sent; another number means that it was given up. */
  #snapshot = 0;
  #isSnapshotting = false;
  #progressAt = 0;
  #isClosed = false;

  constructor(speaker: Speaker, patience: number) {
    this.#speaker = speaker;
    this.#patience = patience;
  }

  get digest(): { readonly revision: number; readonly count: number; readonly hash: number } {
    return { revision: this.#revision, count: this.#count, hash: this.#hash };
  }

  /** A connection of this node came or went; the directory knows already. */
  changed(connection: UserConnection, isAdded: boolean): void {
    if (this.#isClosed) return;
    const { clientId } = connection;
    const before = this.#pending.get(clientId);
    if (before === undefined) this.#pending.set(clientId, { connection, isAdded });
    else if (before.isAdded && !isAdded) this.#pending.delete(clientId);
    // A client id that is used again: nobody tells such a thing in a delta.
    else this.#skip();
    if (this.#pending.size > MAX_PENDING) this.#skip();
    if (this.#inFlight === 0) this.#schedule();
  }

  /** Sends what is pending now; for who is about to say how things stand. */
  flush(): void {
    this.#stopBatch?.();
    this.#stopBatch = undefined;
    if (this.#pending.size === 0) return;
    const added: UserConnection[] = [];
    const removed: UserConnection[] = [];
    for (const { connection, isAdded } of this.#pending.values()) (isAdded ? added : removed).push(connection);
    this.#pending.clear();
    for (const part of inParts(added)) this.#tell(part, []);
    for (let i = 0; i < removed.length; i += REMOVED_IDS) this.#tell([], removed.slice(i, i + REMOVED_IDS));
  }

  /** A node wants to know all. */
  request(nodeId: string): void {
    if (this.#isClosed) return;
    this.#requesters.add(nodeId);
    const isStuck = this.#speaker.clock.monotonic() - this.#progressAt > this.#patience;
    if (this.#isSnapshotting && !isStuck) return;
    this.#stopRequests ??= this.#speaker.clock.every(REQUEST_MS, () => this.#answerRequests());
  }

  close(): void {
    this.#isClosed = true;
    this.#snapshot++;
    this.#pending.clear();
    this.#stopBatch?.();
    this.#stopBatch = undefined;
    this.#stopRequests?.();
    this.#stopRequests = undefined;
  }

  #schedule(): void {
    if (this.#pending.size === 0 || this.#isClosed) return;
    this.#stopBatch ??= this.#speaker.clock.every(BATCH_MS, () => this.flush());
  }

  #tell(added: readonly UserConnection[], removed: readonly UserConnection[]): void {
    this.#revision++;
    this.#count += added.length - removed.length;
    for (const connection of added) this.#hash = (this.#hash + hashOf(connection)) >>> 0;
    for (const connection of removed) this.#hash = (this.#hash - hashOf(connection)) >>> 0;
    this.#inFlight++;
    this.#speaker
      .send('', {
        kind: 'delta',
        from: this.#speaker.nodeId,
        revision: this.#revision,
        figures: this.#speaker.figures(),
        added,
        removed: removed.map(({ clientId }) => clientId),
      })
      .then(() => {
        if (--this.#inFlight === 0) this.#schedule();
      });
  }

  /** What is pending is not told: the number that is left out makes the others ask. */
  #skip(): void {
    this.#pending.clear();
    this.#revision++;
    const { byId, hash } = this.#speaker.directory.node(this.#speaker.nodeId);
    this.#count = byId.size;
    this.#hash = hash;
  }

  #answerRequests(): void {
    this.#stopRequests?.();
    this.#stopRequests = undefined;
    const requesters = [...this.#requesters];
    this.#requesters.clear();
    const to = requesters.length === 1 ? requesters[0]! : '';
    const run = ++this.#snapshot;
    this.#isSnapshotting = true;
    this.#sendSnapshot(to, run).then(() => {
      if (run !== this.#snapshot) return;
      this.#isSnapshotting = false;
      for (const nodeId of this.#requesters) this.request(nodeId);
    });
  }

  async #sendSnapshot(to: string, run: number): Promise<void> {
    const { nodeId: from, directory, clock, send } = this.#speaker;
    this.flush();
    const revision = this.#revision;
    const parts = [...inParts([...directory.node(from).byId.values()])];
    const count = Math.max(1, parts.length);
    for (let part = 0; part < count; part++) {
      this.#progressAt = clock.monotonic();
      const isLast = part === count - 1;
      const isSent = await send(to, { kind: 'snapshot', from, revision, part, isLast, rows: parts[part] ?? [] });
      // Who asked asks again.
      if (!isSent || run !== this.#snapshot) return;
    }
  }
}
