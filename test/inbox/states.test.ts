/** In what state a message to a user is: `pending` until a device has it, `sent` from then on; never `sent` where none has. */
import { describe, expect, onTestFinished, test } from 'vitest';
import { Inbox, type InboxStore, MemoryStore } from '../../src/inbox/index.js';
import { Broker, type Clock } from '../../src/index.js';
import { Random } from '../nodes/random.js';
import { ManualClock } from '../support/manual-clock.js';
import { quiet } from '../support/shared-bus.js';
import { until } from '../support/until.js';
import { mysqlDatabase, postgresDatabase, sqliteDatabase, type TestDatabase } from './databases.js';
import { Device } from './device.js';

const GRACE = 1_000;
const SEED = Number(process.env.INBOX_SEED ?? Date.now() % 1_000_000);

const over = (create: () => Promise<TestDatabase>) => async (): Promise<InboxStore> => {
  const database = await create();
  onTestFinished(() => database.dispose());
  return database.store();
};
const stores: Record<string, () => Promise<InboxStore>> = {
  memory: async () => new MemoryStore(),
  SQLite: over(sqliteDatabase),
  PostgreSQL: over(postgresDatabase),
  MariaDB: over(mysqlDatabase),
};

/** A process with an inbox; `kill` ends it as SIGKILL would: nothing of it runs any more. */
class Process {
  readonly broker: Broker;
  readonly inbox: Inbox;
  #isDead = false;

  constructor(store: InboxStore, clock: ManualClock) {
    const own: Clock = {
      now: clock.now,
      monotonic: clock.monotonic,
      every: (ms, callback) => clock.every(ms, () => void (this.#isDead || callback())),
    };
    this.broker = new Broker({ clock: own, clientTimeout: 0, heartbeatInterval: 0, historySize: 100 });
    this.inbox = new Inbox({ broker: this.broker, store, deviceGrace: GRACE, cleanupInterval: 0 });
  }

  kill(): void {
    this.#isDead = true;
  }

  async end(): Promise<void> {
    await this.inbox.close();
    await this.broker.close({ timeoutMs: 50 });
  }
}

function start(store: InboxStore, clock = new ManualClock()) {
  const process = new Process(store, clock);
  onTestFinished(() => process.end());
  /** Lets a grace time pass, in which the network brings what is under way. */
  const pass = async (...devices: readonly Device[]): Promise<void> => {
    await quiet();
    for (const device of devices) device.take();
    clock.advance(GRACE);
    await quiet();
  };
  return { ...process, broker: process.broker, inbox: process.inbox, pass };
}

describe.each(Object.entries(stores))('over %s', (_, create) => {
  test('a message waits for somebody who is away, and is sent when their device has kept it', async () => {
    const store = await create();
    const { broker, inbox, pass } = start(store);
    const id = await inbox.sendToUser('anna', 'note', 1);
    const other = await inbox.sendToUser('ben', 'note', 2);
    await inbox.subscribe('anna', 'team');
    await inbox.sendToGroup('team', 'note', 3);
    const states = async (user: string) => (await inbox.pending(user)).map(({ status }) => status);
    expect(await states('anna')).toEqual(['pending', 'sent']);
    const phone = new Device('anna', undefined, 'phone');
    phone.connect(broker);
    await phone.has(2);
    // Handed to the socket is not kept.
    expect(await states('anna')).toEqual(['pending', 'sent']);
    await until(async () => {
      await pass(phone);
      return (await states('anna'))[0] === 'sent';
    }, 'the first to be sent');
    expect((await store.find(id))?.status).toBe('sent');
    expect((await store.find(other))?.status).toBe('pending');
    phone.cut(0);
  });
});

test('a message to somebody who is there is sent when it has arrived, not before', async () => {
  const store = new MemoryStore();
  const { broker, inbox, pass } = start(store);
  await inbox.start();
  const [anna, ben] = [new Device('anna', undefined, 'phone'), new Device('ben', undefined, 'phone')];
  for (const device of [anna, ben]) device.connect(broker);
  await quiet();
  const statusOf = async (id: string) => (await store.find(id))?.status;
  anna.isStalled = true;
  const ids = [await inbox.sendToUser('anna', 'note', 1), await inbox.sendToUser('ben', 'note', 2)] as const;
  expect([await statusOf(ids[0]), await statusOf(ids[1])]).toEqual(['pending', 'pending']);
  await until(async () => {
    await pass(ben);
    return (await statusOf(ids[1])) === 'sent';
  }, "ben's to be sent");
  for (let i = 0; i < 5; i++) await pass(ben);
  expect(await statusOf(ids[0])).toBe('pending');
  anna.isStalled = false;
  await until(async () => {
    await pass(anna, ben);
    return (await statusOf(ids[0])) === 'sent';
  }, "anna's to be sent");
  // One that is read is never sent again, and is not counted.
  const third = await inbox.sendToUser('anna', 'note', 3);
  expect(await inbox.markRead('anna', [third])).toBe(1);
  for (let i = 0; i < 3; i++) await pass(anna, ben);
  expect(await inbox.unreadCount('anna')).toBe(1);
});

test('what comes back says by its cursor what it has', async () => {
  const store = new MemoryStore();
  const { broker, inbox, pass } = start(store);
  await inbox.start();
  const phone = new Device('anna', undefined, 'phone');
  phone.connect(broker);
  await until(() => [...broker.getClients()].length === 1, 'the phone');
  const id = await inbox.sendToUser('anna', 'note', 1);
  await inbox.broadcast('note', 2);
  await phone.has(2);
  phone.cut(1);
  for (let i = 0; i < 3; i++) await pass();
  expect((await store.find(id))?.status).toBe('pending');
  phone.connect(broker);
  await until(async () => {
    await pass(phone);
    return (await store.find(id))?.status === 'sent';
  }, 'the first to be sent');
  phone.cut(0);
});

/** Random lives of one process after another; after every step, what is `sent` has reached a device of its user. */
async function live(seed: number, open: () => InboxStore, steps: number): Promise<void> {
  const random = new Random(seed);
  const clock = new ManualClock();
  let process = new Process(open(), clock);
  const ended = [process];
  await process.inbox.start();
  const devices = ['phone', 'laptop'].flatMap((name) =>
    ['anna', 'ben'].map((user) => new Device(user, undefined, name)),
  );
  const sent: { readonly id: string; readonly user: string; readonly number: number; readonly ttl: number }[] = [];
  const history: string[] = [];
  const store = open();
  await store.start();
  const has = (user: string, number: number): boolean =>
    devices.some((device) => device.userId === user && device.messages.includes(number));
  const pass = async (): Promise<void> => {
    await quiet();
    for (const device of devices) device.take();
    clock.advance(GRACE);
    await quiet();
  };
  try {
    for (let step = 0; step < steps; step++) {
      const device = random.one(devices);
      const name = `${device.userId}/${device.name}`;
      const at = random.below(100);
      if (at < 35) {
        for (let count = random.between(1, 4); count > 0; count--) {
          const [user, ttl] = [random.one(['anna', 'ben']), random.one([0, 0, 0, 1_500])];
          const number = sent.length + 1;
          const priority = random.one(['normal', 'urgent'] as const);
          const id = await process.inbox.sendToUser(user, 'note', number, { priority, ttl });
          sent.push({ id, user, number, ttl });
          history.push(`${number} to ${user}, ttl ${ttl}`);
          if (random.below(3) === 0) await quiet();
        }
        if (random.below(4) === 0) await process.inbox.broadcast('note', 1_000_000 + step);
      } else if (at < 50) {
        history.push(`${name} connects with '${device.lastEventId}'`);
        device.connect(process.broker, random.below(4) === 0);
      } else if (at < 60) {
        history.push(`${name} is cut`);
        device.cut(random.one([0, 0.3, 0.7, 1]));
      } else if (at < 67) {
        // What the network has taken by now it brings: a server can know of no more.
        device.take();
        device.isStalled = random.below(3) > 0;
        history.push(`${name} ${device.isStalled ? 'stalls' : 'goes on'}`);
      } else if (at < 88) {
        history.push('a grace time passes');
        await pass();
      } else if (at < 94) {
        const unread = await process.inbox.pending(device.userId);
        if (unread.length > 0) await process.inbox.markRead(device.userId, [random.one(unread).id]);
      } else {
        history.push('the process is killed');
        process.kill();
        for (const one of devices) one.cut(random.one([0, 0.3, 0.7, 1]));
        await quiet();
        process = new Process(open(), clock);
        ended.push(process);
        await process.inbox.start();
      }
      await quiet();
      for (const { id, user, number } of sent) {
        const status = (await store.find(id))?.status;
        if (status !== 'sent' || has(user, number)) continue;
        // Read ones have no state of their own on a message that is found.
        const isUnread = (await process.inbox.pending(user, { limit: 1_000 })).some((one) => one.id === id);
        if (isUnread) throw new Error(`${number} is sent, and ${user} has not got it\n${history.join('\n')}`);
      }
    }
    for (const device of devices) {
      device.isStalled = false;
      device.connect(process.broker);
    }
    await until(async () => {
      await pass();
      const left = await Promise.all(['anna', 'ben'].map((user) => process.inbox.pending(user, { limit: 1_000 })));
      return left.flat().every(({ status }) => status === 'sent');
    }, 'everything to be sent');
  } catch (error) {
    throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
  } finally {
    for (const device of devices) device.cut(0);
    for (const one of ended) await one.end();
    await store.close();
  }
}

test('nothing is sent that no device got, whoever is killed', async () => {
  for (let run = 0; run < 30; run++) {
    const store = new MemoryStore();
    await live(SEED + run, () => store, 60);
  }
}, 60_000);

test('nor over SQLite', async () => {
  for (let run = 0; run < 6; run++) {
    const database = await sqliteDatabase();
    try {
      await live(SEED + run, () => database.store(), 50);
    } finally {
      await database.dispose();
    }
  }
}, 60_000);
