/** A request that is pipelined behind another is told nothing when its client leaves: its connection is. */
import type { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { createApi } from '../../src/api/index.js';
import { Inbox, MemoryStore } from '../../src/inbox/index.js';
import { type Broker, createHandler, createPollHandler, type NodeHandler } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { connectRaw } from '../support/raw.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';
import { collectWarnings } from '../support/warnings.js';

test('polls that wait behind a stream are over when the client leaves, not after their wait', async () => {
  const broker = makeBroker({ historySize: 10 });
  const warnings = collectWarnings();
  const [stream, poll] = [createHandler(broker), createPollHandler(broker)];
  const { port, server } = await serve((req, res) => void (req.url!.startsWith('/poll') ? poll : stream)(req, res));
  const sockets: Socket[] = [];
  server.on('connection', (socket) => sockets.push(socket));
  const connection = await connectRaw(port);
  connection.get();
  const polls = 'GET /poll?wait=50000 HTTP/1.1\r\nHost: test\r\n\r\n'.repeat(20);
  connection.write(polls);
  await until(() => broker.getStats().totalClients === 21, 'the stream and the polls');
  connection.destroy();
  await until(() => broker.getStats().totalClients === 0, 'all to be gone', 5_000);
  expect(broker.getStats()).toMatchObject({ ending: 0, disconnects: { left: 21 } });
  expect(warnings).toEqual([]);
});

test('polls that wait behind a stream are answered after it, and leave no listener on the connection', async () => {
  const broker = makeBroker({ historySize: 10 });
  const [stream, poll] = [createHandler(broker), createPollHandler(broker)];
  const { port, server } = await serve((req, res) => void (req.url!.startsWith('/poll') ? poll : stream)(req, res));
  const sockets: Socket[] = [];
  server.on('connection', (socket) => sockets.push(socket));
  const connection = await connectRaw(port);
  connection.write('DELETE / HTTP/1.1\r\nHost: test\r\n\r\n');
  await connection.completed(1);
  const before = sockets[0]!.listenerCount('close');
  connection.get();
  connection.write('GET /poll?wait=50000 HTTP/1.1\r\nHost: test\r\n\r\n'.repeat(2));
  await until(() => broker.getStats().totalClients === 3, 'the stream and the polls');
  await broker.broadcast('n', 1);
  await until(() => broker.getStats().totalClients === 1, 'the polls to have something');
  await broker.disconnect([...broker.getClients()][0]!.id);
  const responses = await connection.completed(4);
  expect(responses.slice(2).map(({ body }) => JSON.parse(body.toString()).events[0].data)).toEqual([1, 1]);
  expect(sockets[0]!.listenerCount('close')).toBe(before);
});

test.each([
  ['a stream', '/stream?second'],
  ['a poll', '/poll'],
  ['what waits in the inbox', '/messages/unread'],
])(
  'a client of the API that leaves while it is authenticated for ever is not waited for: %s',
  async (_name, second) => {
    const broker = makeBroker();
    const inbox = new Inbox({ broker, store: new MemoryStore() });
    const handler = createApi(broker, {
      inbox,
      authenticator: (req) => (req.url === '/stream' ? { userId: 'ann' } : new Promise<never>(() => {})),
      authenticationTimeout: 0,
    });
    await leavesUnseen(broker, handler, '/stream', second);
    await inbox.close();
  },
);

test('a client that leaves while it is authenticated for ever is not waited for', async () => {
  const broker = makeBroker();
  const handler = createHandler(broker, {
    authenticator: (req) => (req.url === '/first' ? { userId: 'ann' } : new Promise<never>(() => {})),
    authenticationTimeout: 0,
  });
  await leavesUnseen(broker, handler, '/first', '/second');
});

/** Pipelines requests that nobody answers behind a stream, and leaves. */
async function leavesUnseen(broker: Broker, handler: NodeHandler, first: string, second: string): Promise<void> {
  let asked = 0;
  let served = 0;
  const { port } = await serve((req, res) => {
    asked++;
    void handler(req, res).then(() => served++);
  });
  const connection = await connectRaw(port);
  connection.get(first);
  for (let n = 0; n < 3; n++) connection.get(second);
  await until(() => asked === 4 && served === 1, 'the requests');
  connection.destroy();
  await until(() => served === 4, 'the handler to be done with all of them', 5_000);
  expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 0 });
}
