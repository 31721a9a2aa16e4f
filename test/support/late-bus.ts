/**
 * A bus across a pretended network: every call travels there, is served, and travels back, and every delivery travels too,
 * each as late as the test says. Only what the contract in src/core/bus.ts promises holds: one order, FIFO deliveries of
 * the keys that are joined, answers whenever.
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
} from '../../src/index.js';

type Kind = 'start' | 'publish' | 'join' | 'head' | 'read';

interface Call {
  readonly kind: Kind;
  /** What the far end does; present until it is served. */
  serve: (() => void) | undefined;
  answer: () => void;
}

export class LateBus implements Bus {
  readonly name = 'late';
  /** Channel keys whose events are delivered. */
  readonly joined = new Set<string>();
  /** Every read that was asked. */
  readonly reads: ReadRequest[] = [];
  readonly #far: MemoryBus;
  readonly #calls: Call[] = [];
  readonly #deliveries: BusEvent[] = [];
  readonly #left = new Map<string, number>();
  readonly #failing = new Map<Kind, unknown>();
  #receiver: BusReceiver | undefined;
  isClosed = false;

  constructor(options: { historySize?: number } = {}) {
    this.#far = new MemoryBus(options);
    this.#far.start({
      deliver: (event) => {
        // What travels is a copy, in order of publishing; frames do not travel.
        if (this.joined.has(event.key)) this.#deliveries.push({ ...event, frame: undefined });
      },
      lost: () => {},
      status: () => {},
      error: () => {},
    });
  }

  get receiver(): BusReceiver {
    return this.#receiver!;
  }

  /** Things that are under way. */
  get pending(): number {
    return this.#calls.length + (this.#deliveries.length > 0 ? 1 : 0);
  }

  /** The next call of that kind is answered with `error`. */
  fail(kind: Kind, error: unknown): void {
    this.#failing.set(kind, error);
  }

  start(receiver: BusReceiver): Promise<void> {
    this.#receiver = receiver;
    return this.#call('start', () => {});
  }

  publish(event: OutgoingEvent): Promise<string> {
    return this.#call('publish', () => this.#far.publish({ ...event }));
  }

  join(key: string): Promise<void> {
    const left = this.#left.get(key);
    return this.#call('join', () => {
      // Joins and leaves of a key travel one behind the other.
      if (this.#left.get(key) === left) this.joined.add(key);
    });
  }

  leave(key: string): void {
    this.#left.set(key, (this.#left.get(key) ?? 0) + 1);
    this.joined.delete(key);
  }

  head(): Promise<Head> {
    return this.#call('head', () => this.#far.head());
  }

  read(request: ReadRequest): Promise<ReadResult> {
    this.reads.push(request);
    return this.#call('read', () => {
      const result = this.#far.read(request);
      return { ...result, events: result.events.map((event) => ({ ...event, frame: undefined })) };
    });
  }

  status(): BusStatus {
    return { state: 'up' };
  }

  close(): void {
    this.isClosed = true;
  }

  /** Publishes at the far end, as another node does. */
  publishElsewhere(event: OutgoingEvent): string {
    return this.#far.publish({ ...event });
  }

  /** Lets one thing happen: the `which`th of those under way. */
  async step(which = 0): Promise<void> {
    const { pending } = this;
    if (pending === 0) return;
    const at = which % pending;
    if (at === this.#calls.length) {
      this.#receiver?.deliver(this.#deliveries.shift()!);
    } else {
      let call = this.#calls[at]!;
      // Publishes of one node travel one behind the other.
      if (call.kind === 'publish') call = this.#calls.find(({ kind }) => kind === 'publish')!;
      this.#advance(call);
    }
    for (let i = 0; i < 8; i++) await null;
  }

  /** The next call of that kind is served; with `answer`, answered as well. */
  async serve(kind: Kind, answer = true): Promise<void> {
    const call = this.#calls.find((one) => one.kind === kind);
    if (call === undefined) throw new Error(`no ${kind} is under way`);
    this.#advance(call);
    if (answer && this.#calls.includes(call)) this.#advance(call);
    for (let i = 0; i < 8; i++) await null;
  }

  /** Delivers what travels. */
  deliver(count = Number.POSITIVE_INFINITY): void {
    for (let i = 0; i < count && this.#deliveries.length > 0; i++) this.#receiver!.deliver(this.#deliveries.shift()!);
  }

  /** Lets everything arrive. */
  async settle(): Promise<void> {
    while (this.pending > 0) await this.step();
    for (let i = 0; i < 8; i++) await null;
  }

  #advance(call: Call): void {
    if (call.serve !== undefined) {
      call.serve();
      call.serve = undefined;
      return;
    }
    this.#calls.splice(this.#calls.indexOf(call), 1);
    call.answer();
  }

  #call<T>(kind: Kind, serve: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      let result: T;
      this.#calls.push({
        kind,
        serve: () => {
          result = serve();
        },
        answer: () => {
          if (!this.#failing.has(kind)) {
            resolve(result);
            return;
          }
          const error = this.#failing.get(kind);
          this.#failing.delete(kind);
          reject(error);
        },
      });
    });
  }
}
