/**
 * Redis servers of a test's own, on ports of their own: alone, as a cluster of three, or as master, replica and Sentinel.
 * They can be killed, stopped and started again, with what they had on disk or without.
 */
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Redis } from 'ioredis';
import { freePort, isListening } from './port.js';
import { ServerProcess } from './server-process.js';
import { skipUnless } from './skip.js';
import { until } from './until.js';

/** The server's version, or undefined where there is none. */
export const redisVersion: string | undefined = (() => {
  try {
    return /v=([0-9.]+)/.exec(execFileSync('redis-server', ['--version'], { encoding: 'utf8' }))?.[1];
  } catch {
    return undefined;
  }
})();

/** Skips the running test where no redis-server is installed. */
export function needsRedisServer(): void {
  skipUnless(redisVersion, 'no redis-server found; apt-get install redis-server');
}

/** The port of a Redis that runs already, for tests that do not hurt it. */
export const sharedRedisPort = Number(process.env.REDIS_PORT ?? 6379);

/** Skips the running test where that Redis does not run. */
export async function needsSharedRedis(): Promise<void> {
  skipUnless(
    await isListening(sharedRedisPort),
    `no Redis listens on port ${sharedRedisPort}; start one, or set REDIS_PORT`,
  );
}

export interface RedisServerOptions {
  /** Written to disk at every write (`always`), or never (default). */
  readonly persistence?: 'always' | 'none';
  /** More lines of redis.conf. */
  readonly config?: readonly string[];
  /** Default: a free one. */
  readonly port?: number;
}

export class RedisServer extends ServerProcess {
  readonly #folder: string;
  readonly #config: readonly string[];
  readonly #command: readonly string[];

  private constructor(port: number, folder: string, config: readonly string[], command: readonly string[]) {
    super(port);
    this.#folder = folder;
    this.#config = config;
    this.#command = command;
  }

  /** Starts one; `close` it. */
  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    const { persistence = 'none', config = [], port = await freePort() } = options;
    const lasting = persistence === 'always' ? ['appendonly yes', 'appendfsync always'] : ['appendonly no'];
    return RedisServer.#started(port, ['save ""', ...lasting, ...config], ['redis-server']);
  }

  /** Starts a Sentinel that watches `master` by the name `main`, alone: its word is enough. */
  static async startSentinel(master: RedisServer): Promise<RedisServer> {
    const config = [
      `sentinel monitor main 127.0.0.1 ${master.port} 1`,
      'sentinel down-after-milliseconds main 500',
      'sentinel failover-timeout main 3000',
      'sentinel parallel-syncs main 1',
    ];
    return RedisServer.#started(await freePort(), config, ['redis-server', '--sentinel']);
  }

  static async #started(port: number, config: readonly string[], [program, ...flags]: readonly string[]) {
    const folder = await mkdtemp(path.join(os.tmpdir(), 'sse-broker-redis-'));
    const server = new RedisServer(port, folder, config, [program!, path.join(folder, 'redis.conf'), ...flags]);
    await server.start();
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Starts it again after {@link stop} or {@link kill}. */
  async start(): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    const lines = [
      `port ${this.port}`,
      'bind 127.0.0.1',
      `dir ${this.#folder}`,
      'protected-mode no',
      'loglevel warning',
    ];
    await writeFile(path.join(this.#folder, 'redis.conf'), [...lines, ...this.#config, ''].join('\n'));
    const [program, ...args] = this.#command;
    await this.spawn(program!, args);
    await this.admin(async (redis) => {
      // A server that loads its file listens already.
      await until(async () => (await redis.call('PING').catch(() => '')) === 'PONG', 'redis-server to answer');
    });
  }

  /** Removes what it wrote to disk; only while it is stopped. */
  async forget(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** Runs commands on a connection of their own. */
  async admin<T>(action: (redis: Redis) => Promise<T>): Promise<T> {
    const redis = new Redis(this.port, '127.0.0.1', { lazyConnect: true });
    redis.on('error', () => {});
    try {
      return await action(redis);
    } finally {
      redis.disconnect();
    }
  }

  async close(): Promise<void> {
    await this.kill();
    await this.forget();
  }
}

/** The port of a cluster's own bus is so far above the other. */
const CLUSTER_BUS = 10_000;

/** Three masters, each with a third of the slots. */
export class RedisCluster {
  readonly servers: readonly RedisServer[];

  private constructor(servers: readonly RedisServer[]) {
    this.servers = servers;
  }

  static async start(): Promise<RedisCluster> {
    const config = ['cluster-enabled yes', 'cluster-node-timeout 2000', 'cluster-config-file nodes.conf'];
    const servers: RedisServer[] = [];
    for (let i = 0; i < 3; i++) servers.push(await RedisServer.start({ config, port: await freePort(CLUSTER_BUS) }));
    const third = Math.ceil(16_384 / 3);
    for (const [i, server] of servers.entries()) {
      await server.admin(async (redis) => {
        const range = [i * third, Math.min(16_383, (i + 1) * third - 1)];
        await redis.call('CLUSTER', 'ADDSLOTSRANGE', ...range.map(String));
        if (i > 0) await redis.call('CLUSTER', 'MEET', '127.0.0.1', String(servers[0]!.port));
      });
    }
    for (const server of servers) {
      await server.admin((redis) =>
        until(async () => {
          const info = String(await redis.call('CLUSTER', 'INFO'));
          return info.includes('cluster_state:ok') && info.includes('cluster_known_nodes:3');
        }, 'the cluster to agree'),
      );
    }
    return new RedisCluster(servers);
  }

  /** One server in cluster mode that has no slots: enough to ask about them. */
  static async startOne(): Promise<RedisServer> {
    return RedisServer.start({ config: ['cluster-enabled yes'], port: await freePort(CLUSTER_BUS) });
  }

  /** Moves the slot of a key, with all its keys, to the next node. */
  async move(key: string): Promise<void> {
    const [slot, owner] = await this.servers[0]!.admin(async (redis) => {
      const number = Number(await redis.call('CLUSTER', 'KEYSLOT', key));
      const ranges = (await redis.call('CLUSTER', 'SLOTS')) as [number, number, [string, number]][];
      return [number, ranges.find(([from, to]) => from <= number && number <= to)![2][1]] as const;
    });
    const index = this.servers.findIndex(({ port }) => port === owner);
    const [source, target] = [this.servers[index]!, this.servers[(index + 1) % 3]!];
    const idOf = (server: RedisServer) => server.admin(async (redis) => String(await redis.call('CLUSTER', 'MYID')));
    const [sourceId, targetId] = [await idOf(source), await idOf(target)];
    const set = (server: RedisServer, ...state: string[]) =>
      server.admin((redis) => redis.call('CLUSTER', 'SETSLOT', String(slot), ...state));
    await set(target, 'IMPORTING', sourceId);
    await set(source, 'MIGRATING', targetId);
    await source.admin(async (redis) => {
      for (;;) {
        const keys = (await redis.call('CLUSTER', 'GETKEYSINSLOT', String(slot), '100')) as string[];
        if (keys.length === 0) return;
        await redis.call('MIGRATE', '127.0.0.1', String(target.port), '', '0', '5000', 'KEYS', ...keys);
      }
    });
    for (const server of [target, source, ...this.servers]) await set(server, 'NODE', targetId);
  }

  get ports(): number[] {
    return this.servers.map(({ port }) => port);
  }

  async close(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.close()));
  }
}
