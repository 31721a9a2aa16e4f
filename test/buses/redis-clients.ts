/** The Redis clients of both libraries, as an application makes them; they end with the test. */
import { Cluster, Redis } from 'ioredis';
import { createClient, createCluster } from 'redis';
import { onTestFinished } from 'vitest';
import type { RedisClient } from '../../src/buses/redis.js';

export interface TestClient {
  readonly client: RedisClient;
  close(): void;
}

export interface TestLibrary {
  readonly name: string;
  /** A connected client. */
  connect(port: number, options?: { username?: string; password?: string }): Promise<TestClient>;
  connectCluster(ports: readonly number[]): Promise<TestClient>;
}

const ioredis: TestLibrary = {
  name: 'ioredis',
  async connect(port, options = {}) {
    const client = new Redis(port, '127.0.0.1', { ...options, retryStrategy: () => 50 });
    client.on('error', () => {});
    return { client, close: () => client.disconnect() };
  },
  async connectCluster(ports) {
    const client = new Cluster(
      ports.map((port) => ({ host: '127.0.0.1', port })),
      { clusterRetryStrategy: () => 50 },
    );
    client.on('error', () => {});
    return { client, close: () => client.disconnect() };
  },
};

const nodeRedis: TestLibrary = {
  name: 'node-redis',
  async connect(port, options = {}) {
    const client = createClient({ ...options, socket: { host: '127.0.0.1', port, reconnectStrategy: () => 50 } });
    client.on('error', () => {});
    await client.connect();
    return { client, close: () => client.isOpen && client.destroy() };
  },
  async connectCluster(ports) {
    const client = createCluster({ rootNodes: ports.map((port) => ({ url: `redis://127.0.0.1:${port}` })) });
    client.on('error', () => {});
    await client.connect();
    return { client, close: () => client.isOpen && client.destroy() };
  },
};

export const redisLibraries: readonly TestLibrary[] = [ioredis, nodeRedis];

/** The same, closed when the running test ends. */
export async function connected(library: TestLibrary, port: number): Promise<RedisClient> {
  const { client, close } = await library.connect(port);
  onTestFinished(close);
  return client;
}

let namespaces = 0;

/** A namespace that no other test uses, also not one that runs at the same time. */
export function newNamespace(): string {
  return `test-${process.pid}-${Date.now().toString(36)}-${++namespaces}`;
}

/** What a test leaves behind in a Redis that goes on. */
export async function removeNamespace(port: number, namespace: string): Promise<void> {
  const client = new Redis(port, '127.0.0.1');
  for await (const keys of client.scanStream({ match: `*{${namespace}}*`, count: 1_000 })) {
    if ((keys as string[]).length > 0) await client.unlink(...(keys as string[]));
  }
  client.disconnect();
}
