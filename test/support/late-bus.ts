/**
 * A bus across a pretended network: every call travels there, is served, and travels back, and every delivery travels too,
 * each as late as the test says. Only what the contract in src/core/bus.ts promises holds: one order, FIFO deliveries of
 * the keys that are joined, answers whenever; an answer of another epoch only after that was told.
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

/** Another history that has begun at the far end: the node is told when this arrives. */
interface Beginning {
  readonly far: MemoryBus;
  readonly start: Head;
  readonly isRepaired: boolean;
}

/** `epoch-sequence`: what the far end calls an event. */
const epochOf = (id: string): string => id.slice(0, id.lastIndexOf('-'));
const headOf = ({ id, sequence }: Head): Head => ({ id, sequence, epoch: epochOf(id) });

export class LateBus implements Bus {
  readonly name = 'late';
  /** Channel keys whose events are delivered. */
  readonly joined = new Set<string>();
  /** Every read that was asked. */
  readonly reads: ReadRequest[] = [];
  /** False: answers do not wait until the node was told of their epoch, against the contract. */
  readonly #tellsFirst: boolean;
  readonly #historySize: number | undefined;
  #far: MemoryBus;
  readonly #calls: Call[] = [];
  #deliveries: (BusEvent | Beginning)[] = [];
  readonly #left = new Map<string, number>();
  readonly #failing = new Map<Kind, unknown>();
  #receiver: BusReceiver | undefined;
  isClosed = false;

  constructor({ historySize, tellsFirst = true }: { historySize?: number; tellsFirst?: boolean } = {}) {
    this.#historySize = historySize;
    this.#tellsFirst = tellsFirst;
    this.#far = this.#newFar();
  }

  #newFar(): MemoryBus {
    const far = new MemoryBus({ historySize: this.#historySize });
    far.start({
      deliver: (event) => {
        // What travels is a copy, in order of publishing; frames do not travel.
        if (this.joined.has(event.key)) this.#deliveries.push({ ...event, frame: undefined });
      },
      lost: () => {},
      status: () => {},
      error: () => {},
    });
    return far;
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
    return this.#call(
      'head',
      () => headOf(this.#far.head()),
      ({ epoch }) => this.#tell(epoch!),
    );
  }

  read(request: ReadRequest): Promise<ReadResult> {
    this.reads.push(request);
    return this.#call(
      'read',
      () => {
        const result = this.#far.read(request);
        const events = result.events.map((event) => ({ ...event, frame: undefined }));
        return { ...result, head: headOf(result.head), events };
      },
      ({ head }) => this.#tell(head.epoch!),
    );
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

  /** Where the far end is. */
  get farHead(): Head {
    return headOf(this.#far.head());
  }

  /**
   * The far end loses everything and begins another history, counting from one. `isRepaired`: the node gets what is published
   * there before it knows; else that is lost too.
   */
  loseHistory(isRepaired = true): void {
    this.#far = this.#newFar();
    this.#deliveries.push({ far: this.#far, start: this.farHead, isRepaired });
  }

  /** Lets one thing happen: the `which`th of those under way. */
  async step(which = 0): Promise<void> {
    const { pending } = this;
    if (pending === 0) return;
    const at = which % pending;
    if (at === this.#calls.length) {
      this.deliver(1);
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
    for (let i = 0; i < count && this.#deliveries.length > 0; i++) {
      const next = this.#deliveries.shift()!;
      if ('far' in next) this.#begin(next);
      else this.#receiver!.deliver(next);
    }
  }

  #begin({ far, start, isRepaired }: Beginning): void {
    const head = isRepaired ? start : headOf(far.head());
    this.#deliveries = this.#deliveries.filter(
      (one) => 'far' in one || epochOf(one.id) !== head.epoch || one.sequence > head.sequence,
    );
    this.#receiver?.lost({ reason: 'epoch', head });
  }

  /** The node finds out by an answer that another history has begun. */
  #tell(epoch: string): void {
    if (!this.#tellsFirst) return;
    while (this.#deliveries.some((one) => 'far' in one && one.start.epoch === epoch)) this.deliver(1);
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

  #call<T>(kind: Kind, serve: () => T, before?: (result: T) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      let result: T;
      this.#calls.push({
        kind,
        serve: () => {
          result = serve();
        },
        answer: () => {
          if (!this.#failing.has(kind)) {
            before?.(result);
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
