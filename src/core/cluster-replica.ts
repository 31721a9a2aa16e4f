/**
 * This node's copy of another node's connections, kept right by numbered deltas.
 *
 * Every beat carries the number of the last delta and a digest. Where one does not fit, something was lost on the way, and
 * everything is asked for; the copy of before stays until all parts are here, and deltas that come meanwhile are kept and
 * applied after it. Whatever is lost, doubled or late, the next beat that fits ends it.
 */
import type { Beat, Delta, SnapshotPart } from './cluster-message.js';
import type { Speaker } from './cluster-outbox.js';
import type { UserConnection } from './presence.js';

/** Most changes kept while everything is on its way; beyond them it is asked for once more. */
const MAX_KEPT = 20_000;

export class Replica {
  /** True where the copy is that of the last delta. */
  isSynced = false;
  readonly #nodeId: string;
  readonly #speaker: Speaker;
  /** Most connections of a node; 0 for no limit. */
  readonly #limit: number;
  /** ms without a part after which everything is asked for again. */
  readonly #patience: number;
  #revision = 0;
  #isAsking = false;
  #progressAt = 0;
  #rows: Map<string, UserConnection> | undefined = undefined;
  #rowsRevision = 0;
  #nextPart = 0;
  #kept: Delta[] = [];
  #keptChanges = 0;

  constructor(nodeId: string, speaker: Speaker, limit: number, patience: number) {
    this.#nodeId = nodeId;
    this.#speaker = speaker;
    this.#limit = limit;
    this.#patience = patience;
  }

  beat({ revision, count, hash }: Beat): void {
    const { directory } = this.#speaker;
    if (!this.isSynced && revision === 0 && count === 0) {
      directory.replaceNode(this.#nodeId, new Map());
      this.#revision = 0;
      this.isSynced = true;
      return;
    }
    if (this.isSynced && revision === this.#revision) {
      const copy = directory.node(this.#nodeId);
      // A copy that was cut short cannot be compared.
      if (copy.isTruncated || (copy.byId.size === count && copy.hash === hash)) return;
    }
    this.isSynced = false;
    this.#ask();
  }

  delta(delta: Delta): void {
    if (this.isSynced && delta.revision <= this.#revision) return;
    if (this.isSynced && delta.revision === this.#revision + 1) {
      this.#apply(delta);
      return;
    }
    this.isSynced = false;
    this.#ask();
    this.#keptChanges += delta.added.length + delta.removed.length + 1;
    if (this.#keptChanges <= MAX_KEPT) this.#kept.push(delta);
    else this.#giveUp();
  }

  part({ revision, part, isLast, rows }: SnapshotPart): void {
    if (!this.#isAsking) return;
    if (part === 0) {
      this.#rows = new Map();
      this.#rowsRevision = revision;
      this.#nextPart = 0;
    }
    // One of another snapshot, or one that follows a lost one.
    if (this.#rows === undefined || part !== this.#nextPart || revision !== this.#rowsRevision) return;
    this.#nextPart++;
    this.#progressAt = this.#speaker.clock.monotonic();
    for (const row of rows) {
      if (this.#limit === 0 || this.#rows.size <= this.#limit) this.#rows.set(row.clientId, row);
    }
    if (isLast) this.#finish(this.#rows);
  }

  #finish(rows: ReadonlyMap<string, UserConnection>): void {
    const kept = this.#kept;
    this.#giveUp();
    this.#speaker.directory.replaceNode(this.#nodeId, rows);
    this.#revision = this.#rowsRevision;
    this.isSynced = true;
    for (const delta of kept) this.delta(delta);
  }

  #apply({ revision, added, removed }: Delta): void {
    const { directory } = this.#speaker;
    this.#revision = revision;
    for (const connection of added) directory.add(connection);
    for (const clientId of removed) directory.remove(this.#nodeId, clientId);
  }

  #ask(): void {
    const now = this.#speaker.clock.monotonic();
    if (this.#isAsking && now - this.#progressAt < this.#patience) return;
    this.#giveUp();
    this.#isAsking = true;
    this.#progressAt = now;
    void this.#speaker.send(this.#nodeId, { kind: 'sync', from: this.#speaker.nodeId });
  }

  #giveUp(): void {
    this.#isAsking = false;
    this.#rows = undefined;
    this.#kept = [];
    this.#keptChanges = 0;
  }
}
