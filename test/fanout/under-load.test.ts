/**
 * The promises of DESIGN section 2 for compressed streams and adaptive flushing, with history: a hundred real clients with
 * random topics, some of which leave and come back with their Last-Event-ID in the middle, while events go out as fast as the
 * process can for two seconds. test/http/hardship/promises-under-load.test.ts has the same for plain streams and every policy.
 */
import http, { type RequestListener } from 'node:http';
import { createGunzip } from 'node:zlib';
import { expect, onTestFinished, test } from 'vitest';
import { createHandler, queryAuthenticator, queryTopicResolver } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';

const CLIENTS = 100;
const TOPICS = 20;
const RUN_MS = 2_000;

/** Mulberry32: the same numbers for the same seed. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

class LoadClient {
  readonly index: number;
  readonly topics: ReadonlySet<number>;
  /** Numbers of the events, over all connections. */
  readonly numbers: number[] = [];
  readonly gaps: string[] = [];
  /** What a connection broke with that was not asked to. */
  readonly faults: Error[] = [];
  lastEventId = '';
  connections = 0;
  isEnded = false;
  #leave: () => void = () => {};
  readonly #url: string;
  readonly #isZipped: boolean;

  constructor(index: number, url: string, random: () => number) {
    this.index = index;
    this.#url = url;
    // A few that read plain text are among them.
    this.#isZipped = index % 10 !== 0;
    const topics = new Set<number>();
    while (topics.size < index % 6) topics.add(Math.floor(random() * TOPICS));
    this.topics = topics;
  }

  connect(): void {
    this.connections++;
    this.isEnded = false;
    let hasLeft = false;
    const topics = [...this.topics].map((topic) => `t${topic}`).join();
    const headers: Record<string, string> = { accept: 'text/event-stream' };
    if (this.#isZipped) headers['accept-encoding'] = 'gzip';
    if (this.lastEventId !== '') headers['last-event-id'] = this.lastEventId;
    const req = http.get(`${this.#url}/?user_id=u${this.index}&topics=${topics}`, { agent: false, headers });
    this.#leave = () => {
      hasLeft = true;
      req.destroy();
    };
    const fault = (error: Error) => {
      if (!hasLeft) this.faults.push(error);
    };
    req.on('error', fault);
    req.on('response', (res) => {
      if ((res.headers['content-encoding'] === 'gzip') !== this.#isZipped) fault(new Error('the wrong encoding'));
      const decoder = createGunzip();
      const text = this.#isZipped ? res.pipe(decoder) : res;
      let rest = '';
      text.setEncoding('latin1');
      text.on('data', (part: string) => {
        // What still comes out of a decoder after leaving was not received: the next connection asks for it again.
        if (hasLeft) return;
        const blocks = (rest + part).split('\n\n');
        rest = blocks.pop()!;
        for (const block of blocks) this.#block(block);
      });
      for (const stream of new Set([res, text])) stream.on('error', fault);
      // With a gzip stream this means that checksum and length were right.
      text.on('end', () => {
        if (!hasLeft) this.isEnded = true;
      });
    });
  }

  leave(): void {
    this.#leave();
  }

  #block(block: string): void {
    const note = /^id: (\S+)\nevent: note\ndata: (\d+) (\d+) (x*)$/.exec(block);
    if (note === null) {
      this.lastEventId = /^id: (\S+)$/m.exec(block)?.[1] ?? this.lastEventId;
      if (/^event: gap$/m.test(block)) this.gaps.push(block);
      return;
    }
    if (note[4]!.length !== Number(note[3])) this.faults.push(new Error(`event ${note[2]} is damaged`));
    this.lastEventId = note[1]!;
    this.numbers.push(Number(note[2]));
  }
}

test('at full speed every client gets its events, all of them, once and in order, across its reconnects', {
  timeout: 60_000,
}, async () => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`SEED=${seed}`);
  const random = randomOf(seed);
  const broker = makeBroker({
    flush: 'adaptive',
    historySize: 200_000,
    historyBytes: 0,
    maxReplayEvents: 0,
    clientBufferSize: 0,
    clientBufferBytes: 0,
  });
  const handler = createHandler(broker, {
    compression: 'gzip',
    authenticator: queryAuthenticator(),
    topicResolver: queryTopicResolver(),
  });
  const { url } = await serve(handler as RequestListener);
  const clients = Array.from({ length: CLIENTS }, (_, index) => new LoadClient(index, url, random));
  onTestFinished(() => {
    for (const client of clients) client.leave();
  });
  for (const client of clients) client.connect();
  await until(() => clients.every(({ lastEventId }) => lastEventId !== ''), 'everybody to have a cursor');

  const expected = clients.map((): number[] => []);
  let published = 0;
  const publish = () => {
    const n = published++;
    const length = Math.floor(random() * 300);
    const data = `${n} ${length} ${'x'.repeat(length)}`;
    const kind = random();
    const name = Math.floor(random() * (kind < 0.5 ? CLIENTS : TOPICS));
    for (const { index, topics } of clients) {
      if (kind < 0.05 || (kind < 0.5 ? index === name : topics.has(name))) expected[index]!.push(n);
    }
    if (kind < 0.05) void broker.broadcast('note', data);
    else if (kind < 0.5) void broker.sendToUser(`u${name}`, 'note', data);
    else void broker.sendToTopic(`t${name}`, 'note', data);
  };
  let nextReturn = 0;
  const away: LoadClient[] = [];
  const stopAt = performance.now() + RUN_MS;
  while (performance.now() < stopAt) {
    for (let burst = Math.floor(random() * 60); burst > 0; burst--) publish();
    // By the clock, not by turns: as often on a busy machine as on an idle one.
    if (performance.now() > nextReturn) {
      nextReturn = performance.now() + 40;
      // One that was away for long enough to have missed more than a page of history, and one that comes at once.
      if (away.length > 12) away.shift()!.connect();
      const [leaving, back] = [0, 1].map(() => clients[Math.floor(random() * CLIENTS)]!);
      leaving!.leave();
      if (!away.includes(leaving!)) away.push(leaving!);
      if (!away.includes(back!)) {
        back!.leave();
        back!.connect();
      }
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  for (const client of away) client.connect();
  const last = published;
  void broker.broadcast('note', `${last} 0 `);
  for (const list of expected) list.push(last);
  await until(() => clients.every(({ numbers }) => numbers.at(-1) === last), 'the last event everywhere', 30_000);
  expect(await broker.close()).toEqual({ ended: CLIENTS, cut: 0 });
  await until(() => clients.every(({ isEnded }) => isEnded), 'the ends of all streams');

  for (const [index, { numbers, gaps, faults }] of clients.entries()) {
    expect(faults).toEqual([]);
    expect(gaps).toEqual([]);
    if (numbers.join() === expected[index]!.join()) continue;
    const wrong = numbers.findIndex((n, i) => n !== expected[index]![i]);
    throw new Error(
      `client ${index}: after ${numbers[wrong - 1]} came ${numbers[wrong]}, not ${expected[index]![wrong]}`,
    );
  }
  const returns = clients.reduce((sum, { connections }) => sum + connections - 1, 0);
  const { replayed, delivered, writes } = broker.getStats();
  console.log(
    `${published} events, ${delivered} deliveries in ${writes} writes, ${returns} returns, ${replayed} replayed`,
  );
  // The run was as hard as it was meant to be.
  expect(returns).toBeGreaterThan(5);
  expect(replayed).toBeGreaterThan(0);
});
