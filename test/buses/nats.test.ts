/** NatsBus keeps the contract of buses, over a real NATS with JetStream, with nodes on connections of their own. */
import { jetstream } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { NatsBus, type NatsBusOptions } from '../../src/buses/nats.js';
import { type BusFixture, type BusSetup, busConformance, busNodesConformance } from '../../src/testing/index.js';
import {
  deleteStream,
  NatsServer,
  natsClient,
  natsVersion,
  needsNatsServer,
  sharedNatsUrl,
} from '../support/nats-server.js';
import { TcpProxy } from '../support/tcp-proxy.js';

let namespaces = 0;
const newNamespace = () => `test-${process.pid}-${Date.now().toString(36)}-${++namespaces}`;

const shared = await natsClient(sharedNatsUrl, { maxReconnectAttempts: 0 }).catch(() => undefined);
const connections: NatsConnection[] = [];

afterAll(async () => {
  for (const connection of connections) await connection.close();
  await shared?.close();
});

describe('NatsBus with JetStream', () => {
  const create = async (setup: BusSetup): Promise<BusFixture> => {
    needsNatsServer();
    const namespace = newNamespace();
    const nodes: NatsConnection[] = [];
    const make = async () => {
      const connection = await natsClient(sharedNatsUrl);
      nodes.push(connection);
      return new NatsBus(optionsOf(connection, setup, namespace));
    };
    return {
      bus: await make(),
      another: make,
      reopen: make,
      loseHistory: () => deleteStream(nodes[0]!, `sse-${namespace}`),
      dispose: async () => {
        await deleteStream(nodes[0]!, `sse-${namespace}`);
        for (const node of nodes) await node.close();
      },
    };
  };
  const abilities = { shared: true, durable: true, loses: true, ages: false, limitsBytes: false };
  const cases = [...busConformance({ create, ...abilities }), ...busNodesConformance({ create, timeoutMs: 10_000 })];
  for (const { name, run } of cases) test(name, run, 20_000);
});

describe('NatsBus behind a network that fails', () => {
  let server: NatsServer | undefined;
  beforeAll(async () => {
    if (natsVersion !== undefined) server = await NatsServer.start();
  });
  afterAll(() => server?.close());

  const create = async (setup: BusSetup): Promise<BusFixture> => {
    needsNatsServer();
    const namespace = newNamespace();
    const proxy = await TcpProxy.start(server!.port);
    const connection = await natsClient(`nats://127.0.0.1:${proxy.port}`);
    return {
      bus: new NatsBus(optionsOf(connection, setup, namespace)),
      breakCarrier: () => proxy.refuse(),
      mendCarrier: () => proxy.mend(),
      dispose: async () => {
        await deleteStream(connection, `sse-${namespace}`);
        await connection.close();
        await proxy.close();
      },
    };
  };
  const cases = busConformance({ create, breaks: true, ages: false, limitsBytes: false });
  for (const { name, run } of cases.filter(({ name }) => name.startsWith('down'))) test(name, run);
});

describe('NatsBus without JetStream', () => {
  const create = async ({ historySize }: BusSetup): Promise<BusFixture> => {
    needsNatsServer();
    const connection = await natsClient(sharedNatsUrl);
    if (historySize > 0) throw new Error('it keeps none');
    return {
      bus: new NatsBus({ connection, jetstream: false, namespace: newNamespace() }),
      dispose: () => connection.close(),
    };
  };
  for (const { name, run } of busConformance({ create, history: false })) test(name, run);
});

function optionsOf(connection: NatsConnection, { historySize }: BusSetup, namespace: string): NatsBusOptions {
  return { connection, jetstream: jetstream(connection), namespace, historySize, linger: 50, storage: 'memory' };
}
