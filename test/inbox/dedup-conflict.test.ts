/** A `dedupKey` that comes again with another message, where its sender wants to be told: on each store. */
import { expect, onTestFinished, test } from 'vitest';
import { Inbox, type InboxSendOptions } from '../../src/inbox/index.js';
import { makeBroker } from '../support/broker.js';
import { backendOf, mysqlDatabase, postgresDatabase, sqliteDatabase, type TestDatabase } from './databases.js';

const BACKENDS: Readonly<Record<string, () => Promise<TestDatabase | undefined>>> = {
  memory: async () => undefined,
  SQLite: () => sqliteDatabase(),
  PostgreSQL: () => postgresDatabase(),
  MariaDB: () => mysqlDatabase(),
};

test.each(Object.keys(BACKENDS))('over %s', async (name) => {
  const database = await BACKENDS[name]!();
  const inbox = new Inbox({ broker: makeBroker(), store: backendOf(database).store() });
  onTestFinished(async () => {
    await inbox.close();
    await database?.dispose();
  });
  const send = (user: string, event: string, data: unknown, more: InboxSendOptions = {}) =>
    inbox.sendToUser(user, event, data, {
      dedupKey: 'k',
      dedupConflict: 'reject',
      ttl: 60_000,
      priority: 'high',
      ...more,
    });
  const conflict = { code: 'SSE_ERR_IDEMPOTENCY_CONFLICT' };

  const first = await send('alice', 'note', { text: "o'brien 😀\u0000" });
  expect(await send('alice', 'note', { text: "o'brien 😀\u0000" })).toBe(first);
  await expect(send('bob', 'note', { text: "o'brien 😀\u0000" })).rejects.toMatchObject(conflict);
  await expect(send('alice', 'Note', { text: "o'brien 😀\u0000" })).rejects.toMatchObject(conflict);
  await expect(send('alice', 'note', '{"text":"o\'brien 😀\\u0000"}')).rejects.toMatchObject(conflict);
  await expect(send('alice', 'note', { text: 'another' })).rejects.toMatchObject(conflict);
  for (const more of [{ ttl: 0 }, { ttl: 61_000 }, { priority: 'normal' }] as const) {
    await expect(send('alice', 'note', { text: "o'brien 😀\u0000" }, more)).rejects.toMatchObject(conflict);
  }
  const options = { dedupKey: 'k', dedupConflict: 'reject' } as const;
  await expect(inbox.sendToGroup('alice', 'note', { text: "o'brien 😀\u0000" }, options)).rejects.toMatchObject(
    conflict,
  );
  expect(await send('bob', 'note', 1, { dedupConflict: 'ignore' })).toBe(first);
  expect(await send('alice', 'note', { text: 'another' }, { tenantId: 'acme' })).not.toBe(first);
  expect(await inbox.pending('alice')).toHaveLength(1);
  await expect(inbox.enqueue({}, { userId: 'alice' }, 'note', 1, options as never)).rejects.toMatchObject({
    code: 'SSE_ERR_INVALID_OPTION',
  });
  await expect(send('alice', 'note', 1, { dedupConflict: 'maybe' as never })).rejects.toMatchObject({
    code: 'SSE_ERR_INVALID_OPTION',
  });
});
