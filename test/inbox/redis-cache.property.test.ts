/**
 * Whatever several nodes do at once, and whichever of them dies in the middle of it: when a write has resolved, every node counts
 * as the database does.
 */
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { CachedStore } from '../../src/inbox/cached-store.js';
import { MemoryStore } from '../../src/inbox/memory-store.js';
import type { InboxStore, Reader, Receiver } from '../../src/inbox/store.js';
import { toEverybody, toGroup, toUser } from '../../src/testing/store-case.js';
import { newNamespace } from '../buses/redis-clients.js';
import { startRedis } from '../buses/redis-nodes.js';
import { until } from '../support/until.js';
import { ioredis, messageTo, nodeRedis, readyNamespace } from './redis-caches.js';

const LEASES = { nodeLease: 300, writeLease: 600, deadNodeAfter: 700, commandTimeout: 250 };
const NODES = 3;
const START = 1_700_000_000_000;
const AGE = 1_000_000;
const USERS = ['anna', 'ben'];
const READERS: readonly Reader[] = USERS.flatMap((userId) => [
  { userId, tenants: [''] },
  { userId, tenants: ['', 'acme'] },
]);
/** Gets messages, of which none is old, and reads none: its count never falls. */
const GROWING: Reader = { userId: 'growing', tenants: [''] };

const receiver: fc.Arbitrary<Receiver> = fc.oneof(
  fc.tuple(fc.constantFrom(...USERS), fc.constantFrom('', 'acme')).map(([name, tenantId]) => toUser(name, tenantId)),
  fc.tuple(fc.constantFrom('g', 'h'), fc.constantFrom('', 'acme')).map(([name, tenantId]) => toGroup(name, tenantId)),
  // Not to those without a tenant: the growing one is there.
  fc.constant(toEverybody('acme')),
);

const action = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      receivers: fc.array(receiver, { minLength: 1, maxLength: 3 }),
      ttl: fc.constantFrom(0, 0, 3),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('grow' as const) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('count' as const), reader: fc.constantFrom(...READERS) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('read' as const), reader: fc.constantFrom(...READERS) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom('subscribe' as const, 'unsubscribe' as const),
      user: fc.constantFrom(...USERS),
      tenant: fc.constantFrom('', 'acme'),
      group: fc.constantFrom('g', 'h'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('clean' as const), isOld: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('relay' as const), receiver }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('die' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('flush' as const) }) },
);

const step = fc.record({
  node: fc.nat(NODES - 1),
  action,
  /** Turns of the event loop until the database has it, and until it answers. */
  turns: fc.tuple(fc.nat(6), fc.nat(6)),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await turn();
}

/** A node whose database takes its time, and which can die. */
class Node {
  /** Calls of the database that it has not carried out. */
  static asked = 0;
  readonly store: CachedStore;
  isDead = false;
  /** What its next calls of the database take. */
  takes: readonly [number, number] = [0, 0];
  readonly #close: () => void;

  private constructor(make: (store: InboxStore) => CachedStore, inner: MemoryStore, close: () => void) {
    const late = new Proxy(inner, {
      get: (target, name) => {
        const value = Reflect.get(target, name) as unknown;
        if (typeof value !== 'function') return value;
        return async (...args: unknown[]) => {
          const [before, after] = this.takes;
          if (this.isDead) return new Promise(() => {});
          Node.asked++;
          await turns(before);
          // What a process asked for just before it died is done all the same.
          let result: unknown;
          try {
            result = await (value as (...all: unknown[]) => unknown).apply(target, args);
          } finally {
            Node.asked--;
          }
          await turns(after);
          return this.isDead ? new Promise(() => {}) : result;
        };
      },
    });
    this.store = make(late);
    this.#close = close;
  }

  static async start(inner: MemoryStore, port: number, namespace: string, index: number): Promise<Node> {
    const { client, close } = await (index % 2 === 0 ? ioredis : nodeRedis).connect(port);
    onTestFinished(close);
    const node = new Node((store) => new CachedStore({ client, namespace, store, ...LEASES }), inner, close);
    await node.store.start();
    return node;
  }

  /** It says no more, to anybody. */
  die(): void {
    this.isDead = true;
    this.#close();
  }
}

class World {
  now = START;
  /** Messages to the growing one that are stored for certain, and that may be. */
  grown = 0;
  growing = 0;
  readonly #inner = new MemoryStore();
  readonly #nodes: Node[] = [];
  #isRelayLost = false;

  constructor(
    readonly port: number,
    readonly namespace: string,
    readonly flush: () => Promise<unknown>,
  ) {}

  async open(): Promise<void> {
    for (let i = 0; i < NODES; i++) this.#nodes.push(await Node.start(this.#inner, this.port, this.namespace, i));
  }

  async run({ node: index, action: one, turns: takes }: Step): Promise<void> {
    const node = this.#nodes[index]!;
    const { store } = node;
    node.takes = takes;
    const { now } = this;
    if (one.kind === 'append') {
      const expiresAt = one.ttl === 0 ? 0 : now + one.ttl;
      await this.#alive(
        node,
        store.append(
          one.receivers.map((to) => messageTo(to, { createdAt: now, expiresAt })),
          `n${index}`,
        ),
      );
    } else if (one.kind === 'grow') {
      this.growing++;
      const isDone = await this.#alive(
        node,
        store.append([messageTo(toUser('growing'), { createdAt: now + AGE })], 'n'),
      );
      if (isDone) this.grown++;
      const least = this.grown;
      const other = this.#nodes[(index + 1) % NODES]!;
      const count = await this.#alive(other, other.store.unreadCount(GROWING, now));
      if (count === undefined) return;
      expect(count).toBeGreaterThanOrEqual(least);
      expect(count).toBeLessThanOrEqual(this.growing);
    } else if (one.kind === 'count') {
      await this.#alive(node, store.unreadCount(one.reader, now));
    } else if (one.kind === 'read') {
      await this.#alive(node, store.markRead(one.reader, 'all', now));
    } else if (one.kind === 'subscribe') {
      await this.#alive(node, store.subscribe(one.user, one.tenant, one.group, undefined));
    } else if (one.kind === 'unsubscribe') {
      await this.#alive(node, store.unsubscribe(one.user, one.tenant, one.group));
    } else if (one.kind === 'clean') {
      const createdBefore = one.isOld ? now : 0;
      await this.#alive(node, store.cleanup({ now, readBefore: now, createdBefore, limit: 50 }));
    } else if (one.kind === 'relay') {
      const tx = this.#inner.begin();
      await this.#inner.enqueue(tx, [messageTo(one.receiver, { createdAt: now })]);
      tx.commit();
      const relayed = await this.#alive(node, store.relay({ node: `n${index}`, limit: 10, now }));
      // Nobody was told of it: the others notice when its lease is over.
      if (relayed === undefined) this.#isRelayLost = true;
    } else if (one.kind === 'flush') {
      await this.flush();
    } else {
      node.die();
      this.#nodes[index] = await Node.start(this.#inner, this.port, this.namespace, index);
    }
  }

  /** Every node says what the database says, and then has it out of Redis: so that the next round has something to make wrong. */
  async check(): Promise<void> {
    for (const node of this.#nodes) {
      node.takes = [0, 0];
      for (const reader of [...READERS, GROWING]) {
        const expected = await this.#inner.unreadCount(reader, this.now);
        if (this.#isRelayLost) await until(async () => (await node.store.unreadCount(reader, this.now)) === expected);
        expect(await node.store.unreadCount(reader, this.now)).toBe(expected);
        await until(
          async () => {
            const { hits } = node.store.getStats();
            expect(await node.store.unreadCount(reader, this.now)).toBe(expected);
            return node.store.getStats().hits > hits;
          },
          'a count out of Redis',
          30_000,
        );
      }
    }
    this.#isRelayLost = false;
  }

  async close(): Promise<void> {
    for (const { store } of this.#nodes) await store.close();
  }

  /** What it resolves to; undefined where the node dies first. */
  async #alive<T>(node: Node, result: Promise<T>): Promise<T | undefined> {
    let isOver = false;
    const settled = result.finally(() => {
      isOver = true;
    });
    settled.catch(() => {});
    while (!isOver && !node.isDead) await new Promise((resolve) => setTimeout(resolve, 1));
    return node.isDead ? undefined : settled;
  }
}

test('after any writes, reads, deaths and flushes every node counts as the database does', async () => {
  const server = await startRedis();
  const { client, close } = await ioredis.connect(server.port);
  onTestFinished(close);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(step, { minLength: 1, maxLength: 10, size: 'max' }), {
        minLength: 3,
        maxLength: 6,
        size: 'max',
      }),
      async (rounds) => {
        const namespace = await readyNamespace(client, newNamespace());
        const world = new World(server.port, namespace, () => server.admin((redis) => redis.flushall()));
        await world.open();
        for (const steps of rounds) {
          await Promise.all(steps.map((one) => world.run(one)));
          await until(() => Node.asked === 0, 'the database');
          await world.check();
          world.now += 2;
        }
        await world.close();
      },
    ),
    { numRuns: 10, endOnFailure: true, interruptAfterTimeLimit: 100_000, markInterruptAsFailure: false },
  );
}, 150_000);
