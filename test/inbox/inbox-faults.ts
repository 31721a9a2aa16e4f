/**
 * What nodes lose: their life, between any two steps and without a word, and what the bus should have brought.
 *
 * A node of a {@link Life} that is over is a process that was killed: nothing that it asks is asked any more, nothing that it
 * asked comes back, no timer of it fires. What was under way may have been done, or not, and nobody of its own hears of it.
 */

import { messageIdOf } from '../../src/inbox/message-tag.js';
import type { InboxStore } from '../../src/inbox/store.js';
import {
  type Bus,
  type BusEvent,
  type BusReceiver,
  type BusStatus,
  type Clock,
  type Head,
  MemoryBus,
  type OutgoingEvent,
  type ReadRequest,
  type ReadResult,
  SseError,
} from '../../src/index.js';

/** How often each message was given to a bus, by its id. */
export type Publications = Map<string, number>;

export class Life {
  /** Resolves when it is over, and what was under way has come to an end. */
  readonly gone: Promise<void>;
  /** Ids of messages that it gave to the store to append, by their data. */
  readonly given = new Map<string, string>();
  readonly #publications: Publications;
  readonly #underWay = new Set<Promise<unknown>>();
  readonly #stops = new Set<() => void>();
  #isOver = false;
  #goes!: () => void;

  constructor(publications: Publications) {
    this.#publications = publications;
    this.gone = new Promise((resolve) => {
      this.#goes = resolve;
    });
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const stop of this.#stops) stop();
    void this.#rest();
  }

  clock(clock: Clock): Clock {
    const every = (ms: number, callback: () => void): (() => void) => {
      if (this.#isOver) return () => {};
      const stop = clock.every(ms, callback);
      this.#stops.add(stop);
      return () => {
        this.#stops.delete(stop);
        stop();
      };
    };
    return { now: clock.now, monotonic: clock.monotonic, every };
  }

  store(store: InboxStore): InboxStore {
    const methods: Record<string, (...args: unknown[]) => unknown> = {
      append: (...args) => {
        for (const { data, eventId } of args[0] as Parameters<InboxStore['append']>[0]) this.given.set(data, eventId);
        return this.#gated(() => store.append(...(args as Parameters<InboxStore['append']>)));
      },
      onEnqueued: async (callback) => {
        const undo = await this.#gated(() => store.onEnqueued!(() => !this.#isOver && (callback as () => void)()));
        return () => this.#gated(undo);
      },
    };
    return new Proxy(store, {
      get: (target, name) => {
        const value = Reflect.get(target, name) as unknown;
        if (typeof value !== 'function') return value;
        return methods[name as string] ?? ((...args: unknown[]) => this.#gated(() => value.apply(target, args)));
      },
    });
  }

  bus(bus: Bus): Bus {
    const told =
      <Args extends unknown[]>(tell: (...args: Args) => void) =>
      (...args: Args): void => {
        if (!this.#isOver) tell(...args);
      };
    return {
      name: bus.name,
      isShared: bus.isShared === true,
      start: (receiver) =>
        this.#gated(async () =>
          bus.start({
            deliver: told((event) => receiver.deliver(event)),
            lost: told((loss) => receiver.lost(loss)),
            status: told((status) => receiver.status(status)),
            error: told((error) => receiver.error(error)),
          }),
        ),
      publish: (event) =>
        this.#gated(async () => {
          const messageId = event.tag === undefined ? undefined : messageIdOf(event.tag);
          const id = await bus.publish(event);
          if (messageId !== undefined) {
            this.#publications.set(messageId, (this.#publications.get(messageId) ?? 0) + 1);
          }
          return id;
        }),
      join: (key) => this.#gated(async () => bus.join(key)),
      leave: (key) => {
        if (!this.#isOver) bus.leave(key);
      },
      head: () => this.#gated(async () => bus.head()),
      read: (request) => this.#gated(async () => bus.read(request)),
      status: () => bus.status(),
      close: () => this.#gated(async () => bus.close()),
    };
  }

  #gated<T>(ask: () => T | Promise<T>): Promise<T> {
    if (this.#isOver) return new Promise(() => {});
    const asked = Promise.resolve().then(ask);
    this.#underWay.add(asked);
    return new Promise((resolve, reject) => {
      const over = (answer: () => void) => (): void => {
        this.#underWay.delete(asked);
        if (!this.#isOver) answer();
      };
      asked.then(
        (value) => over(() => resolve(value))(),
        (error: unknown) => over(() => reject(error))(),
      );
    });
  }

  async #rest(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.allSettled([...this.#underWay]);
    this.#goes();
  }
}

const epochOf = (id: string): string => id.slice(0, id.lastIndexOf('-'));
const headOf = ({ id, sequence }: Head): Head => ({ id, sequence, epoch: epochOf(id) });

/** A bus that nodes of one process share, through ports that can be cut or go deaf, and that may lose all it kept. */
export class FaultHub {
  readonly #options: { readonly historySize: number; readonly clock: Clock };
  readonly #ports = new Set<FaultPort>();
  #far: MemoryBus;

  constructor(historySize: number, clock: Clock) {
    this.#options = { historySize, clock };
    this.#far = this.#newFar();
  }

  get far(): MemoryBus {
    return this.#far;
  }

  /** One more node. */
  port(): FaultPort {
    const port = new FaultPort(this, (gone) => this.#ports.delete(gone));
    this.#ports.add(port);
    return port;
  }

  /** All that was kept is lost, and another history begins. */
  forget(): void {
    this.#far.close();
    this.#far = this.#newFar();
    for (const port of this.#ports) port.begin();
  }

  #newFar(): MemoryBus {
    const far = new MemoryBus(this.#options);
    const deliver = (event: BusEvent): void => {
      for (const port of this.#ports) port.arrive({ ...event, frame: undefined });
    };
    far.start({ deliver, lost: () => {}, status: () => {}, error: () => {} });
    return far;
  }
}

/** `cut`: neither way goes anything. `deaf`: what it publishes arrives, what it should hear does not. */
export type PortFault = 'cut' | 'deaf';

export class FaultPort implements Bus {
  readonly name = 'faulty';
  readonly isShared = true;
  readonly #hub: FaultHub;
  readonly #closed: (port: FaultPort) => void;
  readonly #joined = new Set<string>();
  #fault: PortFault | undefined = undefined;
  #receiver: BusReceiver | undefined = undefined;
  #waiting: BusEvent[] = [];
  #loss: 'evicted' | 'epoch' | undefined = undefined;

  constructor(hub: FaultHub, closed: (port: FaultPort) => void) {
    this.#hub = hub;
    this.#closed = closed;
  }

  get fault(): PortFault | undefined {
    return this.#fault;
  }

  break(fault: PortFault): void {
    this.#fault = fault;
    this.#receiver?.status(this.status());
  }

  /** Tells what was lost meanwhile, before anything that comes later. */
  mend(): void {
    if (this.#fault === undefined) return;
    this.#fault = undefined;
    this.#receiver?.status(this.status());
    const reason = this.#loss;
    this.#loss = undefined;
    if (reason !== undefined) this.#receiver?.lost({ reason, head: headOf(this.#hub.far.head()) });
  }

  /** The hub begins another history. */
  begin(): void {
    this.#flush();
    if (this.#fault === undefined) this.#receiver?.lost({ reason: 'epoch', head: headOf(this.#hub.far.head()) });
    else this.#loss = 'epoch';
  }

  /** An event comes to this node. */
  arrive(event: BusEvent): void {
    if (!this.#joined.has(event.key)) return;
    if (this.#fault !== undefined) {
      if (!/^[cn]:/.test(event.key)) this.#loss ??= 'evicted';
      return;
    }
    this.#waiting.push(event);
    queueMicrotask(() => this.#flush());
  }

  async start(receiver: BusReceiver): Promise<void> {
    await null;
    this.#receiver = receiver;
    receiver.status(this.status());
  }

  async publish(event: OutgoingEvent): Promise<string> {
    await this.#travel();
    return this.#hub.far.publish({ ...event });
  }

  async join(key: string): Promise<void> {
    await this.#travel();
    this.#joined.add(key);
  }

  leave(key: string): void {
    this.#joined.delete(key);
  }

  async head(): Promise<Head> {
    await this.#travel();
    this.#tellEpoch();
    return headOf(this.#hub.far.head());
  }

  async read(request: ReadRequest): Promise<ReadResult> {
    await this.#travel();
    this.#tellEpoch();
    const result = this.#hub.far.read(request);
    const events = result.events.map((event) => ({ ...event, frame: undefined }));
    return { ...result, events, head: headOf(result.head) };
  }

  status(): BusStatus {
    return this.#fault === 'cut' ? { state: 'down', reason: 'cut' } : { state: 'up' };
  }

  close(): void {
    this.#receiver = undefined;
    this.#closed(this);
  }

  async #travel(): Promise<void> {
    await null;
    if (this.#fault === 'cut' || this.#receiver === undefined) {
      throw new SseError('SSE_ERR_BUS_UNAVAILABLE', 'the bus is cut');
    }
  }

  /** Whoever asks is told first, and answered then. */
  #tellEpoch(): void {
    if (this.#loss !== 'epoch') return;
    this.#loss = undefined;
    this.#receiver?.lost({ reason: 'epoch', head: headOf(this.#hub.far.head()) });
  }

  #flush(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const event of waiting) this.#receiver?.deliver(event);
  }
}
