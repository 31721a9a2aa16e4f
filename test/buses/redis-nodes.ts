/** Nodes of one namespace over a Redis that a test can hurt, and what must hold whatever it does. */
import { expect, onTestFinished } from 'vitest';
import { RedisBus, type RedisBusOptions } from '../../src/buses/redis.js';
import type { Loss } from '../../src/index.js';
import { outgoing, Recorder } from '../../src/testing/bus-recorder.js';
import { needsRedisServer, RedisServer, type RedisServerOptions } from '../support/redis-server.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';
import { connected, newNamespace, redisLibraries, type TestLibrary } from './redis-clients.js';

export const [ioredis, nodeRedis] = redisLibraries as [TestLibrary, TestLibrary];

/** A server that ends with the running test. */
export async function startRedis(options?: RedisServerOptions): Promise<RedisServer> {
  needsRedisServer();
  const server = await RedisServer.start(options);
  onTestFinished(() => server.close());
  return server;
}

/** A proxy that ends with the running test. */
export async function startProxy(port: number): Promise<TcpProxy> {
  const proxy = await TcpProxy.start(port);
  onTestFinished(() => proxy.close());
  return proxy;
}

export interface NodeOptions extends Omit<Partial<RedisBusOptions>, 'client'> {
  readonly library?: TestLibrary;
}

/** Nodes that share a namespace; they end with the running test. */
export function makeCluster(namespace = newNamespace()) {
  return async (port: number, keys: readonly string[], { library = ioredis, ...options }: NodeOptions = {}) => {
    const client = await connected(library, port);
    // History enough for all that a stream publishes while a fault lasts.
    const defaults = { historySize: 100_000, checkInterval: 1_000, commandTimeout: 1_000 };
    const bus = new RedisBus({ client, namespace, ...defaults, ...options });
    // Before the client is closed, which was registered earlier.
    onTestFinished(() => bus.close());
    return Recorder.start(bus, keys, 15_000);
  };
}

/** A publisher that never stops, and knows what got through for sure. */
export class Stream {
  /** Data of publishes that resolved, in order. */
  readonly acknowledged: string[] = [];
  /** Data of publishes that were rejected: they may be stored, or not. */
  readonly rejected: string[] = [];
  readonly #node: Recorder;
  readonly #keys: readonly string[];
  #isRunning = true;
  readonly #done: Promise<void>;

  constructor(node: Recorder, keys: readonly string[]) {
    this.#node = node;
    this.#keys = keys;
    this.#done = this.#run();
  }

  get count(): number {
    return this.acknowledged.length + this.rejected.length;
  }

  /** Resolves when `count` more were acknowledged. */
  async more(count: number, deadlineMs = 15_000): Promise<void> {
    const { length } = this.acknowledged;
    await until(() => this.acknowledged.length >= length + count, `${count} more publishes`, deadlineMs);
  }

  async stop(): Promise<void> {
    this.#isRunning = false;
    await this.#done;
  }

  async #run(): Promise<void> {
    for (let i = 0; this.#isRunning; i++) {
      const key = this.#keys[i % this.#keys.length]!;
      const data = `${key} ${i}`;
      try {
        await this.#node.bus.publish(outgoing(key, data));
        this.acknowledged.push(data);
      } catch {
        this.rejected.push(data);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

/** Every node has all that was acknowledged on these keys, in one order, each once; no node was told a gap. */
export async function expectComplete(nodes: readonly Recorder[], stream: Stream, ...keys: string[]): Promise<void> {
  const due = stream.acknowledged.filter((data) => keys.includes(data.split(' ')[0]!));
  for (const node of nodes) {
    const isComplete = () => {
      const has = new Set(node.dataOf());
      return due.every((data) => has.has(data));
    };
    await until(isComplete, 'all that was acknowledged', 15_000);
    expect(node.losses).toEqual([]);
    expectOrdered(node);
    const acknowledged = new Set(due);
    expect(node.dataOf(...keys).filter((data) => acknowledged.has(data))).toEqual(due);
  }
}

/** In order, nothing twice. */
export function expectOrdered(node: Recorder): void {
  const sequences = node.events.map(({ sequence }) => sequence);
  expect(sequences).toEqual([...new Set(sequences)].sort((a, b) => a - b));
}

/** What is missing of `due` was told: a loss of that key before the next event of it that did arrive. */
export function expectTold(node: Recorder, due: readonly string[]): void {
  const at = new Map(node.dataOf().map((data, i) => [data, i]));
  for (const [i, data] of due.entries()) {
    if (at.has(data)) continue;
    const key = data.split(' ')[0]!;
    const next = due.slice(i).find((later) => later.startsWith(`${key} `) && at.has(later));
    const end = next === undefined ? Number.POSITIVE_INFINITY : at.get(next)!;
    const isTold = node.losses.some((loss) => loss.before <= end && concerns(loss, key));
    expect(isTold, `${data} is missing and nobody was told`).toBe(true);
  }
}

export const concerns = ({ keys }: Pick<Loss, 'keys'>, key: string): boolean =>
  keys === undefined || keys.includes(key);
