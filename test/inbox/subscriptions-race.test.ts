/** Whoever subscribes and unsubscribes at once, on whichever node: in the end the streams of all nodes have what is stored. */
import { expect, onTestFinished, test } from 'vitest';
import { Inbox, type InboxStore, MemoryStore } from '../../src/inbox/index.js';
import { Random } from '../nodes/random.js';
import { makeBroker } from '../support/broker.js';
import { ManualClock } from '../support/manual-clock.js';
import { quiet, SharedHub } from '../support/shared-bus.js';
import { until } from '../support/until.js';
import { sqliteDatabase } from './databases.js';
import { Device } from './device.js';

const SEED = Number(process.env.INBOX_SEED ?? Date.now() % 1_000_000);
const GROUPS = ['team', 'hall'];
const TYPES = ['note', 'alarm'];
const USER = 'anna';

/** A store whose answers take as many turns as chance has it, on the way there and back. */
function slow<T extends InboxStore>(store: T, random: Random): T {
  const turns = async (): Promise<void> => {
    for (let left = random.one([0, 0, 0, 1, 4, 60]); left > 0; left--)
      await new Promise((resolve) => setImmediate(resolve));
  };
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (!['subscribe', 'unsubscribe', 'subscriptions'].includes(String(name))) {
        return typeof value === 'function' ? value.bind(target) : value;
      }
      return async (...args: unknown[]) => {
        await turns();
        const answer: unknown = await (value as (...all: unknown[]) => unknown).apply(target, args);
        await turns();
        return answer;
      };
    },
  });
}

async function makeNodes(count: number, random: Random, open: () => InboxStore) {
  const hub = new SharedHub({ historySize: 1_000 });
  const nodes = Array.from({ length: count }, () => {
    const broker = makeBroker({ bus: hub.port() });
    const inbox = new Inbox({ broker, store: slow(open(), random), unreadEvent: false, relayInterval: 50 });
    onTestFinished(() => inbox.close());
    return { broker, inbox };
  });
  await Promise.all(nodes.map(({ inbox }) => inbox.start()));
  await Promise.all(nodes.map(({ broker }) => broker.start()));
  await until(
    () => nodes.every(({ broker }) => broker.getClusterStats().nodes.length === count),
    'the nodes to know each other',
  );
  return nodes;
}

type Nodes = Awaited<ReturnType<typeof makeNodes>>;

const topicsOn = ({ broker }: Nodes[number]): string[][] =>
  [...broker.getClients()].filter(({ userId }) => userId === USER).map(({ topics }) => [...topics].sort());

/** Every stream takes what is stored, of each group and type, and nothing else. */
async function agree(nodes: Nodes, devices: readonly Device[], round: number): Promise<void> {
  const stored = await nodes[0]!.inbox.subscriptions(USER);
  const groups = stored.map(({ group }) => group).sort();
  await until(
    () => nodes.every((node) => topicsOn(node).length === 1 && topicsOn(node)[0]!.join() === groups.join()),
    `the topics of round ${round} to be ${groups}`,
    5_000,
  ).catch((error: Error) => {
    throw new Error(`${error.message}; they are ${JSON.stringify(nodes.map(topicsOn))}`);
  });
  const expected: string[] = [];
  for (const group of GROUPS) {
    for (const type of TYPES) {
      await nodes[round % nodes.length]!.inbox.sendToGroup(group, type, `${round} ${group} ${type}`);
      const own = stored.find((one) => one.group === group);
      if (own !== undefined && (own.eventTypes?.includes(type) ?? true)) expected.push(`${round} ${group} ${type}`);
    }
  }
  await nodes[0]!.inbox.sendToUser(USER, 'note', `${round} end`);
  for (const device of devices) {
    const got = (): string[] => device.got.map(({ data }) => data).filter((data) => data.startsWith(`${round} `));
    await until(() => {
      device.take();
      return got().includes(`${round} end`);
    }, `the end of round ${round}`);
    // Of two nodes that send, one may be behind.
    await until(() => {
      device.take();
      return got().length > expected.length;
    }, `${expected} in round ${round}; there are ${got()}`);
    expect(got().sort()).toEqual([...expected, `${round} end`].sort());
  }
}

async function race(count: number, rounds: number, open: () => InboxStore): Promise<void> {
  const random = new Random(SEED);
  const nodes = await makeNodes(count, random, open);
  const devices = nodes.map((_, i) => new Device(USER, undefined, `device-${i}`));
  try {
    for (const [i, { broker }] of nodes.entries()) devices[i]!.connect(broker);
    await until(() => nodes.every((node) => topicsOn(node).length === 1), 'the streams');
    for (let round = 0; round < rounds; round++) {
      const changes: Promise<unknown>[] = [];
      for (let left = random.between(2, 6); left > 0; left--) {
        const { inbox } = random.one(nodes);
        const group = random.one(GROUPS);
        const types = random.one([undefined, undefined, ['note'], ['alarm'], TYPES]);
        changes.push(random.below(2) === 0 ? inbox.unsubscribe(USER, group) : inbox.subscribe(USER, group, types));
        // One that connects meanwhile reads what is stored by itself.
        const at = random.below(nodes.length * 3);
        if (at < nodes.length) {
          devices[at]!.connect(nodes[at]!.broker);
          devices[at]!.isStalled = false;
        }
        for (let turns = random.below(8); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
      }
      await Promise.all(changes);
      await agree(nodes, devices, round);
    }
  } catch (error) {
    throw new Error(`seed ${SEED}: ${(error as Error).message}`, { cause: error });
  } finally {
    for (const device of devices) device.cut(0);
  }
}

test('two nodes over one store', async () => {
  const store = new MemoryStore();
  await race(2, 60, () => store);
}, 60_000);

test('three nodes over SQLite', async () => {
  const database = await sqliteDatabase();
  onTestFinished(() => database.dispose());
  await race(3, 25, () => database.store());
}, 60_000);

/** A store whose methods wait at the gates that a test has shut: before or after they did what they do. */
class GatedStore extends MemoryStore {
  readonly #shut = new Map<string, Promise<void>>();
  /** Gates that something waits at. */
  readonly waiting = new Set<string>();

  /** Gives what opens it. */
  shut(gate: string): () => void {
    let open!: () => void;
    const isOpen = new Promise<void>((resolve) => {
      open = resolve;
    });
    this.#shut.set(gate, isOpen);
    return () => {
      this.#shut.delete(gate);
      this.waiting.delete(gate);
      open();
    };
  }

  override async subscribe(...args: Parameters<MemoryStore['subscribe']>): Promise<boolean> {
    return this.#through('subscribe', () => super.subscribe(...args));
  }

  override async subscriptions(...args: Parameters<MemoryStore['subscriptions']>) {
    // Those of a stream that connects are of all groups.
    const name = args[1] === undefined ? 'all subscriptions' : 'subscriptions';
    return this.#through(name, () => super.subscriptions(...args));
  }

  async #through<T>(name: string, work: () => Promise<T>): Promise<T> {
    await this.#pass(`before ${name}`);
    const answer = await work();
    await this.#pass(`after ${name}`);
    return answer;
  }

  async #pass(gate: string): Promise<void> {
    const isOpen = this.#shut.get(gate);
    if (isOpen === undefined) return;
    this.waiting.add(gate);
    await isOpen;
  }
}

test('what is sent when a subscription is stored, and its maker does not know it yet, comes live', async () => {
  const store = new GatedStore();
  const nodes = await makeNodes(2, new Random(1), () => store);
  const [one, two] = nodes as [Nodes[number], Nodes[number]];
  const phone = new Device(USER, undefined, 'phone');
  phone.connect(two.broker);
  await until(() => topicsOn(two).length === 1, 'the phone');
  await one.inbox.subscribe(USER, 'team', ['alarm']);
  const begin = store.shut('before subscribe');
  const answer = store.shut('after subscribe');
  const subscribing = one.inbox.subscribe(USER, 'team', ['note']);
  await until(() => store.waiting.has('before subscribe'), 'the subscription to be about to be stored');
  // Another ends it meanwhile, before it is stored anew.
  expect(await two.inbox.unsubscribe(USER, 'team')).toBe(true);
  begin();
  await until(() => store.waiting.has('after subscribe'), 'the subscription to be stored');
  await two.inbox.sendToGroup('team', 'note', 1);
  await two.inbox.sendToGroup('team', 'alarm', 2);
  await two.inbox.sendToUser(USER, 'note', 3);
  await until(() => {
    phone.take();
    return phone.messages.includes(3);
  }, 'the last');
  expect(phone.messages).toEqual([1, 3]);
  answer();
  expect(await subscribing).toBe(true);
  phone.cut(0);
});

test('a stream that read what is stored before a change has it after the change', async () => {
  const store = new GatedStore();
  const [node] = (await makeNodes(1, new Random(1), () => store)) as [Nodes[number]];
  for (const group of ['team', 'hall']) await node.inbox.subscribe(USER, group);
  const answer = store.shut('after all subscriptions');
  const phone = new Device(USER, undefined, 'phone');
  phone.connect(node.broker);
  await until(() => store.waiting.has('after all subscriptions'), 'the stream to have read');
  expect(await node.inbox.unsubscribe(USER, 'team')).toBe(true);
  answer();
  await until(() => topicsOn(node)[0]?.join() === 'hall', 'the topics');
  await node.inbox.sendToGroup('team', 'note', 1);
  await node.inbox.sendToGroup('hall', 'note', 2);
  await until(() => {
    phone.take();
    return phone.messages.includes(2);
  }, 'what is for the hall');
  expect(phone.messages).toEqual([2]);
  phone.cut(0);
});

test('streams do not stay open for a subscription whose maker went before it was stored', async () => {
  const clock = new ManualClock();
  const store = new GatedStore();
  const answer = store.shut('before subscribe');
  const broker = makeBroker({ clock, heartbeatInterval: 0, clientTimeout: 0 });
  const inbox = new Inbox({ broker, store });
  const phone = new Device(USER, undefined, 'phone');
  await inbox.start();
  phone.connect(broker);
  await until(() => topicsOn({ broker, inbox }).length === 1, 'the phone');
  const subscribing = inbox.subscribe(USER, 'team');
  await until(() => topicsOn({ broker, inbox })[0]?.join() === 'team', 'the topic');
  clock.advance(29_000);
  await quiet();
  expect(topicsOn({ broker, inbox })).toEqual([['team']]);
  clock.advance(2_000);
  await until(() => topicsOn({ broker, inbox })[0]?.length === 0, 'the topic to go');
  phone.cut(0);
  answer();
  await subscribing;
  await inbox.close();
});

test('a subscription more than a user may have opens its group nowhere', async () => {
  const port = new SharedHub().port();
  const joined: string[] = [];
  const join = port.join.bind(port);
  port.join = (key) => {
    joined.push(key);
    return join(key);
  };
  const broker = makeBroker({ bus: port });
  const inbox = new Inbox({ broker, store: new MemoryStore(), maxSubscriptionsPerUser: 1 });
  onTestFinished(() => inbox.close());
  await inbox.start();
  const phone = new Device(USER, undefined, 'phone');
  phone.connect(broker);
  onTestFinished(() => phone.cut(0));
  await until(() => topicsOn({ broker, inbox }).length === 1, 'the phone');
  await inbox.subscribe(USER, 'team');
  await until(() => joined.some((key) => key.includes('team')), 'the group');
  await expect(inbox.subscribe(USER, 'hall')).rejects.toMatchObject({ code: 'SSE_ERR_TOO_MANY_TOPICS' });
  expect(joined.filter((key) => key.includes('hall'))).toEqual([]);
  expect(await inbox.subscribe(USER, 'team', ['note'])).toBe(false);
});
