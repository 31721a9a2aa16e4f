/** A reader that comes back far behind and does not read: history is fed as it reads, and held for nobody. */
import type { RequestListener } from 'node:http';
import { expect, test } from 'vitest';
import { createHandler } from '../../../src/index.js';
import { makeBroker } from '../../support/broker.js';
import { ManualClock } from '../../support/manual-clock.js';
import { connectRaw } from '../../support/raw.js';
import { serve } from '../../support/server.js';
import { until } from '../../support/until.js';
import { firstWrong, numbered, SequenceReader } from './sequence-reader.js';

const BEHIND = 3_000;
const LIVE = 2_000;
const turn = () => new Promise((resolve) => setImmediate(resolve));

async function started(count: number, options: Parameters<typeof makeBroker>[0] = {}) {
  const broker = makeBroker({ historySize: 100_000, historyBytes: 0, ...options });
  const { port } = await serve(createHandler(broker) as RequestListener);
  const cursor = await broker.broadcast('first', 0);
  for (let n = 0; n < BEHIND; n++) void broker.broadcast('note', numbered(n, 10_000));
  const clients = await Promise.all(
    Array.from({ length: count }, async () => {
      const reader = new SequenceReader();
      const connection = await connectRaw(port, { paused: true });
      connection.socket.on('data', (bytes: Buffer) => reader.feed(bytes));
      connection.get('/', `Last-Event-ID: ${cursor}\r\n`);
      return { connection, reader };
    }),
  );
  await until(() => broker.getStats().totalClients === count, 'the clients');
  // Until the kernels are full and the replay stands still.
  let replayed = 0;
  let still = 0;
  await until(() => {
    still = replayed === broker.getStats().replayed ? still + 1 : 0;
    replayed = broker.getStats().replayed;
    return replayed > 0 && still > 10;
  }, 'the replays to stand still');
  return { broker, clients };
}

test('five that read nothing hold no copy of 30 MB of history, nor of what comes live; then they get it all', async () => {
  const { broker, clients } = await started(5);
  const stood = broker.getStats();
  expect(stood.replayed).toBeLessThan(5 * BEHIND);
  for (let n = 0; n < LIVE; n++) {
    void broker.broadcast('note', numbered(BEHIND + n, 100));
    if (n % 100 === 0) await turn();
  }
  await turn();
  // Neither queued nor dropped: it is in history, and will be read from there.
  expect(broker.getStats()).toMatchObject({ totalClients: 5, queuedFrames: 0, dropped: 0 });
  expect(broker.getStats().replayed).toBeLessThan(5 * BEHIND);
  for (const { connection } of clients) connection.socket.resume();
  const total = BEHIND + LIVE;
  await until(() => clients.every(({ reader }) => reader.numbers.length >= total), 'all of it');
  void broker.broadcast('note', numbered(total, 1));
  await until(() => clients.every(({ reader }) => reader.numbers.length > total), 'what is live now');
  for (const { reader } of clients) {
    expect(firstWrong(reader.numbers)).toBe(-1);
    expect(reader.gaps).toEqual([]);
  }
  expect(broker.getStats().disconnects).toMatchObject({ overflow: 0, failed: 0 });
});

test('one that never reads is cut off after clientTimeout, in the middle of its replay', async () => {
  const clock = new ManualClock();
  const { broker } = await started(1, { clock });
  clock.advance(700_000);
  await until(() => broker.getStats().ending === 0, 'the client to be closed');
  expect(broker.getStats()).toMatchObject({ totalClients: 0, disconnects: { timeout: 1 } });
  expect(clock.timers).toBe(0);
});

test('one that leaves in the middle of its replay leaves nothing', async () => {
  const { broker, clients } = await started(3);
  for (const { connection } of clients) connection.destroy();
  await until(() => broker.getStats().totalClients === 0, 'the clients to be gone');
  const { replayed } = broker.getStats();
  await turn();
  expect(broker.getStats()).toMatchObject({ ending: 0, queuedFrames: 0, replayed });
});
