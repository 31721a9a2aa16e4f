/** Brings the tables up to date, when several processes start at once and when one dies half way; or prints what it would do. */
import { SseError } from '../core/errors.js';
import type { SqlConnection } from './sql-connection.js';
import type { SqlDialect } from './sql-dialect.js';
import { MIGRATIONS, type Tables, tablesOf } from './sql-schema.js';
import { change, numberOf, select, type Work } from './sql-work.js';

/** ER_DUP_KEYNAME: MySQL cannot make an index "if it does not exist". */
const INDEX_EXISTS = 1061;
/** How long to wait for another process that migrates, in s. */
const LOCK_SECONDS = 60;

const record = (dialect: SqlDialect, t: Tables, version: number): string =>
  `${dialect.insertIgnore} ${t.migration} (version) VALUES (${version})${dialect.ignoreConflict}`;

const migrationTable = (dialect: SqlDialect, t: Tables): string =>
  `CREATE TABLE IF NOT EXISTS ${t.migration} (version ${dialect.integerType} NOT NULL PRIMARY KEY)${dialect.tableSuffix}`;

/**
 * The statements that make all tables, or those above `from`, for those who let nothing but their own tools change a schema.
 * A store that finds them done has nothing left to do.
 */
export function migrationStatements(dialect: SqlDialect, prefix: string, from = 0): string[] {
  const t = tablesOf(prefix);
  const later = MIGRATIONS.slice(from).flatMap((migration, index) => [
    ...migration(dialect, t),
    record(dialect, t, from + index + 1),
  ]);
  return [migrationTable(dialect, t), ...later];
}

/** @throws {SseError} `SSE_ERR_STORE_UNUSABLE` */
export async function migrate(connection: SqlConnection, dialect: SqlDialect, prefix: string): Promise<void> {
  // Most starts find everything done, and need no rights to change tables.
  if (await connection.each(() => isDone(prefix))) return;
  if (dialect.name === 'mysql') return connection.each(() => withMysqlLock(dialect, prefix));
  await connection.transaction('write', function* () {
    // Two CREATE TABLE IF NOT EXISTS at once can fail on PostgreSQL; SQLite's writer lock is held by now.
    if (dialect.name === 'postgres') yield* select('SELECT pg_advisory_xact_lock(hashtext(?))', `sse-broker ${prefix}`);
    yield* run(dialect, prefix);
  });
}

function* isDone(prefix: string): Work<boolean> {
  try {
    return (yield* versionOf(tablesOf(prefix))) === MIGRATIONS.length;
  } catch (error) {
    if ((error as { code?: unknown }).code === 'SSE_ERR_STORE_UNUSABLE') throw error;
    // No such table, usually; whatever else it is shows itself at once.
    return false;
  }
}

function* versionOf(t: Tables): Work<number> {
  const [row] = yield* select(`SELECT MAX(version) AS version FROM ${t.migration}`);
  const version = numberOf(row?.version);
  if (version <= MIGRATIONS.length) return version;
  throw new SseError(
    'SSE_ERR_STORE_UNUSABLE',
    `the tables of the inbox are of version ${version}, this sse-broker knows ${MIGRATIONS.length}; update it`,
  );
}

function* run(dialect: SqlDialect, prefix: string): Work<void> {
  const t = tablesOf(prefix);
  yield* change(migrationTable(dialect, t));
  for (const sql of migrationStatements(dialect, prefix, yield* versionOf(t))) {
    try {
      yield* change(sql);
    } catch (error) {
      if ((error as { errno?: unknown }).errno !== INDEX_EXISTS) throw error;
    }
  }
}

/** MySQL commits with every CREATE, so a lock of a transaction would be gone with the first. */
function* withMysqlLock(dialect: SqlDialect, prefix: string): Work<void> {
  // Locks are the server's, not the database's; their names have at most 64 characters on MySQL.
  const name = `CONCAT('sse-broker ', SHA1(CONCAT('${prefix} ', DATABASE())))`;
  const [row] = yield* select(`SELECT GET_LOCK(${name}, ${LOCK_SECONDS}) AS got`);
  if (numberOf(row?.got) !== 1) {
    throw new SseError(
      'SSE_ERR_STORE_UNAVAILABLE',
      'another process has been migrating the tables of the inbox for a minute',
    );
  }
  try {
    yield* run(dialect, prefix);
  } finally {
    yield* select(`SELECT RELEASE_LOCK(${name}) AS done`);
  }
}
