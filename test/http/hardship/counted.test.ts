/** Serialised once, encoded once, written once per client and turn: counted, not assumed. */
import type { RequestListener } from 'node:http';
import type { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { createHandler, queryAuthenticator, queryTopicResolver } from '../../../src/index.js';
import { makeBroker } from '../../support/broker.js';
import { connectRaw } from '../../support/raw.js';
import { serve } from '../../support/server.js';
import { countSocketWrites } from '../../support/socket-writes.js';
import { until } from '../../support/until.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function started(users: number, options: Parameters<typeof makeBroker>[0] = {}) {
  const broker = makeBroker(options);
  const handler = createHandler(broker, { authenticator: queryAuthenticator(), topicResolver: queryTopicResolver() });
  const { port, server } = await serve(handler as RequestListener);
  const writes = countSocketWrites(server);
  const clients = await Promise.all(
    Array.from({ length: users }, async (_, n) => {
      const connection = await connectRaw(port);
      connection.get(`/?user_id=user-${n}&topics=all,${n % 2 === 0 ? 'even' : 'odd'}`);
      await connection.has('event: connected');
      return connection;
    }),
  );
  writes.reset();
  return { broker, clients, writes, before: broker.getStats() };
}

test('data is serialised once per publish, however many get it, and a string not at all', async () => {
  let serialised = 0;
  const { broker, clients } = await started(20, {
    serialize: (data) => {
      serialised++;
      return JSON.stringify(data);
    },
  });
  let asked = 0;
  const data = {
    toJSON: () => {
      asked++;
      return { asked };
    },
  };
  await broker.broadcast('note', data);
  await broker.sendToTopic('all', 'note', data);
  await broker.sendToUser('user-1', 'note', data);
  await broker.sendToUser('nobody', 'note', data);
  await broker.broadcast('note', 'as it is');
  await Promise.all(clients.map((client) => client.has('as it is')));
  expect(serialised).toBe(4);
  expect(asked).toBe(4);
  expect(clients[1]!.text).toContain('{"asked":3}');
  expect(clients[2]!.text).not.toContain('{"asked":3}');
});

test('one write per client and turn, for any number of events and audiences; none for those who get nothing', async () => {
  const { broker, clients, writes, before } = await started(20);
  const publish = async (n: number) => {
    void broker.sendToTopic('even', 'note', `topic ${n}`);
    void broker.sendToUser('user-0', 'note', `user ${n}`);
    void broker.sendToTopic('even', 'note', `topic again ${n}`);
    // Between two of one turn a program may well await.
    await broker.sendToUser('user-2', 'note', `other user ${n}`);
    await Promise.resolve();
    void broker.sendToTopic('even', 'note', `end ${n}`);
  };
  const even = clients.filter((_, n) => n % 2 === 0);
  for (let n = 0; n < 10; n++) {
    await publish(n);
    await Promise.all(even.map((client) => client.has(`end ${n}\n`)));
    expect(writes.total()).toBe((n + 1) * even.length);
  }
  const stats = broker.getStats();
  expect(stats.writes - before.writes).toBe(10 * even.length);
  expect(stats.delivered - before.delivered).toBe(10 * (3 * even.length + 2));
  const notes = (text: string) => [...text.matchAll(/^data: (.*) \d$/gm)].map((match) => match[1]);
  expect(notes(clients[0]!.text).slice(0, 4)).toEqual(['topic', 'user', 'topic again', 'end']);
  expect(notes(clients[2]!.text).slice(0, 4)).toEqual(['topic', 'topic again', 'other user', 'end']);
  expect(notes(clients[1]!.text)).toEqual([]);
});

test('fifty events of one turn are one write and one chunk for each', async () => {
  const { broker, clients, writes } = await started(10);
  const chunksBefore = clients.map((client) => client.responses()[0]!.chunks);
  for (let n = 0; n < 50; n++) void broker.broadcast('note', { n });
  await Promise.all(clients.map((client) => client.has('{"n":49}')));
  expect(writes.total()).toBe(10);
  expect(clients.map((client) => client.responses()[0]!.chunks)).toEqual(chunksBefore.map((chunks) => chunks + 1));
});

test('all recipients of an event are given the same bytes, not a copy each', async () => {
  const { broker, clients, writes } = await started(10);
  const given: unknown[] = [];
  for (const socket of writes.sockets) {
    const watched = socket as Pick<Socket, '_write'>;
    const { _write } = watched;
    watched._write = function seen(chunk, encoding, callback) {
      given.push(chunk);
      _write.call(this, chunk, encoding, callback);
    };
  }
  for (const publish of [
    () => broker.broadcast('note', 'one event'),
    () => Promise.all([broker.broadcast('note', 'two'), broker.sendToTopic('all', 'note', 'events')]),
  ]) {
    given.length = 0;
    await publish();
    await turn();
    expect(given).toHaveLength(10);
    expect(new Set(given).size).toBe(1);
    expect(Buffer.isBuffer(given[0])).toBe(true);
  }
  await Promise.all(clients.map((client) => client.has('events')));
});

test('a queue that drains is handed over in few writes, not one per event', async () => {
  const { broker, clients, writes } = await started(1, { clientBufferSize: 0, clientBufferBytes: 0 });
  const [client] = clients;
  client!.socket.pause();
  let n = 0;
  while (broker.getStats().queuedFrames < 1_000) {
    for (let i = 0; i < 50; i++) void broker.broadcast('note', `${n++} ${'x'.repeat(1_000)}`);
    await turn();
  }
  writes.reset();
  const { queuedFrames, queuedBytes } = broker.getStats();
  client!.socket.resume();
  await until(() => broker.getStats().queuedFrames === 0, 'the queue to drain');
  await client!.has(`data: ${n - 1} `);
  expect(queuedFrames).toBeGreaterThanOrEqual(1_000);
  // 64 KiB at a time.
  expect(writes.total()).toBeLessThanOrEqual(Math.ceil(queuedBytes / 32_768) + 1);
});
