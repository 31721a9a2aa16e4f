/** Cases of the store conformance suite: devices, what they make of messages, and how many of them are kept. */
import assert from 'node:assert/strict';
import { isSseError } from '../core/errors.js';
import type { InboxStore } from '../inbox/store.js';
import {
  type AddStoreCase,
  ANNA,
  ANNA_AT_ACME,
  BEN,
  message,
  NODE,
  NOW,
  SEEN,
  toEverybody,
  toGroup,
  toUser,
  unreadOf,
} from './store-case.js';

const DAY = 24 * 60 * 60_000;

const move = (device: string, position: number, reader = ANNA) => ({ reader, device, position });

async function statusOf(store: InboxStore, ...ids: readonly string[]): Promise<(string | undefined)[]> {
  return Promise.all(ids.map(async (id) => (await store.find(id))?.status));
}

async function cursorsOf(store: InboxStore, devices: readonly string[], reader = ANNA): Promise<number[]> {
  return Promise.all(devices.map((device) => store.cursor(reader, device)));
}

const isRefused = (error: unknown): boolean => isSseError(error) && error.code === 'SSE_ERR_TOO_MANY_TOPICS';

export function addDevices(add: AddStoreCase): void {
  add('keeps a cursor per device that only moves forward', async ({ store }) => {
    assert.equal(await store.cursor(ANNA, ''), 0);
    await store.advance(
      [move('', 5), move('phone', 3), move('phone', 9), move('phone', 4), move('phone', 1, ANNA_AT_ACME)],
      SEEN,
    );
    await store.advance([move('', 2), move('phone', 8)], SEEN);
    await store.advance([], SEEN);
    assert.equal(await store.cursor(ANNA, ''), 5);
    assert.equal(await store.cursor(ANNA, 'phone'), 9);
    assert.equal(await store.cursor(ANNA_AT_ACME, 'phone'), 1);
    assert.equal(await store.cursor(BEN, 'phone'), 0);
  });

  add('moves the cursors of many devices at once', async ({ store }) => {
    for (const count of [1, 2, 5, 16, 17, 90]) {
      const devices = Array.from({ length: count }, (_, i) => `device-${i}`);
      const readers = [ANNA, ANNA_AT_ACME, BEN];
      const moves = devices.flatMap((device, i) => readers.map((reader) => move(device, count + i, reader)));
      await store.advance(moves, { now: NOW, maxDevices: 0 });
      for (const reader of readers) {
        assert.deepEqual(
          await cursorsOf(store, devices, reader),
          devices.map((_, i) => count + i),
        );
      }
    }
  });

  add('says of what a device has got that it was sent, and of nothing else', async ({ store }) => {
    const appended = await store.append(
      [
        message('a', toUser('anna'), { priority: 2 }),
        message('acme', toUser('anna', 'acme')),
        message('other', toUser('anna', 'other')),
        message('ben', toUser('ben')),
        message('team', toGroup('team')),
        message('all', toEverybody()),
        message('b', toUser('anna'), { priority: 1 }),
        message('late', toUser('anna')),
      ],
      NODE,
    );
    const ids = appended.map(({ eventId }) => eventId);
    const positionOf = (id: string): number => appended[ids.indexOf(id)]!.position;
    const sent = async (): Promise<string[]> => {
      const all = await statusOf(store, ...ids);
      return ids.filter((_, i) => all[i] === 'sent');
    };
    assert.deepEqual(await sent(), []);
    await store.advance([move('phone', positionOf('ben'))], SEEN);
    assert.deepEqual(await sent(), ['a']);
    await store.advance([move('phone', positionOf('b'), ANNA_AT_ACME)], SEEN);
    assert.deepEqual(await sent(), ['a', 'acme', 'b']);
    // Another device that has less says nothing new, nor one that is behind itself.
    await store.advance([move('laptop', positionOf('a')), move('phone', positionOf('a'))], SEEN);
    assert.deepEqual(await sent(), ['a', 'acme', 'b']);
    await store.advance([move('laptop', positionOf('late'))], SEEN);
    assert.deepEqual(await sent(), ['a', 'acme', 'b', 'late']);
    assert.deepEqual(await unreadOf(store, ANNA_AT_ACME), [['a', 'acme', 'all', 'b', 'late'], 5]);
  });

  add('says it of many, and looks only at what came since', async ({ store }) => {
    const ids = Array.from({ length: 600 }, (_, i) => `m${i}`);
    const appended = await store.append(
      ids.map((id, i) => message(id, toUser(i % 2 === 0 ? 'anna' : 'ben'))),
      NODE,
    );
    await store.advance([move('phone', appended[99]!.position), move('phone', appended[549]!.position, BEN)], SEEN);
    const all = await statusOf(store, ...ids);
    const isSent = (i: number): boolean => (i % 2 === 0 ? i < 100 : i < 550);
    assert.deepEqual(
      all,
      ids.map((_, i) => (isSent(i) ? 'sent' : 'pending')),
    );
    assert.deepEqual((await unreadOf(store, ANNA))[1], 300);
  });

  add('says it of what it is told that devices have got, without looking for it', async ({ store }) => {
    // One after the other, then every third, with one that was read and one that has expired among them.
    const owners = Array.from({ length: 2_500 }, (_, i) => (i < 2_200 || i % 3 === 0 ? 'anna' : 'ben'));
    const ids = owners.map((_, i) => `m${i}`);
    const appended = await store.append(
      owners.map((owner, i) => message(ids[i]!, toUser(owner), i === 9 ? { expiresAt: NOW + 5 } : {})),
      NODE,
    );
    await store.markRead(ANNA, { eventIds: ['m8'] }, NOW);
    const annas = appended.filter((_, i) => owners[i] === 'anna').map(({ position }) => position);
    const delivered = [...annas.filter((_, i) => i % 2 === 1), ...annas.filter((_, i) => i % 2 === 0), annas[3]!];
    const last = appended.at(-1)!.position;
    await store.advance([{ ...move('phone', last), isListed: true }], { ...SEEN, now: NOW + 5, delivered });
    assert.equal(await store.cursor(ANNA, 'phone'), last);
    const isLookedAt = (i: number): boolean => i < 20 || i % 100 < 3 || (i > 2_030 && i < 2_060) || i > 2_190;
    const some = ids.filter((_, i) => isLookedAt(i) && i !== 8);
    assert.deepEqual(
      await statusOf(store, ...some),
      some.map((id) => (id !== 'm9' && owners[ids.indexOf(id)] === 'anna' ? 'sent' : 'pending')),
    );
    assert.equal((await unreadOf(store, ANNA, NOW + 5))[1], annas.length - 2);
    // Nothing is known of what this one got: it is looked for.
    await store.advance([move('phone', last, BEN)], { ...SEEN, delivered: [] });
    assert.deepEqual(await statusOf(store, 'm2200', 'm2201'), ['sent', 'sent']);
  });

  add('leaves what was read, or has expired before a device got it, as it is', async ({ store }) => {
    const appended = await store.append(
      [
        message('read', toUser('anna')),
        message('old', toUser('anna'), { expiresAt: NOW + 5 }),
        message('fresh', toUser('anna'), { expiresAt: NOW + 50 }),
      ],
      NODE,
    );
    await store.markRead(ANNA, { eventIds: ['read'] }, NOW);
    await store.advance([move('phone', appended[2]!.position)], { ...SEEN, now: NOW + 5 });
    assert.deepEqual(await statusOf(store, 'old', 'fresh'), ['pending', 'sent']);
    assert.deepEqual(await unreadOf(store, ANNA, NOW + 5), [['fresh'], 1]);
    // Nor is it sent when the device moves on, by a clock that is behind.
    const [next] = await store.append([message('next', toUser('anna'))], NODE);
    await store.advance([move('phone', next!.position)], SEEN);
    assert.deepEqual(await statusOf(store, 'old', 'next'), ['pending', 'sent']);
    // It is still known when it was read, and goes at its time.
    assert.equal(await store.cleanup({ now: NOW, readBefore: NOW + 1, createdBefore: 0, limit: 10 }), 1);
    assert.equal(await store.find('read'), undefined);
  });

  add('forgets the devices of a user that were not seen for longest, where there are too many', async ({ store }) => {
    const at = (day: number) => ({ now: NOW + day * DAY, maxDevices: 3 });
    await store.advance([move('a', 1)], at(0));
    await store.advance([move('b', 2)], at(1));
    await store.advance([move('c', 3)], at(2));
    await store.advance([move('a', 1), move('a', 9, BEN), move('a', 8, ANNA_AT_ACME)], at(3));
    assert.deepEqual(await cursorsOf(store, ['a', 'b', 'c']), [1, 2, 3]);
    await store.advance([move('d', 4)], at(4));
    assert.deepEqual(await cursorsOf(store, ['a', 'b', 'c', 'd']), [1, 0, 3, 4]);
    // Those of others, and of the same user elsewhere, stay.
    assert.equal(await store.cursor(BEN, 'a'), 9);
    assert.equal(await store.cursor(ANNA_AT_ACME, 'a'), 8);
    await store.advance([move('e', 5), move('f', 6)], at(5));
    assert.deepEqual(await cursorsOf(store, ['a', 'c', 'd', 'e', 'f']), [0, 0, 4, 5, 6]);
    // Those that are known are no reason to forget one.
    await store.advance([move('d', 7), move('e', 7), move('f', 7)], { ...at(6), maxDevices: 1 });
    assert.deepEqual(await cursorsOf(store, ['d', 'e', 'f']), [7, 7, 7]);
    await store.advance([move('g', 8)], { ...at(7), maxDevices: 1 });
    assert.deepEqual(await cursorsOf(store, ['d', 'e', 'f', 'g']), [0, 0, 0, 8]);
  });

  add('forgets devices that were not seen since, a bounded number at a time', async ({ store }) => {
    const devices = Array.from({ length: 12 }, (_, i) => `d${i}`);
    for (const [day, device] of devices.entries()) {
      await store.advance([move(device, day + 1)], { now: NOW + day * DAY, maxDevices: 0 });
    }
    await store.advance([move('d0', 1)], { now: NOW + 20 * DAY, maxDevices: 0 });
    const seenBefore = NOW + 7 * DAY + DAY / 2;
    assert.equal(await store.forgetDevices({ seenBefore: NOW, limit: 100 }), 0);
    assert.equal(await store.forgetDevices({ seenBefore, limit: 4 }), 4);
    assert.equal(await store.forgetDevices({ seenBefore, limit: 4 }), 3);
    assert.equal(await store.forgetDevices({ seenBefore, limit: 4 }), 0);
    assert.deepEqual(await cursorsOf(store, devices), [1, 0, 0, 0, 0, 0, 0, 0, 9, 10, 11, 12]);
    // Like a new one, it may come back.
    await store.advance([move('d1', 3)], { now: NOW + 21 * DAY, maxDevices: 0 });
    assert.equal(await store.cursor(ANNA, 'd1'), 3);
  });

  add('refuses more subscriptions than a user may have in a tenant', async ({ store }) => {
    const subscribe = (group: string, tenantId = '', user = 'anna') =>
      store.subscribe(user, tenantId, group, undefined, 2);
    assert.equal(await subscribe('a'), true);
    assert.equal(await subscribe('b'), true);
    await assert.rejects(subscribe('c'), isRefused);
    assert.equal(await subscribe('a'), false);
    assert.equal(await subscribe('c', 'acme'), true);
    assert.equal(await subscribe('c', '', 'ben'), true);
    assert.equal(await store.unsubscribe('anna', '', 'a'), true);
    assert.equal(await subscribe('c'), true);
    await assert.rejects(subscribe('a'), isRefused);
    assert.equal(await store.subscribe('anna', '', 'a', undefined, 0), true);
    assert.equal(await store.subscribe('anna', '', 'd', undefined), true);
    const groups = (await store.subscriptions(ANNA)).map(({ group }) => group);
    assert.deepEqual(groups, ['a', 'b', 'c', 'd']);
  });

  add('gives the subscriptions to one group', async ({ store }) => {
    await store.subscribe('anna', '', 'team', ['note']);
    await store.subscribe('anna', 'acme', 'team', undefined);
    await store.subscribe('anna', '', 'Team', undefined);
    const found = await store.subscriptions(ANNA_AT_ACME, 'team');
    assert.deepEqual(
      found.map(({ tenantId, group, eventTypes }) => [tenantId, group, eventTypes]),
      [
        ['', 'team', ['note']],
        ['acme', 'team', undefined],
      ],
    );
    assert.equal((await store.subscriptions(ANNA, 'team')).length, 1);
    assert.deepEqual(await store.subscriptions(BEN, 'team'), []);
  });
}

export function addSharedDevices(add: AddStoreCase): void {
  add('lets no more subscribe than may, when several processes do at once', async ({ store, another }) => {
    const stores = [store, await another(), await another()];
    const attempts = stores.flatMap((own, s) =>
      Array.from({ length: 6 }, (_, i) => own.subscribe('anna', '', `group-${s}-${i}`, undefined, 5)),
    );
    const settled = await Promise.allSettled(attempts);
    assert.equal(settled.filter(({ status }) => status === 'fulfilled').length, 5);
    for (const one of settled) if (one.status === 'rejected') assert.ok(isRefused(one.reason), String(one.reason));
    assert.equal((await store.subscriptions(ANNA)).length, 5);
  });

  add('moves the same devices, marks and cleans up from several processes at once', async ({ store, another }) => {
    const stores = [store, await another(), await another()];
    const users = Array.from({ length: 24 }, (_, i) => ({ userId: `user-${i}`, tenants: [''] }));
    const ids: string[] = [];
    for (let round = 0; round < 4; round++) {
      const messages = users.map(({ userId }) => message(`${round}-${userId}`, toUser(userId)));
      const appended = await store.append(messages, NODE);
      ids.push(...messages.map(({ eventId }) => eventId));
      const through = appended.at(-1)!.position;
      await Promise.all(
        stores.map(async (own, s) => {
          // Each in another order, and with another part of them.
          const part = users.filter((_, i) => (i + s + round) % 5 > 0).sort(() => (s % 2 === 0 ? 1 : -1));
          const moves = part.map((reader) => ({ reader, device: 'phone', position: through }));
          await own.advance(moves, { now: NOW, maxDevices: 5 });
          await own.markRead(users[s]!, 'all', NOW);
          await own.cleanup({ now: NOW, readBefore: 0, createdBefore: 0, limit: 5 });
        }),
      );
      for (const reader of users) assert.equal(await store.cursor(reader, 'phone'), through);
    }
    const unread = ids.filter((id) => !/-user-[012]$/.test(id));
    assert.deepEqual(
      await statusOf(store, ...unread),
      unread.map(() => 'sent'),
    );
  });
}
