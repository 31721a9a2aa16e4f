/**
 * Three nodes, brokers and all, over one Redis that is hurt at random: every reader has every event of its topics in order,
 * once, or was told a gap before it read on. Readers hop from node to node with their last id. What goes wrong is told as what
 * it is: a Redis that is away or has lost everything, which passes.
 */
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { RedisBus } from '../../src/buses/redis.js';
import { Broker } from '../../src/index.js';
import { MemorySink } from '../../src/testing/index.js';
import { until } from '../support/until.js';
import { connected, newNamespace, redisLibraries } from './redis-clients.js';
import { startProxy, startRedis } from './redis-nodes.js';

const TOPICS = ['a', 'b', 'c'];
const NODES = 3;
/** Numbers from here on say that it is over. */
const END = 1_000_000;

const step = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constant('publish' as const),
      node: fc.nat(NODES - 1),
      topic: fc.nat(2),
      count: fc.integer({ min: 1, max: 30 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('hop' as const), reader: fc.nat(3), node: fc.nat(NODES - 1) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('kill' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('forget scripts' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('cut' as const), node: fc.nat(NODES - 1) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('part' as const), node: fc.nat(NODES - 1) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('mend' as const), node: fc.nat(NODES - 1) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('flush' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.integer({ min: 5, max: 80 }) }) },
);

/** What one reader got, over all its streams. */
class Reader {
  readonly topics: readonly string[];
  /** Numbers of events, and `gap`. */
  readonly got: (number | 'gap')[] = [];
  #sink = new MemorySink();
  #lastId: string | undefined = undefined;
  #read = 0;

  constructor(topics: readonly string[]) {
    this.topics = topics;
  }

  async hop(broker: Broker): Promise<void> {
    this.take();
    this.#sink.leave();
    this.#sink = new MemorySink();
    this.#read = 0;
    try {
      broker.connect({ sink: this.#sink, topics: this.topics, lastEventId: this.#lastId });
    } catch {
      // It comes back with the next hop.
    }
  }

  /** Resolves when the stream has begun: what is published from then on is owed to it. */
  connected(): Promise<void> {
    return this.#sink.wrote('event: connected');
  }

  get isOpen(): boolean {
    return !this.#sink.isClosed;
  }

  /** Reads what the stream has by now, as an EventSource does. */
  take(): void {
    const { text } = this.#sink;
    for (const block of text.slice(this.#read, text.lastIndexOf('\n\n') + 2).split('\n\n')) {
      const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1];
      const [id, event, data] = [field('id'), field('event'), field('data')];
      if (id !== undefined) this.#lastId = id;
      if (event === 'gap') this.got.push('gap');
      else if (event === 'n') this.got.push(Number(data));
    }
    this.#read = text.lastIndexOf('\n\n') + 2;
  }
}

/** On a machine with too much to do anything may take longer than a command has: what fails then is tried again. */
const worked = (attempt: Promise<unknown>): Promise<boolean> =>
  attempt.then(
    () => true,
    () => false,
  );

test.each(redisLibraries)(
  'whatever happens to Redis, over $name',
  async (library) => {
    const server = await startRedis();
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), async (steps) => {
        const namespace = newNamespace();
        const proxies = [await startProxy(server.port), await startProxy(server.port), await startProxy(server.port)];
        const brokers: Broker[] = [];
        const errors: unknown[] = [];
        for (const { port } of proxies) {
          const client = await connected(library, port);
          const bus = new RedisBus({
            client,
            namespace,
            historySize: 5_000,
            checkInterval: 150,
            commandTimeout: 400,
            linger: 50,
          });
          const broker = new Broker({ bus, maxReplayEvents: 0, clientBufferSize: 100_000 });
          broker.on('error', (error) => errors.push(error));
          onTestFinished(() => broker.close({ timeoutMs: 0 }).then(() => {}));
          await until(() => worked(broker.start()), 'a node to start');
          brokers.push(broker);
        }
        const readers = [['a'], ['a', 'b'], ['c'], ['a', 'b', 'c']].map((topics) => new Reader(topics));
        for (const [i, reader] of readers.entries()) await reader.hop(brokers[i % NODES]!);
        for (const [i, reader] of readers.entries()) {
          await until(async () => {
            if (!reader.isOpen) await reader.hop(brokers[i % NODES]!);
            return worked(reader.connected());
          }, 'a stream');
        }
        await until(() => brokers.every((broker) => broker.getStats().bus.state === 'up'), 'the nodes');
        // A first event for all: from here on every reader has a cursor that is owed everything.
        let first = 0;
        await until(() => worked(brokers[0]!.broadcast('n', --first)), 'the first publish');
        for (const reader of readers) {
          await until(() => {
            reader.take();
            return reader.got.includes(first);
          }, 'the first event');
        }

        let n = 0;
        const published: { readonly topic: string; readonly n: number; state: 'under way' | 'stored' | 'in doubt' }[] =
          [];
        const pending: Promise<void>[] = [];
        for (const one of steps) {
          if (one.kind === 'publish') {
            for (let i = 0; i < one.count; i++) {
              const event = {
                topic: TOPICS[one.topic]!,
                n: n++,
                state: 'under way' as 'under way' | 'stored' | 'in doubt',
              };
              published.push(event);
              pending.push(
                brokers[one.node]!.sendToTopic(event.topic, 'n', event.n).then(
                  () => {
                    event.state = 'stored';
                  },
                  () => {
                    event.state = 'in doubt';
                  },
                ),
              );
            }
          } else if (one.kind === 'hop') await readers[one.reader]!.hop(brokers[one.node]!);
          else if (one.kind === 'kill') await server.admin((redis) => redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub'));
          else if (one.kind === 'forget scripts') await server.admin((redis) => redis.script('FLUSH'));
          else if (one.kind === 'flush') await server.admin((redis) => redis.flushall());
          else if (one.kind === 'cut') proxies[one.node]!.cut();
          else if (one.kind === 'part') proxies[one.node]!.refuse();
          else if (one.kind === 'mend') proxies[one.node]!.mend();
          else await new Promise((resolve) => setTimeout(resolve, one.ms));
        }
        for (const proxy of proxies) proxy.mend();
        await Promise.all(pending);
        await until(
          () => brokers.every((broker) => broker.getStats().bus.state === 'up'),
          'the nodes to be well',
          20_000,
        );
        // The end, for all; who lost the stream comes back for it, and one told in a gap is not the last.
        let end = END;
        for (const [i, reader] of readers.entries()) {
          await until(
            async () => {
              await worked(brokers[0]!.broadcast('n', end++));
              if (!reader.isOpen) await reader.hop(brokers[i % NODES]!);
              reader.take();
              return Number(reader.got.at(-1)) >= END;
            },
            `the end for reader ${i}: ${reader.got.slice(-5)}, open: ${reader.isOpen}`,
            20_000,
          );
        }

        const storedBefore = new Map(published.map((event, i) => [event.n, i]));
        for (const reader of readers) {
          const got = reader.got.filter((one): one is number => one !== 'gap');
          expect(new Set(got).size, `nothing twice: ${reader.got}`).toBe(got.length);
          // Each node's publishes of a topic are in order; those of one call sequence of one node.
          for (const topic of reader.topics) {
            const due = published.filter((event) => event.topic === topic && event.state === 'stored');
            for (const event of due) {
              if (got.includes(event.n)) continue;
              expect(reader.got.includes('gap'), `event ${event.n} of ${topic} is missing in ${reader.got}`).toBe(true);
            }
          }
          expect(got.every((one) => one < 0 || one >= END || storedBefore.has(one))).toBe(true);
        }
        // One order for all: what two readers both have, they have in the same order.
        for (const a of readers) {
          for (const b of readers) {
            const both = new Set(a.got.filter((one) => one !== 'gap' && b.got.includes(one)));
            expect(a.got.filter((one) => both.has(one))).toEqual(b.got.filter((one) => both.has(one)));
          }
        }
        if (!steps.some(({ kind }) => kind === 'flush')) {
          for (const reader of readers)
            expect(reader.got, 'no gap is told where nothing was lost').not.toContain('gap');
        }
        for (const error of errors) expect(error).toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE', retryable: true });
        for (const broker of brokers) await broker.close({ timeoutMs: 0 });
      }),
      { numRuns: Number(process.env.FAULT_RUNS ?? 6), endOnFailure: true },
    );
  },
  120_000,
);
