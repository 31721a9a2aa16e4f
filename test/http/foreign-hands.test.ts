/** A response that the application has its own hands on: it ends it, or puts something of its own on it. */
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { describe, expect, test } from 'vitest';
import { createHandler, type HandlerOptions } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { connectRaw, type RawOptions } from '../support/raw.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function opened(options: HandlerOptions = {}, raw: RawOptions = {}) {
  const broker = makeBroker({ overflow: 'drop-oldest' });
  const handler = createHandler(broker, options);
  const responses: ServerResponse[] = [];
  const { port } = await serve((req, res) => {
    responses.push(res);
    void handler(req, res);
  });
  const connection = await connectRaw(port, raw);
  connection.get('/', 'Accept-Encoding: gzip\r\n');
  await until(() => broker.getStats().totalClients === 1, 'the client');
  return { broker, connection, res: responses[0]! };
}

describe.each<[string, HandlerOptions]>([
  ['plain', {}],
  ['compressed', { compression: 'gzip' }],
])(
  'a stream that the application ends, %s: nothing follows its last chunk, and the connection goes on',
  (_, options) => {
    test('while its reader is behind', async () => {
      const { broker, connection, res } = await opened(options, { paused: true });
      while (broker.getStats().queuedFrames === 0) {
        await broker.broadcast('note', randomBytes(100_000).toString('base64'));
        await turn();
      }
      res.end();
      connection.write('DELETE / HTTP/1.1\r\nHost: test\r\n\r\n');
      connection.resume();
      expect((await connection.completed(2)).map(({ status }) => status)).toEqual([200, 405]);
      await until(() => broker.getStats().totalClients === 0, 'the client to be gone');
      expect(broker.getStats()).toMatchObject({ ending: 0, queuedFrames: 0, disconnects: { left: 1 } });
    });

    test('in the turn in which more is published than a turn holds', async () => {
      const { broker, connection, res } = await opened(options);
      res.end();
      for (let n = 0; n < 200; n++) void broker.broadcast('note', n);
      connection.write('DELETE / HTTP/1.1\r\nHost: test\r\n\r\n');
      expect((await connection.completed(2)).map(({ status }) => status)).toEqual([200, 405]);
      expect(broker.getStats().totalClients).toBe(0);
    });
  },
);

test('a write that the system refuses is the end of the connection, and nothing is left of its client', async () => {
  const { broker, res } = await opened();
  const { socket } = res;
  socket!._write = (_chunk, _encoding, callback) => callback(new Error('EPIPE'));
  await broker.broadcast('note', 1);
  await until(() => broker.getStats().totalClients === 0, 'the client to be gone');
  expect(socket!.destroyed).toBe(true);
  expect(broker.getStats()).toMatchObject({ ending: 0, queuedFrames: 0 });
});

test('a response with a `stream` of the application on it is still one of HTTP/1', async () => {
  const broker = makeBroker();
  const handler = createHandler(broker);
  const { port } = await serve((req, res) => void handler(req, Object.assign(res, { stream: () => {} })));
  const connection = await connectRaw(port);
  connection.get();
  await connection.has('event: connected');
  expect(broker.reported).toEqual([]);
});
