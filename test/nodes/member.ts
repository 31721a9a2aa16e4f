/** A place in the cluster: its way to the bus, and the process that is there now. */
import type { Child } from '../support/child.js';
import type { TcpProxy } from '../support/tcp-proxy.js';
import type { BusKind, Look, Order, Outcome, Publication, Reply } from './node-program.js';

type Command = Order extends infer One ? (One extends Order ? Omit<One, 'id'> : never) : never;

/** What came of an order; never where its process was killed. */
interface Pending {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** Longest time that an order takes, where nothing stands still. */
const ANSWER_WITHIN_MS = 30_000;

export class Member {
  readonly proxy: TcpProxy;
  readonly #bus: BusKind;
  readonly #namespace: string;
  readonly #fork: () => Child<Reply>;
  readonly #pending = new Map<number, Pending>();
  #child: Child<Reply> | undefined = undefined;
  #lastId = 0;
  #offsetMs = 0;
  /** Where its HTTP server listens. */
  port = 0;
  /** True while a load balancer would send somebody here. */
  isLiving = false;
  /** Processes that it has had. */
  lives = 0;
  /** Heap of the living process after its first judgement. */
  firstHeap: number | undefined = undefined;
  /** Why its process ended, where nobody wanted that. */
  died: string | undefined = undefined;

  constructor(proxy: TcpProxy, bus: BusKind, namespace: string, fork: () => Child<Reply>) {
    this.proxy = proxy;
    this.#bus = bus;
    this.#namespace = namespace;
    this.#fork = fork;
  }

  async start(): Promise<void> {
    const child = this.#fork();
    this.#child = child;
    this.lives++;
    this.firstHeap = undefined;
    child.process.on('message', (reply) => {
      child.messages.length = 0;
      this.#answered(reply as Reply);
    });
    child.process.once('exit', (code, signal) => {
      if (this.#child !== child) return;
      this.isLiving = false;
      this.died = `node ended with ${code ?? signal}`;
      this.#forget(this.died);
    });
    this.port = await this.#do<number>({
      do: 'start',
      bus: this.#bus,
      port: this.proxy.port,
      namespace: this.#namespace,
    });
    if (this.#offsetMs !== 0) await this.setClock(this.#offsetMs);
    this.isLiving = true;
  }

  publish(publications: readonly Publication[]): Promise<Outcome[]> {
    return this.#do<Outcome[]>({ do: 'publish', publications });
  }

  look(): Promise<Look> {
    return this.#do<Look>({ do: 'look' });
  }

  async setClock(offsetMs: number): Promise<void> {
    this.#offsetMs = offsetMs;
    await this.#do({ do: 'setClock', offsetMs });
  }

  /** kill -9. */
  async kill(): Promise<void> {
    const child = this.#child!;
    this.#child = undefined;
    this.isLiving = false;
    this.#forget('killed');
    if (child.process.exitCode !== null || child.process.signalCode !== null) return;
    const ended = new Promise((resolve) => child.process.once('exit', resolve));
    child.process.kill('SIGKILL');
    await ended;
  }

  /** An orderly end, as at a deploy. */
  async close(reconnectWithinMs: number): Promise<void> {
    this.isLiving = false;
    await this.#do({ do: 'close', reconnectWithinMs });
    await this.kill();
  }

  /** SIGSTOP: its connections stay, and nothing answers. */
  freeze(): void {
    this.isLiving = false;
    this.#child!.process.kill('SIGSTOP');
  }

  /** SIGCONT. */
  thaw(): void {
    this.#child!.process.kill('SIGCONT');
    this.isLiving = true;
  }

  #do<T>(command: Command): Promise<T> {
    const id = ++this.#lastId;
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new Error(`no answer to ${command.do} within ${ANSWER_WITHIN_MS} ms`));
      }, ANSWER_WITHIN_MS);
      this.#pending.set(id, {
        resolve: (value) => {
          clearTimeout(timer);
          resolve(value as T);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      this.#child!.send({ ...command, id });
    });
  }

  #answered({ id, value, failure }: Reply): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (failure === undefined) pending?.resolve(value);
    else pending?.reject(new Error(failure));
  }

  #forget(reason: string): void {
    for (const { reject } of this.#pending.values()) reject(new Error(reason));
    this.#pending.clear();
  }
}
