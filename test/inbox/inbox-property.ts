/**
 * Random lives of an inbox: sends to users, groups and everybody, of all priorities, some with a ttl, a key, or not to be kept, and
 * in transactions of the application; devices that connect, stall, are cut in the middle of whatever, come back with their cursor or
 * are loaded anew; reads; subscriptions; nodes that are restarted, and where `canFail` those that die without a word, a bus that is
 * away, deaf or forgets. After every step every connected device has exactly the messages that it must have, each once, and every
 * count is the model's.
 */
import { expect } from 'vitest';
import { systemClock } from '../../src/core/clock.js';
import { Inbox } from '../../src/inbox/inbox.js';
import type { InboxStore, Reader } from '../../src/inbox/store.js';
import { Broker, type BrokerOptions, type Bus, type Clock, type SseError } from '../../src/index.js';
import { Random } from '../nodes/random.js';
import { ManualClock } from '../support/manual-clock.js';
import { quiet } from '../support/shared-bus.js';
import { until } from '../support/until.js';
import { Device } from './device.js';
import { FaultHub, FaultPort, Life, type Publications } from './inbox-faults.js';
import { Burst } from './inbox-faults-burst.js';
import { Judge } from './inbox-faults-judge.js';
import { type Known, Model } from './model.js';

export const USERS = ['anna', 'ben'];
export const GROUPS = ['team', 'all:hands'];
export const TYPES = ['note', 'alarm'] as const;
const LEASE = 4_000;
/** Silence after which nodes give each other up, and answers are not waited for any more. */
const NODE_TIMEOUT = 3_000;
/** What a store of another process takes is no time of this clock. */
const DEADLINE_MS = 10_000;
/** What nodes report when others, or the bus, are away, or when they end themselves. */
const EXPECTED_ERRORS = ['SSE_ERR_BUS_UNAVAILABLE', 'SSE_ERR_CLUSTER_TIMEOUT', 'SSE_ERR_BROKER_CLOSED'];

export interface WorldOptions {
  readonly seed: number;
  readonly nodes: number;
  readonly steps: number;
  /** A store over what all nodes share; called for each node and each of its lives. */
  store(): InboxStore;
  /** A transaction of the application on the same database. */
  transaction(work: (tx: unknown) => Promise<void>, isCommitted: boolean): Promise<void>;
  /** Opens a node's bus, in each of its lives; absent: a hub in memory where there are several nodes, else the broker's own. */
  readonly bus?: (() => Bus | Promise<Bus>) | undefined;
  /** How many events that hub keeps of each channel key. */
  readonly historySize?: number | undefined;
  /** Options of every node's broker. */
  readonly broker?: BrokerOptions | undefined;
  /** Whether nodes die, and buses fail. */
  readonly canFail?: boolean | undefined;
  /** Nothing is ever lost: no device is told a gap. */
  readonly isLossless?: boolean | undefined;
  /** Time passes by itself, for carriers that have a clock of their own. */
  readonly isReal?: boolean | undefined;
}

export interface Node {
  readonly broker: Broker;
  readonly inbox: Inbox;
  readonly life: Life;
  readonly port: Bus | undefined;
}

export const readerOf = ({ userId, tenantId }: Pick<Device, 'userId' | 'tenantId'>): Reader => ({
  userId,
  tenants: tenantId === undefined ? [''] : ['', tenantId],
});

export class World {
  readonly random: Random;
  readonly isReal: boolean;
  readonly #manual: ManualClock | undefined;
  readonly clock: Clock;
  readonly model = new Model();
  readonly judge: Judge;
  /** One that is dead stands here until another takes its place. */
  readonly nodes: Node[] = [];
  readonly devices: Device[] = [];
  readonly readers: readonly Reader[];
  readonly history: string[] = [];
  readonly errors: SseError[] = [];
  /** To look into what all nodes share. */
  readonly store: InboxStore;
  readonly #options: WorldOptions;
  readonly #stores = new Set<InboxStore>();
  readonly #hub: FaultHub | undefined;
  readonly #openBus: (() => Bus | Promise<Bus>) | undefined;
  readonly #publications: Publications = new Map();
  readonly #at = new Map<Device, Node>();
  #numbers = 0;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.isReal = options.isReal === true;
    this.#manual = this.isReal ? undefined : new ManualClock();
    this.clock = this.#manual ?? systemClock;
    const isShared = options.nodes > 1;
    const hub =
      isShared && options.bus === undefined ? new FaultHub(options.historySize ?? 10_000, this.clock) : undefined;
    this.#hub = hub;
    this.#openBus = hub === undefined ? options.bus : () => hub.port();
    this.store = options.store();
    this.#stores.add(this.store);
    this.random = new Random(options.seed);
    for (const userId of USERS) {
      for (const tenantId of [undefined, 'acme']) {
        for (const name of ['phone', 'laptop']) this.devices.push(new Device(userId, tenantId, name));
      }
    }
    this.readers = this.devices.filter(({ name }) => name === 'phone').map(readerOf);
    this.judge = new Judge({
      isShared,
      isLossless: options.isLossless === true,
      publications: this.#publications,
      isFor: (number, reader) => {
        const known = this.model.all.find((one) => one?.message.data === String(number));
        return known !== undefined && this.model.isFor(known.message.receiver, known.message.event, reader);
      },
    });
  }

  /** A number that nothing else has. */
  nextNumber(): number {
    return ++this.#numbers;
  }

  get ttls(): readonly number[] {
    return this.isReal ? [0] : [0, 0, 0, 300, 2_000];
  }

  get canDie(): boolean {
    return this.#options.canFail === true;
  }

  /** One that lives and has its bus. */
  get node(): Node {
    const well = this.nodes.filter((node) => this.#isWell(node));
    return this.random.one(well.length > 0 ? well : this.nodes);
  }

  transaction(work: (tx: unknown) => Promise<void>, isCommitted: boolean): Promise<void> {
    return this.#options.transaction(work, isCommitted);
  }

  async start(): Promise<void> {
    for (let i = 0; i < this.#options.nodes; i++) this.nodes.push(await this.#makeNode());
  }

  async end(): Promise<void> {
    for (const device of this.devices) device.cut(0);
    for (const { inbox, broker, life, port } of this.nodes) {
      if (!life.isOver) {
        // Who must ask a node that is away waits for a clock that stands still.
        await this.passing(Promise.all([inbox.close(), broker.close({ timeoutMs: 50 })]));
      }
      life.end();
      await port?.close();
    }
    // Those of dead nodes as well: what listens keeps its connection.
    for (const store of this.#stores) await store.close();
  }

  async #makeNode(): Promise<Node> {
    const life = new Life(this.#publications);
    const port = await this.#openBus?.();
    const broker = new Broker({
      clientTimeout: 0,
      heartbeatInterval: 0,
      nodeTimeout: NODE_TIMEOUT,
      nodeAnswerTimeout: 1_000,
      ...this.#options.broker,
      clock: life.clock(this.clock),
      ...(port !== undefined && { bus: life.bus(port) }),
    });
    broker.on('error', (error) => {
      this.errors.push(error);
    });
    const own = this.#options.store();
    this.#stores.add(own);
    const store = life.store(own);
    const more = { deviceGrace: this.isReal ? 50 : 1_000, nodeLease: this.isReal ? 1_500 : LEASE, cleanupInterval: 0 };
    const inbox = new Inbox({ broker, store, ...more, ...(this.isReal && { relayInterval: 50 }) });
    await inbox.start();
    if (this.#options.nodes > 1) {
      await broker.start();
      const others = this.nodes.filter((node) => this.#isWell(node));
      const isKnown = (): boolean =>
        others.every((other) => other.broker.getClusterStats().nodes.some(({ id }) => id === broker.nodeId)) &&
        broker.getClusterStats().nodes.length > others.length;
      await this.untilPassing(isKnown, 'nodes to know each other');
      // What is asked before that waits.
      await this.advance(500);
    }
    return { broker, inbox, life, port };
  }

  async step(): Promise<void> {
    const { random } = this;
    const at = random.below(this.#options.canFail === true ? 112 : 100);
    if (at < 36) await new Burst(this).run();
    else if (at < 54) this.connect(random.one(this.devices));
    else if (at < 62) this.cut(random.one(this.devices));
    else if (at < 69) this.#stall(random.one(this.devices));
    else if (at < 79) await this.#read();
    else if (at < 86) await this.#subscribe();
    else if (at < 91) await this.#pass(random.one([250, 1_000, 4_000]));
    else if (at < 95) await this.#loadAnew(random.one(this.devices));
    else if (at < 97) await this.#clean();
    else if (at < 100) await this.#restart();
    else await this.#fail(random.below(12));
    await this.settle();
  }

  connect(device: Device): void {
    const living = this.nodes.filter(({ life }) => !life.isOver);
    if (living.length > 0) this.#connectTo(this.random.one(living), device);
  }

  #connectTo(node: Node, device: Device, isNew = false): void {
    this.history.push(`${nameOf(device)} connects to node ${this.nodes.indexOf(node)} with '${device.lastEventId}'`);
    this.#at.set(device, node);
    device.connect(node.broker, isNew);
  }

  cut(device: Device): void {
    this.history.push(`${nameOf(device)} is cut`);
    device.cut(this.random.one([0, 0.3, 0.7, 1]));
  }

  /** Ends a node's process; resolves when what it had under way has come to an end. {@link replace} it then. */
  kill(at: number): Promise<void> {
    this.history.push(`node ${at} dies`);
    const node = this.nodes[at]!;
    node.life.end();
    for (const device of this.devices) if (this.#at.get(device) === node) this.cut(device);
    // Not before: what it had under way comes to its end first.
    return node.life.gone.then(() => node.port?.close());
  }

  /** Another, that nobody knows yet, takes the place of one that is dead. */
  async replace(at: number): Promise<void> {
    this.nodes[at] = await this.#makeNode();
  }

  /** Waits for it; what waits for time to pass as well. */
  async passing<T>(work: Promise<T>): Promise<T> {
    let isDone = false;
    const done = (): void => {
      isDone = true;
    };
    work.then(done, done);
    await this.untilPassing(() => isDone, 'what is under way');
    return work;
  }

  /** Waits for what comes of itself or with time. */
  async untilPassing(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
    await quiet();
    await until(
      async () => {
        if (await condition()) return true;
        await this.advance(250);
        return false;
      },
      what,
      DEADLINE_MS,
    ).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.history.join('\n')}\n${this.errors.join('\n')}`);
    });
  }

  /** Lets time pass that does not pass by itself, and what falls due come to its end. */
  async advance(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 250) {
      this.#manual?.advance(250);
      await quiet();
    }
  }

  #stall(device: Device): void {
    device.isStalled = this.random.below(3) > 0;
    this.history.push(`${nameOf(device)} ${device.isStalled ? 'stalls' : 'goes on'}`);
  }

  async #read(): Promise<void> {
    const { random, model, clock } = this;
    const device = random.one(this.devices);
    const reader = readerOf(device);
    const { userId, tenantId } = device;
    const unread = model.unread(reader, clock.now());
    const { inbox } = this.node;
    const how = random.below(4);
    this.history.push(`${nameOf(device)} reads ${how}`);
    if (unread.length === 0 && how > 0) return;
    const last = random.one(unread);
    const some = new Set([last, random.one(unread)]);
    const chosen = how === 0 ? unread : how === 1 ? unread.filter(({ index }) => index <= last.index) : [...some];
    const idOf = ({ message }: (typeof unread)[number]): string => message.eventId;
    const selection = how === 0 ? 'all' : how === 1 ? { upTo: idOf(last) } : chosen.map(idOf);
    expect(await inbox.markRead(userId, selection, { tenantId })).toBe(chosen.length);
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
      await this.passing(inbox.unsubscribe(user, group, options));
      this.model.unsubscribe(user, tenant, group);
      return;
    }
    // A wider subscription makes older messages unread which went by: they wait, but were not live. See the guide.
    if (this.model.hasSubscription(user, tenant, group)) return;
    const types = random.one([undefined, ['note'], ['alarm']]);
    this.history.push(`${user}@${tenant} subscribes to ${group} ${types ?? ''}`);
    await this.passing(inbox.subscribe(user, group, types, options));
    this.model.subscribe(user, tenant, group, types);
    this.allowLate();
  }

  /**
   * What is published after a subscription that it was stored before comes to streams that have the topic by then. `isRacing`: and
   * whatever was published before comes to those that connect while it is being made.
   */
  allowLate(isRacing = false): void {
    for (const known of this.model.all) {
      if (known === undefined || (this.#isOut(known) && !isRacing)) continue;
      const { receiver, event, data } = known.message;
      for (const reader of this.readers) {
        if (this.model.isFor(receiver, event, reader)) this.judge.allow(reader, Number(data));
      }
    }
  }

  async #pass(ms: number): Promise<void> {
    this.history.push(`${ms} ms pass`);
    // At once, or so that every node does in time what it must.
    if (this.random.below(2) === 0) this.#manual?.advance(ms);
    else await this.advance(ms);
  }

  /** A device that has kept up for the grace time counts as served: a page that is loaded anew gets nothing twice. */
  async #loadAnew(device: Device): Promise<void> {
    if (this.nodes.some((node) => !this.#isWell(node)) || !this.#isAllOut()) return;
    this.history.push(`${nameOf(device)} is loaded anew`);
    device.isStalled = false;
    if (!device.isConnected) this.connect(device);
    await this.settle();
    const reader = readerOf(device);
    const unread = await this.store.pending({ reader, after: 0, limit: 1_000, now: this.clock.now() });
    const newest = unread.at(-1)?.position ?? 0;
    const isServed = async (): Promise<boolean> => {
      device.take();
      if (!device.isConnected) this.connect(device);
      return (await this.store.cursor(reader, device.name)) >= newest;
    };
    await this.untilPassing(isServed, `the cursor of ${nameOf(device)} at ${newest}`);
    await this.settle();
    device.cut(1);
    this.#connectTo(this.node, device, true);
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
    const { inbox, broker, port, life } = this.nodes[at]!;
    await this.passing(Promise.all([broker.close({ timeoutMs: 50 }), inbox.close()]));
    life.end();
    await port?.close();
    await this.replace(at);
  }

  async #fail(which: number): Promise<void> {
    const at = this.random.below(this.nodes.length);
    const { port } = this.nodes[at]!;
    const isAlone = this.nodes.filter((node) => this.#isWell(node)).length < 2;
    if (which < 3) {
      await this.kill(at);
      await this.replace(at);
    } else if (which < 7 && port instanceof FaultPort && port.fault === undefined && !isAlone) {
      const fault = this.random.one(['cut', 'deaf'] as const);
      this.history.push(`node ${at} is ${fault}`);
      port.break(fault);
    } else if (which < 9 && this.#hub !== undefined) {
      this.history.push('the bus forgets');
      this.#hub.forget();
    } else {
      await this.#heal();
    }
  }

  /** Everything is mended, and what dead nodes left goes out. */
  async #heal(): Promise<void> {
    this.history.push('all is mended');
    let isMended = false;
    for (const node of this.nodes) {
      if (this.#isWell(node) || !(node.port instanceof FaultPort)) continue;
      node.port.mend();
      // What was read and subscribed to elsewhere meanwhile it did not hear of: where no event was lost its streams live on, and learn it.
      isMended = true;
    }
    if (isMended) await this.advance(2_000);
    await this.untilPassing(() => this.#isAllOut(), 'what dead nodes left');
  }

  /** Every device comes back and has everything. */
  async finish(): Promise<void> {
    await this.#heal();
    for (const device of this.devices) {
      device.isStalled = false;
      device.take();
      if (!device.isConnected) this.connect(device);
    }
    // A node may end a stream that has just begun: its bus had lost something.
    await this.settle();
    for (const device of this.devices) if (!device.isConnected) this.connect(device);
    await this.settle();
    const codes = this.errors.map(({ code }) => code).filter((code) => !EXPECTED_ERRORS.includes(code));
    expect(codes, this.errors.join('\n')).toEqual([]);
  }

  #isWell({ life, port }: Node): boolean {
    return !life.isOver && !(port instanceof FaultPort && port.fault !== undefined);
  }

  /** Whatever is stored, and worth it, was given to the bus. */
  #isAllOut(): boolean {
    const now = this.clock.now();
    const isExpired = ({ message: { expiresAt } }: Known): boolean => expiresAt > 0 && expiresAt <= now;
    return this.model.all.every((known) => known === undefined || isExpired(known) || this.#isOut(known));
  }

  /** It was given to the bus. */
  #isOut({ message }: Known): boolean {
    return this.#openBus === undefined || this.judge.isPublished(Number(message.data));
  }

  /** Waits until everything is where it must be. */
  async settle(): Promise<void> {
    let problem = '';
    const isSettled = (): boolean => {
      problem = '';
      for (const device of this.devices) {
        device.take();
        try {
          this.judge.check(device, readerOf(device));
        } catch (error) {
          throw new Error(`${nameOf(device)} ${(error as Error).message}\n${this.#told(device)}`);
        }
        problem ||= this.#lackOf(device);
      }
      return problem === '';
    };
    // Most of it is a matter of turns, not of ms.
    for (let i = 0; i < 20 && !isSettled(); i++) await quiet();
    // Nodes that came back are told, and tell, with time; not as long as until every count is looked at anyway.
    for (let i = 0; i < 40 && !isSettled(); i++) await this.advance(250);
    await until(isSettled, 'devices', DEADLINE_MS).catch((error: Error) => {
      throw problem === '' ? error : new Error(`${problem}\n${this.errors.join('\n')}`);
    });
    for (const reader of this.readers) {
      const [, tenantId] = reader.tenants;
      const expected = this.model.unread(reader, this.clock.now());
      expect(await this.node.inbox.unreadCount(reader.userId, { tenantId }), reader.userId).toBe(expected.length);
    }
  }

  /** What a device should have by now, in words. */
  #lackOf(device: Device): string {
    const node = this.#at.get(device);
    if (!device.isConnected || device.isStalled || node === undefined || !this.#isWell(node)) return '';
    const unread = this.model.unread(readerOf(device), this.clock.now());
    const seen = new Set(device.messages);
    // What a dead node has stored, or one without its bus, comes when another publishes it.
    const out = unread.filter((known) => this.#isOut(known));
    const missing = out.filter(({ message }) => !seen.has(Number(message.data)));
    if (missing.length > 0) {
      const told = missing.map(({ message }) => `${message.data} (${this.judge.placeOf(Number(message.data))})`);
      return `${nameOf(device)} misses ${told.join(', ')}\n${this.#told(device)}`;
    }
    if (out.length < unread.length || device.unread === unread.length) return '';
    return `${nameOf(device)} shows ${device.unread} unread, there are ${unread.length}\n${this.#told(device)}`;
  }

  #told(device: Device): string {
    const lines = device.got.map(({ type, data, eventId, stream }) => `${stream}: ${type} ${data} ${eventId}`);
    return `${this.history.join('\n')}\n-- ${nameOf(device)} got --\n${lines.join('\n')}`;
  }
}

const nameOf = ({ userId, tenantId, name }: Device): string => `${userId}@${tenantId ?? ''}/${name}`;

/** One life; what goes wrong is told with its seed. */
export async function live(options: WorldOptions): Promise<World> {
  const world = new World(options);
  try {
    await world.start();
    for (let i = 0; i < options.steps; i++) await world.step();
    await world.finish();
    return world;
  } catch (error) {
    throw new Error(`seed ${options.seed}: ${(error as Error).message}`, { cause: error });
  } finally {
    await world.end();
  }
}
