/** A node that did not hear of a change, because nothing came to it for a while, has it soon after. */
import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/core/clock.js';
import { Inbox, MemoryStore } from '../../src/inbox/index.js';
import type { BrokerOptions, BusReceiver } from '../../src/index.js';
import { Random } from '../nodes/random.js';
import { makeBroker } from '../support/broker.js';
import { SharedHub } from '../support/shared-bus.js';
import { until } from '../support/until.js';
import { Device } from './device.js';

const SEED = Number(process.env.INBOX_SEED ?? Date.now() % 1_000_000);

/** Two nodes; nothing comes to the second while it `isDeaf`, nor from it while it `isMute`. A device of anna's is connected there. */
async function makeNodes(options: BrokerOptions = {}, tenantId?: string) {
  const hub = new SharedHub();
  const store = new MemoryStore();
  const deaf = { isDeaf: false, isMute: false, onDelivered: () => {} };
  let receiver: BusReceiver | undefined;
  const ports = [hub.port(), hub.port()];
  const nodes = ports.map((bus, index) => {
    if (index === 1) {
      bus.loses = () => deaf.isDeaf;
      bus.refuses = () => deaf.isMute;
      const start = bus.start.bind(bus);
      bus.start = (given) => {
        receiver = given;
        return start({
          ...given,
          deliver: (event) => {
            given.deliver(event);
            deaf.onDelivered();
          },
        });
      };
    }
    const broker = makeBroker({ bus, nodeAnswerTimeout: 50, ...options });
    broker.on('error', () => {});
    const inbox = new Inbox({ broker, store, deviceGrace: 50, relayInterval: 50 });
    onTestFinished(() => inbox.close());
    return { broker, inbox };
  });
  for (const { inbox, broker } of nodes) {
    await inbox.start();
    await broker.start();
  }
  await until(() => nodes.every(({ broker }) => broker.getClusterStats().nodes.length === 2), 'the nodes');
  const device = new Device('anna', tenantId, 'phone');
  device.connect(nodes[1]!.broker);
  onTestFinished(() => device.cut(0));
  const topics = () => [...nodes[1]!.broker.getClients()].flatMap((client) => client.topics);
  const shows = (unread: number) =>
    until(() => {
      device.take();
      return device.unread === unread;
    }, `${unread} unread`);
  await shows(0);
  return { nodes, ports, device, deaf, topics, shows, isUp: () => receiver!.status({ state: 'up' }) };
}

test('what it did not answer is told again, until it does', async () => {
  const { nodes, device, deaf, topics, shows } = await makeNodes();
  const [{ inbox }] = nodes as [(typeof nodes)[0]];
  await inbox.sendToUser('anna', 'note', 1);
  await shows(1);
  deaf.isDeaf = true;
  await inbox.subscribe('anna', 'team');
  await inbox.markRead('anna', 'all');
  expect(topics()).toEqual([]);
  deaf.isDeaf = false;
  await until(() => topics().includes('team'), 'the group');
  await shows(0);
  await inbox.sendToGroup('team', 'note', 2);
  await shows(1);
  expect(device.messages).toEqual([1, 2]);
});

test('when its bus is up again it asks, also where nobody is left to tell it', async () => {
  const { nodes, deaf, topics, shows, isUp } = await makeNodes();
  const [{ inbox, broker }, other] = nodes as [(typeof nodes)[0], (typeof nodes)[0]];
  deaf.isDeaf = true;
  await inbox.subscribe('anna', 'team');
  await inbox.close();
  await broker.close({ timeoutMs: 50 });
  deaf.isDeaf = false;
  isUp();
  await until(() => topics().includes('team'), 'the group');
  await other.inbox.sendToGroup('team', 'note', 1);
  await shows(1);
});

test('one that the others had given up asks when they know it again', async () => {
  const { nodes, deaf, topics, shows } = await makeNodes({ nodeTimeout: 200 });
  const [{ inbox, broker }] = nodes as [(typeof nodes)[0]];
  Object.assign(deaf, { isDeaf: true, isMute: true });
  await until(() => broker.getClusterStats().nodes.length === 1, 'the other to be given up');
  // Nobody is there to be told.
  await inbox.subscribe('anna', 'team');
  Object.assign(deaf, { isDeaf: false, isMute: false });
  await until(() => topics().includes('team'), 'the group');
  await inbox.sendToGroup('team', 'note', 1);
  await shows(1);
});

test('what was sent to a group meanwhile comes when it knows of the subscription, once, by priority, before what comes live', async () => {
  const { nodes, device, deaf, shows } = await makeNodes();
  const [{ inbox }, here] = nodes as [(typeof nodes)[0], (typeof nodes)[0]];
  await inbox.subscribe('anna', 'other', ['note']);
  deaf.isDeaf = true;
  await inbox.sendToGroup('team', 'note', 0);
  await inbox.subscribe('anna', 'team', ['note']);
  await inbox.sendToGroup('team', 'note', 1);
  await inbox.sendToGroup('team', 'alarm', 100);
  await inbox.sendToGroup('team', 'note', 2, { priority: 'urgent' });
  const read = await inbox.sendToGroup('team', 'note', 200);
  await inbox.sendToGroup('team', 'note', 3);
  await inbox.markRead('anna', [read]);
  deaf.isDeaf = false;
  await shows(3);
  await until(() => {
    device.take();
    return device.messages.length >= 3;
  }, 'what was sent meanwhile');
  await inbox.sendToGroup('team', 'note', 4);
  await inbox.sendToGroup('other', 'note', 5);
  await shows(5);
  expect(device.messages).toEqual([2, 1, 3, 4, 5]);
  // As pages know them, and with ids that say what the device has.
  const ids = (await inbox.pending('anna')).map(({ id }) => id);
  const notes = device.got.filter(({ type }) => type === 'note');
  expect(notes.map(({ id }) => id).sort()).toEqual(ids.sort());
  device.connect(here.broker);
  await inbox.sendToGroup('team', 'note', 6);
  await shows(6);
  expect(device.messages).toEqual([2, 1, 3, 4, 5, 6]);
});

test('of one group by subscriptions in several tenants, each message comes once', async () => {
  const { nodes, device, deaf, isUp } = await makeNodes({}, 'acme');
  const [{ inbox }] = nodes as [(typeof nodes)[0]];
  const acme = { tenantId: 'acme' };
  deaf.isDeaf = true;
  await inbox.subscribe('anna', 'team', ['note']);
  await inbox.sendToGroup('team', 'note', 1);
  await inbox.sendToGroup('team', 'alarm', 100);
  await inbox.subscribe('anna', 'team', undefined, acme);
  await inbox.sendToGroup('team', 'note', 2, acme);
  await inbox.sendToGroup('team', 'alarm', 3);
  await inbox.sendToGroup('team', 'note', 200, { tenantId: 'globex' });
  deaf.isDeaf = false;
  isUp();
  await until(() => {
    device.take();
    return device.messages.length >= 3;
  }, 'what was sent meanwhile');
  await inbox.sendToGroup('team', 'alarm', 4);
  await until(() => {
    device.take();
    return device.messages.includes(4);
  }, 'the last');
  expect([...device.messages].sort()).toEqual([1, 2, 3, 4]);
});

test('a message that is published only after it came out of the store does not come again', async () => {
  const ticks: (() => void)[] = [];
  const every = (ms: number, callback: () => void) => {
    ticks.push(callback);
    return systemClock.every(ms, callback);
  };
  const { nodes, device, deaf, shows, ports } = await makeNodes({ clock: { ...systemClock, every } });
  const [{ inbox }] = nodes as [(typeof nodes)[0]];
  deaf.isDeaf = true;
  await inbox.subscribe('anna', 'team');
  let isRefusing = true;
  let published = 0;
  ports[0]!.refuses = ({ key }) => {
    if (!key.startsWith('t:')) return false;
    if (!isRefusing) published++;
    return isRefusing;
  };
  await inbox.sendToGroup('team', 'note', 1);
  await inbox.sendToGroup('team', 'note', 2);
  deaf.isDeaf = false;
  await until(() => {
    device.take();
    return device.messages.length === 2;
  }, 'what is stored');
  // The timers may run before what was delivered in the same turn is handed to the streams.
  deaf.onDelivered = () => {
    for (const tick of ticks) tick();
  };
  isRefusing = false;
  await until(() => published === 2, 'both to be published');
  await inbox.sendToGroup('team', 'note', 3);
  await shows(3);
  expect(device.messages).toEqual([1, 2, 3]);
});

test('a group that the bus would not join is joined when it does, and what was sent meanwhile comes', async () => {
  const { nodes, device, shows, ports, topics } = await makeNodes();
  const [{ inbox }, here] = nodes as [(typeof nodes)[0], (typeof nodes)[0]];
  const port = ports[1]!;
  const join = port.join.bind(port);
  port.join = (key) => (key.startsWith('t:') ? Promise.reject(new Error('the bus is away')) : join(key));
  await here.inbox.subscribe('anna', 'team');
  await inbox.sendToGroup('team', 'note', 1);
  port.join = join;
  await until(() => {
    device.take();
    return device.messages.length === 1;
  }, 'what was sent meanwhile');
  await inbox.sendToGroup('team', 'note', 2);
  await shows(2);
  expect(device.messages).toEqual([1, 2]);
  expect(topics()).toEqual(['team']);
});

test('whatever is sent to new groups around the time at which it hears of them comes once', async () => {
  const { nodes, ports, device, deaf, shows, isUp } = await makeNodes();
  const [{ inbox }] = nodes as [(typeof nodes)[0]];
  const random = new Random(SEED);
  const turns = async (): Promise<void> => {
    for (let left = random.one([0, 0, 1, 3, 20]); left > 0; left--)
      await new Promise((resolve) => setImmediate(resolve));
  };
  let number = 0;
  const expected: number[] = [];
  for (let round = 0; round < 8; round++) {
    const group = `group-${round}`;
    const types = random.one([undefined, ['note'], ['alarm']]);
    deaf.isDeaf = true;
    await inbox.subscribe('anna', group, types);
    // Now and then a message is stored, and published only later.
    ports[0]!.refuses = ({ key }) => key.startsWith('t:') && random.below(4) === 0;
    const count = random.between(1, 12);
    const hearsAt = random.below(count);
    const sends: Promise<unknown>[] = [];
    for (let i = 0; i < count; i++) {
      if (i === hearsAt) {
        deaf.isDeaf = false;
        isUp();
      }
      const type = random.one(['note', 'alarm']);
      const priority = random.one(['normal', 'high', 'urgent'] as const);
      sends.push(inbox.sendToGroup(group, type, ++number, { priority }));
      if (types?.includes(type) ?? true) expected.push(number);
      await turns();
    }
    await Promise.all(sends);
    ports[0]!.refuses = () => false;
    await until(() => {
      device.take();
      return device.messages.length >= expected.length;
    }, `${expected} of seed ${SEED}; there are ${device.messages}`);
    expect(
      [...device.messages].sort((a, b) => a - b),
      `seed ${SEED}`,
    ).toEqual(expected);
    await shows(expected.length);
  }
  // What was published late has come by, too.
  await inbox.sendToUser('anna', 'note', ++number);
  await shows(expected.length + 1);
  expect(device.messages.length, `seed ${SEED}`).toBe(expected.length + 1);
}, 60_000);
