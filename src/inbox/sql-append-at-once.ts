/**
 * Storing messages to users by one statement that is a transaction by itself: what most sends are, in one round trip to the
 * server instead of four or five.
 *
 * It locks the row that numbers from its first step to its commit, so positions are given in the order of commits, here as in
 * sql-append.ts. A message that is there already undoes it as a whole; then the transaction there finds out which.
 */
import { type Context, findPositions } from './sql-append.js';
import type { SqlConnection } from './sql-connection.js';
import { SQL_DIALECTS, type SqlDialectName } from './sql-dialect.js';
import { readersDue, rollUpAlone } from './sql-direct.js';
import { fitsOneStatement } from './sql-message.js';
import { SEQUENCE_ROW, type Tables } from './sql-schema.js';
import { numberOf, type Row, type Statement, toStored } from './sql-work.js';
import type { Appended, NewMessage } from './store.js';

/** Messages of one statement. */
const MESSAGES = 1_024;

/** What messages to users differ in, with the types of PostgreSQL. All else follows from these, or is NULL. */
const OWN = {
  event_id: 'text',
  event_type: 'text',
  receiver_id: 'text',
  tenant_id: 'text',
  priority: 'bigint',
  data: 'text',
  is_json: 'bigint',
  status: 'text',
  expire_at: 'bigint',
  created_at: 'bigint',
} as const;

type OwnRow = { readonly [Column in keyof typeof OWN]: string | number };

function rowOf({ eventId, receiver, event, data, json, priority, status, expiresAt, createdAt }: NewMessage): OwnRow {
  return {
    event_id: eventId,
    event_type: toStored(event),
    receiver_id: toStored(receiver.name),
    tenant_id: toStored(receiver.tenantId),
    priority,
    data: toStored(data),
    is_json: json ? 1 : 0,
    status,
    expire_at: expiresAt,
    created_at: createdAt,
  };
}

const own = Object.keys(OWN) as (keyof typeof OWN)[];
const COLUMNS = ['position', 'node', 'receiver_type', 'slot', 'updated_at', ...own].join(', ');

type AtOnce = (t: Tables, messages: readonly NewMessage[], node: string) => Statement;

/**
 * All rows in one parameter: cheaper for client and server than hundreds of them, or an array for each column. It is text to
 * the driver: some write what the server calls JSON as JSON, which it is already.
 */
const overPostgres: AtOnce = (t, messages, node) => ({
  sql:
    `WITH taken AS (UPDATE ${t.sequence} SET value = value + ? WHERE id = ${SEQUENCE_ROW} RETURNING value),` +
    ` stored AS (INSERT INTO ${t.message} (${COLUMNS})` +
    " SELECT taken.value - ? + r.place, ?, 'user', r.priority, r.created_at," +
    ` ${own.map((column) => `r.${column}`).join(', ')} FROM taken,` +
    ` ROWS FROM (json_to_recordset((?::text)::json) AS (${own.map((column) => `${column} ${OWN[column]}`).join(', ')}))` +
    ` WITH ORDINALITY AS r (${own.join(', ')}, place))` +
    ' SELECT value FROM taken',
  parameters: [messages.length, messages.length, toStored(node), JSON.stringify(messages.map(rowOf))],
});

/** MySQL has no statements of statements, and refuses to parse it; MariaDB has, and answers a list with the rows of each. */
const overMariadb: AtOnce = (t, messages, node) => {
  const marks = own.map(() => '?').join(', ');
  const rows: string[] = [];
  const name = toStored(node);
  const parameters: unknown[] = [messages.length];
  for (const [index, message] of messages.entries()) {
    rows.push(`(LAST_INSERT_ID() - ${messages.length - index - 1}, ?, 'user', ?, ?, ${marks})`);
    const row = rowOf(message);
    parameters.push(name, message.priority, message.createdAt);
    for (const column of own) parameters.push(row[column]);
  }
  return {
    sql:
      'BEGIN NOT ATOMIC SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION READ WRITE;' +
      ` UPDATE ${t.sequence} SET value = LAST_INSERT_ID(value + ?) WHERE id = ${SEQUENCE_ROW};` +
      ` INSERT INTO ${t.message} (${COLUMNS}) VALUES ${rows.join(', ')};` +
      ` ${SQL_DIALECTS.mysql.commit}; SELECT LAST_INSERT_ID() AS value; END`,
    parameters,
  };
};

const STATEMENTS: Readonly<Record<SqlDialectName, AtOnce | undefined>> = {
  // Where nothing is sent anywhere, a transaction costs what its statements cost.
  sqlite: undefined,
  postgres: overPostgres,
  mysql: overMariadb,
};

/** Whether one statement can store all of them: to users, and known by nothing but their ids. */
export function goesAtOnce({ dialect }: Context, messages: readonly NewMessage[]): boolean {
  if (STATEMENTS[dialect.name] === undefined || messages.length > MESSAGES) return false;
  return messages.every(isPlain) && fitsOneStatement(messages);
}

/**
 * As `appendMessages` of sql-append.ts, for what {@link goesAtOnce}; undefined where nothing was stored, and it must be done by
 * that. `node` is in its table.
 */
export async function appendAtOnce(
  connection: SqlConnection,
  context: Context,
  messages: readonly NewMessage[],
  node: string,
): Promise<Appended[] | undefined> {
  const result = await connection.atOnce?.(() => STATEMENTS[context.dialect.name]!(context.t, messages, node));
  if (result === undefined) return undefined;
  const last = lastPositionIn(result.rows);
  // What is stored is stored, in whatever shape a driver gives the rows of a statement of statements.
  const positions =
    last > 0
      ? messages.map((_, index) => last - messages.length + 1 + index)
      : await connection.each(() => findPositions(context, messages));
  const readers = readersDue(messages);
  if (readers.length > 0) {
    try {
      await connection.transaction('write', () => rollUpAlone(context, readers));
    } catch {
      // What is stored is stored: only counting takes longer, until a later message does it.
    }
  }
  return messages.map(({ eventId }, index) => ({ eventId, position: positions[index]!, isDuplicate: false }));
}

function isPlain({ receiver, dedupKey }: NewMessage): boolean {
  return receiver.type === 'user' && dedupKey === undefined;
}

/** 0 where it is not to be found. */
function lastPositionIn(rows: readonly Row[]): number {
  const [first] = rows as readonly (Row | readonly Row[])[];
  return numberOf((Array.isArray(first) ? (first as readonly Row[])[0] : (first as Row | undefined))?.value);
}
