/** What a stream is believed of the past, which group messages it gets, and how much of what waits it keeps. */
import { describe, expect, onTestFinished, test } from 'vitest';
import { Inbox, type InboxStore, MemoryStore } from '../../src/inbox/index.js';
import { createHandler } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';
import { openStream, type StreamClient } from '../support/stream.js';
import { until } from '../support/until.js';
import { sqliteDatabase } from './databases.js';

const ANNA = { userId: 'anna', tenants: [''] };

/** An inbox on a broker of its own, as a process has them; `open`: a stream of anna's. */
async function makeNode(store: InboxStore) {
  const broker = makeBroker();
  const inbox = new Inbox({ broker, store, deviceGrace: 20, relayInterval: 20 });
  onTestFinished(() => inbox.close());
  const { url } = await serve(createHandler(broker, { authenticator: () => ({ userId: 'anna' }) }));
  const open = (lastEventId?: string): Promise<StreamClient> =>
    openStream(`${url}/`, lastEventId === undefined ? {} : { headers: { 'last-event-id': lastEventId } });
  const clientId = (): string => [...broker.getClients()][0]!.id;
  return { broker, inbox, open, clientId };
}

const notes = (stream: StreamClient): unknown[] =>
  stream.events.filter(({ event }) => event === 'note').map(({ data }) => JSON.parse(data));

const stores: Record<string, () => Promise<InboxStore>> = {
  memory: async () => new MemoryStore(),
  SQLite: async () => {
    const database = await sqliteDatabase();
    onTestFinished(() => database.dispose());
    return database.store();
  },
};

describe.each(Object.entries(stores))('a cursor ahead of a store in %s', (_, create) => {
  test('of a store that is gone is no reason to keep back what the new one has', async () => {
    const before = await makeNode(await create());
    const first = await before.open();
    for (let i = 0; i < 20; i++) await before.inbox.sendToUser('anna', 'note', i);
    await first.all('note', 20);
    const cursor = first.events.findLast(({ event }) => event === 'note')!.id!;
    const store = await create();
    const after = await makeNode(store);
    await after.inbox.sendToUser('anna', 'note', 100);
    const second = await after.open(cursor);
    for (let i = 101; i < 125; i++) await after.inbox.sendToUser('anna', 'note', i);
    await second.all('note', 25);
    expect(notes(second)).toEqual(Array.from({ length: 25 }, (_, i) => 100 + i));
    await until(async () => (await store.cursor(ANNA, '')) >= 24, 'the cursor of the device');
    expect(await store.cursor(ANNA, '')).toBeLessThanOrEqual(25);
  });

  test.each(['x~wzzzzzzzzzzz', 'x~mid~pzzzz.1', 'x~mid~p1.zzzz', 'x~b0.zzzz.3.0'])(
    '%s, is not believed, by the device neither',
    async (forged) => {
      const store = await create();
      const { inbox, open, broker } = await makeNode(store);
      await inbox.sendToUser('anna', 'note', 1);
      const stream = await open(forged);
      await stream.all('note', 1);
      await inbox.sendToUser('anna', 'note', 2);
      await stream.all('note', 2);
      expect(notes(stream)).toEqual([1, 2]);
      await until(async () => (await store.cursor(ANNA, '')) > 0, 'the cursor of the device');
      stream.close();
      await until(() => [...broker.getClients()].length === 0, 'the stream is gone');
      expect(await store.cursor(ANNA, '')).toBeLessThanOrEqual(2);
      await inbox.sendToUser('anna', 'note', 3);
      const fresh = await open();
      await fresh.all('note', 1);
      expect(notes(fresh).at(-1)).toBe(3);
      expect(broker.reported).toEqual([]);
    },
  );

  test('that the store itself keeps for a device counts as none', async () => {
    const store = await create();
    const { inbox, open } = await makeNode(store);
    await inbox.sendToUser('anna', 'note', 1);
    await store.advance([{ reader: ANNA, device: '', position: 1_000 }], { now: Date.now(), maxDevices: 0 });
    const stream = await open();
    await stream.all('note', 1);
    await inbox.sendToUser('anna', 'note', 2);
    await stream.all('note', 2);
    expect(notes(stream)).toEqual([1, 2]);
  });
});

describe('a topic that the application gave a stream', () => {
  test('while it lives brings messages to the group, which do not wait', async () => {
    const { broker, inbox, open, clientId } = await makeNode(new MemoryStore());
    const stream = await open();
    expect(await broker.subscribe(clientId(), 'room')).toBe(true);
    await inbox.sendToGroup('room', 'note', 1);
    await stream.all('note', 1);
    expect(await inbox.unreadCount('anna')).toBe(0);
    // Published while it had the topic.
    await inbox.sendToGroup('room', 'note', 2);
    expect(await broker.unsubscribe(clientId(), 'room')).toBe(true);
    await inbox.sendToGroup('room', 'note', 3);
    await inbox.sendToUser('anna', 'note', 4);
    await stream.all('note', 3);
    expect(notes(stream)).toEqual([1, 2, 4]);
  });

  test('stays when its user unsubscribes', async () => {
    const { broker, inbox, open, clientId } = await makeNode(new MemoryStore());
    const stream = await open();
    await broker.subscribe(clientId(), 'room');
    await inbox.subscribe('anna', 'room', ['other']);
    await inbox.sendToGroup('room', 'note', 1);
    await inbox.unsubscribe('anna', 'room');
    await broker.sendToTopic('room', 'note', 2);
    await inbox.sendToGroup('room', 'note', 3);
    await stream.all('note', 3);
    expect(notes(stream)).toEqual([1, 2, 3]);
  });

  test('is told from one that a subscription gave, which goes with it and may come back by the application', async () => {
    const { broker, inbox, open, clientId } = await makeNode(new MemoryStore());
    await inbox.subscribe('anna', 'room', ['note']);
    await inbox.subscribe('anna', 'hall', ['other']);
    const stream = await open();
    await inbox.subscribe('anna', 'yard', ['other']);
    for (const group of ['room', 'hall', 'yard']) await inbox.sendToGroup(group, 'note', `1 ${group}`);
    for (const group of ['room', 'hall', 'yard']) await inbox.unsubscribe('anna', group);
    for (const group of ['room', 'hall', 'yard']) {
      await inbox.sendToGroup(group, 'note', `2 ${group}`);
      await broker.sendToTopic(group, 'note', JSON.stringify(`2 ${group}`));
    }
    for (const group of ['hall', 'yard']) expect(await broker.subscribe(clientId(), group)).toBe(true);
    for (const group of ['room', 'hall', 'yard']) await inbox.sendToGroup(group, 'note', JSON.stringify(`3 ${group}`));
    await inbox.sendToUser('anna', 'note', '"end"');
    await until(() => stream.events.some(({ data }) => data === '"end"'), 'the last');
    const got = stream.events.filter(({ event }) => event === 'note').map(({ data }) => data.replaceAll('"', ''));
    expect(got).toEqual(['1 room', '3 hall', '3 yard', 'end']);
  });
});

/** Notes how many rows were asked for and what was given. */
class WatchedStore extends MemoryStore {
  readonly pages: { limit: number; rows: number; chars: number }[] = [];

  override async backlog(request: Parameters<MemoryStore['backlog']>[0]) {
    const rows = await super.backlog(request);
    const chars = rows.reduce((sum, { data }) => sum + data.length, 0);
    this.pages.push({ limit: request.limit, rows: rows.length, chars });
    return rows;
  }
}

describe('what waits is read in pages', () => {
  test.each([
    ['of few rows where rows are large', 100_000, 16 * 100_100, 140_000],
    ['of many where they are small', 10, 100 * 100, 100 * 100],
  ])('%s', async (_, size, firstMost, most) => {
    const store = new WatchedStore();
    const { inbox, open } = await makeNode(store);
    const all = Array.from({ length: 150 }, (_, i) => i);
    await Promise.all(all.map((i) => inbox.sendToUser('anna', 'note', [i, 'x'.repeat(size)])));
    const stream = await open();
    await stream.all('note', 150);
    expect(notes(stream).map((note) => (note as unknown[])[0])).toEqual(all);
    const [first, ...others] = store.pages;
    expect(first!.limit).toBe(16);
    expect(first!.chars).toBeLessThan(firstMost);
    for (const { chars } of others) expect(chars).toBeLessThan(most);
    if (size < 100) expect(store.pages.map(({ rows }) => rows)).toEqual([16, 100, 34, 0]);
  });
});

test('a message that came live does not come again in a round that is cut at its start', async () => {
  const store = new MemoryStore();
  const before = await makeNode(store);
  const live = await before.open();
  for (const n of [1, 2]) await before.inbox.sendToUser('anna', 'note', n);
  await live.all('note', 2);
  const idOf = (stream: StreamClient, type: string) => stream.events.findLast(({ event }) => event === type)!.id!;
  const cursor = idOf(live, 'note');
  live.close();
  await before.inbox.sendToUser('anna', 'note', 3);
  await before.inbox.close();
  // Another bus: a gap, and a round from what the cursor says is settled.
  const after = await makeNode(store);
  const cut = await after.open(cursor);
  await cut.next('gap');
  cut.close();
  const again = await after.open(idOf(cut, 'gap'));
  await after.inbox.sendToUser('anna', 'note', 4);
  await again.all('note', 2);
  expect(notes(again)).toEqual([3, 4]);
});
