/**
 * The promises of DESIGN section 2 while everything happens at once: 200 clients with random topics, some of which stall, lag
 * or leave and come back, while events go out as fast as the process can for two seconds. What every client received is then
 * compared with what was published for it: complete, once, in order, and where something is missing it was told, exactly.
 */
import type { RequestListener } from 'node:http';
import net from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { type BrokerOptions, createHandler, queryAuthenticator, queryTopicResolver } from '../../../src/index.js';
import { makeBroker } from '../../support/broker.js';
import { serve } from '../../support/server.js';
import { until } from '../../support/until.js';
import { numbered, SequenceReader } from './sequence-reader.js';

const CLIENTS = 200;
const TOPICS = 20;
/** Clients of one more topic, whose events are so large that the kernel does not hide a reader that stalls. */
const HEAVY = 12;

type Random = () => number;

/** Mulberry32: the same numbers for the same seed. */
function randomOf(seed: number): Random {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const sequenceOf = (id: string): number => Number(/-(\d+)$/.exec(id)![1]);

class LoadClient {
  readonly index: number;
  readonly topics: ReadonlySet<number>;
  /** One for each connection, in order. */
  readonly readers: SequenceReader[] = [];
  socket!: net.Socket;
  readonly #port: number;

  constructor(index: number, port: number, random: Random) {
    this.index = index;
    this.#port = port;
    const topics = new Set<number>();
    const wanted = Math.floor(random() * 6);
    while (topics.size < wanted) topics.add(Math.floor(random() * TOPICS));
    if (index < HEAVY) topics.add(TOPICS);
    this.topics = topics;
  }

  get reader(): SequenceReader {
    return this.readers.at(-1)!;
  }

  /** As an EventSource would know it: the last id of anything complete. */
  get lastEventId(): string | undefined {
    for (const reader of [...this.readers].reverse()) if (reader.lastId !== undefined) return reader.lastId;
    return undefined;
  }

  connect(): void {
    const cursor = this.lastEventId;
    const reader = new SequenceReader();
    this.readers.push(reader);
    const socket = net.connect(this.#port, '127.0.0.1');
    socket.on('error', () => {});
    // Node still hands out what a resumed socket had buffered when it was destroyed: after the cursor was taken it is nobody's.
    socket.on('data', (bytes: Buffer) => {
      if (!socket.destroyed) reader.feed(bytes);
    });
    const topics = [...this.topics].map((topic) => `t${topic}`).join(',');
    const resume = cursor === undefined ? '' : `Last-Event-ID: ${cursor}\r\n`;
    socket.write(
      `GET /?user_id=u${this.index}&topics=${topics} HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n${resume}\r\n`,
    );
    this.socket = socket;
  }
}

const runs: [string, BrokerOptions, number][] = [
  ['nobody loses anything where buffers have no limit', { clientBufferSize: 0, clientBufferBytes: 0 }, 2_000],
  ['what is dropped is told: drop-oldest', { overflow: 'drop-oldest', clientBufferSize: 40 }, 1_000],
  ['what is dropped is told: drop-newest', { overflow: 'drop-newest', clientBufferSize: 40 }, 1_000],
  [
    'who is cut off comes back and has lost nothing: disconnect',
    { overflow: 'disconnect', clientBufferSize: 40 },
    1_000,
  ],
];

for (const [name, options, runMs] of runs) {
  test(name, { timeout: 60_000 }, async () => {
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
    console.log(`SEED=${seed}`);
    const random = randomOf(seed);
    const broker = makeBroker({ historySize: 100_000, historyBytes: 0, maxReplayEvents: 0, ...options });
    const handler = createHandler(broker, { authenticator: queryAuthenticator(), topicResolver: queryTopicResolver() });
    const { port } = await serve(handler as RequestListener);
    const clients = Array.from({ length: CLIENTS }, (_, n) => new LoadClient(n, port, random));
    onTestFinished(() => {
      for (const { socket } of clients) socket.destroy();
    });
    for (const client of clients) client.connect();
    await until(() => clients.every(({ reader }) => reader.others.length > 0), 'everybody to be connected');
    const pick = () => clients[Math.floor(random() * CLIENTS)]!;
    const comeBack = (client: LoadClient) => {
      client.socket.destroy();
      client.connect();
    };

    /** For whom each event was, by its number; `undefined` is everybody. */
    const audiences: (((client: LoadClient) => boolean) | undefined)[] = [];
    const ids: Promise<string>[] = [];
    const publish = () => {
      const n = audiences.length;
      const kind = random();
      const data = numbered(n, kind < 0.03 ? 100_000 : Math.floor(random() * 400));
      if (kind < 0.03) {
        audiences.push(({ index }) => index < HEAVY);
        ids.push(broker.sendToTopic(`t${TOPICS}`, 'note', data));
      } else if (kind < 0.1) {
        audiences.push(undefined);
        ids.push(broker.broadcast('note', data));
      } else if (kind < 0.5) {
        const user = Math.floor(random() * CLIENTS);
        audiences.push((client) => client.index === user);
        ids.push(broker.sendToUser(`u${user}`, 'note', data));
      } else {
        const topic = Math.floor(random() * TOPICS);
        audiences.push((client) => client.topics.has(topic));
        ids.push(broker.sendToTopic(`t${topic}`, 'note', data));
      }
    };

    // On a slow machine it takes longer than that to fill what the kernel has room for.
    const isHard = () => options.overflow === undefined || broker.getStats().dropped > 0;
    const startedAt = performance.now();
    for (;;) {
      const ran = performance.now() - startedAt;
      if (ran > runMs && (isHard() || ran > 10 * runMs)) break;
      for (let burst = Math.floor(random() * 60); burst > 0; burst--) publish();
      if (random() < 0.4) pick().socket.pause();
      if (random() < 0.4) pick().socket.resume();
      if (random() < 0.1) clients[Math.floor(random() * HEAVY)]!.socket.pause();
      if (random() < 0.05) comeBack(pick());
      if (random() < 0.9) await turn();
    }
    // Everybody reads on, and whoever was cut off comes back.
    for (const { socket } of clients) socket.resume();
    const comeBackIfCut = () => {
      for (const client of clients) if (client.socket.closed) comeBack(client);
    };
    await until(
      () => {
        comeBackIfCut();
        const { totalClients, ending, queuedFrames } = broker.getStats();
        return totalClients === CLIENTS && ending === 0 && queuedFrames === 0;
      },
      'everybody to be there and up to date',
      30_000,
    );
    audiences.push(undefined);
    const last = audiences.length - 1;
    ids.push(broker.broadcast('note', numbered(last, 1)));
    await until(() => clients.every(({ reader }) => reader.numbers.at(-1) === last), 'the last event', 30_000);

    const idOf = await Promise.all(ids);
    const sequences = idOf.map(sequenceOf);
    let told = 0;
    for (const client of clients) {
      const expected: number[] = [];
      for (const [n, isFor] of audiences.entries()) if (isFor === undefined || isFor(client)) expected.push(n);
      // What it got over all its connections, and the holes that it was told of, in the order in which they came.
      const got: number[] = [];
      const holes: { after: number; through: number }[] = [];
      for (const reader of client.readers) {
        for (const [i, n] of reader.numbers.entries()) {
          if (reader.ids[i] !== idOf[n]) throw new Error(`event ${n} came with the id of another`);
        }
        got.push(...reader.numbers);
        for (const { at, data } of reader.gaps) {
          // The gap stands before everything that comes after it, and after everything that came before.
          const before = reader.numbers[at - 1];
          const after = reader.numbers[at];
          const through = sequenceOf(data.resumedFrom);
          if (before !== undefined) expect(sequences[before]!).toBeLessThanOrEqual(through);
          if (after !== undefined) expect(sequences[after]!).toBeGreaterThan(through);
          holes.push({ after: data.requested === null ? 0 : sequenceOf(data.requested), through });
        }
      }
      told += holes.length;
      const isTold = (n: number) =>
        holes.some(({ after, through }) => sequences[n]! > after && sequences[n]! <= through);
      // Once and in order.
      for (let i = 1; i < got.length; i++) {
        if (got[i]! <= got[i - 1]!) throw new Error(`client ${client.index}: ${got[i]} after ${got[i - 1]}`);
      }
      const received = new Set(got);
      const silent = expected.filter((n) => !received.has(n) && !isTold(n));
      expect(silent.slice(0, 5)).toEqual([]);
      expect(got.filter((n) => !(audiences[n]?.(client) ?? true))).toEqual([]);
    }
    const { dropped, disconnects, queuedFrames } = broker.getStats();
    console.log(`${audiences.length} events, ${dropped} dropped, ${told} gaps, ${disconnects.overflow} cut off`);
    expect(queuedFrames).toBe(0);
    // The run was as hard as it was meant to be.
    if (options.overflow === undefined) expect([dropped, told]).toEqual([0, 0]);
    else expect(options.overflow === 'disconnect' ? disconnects.overflow : told).toBeGreaterThan(0);
  });
}
