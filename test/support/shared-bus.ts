/**
 * A bus that several brokers of one process share, through ports that a test can stop, cut and make lossy: the network
 * between nodes, without a network. Each port is a Bus of one node; the hub puts everything in one order.
 */
import {
  type Bus,
  type BusEvent,
  type BusReceiver,
  type BusStatus,
  type Head,
  MemoryBus,
  type OutgoingEvent,
  type ReadRequest,
  type ReadResult,
  SseError,
} from '../../src/index.js';

export class SharedHub {
  readonly ports: HubPort[] = [];
  /** Events that were published, by what their keys start with. */
  readonly published = new Map<string, number>();
  readonly #far: MemoryBus;

  constructor(options: ConstructorParameters<typeof MemoryBus>[0] = {}) {
    this.#far = new MemoryBus(options);
    this.#far.start({
      deliver: (event) => {
        const kind = event.key.slice(0, 2);
        this.published.set(kind, (this.published.get(kind) ?? 0) + 1);
        for (const port of this.ports) port.arrive({ ...event, frame: undefined });
      },
      lost: () => {},
      status: () => {},
      error: () => {},
    });
  }

  /** One more node. */
  port(): HubPort {
    const port = new HubPort(this.#far);
    this.ports.push(port);
    return port;
  }

  get far(): MemoryBus {
    return this.#far;
  }
}

export class HubPort implements Bus {
  readonly name = 'hub';
  readonly isShared = true;
  /** True: what comes waits, as for a process that does not run. */
  isPaused = false;
  /** Says of each event that would come whether it is lost on the way. */
  loses: (event: BusEvent) => boolean = () => false;
  /** Says of each event that goes out whether the bus refuses it. */
  refuses: (event: OutgoingEvent) => boolean = () => false;
  readonly joined = new Set<string>();
  readonly #far: MemoryBus;
  #waiting: BusEvent[] = [];
  #receiver: BusReceiver | undefined = undefined;
  #isCut = false;
  #isFlushing = false;

  constructor(far: MemoryBus) {
    this.#far = far;
  }

  /** Neither way goes anything. When it is mended, what was lost of the keys that have history is told. */
  get isCut(): boolean {
    return this.#isCut;
  }

  set isCut(isCut: boolean) {
    if (this.#isCut === isCut) return;
    this.#isCut = isCut;
    this.#receiver?.status(this.status());
    if (!isCut) this.#receiver?.lost({ reason: 'evicted', head: this.#far.head() });
  }

  async start(receiver: BusReceiver): Promise<void> {
    await null;
    this.#receiver = receiver;
    receiver.status(this.status());
  }

  async publish(event: OutgoingEvent): Promise<string> {
    await null;
    if (this.#receiver === undefined || this.#isCut || this.refuses(event)) throw unavailable();
    return this.#far.publish({ ...event });
  }

  async join(key: string): Promise<void> {
    this.joined.add(key);
    await null;
    if (this.#isCut) throw unavailable();
  }

  leave(key: string): void {
    this.joined.delete(key);
  }

  async head(): Promise<Head> {
    await null;
    return this.#far.head();
  }

  async read(request: ReadRequest): Promise<ReadResult> {
    await null;
    return this.#far.read(request);
  }

  status(): BusStatus {
    return this.#isCut ? { state: 'down', reason: 'cut' } : { state: 'up' };
  }

  close(): void {
    this.#receiver = undefined;
    this.joined.clear();
  }

  /** An event comes to this node. */
  arrive(event: BusEvent): void {
    if (!this.joined.has(event.key) || this.#isCut || this.loses(event)) return;
    this.#waiting.push(event);
    if (!this.isPaused) queueMicrotask(() => this.flush());
  }

  /** Delivers what waits. */
  flush(): void {
    if (this.#isFlushing || this.isPaused) return;
    this.#isFlushing = true;
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      this.#receiver?.deliver(next);
    }
    this.#isFlushing = false;
  }
}

function unavailable(): SseError {
  return new SseError('SSE_ERR_BUS_UNAVAILABLE', 'the bus is cut');
}

/** Lets everything that is under way between ports arrive. */
export async function quiet(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}
