/** The same random lives, of two nodes over a real bus and a real database: time passes by itself there, and nodes die. */
import { jetstream } from '@nats-io/jetstream';
import { onTestFinished, test } from 'vitest';
import { NatsBus } from '../../src/buses/nats.js';
import { RedisBus } from '../../src/buses/redis.js';
import type { Bus } from '../../src/index.js';
import { newNamespace, redisLibraries, removeNamespace } from '../buses/redis-clients.js';
import { deleteStream, natsClient, sharedNatsUrl } from '../support/nats-server.js';
import { needsSharedRedis, sharedRedisPort } from '../support/redis-server.js';
import { skipUnless } from '../support/skip.js';
import { backendOf, mysqlDatabase, postgresDatabase, type TestDatabase } from './databases.js';
import { live } from './inbox-property.js';

const SEED = Number(process.env.INBOX_SEED ?? Date.now() % 1_000_000);
const RUNS = Number(process.env.INBOX_RUNS ?? 0);
const TIMEOUT_MS = RUNS > 0 ? 3_600_000 : 120_000;
const STEPS = 20;

type OpenBus = (namespace: string) => Promise<Bus>;

/** A bus whose connection ends with it. */
function ending(bus: Bus, end: () => unknown): Bus {
  return new Proxy(bus, {
    get: (target, name) => {
      if (name === 'close') {
        return async () => {
          await target.close();
          await end();
        };
      }
      const value = Reflect.get(target, name) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

async function redisBus(namespace: string): Promise<Bus> {
  const { client, close } = await redisLibraries[0]!.connect(sharedRedisPort);
  return ending(new RedisBus({ client, namespace, historySize: 10_000 }), close);
}

async function natsBus(namespace: string): Promise<Bus> {
  const connection = await natsClient(sharedNatsUrl);
  const bus = new NatsBus({ connection, jetstream: jetstream(connection), namespace, historySize: 10_000 });
  return ending(bus, () => connection.close());
}

async function lives(openBus: OpenBus, create: () => Promise<TestDatabase>, clean: (name: string) => Promise<void>) {
  for (let i = 0; i < (RUNS || 1); i++) {
    const database = await create();
    const namespace = newNamespace();
    try {
      await live({
        seed: SEED + i,
        nodes: 2,
        steps: STEPS,
        ...backendOf(database),
        bus: () => openBus(namespace),
        canFail: true,
        // Whatever a node misses is repaired out of the bus's history.
        isLossless: true,
        isReal: true,
      });
    } finally {
      await database.dispose();
      await clean(namespace);
    }
  }
}

test(
  'two nodes over Redis and PostgreSQL',
  async () => {
    await needsSharedRedis();
    await lives(redisBus, postgresDatabase, (namespace) => removeNamespace(sharedRedisPort, namespace));
  },
  TIMEOUT_MS,
);

test(
  'two nodes over NATS and MariaDB',
  async () => {
    const connection = await natsClient(sharedNatsUrl, { maxReconnectAttempts: 0 }).catch(() => undefined);
    skipUnless(connection, `no NATS at ${sharedNatsUrl}; start one with JetStream, or set NATS_URL`);
    onTestFinished(() => connection.close());
    await lives(natsBus, mysqlDatabase, (namespace) => deleteStream(connection, `sse-${namespace}`));
  },
  TIMEOUT_MS,
);
