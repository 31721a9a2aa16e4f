/**
 * Nodes, and what goes out by another than the one that stored it. A message that `relay` gives out gets a row in the relay
 * table until it is published: the position up to which a node has published says nothing about those.
 */
import { appendMessages, type Context } from './sql-append.js';
import { ENVELOPE, newMessageOf } from './sql-message.js';
import { SEQUENCE_ROW } from './sql-schema.js';
import { messagesAt } from './sql-unread.js';
import {
  change,
  chunks,
  fromStored,
  LIST_LIMIT,
  list,
  numberOf,
  type Statement,
  select,
  toStored,
  type Work,
} from './sql-work.js';
import type { InboxStore, StoredMessage } from './store.js';

type RelayRequest = Parameters<InboxStore['relay']>[0];

/**
 * How long a dead node with nothing to publish is remembered, in ms: one that only slept may append before it renews, and
 * that must go out.
 */
const REMEMBERED_MS = 24 * 60 * 60_000;

export function* renewNode({ dialect, t }: Context, node: string, through: number, leaseUntil: number): Work<void> {
  const name = toStored(node);
  yield* change(
    `INSERT INTO ${t.node} (node, lease_until, published_through) VALUES (?, ?, ?)` +
      dialect.upsert(
        t.node,
        ['node'],
        [
          { column: 'lease_until', how: 'set' },
          { column: 'published_through', how: 'max' },
        ],
      ),
    name,
    leaseUntil,
    through,
  );
  if (leaseUntil === 0 && !(yield* hasUnpublished({ dialect, t }, name))) {
    yield* change(`DELETE FROM ${t.node} WHERE node = ?`, name);
  }
}

function* hasUnpublished(context: Context, name: string): Work<boolean> {
  const sql = `SELECT node.node FROM ${context.t.node} node WHERE node.node = ?`;
  const found = yield* select(`${sql} AND (${hasClaims(context)} OR ${isBehind(context)})`, name);
  return found.length > 0;
}

/** Whether a `node` has stored what it has not published: a look at its newest, for nothing else is found in one step by all. */
const isBehind = ({ dialect, t }: Context): string =>
  `(SELECT m.position FROM ${t.message} m${dialect.byIndex(`${t.message}_node`)} WHERE ${dialect.is('m.node', 'node.node')}` +
  ' ORDER BY m.node DESC, m.position DESC LIMIT 1) > node.published_through';

/** Whether a `node` was given what it has not published. */
const hasClaims = ({ t }: Context): string =>
  `(SELECT r.position FROM ${t.relay} r WHERE r.node = node.node ORDER BY r.position LIMIT 1) IS NOT NULL`;

/**
 * Nodes whose lease is over, and of which something is left to do. All in one statement: where processes crash again and again,
 * there are thousands of which nothing is.
 */
function deadNodes(context: Context, { node, now }: RelayRequest): Statement {
  const sql =
    `SELECT node.node, node.lease_until, node.published_through FROM ${context.t.node} node` +
    ' WHERE node.lease_until <= ? AND node.node <> ?' +
    ` AND (node.lease_until < ? OR ${hasClaims(context)} OR ${isBehind(context)}) ORDER BY node.node`;
  return { sql, parameters: [now, toStored(node), now - REMEMBERED_MS] };
}

/** See the contract. One look into an index per node, and a second for those that have not published everything. */
export function* firstUnpublished(context: Context, node: string): Work<number> {
  const { t } = context;
  const name = toStored(node);
  const [claimed] = yield* select(`SELECT MIN(position) AS position FROM ${t.relay} WHERE node <> ?`, name);
  let first = numberOf(claimed?.position);
  const sql = `SELECT node.node, node.published_through FROM ${t.node} node WHERE node.node <> ? AND ${isBehind(context)}`;
  for (const row of yield* select(sql, name)) {
    const [position = 0] = yield* ownAfter(context, toStored(fromStored(row.node)), numberOf(row.published_through), 1);
    if (position > 0 && (first === 0 || position < first)) first = position;
  }
  return first;
}

/** What a node has stored above a position; `name`: as it is stored. */
function* ownAfter({ dialect, t }: Context, name: string, position: number, limit: number): Work<number[]> {
  // Twice: see `is` of the dialect. With a value no planner minds it.
  const sql =
    `SELECT position FROM ${t.message}${dialect.byIndex(`${t.message}_node`)}` +
    ' WHERE node IN (?, ?) AND position > ? ORDER BY node, position LIMIT ?';
  return (yield* select(sql, name, name, position, limit)).map((row) => numberOf(row.position));
}

/** Whether {@link relay} would find anything: asked often, and without a lock. */
export function* hasWork(context: Context, request: RelayRequest): Work<boolean> {
  if (request.again && (yield* claimedBy(context, toStored(request.node), 1)).length > 0) return true;
  if ((yield* select(`SELECT id FROM ${context.t.outbox} WHERE id > 0 ORDER BY id LIMIT 1`)).length > 0) return true;
  return (yield deadNodes(context, request)).rows.length > 0;
}

export function* relay(context: Context, request: RelayRequest): Work<StoredMessage[]> {
  const { dialect, t } = context;
  const { node, limit, now, again } = request;
  const name = toStored(node);
  // One at a time: what is taken here is nobody else's.
  yield* select(`SELECT value FROM ${t.sequence} WHERE id = ${SEQUENCE_ROW}${dialect.forUpdate}`);
  const dead = (yield deadNodes(context, request)).rows;
  const taken: number[] = again ? yield* claimedBy(context, name, limit) : [];
  for (const row of dead) {
    if (taken.length >= limit) break;
    const other = toStored(fromStored(row.node));
    const claimed = yield* claimedBy(context, other, limit - taken.length);
    for (const part of chunks(claimed, LIST_LIMIT)) {
      const some = list(part);
      yield* change(`UPDATE ${t.relay} SET node = ? WHERE position IN ${some.sql}`, name, ...some.parameters);
    }
    taken.push(...claimed);
    const rest = limit - taken.length;
    const positions = yield* ownAfter(context, other, numberOf(row.published_through), rest);
    yield* claim(context, name, positions);
    taken.push(...positions);
    if (positions.length > 0) {
      yield* change(`UPDATE ${t.node} SET published_through = ? WHERE node = ?`, positions.at(-1), other);
    }
    const leaseUntil = numberOf(row.lease_until);
    if (positions.length < rest && (leaseUntil === 0 || leaseUntil < now - REMEMBERED_MS)) {
      yield* change(`DELETE FROM ${t.node} WHERE node = ?`, other);
    }
  }
  if (taken.length < limit) {
    const rows = yield* select(
      `SELECT id, ${ENVELOPE} FROM ${t.outbox} WHERE id > 0 ORDER BY id LIMIT ?`,
      limit - taken.length,
    );
    if (rows.length > 0) {
      // Under nobody's name: whose it is to publish stands in the relay table alone.
      const stored = yield* appendMessages(context, rows.map(newMessageOf), '');
      const positions = stored.filter(({ isDuplicate }) => !isDuplicate).map(({ position }) => position);
      yield* claim(context, name, positions);
      taken.push(...positions);
      for (const part of chunks(rows, LIST_LIMIT)) {
        const some = list(part.map(({ id }) => numberOf(id)));
        yield* change(`DELETE FROM ${t.outbox} WHERE id IN ${some.sql}`, ...some.parameters);
      }
    }
  }
  return yield* messagesAt(context, taken);
}

/** What `relay` gave to a node that has not said that it is out; `name`: as it is stored. */
function* claimedBy({ t }: Context, name: string, limit: number): Work<number[]> {
  const sql = `SELECT position FROM ${t.relay} WHERE node = ? ORDER BY position LIMIT ?`;
  return (yield* select(sql, name, limit)).map(({ position }) => numberOf(position));
}

function* claim({ t }: Context, name: string, positions: readonly number[]): Work<void> {
  for (const part of chunks(positions, LIST_LIMIT)) {
    const rows = part.map(() => '(?, ?)').join(', ');
    yield* change(
      `INSERT INTO ${t.relay} (position, node) VALUES ${rows}`,
      ...part.flatMap((position) => [position, name]),
    );
  }
}

export function* relayed({ t }: Context, node: string, positions: readonly number[]): Work<void> {
  for (const part of chunks(positions, LIST_LIMIT)) {
    const some = list(part);
    yield* change(
      `DELETE FROM ${t.relay} WHERE node = ? AND position IN ${some.sql}`,
      toStored(node),
      ...some.parameters,
    );
  }
}
