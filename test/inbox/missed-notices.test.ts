/** A node that did not hear of a change, because nothing came to it for a while, has it soon after. */
import { expect, onTestFinished, test } from 'vitest';
import { Inbox, MemoryStore } from '../../src/inbox/index.js';
import type { BrokerOptions, BusReceiver } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { SharedHub } from '../support/shared-bus.js';
import { until } from '../support/until.js';
import { Device } from './device.js';

/** Two nodes; nothing comes to the second while it `isDeaf`, nor from it while it `isMute`. A device of anna's is connected there. */
async function makeNodes(options: BrokerOptions = {}) {
  const hub = new SharedHub();
  const store = new MemoryStore();
  const deaf = { isDeaf: false, isMute: false };
  let receiver: BusReceiver | undefined;
  const nodes = [0, 1].map((index) => {
    const bus = hub.port();
    if (index === 1) {
      bus.loses = () => deaf.isDeaf;
      bus.refuses = () => deaf.isMute;
      const start = bus.start.bind(bus);
      bus.start = (given) => {
        receiver = given;
        return start(given);
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
  const device = new Device('anna', undefined, 'phone');
  device.connect(nodes[1]!.broker);
  onTestFinished(() => device.cut(0));
  const topics = () => [...nodes[1]!.broker.getClients()].flatMap((client) => client.topics);
  const shows = (unread: number) =>
    until(() => {
      device.take();
      return device.unread === unread;
    }, `${unread} unread`);
  await shows(0);
  return { nodes, device, deaf, topics, shows, isUp: () => receiver!.status({ state: 'up' }) };
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
