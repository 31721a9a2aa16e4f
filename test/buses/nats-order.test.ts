/**
 * One order over a server that republishes out of it. That happens by microseconds, and by more on a busy machine; here it is
 * made to happen: the stream is real, and copies that a test names reach the node late.
 */
import { jetstream } from '@nats-io/jetstream';
import type { Msg, NatsConnection } from '@nats-io/transport-node';
import { expect, onTestFinished, test } from 'vitest';
import type { NatsBusOptions } from '../../src/buses/nats.js';
import { NatsServer, natsVersion, needsNatsServer } from '../support/nats-server.js';
import { skipUnless } from '../support/skip.js';
import { hooked, type NatsNode, startNode } from './nats-nodes.js';

const A = 't::a';
const B = 't::b';
const OTHER = 't::other';

async function startServer(): Promise<NatsServer> {
  needsNatsServer();
  // From 2.10 on the server keeps the order by itself, and the bus asks for nothing.
  skipUnless(natsVersion?.startsWith('2.9.'), 'nats-server is not 2.9: it republishes in order');
  const server = await NatsServer.start();
  onTestFinished(() => server.close());
  return server;
}

/** A node whose copies with this text are late until `arrive`. */
async function startLate(
  url: string,
  keys: readonly string[],
  isLate: (data: string) => boolean,
  options: Partial<NatsBusOptions> = {},
): Promise<{ node: NatsNode; late: string[]; arrive(): void }> {
  const waiting: (() => void)[] = [];
  const late: string[] = [];
  const textOf = (message: Msg): string => message.string().slice(message.string().indexOf('\n') + 1);
  const node = await startNode(url, keys, { checkInterval: 60_000, ...options }, (connection) =>
    hooked(connection, (message, deliver) => {
      if (!isLate(textOf(message))) {
        deliver();
        return;
      }
      late.push(textOf(message));
      waiting.push(deliver);
    }),
  );
  const arrive = () => {
    for (const deliver of waiting.splice(0)) deliver();
  };
  return { node, late, arrive };
}

const numbers = (count: number, from = 1): string[] => Array.from({ length: count }, (_, i) => String(from + i));

/** After everything that is on its way has had its time. */
async function settled({ bus }: NatsNode, key: string): Promise<void> {
  await bus.join(key);
}

test('a copy that comes late: its event has its place, once, and no gap is told', async () => {
  const server = await startServer();
  const { node, late, arrive } = await startLate(server.url, [A, B], (data) => data === '2');
  const other = await startNode(server.url, []);
  await other.publish(A, '1');
  await other.publish(B, '2');
  await other.publish(A, '3');
  await node.delivered(3);
  expect(late).toEqual(['2']);
  arrive();
  await other.publish(B, '4');
  await node.delivered(4);
  expect(node.dataOf()).toEqual(numbers(4));
  expect(node.losses).toEqual([]);
  expect(node.bus.status().details).toMatchObject({ recoveries: 0, losses: 0, checks: 0 });
});

test('so it is with many, of one key and of several, and with what nobody wants between them', async () => {
  const server = await startServer();
  const isLate = (data: string) => Number(data) % 3 === 0 || (Number(data) > 40 && Number(data) < 80);
  const { node, late, arrive } = await startLate(server.url, [A, B], isLate);
  const other = await startNode(server.url, [], { requestTimeout: 10_000 });
  for (let i = 1; i <= 100; i++) {
    await other.publish(i % 2 === 0 ? A : B, String(i));
    if (i % 10 === 0) await other.publish(OTHER, 'x', 'y', 'z');
    if (i % 25 === 0) arrive();
  }
  await node.delivered(100);
  arrive();
  await settled(node, 't::c');
  expect(late.length).toBeGreaterThan(50);
  expect(node.dataOf()).toEqual(numbers(100));
  expect(node.losses).toEqual([]);
});

test('what went by unseen before the first event of a quiet node is asked for by key, and what is late among it comes', async () => {
  const server = await startServer();
  const { node, arrive } = await startLate(server.url, [A, B], (data) => data === '1');
  const other = await startNode(server.url, []);
  await other.publish(A, '1');
  for (let i = 0; i < 100; i++) await other.publish(OTHER, String(i));
  await other.publish(B, '2');
  await node.delivered(2);
  arrive();
  await other.publish(A, '3');
  await node.delivered(3);
  expect(node.dataOf()).toEqual(numbers(3));
  expect(node.losses).toEqual([]);
  expect(node.bus.status().details!.recoveries).toBeGreaterThan(0);
});

test('what is for one client keeps its place too', async () => {
  const server = await startServer();
  const { node, arrive } = await startLate(server.url, [A, 'c::client'], (data) => data === '1');
  const other = await startNode(server.url, []);
  await other.publish('c::client', '1');
  await other.publish(A, '2');
  await node.delivered(2);
  arrive();
  await other.publish('c::client', '3');
  await node.delivered(3);
  expect(node.dataOf()).toEqual(numbers(3));
});

for (const [what, isLate] of [
  ['alone', (data: string) => data === 'a1'],
  ['with all that is newer of its key', (data: string) => data.startsWith('a')],
] as const) {
  test(`late ${what}, and dropped by then: told as a gap of that key alone, once, before what is newer`, async () => {
    const server = await startServer();
    const options = { historySize: 1 };
    const { node, arrive } = await startLate(server.url, [A, B], isLate, options);
    const other = await startNode(server.url, [], options);
    // Two are kept: the history and its witness. The third drops the first.
    await other.publish(A, 'a1', 'a2', 'a3');
    await other.publish(B, 'b1');
    await node.delivered(1, B);
    arrive();
    await other.publish(A, 'a4');
    await other.publish(B, 'b2');
    await node.delivered(4);
    expect(node.dataOf()).toEqual(['a3', 'b1', 'a4', 'b2']);
    expect(node.losses).toMatchObject([{ reason: 'evicted', keys: [A], before: 0 }]);
  });
}

test('where the stream cannot be asked, history is read as after any doubt, and nothing is lost', async () => {
  const server = await startServer();
  let refusals = 0;
  const failing = (connection: NatsConnection) => {
    const js = jetstream(connection);
    const make = js.jetstreamManager.bind(js);
    js.jetstreamManager = async (...call) => {
      const manager = await make(...call);
      const getMessage = manager.direct.getMessage.bind(manager.direct);
      manager.direct.getMessage = (...query) => {
        if (refusals-- > 0) return Promise.reject(new Error('refused'));
        return getMessage(...query);
      };
      const getFromLeader = manager.streams.getMessage.bind(manager.streams);
      manager.streams.getMessage = (...query) => {
        if (refusals-- > 0) return Promise.reject(new Error('refused'));
        return getFromLeader(...query);
      };
      return manager;
    };
    return js;
  };
  const delayed: (() => void)[] = [];
  const wrap = (connection: NatsConnection) =>
    hooked(connection, (message, deliver) => {
      if (message.string().endsWith('\n1')) delayed.push(deliver);
      else deliver();
    });
  const node = await startNode(server.url, [A, B], { checkInterval: 60_000 }, wrap, failing);
  const other = await startNode(server.url, []);
  refusals = 2;
  await other.publish(A, '1');
  await other.publish(B, '2');
  await node.delivered(2);
  for (const deliver of delayed) deliver();
  await other.publish(A, '3');
  await node.delivered(3);
  expect(node.dataOf()).toEqual(numbers(3));
  expect(node.losses).toEqual([]);
  expect(refusals).toBeLessThan(1);
  expect(node.bus.status().details!.recoveries).toBeGreaterThan(0);
});

test('a node without interested clients spends nothing on an event', async () => {
  const server = await startServer();
  const idle = await startNode(server.url, [B], { checkInterval: 60_000 });
  const other = await startNode(server.url, [A]);
  await idle.connection.flush();
  const before = idle.connection.stats();
  await other.publish(A, ...numbers(200));
  await other.delivered(200);
  await idle.connection.flush();
  const after = idle.connection.stats();
  expect([after.inMsgs, after.outMsgs]).toEqual([before.inMsgs, before.outMsgs]);
});
