/** The conformance suite finds what is wrong with a bus: one defect each, and the cases that must tell. */
import { describe, expect, test } from 'vitest';
import { type Bus, type BusReceiver, MemoryBus, type OutgoingEvent, type ReadRequest } from '../../src/index.js';
import { type BusSetup, busConformance } from '../../src/testing/index.js';
import { type Defects, testDefects } from './defects.js';

/** A correct bus, to be broken in one place. */
class Broken implements Bus {
  readonly name = 'broken';
  protected readonly inner: MemoryBus;
  protected receiver: BusReceiver | undefined;

  constructor(setup: BusSetup) {
    this.inner = new MemoryBus(setup);
  }
  start(receiver: BusReceiver): void | Promise<void> {
    this.receiver = receiver;
    this.inner.start({
      deliver: (event) => this.deliver(receiver, event),
      lost: (loss) => receiver.lost(loss),
      status: (status) => receiver.status(status),
      error: (error) => receiver.error(error),
    });
  }
  protected deliver(receiver: BusReceiver, event: Parameters<BusReceiver['deliver']>[0]): void {
    receiver.deliver(event);
  }
  publish(event: OutgoingEvent): string | Promise<string> {
    return this.inner.publish(event);
  }
  join(_key: string): void | Promise<void> {}
  leave(_key: string): void {}
  head() {
    return this.inner.head();
  }
  read(request: ReadRequest): ReturnType<MemoryBus['read']> {
    return this.inner.read(request);
  }
  status() {
    return this.inner.status();
  }
  close(): void | Promise<void> {
    return this.inner.close();
  }
}

/** The names of the cases that fail. */
async function failures(make: (setup: BusSetup) => Bus): Promise<string[]> {
  const failed: string[] = [];
  const cases = busConformance({ create: (setup) => ({ bus: make(setup) }), forgetsExpired: true, timeoutMs: 100 });
  for (const { name, run } of cases) await run().catch(() => failed.push(name));
  return failed;
}

const defects: Defects<(setup: BusSetup) => Bus> = {
  'delivers twice': [
    /^once/,
    (setup) =>
      new (class extends Broken {
        protected override deliver(...[receiver, event]: Parameters<Broken['deliver']>): void {
          receiver.deliver(event);
          receiver.deliver(event);
        }
      })(setup),
  ],
  'delivers some too late': [
    /^order/,
    (setup) =>
      new (class extends Broken {
        protected override deliver(...[receiver, event]: Parameters<Broken['deliver']>): void {
          if (event.sequence % 7 === 0) setImmediate(() => receiver.deliver(event));
          else receiver.deliver(event);
        }
      })(setup),
  ],
  'loses one': [
    /^cut points/,
    (setup) =>
      new (class extends Broken {
        protected override deliver(...[receiver, event]: Parameters<Broken['deliver']>): void {
          if (event.sequence !== 300) receiver.deliver(event);
        }
      })(setup),
  ],
  'is not joined yet when join returns': [
    /^interest/,
    (setup) =>
      new (class extends Broken {
        readonly #joined = new Set<string>();
        override join(key: string): void {
          setTimeout(() => this.#joined.add(key), 20);
        }
        protected override deliver(...[receiver, event]: Parameters<Broken['deliver']>): void {
          if (this.#joined.has(event.key)) receiver.deliver(event);
        }
      })(setup),
  ],
  'never tells a loss': [
    /^evicted/,
    (setup) =>
      new (class extends Broken {
        override read(request: ReadRequest) {
          const { events, more, head } = this.inner.read(request);
          return { events, more, head };
        }
      })(setup),
  ],
  'tells a loss always': [
    /^evicted/,
    (setup) =>
      new (class extends Broken {
        override read(request: ReadRequest) {
          const result = this.inner.read(request);
          return { ...result, loss: result.loss ?? ('evicted' as const) };
        }
      })(setup),
  ],
  'forgets that more follow': [
    /^read: pages/,
    (setup) =>
      new (class extends Broken {
        override read(request: ReadRequest) {
          return { ...this.inner.read(request), more: false };
        }
      })(setup),
  ],
  'says that more follow when none do': [
    /^read/,
    (setup) =>
      new (class extends Broken {
        override read(request: ReadRequest) {
          const result = this.inner.read(request);
          return { ...result, more: result.events.length === request.limit };
        }
      })(setup),
  ],
  'one history for all keys': [
    /^read: gives/,
    (setup) =>
      new (class extends Broken {
        override read(request: ReadRequest) {
          return this.inner.read({ ...request, keys: ['t::a', 't::b', 'u::quiet'] });
        }
      })(setup),
  ],
  'a head that is ahead': [
    /^head/,
    (setup) =>
      new (class extends Broken {
        override head() {
          const { id, sequence } = this.inner.head();
          return { id: `${id.slice(0, id.lastIndexOf('-'))}-${sequence + 1}`, sequence: sequence + 1 };
        }
      })(setup),
  ],
  'ids with a space': [
    /^ids/,
    (setup) =>
      new (class extends Broken {
        override publish(event: OutgoingEvent) {
          return `${this.inner.publish(event)} x`;
        }
      })(setup),
  ],
  'throws on garbage': [
    /^unknown/,
    (setup) =>
      new (class extends Broken {
        override read(request: ReadRequest) {
          if (!request.after.includes('-')) throw new Error('bad id');
          return this.inner.read(request);
        }
      })(setup),
  ],
  'delivers after close': [
    /^close/,
    (setup) =>
      new (class extends Broken {
        override close(): void {}
      })(setup),
  ],
  'misses what nobody wants any more': [
    /^ttl/,
    (setup) =>
      new (class extends Broken {
        readonly #expiries = new Map<string, number>();
        override publish(event: OutgoingEvent) {
          // Its history takes every event for one that lasts.
          this.#expiries.set(event.data, event.expiresAt);
          return this.inner.publish({ ...event, expiresAt: 0 });
        }
        protected override deliver(...[receiver, event]: Parameters<Broken['deliver']>): void {
          receiver.deliver({ ...event, expiresAt: this.#expiries.get(event.data)! });
        }
      })(setup),
  ],
  'tells a loss of what was sent to one client': [
    /^live only/,
    (setup) =>
      new (class extends Broken {
        override read(request: ReadRequest) {
          const result = this.inner.read(request);
          const isOwn = request.keys.some((key) => key.startsWith('c:'));
          return isOwn ? { ...result, loss: 'evicted' as const, completeAfter: result.head.id } : result;
        }
      })(setup),
  ],
  'puts what brokers tell each other out of order': [
    /^live only/,
    (setup) =>
      new (class extends Broken {
        protected override deliver(...[receiver, event]: Parameters<Broken['deliver']>): void {
          if (event.key === 'n::node') setImmediate(() => receiver.deliver(event));
          else receiver.deliver(event);
        }
      })(setup),
  ],
  'cuts data at NUL': [
    /^an event arrives/,
    (setup) =>
      new (class extends Broken {
        override publish(event: OutgoingEvent) {
          return this.inner.publish({ ...event, data: event.data.split('\0')[0]! });
        }
      })(setup),
  ],
};

describe('a bus that', () => {
  testDefects(defects, failures, () => {
    const create = (setup: BusSetup) => ({ bus: new MemoryBus(setup) });
    const names = busConformance({ create, forgetsExpired: true }).map(({ name }) => name);
    // Of these bus-conformance-abilities.test.ts says so.
    return names.filter((name) => !/^(status|two readers)/.test(name));
  });
});

test('without a defect passes every case', async () => {
  expect(await failures((setup) => new Broken(setup))).toEqual([]);
});

test('cases have names of their own, and depend on what the bus can do', () => {
  const create = (setup: BusSetup) => ({ bus: new MemoryBus(setup) });
  const names = (options: object) => busConformance({ create, ...options }).map(({ name }) => name);
  expect(new Set(names({ shared: true, durable: true, breaks: true })).size).toBe(
    names({ shared: true, durable: true, breaks: true }).length,
  );
  expect(names({ history: false }).some((name) => name.startsWith('evicted'))).toBe(false);
  expect(names({ shared: true }).filter((name) => name.startsWith('shared'))).toHaveLength(4);
  expect(names({}).some((name) => /^(shared|durable|down)/.test(name))).toBe(false);
});
