/**
 * In what state messages to users are where two nodes share a store: after every step of random lives everything that a device's
 * cursor is past is `sent`, and nothing is that no device has got. Devices have several streams at once, on both nodes.
 */
import { expect, test } from 'vitest';
import { Inbox, type InboxStore, MemoryStore, type StoredMessage } from '../../src/inbox/index.js';
import { Broker, type Clock } from '../../src/index.js';
import { Random } from '../nodes/random.js';
import { ManualClock } from '../support/manual-clock.js';
import { quiet, SharedHub } from '../support/shared-bus.js';
import { sqliteDatabase } from './databases.js';
import { Device } from './device.js';

const GRACE = 1_000;
const SEED = Number(process.env.INBOX_SEED ?? Date.now() % 1_000_000);

/** A user, a tenant, and the name of a device; one name several times: several streams of one device. */
const WHO = [
  ...Array<[string, undefined, string]>(3).fill(['anna', undefined, 'phone']),
  ...Array<[string, undefined, string]>(2).fill(['ben', undefined, '']),
  ['cleo', 'acme', 'phone'],
  ['cleo', undefined, 'phone'],
  ['cleo', 'acme', 'phone'],
  ['dan', undefined, 'phone'],
  ['dan', undefined, 'tablet'],
] as const;

const readerOf = (userId: string, tenantId: string | undefined) => ({
  userId,
  tenants: tenantId === undefined ? [''] : ['', tenantId],
});
const within = (tenantId: string | undefined) => (tenantId === undefined ? {} : { tenantId });

/** Fails now and then when cursors are moved, before it has done it or afterwards. */
class FlakyStore extends MemoryStore {
  fails: 'no' | 'before' | 'after' = 'no';

  override async advance(...call: Parameters<MemoryStore['advance']>): Promise<void> {
    const { fails } = this;
    this.fails = 'no';
    if (fails === 'before') throw new Error('not moved');
    await super.advance(...call);
    if (fails === 'after') throw new Error('moved, and nobody knows');
  }
}

interface Node {
  readonly broker: Broker;
  readonly inbox: Inbox;
  readonly store: InboxStore;
  readonly port: ReturnType<SharedHub['port']>;
  readonly state: { isDead: boolean };
}

interface Sent {
  readonly id: string;
  readonly user: string;
  readonly tenant: string | undefined;
  readonly number: number;
}

class Life {
  readonly #random: Random;
  readonly #open: () => InboxStore;
  readonly #store: InboxStore;
  readonly #clock = new ManualClock();
  readonly #hub: SharedHub;
  readonly #maxDevices: number;
  readonly #devices = WHO.map(([user, tenant, name]) => new Device(user, tenant, name));
  readonly #streamsAt = new Map<Device, Node>();
  readonly #nodes: Node[] = [];
  readonly #ended: Node[] = [];
  readonly #sent: Sent[] = [];
  /** The furthest that a cursor ever was; a device may have been forgotten since. */
  readonly #cursors = new Map<string, number>();
  readonly #history: string[] = [];

  constructor(seed: number, open: () => InboxStore) {
    this.#random = new Random(seed);
    this.#open = open;
    this.#store = open();
    this.#hub = new SharedHub({ historySize: this.#random.one([0, 3, 100]) });
    this.#maxDevices = this.#random.one([0, 1, 20]);
  }

  #makeNode(): Node {
    const state = { isDead: false };
    const { now, monotonic } = this.#clock;
    const clock: Clock = {
      now,
      monotonic,
      every: (ms, callback) => this.#clock.every(ms, () => void (state.isDead || callback())),
    };
    const port = this.#hub.port();
    const broker = new Broker({
      clock,
      clientTimeout: 0,
      heartbeatInterval: 0,
      bus: port,
      clientBufferSize: this.#random.one([8, 1_000]),
    });
    broker.on('error', () => {});
    const store = this.#open();
    const options = { deviceGrace: GRACE, cleanupInterval: 0, maxDevicesPerUser: this.#maxDevices };
    const node = { broker, port, state, store, inbox: new Inbox({ broker, store, ...options }) };
    this.#ended.push(node);
    return node;
  }

  async run(steps: number): Promise<void> {
    try {
      await this.#store.start();
      this.#nodes.push(this.#makeNode(), this.#makeNode());
      for (const { inbox } of this.#nodes) await inbox.start();
      for (let step = 0; step < steps; step++) {
        await this.#step();
        await quiet();
        await this.#check();
      }
      await this.#settle();
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${this.#history.join('\n')}`, { cause: error });
    } finally {
      for (const device of this.#devices) device.cut(0);
      for (const { inbox, broker } of this.#ended) {
        await inbox.close();
        await broker.close({ timeoutMs: 10 });
      }
      await this.#store.close();
    }
  }

  async #step(): Promise<void> {
    const random = this.#random;
    const index = random.below(this.#devices.length);
    const device = this.#devices[index]!;
    const at = random.below(2);
    const node = this.#nodes[at]!;
    const say = (what: string): unknown => this.#history.push(`${device.userId}#${index}, node ${at}: ${what}`);
    const dice = random.below(100);
    if (dice < 35) {
      await this.#send(at);
    } else if (dice < 50) {
      say(`connects with '${device.lastEventId}'`);
      device.connect(node.broker, random.below(4) === 0);
      this.#streamsAt.set(device, node);
    } else if (dice < 58) {
      say('is cut');
      device.cut(random.one([0, 0.3, 0.7, 1]));
    } else if (dice < 65) {
      device.take();
      device.isStalled = random.below(3) > 0;
      say(device.isStalled ? 'stalls' : 'goes on');
    } else if (dice < 83) {
      say('a grace time passes');
      await this.#pass();
    } else if (dice < 88) {
      const unread = await node.inbox.pending(device.userId, within(device.tenantId));
      if (unread.length > 0) {
        await node.inbox.markRead(device.userId, [random.one(unread).id], within(device.tenantId));
      }
    } else if (dice < 92) {
      node.port.isPaused = !node.port.isPaused;
      if (!node.port.isPaused) node.port.flush();
      say(node.port.isPaused ? 'its bus waits' : 'its bus goes on');
    } else if (dice < 96) {
      if (node.store instanceof FlakyStore) node.store.fails = random.one(['before', 'after']);
      say('its store fails once');
    } else {
      say('it is killed');
      node.state.isDead = true;
      node.port.isCut = true;
      for (const one of this.#devices) if (this.#streamsAt.get(one) === node) one.cut(random.one([0, 0.5, 1]));
      await quiet();
      this.#nodes[at] = this.#makeNode();
      await this.#nodes[at]!.inbox.start();
    }
  }

  async #send(at: number): Promise<void> {
    const random = this.#random;
    const { inbox } = this.#nodes[at]!;
    for (let count = random.between(1, 5); count > 0; count--) {
      const user = random.one(['anna', 'ben', 'cleo', 'dan']);
      const tenant = user === 'cleo' ? random.one([undefined, 'acme']) : undefined;
      const ttl = random.one([0, 0, 0, 1_500]);
      const number = this.#sent.length + 1;
      // While its bus waits nothing resolves that is stored: it is not waited for.
      const id = inbox.sendToUser(user, 'note', number, { ttl, ...within(tenant) });
      id.catch(() => {});
      if (this.#nodes[at]!.port.isPaused) await quiet();
      else this.#sent.push({ id: await id, user, tenant, number });
      this.#history.push(`node ${at}: ${number} to ${user} ${tenant ?? ''}, ttl ${ttl}`);
    }
    if (random.below(4) === 0) void inbox.broadcast('note', 1_000_000);
  }

  async #pass(): Promise<void> {
    await quiet();
    for (const device of this.#devices) device.take();
    this.#clock.advance(GRACE);
    await quiet();
  }

  async #unread(userId: string, tenantId: string | undefined): Promise<StoredMessage[]> {
    const reader = readerOf(userId, tenantId);
    const all = await this.#store.pending({ reader, after: 0, limit: 1_000, now: this.#clock.now() });
    return all.filter(({ receiver }) => receiver.type === 'user');
  }

  async #check(): Promise<void> {
    for (const [user, tenant, name] of WHO) {
      const key = JSON.stringify([user, tenant, name]);
      const cursor = Math.max(await this.#store.cursor(readerOf(user, tenant), name), this.#cursors.get(key) ?? 0);
      this.#cursors.set(key, cursor);
      for (const { position, status, data } of await this.#unread(user, tenant)) {
        if (status === 'pending' && position <= cursor) throw new Error(`${data} is pending, and ${key} is past it`);
      }
    }
    for (const { id, user, tenant, number } of this.#sent) {
      const message = (await this.#unread(user, tenant)).find(({ eventId }) => eventId === id);
      const has = ({ userId, tenantId, messages }: Device): boolean =>
        userId === user && (tenant === undefined || tenantId === tenant) && messages.includes(number);
      if (message?.status === 'sent' && !this.#devices.some(has)) throw new Error(`${number} is sent; nobody has it`);
    }
  }

  /** All faults end: then everything is `sent`. */
  async #settle(): Promise<void> {
    for (const { port } of this.#nodes) {
      port.isPaused = false;
      port.flush();
    }
    for (const device of this.#devices) device.isStalled = false;
    for (let rounds = 0; ; rounds++) {
      for (const device of this.#devices) {
        if (!device.isConnected) device.connect(this.#nodes[this.#random.below(2)]!.broker);
      }
      await this.#pass();
      await this.#check();
      const unread = await Promise.all(WHO.map(([user, tenant]) => this.#unread(user, tenant)));
      if (unread.flat().every(({ status }) => status !== 'pending')) return;
      if (rounds > 60) throw new Error('not everything comes to be sent');
    }
  }
}

test('what the cursor of a device is past is sent, and only what one has got', async () => {
  for (let seed = SEED; seed < SEED + 12; seed++) {
    const store = new FlakyStore();
    await expect(new Life(seed, () => store).run(60), `seed ${seed}`).resolves.toBeUndefined();
  }
}, 60_000);

test('over SQLite too', async () => {
  for (let seed = SEED; seed < SEED + 4; seed++) {
    const database = await sqliteDatabase();
    await expect(new Life(seed, () => database.store()).run(50), `seed ${seed}`).resolves.toBeUndefined();
    await database.dispose();
  }
}, 60_000);
