/** The cases for what only some buses can do (nodes, restarts, a carrier that breaks or forgets) find a defect each. */
import { describe, expect, test } from 'vitest';
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
import { type BusFixture, type BusSetup, busConformance } from '../../src/testing/index.js';
import { type Defects, testDefects } from './defects.js';

let epochs = 0;

/** What nodes share: it outlives them, can break, and can begin anew. */
class Carrier {
  readonly nodes = new Set<Node>();
  readonly setup: BusSetup;
  isBroken = false;
  memory!: MemoryBus;
  epoch!: string;

  constructor(setup: BusSetup) {
    this.setup = setup;
    this.begin();
  }

  begin(): void {
    this.epoch = `epoch-${++epochs}`;
    this.memory = new MemoryBus(this.setup);
    const deliver = (event: BusEvent) => {
      for (const node of this.nodes) node.arrive({ ...event, frame: undefined });
    };
    this.memory.start({ deliver, lost() {}, status() {}, error() {} });
  }

  setBroken(isBroken: boolean): void {
    this.isBroken = isBroken;
    for (const node of this.nodes) node.tellStatus();
  }
}

/** A correct bus, to be broken in one place. */
class Node implements Bus {
  readonly name = 'node';
  readonly isShared: boolean = true;
  protected readonly carrier: Carrier;
  protected receiver: BusReceiver | undefined = undefined;
  protected epoch = '';
  readonly #joined = new Set<string>();

  constructor(carrier: Carrier) {
    this.carrier = carrier;
  }
  start(receiver: BusReceiver): void {
    this.receiver = receiver;
    this.epoch = this.carrier.epoch;
    this.carrier.nodes.add(this);
    this.tellStatus();
  }
  publish(event: OutgoingEvent): string {
    if (this.status().state === 'down') throw new SseError('SSE_ERR_BUS_UNAVAILABLE', 'the carrier is down');
    return this.carrier.memory.publish(event);
  }
  join(key: string): void {
    this.#joined.add(key);
  }
  leave(key: string): void {
    this.#joined.delete(key);
  }
  arrive(event: BusEvent): void {
    this.notice();
    if (this.#joined.has(event.key)) this.receiver?.deliver(event);
  }
  head(): Head {
    this.notice();
    return { ...this.carrier.memory.head(), epoch: this.carrier.epoch };
  }
  read(request: ReadRequest): ReadResult {
    this.notice();
    const page = this.carrier.memory.read(request);
    return { ...page, head: { ...page.head, epoch: this.carrier.epoch } };
  }
  status(): BusStatus {
    const isUp = this.receiver !== undefined && !this.carrier.isBroken;
    return isUp ? { state: 'up' } : { state: 'down', reason: 'the carrier is away' };
  }
  close(): void {
    this.carrier.nodes.delete(this);
    this.receiver = undefined;
  }
  tellStatus(): void {
    this.receiver?.status(this.status());
  }
  protected notice(): void {
    if (this.epoch === this.carrier.epoch) return;
    this.epoch = this.carrier.epoch;
    this.receiver?.lost({ reason: 'epoch', head: { ...this.carrier.memory.head(), epoch: this.epoch } });
  }
}

type Make = (carrier: Carrier, nth: number) => Node;

const ABILITIES = { shared: true, durable: true, breaks: true, loses: true, forgetsExpired: true } as const;

/** The names of the cases that fail. `make`: the first node, the others, and those after a restart. */
async function failures(make: Make): Promise<string[]> {
  const create = (setup: BusSetup): BusFixture => {
    const carrier = new Carrier(setup);
    let nodes = 0;
    const another = () => make(carrier, ++nodes);
    return {
      bus: another(),
      another,
      reopen: another,
      breakCarrier: () => carrier.setBroken(true),
      mendCarrier: () => carrier.setBroken(false),
      loseHistory: () => carrier.begin(),
    };
  };
  const failed: string[] = [];
  for (const { name, run } of busConformance({ create, ...ABILITIES, timeoutMs: 100 })) {
    await run().catch(() => failed.push(name));
  }
  return failed;
}

const defects: Defects<Make> = {
  'does not say that it is up': [
    /^status/,
    (carrier) =>
      new (class extends Node {
        override tellStatus(): void {
          if (this.carrier.isBroken) super.tellStatus();
        }
      })(carrier),
  ],
  'makes the events of a page anew': [
    /^two readers/,
    (carrier) =>
      new (class extends Node {
        override read(request: ReadRequest) {
          const page = super.read(request);
          return { ...page, events: page.events.map((event) => ({ ...event })) };
        }
      })(carrier),
  ],
  'loses some of what others publish': [
    /^shared: every node/,
    (carrier, nth) =>
      new (class extends Node {
        override arrive(event: BusEvent): void {
          if (nth === 1 || event.sequence % 50 !== 0) super.arrive(event);
        }
      })(carrier),
  ],
  'is joined a moment too late': [
    /^shared: a node that has joined/,
    (carrier, nth) =>
      new (class extends Node {
        #late: string[] = [];
        override join(key: string): void {
          if (nth === 1) super.join(key);
          else this.#late.push(key);
        }
        override arrive(event: BusEvent): void {
          super.arrive(event);
          for (const key of this.#late.splice(0)) super.join(key);
        }
      })(carrier),
  ],
  'does not say that others may publish': [
    /^shared: says so/,
    (carrier) =>
      new (class extends Node {
        override readonly isShared = false;
      })(carrier),
  ],
  'knows only cursors of its own': [
    /^shared: an id of one node/,
    (carrier, nth) =>
      new (class extends Node {
        override read(request: ReadRequest) {
          return super.read(nth === 1 ? request : { ...request, after: 'another' });
        }
      })(carrier),
  ],
  'begins anew after a restart': [
    /^durable: after a restart/,
    (carrier, nth) => new Node(nth === 1 ? carrier : new Carrier(carrier.setup)),
  ],
  'forgets over a restart what it dropped': [
    /^durable: what was dropped/,
    (carrier, nth) =>
      new (class extends Node {
        override read(request: ReadRequest) {
          const { events, more, head, ...loss } = super.read(request);
          return nth === 1 ? { events, more, head, ...loss } : { events, more, head };
        }
      })(carrier),
  ],
  'takes what its carrier does not take': [
    /^down/,
    (carrier) =>
      new (class extends Node {
        override publish(event: OutgoingEvent) {
          return this.carrier.memory.publish(event);
        }
      })(carrier),
  ],
  'does not say that it is down': [
    /^down/,
    (carrier) =>
      new (class extends Node {
        override tellStatus(): void {
          if (!this.carrier.isBroken) super.tellStatus();
        }
      })(carrier),
  ],
  'does not name its epoch': [
    /^epoch: every head/,
    (carrier) =>
      new (class extends Node {
        override head() {
          const { id, sequence } = super.head();
          return { id, sequence };
        }
      })(carrier),
  ],
  'reads another history before it has told of it': [
    /^epoch: read/,
    (carrier) =>
      new (class extends Node {
        override read(request: ReadRequest) {
          setImmediate(() => this.notice());
          const page = this.carrier.memory.read(request);
          return { ...page, head: { ...page.head, epoch: this.carrier.epoch } };
        }
      })(carrier),
  ],
  'has the head of another history before it has told of it': [
    /^epoch: head/,
    (carrier) =>
      new (class extends Node {
        override head() {
          setImmediate(() => this.notice());
          return { ...this.carrier.memory.head(), epoch: this.carrier.epoch };
        }
      })(carrier),
  ],
  'delivers of another history before it has told of it': [
    /^epoch: a node that learns late/,
    (carrier) =>
      new (class extends Node {
        #isArriving = false;
        override arrive(event: BusEvent): void {
          this.#isArriving = true;
          super.arrive(event);
          this.#isArriving = false;
          this.notice();
        }
        protected override notice(): void {
          if (!this.#isArriving) super.notice();
        }
      })(carrier),
  ],
};

test('without a defect it passes every case', async () => {
  expect(await failures((carrier) => new Node(carrier))).toEqual([]);
});

describe('a bus that', () => {
  testDefects(defects, failures, () => {
    const create = (): BusFixture => ({ bus: new MemoryBus() });
    const abilities = /^(status|two readers|shared|durable|down|epoch)/;
    const names = busConformance({ create, ...ABILITIES }).map(({ name }) => name);
    return names.filter((name) => abilities.test(name));
  });
});
