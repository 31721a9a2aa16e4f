/**
 * An {@link InboxStore} in SQLite, PostgreSQL or MySQL/MariaDB: which statements make up which method. The statements
 * themselves are in the files beside this one, each about one thing.
 */
import { isThenable } from '../core/diagnostics.js';
import { SseError, shown } from '../core/errors.js';
import { KyselyConnection, type KyselyLike, kyselyExecutor, kyselyOver } from './kysely-connection.js';
import { checkMessages, checkNames } from './message-check.js';
import { type ListeningPool, PostgresListener } from './postgres-listener.js';
import { appendMessages, type Context, enqueueMessages, ensureNode } from './sql-append.js';
import { appendAtOnce, goesAtOnce } from './sql-append-at-once.js';
import { type CleanupRequest, cleanup, sweep } from './sql-cleanup.js';
import { type SqlConnection, storeError } from './sql-connection.js';
import { advancing, cursorOf, forgetDevices } from './sql-devices.js';
import { SQL_DIALECTS, type SqlDialectName } from './sql-dialect.js';
import { ENVELOPE, storedMessageOf } from './sql-message.js';
import { migrate, migrationStatements } from './sql-migrations.js';
import { markRead } from './sql-read.js';
import { firstUnpublished, hasWork, relay, relayed, renewNode } from './sql-relay.js';
import { SEQUENCE_ROW, tablesOf } from './sql-schema.js';
import { subscribe, subscriptionsOf, unsubscribe } from './sql-subscription.js';
import { runnerOf } from './sql-transaction.js';
import { countUnread, listBacklog, listPending, nextExpiry } from './sql-unread.js';
import { numberOf, select, toStored, type Work } from './sql-work.js';
import { SqliteConnection, type SqliteHandle } from './sqlite-connection.js';
import type {
  AdvanceRequest,
  Appended,
  BacklogCursor,
  DeviceMove,
  InboxStore,
  NewMessage,
  Reader,
  ReadSelection,
  StoredMessage,
  Subscription,
} from './store.js';

/** Which database, and the application's own client for it, which stays the application's to close. */
export type SqlStoreOptions = { readonly prefix?: string | undefined } & (
  | {
      readonly dialect: 'sqlite';
      /** `new Database(file)` of better-sqlite3 or libsql, or `new DatabaseSync(file)` of node:sqlite. */
      readonly database: SqliteHandle;
    }
  | {
      readonly dialect: 'postgres';
      /** `new Pool(…)` of pg. One connection of it listens for what is enqueued, where its `max` is above 1. */
      readonly pool: object;
    }
  | {
      readonly dialect: 'mysql';
      /** `createPool(…)` of mysql2 or mysql2/promise; its `charset` must be utf8mb4, which is the default. */
      readonly pool: object;
    }
  | {
      readonly dialect: SqlDialectName;
      /** A Kysely instance for that database; its plugins are left out. */
      readonly kysely: KyselyLike;
    }
);

/** Default of `prefix`. */
const PREFIX = 'sse_';
const PREFIX_PATTERN = /^[a-z][a-z0-9_]{0,29}$/;
/** Transactions in which one cleanup deletes what is left of readers, with a thousand rows each. */
const SWEEPS = 10;
/** Names of nodes that are known to be in the table. */
const NODE_LIMIT = 1_000;

/**
 * The store for an application with a database: SQLite, PostgreSQL 12 or newer, MariaDB 10.6 or newer, MySQL 8.
 *
 * All but SQLite run through the optional package `kysely`.
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION` where the options do not say which database
 * @example
 * const store = new SqlStore({ dialect: 'postgres', pool: new Pool({ connectionString }) });
 */
export class SqlStore implements InboxStore {
  readonly name: SqlDialectName;
  /**
   * Calls back when something was enqueued by any process. Only where `pool` is one of pg, with more than one connection: the
   * others poll.
   */
  readonly onEnqueued?: (callback: () => void) => Promise<() => Promise<void>>;
  readonly #prefix: string;
  readonly #context: Context;
  readonly #connect: () => Promise<SqlConnection>;
  #connection: Promise<SqlConnection> | undefined;
  #migrated: Promise<void> | undefined;
  readonly #nodes = new Set<string>();
  readonly #listeners = new Set<PostgresListener>();

  constructor(options: SqlStoreOptions) {
    const { prefix = PREFIX, dialect: name } = options;
    const dialect = SQL_DIALECTS[name] as (typeof SQL_DIALECTS)[SqlDialectName] | undefined;
    if (dialect === undefined) {
      throw new SseError('SSE_ERR_INVALID_OPTION', `dialect must be sqlite, postgres or mysql; got ${shown(name)}`);
    }
    if (!PREFIX_PATTERN.test(prefix)) {
      throw new SseError('SSE_ERR_INVALID_OPTION', `prefix must match ${PREFIX_PATTERN.source}; got ${shown(prefix)}`);
    }
    this.name = name;
    this.#prefix = prefix;
    this.#context = { dialect, t: tablesOf(prefix) };
    if ('kysely' in options && typeof options.kysely?.executeQuery === 'function') {
      const { kysely } = options;
      this.#connect = async () => new KyselyConnection(kysely, dialect, await kyselyExecutor(dialect));
    } else if ('database' in options && name === 'sqlite' && typeof options.database?.prepare === 'function') {
      const { database } = options;
      this.#connect = async () => new SqliteConnection(database, dialect);
    } else if ('pool' in options && name !== 'sqlite' && typeof options.pool === 'object' && options.pool !== null) {
      const { pool } = options;
      this.#connect = async () =>
        new KyselyConnection(await kyselyOver(name, pool), dialect, await kyselyExecutor(dialect));
      if (name === 'postgres' && mayListen(pool)) {
        this.onEnqueued = (callback) => this.#listen(pool as ListeningPool, callback);
      }
    } else {
      const needed = name === 'sqlite' ? 'database' : 'pool';
      throw new SseError('SSE_ERR_INVALID_OPTION', `dialect ${name} needs the option ${needed} or kysely`);
    }
  }

  /** The SQL that {@link start} would run on an empty database, for those who run migrations by their own tools. */
  static migrations(dialect: SqlDialectName, prefix = PREFIX): string[] {
    return migrationStatements(SQL_DIALECTS[dialect], prefix);
  }

  /**
   * @throws {SseError} `SSE_ERR_INVALID_OPTION` where the connections of a MySQL pool have the sql_mode NO_BACKSLASH_ESCAPES, a
   * database of PostgreSQL has another encoding than UTF8, or a driver gives wrong numbers;
   * `SSE_ERR_STORE_UNUSABLE` where the tables are of a newer version
   */
  async start(): Promise<void> {
    this.#migrated ??= this.#guarded(async (connection) => migrate(connection, this.#context.dialect, this.#prefix));
    try {
      await this.#migrated;
    } catch (error) {
      // The next start tries again.
      this.#migrated = undefined;
      throw error;
    }
  }

  async append(messages: readonly NewMessage[], node: string): Promise<Appended[]> {
    checkMessages(messages);
    checkNames(node);
    if (messages.length === 0) return [];
    const context = this.#context;
    const isKnown = this.#nodes.has(node);
    if (isKnown && goesAtOnce(context, messages)) {
      const stored = await this.#guarded((connection) => appendAtOnce(connection, context, messages, node));
      if (stored !== undefined) return stored;
    }
    const appended = await this.#write(function* () {
      if (!isKnown) yield* ensureNode(context, node);
      return yield* appendMessages(context, messages, node);
    });
    if (this.#nodes.size >= NODE_LIMIT) this.#nodes.clear();
    this.#nodes.add(node);
    return appended;
  }

  async find(eventId: string): Promise<StoredMessage | undefined> {
    const { message } = this.#context.t;
    const [row] = await this.#each(() =>
      select(`SELECT position, ${ENVELOPE} FROM ${message} WHERE event_id = ?`, toStored(eventId)),
    );
    return row && storedMessageOf(row);
  }

  async head(): Promise<number> {
    const { sequence } = this.#context.t;
    const [row] = await this.#each(() => select(`SELECT value FROM ${sequence} WHERE id = ${SEQUENCE_ROW}`));
    return numberOf(row?.value);
  }

  pending(request: { reader: Reader; after: number; limit: number; now: number }): Promise<StoredMessage[]> {
    const { reader, after, limit, now } = request;
    const range = { after, through: Number.MAX_SAFE_INTEGER, limit, now };
    return this.#read(() => listPending(this.#context, reader, range));
  }

  backlog(request: {
    reader: Reader;
    from: number;
    through: number;
    after?: BacklogCursor | undefined;
    limit: number;
    now: number;
  }): Promise<StoredMessage[]> {
    const { reader, from, through, after, limit, now } = request;
    return this.#read(() => listBacklog(this.#context, reader, after, { after: from, through, limit, now }));
  }

  unreadCount(reader: Reader, now: number): Promise<number> {
    return this.#read(() => countUnread(this.#context, reader, now));
  }

  nextExpiry(reader: Reader, now: number): Promise<number> {
    return this.#read(() => nextExpiry(this.#context, reader, now));
  }

  markRead(reader: Reader, selection: ReadSelection, now: number): Promise<number> {
    return this.#write(() => markRead(this.#context, reader, selection, now));
  }

  async subscribe(
    userId: string,
    tenantId: string,
    group: string,
    eventTypes: readonly string[] | undefined,
    limit = 0,
  ): Promise<boolean> {
    checkNames(userId, tenantId, group, ...(eventTypes ?? []));
    return this.#write(() => subscribe(this.#context, userId, tenantId, group, eventTypes, limit));
  }

  unsubscribe(userId: string, tenantId: string, group: string): Promise<boolean> {
    return this.#write(() => unsubscribe(this.#context, userId, tenantId, group));
  }

  subscriptions(reader: Reader, group?: string): Promise<Subscription[]> {
    return this.#each(() => subscriptionsOf(this.#context, reader, group));
  }

  cursor(reader: Reader, device: string): Promise<number> {
    return this.#each(() => cursorOf(this.#context, reader, device));
  }

  async advance(moves: readonly DeviceMove[], request: AdvanceRequest): Promise<void> {
    for (const { reader, device } of moves) checkNames(reader.userId, device);
    for (const work of advancing(this.#context, moves, request)) {
      await this.#write(work);
      // One in this process has taken its time.
      if (this.#context.dialect.hasOneWriter) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  forgetDevices(request: { seenBefore: number; limit: number }): Promise<number> {
    return this.#write(() => forgetDevices(this.#context, request));
  }

  async renewNode(node: string, publishedThrough: number, leaseUntil: number): Promise<void> {
    checkNames(node);
    // Forgotten, perhaps: the next append makes sure.
    if (leaseUntil === 0) this.#nodes.delete(node);
    await this.#write(() => renewNode(this.#context, node, publishedThrough, leaseUntil));
  }

  async relay(request: Parameters<InboxStore['relay']>[0]): Promise<StoredMessage[]> {
    const { node, limit } = request;
    if (limit <= 0 || !(await this.#read(() => hasWork(this.#context, request)))) return [];
    const context = this.#context;
    return this.#write(function* () {
      yield* ensureNode(context, node);
      return yield* relay(context, request);
    });
  }

  async relayed(node: string, positions: readonly number[]): Promise<void> {
    if (positions.length > 0) await this.#write(() => relayed(this.#context, node, positions));
  }

  firstUnpublished(node: string): Promise<number> {
    return this.#read(() => firstUnpublished(this.#context, node));
  }

  async enqueue(tx: unknown, messages: readonly NewMessage[]): Promise<void> {
    checkMessages(messages);
    const { dialect } = this.#context;
    const runner = runnerOf(tx, dialect);
    const run = isThenable(runner) ? await runner : runner;
    try {
      for (const statement of enqueueMessages(this.#context, messages)) {
        const done = run(statement);
        // On SQLite nothing is waited for: a transaction of better-sqlite3 ends with the function that calls this.
        if (isThenable(done)) await done;
      }
      if (dialect.name === 'postgres' && messages.length > 0) {
        await run({ sql: "SELECT pg_notify(?, '')", parameters: [this.#channel] });
      }
    } catch (error) {
      throw storeError(error);
    }
  }

  async cleanup(request: CleanupRequest): Promise<number> {
    const deleted = await this.#write(() => cleanup(this.#context, request));
    // Bounded, as everything is: what is left is for the next call, of whichever node.
    for (let i = 0; i < SWEEPS && (await this.#write(() => sweep(this.#context))); i++);
    return deleted;
  }

  async close(): Promise<void> {
    for (const listener of this.#listeners) await listener.close();
    this.#listeners.clear();
  }

  get #channel(): string {
    return `${this.#prefix}enqueued`;
  }

  async #listen(pool: ListeningPool, callback: () => void): Promise<() => Promise<void>> {
    const listener = new PostgresListener(pool, this.#channel, callback);
    this.#listeners.add(listener);
    try {
      await listener.open();
    } catch (error) {
      this.#listeners.delete(listener);
      throw storeError(error);
    }
    return async () => {
      this.#listeners.delete(listener);
      await listener.close();
    };
  }

  #write<T>(work: () => Work<T>): Promise<T> {
    return this.#guarded((connection) => connection.transaction('write', work));
  }

  #read<T>(work: () => Work<T>): Promise<T> {
    return this.#guarded((connection) => connection.transaction('read', work));
  }

  #each<T>(work: () => Work<T>): Promise<T> {
    return this.#guarded((connection) => connection.each(work));
  }

  async #guarded<T>(use: (connection: SqlConnection) => Promise<T>): Promise<T> {
    this.#connection ??= this.#connect();
    try {
      return await use(await this.#connection);
    } catch (error) {
      throw storeError(error);
    }
  }
}

/** Not with the only connection: nobody else would ever get it. */
function mayListen(pool: object): boolean {
  return (pool as { readonly options?: { readonly max?: unknown } }).options?.max !== 1;
}
