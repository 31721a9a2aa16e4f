/** A reader that keeps up has no queue at all; one that does not holds references to what the others got. */
import type { RequestListener } from 'node:http';
import net from 'node:net';
import { expect, onTestFinished, test, vi } from 'vitest';
import type * as queues from '../../src/core/queue.js';
import { createHandler, type Encoded, queryAuthenticator } from '../../src/index.js';
import { numbered, SequenceReader } from '../http/hardship/sequence-reader.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';
import { CostlySink, turn } from './costly-sink.js';

/** Queues that were made. */
let made = 0;

vi.mock('../../src/core/queue.js', async (importOriginal) => {
  const original = await importOriginal<typeof queues>();
  class CountedQueue extends original.Queue {
    constructor(...args: ConstructorParameters<typeof queues.Queue>) {
      super(...args);
      made++;
    }
  }
  return { ...original, Queue: CountedQueue };
});

const framesOf = (writes: readonly Encoded[]) =>
  writes.flatMap(({ frames }) => frames).filter((frame) => frame.source !== undefined);

test('clients that keep up never get a queue, however much is sent: only the one that stalls does', {
  timeout: 30_000,
}, async () => {
  made = 0;
  const broker = makeBroker({ clientBufferSize: 20, clientBufferBytes: 0, overflow: 'drop-oldest' });
  const { port } = await serve(createHandler(broker, { authenticator: queryAuthenticator() }) as RequestListener);
  const open = (n: number): { socket: net.Socket; reader: SequenceReader } => {
    const socket = net.connect(port, '127.0.0.1');
    const reader = new SequenceReader();
    socket.write(`GET /?user_id=u${n} HTTP/1.1\r\nHost: test\r\n\r\n`);
    onTestFinished(() => {
      socket.destroy();
    });
    return { socket, reader };
  };
  const clients = Array.from({ length: 5 }, (_, n) => open(n));
  for (const { socket, reader } of clients) socket.on('data', (bytes: Buffer) => reader.feed(bytes));
  let n = 0;
  const publish = async () => {
    // More than what a socket calls full: the kernel takes it all the same.
    void broker.broadcast('note', numbered(n, 100_000));
    await until(() => clients.every(({ reader }) => reader.numbers.at(-1) === n), `event ${n} everywhere`);
    n++;
  };
  await until(() => broker.getStats().totalClients === clients.length, 'all of them');
  while (n < 20) {
    await publish();
    expect(broker.getStats().queuedFrames).toBe(0);
  }
  expect(made).toBe(0);

  const stalled = open(99);
  stalled.socket.pause();
  await until(() => broker.isUserOnline('u99'), 'the one that stalls');
  while (broker.getStats().dropped < 5) {
    await publish();
    if (n > 500) throw new Error('the kernel took it all');
  }
  expect(made).toBe(1);
  const queued = [...broker.getClients()].filter(({ queuedFrames }) => queuedFrames > 0);
  expect(queued.map(({ userId, queuedFrames }) => [userId, queuedFrames])).toEqual([['u99', 20]]);
  stalled.socket.resume();
  await until(() => broker.getStats().queuedFrames === 0, 'the queue to drain');
});

test('blocked clients hold the frames that the others got, not copies, and none of their own per event', async () => {
  made = 0;
  const broker = makeBroker({ connectedEvent: false, retry: 0, heartbeatInterval: 0, clientTimeout: 0 });
  const sinks = Array.from({ length: 20 }, () => new CostlySink());
  for (const sink of sinks) broker.connect({ sink });
  const blocked = sinks.slice(0, 15);
  for (const sink of blocked) sink.isFull = true;
  void broker.broadcast('note', 'the last one that is taken');
  await turn();
  expect(made).toBe(15);
  for (const sink of sinks) sink.writes.length = 0;
  for (let n = 0; n < 100; n++) {
    void broker.broadcast('note', `${n}`);
    if (n % 7 === 0) await turn();
  }
  await turn();
  expect(broker.getStats()).toMatchObject({ queuedFrames: 1_500, dropped: 0 });
  expect(blocked.every(({ writes }) => writes.length === 0)).toBe(true);
  for (const sink of blocked) sink.drain();
  expect(made).toBe(15);
  expect(broker.getStats().queuedFrames).toBe(0);
  const shared = framesOf(sinks.at(-1)!.writes);
  expect(shared.length).toBe(100);
  for (const sink of blocked) {
    const frames = framesOf(sink.writes);
    expect(frames.length).toBe(100);
    for (const [n, frame] of frames.entries()) if (frame !== shared[n]) throw new Error(`frame ${n} is another`);
  }
  // The queue is let go when it is empty.
  void broker.broadcast('note', 'after');
  await turn();
  expect(blocked.map(({ writes }) => writes.at(-1))).toEqual(blocked.map(() => sinks.at(-1)!.writes.at(-1)));
  expect(made).toBe(15);
  // Whoever stalls again gets a new one.
  blocked[0]!.isFull = true;
  void broker.broadcast('note', 'again');
  await turn();
  expect(made).toBe(16);
});

test('a thousand blocked clients cost a hundred bytes per waiting event, not the event', async () => {
  const collect = await collector();
  const broker = makeBroker({ connectedEvent: false, retry: 0, heartbeatInterval: 0, clientTimeout: 0 });
  const sinks = Array.from({ length: 1_000 }, () => new CostlySink());
  for (const sink of sinks) {
    sink.isFull = true;
    broker.connect({ sink });
  }
  void broker.broadcast('note', 'blocks them all');
  await turn();
  const used = () => {
    collect();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const before = used();
  for (let n = 0; n < 200; n++) {
    void broker.broadcast('note', `${n} ${'x'.repeat(4_000)}`);
    await turn();
  }
  expect(broker.getStats().queuedFrames).toBe(201_000);
  // 800 MB of text wait; 0.8 MB are there, and the references to them.
  expect(used() - before).toBeLessThan(200_000 * 20);
});

async function collector(): Promise<() => void> {
  const { setFlagsFromString } = await import('node:v8');
  const { runInNewContext } = await import('node:vm');
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  onTestFinished(() => setFlagsFromString('--no-expose-gc'));
  return collect;
}
