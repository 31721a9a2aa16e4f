/** What an application sees of an inbox, over real HTTP, with a store in memory and one in SQLite. */
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  DEFAULT_INBOX_OPTIONS,
  Inbox,
  type InboxOptions,
  type InboxStore,
  MemoryStore,
  messageIdOf,
} from '../../src/inbox/index.js';
import { createHandler, createPollHandler } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';
import { SharedHub } from '../support/shared-bus.js';
import { openStream, type StreamClient } from '../support/stream.js';
import { until } from '../support/until.js';
import { sqliteDatabase, type TestDatabase } from './databases.js';

type Broker = ReturnType<typeof makeBroker>;

function makeInbox(store: InboxStore, broker: Broker = makeBroker(), more: Partial<InboxOptions> = {}): Inbox {
  const inbox = new Inbox({ broker, store, deviceGrace: 20, relayInterval: 20, ...more });
  onTestFinished(() => inbox.close());
  return inbox;
}

/** Opens streams of whoever the query says. */
async function door(broker: Broker): Promise<(who: string, headers?: Record<string, string>) => Promise<StreamClient>> {
  const handler = createHandler(broker, {
    authenticator: (req) => {
      const query = new URL(req.url!, 'http://x').searchParams;
      return { userId: query.get('user') ?? undefined, tenantId: query.get('tenant') ?? undefined };
    },
    topicResolver: (req) => new URL(req.url!, 'http://x').searchParams.getAll('topic'),
  });
  const { url } = await serve(handler);
  return (who, headers) => openStream(`${url}/?${who}`, headers === undefined ? {} : { headers });
}

const notes = (stream: StreamClient): unknown[] =>
  stream.events
    .filter(({ event }) => event === 'note')
    .map(({ data }) => (/^[a-z]/.test(data) ? data : JSON.parse(data)));

async function unreadIs(stream: StreamClient, unread: number): Promise<void> {
  await until(() => {
    const last = stream.events.findLast(({ event }) => event === 'unread');
    return last !== undefined && JSON.parse(last.data).unread === unread;
  }, `unread ${unread}`);
}

const stores: Record<string, () => Promise<{ store: InboxStore; database?: TestDatabase }>> = {
  memory: async () => ({ store: new MemoryStore() }),
  SQLite: async () => {
    const database = await sqliteDatabase();
    onTestFinished(() => database.dispose());
    return { store: database.store(), database };
  },
};

describe.each(Object.entries(stores))('with a store in %s', (_, create) => {
  test('what waits comes at the connect, the urgent first, ahead of what is live', async () => {
    const broker = makeBroker();
    const inbox = makeInbox((await create()).store, broker);
    const open = await door(broker);
    for (const [number, priority] of (['normal', 'high', 'urgent', 'normal', 'urgent'] as const).entries()) {
      await inbox.sendToUser('anna', 'note', number, { priority });
    }
    await inbox.sendToUser('ben', 'note', 'not hers');
    const stream = await open('user=anna');
    await inbox.sendToUser('anna', 'note', 'live', { priority: 'urgent' });
    await stream.all('note', 6);
    expect(notes(stream)).toEqual([2, 4, 1, 0, 3, 'live']);
    await unreadIs(stream, 6);
    expect(broker.reported).toEqual([]);
  });

  test('each device gets it once, and a page that was loaded anew nothing that it had', async () => {
    const broker = makeBroker();
    const { store } = await create();
    const inbox = makeInbox(store, broker);
    const open = await door(broker);
    await inbox.sendToUser('anna', 'note', 1);
    const phone = await open('user=anna&device=phone');
    const laptop = await open('user=anna', { 'device-id': 'laptop' });
    await Promise.all([phone.all('note', 1), laptop.all('note', 1)]);
    await inbox.sendToUser('anna', 'note', 2);
    await Promise.all([phone.all('note', 2), laptop.all('note', 2)]);
    const reader = { userId: 'anna', tenants: [''] };
    await until(async () => (await store.cursor(reader, 'phone')) >= 2, 'the cursor of the phone');
    phone.close();
    await inbox.sendToUser('anna', 'note', 3);
    const again = await open('user=anna&device=phone');
    await again.all('note', 1);
    await unreadIs(again, 3);
    expect(notes(again)).toEqual([3]);
    expect(notes(laptop)).toEqual([1, 2, 3]);
  });

  test('a stream that is cut in the middle of what waits goes on there', async () => {
    const broker = makeBroker();
    const inbox = makeInbox((await create()).store, broker);
    const open = await door(broker);
    for (let i = 0; i < 250; i++)
      await inbox.sendToUser('anna', 'note', i, { priority: i % 2 === 0 ? 'high' : 'normal' });
    const whole = await open('user=anna');
    await whole.all('note', 250);
    const expected = notes(whole);
    for (const at of [0, 1, 99, 100, 101, 249]) {
      const cursor = whole.events.filter(({ event }) => event === 'note')[at]!.id!;
      const rest = await open('user=anna', { 'last-event-id': cursor });
      await unreadIs(rest, 250);
      expect(notes(rest)).toEqual(expected.slice(at + 1));
    }
  });

  test('what was sent to one client alone does not bring back what it had', async () => {
    const broker = makeBroker();
    const inbox = makeInbox((await create()).store, broker);
    const open = await door(broker);
    const stream = await open('user=anna');
    await stream.all('connected', 1);
    await inbox.sendToUser('anna', 'note', 1);
    const [client] = broker.getClients();
    await broker.sendToClient(client!.id, 'hint', 'look');
    await Promise.all([stream.all('note', 1), stream.all('hint', 1)]);
    const cursor = stream.events.findLast(({ event }) => event === 'hint')!.id!;
    stream.close();
    await inbox.sendToUser('anna', 'note', 2);
    const again = await open('user=anna', { 'last-event-id': cursor });
    await again.all('note', 1);
    await unreadIs(again, 2);
    expect(notes(again)).toEqual([2]);
  });

  test('reading on one device is told to the others, by ids as pages see them', async () => {
    const broker = makeBroker();
    const inbox = makeInbox((await create()).store, broker);
    const open = await door(broker);
    const id = await inbox.sendToUser('anna', 'note', 1);
    await inbox.sendToUser('anna', 'note', 2);
    const phone = await open('user=anna&device=phone');
    const laptop = await open('user=anna&device=laptop');
    await Promise.all([phone.all('note', 2), unreadIs(laptop, 2)]);
    const event = phone.events.find(({ data }) => data === '1')!;
    expect(messageIdOf(event.id!)).toBe(id);
    expect(await inbox.markRead('anna', [event.id!])).toBe(1);
    expect(await inbox.markRead('anna', [id])).toBe(0);
    await unreadIs(laptop, 1);
    expect(JSON.parse(laptop.events.findLast(({ event: name }) => name === 'unread')!.data)).toEqual({
      unread: 1,
      read: [id],
    });
    expect((await inbox.pending('anna')).map(({ data }) => data)).toEqual([2]);
    expect(await inbox.markRead('ben', 'all')).toBe(0);
    expect(await inbox.markRead('anna', { upTo: (await inbox.pending('anna'))[0]!.id })).toBe(1);
    await unreadIs(laptop, 0);
  });

  test('a second send with the same key is the first', async () => {
    const broker = makeBroker();
    const inbox = makeInbox((await create()).store, broker);
    const open = await door(broker);
    const stream = await open('user=anna');
    const [a, b] = await Promise.all([
      inbox.sendToUser('anna', 'note', 1, { dedupKey: 'k' }),
      inbox.sendToUser('anna', 'note', 2, { dedupKey: 'k' }),
    ]);
    expect(await inbox.sendToUser('anna', 'note', 3, { dedupKey: 'k' })).toBe(a);
    expect(b).toBe(a);
    expect(await inbox.sendToUser('anna', 'note', 4, { dedupKey: 'k', tenantId: 'acme' })).not.toBe(a);
    await inbox.sendToUser('anna', 'note', 5);
    await stream.all('note', 2);
    expect(notes(stream)).toEqual([1, 5]);
    expect(inbox.getStats()).toMatchObject({ stored: 3, duplicates: 2, published: 3 });
  });

  test('what is not to be kept reaches who is there, and waits for nobody', async () => {
    const broker = makeBroker();
    const inbox = makeInbox((await create()).store, broker);
    const open = await door(broker);
    const stream = await open('user=anna');
    await unreadIs(stream, 0);
    await inbox.sendToUser('anna', 'note', 1, { persist: false });
    await stream.all('note', 1);
    expect(await inbox.pending('anna')).toEqual([]);
    await expect(inbox.sendToUser('anna', 'note', 1, { persist: false, dedupKey: 'k' })).rejects.toMatchObject({
      code: 'SSE_ERR_INVALID_OPTION',
    });
  });

  test('a subscription holds for streams that are there, and for those that come, by its types', async () => {
    const broker = makeBroker();
    const inbox = makeInbox((await create()).store, broker);
    const open = await door(broker);
    const early = await open('user=anna&device=a');
    const plain = await open('user=ben&topic=team');
    await unreadIs(early, 0);
    expect(await inbox.subscribe('anna', 'team', ['note', 'alarm'])).toBe(true);
    await inbox.sendToGroup('team', 'other', 0);
    await inbox.sendToGroup('team', 'note', 1);
    await early.all('note', 1);
    await plain.all('note', 1);
    expect(early.text()).not.toContain('event: other');
    expect(plain.text()).toContain('event: other');
    const late = await open('user=anna&device=b');
    await late.all('note', 1);
    await unreadIs(late, 1);
    expect(await inbox.unreadCount('ben')).toBe(0);
    expect(await inbox.subscriptions('anna')).toEqual([{ group: 'team', eventTypes: ['note', 'alarm'] }]);
    expect(await inbox.unsubscribe('anna', 'team')).toBe(true);
    await Promise.all([unreadIs(early, 0), unreadIs(late, 0)]);
    await inbox.sendToGroup('team', 'note', 2);
    await plain.all('note', 2);
    expect(notes(early)).toEqual([1]);
  });

  test('tenants see their own, and what is for all', async () => {
    const broker = makeBroker();
    const inbox = makeInbox((await create()).store, broker);
    const open = await door(broker);
    await inbox.sendToUser('anna', 'note', 'acme', { tenantId: 'acme' });
    await inbox.sendToUser('anna', 'note', 'other', { tenantId: 'other' });
    await inbox.broadcast('note', 'all');
    await inbox.broadcast('note', 'all of acme', { tenantId: 'acme' });
    const stream = await open('user=anna&tenant=acme');
    await stream.all('note', 3);
    expect(notes(stream)).toEqual(['acme', 'all', 'all of acme']);
    const without = await open('user=anna');
    await unreadIs(without, 1);
    expect(notes(without)).toEqual(['all']);
    // One state in all tenants for what was sent without one.
    expect(await inbox.markRead('anna', 'all')).toBe(1);
    await unreadIs(stream, 2);
    expect((await inbox.pending('anna', { tenantId: 'acme' })).map(({ data }) => data)).toEqual([
      'acme',
      'all of acme',
    ]);
  });

  test('what was read or is old is deleted', async () => {
    const broker = makeBroker();
    const inbox = makeInbox((await create()).store, broker, { keepRead: 1, keepMessages: 0 });
    for (let i = 0; i < 3; i++) await inbox.sendToUser('anna', 'note', i, { ttl: i === 0 ? 1 : 0 });
    const [second] = await until(async () => {
      const pending = await inbox.pending('anna');
      return pending.length === 2 && pending;
    }, 'the first to expire');
    await inbox.markRead('anna', [second!.id]);
    await until(async () => (await inbox.cleanup()) > 0 || inbox.getStats().cleaned > 0, 'cleaning');
    await until(async () => {
      await inbox.cleanup();
      return inbox.getStats().cleaned === 2;
    }, 'both to be deleted');
    expect((await inbox.pending('anna')).map(({ data }) => data)).toEqual([2]);
    await expect(inbox.pending('anna', { after: second!.id })).rejects.toMatchObject({
      code: 'SSE_ERR_UNKNOWN_MESSAGE',
    });
  });

  test('lists in pages, with what was sent', async () => {
    const inbox = makeInbox((await create()).store);
    const ids: string[] = [];
    await inbox.subscribe('anna', 'team');
    for (let i = 0; i < 5; i++)
      ids.push(await inbox.sendToUser('anna', 'note', { i }, { priority: 'high', ttl: 60_000 }));
    await inbox.sendToGroup('team', 'note', 'text');
    const first = await inbox.pending('anna', { limit: 2 });
    expect(first.map(({ id }) => id)).toEqual(ids.slice(0, 2));
    expect(first[0]).toMatchObject({
      event: 'note',
      data: { i: 0 },
      priority: 'high',
      status: 'pending',
      isBroadcast: false,
    });
    const rest = await inbox.pending('anna', { after: first[1]!.id });
    expect(rest.map(({ data }) => data)).toEqual([{ i: 2 }, { i: 3 }, { i: 4 }, 'text']);
    expect(rest.at(-1)).toMatchObject({ group: 'team', status: 'sent', expiresAt: 0 });
  });
});

test('nodes tell each other what was read and subscribed to, and one takes over from another that died', async () => {
  const hub = new SharedHub({ historySize: 1_000 });
  const store = new MemoryStore();
  const brokers = [makeBroker({ bus: hub.port() }), makeBroker({ bus: hub.port() })];
  const [one, two] = brokers.map((broker) => makeInbox(store, broker, { nodeLease: 1_000 })) as [Inbox, Inbox];
  const open = await door(brokers[1]!);
  const stream = await open('user=anna');
  await unreadIs(stream, 0);
  await one.subscribe('anna', 'team');
  await one.sendToGroup('team', 'note', 1);
  await stream.all('note', 1);
  await unreadIs(stream, 1);
  await one.markRead('anna', 'all');
  await unreadIs(stream, 0);
  // One that stored and died.
  await store.renewNode('dead', 0, Date.now() + 50);
  const base = {
    event: 'note',
    data: '2',
    json: true,
    priority: 0,
    status: 'sent',
    expiresAt: 0,
    createdAt: 1,
  } as const;
  await store.append([{ ...base, eventId: 'left', receiver: { type: 'user', name: 'anna', tenantId: '' } }], 'dead');
  await stream.all('note', 2);
  await unreadIs(stream, 1);
  expect(one.getStats().relayed + two.getStats().relayed).toBe(1);
});

test.each(['memory', 'SQLite'] as const)('what is enqueued goes out after the commit, once, over %s', async (name) => {
  const { store, database } = await stores[name]!();
  const broker = makeBroker();
  const inbox = makeInbox(store, broker);
  const open = await door(broker);
  const stream = await open('user=anna');
  await unreadIs(stream, 0);
  if (database === undefined) {
    const tx = (store as MemoryStore).begin();
    await inbox.enqueue(tx, { userId: 'anna' }, 'note', 1);
    const undone = (store as MemoryStore).begin();
    await inbox.enqueue(undone, { everybody: true }, 'note', 0);
    undone.rollback();
    tx.commit();
  } else {
    await database.transaction(async (tx) => void (await inbox.enqueue(tx, { userId: 'anna' }, 'note', 1)));
  }
  await stream.all('note', 1);
  await unreadIs(stream, 1);
  expect(notes(stream)).toEqual([1]);
  expect(inbox.getStats()).toMatchObject({ relayed: 1, published: 1 });
});

/** Makes methods of a store fail while it is down. */
function breakable(store: MemoryStore, methods: readonly (keyof InboxStore)[]): { isDown: boolean } {
  const state = { isDown: false };
  for (const name of methods) {
    const works = (store[name] as (...args: unknown[]) => unknown).bind(store);
    const fails = async (...args: unknown[]): Promise<unknown> => {
      if (state.isDown) throw new Error('the database is down');
      return works(...args);
    };
    Object.assign(store, { [name]: fails });
  }
  return state;
}

test('a subscription that could not be stored is reported, and undone on the streams when the store is back', async () => {
  const broker = makeBroker();
  const store = new MemoryStore();
  const database = breakable(store, ['subscribe', 'subscriptions']);
  const inbox = makeInbox(store, broker);
  const open = await door(broker);
  const stream = await open('user=anna');
  await unreadIs(stream, 0);
  database.isDown = true;
  // Vitest fails on a rejection that nobody handles, as Node ends the process.
  await expect(inbox.subscribe('anna', 'team')).rejects.toMatchObject({ message: /database is down/ });
  await until(() => broker.reported.length >= 1, 'a report of the streams');
  expect(broker.reported[0]!.cause ?? broker.reported[0]).toMatchObject({ message: /database is down/ });
  database.isDown = false;
  await until(async () => {
    const before = stream.events.length;
    await inbox.sendToGroup('team', 'note', 'not hers');
    await inbox.sendToUser('anna', 'note', 'hers');
    await until(() => stream.events.slice(before).some(({ data }) => data === 'hers'), 'what is hers');
    return !stream.events.slice(before).some(({ data }) => data === 'not hers');
  }, 'the stream to have left the group');
});

test.each([1, 2])('a failed subscription does not stay live, on %i node(s)', async (nodes) => {
  const hub = new SharedHub({ historySize: 1_000 });
  const store = new MemoryStore();
  const database = breakable(store, ['subscribe']);
  const brokers = Array.from({ length: nodes }, () => makeBroker({ bus: hub.port() }));
  const inboxes = brokers.map((broker) => makeInbox(store, broker, { deviceGrace: 60_000 }));
  const open = await door(brokers.at(-1)!);
  const stream = await open('user=anna');
  await unreadIs(stream, 0);
  database.isDown = true;
  await expect(inboxes[0]!.subscribe('anna', 'team')).rejects.toThrow(/database is down/);
  await until(async () => {
    const before = stream.events.length;
    await inboxes[0]!.sendToGroup('team', 'note', 'not hers');
    await inboxes[0]!.sendToUser('anna', 'note', 'hers');
    await until(() => stream.events.slice(before).some(({ data }) => data === 'hers'), 'what is hers');
    return !stream.events.slice(before).some(({ data }) => data === 'not hers');
  }, 'the stream to have left the group');
});

test('of changes of one subscription at once, the streams end where the store does', async () => {
  const broker = makeBroker();
  const inbox = makeInbox(new MemoryStore(), broker, { unreadEvent: false });
  const open = await door(broker);
  for (let i = 0; i < 6; i++) {
    const stream = await open(`user=anna${i}`);
    await inbox.sendToUser(`anna${i}`, 'note', 'here');
    await stream.all('note', 1);
    await inbox.subscribe(`anna${i}`, 'team');
    const unsubscribe = async (): Promise<boolean> => {
      if (i % 2 === 1) await undefined;
      return inbox.unsubscribe(`anna${i}`, 'team');
    };
    await Promise.all([unsubscribe(), inbox.subscribe(`anna${i}`, 'team')]);
    const isStored = (await inbox.subscriptions(`anna${i}`)).length === 1;
    await inbox.sendToGroup('team', 'note', 'team');
    await inbox.sendToUser(`anna${i}`, 'note', 'end');
    await until(() => notes(stream).includes('end'), 'the end');
    expect(notes(stream).includes('team'), `round ${i}`).toBe(isStored);
    stream.close();
  }
});

test('what was read is not told to the same user id in another tenant', async () => {
  const broker = makeBroker();
  const inbox = makeInbox(new MemoryStore(), broker);
  const open = await door(broker);
  const id = await inbox.sendToUser('1', 'note', 'acme', { tenantId: 'acme' });
  await inbox.broadcast('note', 'all');
  const [acme, globex] = await Promise.all([open('user=1&tenant=acme'), open('user=1&tenant=globex')]);
  await Promise.all([unreadIs(acme, 2), unreadIs(globex, 1)]);
  expect(await inbox.markRead('1', [id, 'free text'], { tenantId: 'acme' })).toBe(1);
  await unreadIs(acme, 1);
  expect(await inbox.markRead('1', 'all', { tenantId: 'acme' })).toBe(1);
  // What was for all is read in every tenant: that much the other learns.
  await Promise.all([unreadIs(acme, 0), unreadIs(globex, 0)]);
  expect(acme.text()).toContain('"read":"all"');
  expect(globex.text()).not.toContain('"read"');
});

test('a cursor that could not be stored is stored later', async () => {
  const broker = makeBroker();
  const store = new MemoryStore();
  const database = breakable(store, ['advance']);
  const inbox = makeInbox(store, broker);
  const open = await door(broker);
  const stream = await open('user=anna&device=phone');
  await unreadIs(stream, 0);
  database.isDown = true;
  await inbox.sendToUser('anna', 'note', 1);
  await until(() => broker.reported.length > 0, 'the failure');
  database.isDown = false;
  const reader = { userId: 'anna', tenants: [''] };
  await until(async () => (await store.cursor(reader, 'phone')) >= 1, 'the cursor of the phone');
});

test('a bus that is down keeps nothing back for good: what is stored goes out when it is up', async () => {
  const hub = new SharedHub({ historySize: 1_000 });
  const port = hub.port();
  const broker = makeBroker({ bus: port });
  const inbox = makeInbox(new MemoryStore(), broker);
  const open = await door(broker);
  const stream = await open('user=anna');
  await unreadIs(stream, 0);
  port.refuses = () => true;
  await inbox.sendToUser('anna', 'note', 1);
  await inbox.sendToUser('anna', 'note', 2);
  expect(notes(stream)).toEqual([]);
  port.refuses = () => false;
  await stream.all('note', 2);
  expect(notes(stream)).toEqual([1, 2]);
});

test('a poll gets what waits, and goes on where the last one ended', async () => {
  const broker = makeBroker();
  const inbox = makeInbox(new MemoryStore(), broker);
  const { url } = await serve(createPollHandler(broker, { authenticator: () => ({ userId: 'anna' }) }));
  const poll = async (after = ''): Promise<{ events: { data: unknown }[]; lastEventId: string }> =>
    (await fetch(`${url}/?lastEventId=${encodeURIComponent(after)}&wait=2000`)).json() as never;
  await inbox.sendToUser('anna', 'note', 1);
  const first = await poll();
  expect(first.events.map(({ data }) => data)).toEqual([1]);
  await inbox.sendToUser('anna', 'note', 2);
  expect((await poll(first.lastEventId)).events.map(({ data }) => data)).toEqual([2]);
});

test('refuses what it cannot do, by code', async () => {
  const broker = makeBroker();
  const store = new MemoryStore();
  expect(() => new Inbox({ broker, store, keepRaed: 1 } as never)).toThrow(/unknown inbox option "keepRaed"/);
  expect(() => new Inbox({ broker, store, nodeLease: 5 })).toThrow(/nodeLease must be/);
  expect(() => new Inbox({ broker: {} as never, store })).toThrow(/broker must be a Broker/);
  expect(() => new Inbox({ broker, store: {} as never })).toThrow(/store must be/);
  const inbox = makeInbox(store, broker);
  expect(() => new Inbox({ broker, store })).toThrow(/has an inbox already/);
  const refused: [Promise<unknown>, string][] = [
    [inbox.sendToUser('', 'note', 1), 'SSE_ERR_INVALID_USER'],
    [inbox.sendToUser('anna', 'gap', 1), 'SSE_ERR_RESERVED_EVENT_NAME'],
    [inbox.sendToUser('anna', 'note', undefined), 'SSE_ERR_INVALID_DATA'],
    [inbox.sendToUser('anna', 'note', '\ud800'), 'SSE_ERR_INVALID_DATA'],
    [inbox.sendToUser('anna', 'note', 'x'.repeat(2 ** 21)), 'SSE_ERR_EVENT_TOO_LARGE'],
    [inbox.sendToUser('anna', 'note', 1, { priority: 'huge' as never }), 'SSE_ERR_INVALID_OPTION'],
    [inbox.sendToUser('anna', 'note', 1, { tll: 1 } as never), 'SSE_ERR_INVALID_OPTION'],
    [inbox.sendToUser('anna', 'note', 1, { dedupKey: 'x'.repeat(129) }), 'SSE_ERR_INVALID_OPTION'],
    [inbox.sendToGroup('\n', 'note', 1), 'SSE_ERR_INVALID_TOPIC'],
    [inbox.sendToUser('anna', 'note', 1, { tenantId: '' }), 'SSE_ERR_INVALID_TENANT'],
    [inbox.subscribe('anna', 'team', []), 'SSE_ERR_INVALID_OPTION'],
    [inbox.subscribe('anna', 'team', ['gap']), 'SSE_ERR_RESERVED_EVENT_NAME'],
    [inbox.pending('anna', { limit: 0 }), 'SSE_ERR_INVALID_OPTION'],
    [inbox.markRead('anna', { upTo: 'nobody' }), 'SSE_ERR_UNKNOWN_MESSAGE'],
    [inbox.markRead('anna', {} as never), 'SSE_ERR_INVALID_OPTION'],
    [inbox.enqueue({}, { userId: 'anna' }, 'note', 1), 'SSE_ERR_INVALID_OPTION'],
  ];
  for (const [promise, code] of refused) await expect(promise).rejects.toMatchObject({ code });
  // A bad one has not taken the others of its turn with it.
  const [good] = await Promise.allSettled([
    inbox.sendToUser('anna', 'note', 1),
    inbox.sendToUser('anna', 'note', '\udc00'),
  ]);
  expect(good.status).toBe('fulfilled');
  await inbox.close();
  await inbox.close();
  await expect(inbox.sendToUser('anna', 'note', 1)).rejects.toMatchObject({ code: 'SSE_ERR_BROKER_CLOSED' });
  await expect(inbox.unreadCount('anna')).rejects.toMatchObject({ code: 'SSE_ERR_BROKER_CLOSED' });
  // Its broker may have another then.
  makeInbox(store, broker);
});

test('the defaults', () => {
  expect(DEFAULT_INBOX_OPTIONS).toEqual({
    unreadEvent: 'unread',
    deviceGrace: 5_000,
    nodeLease: 15_000,
    relayInterval: 1_000,
    keepRead: 604_800_000,
    keepMessages: 7_776_000_000,
    cleanupInterval: 60_000,
    deviceTtl: 7_776_000_000,
    maxDevicesPerUser: 50,
    maxSubscriptionsPerUser: 1_000,
  });
});
