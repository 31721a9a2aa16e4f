/** What a SqliteBus can be told, the defaults, and one function that fills in and checks. */
import { type Clock, systemClock } from '../core/clock.js';
import { SseError, shown } from '../core/errors.js';
import { checkOptionNames } from '../core/option-names.js';
import type { SqliteDatabase } from './sqlite-driver.js';
import type { SqliteSynchronous } from './sqlite-file.js';

/** Options of SqliteBus. Durations are in milliseconds, sizes in bytes. */
export interface SqliteBusOptions {
  /**
   * A file name (a path, no `file:` address), or a database of better-sqlite3, libsql or node:sqlite. The bus closes only
   * what it opened. A file is the bus' alone, and of one process; it is made where there is none. In a database of yours
   * the bus has tables of its own, and nothing else may be in a transaction when it writes.
   */
  readonly database: string | SqliteDatabase;
  /** What the names of the tables start with, in a database of yours. Default `sse_`. */
  readonly tablePrefix?: string | undefined;
  /** Events kept per channel key, 1 or more. Default 1 000. */
  readonly historySize?: number | undefined;
  /** Bytes of history in all: text and 64 per event. Default 64 MiB; 0: no limit. */
  readonly historyBytes?: number | undefined;
  /** Age in ms at which an event is forgotten. Default 0: no age limit. */
  readonly historyTtl?: number | undefined;
  /**
   * What a power cut may take of that for which `publish` resolved; a crash of the process takes nothing in any case.
   * `full`: nothing, at the price of a disk flush per turn. `normal`: the last moments, which clients are told as a gap.
   * `off`: it may also damage the file, which is then refused at the next start. Default `normal`.
   */
  readonly synchronous?: SqliteSynchronous | undefined;
  /**
   * With a database of yours: leaves `journal_mode` and `synchronous` as they are. Default false: write-ahead logging is
   * turned on, and `synchronous` is set as above.
   */
  readonly keepSettings?: boolean | undefined;
  /** Memory for events that are read again and again. Default 16 MiB. */
  readonly cacheBytes?: number | undefined;
  /** How long `start` waits for another process to let go of the file, in ms. Default 5 000; 0: not at all. */
  readonly lockTimeout?: number | undefined;
  readonly clock?: Clock | undefined;
}

/** The defaults of {@link SqliteBusOptions}. */
export const SQLITE_BUS_DEFAULTS = Object.freeze({
  tablePrefix: 'sse_',
  historySize: 1_000,
  historyBytes: 64 * 1024 * 1024,
  historyTtl: 0,
  synchronous: 'normal' as SqliteSynchronous,
  keepSettings: false,
  cacheBytes: 16 * 1024 * 1024,
  lockTimeout: 5_000,
});

export type ResolvedSqliteBusOptions = {
  readonly [K in keyof SqliteBusOptions]-?: Exclude<SqliteBusOptions[K], undefined>;
};

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
export function resolveSqliteOptions(options: SqliteBusOptions): ResolvedSqliteBusOptions {
  const given = Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined));
  const resolved = { ...SQLITE_BUS_DEFAULTS, clock: systemClock, ...given } as unknown as ResolvedSqliteBusOptions;
  const refuse = (option: keyof SqliteBusOptions, allowed: string): never => {
    throw new SseError('SSE_ERR_INVALID_OPTION', `${option} must be ${allowed}; got ${shown(resolved[option])}`);
  };
  checkOptionNames('SqliteBus', given, ['database', 'clock', ...Object.keys(SQLITE_BUS_DEFAULTS)]);
  const { database, tablePrefix, historySize, synchronous, clock } = resolved;
  if (typeof database === 'string') {
    if (database === '' || database === ':memory:') {
      refuse('database', 'the name of a file, or a database object; for a history in memory there is MemoryBus');
    }
    // Some clients take such a name for an address, others for a file: what is checked would not be what is opened. It is not
    // shown, because it may hold a password.
    const [scheme] = /^(file|libsql|https?|wss?):/i.exec(database) ?? [];
    if (scheme !== undefined) {
      const message = `database must be a path or a database object; got a name that begins with ${shown(scheme)}`;
      throw new SseError('SSE_ERR_INVALID_OPTION', `${message}; write ./ before a file of such a name`);
    }
    if (given.tablePrefix !== undefined) refuse('tablePrefix', 'left out with a file name: the file is the bus’ alone');
    if (given.keepSettings !== undefined)
      refuse('keepSettings', 'left out with a file name: the file is the bus’ alone');
  } else if (typeof database?.exec !== 'function' || typeof database.prepare !== 'function') {
    refuse('database', 'a file name, or a database of better-sqlite3, libsql or node:sqlite');
  }
  if (!/^[A-Za-z_][A-Za-z0-9_]{0,39}$/.test(tablePrefix)) refuse('tablePrefix', 'at most 40 letters, digits and _');
  for (const option of ['historySize', 'historyBytes', 'historyTtl', 'cacheBytes', 'lockTimeout'] as const) {
    const value = resolved[option];
    if (!Number.isSafeInteger(value) || value < 0) refuse(option, 'a whole number, 0 or more');
  }
  if (historySize === 0) refuse('historySize', '1 or more: a durable bus without history keeps nothing');
  if (!['full', 'normal', 'off'].includes(synchronous)) refuse('synchronous', "'full', 'normal' or 'off'");
  if (typeof clock?.now !== 'function' || typeof clock.every !== 'function') refuse('clock', 'a Clock');
  return Object.freeze(resolved);
}
