/** The caller's own transaction, in which `enqueue` writes: which kind it is, and how a statement runs in it. */
import { SseError, shown } from '../core/errors.js';
import { type KyselyLike, kyselyExecutor } from './kysely-connection.js';
import type { SqlDialect } from './sql-dialect.js';
import type { Statement } from './sql-work.js';
import { isInTransaction, type SqliteHandle } from './sqlite-connection.js';

type Run = (statement: Statement) => unknown;

/** What drivers' connections have, and their pools. */
interface Candidate {
  readonly isTransaction?: unknown;
  readonly executeQuery?: unknown;
  readonly query?: unknown;
  readonly promise?: unknown;
  readonly prepare?: unknown;
  /** Pools of mysql2. */
  readonly getConnection?: unknown;
  /** Pools of pg. */
  readonly totalCount?: unknown;
}

/**
 * How to run a statement within `tx`. At once where that can be known at once: a transaction may end with the turn.
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function runnerOf(tx: unknown, dialect: SqlDialect): Run | Promise<Run> {
  const candidate = (typeof tx === 'object' && tx !== null ? tx : {}) as Candidate;
  if (typeof candidate.executeQuery === 'function') {
    // A whole Kysely instance would take any connection of its pool, and commit at once.
    if (candidate.isTransaction !== true) throw refusal(tx, dialect, 'it is a Kysely instance, not a transaction');
    const kysely = (tx as KyselyLike).withoutPlugins();
    return kyselyExecutor(dialect).then(
      (execute) =>
        ({ sql, parameters }) =>
          execute(kysely, sql, parameters),
    );
  }
  if (dialect.name === 'sqlite') {
    if (typeof candidate.prepare !== 'function') throw refusal(tx, dialect, 'it is neither');
    const database = tx as SqliteHandle;
    if (isInTransaction(database) === false) throw refusal(tx, dialect, 'it has no transaction open');
    return ({ sql, parameters }) => database.prepare(sql).run(...parameters);
  }
  if (typeof candidate.query !== 'function') throw refusal(tx, dialect, 'it is neither');
  if (candidate.getConnection !== undefined || candidate.totalCount !== undefined) {
    throw refusal(tx, dialect, 'it is a pool, which has no transaction; take a connection of it');
  }
  // mysql2 has connections with callbacks too, and each knows its twin with promises.
  const promised = dialect.name === 'mysql' && typeof candidate.promise === 'function';
  const connection = (promised ? (candidate.promise as () => unknown).call(tx) : tx) as {
    query(sql: string, parameters: readonly unknown[]): Promise<unknown>;
  };
  return ({ sql, parameters }) => connection.query(dialect.numbered(sql), dialect.bound(parameters));
}

const CONNECTIONS = { sqlite: 'database handle', postgres: 'client of pg', mysql: 'connection of mysql2' } as const;

function refusal(tx: unknown, { name }: SqlDialect, reason: string): SseError {
  return new SseError(
    'SSE_ERR_INVALID_OPTION',
    `tx must be a Kysely transaction or a ${CONNECTIONS[name]} that has begun one: ${reason}; got ${shown(tx)}`,
  );
}
