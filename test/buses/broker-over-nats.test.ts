/** Whole brokers over a stream that is replaced under them: what clients see, not what the bus tells. */
import { type JetStreamClient, jetstream } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';
import { expect, onTestFinished, test } from 'vitest';
import { NatsBus } from '../../src/buses/nats.js';
import { MemorySink } from '../../src/testing/index.js';
import { makeBroker } from '../support/broker.js';
import { deleteStream, NatsServer, natsClient, needsNatsServer } from '../support/nats-server.js';
import { Reader } from '../support/reader.js';
import { until } from '../support/until.js';
import { publishUntilTaken, startNode } from './nats-nodes.js';

async function startServer(): Promise<NatsServer> {
  needsNatsServer();
  const server = await NatsServer.start();
  onTestFinished(() => server.close());
  return server;
}

const readerOf = (sink: MemorySink): Reader => {
  const reader = new Reader();
  reader.feed(Buffer.from(sink.text));
  return reader;
};

test('a stream is deleted under live clients that have come far: each gets a gap, and then the new events', async () => {
  const server = await startServer();
  const connection = await natsClient(server.url);
  onTestFinished(() => connection.close());
  const make = () => {
    const settings = { namespace: 'gone', checkInterval: 200, recoveryJitter: 20, historyTtl: 0 };
    return makeBroker({ bus: new NatsBus({ connection, jetstream: jetstream(connection), ...settings }) });
  };
  const [here, there] = [make(), make()];
  let last = '';
  for (let i = 0; i < 30; i++) last = await here.sendToTopic('t', 'old', i);
  // One that has resumed, one without a cursor, one on the other node.
  const sinks = [new MemorySink(), new MemorySink(), new MemorySink()];
  here.connect({ sink: sinks[0]!, topics: ['t'], lastEventId: last });
  here.connect({ sink: sinks[1]!, topics: ['t'] });
  there.connect({ sink: sinks[2]!, topics: ['t'], lastEventId: last });
  for (const sink of sinks) await sink.wrote('event: connected');
  await deleteStream(connection, 'sse-gone');
  const isToldAll = () => sinks.every((sink) => sink.text.includes('event: gap'));
  await until(isToldAll, 'everybody to be told');
  for (let i = 0; i < 5; i++) last = await there.sendToTopic('t', 'new', i);
  for (const sink of sinks) {
    await sink.wrote('event: new\ndata: 4');
    const { events, lastEventId } = readerOf(sink);
    expect(events.map(({ type, data }) => (type === 'new' ? data : type))).toEqual([
      'connected',
      'gap',
      ...['0', '1', '2', '3', '4'],
    ]);
    expect(lastEventId).toBe(last);
  }
});

test('a stream is replaced while history is read from it: nobody gets what is another user’s by now', async () => {
  const server = await startServer();
  const [ANN, BOB] = ['u::ann', 'u::bob'];
  const options = { namespace: 'replaced', checkInterval: 60_000 };
  const other = await startNode(server.url, [], options);
  let beforeBody: (() => Promise<void>) | undefined;
  const intercepting = (connection: NatsConnection): JetStreamClient => {
    const client = jetstream(connection);
    const jetstreamManager = async (check?: boolean) => {
      const manager = await client.jetstreamManager(check);
      const getMessage = async (...args: Parameters<typeof manager.direct.getMessage>) => {
        const hook = beforeBody;
        beforeBody = undefined;
        await hook?.();
        return manager.direct.getMessage(...args);
      };
      return exchanged(manager, 'direct', exchanged(manager.direct, 'getMessage', getMessage));
    };
    return exchanged(client, 'jetstreamManager', jetstreamManager);
  };
  const node = await startNode(server.url, [], options, undefined, intercepting);
  const { id: start } = await node.bus.head();
  // So many that they are listed first, and read then.
  await other.publish(ANN, ...Array.from({ length: 10 }, (_, i) => `a${i}`));
  beforeBody = async () => {
    await deleteStream(other.connection, 'sse-replaced');
    for (let i = 0; i < 20; i++) await publishUntilTaken(other, BOB, `b${i}`);
  };
  const { events, loss } = await node.read([ANN], start, { limit: 10 });
  expect(beforeBody).toBeUndefined();
  expect([events, loss]).toEqual([[], 'epoch']);
});

/** The same object but for one property. */
function exchanged<T extends object, Name extends keyof T>(object: T, name: Name, value: unknown): T {
  return new Proxy(object, {
    get(target, key) {
      if (key === name) return value;
      const own: unknown = Reflect.get(target, key, target);
      return typeof own === 'function' ? own.bind(target) : own;
    },
  });
}
