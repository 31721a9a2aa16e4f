/**
 * Random lives of an inbox: sends to users, groups and everybody, of all priorities, some with a ttl; devices that connect, stall,
 * are cut in the middle of whatever, come back with their cursor or are loaded anew; reads; subscriptions; nodes that are
 * restarted. After every step every connected device has exactly the messages that it must have, each once, and every count is the
 * model's.
 */
import { expect } from 'vitest';
import { Inbox } from '../../src/inbox/inbox.js';
import type { InboxStore, NewMessage } from '../../src/inbox/store.js';
import { Broker, type BrokerOptions, type SseError } from '../../src/index.js';
import { Random } from '../nodes/random.js';
import { ManualClock } from '../support/manual-clock.js';
import { quiet } from '../support/shared-bus.js';
import { until } from '../support/until.js';
import { Device } from './device.js';
import { type Known, Model } from './model.js';

const USERS = ['anna', 'ben'];
const GROUPS = ['team', 'all:hands'];
const TYPES = ['note', 'alarm'] as const;
const PRIORITIES = ['normal', 'high', 'urgent'] as const;
const GRACE = 1_000;

export interface WorldOptions {
  readonly seed: number;
  readonly nodes: number;
  readonly steps: number;
  /** A store over what all nodes share; called for each node and each of its lives. */
  store(): InboxStore;
  /** Options of a node's broker, at each of its lives. */
  broker(node: number): BrokerOptions;
}

interface Node {
  broker: Broker;
  inbox: Inbox;
}

class World {
  readonly random: Random;
  readonly clock = new ManualClock();
  readonly model = new Model();
  readonly nodes: Node[] = [];
  readonly devices: Device[] = [];
  readonly history: string[] = [];
  readonly errors: SseError[] = [];
  readonly #options: WorldOptions;
  /** To look into what all nodes share. */
  readonly #store: InboxStore;
  #sent = 0;
  readonly #ids = new Map<number, string>();

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#store = options.store();
    this.random = new Random(options.seed);
    for (const user of USERS) {
      for (const tenant of [undefined, 'acme']) {
        for (const name of ['phone', 'laptop']) this.devices.push(new Device(user, tenant, name));
      }
    }
  }

  async start(): Promise<void> {
    for (let i = 0; i < this.#options.nodes; i++) this.nodes.push(await this.#makeNode(i));
  }

  async end(): Promise<void> {
    for (const device of this.devices) device.cut(0);
    for (const { inbox, broker } of this.nodes) {
      await inbox.close();
      await broker.close({ timeoutMs: 50 });
    }
  }

  async #makeNode(index: number): Promise<Node> {
    const broker = new Broker({
      ...this.#options.broker(index),
      clock: this.clock,
      clientTimeout: 0,
      heartbeatInterval: 0,
    });
    broker.on('error', (error) => {
      this.errors.push(error);
    });
    const inbox = new Inbox({ broker, store: this.#options.store(), deviceGrace: GRACE, cleanupInterval: 0 });
    await inbox.start();
    if (this.#options.nodes > 1) {
      // Until the others know it; what is asked before that waits.
      await broker.start();
      for (let i = 0; i < 4; i++) {
        this.clock.advance(250);
        await quiet();
      }
    }
    return { broker, inbox };
  }

  get node(): Node {
    return this.random.one(this.nodes);
  }

  async step(): Promise<void> {
    const { random } = this;
    const at = random.below(100);
    if (at < 34) await this.#burst();
    else if (at < 52) this.#connect(random.one(this.devices));
    else if (at < 60) this.#cut(random.one(this.devices));
    else if (at < 66) this.#stall(random.one(this.devices));
    else if (at < 78) await this.#read();
    else if (at < 86) await this.#subscribe();
    else if (at < 91) this.#pass(random.one([250, 1_000, 4_000]));
    else if (at < 95) await this.#loadAnew(random.one(this.devices));
    else if (at < 97) await this.#clean();
    else await this.#restart();
    await this.settle();
  }

  async #burst(): Promise<void> {
    const { random } = this;
    const sends: Promise<unknown>[] = [];
    const count = random.between(1, 5);
    this.history.push(`send ${count}`);
    // In order of the positions they get: each node stores one after the other, so within one node the order is known.
    const { inbox } = this.node;
    for (let i = 0; i < count; i++) {
      const number = ++this.#sent;
      const tenantId = random.one([undefined, undefined, 'acme']);
      const event = random.one(TYPES);
      const level = random.below(3);
      const ttl = random.one([0, 0, 0, 300, 2_000]);
      const options = { tenantId, ttl, priority: PRIORITIES[level] };
      const kind = random.below(4);
      const user = random.one(USERS);
      const group = random.one(GROUPS);
      const send =
        kind < 2
          ? inbox.sendToUser(user, event, number, options)
          : kind === 2
            ? inbox.sendToGroup(group, event, number, options)
            : inbox.broadcast(event, number, options);
      const type = kind < 2 ? 'user' : kind === 2 ? 'group' : 'everybody';
      const now = this.clock.now();
      const message: NewMessage = {
        eventId: `m${number}`,
        receiver: { type, name: kind < 2 ? user : kind === 2 ? group : '', tenantId: tenantId ?? '' },
        event,
        data: String(number),
        json: true,
        priority: level as 0 | 1 | 2,
        status: 'sent',
        expiresAt: ttl === 0 ? 0 : now + ttl,
        createdAt: now,
      };
      this.model.append(message);
      sends.push(
        send.then((id) => {
          this.#ids.set(number, id);
        }),
      );
      // Whatever may come in between.
      const between = random.below(12);
      if (between === 0) this.#connect(random.one(this.devices));
      else if (between === 1) this.#cut(random.one(this.devices));
      for (let turns = random.below(3); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(sends);
  }

  #connect(device: Device): void {
    const at = this.random.below(this.nodes.length);
    this.history.push(`${nameOf(device)} connects to node ${at} with '${device.lastEventId}'`);
    device.connect(this.nodes[at]!.broker);
  }

  #cut(device: Device): void {
    this.history.push(`${nameOf(device)} is cut`);
    device.cut(this.random.one([0, 0.3, 0.7, 1]));
  }

  #stall(device: Device): void {
    device.isStalled = this.random.below(3) > 0;
    this.history.push(`${nameOf(device)} ${device.isStalled ? 'stalls' : 'goes on'}`);
  }

  async #read(): Promise<void> {
    const { random, model, clock } = this;
    const device = random.one(this.devices);
    const { reader } = this.#who(device);
    const { userId, tenantId } = device;
    const unread = model.unread(reader, clock.now());
    const { inbox } = this.node;
    const how = random.below(4);
    this.history.push(`${nameOf(device)} reads ${how}`);
    if (how === 0) {
      expect(await inbox.markRead(userId, 'all', { tenantId })).toBe(unread.length);
      for (const known of unread) model.markRead(known, reader, clock.now());
      return;
    }
    if (unread.length === 0) return;
    const last = random.one(unread);
    if (how === 1) {
      const chosen = unread.filter(({ index }) => index <= last.index);
      const upTo = this.#idOf(last);
      expect(await inbox.markRead(userId, { upTo }, { tenantId })).toBe(chosen.length);
      for (const known of chosen) model.markRead(known, reader, clock.now());
      return;
    }
    const chosen = new Set([last, random.one(unread)]);
    expect(
      await inbox.markRead(
        userId,
        [...chosen].map((known) => this.#idOf(known)),
        { tenantId },
      ),
    ).toBe(chosen.size);
    for (const known of chosen) model.markRead(known, reader, clock.now());
  }

  async #subscribe(): Promise<void> {
    const { random } = this;
    const user = random.one(USERS);
    const tenant = random.one(['', 'acme']);
    const group = random.one(GROUPS);
    const options = tenant === '' ? {} : { tenantId: tenant };
    const { inbox } = this.node;
    if (random.below(4) === 0) {
      this.history.push(`${user}@${tenant} unsubscribes from ${group}`);
      await inbox.unsubscribe(user, group, options);
      this.model.unsubscribe(user, tenant, group);
      return;
    }
    // A wider subscription makes older messages unread which went by: they wait, but were not live. See the guide.
    const types = this.model.hasSubscription(user, tenant, group)
      ? undefined
      : random.one([undefined, ['note'], ['alarm']]);
    if (types === undefined && this.model.hasSubscription(user, tenant, group)) return;
    this.history.push(`${user}@${tenant} subscribes to ${group} ${types ?? ''}`);
    await inbox.subscribe(user, group, types, options);
    this.model.subscribe(user, tenant, group, types);
  }

  #pass(ms: number): void {
    this.history.push(`${ms} ms pass`);
    this.clock.advance(ms);
  }

  /** A device that has kept up for the grace time counts as served: a page that is loaded anew gets nothing twice. */
  async #loadAnew(device: Device): Promise<void> {
    this.history.push(`${nameOf(device)} is loaded anew`);
    device.isStalled = false;
    if (!device.isConnected) this.#connect(device);
    await this.settle();
    const { reader } = this.#who(device);
    const unread = await this.#store.pending({ reader, after: 0, limit: 1_000, now: this.clock.now() });
    const newest = unread.at(-1)?.position ?? 0;
    // What a store takes for it is no time of this clock.
    await until(async () => {
      this.clock.advance(GRACE + 250);
      await this.settle();
      return (await this.#store.cursor(reader, device.name)) >= newest;
    }, `the cursor of ${nameOf(device)} at ${newest}`);
    device.cut(1);
    const at = this.random.below(this.nodes.length);
    device.connect(this.nodes[at]!.broker, true);
  }

  async #clean(): Promise<void> {
    this.history.push('cleans up');
    const now = this.clock.now();
    await this.node.inbox.cleanup();
    for (const [index, known] of this.model.all.entries()) {
      if (known !== undefined && this.model.mayGo(known, now, 0, 0)) this.model.all[index] = undefined;
    }
  }

  async #restart(): Promise<void> {
    const at = this.random.below(this.nodes.length);
    this.history.push(`node ${at} is restarted`);
    const { inbox, broker } = this.nodes[at]!;
    const end = broker.close({ timeoutMs: 50 });
    await inbox.close();
    await end;
    this.nodes[at] = await this.#makeNode(at);
  }

  #idOf({ message }: Known): string {
    return this.#ids.get(Number(message.data))!;
  }

  #who({ userId, tenantId }: Device) {
    return { reader: { userId, tenants: tenantId === undefined ? [''] : ['', tenantId] } };
  }

  /** Waits until everything is where it must be. */
  async settle(): Promise<void> {
    let problem = '';
    let isTwice = false;
    const isSettled = (): boolean => {
      problem = '';
      for (const device of this.devices) {
        device.take();
        const { reader } = this.#who(device);
        const unread = this.model.unread(reader, this.clock.now());
        const got = device.messages;
        const seen = new Set(got);
        if (seen.size < got.length) {
          isTwice = true;
          const twice = got.filter((number, index) => got.indexOf(number) !== index);
          throw new Error(`${nameOf(device)} got ${twice.join(', ')} twice\n${this.#told(device)}`);
        }
        if (!device.isConnected || device.isStalled) continue;
        const missing = unread.filter(({ message }) => !seen.has(Number(message.data)));
        if (missing.length > 0) {
          const numbers = missing.map(({ message }) => message.data).join(', ');
          problem ||= `${nameOf(device)} misses ${numbers}\n${this.#told(device)}`;
        } else if (device.unread !== unread.length) {
          problem ||= `${nameOf(device)} shows ${device.unread} unread, there are ${unread.length}\n${this.#told(device)}`;
        }
      }
      return problem === '';
    };
    await until(isSettled, 'devices', 3_000).catch((error: Error) => {
      throw isTwice || problem === '' ? error : new Error(`${problem}\n${this.errors.join('\n')}`);
    });
    for (const { userId, tenantId } of this.devices.filter(({ name }) => name === 'phone')) {
      const reader = this.#who({ userId, tenantId } as Device).reader;
      const { inbox } = this.node;
      const expected = this.model.unread(reader, this.clock.now());
      expect(await inbox.unreadCount(userId, { tenantId }), `${userId}@${tenantId}`).toBe(expected.length);
    }
  }

  #told(device: Device): string {
    const lines = device.got.map(({ type, data, eventId }) => `${type} ${data} ${eventId}`);
    return `${this.history.join('\n')}\n-- ${nameOf(device)} got --\n${lines.join('\n')}`;
  }
}

const nameOf = ({ userId, tenantId, name }: Device): string => `${userId}@${tenantId ?? ''}/${name}`;

/** One life; what goes wrong is told with its seed. */
export async function live(options: WorldOptions): Promise<void> {
  const world = new World(options);
  try {
    await world.start();
    for (let i = 0; i < options.steps; i++) await world.step();
  } catch (error) {
    throw new Error(`seed ${options.seed}: ${(error as Error).message}`, { cause: error });
  } finally {
    await world.end();
  }
}
