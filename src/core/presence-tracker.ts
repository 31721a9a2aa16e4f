/**
 * Keeps the directory of who is online in step with the clients of this node, and tells who joined and left.
 *
 * Without other nodes there is one only where somebody asks for presence or listens for it; its timer runs only while
 * somebody's grace period does.
 */
import type { Client } from './client.js';
import type { Clock } from './clock.js';
import { MAX_SESSION_LENGTH } from './cluster-message.js';
import type { ResolvedOptions } from './options.js';
import type { OnlineUser, UserConnection } from './presence.js';
import { PresenceDirectory } from './presence-directory.js';

/** What a tracker tells. */
export interface TrackerHost {
  readonly nodeId: string;
  readonly clock: Clock;
  readonly options: Pick<ResolvedOptions, 'presenceGrace' | 'maxPresence'>;
  joined(user: OnlineUser): void;
  left(user: OnlineUser): void;
  /** A connection of this node came or went. */
  changed(connection: UserConnection, isAdded: boolean): void;
}

/** Ms between two looks at whose grace period is over. */
const SWEEP_EVERY = 100;

export class PresenceTracker {
  readonly directory: PresenceDirectory;
  readonly #host: TrackerHost;
  #stopSweeps: (() => void) | undefined = undefined;
  #isClosed = false;

  constructor(host: TrackerHost) {
    this.#host = host;
    const { presenceGrace, maxPresence } = host.options;
    this.directory = new PresenceDirectory(
      {
        now: () => host.clock.monotonic(),
        joined: (user) => host.joined(user),
        left: (user) => host.left(user),
        leaving: () => this.#startSweeps(),
      },
      presenceGrace,
      maxPresence,
    );
  }

  /** A client of this node has its stream. `isSilent`: it was here before anybody asked. */
  arrived({ id, identity, connectedAt }: Client, isSilent = false): void {
    const { userId, tenantId, sessionId } = identity;
    if (userId === undefined) return;
    const isShort = typeof sessionId === 'string' && sessionId.length <= MAX_SESSION_LENGTH;
    const connection: UserConnection = {
      clientId: id,
      nodeId: this.#host.nodeId,
      userId,
      tenantId,
      sessionId: isShort ? sessionId : undefined,
      connectedAt,
    };
    const isNew = !isSilent && !this.directory.has(userId, tenantId);
    if (!this.directory.add(connection, true)) return;
    this.#host.changed(connection, true);
    // Last: a listener may end the stream at once.
    if (isNew) this.#host.joined({ userId, tenantId });
  }

  /** Its stream is over. */
  gone({ id }: Client): void {
    // The identity is not asked: it is the application's object, and may say something else by now.
    const connection = this.directory.node(this.#host.nodeId).byId.get(id);
    if (connection === undefined) return;
    this.directory.remove(this.#host.nodeId, id);
    this.#host.changed(connection, false);
  }

  close(): void {
    this.#isClosed = true;
    this.#stopSweeps?.();
    this.#stopSweeps = undefined;
  }

  #startSweeps(): void {
    if (this.#isClosed) return;
    this.#stopSweeps ??= this.#host.clock.every(SWEEP_EVERY, () => this.#sweep());
  }

  #sweep(): void {
    if (this.directory.sweep()) return;
    this.#stopSweeps?.();
    this.#stopSweeps = undefined;
  }
}
