/** A message as a row, there and back. */
import { fromStored, numberOf, type Row, type Statement, toStored } from './sql-work.js';
import type { NewMessage, PriorityLevel, StoredMessage } from './store.js';

/** What is to be inserted. */
export interface MessageRow {
  readonly message: NewMessage;
  readonly position: number;
  readonly node: string;
  laneId?: number;
  laneNumber?: number;
}

type Columns<T> = Readonly<Record<string, (row: T) => unknown>>;

export const outboxColumns: Columns<{ readonly message: NewMessage }> = {
  event_id: ({ message }) => message.eventId,
  event_type: ({ message }) => toStored(message.event),
  receiver_type: ({ message }) => message.receiver.type,
  receiver_id: ({ message }) => (message.receiver.type === 'user' ? toStored(message.receiver.name) : null),
  group_name: ({ message }) => (message.receiver.type === 'group' ? toStored(message.receiver.name) : null),
  tenant_id: ({ message }) => toStored(message.receiver.tenantId),
  priority: ({ message }) => message.priority,
  data: ({ message }) => toStored(message.data),
  is_json: ({ message }) => (message.json ? 1 : 0),
  status: ({ message }) => message.status,
  expire_at: ({ message }) => message.expiresAt,
  created_at: ({ message }) => message.createdAt,
  dedup_key: ({ message }) => (message.dedupKey === undefined ? null : toStored(message.dedupKey)),
};

export const messageColumns: Columns<MessageRow> = {
  position: ({ position }) => position,
  ...outboxColumns,
  updated_at: ({ message }) => message.createdAt,
  // Null where it is not to one user, or was read: such rows are in no index of what is unread.
  slot: ({ message }) => (message.receiver.type === 'user' ? message.priority : null),
  lane_id: ({ laneId }) => laneId ?? null,
  lane_number: ({ laneNumber }) => laneNumber ?? null,
  node: ({ node }) => toStored(node),
};

/** What is read back. */
export const ENVELOPE = Object.keys(outboxColumns).join(', ');

/** Rows of one INSERT: few different statements, which SQLite keeps prepared. */
const ROWS = [64, 16, 4, 1];
/**
 * What one INSERT may have by {@link sizeOf}: MySQL refuses packets above `max_allowed_packet` (16 MiB by default), and has text
 * as hexadecimal digits, up to six for a UTF-16 unit.
 */
const SIZE = 2 * 2 ** 20;

const texts = new Map<string, string>();

/** INSERTs of all `rows`, in order. */
export function* insertStatement<T extends { readonly message: NewMessage }>(
  table: string,
  insert: string,
  conflict: string,
  columns: Columns<T>,
  rows: readonly T[],
): Generator<Statement, void, unknown> {
  const names = Object.keys(columns);
  const values = Object.values(columns);
  for (let done = 0; done < rows.length; ) {
    const count = countOf(rows, done);
    const sql = textOf(`${insert} ${table} ${count}`, () => {
      const row = `(${names.map(() => '?').join(', ')})`;
      return `${insert} ${table} (${names.join(', ')}) VALUES ${Array(count).fill(row).join(', ')}${conflict}`;
    });
    const parameters: unknown[] = [];
    for (let i = done; i < done + count; i++) for (const value of values) parameters.push(value(rows[i]!));
    yield { sql, parameters };
    done += count;
  }
}

/** What messages to users, known by nothing but their ids, differ in. All else of their rows follows from these, or is NULL. */
const OWN = [
  'event_id',
  'event_type',
  'receiver_id',
  'tenant_id',
  'priority',
  'data',
  'is_json',
  'status',
  'expire_at',
  'created_at',
] as const;
const nth = (column: (typeof OWN)[number]): string => `column${OWN.indexOf(column) + 2}`;
const PLAIN_COLUMNS = `position, ${OWN.join(', ')}, receiver_type, slot, updated_at, node`;
const PLAIN_SELECT = `SELECT ? + column1, ${OWN.map(nth).join(', ')}, 'user', ${nth('priority')}, ${nth('created_at')}, ? FROM`;

/**
 * As {@link insertStatement} with {@link messageColumns}, of messages that differ in nothing else, at positions that follow each
 * other: half of the parameters, and passing those is what a row costs most where a table is in the same process.
 */
export function* insertPlain(
  table: string,
  insert: string,
  conflict: string,
  rows: readonly MessageRow[],
): Generator<Statement, void, unknown> {
  for (let done = 0; done < rows.length; ) {
    const count = countOf(rows, done);
    const key = `${insert} ${table} ${count} plain`;
    const sql = textOf(key, () => {
      const values = Array.from({ length: count }, (_, place) => `(${place}${', ?'.repeat(OWN.length)})`);
      // "WHERE": else ON would belong to a join.
      return `${insert} ${table} (${PLAIN_COLUMNS}) ${PLAIN_SELECT} (VALUES ${values.join(', ')}) WHERE 1 = 1${conflict}`;
    });
    const { position, node } = rows[done]!;
    const parameters: unknown[] = [position, toStored(node)];
    for (let i = done; i < done + count; i++) {
      const { eventId, receiver, event, data, json, priority, status, expiresAt, createdAt } = rows[i]!.message;
      parameters.push(eventId, toStored(event), toStored(receiver.name), toStored(receiver.tenantId), priority);
      parameters.push(toStored(data), json ? 1 : 0, status, expiresAt, createdAt);
    }
    yield { sql, parameters };
    done += count;
  }
}

/** Rows from `done` on that one INSERT is to have. */
function countOf(rows: readonly { readonly message: NewMessage }[], done: number): number {
  return ROWS.find(
    (size) => size <= rows.length - done && (size === 1 || sizeOfRows(rows, done, done + size) <= SIZE),
  )!;
}

function textOf(key: string, make: () => string): string {
  let sql = texts.get(key);
  if (sql === undefined) {
    sql = make();
    if (texts.size > 100) texts.clear();
    texts.set(key, sql);
  }
  return sql;
}

/** Whether one INSERT may have all of them. */
export function fitsOneStatement(messages: readonly NewMessage[]): boolean {
  let size = 0;
  for (const message of messages) size += sizeOf(message);
  return size <= SIZE;
}

function sizeOfRows(rows: readonly { readonly message: NewMessage }[], from: number, to: number): number {
  let size = 0;
  for (let i = from; i < to; i++) size += sizeOf(rows[i]!.message);
  return size;
}

/** UTF-16 units, but for what is short. */
function sizeOf({ data, event, receiver }: NewMessage): number {
  return data.length + event.length + receiver.name.length + receiver.tenantId.length;
}

export function newMessageOf(row: Row): NewMessage {
  const type = fromStored(row.receiver_type) as NewMessage['receiver']['type'];
  const name = type === 'user' ? row.receiver_id : type === 'group' ? row.group_name : '';
  const message: NewMessage & { dedupKey?: string } = {
    eventId: fromStored(row.event_id),
    receiver: { type, name: fromStored(name), tenantId: fromStored(row.tenant_id) },
    event: fromStored(row.event_type),
    data: fromStored(row.data),
    json: numberOf(row.is_json) === 1,
    priority: numberOf(row.priority) as PriorityLevel,
    // `read` is what this user made of it; the message was sent or pending before.
    status: fromStored(row.status) === 'pending' ? 'pending' : 'sent',
    expiresAt: numberOf(row.expire_at),
    createdAt: numberOf(row.created_at),
  };
  if (row.dedup_key !== null) message.dedupKey = fromStored(row.dedup_key);
  return message;
}

export function storedMessageOf(row: Row): StoredMessage {
  const message = newMessageOf(row) as StoredMessage & { position: number };
  // Not by a spread, which takes longer than all else here.
  message.position = numberOf(row.position);
  return message;
}

type Identity = Pick<NewMessage, 'eventId' | 'dedupKey' | 'receiver'>;

/** What a row is known by, and where it is. */
export function placeOf(row: Row): [Identity, { readonly eventId: string; readonly position: number }] {
  const eventId = fromStored(row.event_id);
  const receiver = { type: 'user', name: '', tenantId: fromStored(row.tenant_id) } as const;
  const dedupKey = row.dedup_key === null ? undefined : fromStored(row.dedup_key);
  return [
    { eventId, receiver, dedupKey },
    { eventId, position: numberOf(row.position) },
  ];
}
