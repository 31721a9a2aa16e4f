/** Cases of the store conformance suite: storing, finding, reading, expiry and cleaning up. */
import assert from 'node:assert/strict';
import { isSseError } from '../core/errors.js';
import type { InboxStore, Reader } from '../inbox/store.js';
import {
  type AddStoreCase,
  ANNA,
  ANNA_AT_ACME,
  BEN,
  idsOf,
  message,
  NODE,
  NOW,
  SEEN,
  toEverybody,
  toGroup,
  toUser,
  unreadOf,
} from './store-case.js';

const ALL = { readBefore: 0, createdBefore: 0, limit: 1_000 };
const everything = (store: InboxStore, reader: Reader, now = NOW) =>
  store.pending({ reader, after: 0, limit: 10_000, now });

export function addStoring(add: AddStoreCase): void {
  add('keeps every field of a message, and the order in which they were given', async ({ store }) => {
    const first = message('a.1-B', toUser('anna', 'acme'), {
      event: 'order.paid',
      data: 'plain text',
      json: false,
      priority: 2,
      status: 'sent',
      expiresAt: NOW + 5_000,
      createdAt: NOW - 7,
      dedupKey: 'order 1',
    });
    const second = message('b', toUser('anna'));
    assert.equal(await store.head(), 0);
    const appended = await store.append([first, second], NODE);
    assert.deepEqual(
      appended.map(({ eventId, isDuplicate }) => [eventId, isDuplicate]),
      [
        ['a.1-B', false],
        ['b', false],
      ],
    );
    assert.ok(appended[0]!.position < appended[1]!.position);
    assert.equal(await store.head(), appended[1]!.position);
    assert.deepEqual(await store.find('a.1-B'), { ...first, position: appended[0]!.position });
    assert.deepEqual(await everything(store, ANNA_AT_ACME), [
      { ...first, position: appended[0]!.position },
      { ...second, position: appended[1]!.position },
    ]);
    assert.equal(await store.find('nobody'), undefined);
  });

  add('stores an id once, and a dedupKey once per tenant, and names the first', async ({ store }) => {
    const [first] = await store.append([message('a', toUser('anna'), { dedupKey: 'k' })], NODE);
    const again = await store.append(
      [
        message('a', toUser('anna')),
        message('b', toUser('ben'), { dedupKey: 'k' }),
        message('c', toUser('anna', 'acme'), { dedupKey: 'k' }),
        message('d', toUser('anna'), { dedupKey: 'within' }),
        message('e', toUser('anna'), { dedupKey: 'within' }),
        message('f', toUser('anna')),
        message('f', toUser('anna')),
      ],
      NODE,
    );
    assert.deepEqual(
      again.map(({ eventId, isDuplicate }) => [eventId, isDuplicate]),
      [
        ['a', true],
        ['a', true],
        ['c', false],
        ['d', false],
        ['d', true],
        ['f', false],
        ['f', true],
      ],
    );
    assert.equal(again[1]!.position, first!.position);
    assert.deepEqual(await unreadOf(store, ANNA), [['a', 'd', 'f'], 3]);
    assert.deepEqual(await unreadOf(store, BEN), [[], 0]);
  });

  add('appends many at once, in order', async ({ store }) => {
    const ids = Array.from({ length: 700 }, (_, i) => `m${i}`);
    await store.append(
      ids.map((id) => message(id, toUser('anna'))),
      NODE,
    );
    assert.deepEqual(await unreadOf(store, ANNA), [ids, 700]);
    assert.deepEqual(await store.append([], NODE), []);
  });

  add('gives text back as it was: quotes, NUL, 4-byte UTF-8, trailing blanks', async ({ store }) => {
    const names = ["o'brien", 'say "hi"; DROP TABLE sse_message; --', 'a\u0000b', '😀\u{10ffff}', 'blank ', 'blank'];
    const escapes = ['\\', '%_', '\u0001\u0000\u0001', '', 'ÄÖ', 'äö', 'A\u030a', '\u00c5', '$1 ? :x', 'a\u0001b'];
    for (const [index, text] of [...names, ...escapes].entries()) {
      const name = text || 'empty';
      const sent = [
        message(`u${index}`, toUser(name, name), { event: name, data: text, json: false, dedupKey: name }),
        message(`g${index}`, toGroup(name, name), { event: name, data: text, json: false }),
      ];
      const reader = { userId: name, tenants: ['', name] };
      await store.subscribe(name, name, name, [name]);
      await store.append(sent, NODE);
      const [direct, group] = await everything(store, reader);
      assert.deepEqual(direct, { ...sent[0], position: direct!.position }, JSON.stringify(name));
      assert.deepEqual(group, { ...sent[1], position: group!.position }, JSON.stringify(name));
      assert.equal(await store.unreadCount(reader, NOW), 2);
      assert.equal((await store.subscriptions(reader))[0]!.group, name);
      assert.deepEqual((await store.subscriptions(reader))[0]!.eventTypes, [name]);
      await store.advance([{ reader, device: name, position: index + 1 }], SEEN);
      assert.equal(await store.cursor(reader, name), index + 1);
      assert.equal(await store.markRead(reader, 'all', NOW), 2, JSON.stringify(name));
    }
  });

  add('gives a mebibyte of data back', async ({ store }) => {
    const data = '😀"\\\u0000\n'.repeat(131_072);
    await store.append([message('big', toUser('anna'), { data, json: false })], NODE);
    assert.ok((await store.find('big'))!.data === data);
  });

  add('keeps names apart that differ in case, blanks or accents', async ({ store }) => {
    const names = ['anna', 'Anna', 'anna ', 'änna', 'a\u0308nna'];
    await store.append(
      names.map((name, i) => message(`m${i}`, toUser(name))),
      NODE,
    );
    for (const [i, userId] of names.entries()) {
      assert.deepEqual(await unreadOf(store, { userId, tenants: [''] }), [[`m${i}`], 1]);
    }
  });

  add('refuses what has no UTF-8 and stores nothing of the call', async ({ store }) => {
    const bad = [
      message('b', toUser('anna'), { data: 'half \ud83d' }),
      message('c', toUser('\udc00')),
      message('d', toUser('anna'), { event: 'x\ud800' }),
    ];
    for (const wrong of bad) {
      await assert.rejects(store.append([message('a', toUser('anna')), wrong], NODE), (error) => {
        return isSseError(error) && error.code === 'SSE_ERR_INVALID_DATA';
      });
    }
    assert.equal(await store.head(), 0);
    assert.deepEqual(await unreadOf(store, ANNA), [[], 0]);
  });
}

export function addReading(add: AddStoreCase): void {
  add('shows a user their own messages and those to everybody, in their tenants only', async ({ store }) => {
    await store.append(
      [
        message('anna', toUser('anna')),
        message('ben', toUser('ben')),
        message('acme', toUser('anna', 'acme')),
        message('other', toUser('anna', 'other')),
        message('all', toEverybody()),
        message('all-acme', toEverybody('acme')),
        message('all-other', toEverybody('other')),
      ],
      NODE,
    );
    assert.deepEqual(await unreadOf(store, ANNA), [['anna', 'all'], 2]);
    assert.deepEqual(await unreadOf(store, BEN), [['ben', 'all'], 2]);
    assert.deepEqual(await unreadOf(store, ANNA_AT_ACME), [['anna', 'acme', 'all', 'all-acme'], 4]);
  });

  add('has one state for what is addressed without a tenant', async ({ store }) => {
    await store.append([message('a', toUser('anna')), message('b', toEverybody())], NODE);
    assert.equal(await store.markRead(ANNA_AT_ACME, 'all', NOW), 2);
    assert.deepEqual(await unreadOf(store, ANNA), [[], 0]);
    assert.deepEqual(await unreadOf(store, BEN), [['b'], 1]);
  });

  add('marks some by id, all up to one, and all; tells how many changed', async ({ store }) => {
    const ids = ['a', 'b', 'c', 'd', 'e', 'f'];
    await store.append(
      ids.map((id, i) => message(id, i % 2 === 0 ? toUser('anna') : toEverybody(), { priority: (i % 3) as 0 | 1 | 2 })),
      NODE,
    );
    assert.equal(await store.markRead(ANNA, { eventIds: ['b', 'e', 'b', 'nobody'] }, NOW), 2);
    assert.equal(await store.markRead(ANNA, { eventIds: ['b', 'e'] }, NOW), 0);
    assert.deepEqual(await unreadOf(store, ANNA), [['a', 'c', 'd', 'f'], 4]);
    assert.equal(await store.markRead(ANNA, { upTo: 'c' }, NOW), 2);
    assert.deepEqual(await unreadOf(store, ANNA), [['d', 'f'], 2]);
    assert.equal(await store.markRead(ANNA, { upTo: 'nobody' }, NOW), 0);
    assert.equal(await store.markRead(ANNA, { eventIds: [] }, NOW), 0);
    assert.equal(await store.markRead(ANNA, 'all', NOW), 2);
    assert.equal(await store.markRead(ANNA, 'all', NOW), 0);
    assert.deepEqual(await unreadOf(store, ANNA), [[], 0]);
    assert.deepEqual(await unreadOf(store, BEN), [['b', 'd', 'f'], 3]);
    await store.append([message('g', toEverybody()), message('h', toUser('anna'))], NODE);
    assert.deepEqual(await unreadOf(store, ANNA), [['g', 'h'], 2]);
  });

  add("does not mark other people's messages", async ({ store }) => {
    await store.append([message('a', toUser('anna')), message('b', toUser('anna', 'acme'))], NODE);
    await store.append([message('c', toUser('ben')), message('g', toGroup('team'))], NODE);
    assert.equal(await store.markRead(BEN, { eventIds: ['a', 'b', 'g'] }, NOW), 0);
    assert.equal(await store.markRead(BEN, { upTo: 'a' }, NOW), 0);
    assert.equal(await store.markRead(ANNA, { eventIds: ['b'] }, NOW), 0);
    assert.deepEqual(await unreadOf(store, ANNA_AT_ACME), [['a', 'b'], 2]);
    assert.deepEqual(await unreadOf(store, BEN), [['c'], 1]);
  });

  add('counts right whatever was marked, for many messages to one user', async ({ store }) => {
    for (let batch = 0; batch < 12; batch++) {
      const ids = Array.from({ length: 40 }, (_, i) => `m${batch}-${i}`);
      await store.append(
        ids.map((id) => message(id, toUser('anna'))),
        NODE,
      );
      assert.equal(await store.markRead(ANNA, { eventIds: ids.slice(0, 10) }, NOW), 10);
      assert.equal(await store.unreadCount(ANNA, NOW), (batch + 1) * 30);
    }
    assert.equal(await store.markRead(ANNA, { upTo: 'm5-39' }, NOW), 180);
    assert.equal(await store.unreadCount(ANNA, NOW), 180);
  });

  add('gives pages by position', async ({ store }) => {
    const ids = ['a', 'b', 'c', 'd', 'e'];
    await store.append(
      ids.map((id, i) => message(id, i % 2 === 0 ? toUser('anna') : toEverybody(), { priority: (i % 3) as 0 | 1 | 2 })),
      NODE,
    );
    const pages: string[][] = [];
    for (let after = 0; ; ) {
      const page = await store.pending({ reader: ANNA, after, limit: 2, now: NOW });
      if (page.length === 0) break;
      pages.push(idsOf(page));
      after = page.at(-1)!.position;
    }
    assert.deepEqual(pages, [['a', 'b'], ['c', 'd'], ['e']]);
    assert.deepEqual(await store.pending({ reader: ANNA, after: 0, limit: 0, now: NOW }), []);
  });

  add('gives the backlog by priority, then position, page by page, between two positions', async ({ store }) => {
    const priorities = [0, 2, 1, 0, 2, 1, 0] as const;
    const appended = await store.append(
      priorities.map((priority, i) => message(`m${i}`, i < 4 ? toUser('anna') : toEverybody(), { priority })),
      NODE,
    );
    const all = { reader: ANNA, from: 0, through: appended[6]!.position, limit: 100, now: NOW };
    assert.deepEqual(idsOf(await store.backlog(all)), ['m1', 'm4', 'm2', 'm5', 'm0', 'm3', 'm6']);
    const part = { ...all, from: appended[0]!.position, through: appended[5]!.position };
    assert.deepEqual(idsOf(await store.backlog(part)), ['m1', 'm4', 'm2', 'm5', 'm3']);
    const paged: string[] = [];
    for (let after: { priority: 0 | 1 | 2; position: number } | undefined; ; ) {
      const page = await store.backlog({ ...all, after, limit: 2 });
      if (page.length === 0) break;
      paged.push(...idsOf(page));
      after = page.at(-1);
    }
    assert.deepEqual(paged, ['m1', 'm4', 'm2', 'm5', 'm0', 'm3', 'm6']);
  });
}

export function addExpiry(add: AddStoreCase): void {
  add('neither shows nor counts what has expired, cleaned up or not', async ({ store }) => {
    await store.append(
      [
        message('u', toUser('anna'), { expiresAt: NOW + 10 }),
        message('v', toUser('anna')),
        message('e', toEverybody(), { expiresAt: NOW + 20 }),
        message('f', toEverybody()),
      ],
      NODE,
    );
    assert.deepEqual(await unreadOf(store, ANNA, NOW + 9), [['u', 'v', 'e', 'f'], 4]);
    assert.deepEqual(await unreadOf(store, ANNA, NOW + 10), [['v', 'e', 'f'], 3]);
    assert.deepEqual(await unreadOf(store, ANNA, NOW + 20), [['v', 'f'], 2]);
    assert.equal(await store.cleanup({ ...ALL, now: NOW + 15 }), 1);
    assert.equal(await store.find('u'), undefined);
    assert.deepEqual(await unreadOf(store, ANNA, NOW + 20), [['v', 'f'], 2]);
    assert.equal(await store.cleanup({ ...ALL, now: NOW + 20 }), 1);
    assert.equal(await store.cleanup({ ...ALL, now: NOW + 20 }), 0);
    assert.deepEqual(await unreadOf(store, ANNA, NOW + 20), [['v', 'f'], 2]);
    assert.deepEqual(await unreadOf(store, BEN, NOW + 20), [['f'], 1]);
  });

  add('marks nothing that has expired', async ({ store }) => {
    await store.append(
      [message('u', toUser('anna'), { expiresAt: NOW + 10 }), message('e', toEverybody(), { expiresAt: NOW + 10 })],
      NODE,
    );
    assert.equal(await store.markRead(ANNA, { eventIds: ['u', 'e'] }, NOW + 10), 0);
    assert.equal(await store.markRead(ANNA, 'all', NOW + 10), 0);
    await store.append([message('v', toUser('anna')), message('f', toEverybody())], NODE);
    assert.deepEqual(await unreadOf(store, ANNA, NOW + 10), [['v', 'f'], 2]);
    assert.equal(await store.markRead(ANNA, 'all', NOW + 10), 2);
  });

  add('cleans up what was read, by the time of reading, and only of one user', async ({ store }) => {
    await store.append([message('u', toUser('anna')), message('v', toUser('anna')), message('e', toEverybody())], NODE);
    await store.markRead(ANNA, { eventIds: ['u', 'e'] }, NOW);
    await store.markRead(ANNA, { eventIds: ['v'] }, NOW + 10);
    assert.equal(await store.cleanup({ ...ALL, now: NOW, readBefore: NOW }), 0);
    assert.equal(await store.cleanup({ ...ALL, now: NOW, readBefore: NOW + 10 }), 1);
    assert.equal(await store.find('u'), undefined);
    assert.equal(await store.cleanup({ ...ALL, now: NOW, readBefore: NOW + 11 }), 1);
    assert.deepEqual(await unreadOf(store, ANNA), [[], 0]);
    assert.deepEqual(await unreadOf(store, BEN), [['e'], 1]);
  });

  add('cleans up what is old in steps, and counts right after each', async ({ store }) => {
    for (let age = 0; age < 10; age++) {
      const more = { createdAt: NOW + age };
      await store.append([message(`u${age}`, toUser('anna'), more), message(`e${age}`, toEverybody(), more)], NODE);
    }
    await store.markRead(ANNA, { eventIds: ['u2', 'e3', 'e8'] }, NOW + 10);
    let gone = 0;
    for (const expected of [6, 6, 4, 0]) {
      assert.equal(await store.cleanup({ now: NOW + 10, readBefore: 0, createdBefore: NOW + 8, limit: 6 }), expected);
      gone += expected;
      const [ids, count] = await unreadOf(store, ANNA, NOW + 10);
      assert.equal(ids.length, count);
    }
    assert.equal(gone, 16);
    assert.deepEqual(await unreadOf(store, ANNA, NOW + 10), [['u8', 'u9', 'e9'], 3]);
    assert.deepEqual(await unreadOf(store, BEN, NOW + 10), [['e8', 'e9'], 2]);
  });

  add('takes an id and a dedupKey again once the first was cleaned up', async ({ store }) => {
    const first = message('a', toUser('anna'), { dedupKey: 'k', expiresAt: NOW + 1 });
    await store.append([first], NODE);
    await store.cleanup({ ...ALL, now: NOW + 1 });
    const [again] = await store.append([{ ...first, expiresAt: 0 }], NODE);
    assert.equal(again!.isDuplicate, false);
    assert.deepEqual(await unreadOf(store, ANNA, NOW + 1), [['a'], 1]);
  });
}
