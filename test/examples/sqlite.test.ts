/** examples/sqlite.mjs: its clients resume over a restart. */
import path from 'node:path';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { temporaryFolder } from '../buses/sqlite-files.js';
import { assertBuilt } from '../support/package.js';
import { openStream } from '../support/stream.js';
import { startExample } from './example.js';

beforeAll(assertBuilt);

test('a client that comes back after a restart gets the ticks it missed, without a gap', async () => {
  const { folder, remove } = temporaryFolder();
  onTestFinished(remove);
  const env = { HISTORY: path.join(folder, 'events.db'), INTERVAL: '10' };
  const first = await startExample('sqlite', env);
  const before = await openStream(first.url);
  await before.all('tick', 3);
  const [, seen] = before.events.filter(({ event }) => event === 'tick');
  expect(await first.terminate()).toBe(0);
  await before.ended();
  const missed = before.events.filter(({ event }) => event === 'tick').slice(2);

  const second = await startExample('sqlite', env);
  const after = await openStream(second.url, { headers: { 'last-event-id': seen!.id! } });
  await after.all('tick', missed.length + 2);
  const ids = after.events.filter(({ event }) => event === 'tick').map(({ id }) => id);
  expect(ids.slice(0, missed.length)).toEqual(missed.map(({ id }) => id));
  expect(after.events.map(({ event }) => event)).not.toContain('gap');
  expect(await second.terminate()).toBe(0);
});
