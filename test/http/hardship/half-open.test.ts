/** Connections that are neither alive nor gone: they end, by themselves or by a limit, and cost the others nothing. */
import http, { type RequestListener } from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createHandler } from '../../../src/index.js';
import { makeBroker } from '../../support/broker.js';
import { TEST_CERTIFICATE, TEST_KEY } from '../../support/certificate.js';
import { ManualClock } from '../../support/manual-clock.js';
import { connectRaw } from '../../support/raw.js';
import { listen, serve } from '../../support/server.js';
import { countSocketWrites } from '../../support/socket-writes.js';
import { openStream } from '../../support/stream.js';
import { until } from '../../support/until.js';

/** Bytes that Node has given to the kernel, and the kernel has not taken; with TLS that is the handle underneath. */
function waitingIn(socket: Socket): number {
  type Handle = { readonly writeQueueSize: number; readonly _parent?: Handle };
  const { _handle: handle } = socket as unknown as { readonly _handle: Handle };
  return (handle._parent ?? handle).writeQueueSize;
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('a client that closes its half', () => {
  test('and reads on: the stream ends, as everything does that Node serves to such a client', async () => {
    const broker = makeBroker();
    const { port } = await serve(createHandler(broker) as RequestListener);
    const connection = await connectRaw(port, { allowHalfOpen: true });
    connection.get();
    await connection.has('event: connected');
    connection.socket.end();
    await connection.ended();
    await until(() => broker.getStats().totalClients === 0, 'the client to be gone');
    expect(broker.getStats()).toMatchObject({ ending: 0, disconnects: { left: 1 } });
  });

  test('and reads on, where the server allows it: the stream goes on', async () => {
    const broker = makeBroker();
    const { port, server } = await serve(createHandler(broker) as RequestListener);
    (server as http.Server & { httpAllowHalfOpen: boolean }).httpAllowHalfOpen = true;
    const { sockets } = countSocketWrites(server);
    const connection = await connectRaw(port, { allowHalfOpen: true });
    connection.get();
    connection.socket.end();
    await until(() => sockets[0]?.readableEnded, 'the FIN to arrive');
    await broker.broadcast('note', 'still here');
    await connection.has('still here');
    await broker.disconnect([...broker.getClients()][0]!.id);
    await connection.completed(1);
  });

  const waysThroughStreams: [string, boolean, (handler: RequestListener) => http.Server][] = [
    ['through the response', false, (handler) => http.createServer(handler)],
    ['over TLS', true, (handler) => https.createServer({ key: TEST_KEY, cert: TEST_CERTIFICATE }, handler)],
  ];
  for (const [way, secure, create] of waysThroughStreams) {
    test(`while its socket is full but not yet blocked, ${way}: gone with the next event, not for ever`, async () => {
      const broker = makeBroker();
      const handler = createHandler(broker) as RequestListener;
      const server = create((req, res) => {
        const { write } = res;
        if (!secure) res.write = ((...args: Parameters<typeof write>) => write.apply(res, args)) as typeof write;
        handler(req, res);
      });
      const { close, port } = await listen(server, secure ? 'https' : 'http');
      onTestFinished(close);
      const sockets: Socket[] = [];
      server.on(secure ? 'secureConnection' : 'connection', (socket: Socket) => sockets.push(socket));
      const connection = await connectRaw(port, { paused: true, allowHalfOpen: true, secure });
      connection.get();
      await until(() => broker.getStats().totalClients === 1, 'the client');
      // Less at once than what makes a socket count as full.
      while (sockets[0]!.writableLength === 0) {
        await broker.broadcast('note', 'x'.repeat(4_000));
        await turn();
        await turn();
      }
      expect(broker.getStats()).toMatchObject({ queuedFrames: 0, totalClients: 1 });
      connection.socket.end();
      await until(() => sockets[0]!.readableEnded, 'the FIN to arrive');
      await broker.broadcast('note', 'one more');
      await until(() => broker.getStats().totalClients === 0, 'the client to be gone');
      expect(broker.getStats()).toMatchObject({ ending: 0, queuedFrames: 0 });
    });
  }

  test('while it reads nothing: gone after clientTimeout', async () => {
    const clock = new ManualClock();
    const broker = makeBroker({ clock, heartbeatInterval: 1_000, clientTimeout: 60_000 });
    const { port, server } = await serve(createHandler(broker) as RequestListener);
    const { sockets } = countSocketWrites(server);
    const connection = await connectRaw(port, { paused: true, allowHalfOpen: true });
    connection.get();
    await until(() => broker.getStats().totalClients === 1, 'the client');
    while (broker.getStats().queuedFrames === 0) {
      await broker.broadcast('note', 'x'.repeat(4_000));
      await turn();
    }
    connection.socket.end();
    await until(() => sockets[0]!.readableEnded, 'the FIN to arrive');
    expect(broker.getStats().totalClients).toBe(1);
    clock.advance(130_000);
    await until(() => broker.getStats().totalClients === 0, 'the client to be gone');
    await until(() => broker.getStats().ending === 0, 'its connection to be closed');
    expect(broker.getStats().queuedFrames).toBe(0);
  });
});

describe('a client that takes nothing any more', () => {
  const protocols: [string, (handler: RequestListener) => http.Server, boolean][] = [
    ['http', (handler) => http.createServer(handler), false],
    ['https', (handler) => https.createServer({ key: TEST_KEY, cert: TEST_CERTIFICATE }, handler), true],
  ];
  for (const [scheme, create, secure] of protocols) {
    test(`${scheme}: is cut off after clientTimeout, and one that takes a little now and then is not`, async () => {
      const clock = new ManualClock();
      const broker = makeBroker({
        clock,
        heartbeatInterval: 1_000,
        clientTimeout: 60_000,
        clientBufferBytes: 0,
        maxEventBytes: 0,
      });
      const gone: string[] = [];
      broker.on('clientDisconnected', ({ id }, reason) => gone.push(`${id} ${reason}`));
      const server = create(createHandler(broker) as RequestListener);
      const { close, port } = await listen(server, scheme);
      onTestFinished(close);
      const sockets: Socket[] = [];
      server.on(secure ? 'secureConnection' : 'connection', (socket: Socket) => sockets.push(socket));
      const open = async () => {
        const before = broker.getStats().totalClients;
        const connection = await connectRaw(port, { secure });
        connection.get();
        await connection.has('event: connected');
        await until(() => broker.getStats().totalClients === before + 1, 'the client');
        connection.socket.pause();
        return { connection, carrier: sockets.at(-1)!, id: [...broker.getClients()].at(-1)!.id };
      };
      const slow = await open();
      const dead = await open();
      // One that is under way for long, and one that waits behind it.
      await broker.broadcast('note', 'x'.repeat(60_000_000));
      await turn();
      await broker.broadcast('note', 'y');
      await until(() => [...broker.getClients()].every(({ queuedFrames }) => queuedFrames === 1), 'both to be behind');
      for (let round = 0; round < 4; round++) {
        clock.advance(40_000);
        // Reads until the kernel of the other side has room and takes some of what waits: less than all of it.
        const before = waitingIn(slow.carrier);
        await until(() => {
          slow.connection.socket.read();
          return waitingIn(slow.carrier) !== before;
        }, 'the server to hand over some bytes');
        expect(broker.getClient(slow.id)!.queuedFrames).toBe(1);
      }
      expect(gone).toEqual([`${dead.id} timeout`]);
      await until(() => broker.getStats().ending === 0, 'the dead one to be closed');
      expect(broker.getStats()).toMatchObject({ totalClients: 1, disconnects: { timeout: 1 } });
      // Once nothing comes of it any more, it goes the same way.
      clock.advance(130_000);
      expect(gone).toEqual([`${dead.id} timeout`, `${slow.id} timeout`]);
      await until(() => broker.getStats().ending === 0, 'the slow one to be closed');
      expect(clock.timers).toBe(0);
      expect(broker.getStats()).toMatchObject({ queuedFrames: 0, queuedBytes: 0 });
    });
  }

  test('and is told to end is cut off soon after, not after clientTimeout', async () => {
    const clock = new ManualClock();
    const broker = makeBroker({ clock, overflow: 'drop-oldest' });
    const { port } = await serve(createHandler(broker) as RequestListener);
    const connection = await connectRaw(port, { paused: true });
    connection.get();
    await until(() => broker.getStats().totalClients === 1, 'the client');
    while (broker.getStats().queuedFrames === 0) {
      await broker.broadcast('note', 'x'.repeat(100_000));
      await turn();
    }
    await broker.disconnect([...broker.getClients()][0]!.id);
    // Out of every map at once; what is left is its last bytes.
    expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 1, queuedFrames: 0 });
    clock.advance(4_000);
    await turn();
    expect(broker.getStats().ending).toBe(1);
    clock.advance(20_000);
    await until(() => broker.getStats().ending === 0, 'the connection to be cut');
    expect(clock.timers).toBe(0);
    expect(broker.getStats().disconnects).toMatchObject({ disconnected: 1, timeout: 0, failed: 0 });
  });

  test('is cut off too when it is pipelined behind a stream that nobody reads', async () => {
    const clock = new ManualClock();
    const broker = makeBroker({ clock, heartbeatInterval: 1_000, clientTimeout: 60_000, overflow: 'drop-oldest' });
    const { port } = await serve(createHandler(broker) as RequestListener);
    const connection = await connectRaw(port, { paused: true });
    connection.get();
    connection.get();
    await until(() => broker.getStats().totalClients === 2, 'two clients');
    while ([...broker.getClients()].some(({ queuedFrames }) => queuedFrames === 0)) {
      await broker.broadcast('note', 'x'.repeat(100_000));
      await turn();
    }
    clock.advance(130_000);
    await until(() => broker.getStats().ending === 0, 'both to be closed');
    expect(broker.getStats()).toMatchObject({ totalClients: 0, disconnects: { timeout: 2 }, queuedFrames: 0 });
  });
});

describe('a connection that never finishes its request', () => {
  test('is ended by the limits of the Node server, while streams live on', async () => {
    const broker = makeBroker();
    const { port, url } = await serve(createHandler(broker) as RequestListener, {
      headersTimeout: 150,
      requestTimeout: 300,
      connectionsCheckingInterval: 30,
    });
    const stream = await openStream(url);
    await stream.next('connected');
    const slowHeader = await connectRaw(port);
    slowHeader.write('GET / HTTP/1.1\r\nHost: test\r\nX-Slow: ');
    const slowBody = await connectRaw(port);
    slowBody.get('/', 'Transfer-Encoding: chunked\r\n');
    await slowBody.has('event: connected');
    await slowHeader.ended();
    expect(slowHeader.text).toMatch(/^HTTP\/1\.1 408 /);
    // It has its stream, and loses it: a request must be sent in time.
    await slowBody.ended();
    await until(() => broker.getStats().totalClients === 1, 'the client with the endless body to be gone');
    await broker.broadcast('note', 'alive');
    expect(await stream.next('note')).toBe('alive');
  });

  test('leaves nothing when it leaves in the middle of a body', async () => {
    const broker = makeBroker();
    const { port, server } = await serve(createHandler(broker) as RequestListener);
    const { sockets } = countSocketWrites(server);
    const connection = await connectRaw(port);
    connection.get('/', 'Transfer-Encoding: chunked\r\n');
    await connection.has('event: connected');
    connection.write('5\r\nhello\r\n');
    await until(() => (sockets[0] as Socket).bytesRead > 90, 'the body');
    connection.destroy();
    await until(() => broker.getStats().totalClients === 0, 'the client to be gone');
    expect(broker.getStats()).toMatchObject({ ending: 0, disconnects: { left: 1 } });
  });
});
