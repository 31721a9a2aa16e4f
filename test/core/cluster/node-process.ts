/** One node of a cluster in a process of its own: a broker over Redis or NATS, mounted on an HTTP server, under orders. */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { jetstream } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { Redis } from 'ioredis';
import { NatsBus } from '../../../src/buses/nats.js';
import { RedisBus } from '../../../src/buses/redis.js';
import {
  Broker,
  type BrokerOptions,
  type Bus,
  createHandler,
  queryAuthenticator,
  queryTopicResolver,
} from '../../../src/index.js';

/** What this process says. */
export interface Reply {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: { readonly code: string; readonly message: string };
}

/** What it is told to do. */
export type Order = { readonly id: number } & (
  | {
      readonly do: 'start';
      readonly bus: 'redis' | 'nats';
      readonly namespace: string;
      readonly options: BrokerOptions;
    }
  | { readonly do: 'look' }
  | { readonly do: 'call'; readonly method: string; readonly args: readonly unknown[] }
  | { readonly do: 'close'; readonly options: object }
);

/** What a node says of itself. */
export interface Look {
  readonly nodeId: string;
  readonly users: readonly string[];
  readonly told: readonly string[];
  readonly nodes: number;
  readonly clients: number;
  readonly errors: readonly string[];
  readonly heapUsed: number;
}

const told: string[] = [];
const errors: string[] = [];
let broker: Broker;
let end: () => Promise<void>;

async function start(kind: 'redis' | 'nats', namespace: string, options: BrokerOptions): Promise<number> {
  let bus: Bus;
  if (kind === 'redis') {
    const client = new Redis(Number(process.env.REDIS_PORT ?? 6379), { maxRetriesPerRequest: 1 });
    client.on('error', () => {});
    bus = new RedisBus({ client, namespace });
    end = async () => client.disconnect();
  } else {
    const connection = await connect({ servers: process.env.NATS_URL ?? 'nats://127.0.0.1:4222' });
    bus = new NatsBus({ connection, jetstream: jetstream(connection), namespace });
    end = () => connection.close();
  }
  broker = new Broker({ bus, ...options });
  broker.on('userJoined', ({ userId }) => told.push(`+${userId}`));
  broker.on('userLeft', ({ userId }) => told.push(`-${userId}`));
  broker.on('error', ({ code, message }) => errors.push(`${code} ${message}`));
  const handler = createHandler(broker, { authenticator: queryAuthenticator(), topicResolver: queryTopicResolver() });
  const server = http.createServer((req, res) => void handler(req, res));
  await broker.start();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

function look(): Look {
  const { totalNodes, totalClients } = broker.getClusterStats();
  return {
    nodeId: broker.nodeId,
    users: [...broker.presence.users()].map(({ userId }) => userId).sort(),
    told,
    nodes: totalNodes,
    clients: totalClients,
    errors,
    heapUsed: process.memoryUsage().heapUsed,
  };
}

async function obey(order: Order): Promise<unknown> {
  switch (order.do) {
    case 'start':
      return start(order.bus, order.namespace, order.options);
    case 'look':
      return look();
    case 'call': {
      const method = (broker as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>)[order.method]!;
      return method.apply(broker, [...order.args]);
    }
    case 'close': {
      const result = await broker.close(order.options);
      await end();
      return result;
    }
  }
}

process.on('message', (order: Order) => {
  obey(order).then(
    (value) => process.send!({ id: order.id, value } satisfies Reply),
    (error: { code?: string; message?: string }) =>
      process.send!({
        id: order.id,
        error: { code: error.code ?? '', message: String(error.message) },
      } satisfies Reply),
  );
});
