/** A history file that this process has open: a second look at it would end its lock, in silence, so there is none. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { linkSync, readdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { SqliteBus, type SqliteBusOptions } from '../../src/buses/sqlite.js';
import { root } from '../support/package.js';
import { skipUnless } from '../support/skip.js';
import { buildCopies, type Copies } from './sqlite-copies.js';
import { testDrivers } from './sqlite-drivers.js';
import { event, folderOfTest } from './sqlite-history.js';

const [libsql] = await testDrivers();

const receiver = { deliver() {}, lost() {}, status() {}, error() {} };

async function started(options: SqliteBusOptions): Promise<SqliteBus> {
  const bus = new SqliteBus({ lockTimeout: 0, ...options });
  onTestFinished(() => bus.close());
  await bus.start(receiver);
  return bus;
}

/** A closed history with one event. */
async function history(file: string): Promise<void> {
  const bus = await started({ database: file });
  await bus.publish(event('old'));
  await bus.close();
}

let copies: Copies;
beforeAll(async () => {
  copies = await buildCopies();
});
afterAll(() => copies.remove());

const refusedBy = (holder: string) => ({
  code: 'SSE_ERR_BUS_UNAVAILABLE',
  message: expect.stringContaining(`is in use by ${holder}`),
});

/** The lock is still there: whoever looked at the file has not ended it. */
async function expectLocked(file: string): Promise<void> {
  const other = fork(path.join(root, 'test/buses/children/holder.mjs'), [file, '0'], { silent: true });
  onTestFinished(() => void other.kill('SIGKILL'));
  let said = '';
  other.stderr?.on('data', (bytes) => {
    said += bytes;
  });
  const outcome = await Promise.race([
    once(other, 'message').then(() => 'the other process has it'),
    once(other, 'close').then(() => said),
  ]);
  expect(outcome).toContain('SSE_ERR_BUS_UNAVAILABLE');
}

async function inThread(file: string): Promise<{ said: unknown; letGo(): Promise<void> }> {
  const workerData = { module: copies.esm, file };
  const worker = new Worker(path.join(root, 'test/buses/children/worker.mjs'), { workerData });
  onTestFinished(async () => void (await worker.terminate()));
  const [said] = await once(worker, 'message');
  return {
    said,
    async letGo() {
      const ended = once(worker, 'exit');
      worker.postMessage('let go');
      await ended;
    },
  };
}

const seconds: Record<string, () => Promise<typeof SqliteBus>> = {
  'of the same module': async () => SqliteBus,
  'of an ES module of its own': async () => (await import(pathToFileURL(copies.esm).href)).SqliteBus,
  'of the CommonJS build': async () => createRequire(import.meta.url)(copies.cjs).SqliteBus,
};
for (const [name, load] of Object.entries(seconds)) {
  test(`a second bus, ${name}, is refused and does not end the lock of the first`, async () => {
    const file = path.join(folderOfTest(), 'history.db');
    const first = await started({ database: file });
    const Second = await load();
    const second = new Second({ database: file, lockTimeout: 0 });
    onTestFinished(() => second.close());
    await expect(second.start(receiver)).rejects.toMatchObject(refusedBy('another bus of this process'));
    await expectLocked(file);
    await first.publish(event('still mine'));
    expect(first.head().sequence).toBe(1);
    await first.close();
    await second.start(receiver);
    expect(second.head().sequence).toBe(1);
  });
}

test('it is refused under other names too, and when the name has become free', async () => {
  const folder = folderOfTest();
  const file = path.join(folder, 'history.db');
  await started({ database: file });
  linkSync(file, path.join(folder, 'link.db'));
  symlinkSync(file, path.join(folder, 'symlink.db'));
  for (const name of ['link.db', 'symlink.db']) {
    const database = path.join(folder, name);
    await expect(started({ database })).rejects.toMatchObject(refusedBy('another bus of this process'));
  }
  await expectLocked(file);
  // A new file of that name would find the log of the old one.
  renameSync(file, path.join(folder, 'moved.db'));
  await expect(started({ database: file })).rejects.toMatchObject(refusedBy('another bus of this process'));
});

const elsewhere = 'another thread, or another connection, of this process';
const tellsLocks = (): void => skipUnless(process.platform === 'linux', 'only Linux tells which locks a process has');

test('a bus of another thread is refused and does not end the lock', async () => {
  tellsLocks();
  const file = path.join(folderOfTest(), 'history.db');
  const first = await started({ database: file });
  const { said } = await inThread(file);
  expect(said).toMatchObject(refusedBy(elsewhere));
  await expectLocked(file);
  await first.publish(event('still mine'));
  expect(first.head().sequence).toBe(1);
});

test('what another thread has is refused until that lets go', async () => {
  tellsLocks();
  const file = path.join(folderOfTest(), 'history.db');
  const thread = await inThread(file);
  expect(thread.said).toEqual({ code: 'started' });
  await expect(started({ database: file })).rejects.toMatchObject(refusedBy(elsewhere));
  await expectLocked(file);
  await thread.letGo();
  await started({ database: file });
});

test('threads that start at the same moment: one gets it, and keeps its lock', async () => {
  tellsLocks();
  const file = path.join(folderOfTest(), 'history.db');
  await history(file);
  const threads = await Promise.all(Array.from({ length: 4 }, () => inThread(file)));
  const codes = threads.map(({ said }) => (said as { code: string }).code);
  expect(codes.filter((code) => code === 'started').length).toBeLessThan(2);
  expect(codes.filter((code) => code !== 'started' && code !== 'SSE_ERR_BUS_UNAVAILABLE')).toEqual([]);
  if (codes.includes('started')) await expectLocked(file);
});

test('a transaction of the application keeps its lock', async () => {
  tellsLocks();
  const file = path.join(folderOfTest(), 'history.db');
  await history(file);
  const database = libsql!.open(file);
  onTestFinished(() => void database.close());
  database.exec('BEGIN EXCLUSIVE');
  await expect(started({ database: file })).rejects.toMatchObject(refusedBy(elsewhere));
  await expectLocked(file);
  database.exec('ROLLBACK');
  const bus = await started({ database: file });
  expect(bus.head().sequence).toBe(1);
});

test('a probe that a killed process of our number left behind is no hindrance', async () => {
  const folder = folderOfTest();
  const file = path.join(folder, 'history.db');
  writeFileSync(`${file}-probe-${process.pid}`, '');
  await history(file);
  expect(readdirSync(folder)).toEqual(['history.db']);
});
