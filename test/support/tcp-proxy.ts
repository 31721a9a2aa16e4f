/**
 * A TCP proxy on the loopback interface that a test can make bad: late, cut, silent, lossy, refusing.
 *
 * TCP itself never loses a byte of a connection that lives, so "drop" swallows what comes while it lasts and then cuts: what
 * a carrier sees when a network eats packets until the connection is given up.
 */
import net, { type AddressInfo, type Socket } from 'node:net';

interface Pair {
  readonly near: Socket;
  readonly far: Socket;
  /** What is to be done with chunks that are delayed, in order, and when the last of them is due. */
  readonly late: (() => void)[];
  due: number;
}

export class TcpProxy {
  #target: { readonly host: string; readonly port: number };
  readonly #server = net.createServer((socket) => this.#connect(socket));
  readonly #pairs = new Set<Pair>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #delay = 0;
  #delayBack = 0;
  #isStalled = false;
  #isDropping = false;
  #isRefusing = false;
  /** Connections ever accepted. */
  accepted = 0;
  /** When each connection came, in ms of the monotonic clock. */
  readonly acceptedAt: number[] = [];

  private constructor(target: { readonly host: string; readonly port: number }) {
    this.#target = target;
  }

  /** Listens on a free port and passes everything on to `port`. Close it. */
  static async start(port: number, host = '127.0.0.1'): Promise<TcpProxy> {
    const proxy = new TcpProxy({ host, port });
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#pairs.size;
  }

  /** New connections go to another port. */
  retarget(port: number): void {
    this.#target = { ...this.#target, port };
  }

  /** From now on bytes arrive `ms` later, in both directions; 0 for at once. */
  delay(ms: number): void {
    this.#delay = ms;
  }

  /** The same, only for what comes back from the far end. */
  delayBack(ms: number): void {
    this.#delayBack = ms;
  }

  /** Cuts every connection now, as a router does: with a reset. New ones are accepted. */
  cut(): void {
    for (const { near, far } of this.#pairs) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
  }

  /** Cuts every connection and refuses new ones until {@link mend}. */
  refuse(): void {
    this.#isRefusing = true;
    this.cut();
  }

  /** Nothing moves and nothing is lost until {@link mend}: both ends keep open connections to nobody. */
  stall(): void {
    this.#isStalled = true;
    for (const { near, far } of this.#pairs) {
      near.pause();
      far.pause();
    }
  }

  /** What comes is swallowed until {@link mend}, which then cuts the connections that lost something. */
  drop(): void {
    this.#isDropping = true;
  }

  /** Undoes everything. */
  mend(): void {
    this.#delay = 0;
    this.#delayBack = 0;
    this.#isRefusing = false;
    if (this.#isDropping) this.cut();
    this.#isDropping = false;
    if (!this.#isStalled) return;
    this.#isStalled = false;
    for (const { near, far } of this.#pairs) {
      near.resume();
      far.resume();
    }
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far.destroy();
    }
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #connect(near: Socket): void {
    if (this.#isRefusing) {
      near.resetAndDestroy();
      return;
    }
    this.accepted++;
    this.acceptedAt.push(performance.now());
    const far = net.connect(this.#target);
    const pair: Pair = { near, far, late: [], due: 0 };
    this.#pairs.add(pair);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      const later = (action: () => void) =>
        this.#later(pair, this.#delay + (from === far ? this.#delayBack : 0), action);
      from.setNoDelay(true);
      from.on('data', (bytes) => {
        if (!this.#isDropping) later(() => to.writable && to.write(bytes));
      });
      from.on('end', () => later(() => to.end()));
      from.on('error', () => {});
      from.on('close', () => {
        this.#pairs.delete(pair);
        to.destroy();
      });
    }
    if (this.#isStalled) {
      near.pause();
      far.pause();
    }
  }

  /** What is under way on a connection keeps its order, whatever the delay is by now. */
  #later(pair: Pair, ms: number, action: () => void): void {
    if (ms === 0 && pair.late.length === 0) {
      action();
      return;
    }
    const due = Math.max(performance.now() + ms, pair.due);
    pair.due = due;
    pair.late.push(action);
    // Timers of different lengths that are due in the same ms may come in any order: each takes what is next.
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      pair.late.shift()!();
    }, due - performance.now());
    this.#timers.add(timer);
  }
}
