/** What one event, one visit and one subscription cost depends on nobody else: counted in operations, not in time. */
import { expect, onTestFinished, test } from 'vitest';
import type { Broker } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { CostlySink, turn } from './costly-sink.js';

const TOPICS_PER_CLIENT = 10;
const CLIENTS_PER_TOPIC = 20;
const topicsIn = (clients: number) => (clients * TOPICS_PER_CLIENT) / CLIENTS_PER_TOPIC;

/** Every topic has twenty clients, whatever the size. */
function fill(clients: number): Broker {
  const broker = makeBroker({ connectedEvent: false, retry: 0, heartbeatInterval: 0, clientTimeout: 0 });
  const topics = topicsIn(clients);
  for (let n = 0; n < clients; n++) {
    const own = Array.from({ length: TOPICS_PER_CLIENT }, (_, k) => `topic:${(n * TOPICS_PER_CLIENT + k) % topics}`);
    broker.connect({ sink: new CostlySink(), identity: { userId: `u${n}`, tenantId: 'acme' }, topics: own });
  }
  return broker;
}

/** Look-ups and changes of maps and sets, and steps of any walk over them or over arrays, while `action` runs. */
function operationsOf(action: () => void): { lookups: number; steps: number } {
  const counted = { lookups: 0, steps: 0 };
  const undo: (() => void)[] = [];
  const replace = <T extends object>(owner: T, name: keyof T, make: (original: never) => unknown) => {
    const descriptor = Object.getOwnPropertyDescriptor(owner, name)!;
    Object.defineProperty(owner, name, { ...descriptor, value: make(owner[name] as never) });
    undo.push(() => Object.defineProperty(owner, name, descriptor));
  };
  for (const prototype of [Map.prototype, Set.prototype] as Map<unknown, unknown>[]) {
    for (const name of ['get', 'set', 'add', 'has', 'delete'] as (keyof typeof prototype)[]) {
      if (!Object.hasOwn(prototype, name)) continue;
      replace(
        prototype,
        name,
        (original: (...args: unknown[]) => unknown) =>
          function (this: unknown, ...args: unknown[]) {
            counted.lookups++;
            return original.apply(this, args);
          },
      );
    }
    replace(
      prototype,
      'forEach',
      (original: (...args: unknown[]) => unknown) =>
        function (this: Map<unknown, unknown>, ...args: unknown[]) {
          counted.steps += this.size;
          return original.apply(this, args);
        },
    );
  }
  for (const iterator of [new Map(), new Set(), []].map((one) => Object.getPrototypeOf(one[Symbol.iterator]()))) {
    replace(
      iterator,
      'next',
      (original: () => unknown) =>
        function (this: unknown) {
          counted.steps++;
          return original.call(this);
        },
    );
  }
  for (const name of ['indexOf', 'includes', 'filter', 'map', 'find', 'findIndex', 'splice', 'slice'] as const) {
    replace(
      Array.prototype as unknown[],
      name,
      (original: (...args: unknown[]) => unknown) =>
        function (this: unknown[], ...args: unknown[]) {
          counted.steps += this.length;
          return original.apply(this, args);
        },
    );
  }
  const restore = () => {
    for (const one of undo.splice(0).reverse()) one();
  };
  onTestFinished(restore);
  try {
    // Putting the instrument in place walks over arrays, too.
    counted.lookups = 0;
    counted.steps = 0;
    action();
    return { ...counted };
  } finally {
    restore();
  }
}

/** Takes the place of `setImmediate` for the next call: the end of the turn comes when the test says so. */
function takeImmediate(): () => void {
  const { setImmediate: original } = globalThis;
  let callback: (() => void) | undefined;
  globalThis.setImmediate = ((given: () => void) => {
    globalThis.setImmediate = original;
    callback = given;
  }) as typeof setImmediate;
  onTestFinished(() => {
    globalThis.setImmediate = original;
  });
  return () => callback!();
}

/** The first is only there for what a program does once. */
const SIZES = [200, 200, 5_000] as const;

test('the instrument sees a scan', () => {
  const map = new Map(Array.from({ length: 500 }, (_, n) => [n, n]));
  const { steps } = operationsOf(() => {
    for (const key of map.keys()) if (key === -1) throw new Error('there');
  });
  expect(steps).toBeGreaterThanOrEqual(500);
  expect(operationsOf(() => map.get(1))).toEqual({ lookups: 1, steps: 0 });
});

test('an event costs its recipients: as much among 5 000 clients and 2 500 topics as among 200 and 100', async () => {
  const costs: unknown[] = [];
  for (const size of SIZES) {
    const broker = fill(size);
    await turn();
    const flush = takeImmediate();
    const before = broker.getStats().delivered;
    costs.push(
      operationsOf(() => {
        void broker.sendToTopic('topic:7', 'note', 'x');
        void broker.sendToUser('u7', 'note', 'x');
        void broker.tenant('acme').sendToUser('u8', 'note', 'x');
        void broker.sendToTopic('nobody', 'note', 'x');
      }),
    );
    costs.push(operationsOf(flush));
    expect(broker.getStats().delivered - before).toBe(CLIENTS_PER_TOPIC + 2);
  }
  expect(costs[4]).toEqual(costs[2]);
  expect(costs[5]).toEqual(costs[3]);
  expect((costs[2] as { lookups: number }).lookups).toBeGreaterThan(0);
});

test('who comes, and who leaves, costs its own topics: nothing is scanned for it', async () => {
  const costs: unknown[] = [];
  for (const size of SIZES) {
    const broker = fill(size);
    await turn();
    const topics = Array.from({ length: 5 }, (_, k) => `topic:${k * 3}`);
    const sink = new CostlySink();
    let id = '';
    const coming = operationsOf(() => {
      id = broker.connect({ sink, identity: { userId: 'visitor', tenantId: 'acme' }, topics: [...topics, 'new'] });
    });
    const subscribing = operationsOf(() => {
      void broker.subscribe(id, 'topic:50');
      void broker.unsubscribe(id, 'topic:3');
    });
    const leaving = operationsOf(() => sink.owner!.closed());
    costs.push({ coming, subscribing, leaving });
    expect(broker.getStats()).toMatchObject({ totalClients: size, totalUsers: size, totalTopics: topicsIn(size) });
    // A dozen keys, each looked up and changed.
    expect(coming.lookups + coming.steps).toBeLessThan(400);
    expect(leaving.lookups + leaving.steps).toBeLessThan(400);
  }
  expect(costs[2]).toEqual(costs[1]);
});

test('the questions of presence that are asked per event are look-ups', async () => {
  const costs: unknown[] = [];
  for (const size of SIZES) {
    const broker = fill(size);
    await turn();
    costs.push(
      operationsOf(() => {
        broker.isUserOnline('u5');
        broker.getUserConnectionCount('u5');
        broker.getTopicConnectionCount('topic:5');
        broker.tenant('acme').isUserOnline('u5');
        broker.getStats();
      }),
    );
  }
  expect(costs[2]).toEqual(costs[1]);
});

test('when all have left, in any order, nothing is left of 50 000 subscriptions', async () => {
  const broker = makeBroker({ heartbeatInterval: 0, clientTimeout: 0 });
  const sinks = Array.from({ length: 5_000 }, (_, n) => {
    const sink = new CostlySink();
    const topics = Array.from({ length: TOPICS_PER_CLIENT }, (_, k) => `topic:${(n * 7 + k * 13) % 500}`);
    broker.connect({ sink, identity: { userId: `u${n % 1_000}`, tenantId: `t${n % 3}` }, topics });
    return sink;
  });
  expect(broker.getStats()).toMatchObject({ totalClients: 5_000, totalTopics: 500 });
  for (const start of [1, 2, 0]) for (let n = start; n < sinks.length; n += 3) sinks[n]!.owner!.closed();
  expect(broker.getStats()).toMatchObject({ totalClients: 0, totalUsers: 0, totalTopics: 0, ending: 0 });
  expect([broker.getActiveTopics(), broker.getOnlineUsers()]).toEqual([[], []]);
});
