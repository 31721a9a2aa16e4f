/**
 * NATS servers of a test's own, on ports and in folders of their own. They can be killed, stopped, frozen and started again,
 * with what they had on disk or without.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { jetstream } from '@nats-io/jetstream';
import { type ConnectionOptions, connect, type NatsConnection } from '@nats-io/transport-node';
import { freePort, isListening } from './port.js';
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
  /** More lines of the configuration file: users and what they may do. */
  readonly config?: readonly string[];
}

export class NatsServer {
  readonly port: number;
  readonly #folder: string;
  readonly #lines: readonly string[];
  #process: ChildProcess | undefined = undefined;

  private constructor(port: number, folder: string, lines: readonly string[]) {
    this.port = port;
    this.#folder = folder;
    this.#lines = lines;
  }

  /** Starts one; `close` it. */
  static async start({ jetstream = true, config = [] }: NatsServerOptions = {}): Promise<NatsServer> {
    const port = await freePort();
    const folder = await mkdtemp(path.join(os.tmpdir(), 'sse-broker-nats-'));
    const storage = jetstream ? [`jetstream { store_dir: ${JSON.stringify(path.join(folder, 'store'))} }`] : [];
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
    const child = spawn('nats-server', ['-c', file], { stdio: 'ignore' });
    this.#process = child;
    await until(() => child.exitCode !== null || isListening(this.port), `nats-server on ${this.port}`);
    if (child.exitCode !== null) throw new Error(`nats-server ended with ${child.exitCode}`);
  }

  /** Asks it to end. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /** kill -9. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** SIGSTOP: its connections stay, and nothing answers. */
  freeze(): void {
    this.#process?.kill('SIGSTOP');
  }

  /** SIGCONT. */
  thaw(): void {
    this.#process?.kill('SIGCONT');
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

  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#process;
    if (child === undefined) return;
    this.#process = undefined;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    // One that is frozen ends when it runs again.
    child.kill('SIGCONT');
    await ended;
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
