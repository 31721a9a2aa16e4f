/** Counters look at who is due, and at nobody else; whoever is due is counted in time. */
import { expect, onTestFinished, test, vi } from 'vitest';
import type { MailboxHost } from '../../src/core/mailbox.js';
import { DueTimes } from '../../src/inbox/due-times.js';
import { Inbox, MemoryStore, type Reader } from '../../src/inbox/index.js';
import { type Counted, type CountedUser, UnreadCounters } from '../../src/inbox/unread.js';
import { message, NODE, toUser } from '../../src/testing/store-case.js';
import { Random } from '../nodes/random.js';
import { makeBroker } from '../support/broker.js';
import { ManualClock } from '../support/manual-clock.js';
import { quiet } from '../support/shared-bus.js';
import { until } from '../support/until.js';
import { Device } from './device.js';

test('gives everybody at their time, once, whatever was set in between', () => {
  for (let seed = 1; seed <= 50; seed++) {
    const random = new Random(seed);
    const due = new DueTimes<number>();
    const times = new Map<number, number>();
    let now = 1_700_000_000_000;
    for (let step = 0; step < 300; step++) {
      const who = random.below(20);
      const at = random.below(10);
      if (at < 5) {
        const time = now + random.one([0, 1, 249, 250, 600, 5_000, 90_000, Number.POSITIVE_INFINITY]);
        due.set(who, time);
        const known = times.get(who) ?? Number.POSITIVE_INFINITY;
        if (time !== Number.POSITIVE_INFINITY) times.set(who, Math.min(known, time));
      } else if (at < 6) {
        due.delete(who);
        times.delete(who);
      } else {
        // Now and then the clock of the machine is set back, or far ahead.
        now += random.one([0, 10, 250, 250, 250, 1_000, 100_000, -2_000]);
        const taken = due.take(now);
        expect(new Set(taken).size).toBe(taken.length);
        for (const one of taken) {
          // At most a set too early: it is set anew then.
          expect(times.get(one)! - now).toBeLessThan(250);
          times.delete(one);
        }
        for (const [one, time] of times) expect(time, `${one} in seed ${seed}`).toBeGreaterThan(now);
        expect(due.size).toBe(times.size);
      }
    }
  }
});

/** Counters of `count` users with a stream each. */
async function makeCounters(count: number) {
  const clock = new ManualClock();
  const store = new MemoryStore();
  const counted: string[] = [];
  const { unreadCount } = store;
  store.unreadCount = async (reader, now) => {
    counted.push(reader.userId);
    return unreadCount.call(store, reader, now);
  };
  const reported: unknown[] = [];
  const host = { clock, report: (error: unknown) => reported.push(error) } as unknown as MailboxHost;
  const counters = new UnreadCounters(store, host, 'unread');
  onTestFinished(() => counters.close());
  const users = Array.from({ length: count }, (_, i) => {
    const reader: Reader = { userId: `user-${i}`, tenants: [''] };
    const told: number[] = [];
    const tell = (data: string): void => void told.push((JSON.parse(data) as { unread: number }).unread);
    const stream: Counted = { isLive: true, told: undefined, tell };
    const user = counters.add(reader, stream);
    return { user, stream, told };
  });
  /** Until nothing is being counted. */
  const counting = () => until(() => users.every(({ user }) => !user.isDirty && !user.isCounting), 'the counts');
  const tick = async (): Promise<void> => {
    clock.advance(250);
    counters.tick(clock.now());
    await counting();
    await quiet();
  };
  return { clock, store, counters, users, counted, tick, counting, reported };
}

/** Counts how often a user is looked at. */
function watch(user: CountedUser): () => number {
  let looks = 0;
  for (const name of ['refreshAt', 'expiresAt'] as const) {
    let value = user[name];
    Object.defineProperty(user, name, {
      get() {
        looks++;
        return value;
      },
      set(next: typeof value) {
        value = next;
      },
    });
  }
  return () => looks;
}

test('looks at nobody who has nothing due, and counts everybody about once a minute, not all at once', async () => {
  const { clock, counters, users, counted, tick, counting } = await makeCounters(400);
  for (const { user } of users) counters.changed(user);
  await counting();
  await until(() => counted.length === 400, 'the first counts');
  counted.length = 0;
  const looks = users.map(({ user }) => watch(user));
  const lookedAt = (): number => looks.reduce((sum, one) => sum + one(), 0);
  // Nothing is due in the first three quarters of the minute.
  for (let ms = 250; ms < 44_000; ms += 250) {
    clock.advance(250);
    counters.tick(clock.now());
  }
  expect(lookedAt()).toBe(0);
  let most = 0;
  for (let ms = 44_000; ms <= 76_000; ms += 250) {
    const before = counted.length;
    await tick();
    most = Math.max(most, counted.length - before);
  }
  expect(new Set(counted).size).toBe(400);
  expect(counted.length).toBe(400);
  expect(most).toBeLessThan(40);
  // A few looks for each count, and none for those that were not counted.
  expect(lookedAt()).toBeLessThan(400 * 20);
});

test('counts anew within a tick when a message expires, the first of several first', async () => {
  const { clock, store, counters, users, counted, tick, counting } = await makeCounters(3);
  const now = clock.now();
  const ttls = [5_000, 700, 90_000, 30_000];
  await store.append(
    ttls.map((ttl) => message(`ttl-${ttl}`, toUser('user-1'), { expiresAt: now + ttl })),
    NODE,
  );
  for (const { user } of users) counters.changed(user);
  await counting();
  const [other, { user, told }] = users as [(typeof users)[0], (typeof users)[1], unknown];
  await until(() => told.length === 1, 'the first count');
  expect(told).toEqual([4]);
  const at: number[] = [];
  while (clock.now() < now + 95_000) {
    const before = told.length;
    await tick();
    if (told.length > before) at.push(clock.now() - now);
  }
  expect(told).toEqual([4, 3, 2, 1, 0]);
  for (const [i, ttl] of [...ttls].sort((a, b) => a - b).entries()) {
    expect(at[i]).toBeGreaterThanOrEqual(ttl);
    expect(at[i]).toBeLessThanOrEqual(ttl + 250);
  }
  expect(other.told).toEqual([0]);
  // One that comes live says itself when it expires, also where that is before what was known.
  await store.append(
    [400, 9_000].map((ttl) => message(`live-${ttl}`, toUser('user-1'), { expiresAt: clock.now() + ttl })),
    NODE,
  );
  for (const ttl of [9_000, 400]) counters.expires(user, clock.now() + ttl);
  counters.changed(user);
  await until(() => told.length === 6, 'the count of what came');
  await tick();
  await tick();
  await until(() => told.at(-1) === 1, 'the first to expire');
  expect(told).toEqual([4, 3, 2, 1, 0, 2, 1]);
  counted.length = 0;
  counters.expires(user, clock.now() + 400);
  await tick();
  expect(counted).toEqual([]);
  await tick();
  expect(counted).toEqual(['user-1']);
});

test('forgets who is gone, and tries again after a count that failed', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0.5);
  onTestFinished(() => void vi.restoreAllMocks());
  const { store, counters, users, counted, tick, counting, reported } = await makeCounters(2);
  const [gone, stays] = users as [(typeof users)[0], (typeof users)[1]];
  for (const { user } of users) counters.changed(user);
  await counting();
  await until(() => counted.length === 2, 'the first counts');
  counters.remove(gone.user, gone.stream);
  const { nextExpiry } = store;
  store.nextExpiry = async () => {
    throw new Error('the database is down');
  };
  stays.user.expiresAt = undefined;
  counters.changed(stays.user);
  await until(() => reported.length === 1, 'the failure');
  store.nextExpiry = nextExpiry;
  counted.length = 0;
  for (let ms = 0; ms < 61_000; ms += 250) await tick();
  expect(counted).toEqual(['user-1']);
});

test('a change that comes while a count is failing is counted with the next tick', async () => {
  const { store, counters, users, counted, tick, counting, reported } = await makeCounters(1);
  const [{ user, told }] = users as [(typeof users)[0]];
  counters.changed(user);
  await until(() => told.length === 1, 'the first count');
  const { unreadCount } = store;
  let fail!: (error: Error) => void;
  store.unreadCount = () =>
    new Promise((_, reject) => {
      fail = reject;
    });
  await store.append([message('first', toUser('user-0'))], NODE);
  counters.changed(user);
  await until(() => fail !== undefined, 'the count that fails');
  store.unreadCount = unreadCount;
  await store.append([message('second', toUser('user-0'))], NODE);
  counters.changed(user);
  fail(new Error('the database is down'));
  await until(() => reported.length === 1, 'the failure');
  await counting();
  await quiet();
  // Not at once, as a database that is down would be asked all the time.
  expect(told).toEqual([0]);
  counted.length = 0;
  await tick();
  await until(() => told.length === 2, 'the count');
  expect(told).toEqual([0, 2]);
  for (let ms = 0; ms < 10_000; ms += 250) await tick();
  expect(counted).toEqual(['user-0']);
});

test('what is read while no count succeeds is kept within bounds, and the newest is told', async () => {
  const { store, counters, users, counting, reported } = await makeCounters(1);
  const [{ user, stream }] = users as [(typeof users)[0]];
  const told: string[] = [];
  stream.tell = (data) => void told.push(data);
  const { unreadCount } = store;
  store.unreadCount = async () => {
    throw new Error('the database is down');
  };
  const many = (id: string) => ({ eventIds: Array.from({ length: 60 }, (_, i) => `${id}-${i}`) });
  for (let i = 0; i < 1_000; i++) counters.changed(user, many(`read-${i}`));
  await until(() => reported.length > 0, 'the failure');
  await counting();
  expect(user.reads.length).toBeLessThanOrEqual(100);
  store.unreadCount = unreadCount;
  counters.changed(user, many('last'));
  await until(() => told.length > 0, 'the count');
  expect(told.at(-1)).toContain('last-59');
});

test('a clock that is set back keeps nobody from being counted', async () => {
  const { clock, counters, users, counted, counting } = await makeCounters(5);
  for (const { user } of users) counters.changed(user);
  await counting();
  counters.tick(clock.now());
  counted.length = 0;
  const now = clock.now;
  Object.assign(clock, { now: () => now() - 3_600_000 });
  for (let ms = 0; ms < 80_000; ms += 250) {
    clock.advance(250);
    counters.tick(clock.now());
  }
  await counting();
  expect(new Set(counted).size).toBe(5);
});

test('a subscription that is widened to messages which expire counts them until they do', async () => {
  const clock = new ManualClock();
  const broker = makeBroker({ clock, heartbeatInterval: 0, clientTimeout: 0 });
  const inbox = new Inbox({ broker, store: new MemoryStore(), cleanupInterval: 0 });
  onTestFinished(() => inbox.close());
  await inbox.subscribe('anna', 'team', ['alarm']);
  await inbox.sendToGroup('team', 'note', 1, { ttl: 5_000 });
  const phone = new Device('anna', undefined, 'phone');
  phone.connect(broker);
  onTestFinished(() => phone.cut(0));
  const shows = (unread: number) =>
    until(() => {
      phone.take();
      return phone.unread === unread;
    }, `${unread} unread`);
  await shows(0);
  await inbox.subscribe('anna', 'team');
  await shows(1);
  clock.advance(5_250);
  await shows(0);
});
