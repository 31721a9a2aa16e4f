/** The SQLite clients that this Node has, each as the class that opens a database. */
import Libsql from 'libsql';
import type { SqliteDatabase } from '../../src/buses/sqlite.js';

type DatabaseClass = new (file: string) => SqliteDatabase;

export interface TestDriver {
  readonly name: string;
  open(file: string): SqliteDatabase;
}

/** libsql always; better-sqlite3 where somebody installed it; node:sqlite from Node 22.13 on. */
export async function testDrivers(): Promise<TestDriver[]> {
  const drivers: TestDriver[] = [];
  const add = (name: string, Database: unknown): void => {
    drivers.push({ name, open: (file) => new (Database as DatabaseClass)(file) });
  };
  add('libsql', Libsql);
  try {
    // Not a development dependency: installing it compiles for minutes. Where somebody has it, it is tested.
    const name: string = 'better-sqlite3';
    const { default: BetterSqlite } = (await import(name)) as { default: unknown };
    new (BetterSqlite as DatabaseClass)(':memory:').close();
    add('better-sqlite3', BetterSqlite);
  } catch {
    // An optional peer that needs a native build: the development dependencies leave it out.
  }
  const builtin = process.getBuiltinModule?.('node:sqlite' as 'node:fs') as { DatabaseSync?: unknown } | undefined;
  if (builtin?.DatabaseSync !== undefined) add('node:sqlite', builtin.DatabaseSync);
  return drivers;
}
