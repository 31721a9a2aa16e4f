/**
 * The tables, version by version. docs/reference/inbox-tables.md says what stands in each column.
 *
 * A version that was released is never edited: changes are a new one at the end of {@link MIGRATIONS}. Every statement may be run
 * twice: MySQL commits each by itself, and a process may die between two.
 */
import type { SqlDialect } from './sql-dialect.js';

/** The names of the tables of one store. */
export interface Tables {
  readonly message: string;
  readonly outbox: string;
  readonly lane: string;
  readonly dead: string;
  readonly read: string;
  readonly cursor: string;
  readonly reader: string;
  readonly subscription: string;
  readonly device: string;
  readonly node: string;
  readonly relay: string;
  readonly sequence: string;
  readonly migration: string;
}

export function tablesOf(prefix: string): Tables {
  return {
    message: `${prefix}message`,
    outbox: `${prefix}outbox`,
    lane: `${prefix}lane`,
    dead: `${prefix}dead`,
    read: `${prefix}read`,
    cursor: `${prefix}cursor`,
    reader: `${prefix}reader`,
    subscription: `${prefix}subscription`,
    device: `${prefix}device`,
    node: `${prefix}node`,
    relay: `${prefix}relay`,
    sequence: `${prefix}sequence`,
    migration: `${prefix}migration`,
  };
}

/** Rows of the sequence table: one that numbers, one that is only there to be locked. */
export const SEQUENCE_ROW = 1;
export const CLEANUP_ROW = 2;

type Migration = (dialect: SqlDialect, tables: Tables) => string[];

function firstVersion(dialect: SqlDialect, t: Tables): string[] {
  const { nameType: name, textType: text, integerType: integer, identityType: identity } = dialect;
  const table = (tableName: string, ...lines: string[]): string =>
    `CREATE TABLE IF NOT EXISTS ${tableName} (\n  ${lines.join(',\n  ')}\n)${dialect.tableSuffix}`;
  const index = (unique: string, column: string, tableName: string, columns: string, where: string): string => {
    const partial = dialect.hasPartialIndexes && where !== '' ? ` WHERE ${where}` : '';
    return `CREATE ${unique}INDEX ${dialect.indexIfNew}${tableName}_${column} ON ${tableName} (${columns})${partial}`;
  };
  const envelope = [
    `event_id ${name} NOT NULL`,
    `event_type ${name} NOT NULL`,
    `receiver_type ${name} NOT NULL`,
    `receiver_id ${name} NULL`,
    `group_name ${name} NULL`,
    `tenant_id ${name} NOT NULL`,
    `priority ${integer} NOT NULL`,
    `data ${text} NOT NULL`,
    `is_json ${integer} NOT NULL`,
    `status ${name} NOT NULL`,
    `expire_at ${integer} NOT NULL`,
    `created_at ${integer} NOT NULL`,
    `dedup_key ${name} NULL`,
  ];
  return [
    table(
      t.message,
      `position ${integer} NOT NULL PRIMARY KEY`,
      ...envelope,
      `updated_at ${integer} NOT NULL`,
      `read_at ${integer} NULL`,
      `slot ${integer} NULL`,
      `lane_id ${integer} NULL`,
      `lane_number ${integer} NULL`,
      `node ${name} NOT NULL`,
    ),
    index('UNIQUE ', 'event_id', t.message, 'event_id', ''),
    index('UNIQUE ', 'dedup', t.message, 'tenant_id, dedup_key', 'dedup_key IS NOT NULL'),
    index('', 'unread', t.message, 'receiver_id, tenant_id, slot, position', 'slot IS NOT NULL'),
    index('', 'mortal', t.message, 'receiver_id, tenant_id, expire_at', 'slot IS NOT NULL AND expire_at > 0'),
    index('', 'lane', t.message, 'lane_id, position', 'lane_id IS NOT NULL'),
    index('', 'lane_mortal', t.message, 'lane_id, expire_at', 'lane_id IS NOT NULL AND expire_at > 0'),
    index('', 'node', t.message, 'node, position', ''),
    index('', 'expire', t.message, 'expire_at', 'expire_at > 0'),
    index('', 'read', t.message, 'read_at', 'read_at IS NOT NULL'),
    index('', 'created', t.message, 'created_at', ''),
    table(t.outbox, `id ${identity}`, ...envelope),
    table(
      t.lane,
      `id ${identity}`,
      `group_name ${name} NOT NULL`,
      `tenant_id ${name} NOT NULL`,
      `is_group ${integer} NOT NULL`,
      `event_type ${name} NOT NULL`,
      `priority ${integer} NOT NULL`,
      `last_number ${integer} NOT NULL`,
      `last_position ${integer} NOT NULL`,
      `UNIQUE (group_name, tenant_id, is_group, event_type, priority)`,
    ),
    table(
      t.dead,
      `lane_id ${integer} NOT NULL`,
      `level ${integer} NOT NULL`,
      `block ${integer} NOT NULL`,
      `dead ${integer} NOT NULL`,
      'PRIMARY KEY (lane_id, level, block)',
    ),
    table(
      t.read,
      `user_id ${name} NOT NULL`,
      `lane_id ${integer} NOT NULL`,
      `position ${integer} NOT NULL`,
      'PRIMARY KEY (user_id, lane_id, position)',
    ),
    index('', 'position', t.read, 'position', ''),
    table(
      t.cursor,
      `user_id ${name} NOT NULL`,
      `lane_id ${integer} NOT NULL`,
      `position ${integer} NOT NULL`,
      'PRIMARY KEY (user_id, lane_id)',
    ),
    index('', 'lane', t.cursor, 'lane_id', ''),
    table(
      t.reader,
      `user_id ${name} NOT NULL`,
      `tenant_id ${name} NOT NULL`,
      `unread ${integer} NOT NULL`,
      `counted_through ${integer} NOT NULL`,
      'PRIMARY KEY (user_id, tenant_id)',
    ),
    table(
      t.subscription,
      `user_id ${name} NOT NULL`,
      `tenant_id ${name} NOT NULL`,
      `group_name ${name} NOT NULL`,
      `event_types ${text} NULL`,
      `status ${name} NOT NULL`,
      `since ${integer} NOT NULL`,
      'PRIMARY KEY (user_id, tenant_id, group_name)',
    ),
    table(
      t.device,
      `user_id ${name} NOT NULL`,
      `tenant_id ${name} NOT NULL`,
      `device ${name} NOT NULL`,
      `position ${integer} NOT NULL`,
      `updated_at ${integer} NOT NULL`,
      'PRIMARY KEY (user_id, tenant_id, device)',
    ),
    index('', 'updated', t.device, 'updated_at', ''),
    table(
      t.node,
      `node ${name} NOT NULL PRIMARY KEY`,
      `lease_until ${integer} NOT NULL`,
      `published_through ${integer} NOT NULL`,
    ),
    table(t.relay, `position ${integer} NOT NULL PRIMARY KEY`, `node ${name} NOT NULL`),
    index('', 'node', t.relay, 'node, position', ''),
    table(t.sequence, `id ${integer} NOT NULL PRIMARY KEY`, `value ${integer} NOT NULL`),
    ...[SEQUENCE_ROW, CLEANUP_ROW].map(
      (row) => `${dialect.insertIgnore} ${t.sequence} (id, value) VALUES (${row}, 0)${dialect.ignoreConflict}`,
    ),
  ];
}

/** In order; the first is version 1. */
export const MIGRATIONS: readonly Migration[] = [firstVersion];
