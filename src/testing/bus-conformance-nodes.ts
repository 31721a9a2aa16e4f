/**
 * What a bus must do where several nodes share a namespace, beyond what one node can show: more named cases for any test
 * runner. A case makes three nodes of one namespace and compares what they tell.
 */
import assert from 'node:assert/strict';
import type { Bus } from '../core/bus.js';
import type { BusCase, BusConformanceOptions, BusFixture } from './bus-conformance.js';
import { outgoing, Recorder } from './bus-recorder.js';
import { ManualClock } from './manual-clock.js';

/** What the cases for several nodes are told: the part of {@link BusConformanceOptions} that they need. */
export type NodesConformanceOptions = Pick<BusConformanceOptions, 'create' | 'history' | 'timeoutMs'>;

const A = 't::a';
const B = 'u:ten%20ant:b';
const HISTORY = 5_000;

interface Bench {
  readonly nodes: readonly [Recorder, Recorder, Recorder];
  /** One more node, not joined to anything. */
  another(): Promise<Recorder>;
}

type Test = (bench: Bench) => Promise<void>;

const numbers = (count: number, from = 1): string[] => Array.from({ length: count }, (_, i) => String(from + i));
const idsOf = (node: Recorder, ...keys: string[]): string[] => node.of(...keys).map(({ id }) => id);
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/**
 * The cases that a bus for several nodes must pass; fixtures need `another`.
 *
 * @example
 * for (const { name, run } of busNodesConformance({ create })) test(name, run);
 */
export function busNodesConformance({ create, history = true, timeoutMs = 5_000 }: NodesConformanceOptions): BusCase[] {
  const cases: BusCase[] = [];
  const add = (name: string, test: Test): void => {
    const run = async (): Promise<void> => {
      const clock = new ManualClock(Date.now());
      const fixture: BusFixture = await create({ historySize: history ? HISTORY : 0, clock });
      const started: Bus[] = [];
      const start = (bus: Bus, ...keys: string[]): Promise<Recorder> => {
        started.push(bus);
        return Recorder.start(bus, keys, timeoutMs);
      };
      const next = async () => {
        assert.ok(fixture.another, 'a fixture of a shared bus has `another`');
        return fixture.another();
      };
      try {
        const first = await start(fixture.bus, A, B);
        const nodes = [first, await start(await next(), A, B), await start(await next(), A, B)] as const;
        await test({ nodes, another: async () => start(await next()) });
        for (const node of nodes)
          assert.deepEqual([node.losses, node.errors], [[], []], 'nothing was lost, nothing failed');
      } finally {
        for (const bus of started) await bus.close();
        await fixture.dispose?.();
      }
    };
    cases.push({ name: `nodes: ${name}`, run });
  };

  add('a bus for several nodes says so', async ({ nodes: [node] }) => {
    assert.equal(node.bus.isShared, true);
  });

  add('all publish at once, and all see the same order, each event once', async ({ nodes }) => {
    const published: Promise<string>[] = [];
    for (let i = 0; i < 100; i++) {
      for (const [n, node] of nodes.entries()) {
        published.push(Promise.resolve(node.bus.publish(outgoing((i + n) % 2 === 0 ? A : B, `${n}-${i}`))));
      }
      if (i % 10 === 0) await turn();
    }
    const ids = await Promise.all(published);
    for (const node of nodes) await node.delivered(300);
    const [first] = nodes;
    assert.equal(new Set(idsOf(first)).size, 300);
    assert.deepEqual([...ids].sort(), idsOf(first).sort(), 'each publish resolves with the id of its own event');
    for (const node of nodes) {
      assert.deepEqual(node.events, first.events, 'the same events in the same order');
      for (let n = 0; n < 3; n++) {
        const own = node.dataOf().filter((data) => data.startsWith(`${n}-`));
        assert.deepEqual(
          own,
          Array.from({ length: 100 }, (_, i) => `${n}-${i}`),
          'the order of each publisher’s calls',
        );
      }
    }
  });

  add('a node gets what it has joined and nothing else', async ({ nodes: [publisher], another }) => {
    const other = await another();
    await other.bus.join(B);
    for (let i = 1; i <= 20; i++) await publisher.publish(i % 2 === 0 ? A : B, String(i));
    await publisher.publish(B, 'end');
    await other.eventually(() => other.dataOf(B).includes('end'), 'the last event');
    assert.deepEqual(other.dataOf(A), []);
    assert.equal(other.of(B).length, 11);
  });

  add('a node that has joined nothing publishes like the others', async ({ nodes: [reader], another }) => {
    const publisher = await another();
    const ids = await publisher.publish(A, ...numbers(20));
    await reader.delivered(20);
    assert.deepEqual(idsOf(reader), ids);
    assert.deepEqual(publisher.events, []);
  });

  add(
    'what is for one node, or one client, arrives there alone, in its place',
    async ({ nodes: [first, second, third] }) => {
      await second.bus.join('n::second');
      await third.bus.join('c::of-third');
      for (let i = 1; i <= 9; i++) await first.publish([A, 'n::second', 'c::of-third'][i % 3]!, String(i));
      await first.publish(A, 'end');
      for (const node of [first, second, third]) await node.eventually(() => node.dataOf().includes('end'), 'the end');
      assert.deepEqual(first.dataOf(), ['3', '6', '9', 'end']);
      assert.deepEqual(second.dataOf(), ['1', '3', '4', '6', '7', '9', 'end']);
      assert.deepEqual(third.dataOf(), ['2', '3', '5', '6', '8', '9', 'end']);
    },
  );

  add('after join has returned nothing is missed, whoever publishes when', async ({ nodes: [publisher], another }) => {
    const other = await another();
    for (let round = 0; round < 10; round++) {
      const key = `t::round-${round}`;
      let isPublishing = true;
      const published: string[] = [];
      const publishing = (async () => {
        for (let i = 0; isPublishing; i++) {
          await publisher.publish(key, String(i));
          published.push(String(i));
          // A bus of this process would let nothing else happen.
          await turn();
        }
      })();
      publishing.catch(() => {});
      while (published.length < 3) await turn();
      await other.bus.join(key);
      const { length } = published;
      while (published.length < length + 5) await turn();
      isPublishing = false;
      await publishing;
      await publisher.publish(key, 'end');
      await other.eventually(() => other.dataOf(key).includes('end'), 'the end');
      // One may have been on its way when the join ended.
      const due = [...published.slice(length + 1), 'end'];
      assert.deepEqual(other.dataOf(key).slice(-due.length), due);
    }
  });

  add('a thousand keys joined at once all deliver', async ({ nodes: [publisher], another }) => {
    const other = await another();
    const keys = numbers(1_000).map((number) => `t::many-${number}`);
    await Promise.all(keys.map((key) => other.bus.join(key)));
    await Promise.all(keys.map((key) => publisher.bus.publish(outgoing(key, key))));
    await other.delivered(1_000);
    assert.deepEqual(other.dataOf(), keys);
  });

  add('a node that goes leaves the others as they are', async ({ nodes: [first, second], another }) => {
    const going = await another();
    await going.bus.join(A);
    const publishing = numbers(50).map(async (data) => going.bus.publish(outgoing(A, data)));
    await Promise.allSettled(publishing);
    await going.bus.close();
    await first.publish(A, 'after');
    for (const node of [first, second]) await node.eventually(() => node.dataOf().includes('after'), 'the event after');
    assert.deepEqual(idsOf(first), idsOf(second));
  });

  if (!history) return cases;

  add('history up to a head and then live is everything, once, on every node', async ({ nodes }) => {
    const [publisher] = nodes;
    const { id: start } = await publisher.bus.head();
    let isPublishing = true;
    const publishing = (async () => {
      for (let i = 1; i <= 300; i++) {
        await publisher.publish(i % 2 === 0 ? A : B, String(i));
        if (i % 10 === 0) await turn();
      }
      isPublishing = false;
    })();
    // Where the case fails first, its bus is closed under this.
    publishing.catch(() => {});
    const readers: { readonly node: Recorder; readonly seen: string[]; readonly head: number }[] = [];
    while (isPublishing) {
      // A bus that answers from memory would let nothing come in or go out.
      await turn();
      for (const node of nodes) {
        const { events, loss, head } = await node.readAll([A, B], start, 17);
        assert.equal(loss, undefined);
        readers.push({ node, seen: events.map(({ data }) => data), head: head.sequence });
      }
    }
    await publishing;
    for (const node of nodes) await node.delivered(300);
    assert.ok(readers.length > 3);
    for (const { node, seen, head } of readers) {
      const live = node.events.filter(({ sequence }) => sequence > head).map(({ data }) => data);
      assert.deepEqual([...seen, ...live], numbers(300));
    }
  });

  add('a cursor of one node leads on at any other, without a gap', async ({ nodes, another }) => {
    const [first, second] = nodes;
    const ids = await first.publish(A, ...numbers(5));
    await second.publish(B, '6');
    for (const node of [...nodes, await another()]) {
      const { events, loss } = await node.read([A, B], ids[2]!);
      assert.deepEqual([events.map(({ data }) => data), loss], [['4', '5', '6'], undefined]);
    }
  });

  return cases;
}
