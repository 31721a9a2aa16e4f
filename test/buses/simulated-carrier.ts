/**
 * A lossy carrier with a history, in memory and step by step: what Redis or NATS are to a {@link Sequencer}. Deliveries and
 * answers are under way until the test lets them arrive; what arrives keeps its order, and anything may be lost.
 */
import { type Recovery, type RecoveryRequest, Sequencer } from '../../src/buses/sequencer.js';
import type { BusEvent, Loss } from '../../src/index.js';

interface Stored {
  readonly event: BusEvent;
  readonly previous: number;
}

interface Travelling {
  readonly event: BusEvent;
  readonly previous: number | undefined;
  readonly epoch: string;
}

/** What the node told, in order. */
export type Told = { readonly event: BusEvent } | { readonly loss: Loss; readonly joined: readonly string[] };

export class SimulatedCarrier {
  /** Events that history keeps per key. */
  readonly historySize: number;
  readonly told: Told[] = [];
  readonly errors: unknown[] = [];
  readonly sequencer: Sequencer;
  epoch = 'e1';
  sequence = 0;
  /** Deliveries to lose from now on. */
  losing = 0;
  isConnected = true;
  /** Recoveries that were asked. */
  recoveries = 0;
  readonly #history = new Map<string, Stored[]>();
  readonly #last = new Map<string, number>();
  readonly #travelling: Travelling[] = [];
  readonly #subscribed = new Set<string>();
  #published = 0;
  #waiting: (() => void)[] = [];

  constructor(historySize: number, limits?: { readonly events: number; readonly characters: number }) {
    this.historySize = historySize;
    this.sequencer = new Sequencer(
      {
        deliver: (event) => this.told.push({ event }),
        lost: (loss) => this.told.push({ loss, joined: [...this.sequencer.keys()] }),
        recover: (request) => this.#recover(request),
        error: (error) => this.errors.push(error),
      },
      limits,
    );
    this.sequencer.begin(this.epoch, this.head);
  }

  get head() {
    return { id: `${this.epoch}-${this.sequence}`, sequence: this.sequence };
  }

  /** `timestamp` counts all that was ever published. */
  publish(key: string, isLiveOnly = false): BusEvent {
    const sequence = ++this.sequence;
    const id = `${this.epoch}-${sequence}`;
    const timestamp = ++this.#published;
    const event: BusEvent = { key, id, sequence, event: 'e', data: '', json: false, timestamp, expiresAt: 0 };
    const previous = isLiveOnly ? undefined : (this.#last.get(key) ?? 0);
    if (previous !== undefined) {
      this.#last.set(key, sequence);
      const kept = this.#history.get(key) ?? [];
      this.#history.set(key, [...kept, { event, previous }].slice(-this.historySize));
    }
    if (!this.#subscribed.has(key) || !this.isConnected) return event;
    if (this.losing > 0) this.losing--;
    else this.#travelling.push({ event, previous, epoch: this.epoch });
    return event;
  }

  subscribe(key: string): void {
    this.sequencer.expect(key);
    this.#subscribed.add(key);
  }

  leave(key: string): void {
    this.#subscribed.delete(key);
    this.sequencer.leave(key);
  }

  /** Lets up to `count` deliveries arrive. */
  arrive(count = Number.POSITIVE_INFINITY): void {
    for (let i = 0; i < count && this.#travelling.length > 0; i++) {
      const { event, previous, epoch } = this.#travelling.shift()!;
      this.sequencer.accept(event, previous, epoch);
    }
  }

  disconnect(): void {
    this.isConnected = false;
    this.#travelling.length = 0;
    this.sequencer.suspend();
  }

  connect(): void {
    if (this.isConnected) return;
    this.isConnected = true;
    this.sequencer.recover().catch((error: unknown) => this.errors.push(error));
  }

  /** Everything is forgotten, and another count begins. */
  flush(): void {
    this.#history.clear();
    this.#last.clear();
    this.epoch = `e${Number(this.epoch.slice(1)) + 1}`;
    this.sequence = 0;
  }

  /** Lets answers go one step on. */
  async step(): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const go of waiting) go();
    for (let i = 0; i < 12; i++) await null;
  }

  /** Lets everything arrive. */
  async settle(): Promise<void> {
    this.losing = 0;
    this.connect();
    do {
      this.arrive();
      await this.step();
    } while (this.#waiting.length > 0 || this.#travelling.length > 0);
  }

  async #recover(request: RecoveryRequest): Promise<Recovery> {
    this.recoveries++;
    await this.#wait();
    const { epoch, head } = this;
    const missed: Stored[] = [];
    const lost: string[] = [];
    let lostThrough = 0;
    for (const key of epoch === request.epoch ? request.keys() : []) {
      const seen = request.seen(key)!;
      const kept = (this.#history.get(key) ?? []).filter(({ event }) => event.sequence > seen);
      const through = kept[0]?.previous ?? this.#last.get(key) ?? 0;
      if (through > seen) {
        lost.push(key);
        lostThrough = Math.max(lostThrough, through);
      }
      missed.push(...kept);
    }
    await this.#wait();
    if (!this.isConnected) throw new Error('not connected');
    // The barrier: what was published before has arrived.
    while (this.#travelling.some(({ event }) => event.sequence <= head.sequence || epoch !== this.epoch))
      this.arrive(1);
    if (epoch !== request.epoch) return { epoch, head, loss: { reason: 'epoch', head } };
    const events = missed.map(({ event }) => event).sort((a, b) => a.sequence - b.sequence);
    const place = { id: `${epoch}-${lostThrough}`, sequence: lostThrough };
    const wait = () => this.#wait();
    async function* pages() {
      for (let i = 0; i < events.length; i += 3) {
        await wait();
        yield events.slice(i, i + 3);
      }
    }
    return {
      epoch,
      head,
      ...(lost.length > 0 && { loss: { reason: 'evicted', keys: lost, head: place } }),
      pages: pages(),
    };
  }

  #wait(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
