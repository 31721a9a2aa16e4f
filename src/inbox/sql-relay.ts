/**
 * Nodes, and what goes out by another than the one that stored it. A message that `relay` gives out gets a row in the relay
 * table until it is published: the position up to which a node has published says nothing about those.
 */
import { appendMessages, type Context } from './sql-append.js';
import { ENVELOPE, newMessageOf } from './sql-message.js';
import { SEQUENCE_ROW } from './sql-schema.js';
import { messagesAt } from './sql-unread.js';
import { change, chunks, fromStored, LIST_LIMIT, list, numberOf, select, toStored, type Work } from './sql-work.js';
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

function* hasUnpublished({ t }: Context, name: string): Work<boolean> {
  const claimed = yield* select(`SELECT position FROM ${t.relay} WHERE node = ? LIMIT 1`, name);
  if (claimed.length > 0) return true;
  const own = yield* select(
    `SELECT m.position FROM ${t.node} n JOIN ${t.message} m ON m.node = n.node AND m.position > n.published_through` +
      ' WHERE n.node = ? LIMIT 1',
    name,
  );
  return own.length > 0;
}

/** See the contract. One look into an index per node that has not published everything. */
export function* firstUnpublished({ t }: Context, node: string): Work<number> {
  const name = toStored(node);
  const [claimed] = yield* select(`SELECT MIN(position) AS position FROM ${t.relay} WHERE node <> ?`, name);
  let first = numberOf(claimed?.position);
  const nodes = yield* select(`SELECT node, published_through FROM ${t.node} WHERE node <> ?`, name);
  for (const row of nodes) {
    const [own] = yield* select(
      `SELECT position FROM ${t.message} WHERE node = ? AND position > ? ORDER BY position LIMIT 1`,
      row.node,
      numberOf(row.published_through),
    );
    const position = numberOf(own?.position);
    if (position > 0 && (first === 0 || position < first)) first = position;
  }
  return first;
}

/** Whether {@link relay} would find anything: asked often, and without a lock. */
export function* hasWork({ t }: Context, { node, now, again }: RelayRequest): Work<boolean> {
  if (again && (yield* claimedBy({ t }, toStored(node), 1)).length > 0) return true;
  if ((yield* select(`SELECT id FROM ${t.outbox} WHERE id > 0 ORDER BY id LIMIT 1`)).length > 0) return true;
  const dead = yield* select(
    `SELECT node, lease_until FROM ${t.node} WHERE lease_until <= ? AND node <> ?`,
    now,
    toStored(node),
  );
  for (const row of dead) {
    if (numberOf(row.lease_until) < now - REMEMBERED_MS) return true;
    if (yield* hasUnpublished({ t } as Context, fromStored(row.node))) return true;
  }
  return false;
}

export function* relay(context: Context, { node, limit, now, again }: RelayRequest): Work<StoredMessage[]> {
  const { dialect, t } = context;
  const name = toStored(node);
  // One at a time: what is taken here is nobody else's.
  yield* select(`SELECT value FROM ${t.sequence} WHERE id = ${SEQUENCE_ROW}${dialect.forUpdate}`);
  const dead = yield* select(
    `SELECT node, lease_until, published_through FROM ${t.node} WHERE lease_until <= ? AND node <> ? ORDER BY node`,
    now,
    name,
  );
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
    const own = yield* select(
      `SELECT position FROM ${t.message} WHERE node = ? AND position > ? ORDER BY position LIMIT ?`,
      other,
      numberOf(row.published_through),
      rest,
    );
    const positions = own.map(({ position }) => numberOf(position));
    yield* claim(context, name, positions);
    taken.push(...positions);
    if (positions.length > 0) {
      yield* change(`UPDATE ${t.node} SET published_through = ? WHERE node = ?`, positions.at(-1), other);
    }
    const leaseUntil = numberOf(row.lease_until);
    if (own.length < rest && (leaseUntil === 0 || leaseUntil < now - REMEMBERED_MS)) {
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
function* claimedBy({ t }: Pick<Context, 't'>, name: string, limit: number): Work<number[]> {
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
