/**
 * One node in a process of its own: a broker over Redis or NATS behind an HTTP server, under the orders of a test. It can be
 * killed and stopped like any process, and its wall clock can be moved.
 */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { jetstream } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { Redis } from 'ioredis';
import { createClient } from 'redis';
import { NatsBus } from '../../src/buses/nats.js';
import { RedisBus } from '../../src/buses/redis.js';
import { systemClock } from '../../src/core/clock.js';
import { Broker, type Bus, createHandler, isSseError, type SseError } from '../../src/index.js';

export type BusKind = 'ioredis' | 'node-redis' | 'nats';

/** Whom one event is for. */
export interface Target {
  readonly kind: 'user' | 'topic' | 'everybody';
  readonly name: string;
  readonly tenantId?: string | undefined;
}

export interface Publication {
  readonly n: number;
  readonly target: Target;
  /** Characters of filler. */
  readonly size: number;
}

/** What became of one publication: an id, or the code of a rejection. */
export interface Outcome {
  readonly n: number;
  readonly id?: string;
  readonly code?: string;
  readonly retryable?: boolean;
}

export type Order = { readonly id: number } & (
  | { readonly do: 'start'; readonly bus: BusKind; readonly port: number; readonly namespace: string }
  | { readonly do: 'publish'; readonly publications: readonly Publication[] }
  | { readonly do: 'look' }
  | { readonly do: 'setClock'; readonly offsetMs: number }
  | { readonly do: 'close'; readonly reconnectWithinMs: number }
);

export interface Reply {
  readonly id: number;
  readonly value?: unknown;
  readonly failure?: string;
}

/** What a node says of itself, after a collection of garbage. */
export interface Look {
  readonly bus: string;
  readonly reason: string | undefined;
  readonly clients: number;
  readonly ending: number;
  readonly queuedFrames: number;
  readonly details: Readonly<Record<string, number>>;
  readonly sockets: number;
  readonly heapUsed: number;
}

const HISTORY = 100_000;
let broker: Broker;
let sockets = 0;
let offsetMs = 0;
const systemNow = Date.now;
const jumpingNow = (): number => systemNow() + offsetMs;

async function makeBus(kind: BusKind, port: number, namespace: string): Promise<Bus> {
  // Small, so that a heap that grows is one that leaks.
  const shared = { namespace, historySize: HISTORY, checkInterval: 500, linger: 100, cacheBytes: 256 * 1024 };
  if (kind === 'nats') {
    const servers = `nats://127.0.0.1:${port}`;
    const timing = { maxReconnectAttempts: -1, reconnectTimeWait: 50, reconnectJitter: 50 };
    // In a partition there is nobody to connect to yet; an application that starts then waits, too.
    const connection = await connect({ servers, waitOnFirstConnect: true, ...timing });
    return new NatsBus({ connection, jetstream: jetstream(connection), requestTimeout: 700, ...shared });
  }
  const options = { ...shared, commandTimeout: 700 };
  if (kind === 'ioredis') {
    const client = new Redis(port, '127.0.0.1', { retryStrategy: () => 50 });
    client.on('error', () => {});
    return new RedisBus({ client, ...options });
  }
  const client = createClient({ socket: { host: '127.0.0.1', port, reconnectStrategy: () => 50 } });
  client.on('error', () => {});
  void client.connect();
  return new RedisBus({ client, ...options });
}

async function start(kind: BusKind, port: number, namespace: string): Promise<number> {
  const bus = await makeBus(kind, port, namespace);
  // A jump is one for all that runs here, client libraries included, as an NTP step or a resumed virtual machine is. Not with
  // NATS: its client waits for the wall clock before it connects again (protocol.js, `lastConnect`), which is not ours to test.
  if (kind !== 'nats') Date.now = jumpingNow;
  const clock = { ...systemClock, now: jumpingNow };
  const timing = { nodeTimeout: 3_000, presenceGrace: 500, retry: 50, heartbeatInterval: 1_000 };
  broker = new Broker({ bus, clock, ...timing });
  broker.on('error', () => {});
  const handler = createHandler(broker, {
    authenticator: ({ headers }) => JSON.parse(String(headers['x-identity'])) as object,
    topicResolver: ({ headers }) => String(headers['x-topics']).split(' '),
  });
  const server = http.createServer((req, res) => void handler(req, res));
  server.on('connection', (socket) => {
    sockets++;
    socket.once('close', () => sockets--);
  });
  for (;;) {
    // An application that is started while its bus is away tries again.
    const isStarted = await broker.start().then(
      () => true,
      () => false,
    );
    if (isStarted) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

async function publish({ n, target, size }: Publication): Promise<Outcome> {
  const data = { n, filler: 'x'.repeat(size) };
  const { kind, name, tenantId } = target;
  try {
    if (kind === 'user') return { n, id: await broker.sendToUser(name, 'e', data, { tenantId }) };
    if (kind === 'topic') return { n, id: await broker.sendToTopic(name, 'e', data, { tenantId }) };
    return { n, id: await broker.broadcast('e', data, { tenantId }) };
  } catch (error) {
    const { code, retryable } = error as SseError;
    return isSseError(error) ? { n, code, retryable } : { n, code: String(error) };
  }
}

function look(): Look {
  global.gc!();
  const { totalClients, ending, queuedFrames, bus } = broker.getStats();
  return {
    bus: bus.state,
    reason: bus.reason,
    clients: totalClients,
    ending,
    queuedFrames,
    details: bus.details ?? {},
    sockets,
    heapUsed: process.memoryUsage().heapUsed,
  };
}

async function obey(order: Order): Promise<unknown> {
  switch (order.do) {
    case 'start':
      return start(order.bus, order.port, order.namespace);
    case 'publish':
      return Promise.all(order.publications.map(publish));
    case 'look':
      return look();
    case 'setClock':
      offsetMs = order.offsetMs;
      return undefined;
    case 'close':
      return broker.close({ reconnectWithinMs: order.reconnectWithinMs, timeoutMs: 3_000 });
  }
}

process.on('disconnect', () => process.exit());
process.on('message', (order: Order) => {
  obey(order).then(
    (value) => process.send!({ id: order.id, value } satisfies Reply),
    (error: unknown) => process.send!({ id: order.id, failure: String(error) } satisfies Reply),
  );
});
