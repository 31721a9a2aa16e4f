/** Who is online, on all nodes: what an application asks, of one tenant or of all. */
import type { PresenceDirectory } from './presence-directory.js';

/** A user who is online. One of the same name in another tenant is another user. */
export interface OnlineUser {
  readonly userId: string;
  /** Undefined for a user without a tenant. */
  readonly tenantId: string | undefined;
}

/** A stream that a user has, on this node or another. */
export interface UserConnection extends OnlineUser {
  /** What `disconnect`, `subscribe` and `sendToClient` take, on every node. */
  readonly clientId: string;
  /** The node that it is on: `Broker.nodeId` there. */
  readonly nodeId: string;
  /** Of the identity, where it is text of at most 256 characters. */
  readonly sessionId: string | undefined;
  /** ms since 1970, by the clock of its node. */
  readonly connectedAt: number;
}

/**
 * Who is online. With a bus that nodes share this is about all of them, and behind by the time that a message takes; with
 * another it is about this process. A user is online from the first connection until the last one has been gone for
 * `presenceGrace`. No call scans: each costs what it returns.
 */
export interface ClusterPresence {
  /** True where the user has a stream, or had one within the grace period. */
  isOnline(userId: string): boolean;
  /** Users who are online, one by one: there may be many. Users who come or go meanwhile may be in it or not. */
  users(): Generator<OnlineUser, void, void>;
  /** How many users are online. */
  count(): number;
  /** The streams that a user has now; those of the grace period are gone. */
  connections(userId: string): UserConnection[];
  /** The streams that all users have now, one by one, as with {@link users}. */
  allConnections(): Generator<UserConnection, void, void>;
}

/** `tenantId` undefined: all tenants, and users without one. */
export function presenceOf(directory: PresenceDirectory, tenantId: string | undefined): ClusterPresence {
  return {
    isOnline: (userId) => directory.isOnline(userId, tenantId),
    users: () => directory.users(tenantId),
    count: () => directory.count(tenantId),
    connections: (userId) => directory.connections(userId, tenantId),
    allConnections: () => directory.allConnections(tenantId),
  };
}
