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
    const fitting = ROWS.filter((size) => size <= rows.length - done);
    const count = fitting.find((size) => size === 1 || sizeOfRows(rows, done, done + size) <= SIZE)!;
    const key = `${insert} ${table} ${count}`;
    let sql = texts.get(key);
    if (sql === undefined) {
      const row = `(${names.map(() => '?').join(', ')})`;
      sql = `${insert} ${table} (${names.join(', ')}) VALUES ${Array(count).fill(row).join(', ')}${conflict}`;
      if (texts.size > 100) texts.clear();
      texts.set(key, sql);
    }
    const parameters: unknown[] = [];
    for (let i = done; i < done + count; i++) for (const value of values) parameters.push(value(rows[i]!));
    yield { sql, parameters };
    done += count;
  }
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
  const message: NewMessage = {
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
  return row.dedup_key === null ? message : { ...message, dedupKey: fromStored(row.dedup_key) };
}

export function storedMessageOf(row: Row): StoredMessage {
  return { ...newMessageOf(row), position: numberOf(row.position) };
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
