/** What SqliteBus does with its file: refuses, locks, makes, and what its ids mean. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SqliteBus, type SqliteBusOptions } from '../../src/buses/sqlite.js';
import { type BusStatus, isSseError } from '../../src/index.js';
import { root } from '../support/package.js';
import { testDrivers } from './sqlite-drivers.js';
import { hashes } from './sqlite-files.js';
import { event, folderOfTest, historyWith, read, started } from './sqlite-history.js';

const [libsql] = await testDrivers();

describe('a file that is no history of ours is refused, and left as it was', () => {
  const cases: Record<string, (file: string) => unknown> = {
    'random bytes': (file) => writeFileSync(file, Buffer.from(Array.from({ length: 8192 }, (_, i) => (i * 37) % 251))),
    'a few bytes of text': (file) => writeFileSync(file, 'hello\n'),
    'a folder': (file) => void mkdirSync(file),
    'the database of another application': (file) => {
      const db = libsql!.open(file);
      db.exec(
        'PRAGMA application_id = 7; PRAGMA user_version = 3; CREATE TABLE users (name); INSERT INTO users VALUES (1)',
      );
      db.close();
    },
    'the database of an application that marks nothing, in write-ahead mode': (file) => {
      const original = path.join(folderOfTest(), 'application.db');
      const db = libsql!.open(original);
      db.exec('CREATE TABLE sse_meta (name); INSERT INTO sse_meta VALUES (1)');
      db.prepare('PRAGMA journal_mode = WAL').all();
      db.close();
      // Of the original libsql lets go, and takes its log away, when its statements are collected as garbage.
      copyFileSync(original, file);
    },
    'a history of a newer version, by its header': async (file) => {
      await historyWith(3, file);
      const bytes = readFileSync(file);
      bytes.writeUInt32BE(2, 60);
      writeFileSync(file, bytes);
    },
    'a history of a newer version, by its table': async (file) => {
      await historyWith(3, file);
      const db = libsql!.open(file);
      db.exec('UPDATE sse_meta SET schema = 2');
      db.close();
    },
    'a history without its tables': async (file) => {
      await historyWith(3, file);
      const db = libsql!.open(file);
      db.exec('DROP TABLE sse_runs');
      db.close();
    },
    'text as long as pages are': (file) => writeFileSync(file, 'No database at all.\n'.repeat(2_000)),
    'a history whose first page is that of another database': async (file) => {
      await historyWith(500, file);
      const other = `${file}.other`;
      const db = libsql!.open(other);
      db.exec('PRAGMA application_id = 7; CREATE TABLE users (name)');
      db.close();
      const bytes = readFileSync(file);
      readFileSync(other).copy(bytes, 0, 0, 4_096);
      writeFileSync(file, bytes);
      rmSync(other);
    },
    'a history two pages of which changed places': async (file) => {
      await historyWith(500, file);
      const bytes = readFileSync(file);
      const [one, other] = [Buffer.from(bytes.subarray(20_480, 24_576)), Buffer.from(bytes.subarray(4_096, 8_192))];
      one.copy(bytes, 4_096);
      other.copy(bytes, 20_480);
      writeFileSync(file, bytes);
    },
    'a history that was cut short': async (file) => {
      await historyWith(500, file);
      truncateSync(file, 40_960);
    },
    'a history with damage in the middle': async (file) => {
      await historyWith(500, file);
      const bytes = readFileSync(file);
      bytes.fill(0xa5, 61_440, 69_632);
      writeFileSync(file, bytes);
    },
  };
  for (const [name, make] of Object.entries(cases)) {
    test(name, async () => {
      const folder = folderOfTest();
      const file = path.join(folder, 'history.db');
      await make(file);
      const before = name === 'a folder' ? {} : hashes(folder);
      const bus = new SqliteBus({ database: file, lockTimeout: 0 });
      onTestFinished(() => bus.close());
      const statuses: BusStatus[] = [];
      const status = (one: BusStatus) => void statuses.push(one);
      const error: unknown = await bus.start({ deliver() {}, lost() {}, status, error() {} }).then(
        () => 'started',
        (reason: unknown) => reason,
      );
      expect(isSseError(error) && error.code, String(error)).toBe('SSE_ERR_HISTORY_UNUSABLE');
      expect((error as Error).message.length).toBeLessThan(400);
      expect((error as Error).message, 'an option that a file does not have').not.toContain('tablePrefix');
      expect(statuses.at(-1)).toMatchObject({ state: 'down', reason: (error as Error).message });
      await bus.close();
      if (name !== 'a folder') expect(hashes(folder)).toMatchObject(before);
    });
  }

  test('with what a crash left beside it, too', async () => {
    const folder = folderOfTest();
    const file = path.join(folder, 'history.db');
    await historyWith(500, file);
    const bus = await started({ database: file });
    await bus.publish(event('in the log'));
    // As after a kill -9: the file and its log, of no process.
    const crashed = folderOfTest();
    for (const end of ['', '-wal']) copyFileSync(file + end, path.join(crashed, `history.db${end}`));
    await bus.close();
    const copy = path.join(crashed, 'history.db');
    const bytes = readFileSync(copy);
    bytes.fill(0xa5, 61_440, 69_632);
    writeFileSync(copy, bytes);
    const before = hashes(crashed);
    await expect(started({ database: copy })).rejects.toMatchObject({ code: 'SSE_ERR_HISTORY_UNUSABLE' });
    expect(hashes(crashed)).toMatchObject(before);
  });
});

describe('who may use a file', () => {
  test('an empty file becomes a history, and after close it is one file', async () => {
    const folder = folderOfTest();
    const file = path.join(folder, 'history.db');
    writeFileSync(file, '');
    await historyWith(10, file);
    expect(Object.keys(hashes(folder))).toEqual(['history.db']);
    const bus = await started({ database: file });
    expect(bus.head().sequence).toBe(10);
  });

  test('a file whose making was killed half way is made anew', async () => {
    for (const pages of [1, 3, 8]) {
      const file = path.join(folderOfTest(), 'history.db');
      await historyWith(0, file);
      truncateSync(file, pages * 4_096);
      // What SQLite needs to take it back to nothing: https://sqlite.org/fileformat.html#the_rollback_journal
      const journal = Buffer.alloc(512);
      journal.write('d9d505f920a163d7', 'hex');
      journal.writeUInt32BE(512, 20);
      journal.writeUInt32BE(4_096, 24);
      writeFileSync(`${file}-journal`, journal);
      const ids = await historyWith(3, file);
      const bus = await started({ database: file });
      expect((await read(bus, ids[0]!)).events).toHaveLength(2);
    }
  });

  test('a second process is refused while the first lives, and gets in at once when it was killed', async () => {
    const file = path.join(folderOfTest(), 'history.db');
    const holder = fork(path.join(root, 'test/buses/children/holder.mjs'), [file]);
    onTestFinished(() => void holder.kill('SIGKILL'));
    await once(holder, 'message');
    await expect(started({ database: file })).rejects.toMatchObject({
      code: 'SSE_ERR_BUS_UNAVAILABLE',
      retryable: true,
      message: expect.stringContaining('in use by another process'),
    });
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    const bus = await started({ database: file });
    expect(bus.head().sequence).toBe(1);
  });

  test('a second process waits for the first to let go, as in a deploy', async () => {
    const file = path.join(folderOfTest(), 'history.db');
    const holder = fork(path.join(root, 'test/buses/children/holder.mjs'), [file]);
    onTestFinished(() => void holder.kill('SIGKILL'));
    await once(holder, 'message');
    const starting = started({ database: file, lockTimeout: 10_000 });
    holder.send('let go');
    const bus = await starting;
    expect(bus.head().sequence).toBe(1);
  });

  test('a start that was refused may be tried again', async () => {
    const file = path.join(folderOfTest(), 'history.db');
    const first = await started({ database: file });
    const bus = new SqliteBus({ database: file, lockTimeout: 0 });
    onTestFinished(() => bus.close());
    const receiver = { deliver() {}, lost() {}, status() {}, error() {} };
    await expect(bus.start(receiver)).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
    await expect(bus.publish(event('too early'))).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
    await first.close();
    await bus.start(receiver);
    expect(bus.status().state).toBe('up');
  });
});

for (const driver of await testDrivers()) {
  describe(`a database of ${driver.name} that the application has too`, () => {
    const open = () => {
      const database = driver.open(path.join(folderOfTest(), 'application.db'));
      onTestFinished(() => void database.close());
      return database;
    };

    test('keeps its own tables, versions and connection', async () => {
      const database = open();
      database.exec('PRAGMA application_id = 7; PRAGMA user_version = 3; CREATE TABLE users (name)');
      const bus = await started({ database, tablePrefix: 'events_' });
      await bus.publish(event('1'));
      await bus.close();
      database.exec("INSERT INTO users VALUES ('alice')");
      expect(database.prepare('PRAGMA application_id').all()).toEqual([{ application_id: 7 }]);
      expect(database.prepare('PRAGMA user_version').all()).toEqual([{ user_version: 3 }]);
      expect(database.prepare('SELECT data FROM events_events').all()).toEqual([{ data: '1' }]);
    });

    test('is refused where tables of that name are something else', async () => {
      const database = open();
      database.exec('CREATE TABLE sse_meta (name)');
      await expect(started({ database })).rejects.toMatchObject({ code: 'SSE_ERR_HISTORY_UNUSABLE' });
      expect(database.prepare('SELECT name FROM sqlite_master').all()).toEqual([{ name: 'sse_meta' }]);
    });

    test('has one writer: who started last; the one before goes down and writes nothing more', async () => {
      const database = open();
      const first = await started({ database });
      await first.publish(event('1'));
      const second = await started({ database });
      await expect(first.publish(event('lost'))).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
      expect(first.statuses.at(-1)).toMatchObject({ state: 'down', reason: expect.stringContaining('taken over') });
      await second.publish(event('2'));
      expect(database.prepare('SELECT data FROM sse_events').all()).toEqual([{ data: '1' }, { data: '2' }]);
      expect(first.events.map(({ data }) => data)).toEqual(['1']);
    });

    test('an event is committed before it is delivered, and a turn is one transaction', async () => {
      const database = open();
      let commits = 0;
      let isOpen = false;
      const watched = {
        exec: (sql: string) => {
          if (sql === 'COMMIT') commits++;
          isOpen = sql.startsWith('BEGIN');
          return database.exec(sql);
        },
        prepare: (sql: string) => database.prepare(sql),
        close: () => database.close(),
      };
      const bus = await started({ database: watched });
      commits = 0;
      const whenDelivered: boolean[] = [];
      const push = bus.events.push.bind(bus.events);
      bus.events.push = (delivered) => {
        whenDelivered.push(isOpen);
        return push(delivered);
      };
      await Promise.all(Array.from({ length: 300 }, (_, i) => bus.publish(event(String(i)))));
      expect(whenDelivered).toEqual(Array.from({ length: 300 }, () => false));
      expect(commits).toBe(1);
    });
  });
}

describe('what ids and gaps mean over time', () => {
  test('a new file is a new epoch', async () => {
    const folder = folderOfTest();
    const [id] = await historyWith(1, path.join(folder, 'old.db'));
    const bus = await started({ database: path.join(folder, 'new.db') });
    expect(await read(bus, id!)).toMatchObject({ events: [], loss: 'epoch' });
  });

  test('events that a power cut or an old backup took away are told as a gap, also when their numbers are used again', async () => {
    const folder = folderOfTest();
    const file = path.join(folder, 'history.db');
    const kept = await historyWith(5, file);
    copyFileSync(file, path.join(folder, 'backup.db'));
    const bus = await started({ database: file });
    const lost = await Promise.all(['6', '7', '8'].map((data) => bus.publish(event(data))));
    await bus.close();

    const again = await started({ database: path.join(folder, 'backup.db') });
    expect(await read(again, lost[1]!)).toMatchObject({ events: [], loss: 'epoch' });
    await Promise.all(['other 6', 'other 7', 'other 8'].map((data) => again.publish(event(data))));
    expect(await read(again, lost[1]!)).toMatchObject({ events: [], loss: 'epoch' });
    const fine = await read(again, kept[4]!);
    expect(fine.loss).toBeUndefined();
    expect(fine.events.map(({ data }) => data)).toEqual(['other 6', 'other 7', 'other 8']);
  });

  test('the cursor of before the first event leads on after many restarts', async () => {
    const file = path.join(folderOfTest(), 'history.db');
    let bus = await started({ database: file });
    const { id } = bus.head();
    for (let round = 0; round < 4; round++) {
      await bus.close();
      bus = await started({ database: file });
    }
    expect(bus.head().id).toBe(id);
    expect((await read(bus, id)).loss).toBeUndefined();
    await bus.publish(event('first'));
    expect((await read(bus, id)).events.map(({ data }) => data)).toEqual(['first']);
  });
});

test.each([
  [{ database: '' }, 'database'],
  [{ database: ':memory:' }, 'database'],
  [{ database: 'file:history.db?mode=ro' }, 'begins with "file:"'],
  [{ database: 'libsql://user:secret@host' }, 'begins with "libsql:";'],
  [{ database: {} }, 'database'],
  [{ database: 'x', historySize: 0 }, 'historySize'],
  [{ database: 'x', historyBytes: -1 }, 'historyBytes'],
  [{ database: 'x', synchronous: 'sometimes' }, 'synchronous'],
  [{ database: 'x', tablePrefix: 'a_' }, 'tablePrefix'],
  [{ database: libsql!.open(':memory:'), tablePrefix: 'a;b' }, 'tablePrefix'],
  [{ database: 'x', historyTLL: 5 }, 'historyTLL'],
])('wrong options are refused by name: %#', (options, name) => {
  expect(() => new SqliteBus(options as SqliteBusOptions)).toThrow(
    expect.objectContaining({ code: 'SSE_ERR_INVALID_OPTION', message: expect.stringContaining(name) }),
  );
});
