/**
 * What brokers say to each other, as text: the only place that knows its form.
 *
 * Whatever comes in is looked at field by field, because the carrier may be shared with others; names keep to the rules of
 * topic.ts, and a message is bounded in size, so a node never holds more than the connections that nodes have. A node that
 * speaks another version is not understood, and that is told.
 */
import type { UserConnection } from './presence.js';
import { nameProblem } from './topic.js';

/** Goes up when an older node could not understand what a newer one says. */
const VERSION = 1;

/** Longest message, in UTF-16 units: half of what NATS takes by default. */
export const MAX_MESSAGE_LENGTH = 512 * 1024;
/** Most text of connections in one message, in UTF-16 units, and most of them. */
const ROWS_LENGTH = 64 * 1024;
const ROWS = 500;

/** What a node has. */
export interface NodeFigures {
  readonly clients: number;
  readonly users: number;
  readonly topics: number;
}

/** "I am here": every third of a lease, and after joining. */
export interface Beat {
  readonly kind: 'beat';
  readonly from: string;
  /** For people; empty where it has none. */
  readonly name: string;
  readonly figures: NodeFigures;
  /** Number of the last delta: who has another missed something. */
  readonly revision: number;
  /** Connections after that delta, and the sum of their hashes. */
  readonly count: number;
  readonly hash: number;
  /** Asks the others for their beat. */
  readonly isNew: boolean;
}

/** "I go": its connections end. */
export interface Bye {
  readonly kind: 'bye';
  readonly from: string;
}

/** Connections that came and went. */
export interface Delta {
  readonly kind: 'delta';
  readonly from: string;
  /** One more than that of the delta before. */
  readonly revision: number;
  readonly figures: NodeFigures;
  readonly added: readonly UserConnection[];
  readonly removed: readonly string[];
}

/** "Tell me all your connections." */
export interface SyncRequest {
  readonly kind: 'sync';
  readonly from: string;
}

/** All connections as of a delta, in parts. */
export interface SnapshotPart {
  readonly kind: 'snapshot';
  readonly from: string;
  readonly revision: number;
  /** From 0. */
  readonly part: number;
  readonly isLast: boolean;
  readonly rows: readonly UserConnection[];
}

/** What can be asked of the node that has a client. */
export type ClusterCall =
  | { readonly call: 'has'; readonly clientId: string; readonly tenantId: string | undefined }
  | { readonly call: 'disconnect'; readonly clientId: string; readonly reason: string | undefined }
  | { readonly call: 'subscribe' | 'unsubscribe'; readonly clientId: string; readonly topic: string }
  | {
      readonly call: 'disconnectUser';
      readonly userId: string;
      readonly tenantId: string | undefined;
      readonly reason: string | undefined;
    }
  /** Of all nodes: what their inboxes tell each other. */
  | { readonly call: 'mailboxes'; readonly text: string };

/** What every node is asked, and answers with a count. */
export function isForAll({ call }: ClusterCall): boolean {
  return call === 'disconnectUser' || call === 'mailboxes';
}

export interface Ask {
  readonly kind: 'ask';
  readonly from: string;
  readonly id: number;
  readonly request: ClusterCall;
}

export interface Answer {
  readonly kind: 'answer';
  readonly from: string;
  /** That of the question. */
  readonly id: number;
  /** Undefined: this node has no such client. */
  readonly value: boolean | number | undefined;
  readonly error: { readonly code: string; readonly message: string } | undefined;
}

/** To itself: when it comes back, so has everything that was published before. */
export interface Echo {
  readonly kind: 'echo';
  readonly from: string;
  readonly id: number;
}

export type ClusterMessage = Beat | Bye | Delta | SyncRequest | SnapshotPart | Ask | Answer | Echo;

type Row = [clientId: string, userId: string, tenantId: string | 0, connectedAt: number, sessionId: string | 0];

export function encodeMessage(message: ClusterMessage): string {
  switch (message.kind) {
    case 'delta':
      return JSON.stringify({ v: VERSION, ...message, added: message.added.map(rowOf) });
    case 'snapshot':
      return JSON.stringify({ v: VERSION, ...message, rows: message.rows.map(rowOf) });
    default:
      return JSON.stringify({ v: VERSION, ...message });
  }
}

/** @throws {TypeError} with what is wrong, for operators. */
export function decodeMessage(text: string): ClusterMessage {
  if (text.length > MAX_MESSAGE_LENGTH) throw new TypeError(`it has ${text.length} characters`);
  const given: unknown = JSON.parse(text);
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw new TypeError('it is no object');
  const fields = given as Record<string, unknown>;
  if (fields.v !== VERSION) throw new TypeError(`it is of version ${String(fields.v)}, this node speaks ${VERSION}`);
  const from = nameIn(fields.from, 'from');
  switch (fields.kind) {
    case 'beat': {
      const { name = '', isNew } = fields;
      if (name !== '') nameIn(name, 'name');
      return {
        kind: 'beat',
        from,
        name: name as string,
        figures: figuresIn(fields.figures),
        revision: countIn(fields.revision, 'revision'),
        count: countIn(fields.count, 'count'),
        hash: countIn(fields.hash, 'hash'),
        isNew: isNew === true,
      };
    }
    case 'bye':
    case 'sync':
      return { kind: fields.kind, from };
    case 'delta':
      return {
        kind: 'delta',
        from,
        revision: countIn(fields.revision, 'revision'),
        figures: figuresIn(fields.figures),
        added: rowsIn(fields.added, from),
        removed: arrayIn(fields.removed, 'removed').map((clientId) => nameIn(clientId, 'removed')),
      };
    case 'snapshot':
      return {
        kind: 'snapshot',
        from,
        revision: countIn(fields.revision, 'revision'),
        part: countIn(fields.part, 'part'),
        isLast: fields.isLast === true,
        rows: rowsIn(fields.rows, from),
      };
    case 'echo':
      return { kind: 'echo', from, id: countIn(fields.id, 'id') };
    case 'ask':
      return { kind: 'ask', from, id: countIn(fields.id, 'id'), request: requestIn(fields.request) };
    case 'answer':
      return {
        kind: 'answer',
        from,
        id: countIn(fields.id, 'id'),
        value: valueIn(fields.value),
        error: errorIn(fields.error),
      };
    default:
      throw new TypeError('its kind is unknown');
  }
}

/** Cuts connections into what one message may carry. */
export function* inParts(connections: readonly UserConnection[]): Generator<readonly UserConnection[], void, void> {
  let part: UserConnection[] = [];
  let length = 0;
  for (const connection of connections) {
    const { clientId, userId, tenantId = '', sessionId = '' } = connection;
    part.push(connection);
    // Escaped characters take up to six.
    length += 6 * (clientId.length + userId.length + tenantId.length + sessionId.length) + 40;
    if (part.length < ROWS && length < ROWS_LENGTH * 6) continue;
    yield part;
    part = [];
    length = 0;
  }
  if (part.length > 0) yield part;
}

function rowOf({ clientId, userId, tenantId, connectedAt, sessionId }: UserConnection): Row {
  return [clientId, userId, tenantId ?? 0, connectedAt, sessionId ?? 0];
}

function rowsIn(value: unknown, nodeId: string): UserConnection[] {
  return arrayIn(value, 'rows').map((row) => {
    const [clientId, userId, tenantId, connectedAt, sessionId] = arrayIn(row, 'row');
    return {
      clientId: nameIn(clientId, 'clientId'),
      nodeId,
      userId: nameIn(userId, 'userId'),
      tenantId: tenantId === 0 ? undefined : nameIn(tenantId, 'tenantId'),
      sessionId: sessionId === 0 ? undefined : sessionIn(sessionId),
      connectedAt: timeIn(connectedAt),
    };
  });
}

function requestIn(value: unknown): ClusterCall {
  if (typeof value !== 'object' || value === null) throw new TypeError('it asks nothing');
  const { call, clientId, userId, tenantId, reason, topic, text } = value as Record<string, unknown>;
  const inTenant = tenantId === undefined ? undefined : nameIn(tenantId, 'tenantId');
  const why = reason === undefined ? undefined : textIn(reason, 'reason');
  switch (call) {
    case 'has':
      return { call, clientId: nameIn(clientId, 'clientId'), tenantId: inTenant };
    case 'disconnect':
      return { call, clientId: nameIn(clientId, 'clientId'), reason: why };
    case 'disconnectUser':
      return { call, userId: nameIn(userId, 'userId'), tenantId: inTenant, reason: why };
    case 'subscribe':
    case 'unsubscribe':
      return { call, clientId: nameIn(clientId, 'clientId'), topic: nameIn(topic, 'topic') };
    case 'mailboxes':
      return { call, text: textIn(text, 'text') };
    default:
      throw new TypeError('what it asks is unknown');
  }
}

function figuresIn(value: unknown): NodeFigures {
  const { clients, users, topics } = (value ?? {}) as Record<string, unknown>;
  return { clients: countIn(clients, 'clients'), users: countIn(users, 'users'), topics: countIn(topics, 'topics') };
}

function nameIn(value: unknown, field: string): string {
  const problem = nameProblem(value);
  if (problem !== undefined) throw new TypeError(`${field} ${problem}`);
  return value as string;
}

function textIn(value: unknown, field: string): string {
  if (typeof value !== 'string') throw new TypeError(`${field} must be text`);
  return value;
}

/** Longest session id that is passed on, in UTF-16 units. */
export const MAX_SESSION_LENGTH = 256;

function sessionIn(value: unknown): string {
  const text = textIn(value, 'sessionId');
  if (text.length > MAX_SESSION_LENGTH) throw new TypeError('sessionId is too long');
  return text;
}

function countIn(value: unknown, field: string): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw new TypeError(`${field} must be a count`);
  return value as number;
}

function timeIn(value: unknown): number {
  if (!Number.isFinite(value)) throw new TypeError('connectedAt must be a time');
  return value as number;
}

function arrayIn(value: unknown, field: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new TypeError(`${field} must be an array`);
  return value;
}

function valueIn(value: unknown): boolean | number | undefined {
  return typeof value === 'boolean' ? value : value === undefined ? undefined : countIn(value, 'value');
}

function errorIn(value: unknown): Answer['error'] {
  if (value === undefined) return undefined;
  const { code, message } = (value ?? {}) as Record<string, unknown>;
  return { code: textIn(code, 'code'), message: textIn(message, 'message') };
}
