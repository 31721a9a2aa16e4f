/**
 * Names and data that a database, a line of a stream or a careless comparison could take for something else, through the whole of
 * the inbox and over the wire, on each store: what goes in comes out, to whom it is for and to nobody that looks alike.
 */
import { describe, expect, onTestFinished, test } from 'vitest';
import { Inbox, type InboxReceiver, type InboxStore } from '../../src/inbox/index.js';
import { createHandler } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';
import { openStream, type StreamClient } from '../support/stream.js';
import { until } from '../support/until.js';
import { backendOf, mysqlDatabase, postgresDatabase, sqliteDatabase, type TestDatabase } from './databases.js';

const BACKENDS: Readonly<Record<string, () => Promise<TestDatabase | undefined>>> = {
  memory: async () => undefined,
  SQLite: () => sqliteDatabase(),
  PostgreSQL: () => postgresDatabase(),
  MariaDB: () => mysqlDatabase(),
};

/** Each is the name of a user, a group, a tenant, a device, an event and a key at once; many look like the one before. */
const NAMES = [
  'case',
  'CASE',
  'Case',
  'blank',
  'blank ',
  'blank  ',
  ' blank',
  "o'brien",
  "o''brien",
  '"quoted"',
  'back\\slash',
  'back\\\\slash',
  "back\\'slash",
  '%',
  '_',
  'a%',
  'a_',
  'ab',
  "'; DROP TABLE inbox_message; --",
  '") OR 1=1 --',
  '$1',
  '?',
  ':name',
  '@name',
  '\u00e9',
  'e\u0301',
  'e',
  'stra\u00dfe',
  'strasse',
  '\u{1f600}',
  '\u{1f601}',
  'a:b',
  'a::b',
  '["a","b"]',
  '~m1~p1.1',
  '\ufeffbom',
  'null',
  '0',
  '00',
  '\u2028',
  'x'.repeat(128),
] as const;

/** Of data as text, where a line break other than LF cannot come back as it was: a stream has lines. */
const TEXTS: Readonly<Record<string, string>> = {
  quotes: `'"\`\\'\\"--/* */;`,
  NUL: 'a\0b\0',
  'four bytes': '\u{1f600}\u{10ffff}',
  lines: 'a\n\nb\n',
  blanks: ' \t trailing \t ',
  wildcards: '%_%\\%\\_',
  statement: `'); DROP TABLE inbox_message; --`,
  fields: 'id: 7\nevent: gap\ndata: x\n\n: comment',
  empty: '',
  'a mebibyte': 'x'.repeat(2 ** 20),
  'a mebibyte of four bytes': '\u{1f600}'.repeat(2 ** 18),
  'a mebibyte of quotes': `'\\`.repeat(2 ** 19),
  'a mebibyte of NUL': '\0'.repeat(2 ** 20),
};

/** As JSON everything comes back. */
const VALUES: Readonly<Record<string, unknown>> = {
  'all kinds': Object.values(TEXTS).map((text) => text.slice(0, 50)),
  'other line breaks': ['a\rb\r\nc\u0085d\u2028e'],
  keys: { "'": 1, '\0': 2, '"': 3, '': 4, '%': 5, constructor: 6 },
  'half characters': ['\ud83d', '\ude00'],
};

interface Fixture {
  readonly inbox: Inbox;
  readonly store: InboxStore;
  transaction(work: (tx: unknown) => Promise<void>): Promise<void>;
  open(user: string, tenant?: string, device?: string): Promise<StreamClient>;
}

async function start(create: () => Promise<TestDatabase | undefined>): Promise<Fixture> {
  const database = await create();
  const backend = backendOf(database);
  const store = backend.store();
  onTestFinished(async () => {
    await store.close();
    await database?.dispose();
  });
  const broker = makeBroker({ maxTopicsPerClient: 0 });
  const inbox = new Inbox({ broker, store, deviceGrace: 20, relayInterval: 20 });
  onTestFinished(() => inbox.close());
  await inbox.start();
  const authenticator = (request: { url?: string | undefined }) => {
    const query = new URL(request.url!, 'http://x').searchParams;
    return { userId: query.get('user')!, tenantId: query.get('tenant') ?? undefined };
  };
  const { url } = await serve(createHandler(broker, { authenticator }));
  const open = (user: string, tenant?: string, device?: string): Promise<StreamClient> => {
    const query = new URLSearchParams({ user, ...(tenant !== undefined && { tenant }), ...(device && { device }) });
    return openStream(`${url}/?${query}`);
  };
  return { inbox, store, open, transaction: (work) => backend.transaction(work, true) };
}

/** Data of the messages of that name, in the order in which they came. */
const dataOf = (stream: StreamClient, event: string): unknown[] =>
  stream.events.filter((one) => one.event === event).map(({ data }) => JSON.parse(data));

const lastUnread = (stream: StreamClient): unknown => {
  const last = stream.events.findLast(({ event }) => event === 'unread');
  return last === undefined ? undefined : (JSON.parse(last.data) as { unread: number }).unread;
};

describe.each(Object.entries(BACKENDS))('over %s', (_, create) => {
  test('names that look alike, or like something else, are each their own', async () => {
    const { inbox, open, transaction } = await start(create);
    await Promise.all(NAMES.map((name) => inbox.subscribe(name, name, [name], { tenantId: name })));
    const ids = new Map<string, string>();
    const sendAll = async (name: string): Promise<void> => {
      const options = { tenantId: name };
      const sends = [
        inbox.sendToUser(name, name, { name, how: 'user' }, { ...options, dedupKey: name }),
        inbox.sendToUser(name, name, { name, how: 'again' }, { ...options, dedupKey: name }),
        inbox.sendToGroup(name, name, { name, how: 'group' }, options),
        // Of a type that nobody has subscribed to, and to who is in no tenant.
        inbox.sendToGroup(name, `${name}x`, { name, how: 'other type' }, options),
        inbox.sendToUser(name, name, { name, how: 'no tenant' }),
        inbox.broadcast(name, { name, how: 'everybody' }, options),
      ];
      const [first, again] = await Promise.all(sends);
      expect(again).toBe(first);
      ids.set(name, first!);
    };
    await Promise.all(NAMES.map(sendAll));
    expect(new Set(ids.values()).size).toBe(NAMES.length);
    await transaction(async (tx) => {
      for (const name of NAMES) {
        await inbox.enqueue(tx, { userId: name }, name, { name, how: 'enqueued' }, { tenantId: name });
        await inbox.enqueue(tx, { userId: name }, name, { name, how: 'again' }, { tenantId: name, dedupKey: name });
      }
    });
    const hows = ['user', 'group', 'no tenant', 'everybody', 'enqueued'];
    const expected = (name: string): unknown[] => hows.map((how) => ({ name, how }));
    const last = NAMES.at(-1)!;
    await until(async () => (await inbox.unreadCount(last, { tenantId: last })) === hows.length, 'what was enqueued');
    expect(await inbox.pending('nobody', { tenantId: last })).toHaveLength(1);
    const streams = await Promise.all(NAMES.map((name) => open(name, name, name)));
    for (const [index, name] of NAMES.entries()) {
      const options = { tenantId: name };
      const pending = await inbox.pending(name, options);
      expect(pending.map(({ data }) => data)).toEqual(expected(name));
      expect(new Set(pending.map(({ event }) => event))).toEqual(new Set([name]));
      expect(pending[1]!.group).toBe(name);
      expect(await inbox.subscriptions(name, options)).toEqual([{ group: name, eventTypes: [name], tenantId: name }]);
      const stream = streams[index]!;
      await until(() => lastUnread(stream) === hows.length, `the unread count of ${name}`);
      expect(dataOf(stream, name)).toEqual(expected(name));
      // All that look alike and were read before have left this one as it was.
      expect(await inbox.unreadCount(name, options)).toBe(hows.length);
      expect(await inbox.markRead(name, [ids.get(name)!, ...ids.values()], options)).toBe(1);
      expect(await inbox.markRead(name, { upTo: pending[1]!.id }, options)).toBe(1);
      expect(await inbox.markRead(name, 'all', options)).toBe(hows.length - 2);
      await until(() => lastUnread(stream) === 0, `the unread count of ${name}`);
      expect(await inbox.unsubscribe(name, name, options)).toBe(true);
      expect(await inbox.unsubscribe(name, name, options)).toBe(false);
    }
    for (const stream of streams) stream.close();
  }, 60_000);

  test('devices whose names look alike are served each on its own', async () => {
    const { inbox, open, store } = await start(create);
    const reader = { userId: 'anna', tenants: [''] };
    const some = NAMES.filter((_, index) => index % 2 === 0);
    await inbox.sendToUser('anna', 'note', 1);
    const streams = await Promise.all(some.map((name) => open('anna', undefined, name)));
    await until(async () => {
      const positions = await Promise.all(some.map((name) => store.cursor(reader, name)));
      return positions.every((position) => position === 1);
    }, 'the cursors of those that came');
    for (const name of NAMES) expect(await store.cursor(reader, name), name).toBe(some.includes(name) ? 1 : 0);
    for (const stream of streams) stream.close();
    const again = await open('anna', undefined, some[1]);
    const other = await open('anna', undefined, NAMES[1]);
    await until(() => lastUnread(again) === 1 && lastUnread(other) === 1, 'both streams');
    expect([dataOf(again, 'note'), dataOf(other, 'note')]).toEqual([[], [1]]);
  });

  test('data comes back as it was sent, from the store and on a stream', async () => {
    const { inbox, open, transaction } = await start(create);
    const sent: unknown[] = [];
    for (const data of [...Object.values(TEXTS), ...Object.values(VALUES)]) {
      await inbox.sendToUser('anna', 'note', data);
      sent.push(data);
    }
    const enqueued = [TEXTS.NUL!, TEXTS['a mebibyte of quotes']!, VALUES.keys];
    await transaction(async (tx) => {
      for (const data of enqueued) await inbox.enqueue(tx, { userId: 'anna' }, 'note', data);
    });
    sent.push(...enqueued);
    await until(async () => (await inbox.unreadCount('anna')) === sent.length, 'what was enqueued');
    const pending = await inbox.pending('anna', { limit: 1_000 });
    expect(pending.map(({ data }) => data)).toEqual(sent);
    const stream = await open('anna');
    await until(() => lastUnread(stream) === sent.length, 'all that waits');
    const inText = (data: unknown): string => (typeof data === 'string' ? data : JSON.stringify(data));
    const got = stream.events.filter(({ event }) => event === 'note').map(({ data }) => data);
    expect(got).toEqual(sent.map(inText));
    for (const data of ['other line breaks', 'half characters', 'keys']) {
      expect(got.map(read)).toContainEqual(VALUES[data]);
    }
  });

  test.each(Object.entries(refusals()))('refuses %s, and writes nothing', async (_, { code, name, event, data }) => {
    const { inbox, store, transaction } = await start(create);
    const send = { event: event ?? 'note', data: data === undefined ? 1 : data };
    const attempts: (() => Promise<unknown>)[] = [];
    const named = (user: string, group: string, tenantId: string | undefined): void => {
      const options = tenantId === undefined ? {} : { tenantId };
      attempts.push(
        () => inbox.sendToUser(user, send.event, send.data, options),
        () => inbox.sendToGroup(group, send.event, send.data, options),
      );
      for (const receiver of [{ userId: user }, { group }] satisfies InboxReceiver[]) {
        attempts.push(() =>
          transaction(async (tx) => void (await inbox.enqueue(tx, receiver, send.event, send.data, options))),
        );
      }
      if (data === undefined) attempts.push(() => inbox.subscribe(user, group, [send.event], options));
    };
    if (name === undefined) {
      named('anna', 'team', undefined);
      attempts.push(() => inbox.broadcast(send.event, send.data));
    } else {
      const tenant = { tenantId: name };
      attempts.push(
        () => inbox.sendToUser(name, 'note', 1),
        () => inbox.sendToGroup(name, 'note', 1),
        () => inbox.broadcast('note', 1, tenant),
        () => inbox.subscribe(name, 'team'),
        () => inbox.subscribe('anna', name),
        () => inbox.subscribe('anna', 'team', undefined, tenant),
        () => inbox.unsubscribe('anna', name),
        () => inbox.pending(name),
        () => inbox.markRead('anna', 'all', tenant),
        () => inbox.unreadCount(name),
        () => transaction(async (tx) => void (await inbox.enqueue(tx, { userId: name }, 'note', 1))),
        () => transaction(async (tx) => void (await inbox.enqueue(tx, { group: name }, 'note', 1))),
      );
    }
    for (const attempt of attempts) {
      await expect(attempt(), String(attempt)).rejects.toMatchObject({ code: expect.stringMatching(code) });
    }
    // A good one at the end: whatever had been enqueued before it would have a place by then.
    await transaction(async (tx) => void (await inbox.enqueue(tx, { userId: 'anna' }, 'note', 'good')));
    await until(async () => (await inbox.unreadCount('anna')) === 1, 'the good one');
    expect(await store.head()).toBe(1);
    expect(await inbox.subscriptions('anna')).toEqual([]);
  });

  test.each([
    ['an empty one', ''],
    ['one that is too long', 'x'.repeat(129)],
    ['half a character', '\ud800'],
  ])('refuses a key: %s', async (_, dedupKey) => {
    const { inbox, store, transaction } = await start(create);
    const expected = { code: dedupKey === '\ud800' ? 'SSE_ERR_INVALID_DATA' : 'SSE_ERR_INVALID_OPTION' };
    await expect(inbox.sendToUser('anna', 'note', 1, { dedupKey })).rejects.toMatchObject(expected);
    const enqueued = transaction(
      async (tx) => void (await inbox.enqueue(tx, { userId: 'a' }, 'note', 1, { dedupKey })),
    );
    await expect(enqueued).rejects.toMatchObject(expected);
    expect(await store.head()).toBe(0);
  });

  test('a device of a name that cannot be is one without a name', async () => {
    const { inbox, open, store } = await start(create);
    const reader = { userId: 'anna', tenants: [''] };
    await inbox.sendToUser('anna', 'note', 1);
    const streams = await Promise.all(
      ['a\0b', 'a\nb', 'x'.repeat(257)].map((device) => open('anna', undefined, device)),
    );
    for (const stream of streams) await until(() => lastUnread(stream) === 1, 'the stream');
    await until(async () => (await store.cursor(reader, '')) === 1, 'the cursor of who has no name');
  });
});

const read = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};

interface Refusal {
  readonly code: RegExp;
  readonly name?: string;
  readonly event?: string;
  readonly data?: unknown;
}

function refusals(): Record<string, Refusal> {
  const names = { 'an empty': '', 'a NUL in a': 'a\0', 'a line break in a': 'a\nb', 'half a character in a': '\udfff' };
  const code = /^SSE_ERR_INVALID_(USER|TOPIC|TENANT)$/;
  const all: Record<string, Refusal> = { 'a name that is too long': { name: 'x'.repeat(257), code } };
  for (const [what, name] of Object.entries(names)) all[`${what} name`] = { name, code };
  for (const [what, event] of Object.entries(names))
    all[`${what} type`] = { event, code: /^SSE_ERR_INVALID_EVENT_NAME$/ };
  all['a type of the broker’s own'] = { event: 'gap', code: /^SSE_ERR_RESERVED_EVENT_NAME$/ };
  all['half a character as data'] = { data: 'a\ud800', code: /^SSE_ERR_INVALID_DATA$/ };
  all['data that is too large'] = { data: 'x'.repeat(2 ** 20 + 1), code: /^SSE_ERR_EVENT_TOO_LARGE$/ };
  return all;
}
