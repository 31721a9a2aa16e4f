import http2, { type Http2ServerRequest, type Http2ServerResponse, type Http2Session } from 'node:http2';
import type { Server } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { createHandler } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { TEST_CERTIFICATE, TEST_KEY } from '../support/certificate.js';
import { listen } from '../support/server.js';
import { openStream } from '../support/stream.js';
import { collectWarnings } from '../support/warnings.js';
import { conformance, type Framework } from './conformance.js';
import { connectionsOf } from './connections.js';
import { http2Client } from './http2-client.js';

type Listener = (req: Http2ServerRequest, res: Http2ServerResponse) => void;

const certificate = { key: TEST_KEY, cert: TEST_CERTIFICATE };

const http2Framework = (name: string, scheme: string, serverOf: (listener: Listener) => Server): Framework => ({
  name,
  start: async (broker, options) => {
    const events = createHandler(broker, options);
    const server = closable(
      serverOf((req, res) => {
        const user = req.headers['x-user'];
        if (user !== undefined) Object.assign(req, { user: { id: user } });
        res.setHeader('X-Earlier', 'kept');
        const { pathname } = new URL(req.url, 'http://localhost');
        if (pathname === '/events') {
          void events(req, res, 'the context');
        } else if (pathname === '/other') {
          res.end('other');
        } else {
          res.writeHead(404);
          res.end();
        }
      }),
    );
    const { url } = await listen(server, scheme);
    return {
      url,
      open: http2Client(url),
      close: () => {
        const closed = connectionsOf(server).close();
        server.closeSessions();
        return closed;
      },
    };
  },
  userOf: (req) => (req as { user?: { id: string } }).user,
  isContext: (context) => context === 'the context',
  hasKeepAlive: false,
});

/** An idle session keeps a server of Node 20 and 22 open until its client goes: it is asked to close. */
function closable(server: Server): Server & { closeSessions: () => void } {
  const sessions = new Set<Http2Session>();
  server.on('session', (session: Http2Session) => {
    sessions.add(session);
    session.once('close', () => sessions.delete(session));
  });
  return Object.assign(server, {
    closeSessions: () => {
      for (const session of sessions) session.close();
    },
  });
}

conformance(http2Framework('node:http2, cleartext', 'http', (listener) => http2.createServer(listener)));
conformance(
  http2Framework('node:http2 over TLS', 'https', (listener) => http2.createSecureServer(certificate, listener)),
);

test('a server of both protocols streams over HTTP/2 and HTTP/1.1, with no header that HTTP/2 forbids', async () => {
  const warnings = collectWarnings();
  const broker = makeBroker();
  const server = closable(
    http2.createSecureServer({ ...certificate, allowHTTP1: true }, createHandler(broker) as unknown as Listener),
  );
  const { url } = await listen(server, 'https');
  onTestFinished(async () => {
    await broker.close();
    server.close();
    server.closeSessions();
  });
  const overHttp2 = await http2Client(url)('/', {});
  const overHttp1 = await openStream(url);
  await overHttp2.next('connected');
  await overHttp1.next('connected');
  await broker.broadcast('note', 1);
  expect(await overHttp2.next('note')).toBe(1);
  expect(await overHttp1.next('note')).toBe(1);
  for (const banned of ['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'proxy-connection']) {
    expect(overHttp2.headers[banned]).toBeUndefined();
  }
  expect(overHttp1.headers['transfer-encoding']).toBe('chunked');
  expect(warnings).toEqual([]);
});
