/** History files that cannot be used for what lies around them: a foreign log, permissions, somebody else's lock. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, copyFileSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SqliteBus, type SqliteBusOptions } from '../../src/buses/sqlite.js';
import { root } from '../support/package.js';
import { until } from '../support/until.js';
import { testDrivers } from './sqlite-drivers.js';
import { hashes } from './sqlite-files.js';
import { event, folderOfTest } from './sqlite-history.js';

const drivers = await testDrivers();
const [libsql] = drivers;
const NOBODY = 65_534;

async function started(options: SqliteBusOptions): Promise<SqliteBus> {
  const bus = new SqliteBus({ lockTimeout: 0, ...options });
  onTestFinished(() => bus.close());
  await bus.start({ deliver() {}, lost() {}, status() {}, error() {} });
  return bus;
}

/** A closed history with events. */
async function history(file: string, count = 100): Promise<void> {
  const bus = await started({ database: file });
  await Promise.all(Array.from({ length: count }, (_, i) => bus.publish(event(`${i} ${'x'.repeat(200)}`))));
  await bus.close();
}

/** A file and its log as a kill -9 leaves them. */
async function crashed(make: () => Promise<{ file: string; close(): unknown }>): Promise<string> {
  const { file, close } = await make();
  const copy = path.join(folderOfTest(), 'history.db');
  for (const end of ['', '-wal']) copyFileSync(file + end, copy + end);
  await close();
  return copy;
}

async function crashedHistory(count = 3): Promise<string> {
  return crashed(async () => {
    const file = path.join(folderOfTest(), 'history.db');
    await history(file);
    const bus = await started({ database: file });
    for (let i = 0; i < count; i++) await bus.publish(event(`in the log ${i}`));
    return { file, close: () => bus.close() };
  });
}

async function crashedApplication(statements: string): Promise<string> {
  return crashed(async () => {
    const file = path.join(folderOfTest(), 'application.db');
    const database = libsql!.open(file);
    database.exec('PRAGMA page_size = 4096');
    database.prepare('PRAGMA journal_mode = WAL').all();
    database.exec(statements);
    return { file, close: () => database.close() };
  });
}

describe('a log that belongs to another database', () => {
  const logs: Record<string, () => Promise<string>> = {
    'of another history': () => crashedHistory(),
    'of another history, with many transactions': () => crashedHistory(200),
    'of an application': () => crashedApplication('CREATE TABLE users (name); INSERT INTO users VALUES (1)'),
    'of an application that calls its table as we do': () =>
      crashedApplication('CREATE TABLE sse_meta (id INTEGER PRIMARY KEY, epoch); INSERT INTO sse_meta VALUES (1, 2)'),
    'with pages of another size': async () => {
      const copy = await crashedApplication('CREATE TABLE users (name)');
      const bytes = readFileSync(`${copy}-wal`);
      bytes.writeUInt32BE(8_192, 8);
      writeFileSync(`${copy}-wal`, bytes);
      return copy;
    },
  };
  for (const [name, make] of Object.entries(logs)) {
    test(`is not replayed: ${name}`, async () => {
      const file = path.join(folderOfTest(), 'history.db');
      await history(file);
      copyFileSync(`${await make()}-wal`, `${file}-wal`);
      const before = hashes(path.dirname(file));
      await expect(started({ database: file })).rejects.toMatchObject({
        code: 'SSE_ERR_HISTORY_UNUSABLE',
        retryable: false,
        message: expect.stringContaining('belongs to another database'),
      });
      expect(hashes(path.dirname(file))).toEqual(before);
    });
  }

  test('is refused also by a history that has a log of its own in its file only', async () => {
    const file = await crashedHistory();
    copyFileSync(`${await crashedHistory()}-wal`, `${file}-wal`);
    await expect(started({ database: file })).rejects.toMatchObject({ code: 'SSE_ERR_HISTORY_UNUSABLE' });
  });

  test('its own log is read, whatever else was published before the crash', async () => {
    for (const count of [0, 1, 3, 500]) {
      const bus = await started({ database: await crashedHistory(count) });
      expect(bus.head().sequence).toBe(100 + count);
    }
  });

  test('a log that was never begun, or cut short in its header, is an empty one', async () => {
    for (const bytes of [0, 7, 4_096]) {
      const file = path.join(folderOfTest(), 'history.db');
      await history(file);
      writeFileSync(`${file}-wal`, Buffer.alloc(bytes));
      const bus = await started({ database: file });
      expect(bus.head().sequence).toBe(100);
    }
  });
});

describe('a link to a history', () => {
  /** As where every deploy has a folder of its own, and what lasts is beside them. */
  function linked(file: string): string {
    const link = path.join(folderOfTest(), 'linked.db');
    symlinkSync(file, link);
    return link;
  }

  test('leads to the log that a crash left, too', async () => {
    const bus = await started({ database: linked(await crashedHistory(3)) });
    expect(bus.head().sequence).toBe(103);
  });

  test('does not lead past the look at a log that belongs to another database', async () => {
    const file = path.join(folderOfTest(), 'history.db');
    await history(file);
    copyFileSync(`${await crashedHistory()}-wal`, `${file}-wal`);
    const before = hashes(path.dirname(file));
    await expect(started({ database: linked(file) })).rejects.toMatchObject({
      code: 'SSE_ERR_HISTORY_UNUSABLE',
      message: expect.stringContaining('belongs to another database'),
    });
    expect(hashes(path.dirname(file))).toEqual(before);
  });
});

describe('what may not be written', () => {
  /** Root may write to everything: what is asked here is asked as nobody. */
  async function asNobody<T>(folder: string, work: () => Promise<T>): Promise<T> {
    if (process.getuid?.() !== 0) return work();
    for (const name of ['', ...readdirSync(folder)]) chownSync(path.join(folder, name), NOBODY, NOBODY);
    process.seteuid?.(NOBODY);
    try {
      return await work();
    } finally {
      process.seteuid?.(0);
    }
  }

  const starting = (folder: string, file: string) =>
    asNobody(folder, async () => {
      const bus = new SqliteBus({ database: file, lockTimeout: 0 });
      try {
        await bus.start({ deliver() {}, lost() {}, status() {}, error() {} });
        return 'started';
      } catch (error) {
        return error;
      } finally {
        await bus.close();
      }
    });

  const refused = (file: string) =>
    expect.objectContaining({
      code: 'SSE_ERR_HISTORY_UNUSABLE',
      retryable: false,
      message: expect.stringMatching(
        new RegExp(`^${file} cannot be used .* must be able to read and write it, and to make files in its folder`),
      ),
    });

  test('a file that may be read only is refused, and left as it was', async () => {
    const folder = folderOfTest();
    const file = path.join(folder, 'history.db');
    await history(file);
    chmodSync(file, 0o444);
    const before = hashes(folder);
    expect(await starting(folder, file)).toEqual(refused(file));
    expect(hashes(folder)).toEqual(before);
    chmodSync(file, 0o644);
    expect(await starting(folder, file)).toBe('started');
  });

  test('a file that may not even be read is refused', async () => {
    const folder = folderOfTest();
    const file = path.join(folder, 'history.db');
    await history(file);
    chmodSync(file, 0o000);
    expect(await starting(folder, file)).toEqual(refused(file));
    chmodSync(file, 0o644);
    expect(await starting(folder, file)).toBe('started');
  });

  test.each([
    ['an old history', true],
    ['a new one', false],
  ])('%s in a folder that may not be written to is refused, and nothing is left there', async (_, isThere) => {
    const folder = folderOfTest();
    const file = path.join(folder, 'history.db');
    if (isThere) await history(file);
    const before = hashes(folder);
    onTestFinished(() => chmodSync(folder, 0o755));
    chmodSync(folder, 0o555);
    expect(await starting(folder, file)).toEqual(refused(file));
    expect(hashes(folder)).toEqual(before);
    chmodSync(folder, 0o755);
    expect(await starting(folder, file)).toBe('started');
  });

  test('what a crash left in a folder that may not be written to is left there', async () => {
    const file = await crashedHistory();
    const folder = path.dirname(file);
    const before = hashes(folder);
    onTestFinished(() => chmodSync(folder, 0o755));
    chmodSync(folder, 0o555);
    expect(await starting(folder, file)).toEqual(refused(file));
    expect(hashes(folder)).toEqual(before);
    chmodSync(folder, 0o755);
    expect(await starting(folder, file)).toBe('started');
  });

  test('a folder that is not there is named', async () => {
    const file = path.join(folderOfTest(), 'not', 'there.db');
    await expect(started({ database: file })).rejects.toEqual(refused(file));
  });
});

describe('a file that another program holds locked', () => {
  async function locked(): Promise<{ file: string; letGo(): void }> {
    const file = path.join(folderOfTest(), 'history.db');
    await history(file);
    const locker = fork(path.join(root, 'test/buses/children/locker.mjs'), [file]);
    onTestFinished(() => void locker.kill('SIGKILL'));
    await once(locker, 'message');
    return { file, letGo: () => locker.send('let go') };
  }

  test('is refused after lockTimeout and left as it was; meanwhile the process goes on', async () => {
    const { file } = await locked();
    const before = hashes(path.dirname(file));
    let turns = 0;
    const ticking = setInterval(() => turns++, 1);
    onTestFinished(() => clearInterval(ticking));
    await expect(started({ database: file, lockTimeout: 500 })).rejects.toMatchObject({
      code: 'SSE_ERR_BUS_UNAVAILABLE',
      status: 503,
      retryable: true,
      message: expect.stringContaining(`${file} is in use by another process`),
    });
    expect(turns).toBeGreaterThan(5);
    expect(hashes(path.dirname(file))).toMatchObject(before);
  });

  test('is taken as soon as it is free', async () => {
    const { file, letGo } = await locked();
    const bus = new SqliteBus({ database: file, lockTimeout: 15_000 });
    onTestFinished(() => bus.close());
    const starting = bus.start({ deliver() {}, lost() {}, status() {}, error() {} });
    letGo();
    await starting;
    expect(bus.head().sequence).toBe(100);
  });

  test.each(drivers)(
    'a database of $name that is locked: publishes are rejected until it is free',
    async ({ open }) => {
      const file = path.join(folderOfTest(), 'application.db');
      const database = open(file);
      onTestFinished(() => void database.close());
      const bus = await started({ database });
      const other = open(file);
      onTestFinished(() => void other.close());
      database.exec('PRAGMA busy_timeout = 0');
      other.exec('BEGIN IMMEDIATE');
      await expect(bus.publish(event('lost'))).rejects.toMatchObject({
        code: 'SSE_ERR_BUS_UNAVAILABLE',
        retryable: true,
        message: expect.stringContaining('locked'),
      });
      expect(bus.status().state).toBe('down');
      other.exec('ROLLBACK');
      await until(() => bus.status().state === 'up', 'the bus to be up again');
      await bus.publish(event('kept'));
      expect(bus.head().sequence).toBe(1);
    },
  );

  test.each(drivers)('a database of $name that is locked at the start passes, and says so', async ({ open }) => {
    const file = path.join(folderOfTest(), 'application.db');
    const database = open(file);
    onTestFinished(() => void database.close());
    const other = open(file);
    onTestFinished(() => void other.close());
    database.prepare('PRAGMA journal_mode = WAL').all();
    database.exec('PRAGMA busy_timeout = 0');
    // New, and with tables that are there.
    for (let i = 0; i < 2; i++) {
      other.exec('BEGIN IMMEDIATE');
      const one = new SqliteBus({ database });
      await expect(one.start({ deliver() {}, lost() {}, status() {}, error() {} })).rejects.toMatchObject({
        code: 'SSE_ERR_BUS_UNAVAILABLE',
        retryable: true,
        message: expect.stringContaining('locked'),
      });
      other.exec('ROLLBACK');
      await one.start({ deliver() {}, lost() {}, status() {}, error() {} });
      await one.close();
    }
  });
});
