/** A disk that is full: publishes are rejected, streams stay open, and it goes on by itself when there is space. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { SqliteBus } from '../../src/buses/sqlite.js';
import { type BusStatus, createHandler } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';
import { skipUnless } from '../support/skip.js';
import { openStream } from '../support/stream.js';
import { until } from '../support/until.js';
import { temporaryFolder } from './sqlite-files.js';

/** A disk of 4 MiB; undefined where this user may not mount one. */
function smallDisk(): string | undefined {
  const { folder, remove } = temporaryFolder();
  const disk = path.join(folder, 'disk');
  mkdirSync(disk);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', disk], { stdio: 'pipe' });
  } catch {
    remove();
    return undefined;
  }
  onTestFinished(() => {
    execFileSync('umount', ['-l', disk]);
    remove();
  });
  return disk;
}

test('a full disk rejects publishes, keeps streams open, and recovers by itself', async () => {
  const disk = smallDisk();
  skipUnless(disk, 'only root may mount a small file system (tmpfs) to fill');
  const broker = makeBroker({ bus: new SqliteBus({ database: path.join(disk, 'history.db') }), retry: 0 });
  const statuses: BusStatus[] = [];
  broker.on('busStatus', (status) => {
    statuses.push(status);
  });
  await broker.start();
  const { url } = await serve(createHandler(broker, { topicResolver: () => ['news'] }));
  const stream = await openStream(url);
  await stream.next('connected');
  await broker.sendToTopic('news', 'note', 'before');

  const { bsize, bavail } = statfsSync(disk);
  writeFileSync(path.join(disk, 'filler'), Buffer.alloc(bsize * bavail));
  const large = 'x'.repeat(100_000);
  await expect(broker.sendToTopic('news', 'note', large)).rejects.toMatchObject({
    code: 'SSE_ERR_BUS_UNAVAILABLE',
    status: 503,
    retryable: true,
  });
  expect(statuses.at(-1)).toMatchObject({ state: 'down', reason: expect.stringMatching(/full|disk I\/O/) });
  expect(broker.getStats().bus.state).toBe('down');
  expect(stream.isEnded()).toBe(false);

  rmSync(path.join(disk, 'filler'));
  await until(() => broker.getStats().bus.state === 'up', 'the bus to be up again');
  await broker.sendToTopic('news', 'note', large);
  await broker.sendToTopic('news', 'note', 'after');
  expect(await stream.all('note', 3)).toEqual(['before', large, 'after']);
  expect(stream.isEnded()).toBe(false);

  const again = await openStream(url, { headers: { 'last-event-id': stream.events[1]!.id! } });
  expect(await again.all('note', 2)).toEqual([large, 'after']);
  expect(again.events.map(({ event }) => event)).not.toContain('gap');
});

test.each([
  ['an old history', true],
  ['a new one', false],
])('%s on a full disk is not there yet, and is when there is room', async (_, isThere) => {
  const disk = smallDisk();
  skipUnless(disk, 'only root may mount a small file system (tmpfs) to fill');
  const bus = new SqliteBus({ database: path.join(disk, 'history.db'), lockTimeout: 0 });
  onTestFinished(() => bus.close());
  const receiver = { deliver() {}, lost() {}, status() {}, error() {} };
  if (isThere) {
    const before = new SqliteBus({ database: path.join(disk, 'history.db') });
    await before.start(receiver);
    await before.close();
  }
  const { bsize, bavail } = statfsSync(disk);
  writeFileSync(path.join(disk, 'filler'), Buffer.alloc(bsize * bavail));
  await expect(bus.start(receiver)).rejects.toMatchObject({
    code: 'SSE_ERR_BUS_UNAVAILABLE',
    retryable: true,
    message: expect.stringContaining('full'),
  });
  rmSync(path.join(disk, 'filler'));
  await bus.start(receiver);
  expect(bus.status().state).toBe('up');
});
