/** An event is compressed once, whoever gets it; counted, and seen on the wire. */
import type { RequestListener } from 'node:http';
import type zlib from 'node:zlib';
import { beforeEach, expect, test, vi } from 'vitest';
import { createHandler, queryAuthenticator, queryTopicResolver } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { connectRaw, type RawConnection } from '../support/raw.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';
import { checkGzip, inflateSoFar } from './gzip-stream.js';

/** Texts that were compressed, in order. */
const compressed: string[] = [];

vi.mock('node:zlib', async (importOriginal) => {
  const original = await importOriginal<typeof zlib>();
  const deflateRawSync: typeof zlib.deflateRawSync = (text, options) => {
    compressed.push(text.toString());
    return original.deflateRawSync(text, options);
  };
  return { ...original, default: original, deflateRawSync };
});

beforeEach(() => {
  compressed.length = 0;
});

const body = (connection: RawConnection): Buffer => connection.responses()[0]?.body ?? Buffer.alloc(0);
const textOf = (connection: RawConnection): string => inflateSoFar(body(connection));

async function start(zipped: number, plain = 0, options: Parameters<typeof makeBroker>[0] = {}) {
  const broker = makeBroker({ clientBufferSize: 0, ...options });
  const handler = createHandler(broker, {
    compression: 'gzip',
    authenticator: queryAuthenticator(),
    topicResolver: queryTopicResolver(),
  });
  const { port } = await serve(handler as RequestListener);
  const clients = await Promise.all(
    Array.from({ length: zipped + plain }, async (_, n) => {
      const connection = await connectRaw(port);
      const encoding = n < zipped ? 'Accept-Encoding: gzip\r\n' : '';
      connection.get(`/?user_id=user-${n}&topics=${n % 2 === 0 ? 'even' : 'odd'}`, encoding);
      return connection;
    }),
  );
  await until(() => clients.every((client) => body(client).length > 50), 'all streams');
  compressed.length = 0;
  return { broker, port, clients };
}

test('200 clients: each event is compressed once, and the same bytes go to all of them', {
  timeout: 30_000,
}, async () => {
  const { broker, clients } = await start(200, 20);
  const before = clients.map((client) => body(client).length);
  const texts = Array.from({ length: 10 }, (_, n) => `event ${n} ${'of many words '.repeat(n * 10)}`);
  for (const text of texts) {
    await broker.broadcast('note', text);
    await new Promise((resolve) => setImmediate(resolve));
  }
  // Those of one turn are compressed one by one as well.
  for (const text of texts) void broker.broadcast('turn', text);
  const isIn = (client: RawConnection, n: number) =>
    n < 200
      ? textOf(client).includes(`event: turn\ndata: ${texts[9]}\n\n`)
      : client.text.includes('turn\ndata: event 9');
  await until(() => clients.every(isIn), 'the last event everywhere');
  expect(compressed.map((text) => /data: (.*)\n/.exec(text)![1])).toEqual([...texts, ...texts]);
  const first = body(clients[0]!).subarray(before[0]!);
  for (let n = 1; n < 200; n++) expect(body(clients[n]!).subarray(before[n]!).equals(first)).toBe(true);
  // It was worth it: 220 clients, a few kilobytes each.
  expect(first.length).toBeLessThan(body(clients[210]!).length - before[210]!);

  await broker.close();
  for (const client of clients.slice(0, 200)) {
    const [response] = await client.completed(1);
    checkGzip(response!.body, textOf(client));
  }
});

test('nothing is compressed where nobody asked for it, nor before anybody needs it', async () => {
  const { broker, clients } = await start(2, 3);
  await broker.sendToUser('user-4', 'note', 'plain');
  await broker.sendToUser('nobody', 'note', 'nowhere');
  await until(() => clients[4]!.text.includes('plain'), 'the event');
  expect(compressed).toEqual([]);
  await broker.sendToUser('user-1', 'note', 'zipped');
  await until(() => textOf(clients[1]!).includes('zipped'), 'the event');
  expect(compressed.length).toBe(1);
});

test('clients whose turns differ share the blocks of the events that they have in common', async () => {
  const { broker, clients } = await start(40);
  for (let n = 0; n < 5; n++) {
    void broker.sendToTopic('even', 'note', `even ${n}`);
    void broker.broadcast('note', `all ${n}`);
    void broker.sendToUser(`user-${n}`, 'note', `one ${n}`);
    void broker.sendToTopic('odd', 'note', `odd ${n}`);
  }
  void broker.broadcast('note', 'end');
  await until(() => clients.every((client) => textOf(client).includes('data: end\n')), 'the last event everywhere');
  expect(compressed.length).toBe(21);
});

test('a replay takes the blocks that the live clients had; every client has its own first frame only', async () => {
  const { broker, port, clients } = await start(3, 0, { historySize: 100 });
  const ids: string[] = [];
  for (let n = 0; n < 30; n++) ids.push(await broker.broadcast('note', `event ${n}`));
  await until(() => clients.every((client) => textOf(client).includes('data: event 29\n')), 'all of it');
  expect(compressed.length).toBe(30);
  const back = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const connection = await connectRaw(port);
      connection.get('/?user_id=back', `Accept-Encoding: gzip\r\nLast-Event-ID: ${ids[9]}\r\n`);
      return connection;
    }),
  );
  await until(() => back.every((client) => textOf(client).includes('data: event 29\n')), 'the replays');
  expect(compressed.slice(30).every((text) => text.includes('event: connected\n'))).toBe(true);
  expect(compressed.length).toBe(30 + 20);
});

test('heartbeats that are comments are compressed once for ever', async () => {
  const { broker, clients } = await start(10, 0, { heartbeatInterval: 20, clientTimeout: 1_000 });
  const beats = (client: RawConnection) => textOf(client).split('\n:\n').length - 1;
  await until(() => clients.every((client) => beats(client) >= 4), 'some heartbeats');
  expect(compressed.filter((text) => text === ':\n\n').length).toBeLessThanOrEqual(1);
  expect(broker.getStats().writes).toBeGreaterThanOrEqual(50);
});
