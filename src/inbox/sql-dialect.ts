/**
 * In what SQLite, PostgreSQL and MySQL/MariaDB differ, as small values, so that every statement is written once.
 *
 * Statements use `?` for parameters, and only what the three share.
 */

export type SqlDialectName = 'sqlite' | 'postgres' | 'mysql';

export interface SqlDialect {
  readonly name: SqlDialectName;
  /** Begins a transaction that writes. In SQLite it takes the writer's lock at once: a later upgrade could fail. */
  readonly begin: readonly string[];
  /** Begins one that sees one state of the database from its first to its last statement. */
  readonly beginRead: readonly string[];
  /** MySQL's sessions may be set to begin the next transaction, or to end the connection, with each of the two. */
  readonly commit: string;
  readonly rollback: string;
  /**
   * Asks what a session is set to, where that makes a difference: `mode` (see `sql_mode` of MySQL), `autocommit`, and the `encoding`
   * of the database; and for its parameter, as `time`, to see how the driver gives it back.
   */
  readonly askSession: string | undefined;
  /** Behind a SELECT: keeps the rows for this transaction; SQLite has one writer anyway. */
  readonly forUpdate: string;
  /** The same, for several at once. */
  readonly forShare: string;
  /** A name as a key: compared byte by byte, trailing blanks included. */
  readonly nameType: string;
  readonly textType: string;
  readonly integerType: string;
  readonly identityType: string;
  /** Before the table name of an INSERT that passes over what is there. */
  readonly insertIgnore: string;
  /** Behind such an INSERT. */
  readonly ignoreConflict: string;
  /** Whether an index may leave rows out. */
  readonly hasPartialIndexes: boolean;
  readonly tableSuffix: string;
  /** MySQL cannot say it (MariaDB can): there, error 1061 is passed over. */
  readonly indexIfNew: string;
  /**
   * Behind a table: has its rows read by this index. Where the first few in some order are wanted, MySQL may go by the primary key
   * instead, and guesses wrong how many rows it has to pass over.
   */
  byIndex(index: string): string;
  /** That `column`, with which an index begins, is `value`. PostgreSQL guesses likewise where it is written as an equation. */
  is(column: string, value: string): string;
  /** Whether only one transaction writes at a time: its rows need no order in which they are locked. */
  readonly hasOneWriter: boolean;
  /** Whether VALUES may stand in a FROM, its columns named `column1` and so on, with whatever parameters. */
  readonly hasValuesTable: boolean;
  /** Whether UPDATE answers what it wrote; MySQL answers it as the id of an insert instead. */
  readonly hasReturning: boolean;
  /** Text as the driver needs it. */
  numbered(sql: string): string;
  /** Parameters as the driver needs them. */
  bound(parameters: readonly unknown[]): readonly unknown[];
  /** Behind an INSERT: what happens to a row whose `key` is there. `assign` gives `column = expression`. */
  upsert(table: string, key: readonly string[], assignments: readonly Assignment[]): string;
}

/** `max`: the greater of both; `add`: the sum; `set`: the new one. */
export interface Assignment {
  readonly column: string;
  readonly how: 'max' | 'add' | 'set';
}

function assignment({ column, how }: Assignment, old: string, added: string): string {
  if (how === 'set') return `${column} = ${added}`;
  if (how === 'add') return `${column} = ${old} + ${added}`;
  return `${column} = CASE WHEN ${old} < ${added} THEN ${added} ELSE ${old} END`;
}

function onConflict(table: string, key: readonly string[], assignments: readonly Assignment[]): string {
  const set = assignments.map((one) => assignment(one, `${table}.${one.column}`, `excluded.${one.column}`));
  return ` ON CONFLICT (${key.join(', ')}) DO UPDATE SET ${set.join(', ')}`;
}

const numberedTexts = new Map<string, string>();
/** Statements differ by their tables' prefix and the lengths of their lists only; a bound all the same. */
const NUMBERED_LIMIT = 2_000;

function numbered(sql: string): string {
  let text = numberedTexts.get(sql);
  if (text === undefined) {
    let index = 0;
    text = sql.replace(/\?/g, () => `$${++index}`);
    if (numberedTexts.size >= NUMBERED_LIMIT) numberedTexts.clear();
    numberedTexts.set(sql, text);
  }
  return text;
}

/**
 * What stands between quotes as it is, and is the same in every character set that a session may have. Nothing is not: MariaDB
 * may take that for NULL (EMPTY_STRING_IS_NULL).
 */
const PLAIN = /^[\w .:-]+$/;

/**
 * Text as bytes, but for names without anything special in them. mysql2 writes parameters into the statement, text with
 * backslashes before its quotes, whether the session knows these for escapes or not (NO_BACKSLASH_ESCAPES); bytes as hexadecimal
 * digits, which nothing can end too early, and which take longer than all else about a short text.
 */
function asBytes(parameters: readonly unknown[]): readonly unknown[] {
  return parameters.map((value) => (typeof value === 'string' && !PLAIN.test(value) ? Buffer.from(value) : value));
}

export const SQL_DIALECTS: Readonly<Record<SqlDialectName, SqlDialect>> = Object.freeze({
  sqlite: {
    name: 'sqlite',
    begin: ['BEGIN IMMEDIATE'],
    beginRead: ['BEGIN'],
    commit: 'COMMIT',
    rollback: 'ROLLBACK',
    askSession: undefined,
    forUpdate: '',
    forShare: '',
    nameType: 'TEXT',
    textType: 'TEXT',
    integerType: 'INTEGER',
    identityType: 'INTEGER PRIMARY KEY AUTOINCREMENT',
    insertIgnore: 'INSERT INTO',
    ignoreConflict: ' ON CONFLICT DO NOTHING',
    hasPartialIndexes: true,
    byIndex: () => '',
    is: (column, value) => `${column} = ${value}`,
    hasOneWriter: true,
    hasValuesTable: true,
    hasReturning: true,
    tableSuffix: '',
    indexIfNew: 'IF NOT EXISTS ',
    numbered: (sql) => sql,
    bound: (parameters) => parameters,
    upsert: onConflict,
  },
  postgres: {
    name: 'postgres',
    begin: ['BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE'],
    beginRead: ['BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY'],
    commit: 'COMMIT',
    rollback: 'ROLLBACK',
    askSession: "SELECT current_setting('server_encoding') AS encoding, CAST(? AS BIGINT) AS time",
    forUpdate: ' FOR UPDATE',
    forShare: ' FOR SHARE',
    nameType: 'TEXT COLLATE "C"',
    textType: 'TEXT',
    integerType: 'BIGINT',
    identityType: 'BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY',
    insertIgnore: 'INSERT INTO',
    ignoreConflict: ' ON CONFLICT DO NOTHING',
    hasPartialIndexes: true,
    byIndex: () => '',
    is: (column, value) => `${column} IN (${value}, ${value})`,
    hasOneWriter: false,
    hasValuesTable: false,
    hasReturning: true,
    tableSuffix: '',
    indexIfNew: 'IF NOT EXISTS ',
    numbered,
    bound: (parameters) => parameters,
    upsert: onConflict,
  },
  mysql: {
    name: 'mysql',
    begin: ['SET TRANSACTION ISOLATION LEVEL READ COMMITTED', 'START TRANSACTION READ WRITE'],
    beginRead: ['SET TRANSACTION ISOLATION LEVEL REPEATABLE READ', 'START TRANSACTION READ ONLY'],
    commit: 'COMMIT AND NO CHAIN NO RELEASE',
    rollback: 'ROLLBACK AND NO CHAIN NO RELEASE',
    askSession: "SELECT @@sql_mode AS mode, @@autocommit AS autocommit, LENGTH('-') AS width, ? AS time",
    forUpdate: ' FOR UPDATE',
    forShare: ' LOCK IN SHARE MODE',
    // 256 UTF-16 units have at most 768 bytes. Every text collation but the newest takes "a" and "a " for one.
    nameType: 'VARBINARY(768)',
    textType: 'LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin',
    integerType: 'BIGINT',
    identityType: 'BIGINT AUTO_INCREMENT PRIMARY KEY',
    insertIgnore: 'INSERT IGNORE INTO',
    ignoreConflict: '',
    hasPartialIndexes: false,
    byIndex: (index) => ` FORCE INDEX (${index})`,
    is: (column, value) => `${column} = ${value}`,
    hasOneWriter: false,
    hasValuesTable: false,
    hasReturning: false,
    tableSuffix: ' ENGINE=InnoDB',
    indexIfNew: '',
    numbered: (sql) => sql,
    bound: asBytes,
    upsert: (_table, _key, assignments) => {
      const set = assignments.map((one) => assignment(one, one.column, `VALUES(${one.column})`));
      return ` ON DUPLICATE KEY UPDATE ${set.join(', ')}`;
    },
  },
} satisfies Record<SqlDialectName, SqlDialect>);
