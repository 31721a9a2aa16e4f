/**
 * NATS servers of a test's own, on ports and in folders of their own. They can be killed, stopped, frozen and started again,
 * with what they had on disk or without.
 */
import { execFileSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { jetstream } from '@nats-io/jetstream';
import { type ConnectionOptions, connect, type NatsConnection } from '@nats-io/transport-node';
import { freePort } from './port.js';
import { ServerProcess } from './server-process.js';
import { skipUnless } from './skip.js';
import { until } from './until.js';

/** The server's version, or undefined where there is none. */
export const natsVersion: string | undefined = (() => {
  try {
    return /v([0-9.]+)/.exec(execFileSync('nats-server', ['--version'], { encoding: 'utf8' }))?.[1];
  } catch {
    return undefined;
  }
})();

/** Skips the running test where no nats-server is installed. */
export function needsNatsServer(): void {
  skipUnless(natsVersion, 'no nats-server found; apt-get install nats-server');
}

/** A NATS with JetStream that runs already, for tests that do not hurt it. */
export const sharedNatsUrl = process.env.NATS_URL ?? 'nats://127.0.0.1:4222';

export interface NatsServerOptions {
  /** Default true. */
  readonly jetstream?: boolean;
  /** Bytes that its streams may take on disk. Default: what the disk has. */
  readonly maxFileStore?: number;
  /** More lines of the configuration file: users and what they may do. */
  readonly config?: readonly string[];
}

export class NatsServer extends ServerProcess {
  readonly #folder: string;
  readonly #lines: readonly string[];

  private constructor(port: number, folder: string, lines: readonly string[]) {
    super(port);
    this.#folder = folder;
    this.#lines = lines;
  }

  /** Starts one; `close` it. */
  static async start({ jetstream = true, maxFileStore, config = [] }: NatsServerOptions = {}): Promise<NatsServer> {
    const port = await freePort();
    const folder = await mkdtemp(path.join(os.tmpdir(), 'sse-broker-nats-'));
    const limit = maxFileStore === undefined ? '' : `, max_file_store: ${maxFileStore}`;
    const storage = jetstream ? [`jetstream { store_dir: ${JSON.stringify(path.join(folder, 'store'))}${limit} }`] : [];
    const server = new NatsServer(port, folder, [`listen: 127.0.0.1:${port}`, ...storage, ...config, '']);
    await server.start();
    return server;
  }

  /** Starts three that form a cluster, as soon as it can keep a stream of three replicas; `close` each. */
  static async startCluster(): Promise<NatsServer[]> {
    const ports = [await freePort(), await freePort(), await freePort()];
    const routes = ports.map((port) => `nats://127.0.0.1:${port}`).join(', ');
    const servers = await Promise.all(
      ports.map((port, i) =>
        NatsServer.start({
          config: [`server_name: n${i}`, `cluster { name: test, listen: "127.0.0.1:${port}", routes: [${routes}] }`],
        }),
      ),
    );
    const connection = await natsClient(servers[0]!.url);
    const manager = await jetstream(connection).jetstreamManager(false);
    // A leader alone is not enough: it must know the two others.
    const probe = { name: 'probe', subjects: ['probe'], num_replicas: 3 };
    const isReady = () => manager.streams.add(probe).then(Boolean, () => false);
    await until(isReady, 'the cluster to place a stream on three servers', 25_000);
    await manager.streams.delete('probe');
    await connection.close();
    return servers;
  }

  get url(): string {
    return `nats://127.0.0.1:${this.port}`;
  }

  /** Starts it again after {@link stop} or {@link kill}. */
  async start(): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    const file = path.join(this.#folder, 'nats.conf');
    await writeFile(file, this.#lines.join('\n'));
    await this.spawn('nats-server', ['-c', file]);
  }

  /** Removes its streams; only while it is stopped. */
  async forget(): Promise<void> {
    await rm(path.join(this.#folder, 'store'), { recursive: true, force: true });
  }

  /** Copies what it has on disk; only while it is stopped. */
  async backUp(): Promise<void> {
    await cp(path.join(this.#folder, 'store'), path.join(this.#folder, 'backup'), { recursive: true });
  }

  /** Puts that copy in the place of what it has on disk; only while it is stopped. */
  async restore(): Promise<void> {
    await this.forget();
    await cp(path.join(this.#folder, 'backup'), path.join(this.#folder, 'store'), { recursive: true });
  }

  /** Stops it for good and removes its folder. */
  async close(): Promise<void> {
    await this.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** A connection as an application should make it: it never gives up. */
export function natsClient(url: string, options: ConnectionOptions = {}): Promise<NatsConnection> {
  return connect({ servers: url, maxReconnectAttempts: -1, reconnectTimeWait: 50, reconnectJitter: 50, ...options });
}

/** Deletes a stream, where it is there. */
export async function deleteStream(connection: NatsConnection, stream: string): Promise<void> {
  const manager = await jetstream(connection).jetstreamManager(false);
  await manager.streams.delete(stream).catch(() => {});
}
