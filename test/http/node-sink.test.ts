/** Straight to the socket where nothing stands between, through the response where something does: the bytes are right. */
import { type RequestListener, ServerResponse } from 'node:http';
import https from 'node:https';
import { createRequire } from 'node:module';
import { Socket } from 'node:net';
import { gunzipSync } from 'node:zlib';
import compression from 'compression';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import express from 'express';
import express4 from 'express4';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { commentFrame } from '../../src/core/frame.js';
import { NodeSink } from '../../src/http/node-sink.js';
import { createHandler, queryAuthenticator } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { TEST_CERTIFICATE, TEST_KEY } from '../support/certificate.js';
import { connectRaw, type RawConnection } from '../support/raw.js';
import { listen, serve } from '../support/server.js';
import { countSocketWrites } from '../support/socket-writes.js';
import { until } from '../support/until.js';
import { collectWarnings } from '../support/warnings.js';

// Dependencies of Express that bring no types.
const require = createRequire(import.meta.url);
const onHeaders = require('on-headers') as (res: ServerResponse, listener: () => void) => void;
const onFinished = require('on-finished') as (res: ServerResponse, listener: (error: Error | null) => void) => void;

type TestBroker = ReturnType<typeof makeBroker>;

function eventsOf(text: string): EventSourceMessage[] {
  const events: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (event) => events.push(event) });
  parser.feed(text);
  return events;
}

const named = (events: EventSourceMessage[], name: string) => events.filter(({ event }) => event === name);

/** Calls of `write` on any response: none where bytes go straight to the socket. */
function countResponseWrites(): () => number {
  const spy = vi.spyOn(ServerResponse.prototype, 'write');
  onTestFinished(() => spy.mockRestore());
  return () => spy.mock.calls.length;
}

async function clientOf(broker: TestBroker): Promise<string> {
  await until(() => broker.getStats().totalClients === 1, 'the client');
  return [...broker.getClients()][0]!.id;
}

/** Sends three events in turns of their own, one of them larger than a socket's buffer, and ends the stream. */
async function sendThreeAndEnd(broker: TestBroker, connection: RawConnection, isPlain = true): Promise<void> {
  const clientId = await clientOf(broker);
  await broker.broadcast('note', { n: 1, text: 'grün\nüber 🙂' });
  if (isPlain) await connection.has('"n":1');
  await broker.broadcast('note', { n: 2, text: 'x'.repeat(300_000) });
  if (isPlain) await connection.has('"n":2');
  await broker.broadcast('note', { n: 3, text: '' });
  await broker.disconnect(clientId, 'enough');
}

function expectThree(text: string): void {
  // Chunk sizes that had got among the lines would be taken for unknown fields, and ignored.
  expect(text).not.toContain('\r');
  const events = eventsOf(text);
  expect(events.map(({ event }) => event)).toEqual(['connected', 'note', 'note', 'note', 'closing']);
  const notes = named(events, 'note').map(({ data }) => JSON.parse(data) as { n: number; text: string });
  expect(notes.map(({ n, text: { length } }) => [n, length])).toEqual([
    [1, 12],
    [2, 300_000],
    [3, 0],
  ]);
  expect(JSON.parse(events[4]!.data)).toEqual({ reason: 'disconnected', message: 'enough' });
}

describe('which way bytes take', () => {
  const logged: string[] = [];
  const wrappers: {
    name: string;
    isStraight: boolean;
    wrap: (handler: RequestListener) => RequestListener;
  }[] = [
    { name: 'a bare response', isStraight: true, wrap: (handler) => handler },
    {
      name: 'Express 5, which sets a prototype of its own',
      isStraight: true,
      wrap: (handler) => express().get('/', handler) as RequestListener,
    },
    {
      name: 'Express 4',
      isStraight: true,
      wrap: (handler) => express4().get('/', handler) as RequestListener,
    },
    {
      // What morgan is made of.
      name: 'an access log by on-headers and on-finished',
      isStraight: true,
      wrap: (handler) => (req, res) => {
        onHeaders(res, () => logged.push(`head ${res.statusCode}`));
        onFinished(res, (error) => logged.push(`finished ${error === null} ${res.headersSent}`));
        handler(req, res);
      },
    },
    {
      name: 'write patched on the instance',
      isStraight: false,
      wrap: (handler) => (req, res) => {
        const { write } = res;
        res.write = function patched(this: ServerResponse, ...args: Parameters<typeof write>) {
          return write.apply(this, args);
        } as typeof write;
        handler(req, res);
      },
    },
    {
      name: 'end patched on the instance, as access logs and sessions do',
      isStraight: false,
      wrap: (handler) => (req, res) => {
        const { end } = res;
        res.end = function patched(this: ServerResponse, ...args: Parameters<typeof end>) {
          return end.apply(this, args);
        } as typeof end;
        handler(req, res);
      },
    },
    {
      name: "write patched on Express' prototype",
      isStraight: false,
      wrap: (handler) => {
        const app = express();
        const { write } = ServerResponse.prototype;
        app.response.write = function patched(this: ServerResponse, ...args: Parameters<typeof write>) {
          return ServerResponse.prototype.write.apply(this, args);
        } as typeof write;
        return app.get('/', handler) as RequestListener;
      },
    },
    {
      name: 'compression in front, which leaves no-transform alone',
      isStraight: false,
      wrap: (handler) =>
        express()
          .use(compression({ threshold: 0 }))
          .get('/', handler) as RequestListener,
    },
  ];

  for (const { name, isStraight, wrap } of wrappers) {
    test(`${name}: ${isStraight ? 'straight to the socket' : 'through the response'}, validly framed to the end`, async () => {
      const broker = makeBroker();
      const { port } = await serve(wrap(createHandler(broker) as RequestListener));
      const responseWrites = countResponseWrites();
      const connection = await connectRaw(port);
      connection.get('/', 'Accept-Encoding: gzip\r\n');
      await sendThreeAndEnd(broker, connection);
      const [response] = await connection.completed(1);
      expect(response!.headers['content-encoding']).toBeUndefined();
      expect(response!.rest.length).toBe(0);
      expectThree(response!.body.toString('utf8'));
      if (isStraight) expect(responseWrites()).toBe(0);
      else expect(responseWrites()).toBeGreaterThanOrEqual(4);
      if (name.startsWith('an access log by')) {
        await until(() => logged.length === 2, 'the access log');
        expect(logged).toEqual(['head 200', 'finished true true']);
      }
    });
  }

  test('compression that compresses: events arrive at once, and the whole is valid gzip', async () => {
    const broker = makeBroker();
    const handler = createHandler(broker, { headers: { 'Cache-Control': 'no-cache' } }) as RequestListener;
    const { port } = await serve(
      express()
        .use(compression({ threshold: 0 }))
        .get('/', handler),
    );
    const connection = await connectRaw(port);
    connection.get('/', 'Accept-Encoding: gzip\r\n');
    const clientId = await clientOf(broker);
    await until(() => connection.packets.length > 0 && connection.bytes.indexOf('\r\n\r\n') > 0, 'the head');
    await broker.broadcast('note', { n: 1, text: 'grün\nüber 🙂' });
    const gzipSoFar = () => connection.responses()[0]!.body;
    const before = gzipSoFar().length;
    await until(() => gzipSoFar().length > before, 'the first event, flushed');
    await broker.broadcast('note', { n: 2, text: 'x'.repeat(300_000) });
    await broker.broadcast('note', { n: 3, text: '' });
    await broker.disconnect(clientId, 'enough');
    const [response] = await connection.completed(1);
    expect(response!.headers['content-encoding']).toBe('gzip');
    expectThree(gunzipSync(response!.body).toString('utf8'));
  });

  for (const patched of [false, true]) {
    test(`the handler's own compression, ${patched ? 'through the response' : 'straight to the socket'}: one valid gzip to the end`, async () => {
      const broker = makeBroker();
      const handler = createHandler(broker, { compression: 'gzip' });
      const { port } = await serve((req, res) => {
        const { write } = res;
        if (patched) res.write = ((...args: Parameters<typeof write>) => write.apply(res, args)) as typeof write;
        void handler(req, res);
      });
      const responseWrites = countResponseWrites();
      const connection = await connectRaw(port);
      connection.get('/', 'Accept-Encoding: gzip\r\n');
      await sendThreeAndEnd(broker, connection, false);
      const [response] = await connection.completed(1);
      expect(response!.headers['content-encoding']).toBe('gzip');
      expectThree(gunzipSync(response!.body).toString('utf8'));
      expect(responseWrites() > 0).toBe(patched);
    });
  }

  test('TLS: straight to the socket, validly framed to the end', async () => {
    const broker = makeBroker();
    const handler = createHandler(broker) as RequestListener;
    const { port, close } = await listen(
      https.createServer({ key: TEST_KEY, cert: TEST_CERTIFICATE }, handler),
      'https',
    );
    onTestFinished(close);
    const responseWrites = countResponseWrites();
    const connection = await connectRaw(port, { secure: true });
    connection.get();
    await sendThreeAndEnd(broker, connection);
    const [response] = await connection.completed(1);
    expectThree(response!.body.toString('utf8'));
    expect(responseWrites()).toBe(0);
    // And the connection is good for another request.
    connection.write('POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n');
    expect((await connection.completed(2))[1]!.status).toBe(405);
  });

  test('somebody who patched write for all sockets sees all bytes', async () => {
    const broker = makeBroker();
    const { port } = await serve(createHandler(broker) as RequestListener);
    const written: string[] = [];
    const { write } = Socket.prototype;
    const patched = vi.spyOn(Socket.prototype, 'write').mockImplementation(function (this: Socket, ...args) {
      written.push(String(args[0]));
      return write.apply(this, args as unknown as Parameters<typeof write>);
    });
    onTestFinished(() => patched.mockRestore());
    const connection = await connectRaw(port);
    connection.get();
    const clientId = await clientOf(broker);
    await broker.broadcast('note', 'to all');
    await broker.sendToClient(clientId, 'note', 'to one');
    await connection.has('to one');
    expect(written.filter((text) => text.includes('data: to all'))).toHaveLength(1);
    expect(written.filter((text) => text.includes('data: to one'))).toHaveLength(1);
  });

  test('bytes of somebody else that still wait in the stream are not overtaken', async () => {
    const broker = makeBroker();
    const handler = createHandler(broker) as RequestListener;
    let response: ServerResponse | undefined;
    const { port } = await serve((req, res) => {
      response = res;
      handler(req, res);
    });
    const connection = await connectRaw(port);
    connection.get();
    await connection.has('event: connected');
    connection.socket.pause();
    const clientId = await clientOf(broker);
    // More than the kernel takes, and one behind it that waits in the stream.
    response!.write(`:${'x'.repeat(8_000_000)}\n\n`);
    const { socket } = response!;
    const isHandedOver = () => socket!.writableCorked === 0 && socket!.writableLength > 0;
    await until(isHandedOver, 'a full socket');
    response!.write(': behind\n\n');
    await until(isHandedOver, 'what is behind to wait in the stream');
    await broker.broadcast('note', 'after');
    await until(() => broker.getStats().delivered === 1, 'the event to be written');
    await broker.disconnect(clientId);
    connection.socket.resume();
    const [whole] = await connection.completed(1);
    const text = whole!.body.toString();
    expect(text.indexOf(': behind')).toBeGreaterThan(8_000_000);
    expect(text.indexOf('data: after')).toBeGreaterThan(text.indexOf(': behind'));
    expect(text.indexOf('event: closing')).toBeGreaterThan(text.indexOf('data: after'));
  });

  test('a response that somebody told not to use chunks: the end is the end of the connection', async () => {
    const broker = makeBroker();
    const handler = createHandler(broker);
    const { port } = await serve((req, res) => {
      res.useChunkedEncodingByDefault = false;
      void handler(req, res);
    });
    const connection = await connectRaw(port);
    connection.get();
    await sendThreeAndEnd(broker, connection);
    await connection.ended();
    const [response] = connection.responses();
    expect(response!.headers['transfer-encoding']).toBeUndefined();
    expectThree(response!.body.toString('utf8'));
  });

  test('HTTP/1.0: no chunks, and the end is the end of the connection', async () => {
    const broker = makeBroker();
    const { port } = await serve(createHandler(broker) as RequestListener);
    const connection = await connectRaw(port);
    connection.write('GET / HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n');
    await sendThreeAndEnd(broker, connection);
    await connection.ended();
    const [response] = connection.responses();
    expect(response!.headers['transfer-encoding']).toBeUndefined();
    expect(response!.headers.connection).toBe('close');
    expectThree(response!.body.toString('utf8'));
  });
});

describe('the connection around a stream', () => {
  test('head and first frame leave in one write, before any event', async () => {
    for (const options of [{}, { connectedEvent: false }]) {
      const broker = makeBroker(options);
      const { port, server } = await serve(createHandler(broker) as RequestListener);
      const writes = countSocketWrites(server);
      const connection = await connectRaw(port);
      connection.get();
      await until(() => connection.packets.length > 0, 'the first byte');
      expect(connection.packets[0]!.toString()).toMatch(
        /^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\n[0-9a-f]+\r\nretry: \d+\nid: /,
      );
      expect(writes.total()).toBe(1);
    }
  });

  test('a connection serves one stream after another, and other requests, and gathers no listeners', async () => {
    const broker = makeBroker();
    const warnings = collectWarnings();
    const { port, server } = await serve(createHandler(broker) as RequestListener);
    const { sockets } = countSocketWrites(server);
    const connection = await connectRaw(port);
    const listeners = () => {
      const socket = sockets[0]!;
      return Object.fromEntries(socket.eventNames().map((name) => [String(name), socket.listenerCount(name)]));
    };
    let first: ReturnType<typeof listeners> | undefined;
    for (let round = 0; round < 6; round++) {
      connection.get();
      const clientId = await clientOf(broker);
      await broker.broadcast('note', 'x'.repeat(100_000));
      if (round >= 4) {
        // The sink has to wait for the socket, and the stream ends while it does.
        connection.socket.pause();
        while (broker.getStats().queuedFrames === 0) {
          await broker.broadcast('note', 'x'.repeat(1_000_000));
          await new Promise((resolve) => setImmediate(resolve));
        }
      }
      await broker.disconnect(clientId);
      connection.socket.resume();
      await connection.completed(2 * round + 1);
      connection.write('DELETE / HTTP/1.1\r\nHost: test\r\n\r\n');
      const responses = await connection.completed(2 * round + 2);
      expect(responses.map(({ status }) => status).slice(-2)).toEqual([200, 405]);
      first ??= listeners();
    }
    expect(listeners()).toEqual(first);
    expect(sockets).toHaveLength(1);
    expect(warnings).toEqual([]);
    expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 0, queuedFrames: 0 });
  });

  test('a request pipelined behind a stream is answered after it', async () => {
    const broker = makeBroker();
    const { port } = await serve(createHandler(broker) as RequestListener);
    const connection = await connectRaw(port);
    connection.get();
    connection.write('DELETE / HTTP/1.1\r\nHost: test\r\n\r\n');
    const clientId = await clientOf(broker);
    await broker.broadcast('note', 1);
    await connection.has('event: note');
    expect(connection.text).not.toContain('HTTP/1.1 405');
    await broker.disconnect(clientId);
    expect((await connection.completed(2)).map(({ status }) => status)).toEqual([200, 405]);
  });

  test('a stream pipelined behind another gets what was sent meanwhile, in order, when its turn comes', async () => {
    const broker = makeBroker();
    const { port } = await serve(createHandler(broker, { authenticator: queryAuthenticator() }) as RequestListener);
    const connection = await connectRaw(port);
    connection.get('/?user_id=first');
    connection.get('/?user_id=second');
    await until(() => broker.getStats().totalClients === 2, 'two clients');
    for (let n = 0; n < 10; n++) await broker.broadcast('note', { n });
    await connection.has('"n":9');
    const userOf = (userId: string) => [...broker.getClients()].find((client) => client.userId === userId)!.id;
    await broker.disconnect(userOf('first'));
    await connection.completed(1);
    await broker.broadcast('note', { n: 10 });
    await broker.disconnect(userOf('second'));
    const [first, second] = await connection.completed(2);
    const numbers = (body: Buffer) => named(eventsOf(body.toString()), 'note').map(({ data }) => JSON.parse(data).n);
    expect(numbers(first!.body)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(numbers(second!.body)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  test('thirty pipelined streams: no warning, and nothing left when their client leaves', async () => {
    const broker = makeBroker();
    const warnings = collectWarnings();
    const { port, server } = await serve(createHandler(broker) as RequestListener);
    const { sockets } = countSocketWrites(server);
    const connection = await connectRaw(port);
    for (let i = 0; i < 30; i++) connection.get();
    await until(() => broker.getStats().totalClients >= 20, 'the clients');
    await broker.broadcast('note', 1);
    await connection.has('event: note');
    connection.destroy();
    await until(() => broker.getStats().totalClients === 0, 'the clients to be gone');
    expect(broker.getStats()).toMatchObject({ ending: 0, queuedFrames: 0 });
    await until(() => sockets[0]!.closed, 'the socket');
    expect(sockets[0]!.listenerCount('close')).toBeLessThan(5);
    expect(warnings).toEqual([]);
  });

  test('the response tells finish and close as Node does: both when the server ends it, close alone when the client leaves', async () => {
    const broker = makeBroker();
    const handler = createHandler(broker) as RequestListener;
    const told: string[] = [];
    const { port } = await serve((req, res) => {
      for (const name of ['prefinish', 'finish', 'close'] as const) res.on(name, () => told.push(name));
      handler(req, res);
      res.on('close', () => told.push(`ended: ${res.writableEnded}, finished: ${res.writableFinished}`));
    });
    const one = await connectRaw(port);
    one.get();
    await broker.disconnect(await clientOf(broker));
    await one.completed(1);
    await until(() => told.length === 4, 'the end of the response');
    expect(told).toEqual(['prefinish', 'finish', 'close', 'ended: true, finished: true']);

    told.length = 0;
    const two = await connectRaw(port);
    two.get();
    await clientOf(broker);
    two.destroy();
    await until(() => told.length === 2, 'the close of the response');
    expect(told).toEqual(['close', 'ended: false, finished: false']);
  });

  test('server.close() completes as soon as the broker has ended the streams', async () => {
    const broker = makeBroker();
    const { port, server } = await serve(createHandler(broker) as RequestListener);
    const connections = await Promise.all(Array.from({ length: 5 }, () => connectRaw(port)));
    for (const connection of connections) connection.get();
    await until(() => broker.getStats().totalClients === 5, 'the clients');
    expect(await broker.close()).toEqual({ ended: 5, cut: 0 });
    const startedAt = performance.now();
    await new Promise((resolve) => server.close(resolve));
    // Not the five seconds that a kept-alive connection may idle.
    expect(performance.now() - startedAt).toBeLessThan(2_000);
    for (const connection of connections) await connection.completed(1);
  });
});

describe('a reader that is behind', () => {
  test('the sink says that it has drained when all is through, not after each of several writes', async () => {
    let sink: NodeSink | undefined;
    let response: ServerResponse | undefined;
    const { port } = await serve((req, res) => {
      res.writeHead(200);
      res.flushHeaders();
      response = res;
      sink = new NodeSink(req, res);
    });
    const connection = await connectRaw(port);
    connection.get();
    await until(() => sink !== undefined, 'the request');
    connection.socket.pause();
    let drains = 0;
    sink!.open({ drained: () => drains++, closed: () => {} });
    const large = commentFrame('x'.repeat(8_000_000));
    expect(sink!.write(large)).toBe(false);
    expect(sink!.write(commentFrame('behind'))).toBe(false);
    // With the stream's own in between.
    response!.write(':own\n\n');
    expect(sink!.write(large)).toBe(false);
    connection.socket.resume();
    await until(() => drains > 0, 'the sink to drain');
    expect(sink!.progress()).toBe(response!.socket!.bytesWritten);
    expect(response!.socket!.bytesWritten).toBeGreaterThan(16_000_000);
    response!.end();
    await connection.completed(1);
    expect(drains).toBe(1);
  });

  const ways: [string, (handler: RequestListener) => RequestListener, string][] = [
    ['straight to the socket', (handler) => handler, ''],
    [
      'through the response',
      (handler) => (req, res) => {
        const { write } = res;
        res.write = ((...args: Parameters<typeof write>) => write.apply(res, args)) as typeof write;
        handler(req, res);
      },
      '',
    ],
    [
      'through compression',
      (handler) =>
        express()
          .use(compression({ threshold: 0 }))
          .get('/', handler) as RequestListener,
      'Accept-Encoding: gzip\r\n',
    ],
  ];
  for (const [name, wrap, headers] of ways) {
    test(`${name}: stalls and catches up again and again, complete and in order, and gathers no listeners`, async () => {
      const broker = makeBroker({ clientBufferSize: 0, clientBufferBytes: 0 });
      const warnings = collectWarnings();
      const noTransform = headers === '' ? {} : { headers: { 'Cache-Control': 'no-cache' } };
      const { port } = await serve(wrap(createHandler(broker, noTransform) as RequestListener));
      const connection = await connectRaw(port);
      connection.get('/', headers);
      const clientId = await clientOf(broker);
      const text = noise(200_000);
      let n = 0;
      for (let round = 0; round < 12; round++) {
        connection.socket.pause();
        while (broker.getStats().queuedFrames < 2) {
          await broker.broadcast('note', { n: n++, text });
          await new Promise((resolve) => setImmediate(resolve));
        }
        connection.socket.resume();
        await until(() => broker.getStats().queuedFrames === 0, 'the queue to drain');
      }
      await broker.disconnect(clientId);
      const [response] = await connection.completed(1);
      const body = headers === '' ? response!.body : gunzipSync(response!.body);
      const numbers = named(eventsOf(body.toString('utf8')), 'note').map(({ data }) =>
        Number(/"n":(\d+)/.exec(data)![1]),
      );
      expect(numbers).toEqual(Array.from({ length: n }, (_, i) => i));
      expect(warnings).toEqual([]);
    });
  }
});

/** Text that does not compress well, the same in every run. */
function noise(length: number): string {
  const bytes = Buffer.alloc(length);
  let seed = 1;
  for (let i = 0; i < length; i++) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    bytes[i] = 65 + ((seed >>> 16) % 26);
  }
  return bytes.toString('latin1');
}
