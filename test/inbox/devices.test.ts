/** How many devices and subscriptions of a user are kept, and for how long; what somebody gets whose device was forgotten. */
import { expect, onTestFinished, test } from 'vitest';
import { Inbox, type InboxOptions, MemoryStore } from '../../src/inbox/index.js';
import { makeBroker } from '../support/broker.js';
import { ManualClock } from '../support/manual-clock.js';
import { quiet } from '../support/shared-bus.js';
import { until } from '../support/until.js';
import { Device } from './device.js';

const ANNA = { userId: 'anna', tenants: [''] };
const HOUR = 60 * 60_000;
const MINUTE = 60_000;

function makeNode(more: Partial<InboxOptions> = {}) {
  const clock = new ManualClock();
  const store = new MemoryStore();
  const broker = makeBroker({ clock, clientTimeout: 0, heartbeatInterval: 0 });
  const inbox = new Inbox({ broker, store, cleanupInterval: 0, deviceGrace: 1_000, ...more });
  onTestFinished(() => inbox.close());
  const topics = (): string[] => [...broker.getClients()].flatMap((client) => [...client.topics]);
  /** Lets time pass until the cursor of a device is there. */
  const keptUp = async (device: Device, position: number): Promise<void> => {
    await until(async () => {
      await quiet();
      device.take();
      clock.advance(1_000);
      await quiet();
      return (await store.cursor(ANNA, device.name)) >= position;
    }, `the cursor of ${device.name} at ${position}`);
  };
  return { clock, store, broker, inbox, topics, keptUp };
}

test('a stranger who invents devices has no more of them than may be, and only those that came last', async () => {
  const { clock, store, broker, inbox, keptUp } = makeNode({ maxDevicesPerUser: 3 });
  await inbox.sendToUser('anna', 'note', 1);
  const names = Array.from({ length: 8 }, (_, i) => `device-${i}`);
  for (const name of names) {
    const device = new Device('anna', undefined, name);
    device.connect(broker);
    await keptUp(device, 1);
    expect(device.messages).toEqual([1]);
    device.cut(0);
    clock.advance(MINUTE);
  }
  const cursors = await Promise.all(names.map((name) => store.cursor(ANNA, name)));
  expect(cursors).toEqual([0, 0, 0, 0, 0, 1, 1, 1]);
  // One that is kept gets nothing twice, one that was forgotten what is unread.
  const known = new Device('anna', undefined, 'device-7');
  const forgotten = new Device('anna', undefined, 'device-0');
  for (const device of [known, forgotten]) device.connect(broker);
  await inbox.sendToUser('anna', 'note', 2);
  await until(() => {
    for (const device of [known, forgotten]) device.take();
    return known.messages.includes(2) && forgotten.messages.includes(2);
  }, 'the second message');
  expect(known.messages).toEqual([2]);
  expect(forgotten.messages).toEqual([1, 2]);
  for (const device of [known, forgotten]) device.cut(0);
});

test('a device that does not come is forgotten, one that is there and gets nothing is not', async () => {
  const { clock, store, broker, inbox, keptUp } = makeNode({ deviceTtl: 4 * HOUR, keepMessages: 0 });
  await inbox.sendToUser('anna', 'note', 1);
  const [there, away] = [new Device('anna', undefined, 'there'), new Device('anna', undefined, 'away')];
  for (const device of [there, away]) {
    device.connect(broker);
    await keptUp(device, 1);
  }
  away.cut(0);
  const seen: number[] = [];
  const { advance } = store;
  store.advance = async (...args) => {
    seen.push(args[0].length);
    return advance.apply(store, args);
  };
  for (let minutes = 0; minutes < 5 * 60; minutes += 5) {
    clock.advance(5 * MINUTE);
    await quiet();
    if (minutes % 60 === 0) await inbox.cleanup();
  }
  await inbox.cleanup();
  expect(await store.cursor(ANNA, 'away')).toBe(0);
  expect(await store.cursor(ANNA, 'there')).toBe(1);
  // About four times in its time to live, whatever its stream does meanwhile.
  expect(seen.length).toBeGreaterThanOrEqual(3);
  expect(seen.length).toBeLessThanOrEqual(6);
  there.cut(0);
  // One that comes now and then, and gets nothing, is seen too.
  const visitor = new Device('anna', undefined, 'there');
  for (let visit = 0; visit < 4; visit++) {
    clock.advance(2 * HOUR);
    const before = seen.length;
    visitor.connect(broker, true);
    await until(async () => {
      await quiet();
      clock.advance(1_000);
      await quiet();
      return seen.length > before;
    }, 'the visit to be known');
    visitor.cut(0);
    await inbox.cleanup();
  }
  expect(visitor.messages).toEqual([]);
  expect(await store.cursor(ANNA, 'there')).toBe(1);
});

test('one subscription more than a user may have is refused, and its group does not come', async () => {
  const { broker, inbox, topics } = makeNode({ maxSubscriptionsPerUser: 2 });
  await inbox.start();
  const phone = new Device('anna', undefined, 'phone');
  phone.connect(broker);
  await until(() => [...broker.getClients()].length === 1, 'the phone');
  expect(await inbox.subscribe('anna', 'a')).toBe(true);
  expect(await inbox.subscribe('anna', 'b')).toBe(true);
  await expect(inbox.subscribe('anna', 'c')).rejects.toMatchObject({
    code: 'SSE_ERR_TOO_MANY_TOPICS',
    status: 409,
    retryable: false,
    message: /may have 2 subscriptions in a tenant.*maxSubscriptionsPerUser/,
  });
  await until(() => topics().sort().join() === 'a,b', 'the topic to go');
  expect(await inbox.subscribe('anna', 'a', ['note'])).toBe(false);
  expect(await inbox.subscribe('anna', 'c', undefined, { tenantId: 'acme' })).toBe(true);
  expect(await inbox.unsubscribe('anna', 'a')).toBe(true);
  expect(await inbox.subscribe('anna', 'c')).toBe(true);
  expect((await inbox.subscriptions('anna')).map(({ group }) => group)).toEqual(['b', 'c']);
  expect(broker.reported).toEqual([]);
  phone.cut(0);
});

test('refuses limits that are none', () => {
  const broker = makeBroker();
  const store = new MemoryStore();
  for (const name of ['maxDevicesPerUser', 'maxSubscriptionsPerUser', 'deviceTtl'] as const) {
    for (const value of [-1, 1.5, Number.POSITIVE_INFINITY, '5' as never]) {
      expect(() => new Inbox({ broker, store, [name]: value })).toThrow(new RegExp(`${name} must be a whole number`));
    }
  }
});
