/** Storing: positions, numbers within a lane, duplicates, the outbox. The caller's transaction holds what is taken here. */

import type { SqlDialect } from './sql-dialect.js';
import { readersDue, rollUp } from './sql-direct.js';
import {
  insertPlain,
  insertStatement,
  type MessageRow,
  messageColumns,
  outboxColumns,
  placeOf,
} from './sql-message.js';
import { SEQUENCE_ROW, type Tables } from './sql-schema.js';
import { change, chunks, LIST_LIMIT, list, numberOf, type Statement, select, toStored, type Work } from './sql-work.js';
import type { Appended, NewMessage } from './store.js';

export interface Context {
  readonly dialect: SqlDialect;
  readonly t: Tables;
}

/** Locks the order of the namespace until the commit, and takes `count` positions; resolves to the one before them. */
export function* takePositions({ dialect, t }: Context, count: number): Work<number> {
  const where = `WHERE id = ${SEQUENCE_ROW}`;
  if (dialect.hasReturning) {
    const [row] = yield* select(`UPDATE ${t.sequence} SET value = value + ? ${where} RETURNING value`, count);
    return numberOf(row!.value) - count;
  }
  const parameters = [count];
  const { insertId } = yield { sql: `UPDATE ${t.sequence} SET value = LAST_INSERT_ID(value + ?) ${where}`, parameters };
  return insertId! - count;
}

/** A node that never renewed is dead from the beginning: what it appends goes out by others. */
export function* ensureNode({ dialect, t }: Context, node: string): Work<void> {
  const sql = `${dialect.insertIgnore} ${t.node} (node, lease_until, published_through) VALUES (?, 0, 0)`;
  yield* change(sql + dialect.ignoreConflict, toStored(node));
}

/** Stores what is new of `messages`, in order, under positions that nobody has seen. */
export function* appendMessages(context: Context, messages: readonly NewMessage[], node: string): Work<Appended[]> {
  const first = (yield* takePositions(context, messages.length)) + 1;
  const mayRepeat = messages.some(({ receiver, dedupKey }) => receiver.type !== 'user' || dedupKey !== undefined);
  const rows: MessageRow[] = [];
  const answers: Appended[] = [];
  // A number within a lane must not be given to what is not stored; else the usual case, no duplicates, needs no question.
  const known = mayRepeat ? yield* findKnown(context, messages) : undefined;
  for (const message of messages) {
    const old = known?.find(message);
    const place = old ?? { eventId: message.eventId, position: first + answers.length };
    answers.push({ eventId: place.eventId, position: place.position, isDuplicate: old !== undefined });
    if (old !== undefined) continue;
    known?.add(message, place);
    rows.push({ message, position: place.position, node });
  }
  if (mayRepeat) yield* numberLanes(context, rows);
  const inserted = yield* insertRows(context, rows, !mayRepeat);
  if (inserted < rows.length) {
    // Only where no question was asked: some ids were there already.
    const there = yield* findKnown(context, messages);
    for (const [index, message] of messages.entries()) {
      const place = there.find(message)!;
      answers[index] = { ...place, isDuplicate: place.position !== first + index };
    }
  }
  yield* rollUp(context, readersDue(rows.map(({ message }) => message)));
  return answers;
}

/** What writes into the caller's transaction. */
export function enqueueMessages({ t }: Context, messages: readonly NewMessage[]): Iterable<Statement> {
  const rows = messages.map((message) => ({ message }));
  return insertStatement(t.outbox, 'INSERT INTO', '', outboxColumns, rows);
}

interface Place {
  readonly eventId: string;
  readonly position: number;
}

/** What is stored already, by id and by key. */
class Known {
  readonly #byEventId = new Map<string, Place>();
  readonly #byDedupKey = new Map<string, Place>();

  add({ eventId, dedupKey, receiver }: Pick<NewMessage, 'eventId' | 'dedupKey' | 'receiver'>, place: Place): void {
    this.#byEventId.set(eventId, place);
    if (dedupKey !== undefined) this.#byDedupKey.set(JSON.stringify([receiver.tenantId, dedupKey]), place);
  }

  find({ eventId, dedupKey, receiver }: NewMessage): Place | undefined {
    const byKey =
      dedupKey === undefined ? undefined : this.#byDedupKey.get(JSON.stringify([receiver.tenantId, dedupKey]));
    return this.#byEventId.get(eventId) ?? byKey;
  }
}

/** Where `messages` are, which are all there. */
export function* findPositions(context: Context, messages: readonly NewMessage[]): Work<number[]> {
  const known = yield* findKnown(context, messages);
  return messages.map((message) => known.find(message)!.position);
}

function* findKnown({ t }: Context, messages: readonly NewMessage[]): Work<Known> {
  const known = new Known();
  const columns = `SELECT event_id, position, tenant_id, dedup_key FROM ${t.message}`;
  for (const part of chunks(messages, LIST_LIMIT)) {
    const ids = list(part.map(({ eventId }) => eventId));
    const rows = [...(yield* select(`${columns} WHERE event_id IN ${ids.sql}`, ...ids.parameters))];
    const byTenant = new Map<string, string[]>();
    for (const { dedupKey, receiver } of part) {
      if (dedupKey === undefined) continue;
      const keys = byTenant.get(receiver.tenantId);
      if (keys) keys.push(toStored(dedupKey));
      else byTenant.set(receiver.tenantId, [toStored(dedupKey)]);
    }
    for (const [tenantId, keys] of byTenant) {
      const some = list(keys);
      const sql = `${columns} WHERE tenant_id = ? AND dedup_key IN ${some.sql}`;
      rows.push(...(yield* select(sql, toStored(tenantId), ...some.parameters)));
    }
    for (const row of rows) known.add(...placeOf(row));
  }
  return known;
}

/** Gives each message to many its lane, and its number in it. */
function* numberLanes({ dialect, t }: Context, rows: MessageRow[]): Work<void> {
  const lanes = new Map<string, MessageRow[]>();
  for (const row of rows) {
    const { receiver, event, priority } = row.message;
    if (receiver.type === 'user') continue;
    const name = JSON.stringify([receiver.type, receiver.name, receiver.tenantId, event, priority]);
    const lane = lanes.get(name);
    if (lane) lane.push(row);
    else lanes.set(name, [row]);
  }
  const key = ['group_name', 'tenant_id', 'is_group', 'event_type', 'priority'];
  for (const lane of lanes.values()) {
    const { receiver, event, priority } = lane[0]!.message;
    const isGroup = receiver.type === 'group' ? 1 : 0;
    const values = [toStored(receiver.name), toStored(receiver.tenantId), isGroup, toStored(event), priority];
    yield* change(
      `INSERT INTO ${t.lane} (${key.join(', ')}, last_number, last_position) VALUES (?, ?, ?, ?, ?, ?, ?)` +
        dialect.upsert(t.lane, key, [
          { column: 'last_number', how: 'add' },
          { column: 'last_position', how: 'set' },
        ]),
      ...values,
      lane.length,
      lane.at(-1)!.position,
    );
    const where = key.map((column) => `${column} = ?`).join(' AND ');
    const [found] = yield* select(`SELECT id, last_number FROM ${t.lane} WHERE ${where}`, ...values);
    const last = numberOf(found!.last_number);
    for (const [index, row] of lane.entries()) {
      row.laneId = numberOf(found!.id);
      // The first number is 0.
      row.laneNumber = last - lane.length + index;
    }
  }
}

/** `isPlain`: they are to users, with nothing but their ids to be known by, and their positions follow each other. */
function* insertRows({ dialect, t }: Context, rows: readonly MessageRow[], isPlain: boolean): Work<number> {
  let inserted = 0;
  const { insertIgnore: insert, ignoreConflict: conflict, hasValuesTable } = dialect;
  const statements =
    isPlain && hasValuesTable
      ? insertPlain(t.message, insert, conflict, rows)
      : insertStatement(t.message, insert, conflict, messageColumns, rows);
  for (const statement of statements) inserted += (yield statement).changes;
  return inserted;
}
