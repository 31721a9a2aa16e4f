/**
 * Who is connected, on every node that is known: what presence answers from, without a scan.
 *
 * A connection is one client with a user; a user is a userId within its tenant. A user is online from the first connection
 * until the last one has been gone for the grace period, so a page that reloads, or a client that moves to another node,
 * neither leaves nor joins. Time is monotonic; the caller says what it is.
 */
import type { OnlineUser, UserConnection } from './presence.js';

/** What a directory tells. Both are called when all is in its place. */
export interface DirectoryHost {
  /** Monotonic ms. */
  now(): number;
  joined(user: OnlineUser): void;
  left(user: OnlineUser): void;
  /** Somebody's grace period runs: `sweep` must be called until it returns false. */
  leaving(): void;
}

/** Grace periods end in steps of this many ms. */
const STEP = 100;
/** Users told as left in one sweep: a large node that dies does not hold up the process. */
const SWEEP_USERS = 5_000;

/** A user and its connections. Most have one: the first needs no Set. */
class User implements OnlineUser {
  readonly userId: string;
  readonly tenantId: string | undefined;
  #one: UserConnection | undefined = undefined;
  #many: Set<UserConnection> | undefined = undefined;
  /** The step in which it leaves; -1 while it has a connection. */
  leavesAt = -1;

  constructor(userId: string, tenantId: string | undefined) {
    this.userId = userId;
    this.tenantId = tenantId;
  }

  get size(): number {
    if (this.#many !== undefined) return this.#many.size;
    return this.#one === undefined ? 0 : 1;
  }

  add(connection: UserConnection): void {
    if (this.#many !== undefined) {
      this.#many.add(connection);
    } else if (this.#one === undefined) {
      this.#one = connection;
    } else {
      this.#many = new Set([this.#one, connection]);
      this.#one = undefined;
    }
  }

  delete(connection: UserConnection): void {
    if (this.#many !== undefined) this.#many.delete(connection);
    else if (this.#one === connection) this.#one = undefined;
  }

  pushTo(list: UserConnection[]): void {
    // Not spread: a call takes some hundred thousand arguments at most.
    if (this.#many !== undefined) for (const connection of this.#many) list.push(connection);
    else if (this.#one !== undefined) list.push(this.#one);
  }
}

/** The connections of one node, with a digest that two copies of the same connections share. */
export class NodeConnections {
  readonly byId = new Map<string, UserConnection>();
  /** Sum of the connections' hashes, 32 bits. */
  hash = 0;
  /** Some were left out, because there are more than the directory takes. */
  isTruncated = false;
}

export class PresenceDirectory {
  readonly #host: DirectoryHost;
  readonly #grace: number;
  readonly #limit: number;
  readonly #nodes = new Map<string, NodeConnections>();
  /** Users without a tenant. */
  readonly #plain = new Map<string, User>();
  readonly #tenants = new Map<string, Map<string, User>>();
  /** Users with a tenant, by name: the same name may be in several. */
  readonly #inTenants = new Map<string, Set<User>>();
  readonly #leaving = new Map<number, Set<User>>();
  #users = 0;
  #leavingUsers = 0;
  #connections = 0;

  /** `grace`: ms. `limit`: most connections of all nodes; 0 for no limit. */
  constructor(host: DirectoryHost, grace: number, limit: number) {
    this.#host = host;
    this.#grace = grace;
    this.#limit = limit;
  }

  /** Connections of all nodes. */
  get connectionCount(): number {
    return this.#connections;
  }

  /** Users that have a connection now: those in their grace period do not count. */
  get connectedUserCount(): number {
    return this.#users - this.#leavingUsers;
  }

  /** A node's connections; empty where it has none. Not to be changed, and not to be kept. */
  node(nodeId: string): NodeConnections {
    return this.#nodes.get(nodeId) ?? new NodeConnections();
  }

  /** The node that has a client, where that client has a user and the node is known. */
  nodeOf(clientId: string): string | undefined {
    for (const [nodeId, { byId }] of this.#nodes) if (byId.has(clientId)) return nodeId;
    return undefined;
  }

  /** False where it is one too many. `isSilent`: nobody is told of a user that it brings. */
  add(connection: UserConnection, isSilent = false): boolean {
    const { nodeId, clientId, userId, tenantId } = connection;
    let node = this.#nodes.get(nodeId);
    if (node === undefined) {
      node = new NodeConnections();
      this.#nodes.set(nodeId, node);
    }
    if (this.#limit > 0 && this.#connections >= this.#limit) {
      node.isTruncated = true;
      return false;
    }
    const before = node.byId.get(clientId);
    node.byId.set(clientId, connection);
    node.hash = (node.hash + hashOf(connection)) >>> 0;
    this.#connections++;
    const user = this.#userOf(userId, tenantId);
    const isNew = user.size === 0 && user.leavesAt === -1;
    user.add(connection);
    this.#stay(user);
    if (before !== undefined) this.#take(node, before);
    if (isNew && !isSilent) this.#host.joined({ userId, tenantId });
    return true;
  }

  /** True where it was there. */
  remove(nodeId: string, clientId: string): boolean {
    const node = this.#nodes.get(nodeId);
    const connection = node?.byId.get(clientId);
    if (node === undefined || connection === undefined) return false;
    node.byId.delete(clientId);
    this.#take(node, connection);
    if (node.byId.size === 0 && !node.isTruncated) this.#nodes.delete(nodeId);
    return true;
  }

  /** Forgets a node that is gone since `since`: grace periods run from then on. */
  removeNode(nodeId: string, since = this.#host.now()): void {
    const node = this.#nodes.get(nodeId);
    if (node === undefined) return;
    this.#nodes.delete(nodeId);
    for (const connection of node.byId.values()) this.#take(node, connection, since);
  }

  /** Makes a node's connections exactly `rows`; nobody who is in both leaves or joins. */
  replaceNode(nodeId: string, rows: ReadonlyMap<string, UserConnection>): void {
    const node = this.#nodes.get(nodeId);
    const before = node === undefined ? [] : [...node.byId.keys()];
    if (node !== undefined) node.isTruncated = false;
    // First who comes: a user may have exchanged one connection for another.
    for (const row of rows.values()) {
      const known = node?.byId.get(row.clientId);
      if (known === undefined || !isSame(known, row)) this.add(row);
    }
    for (const clientId of before) if (!rows.has(clientId)) this.remove(nodeId, clientId);
  }

  /** Tells who has left by now; true where more grace periods run. */
  sweep(): boolean {
    const step = Math.floor(this.#host.now() / STEP);
    const left: User[] = [];
    for (const [at, users] of this.#leaving) {
      if (at > step) continue;
      for (const user of users) {
        if (left.length === SWEEP_USERS) break;
        users.delete(user);
        left.push(user);
      }
      if (users.size === 0) this.#leaving.delete(at);
    }
    this.#leavingUsers -= left.length;
    for (const user of left) this.#forget(user);
    for (const { userId, tenantId } of left) this.#host.left({ userId, tenantId });
    return this.#leaving.size > 0;
  }

  /** `tenantId` undefined: in any tenant, or in none. */
  isOnline(userId: string, tenantId: string | undefined): boolean {
    if (tenantId !== undefined) return this.#tenants.get(tenantId)?.has(userId) === true;
    return this.#plain.has(userId) || this.#inTenants.has(userId);
  }

  /** `tenantId` undefined: of all tenants and of none. */
  count(tenantId: string | undefined): number {
    return tenantId === undefined ? this.#users : (this.#tenants.get(tenantId)?.size ?? 0);
  }

  *users(tenantId: string | undefined): Generator<OnlineUser, void, void> {
    if (tenantId !== undefined) {
      for (const user of this.#tenants.get(tenantId)?.values() ?? []) yield toldOf(user);
      return;
    }
    for (const user of this.#plain.values()) yield toldOf(user);
    for (const tenant of this.#tenants.values()) for (const user of tenant.values()) yield toldOf(user);
  }

  /** `tenantId` undefined: in all tenants and in none. */
  connections(userId: string, tenantId: string | undefined): UserConnection[] {
    const list: UserConnection[] = [];
    if (tenantId !== undefined) {
      this.#tenants.get(tenantId)?.get(userId)?.pushTo(list);
      return list;
    }
    this.#plain.get(userId)?.pushTo(list);
    for (const user of this.#inTenants.get(userId) ?? []) user.pushTo(list);
    return list;
  }

  /** `tenantId` undefined: in all tenants and in none. */
  *allConnections(tenantId: string | undefined): Generator<UserConnection, void, void> {
    for (const { byId } of this.#nodes.values()) {
      for (const connection of byId.values()) {
        if (tenantId === undefined || connection.tenantId === tenantId) yield connection;
      }
    }
  }

  /** Whether exactly this user is online: one without a tenant where `tenantId` is undefined. */
  has(userId: string, tenantId: string | undefined): boolean {
    const users = tenantId === undefined ? this.#plain : this.#tenants.get(tenantId);
    return users?.has(userId) === true;
  }

  /** Connections of exactly this user: one without a tenant where `tenantId` is undefined. */
  connectionsOf(userId: string, tenantId: string | undefined): number {
    const users = tenantId === undefined ? this.#plain : this.#tenants.get(tenantId);
    return users?.get(userId)?.size ?? 0;
  }

  #userOf(userId: string, tenantId: string | undefined): User {
    let users = this.#plain;
    if (tenantId !== undefined) {
      users = this.#tenants.get(tenantId) ?? new Map<string, User>();
      this.#tenants.set(tenantId, users);
    }
    let user = users.get(userId);
    if (user !== undefined) return user;
    user = new User(userId, tenantId);
    users.set(userId, user);
    this.#users++;
    if (tenantId !== undefined) {
      const named = this.#inTenants.get(userId);
      if (named === undefined) this.#inTenants.set(userId, new Set([user]));
      else named.add(user);
    }
    return user;
  }

  #take(node: NodeConnections, connection: UserConnection, since = this.#host.now()): void {
    node.hash = (node.hash - hashOf(connection)) >>> 0;
    this.#connections--;
    const user = this.#userOf(connection.userId, connection.tenantId);
    user.delete(connection);
    if (user.size > 0) return;
    user.leavesAt = Math.ceil((since + this.#grace) / STEP);
    const users = this.#leaving.get(user.leavesAt);
    if (users === undefined) this.#leaving.set(user.leavesAt, new Set([user]));
    else users.add(user);
    this.#leavingUsers++;
    this.#host.leaving();
  }

  /** A user whose grace period ran is back. */
  #stay(user: User): void {
    if (user.leavesAt === -1) return;
    const users = this.#leaving.get(user.leavesAt);
    users?.delete(user);
    if (users?.size === 0) this.#leaving.delete(user.leavesAt);
    user.leavesAt = -1;
    this.#leavingUsers--;
  }

  #forget(user: User): void {
    const { userId, tenantId } = user;
    this.#users--;
    if (tenantId === undefined) {
      this.#plain.delete(userId);
      return;
    }
    const users = this.#tenants.get(tenantId);
    users?.delete(userId);
    if (users?.size === 0) this.#tenants.delete(tenantId);
    const named = this.#inTenants.get(userId);
    named?.delete(user);
    if (named?.size === 0) this.#inTenants.delete(userId);
  }
}

const toldOf = ({ userId, tenantId }: User): OnlineUser => ({ userId, tenantId });

function isSame(one: UserConnection, other: UserConnection): boolean {
  return (
    one.userId === other.userId &&
    one.tenantId === other.tenantId &&
    one.connectedAt === other.connectedAt &&
    one.sessionId === other.sessionId
  );
}

/** 32 bits of FNV-1a over what makes a connection: enough to notice that two copies differ. */
export function hashOf({ clientId, userId, tenantId = '' }: UserConnection): number {
  let hash = 0x811c9dc5;
  for (const text of [clientId, userId, tenantId]) {
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
    // Between two names, so that their border counts.
    hash = Math.imul(hash ^ 0xffff, 0x01000193);
  }
  return hash >>> 0;
}
