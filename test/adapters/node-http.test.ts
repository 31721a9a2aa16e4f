import http, { type RequestListener } from 'node:http';
import https from 'node:https';
import type { Server } from 'node:net';
import { createHandler } from '../../src/index.js';
import { TEST_CERTIFICATE, TEST_KEY } from '../support/certificate.js';
import { listen } from '../support/server.js';
import { conformance, type Framework } from './conformance.js';
import { connectionsOf } from './connections.js';

const plain = (name: string, scheme: string, serverOf: (listener: RequestListener) => Server): Framework => ({
  name,
  start: async (broker, options) => {
    const events = createHandler(broker, options);
    const server = serverOf((req, res) => {
      const user = req.headers['x-user'];
      if (user !== undefined) Object.assign(req, { user: { id: user } });
      res.setHeader('X-Earlier', 'kept');
      const { pathname } = new URL(req.url!, 'http://localhost');
      if (pathname === '/events') {
        void events(req, res, 'the context');
      } else if (pathname === '/other') {
        res.end('other');
      } else {
        res.writeHead(404).end();
      }
    });
    const { url } = await listen(server, scheme);
    return { url, ...connectionsOf(server) };
  },
  userOf: (req) => (req as { user?: { id: string } }).user,
  isContext: (context) => context === 'the context',
});

conformance(plain('node:http', 'http', (listener) => http.createServer(listener)));
conformance(
  plain('node:https', 'https', (listener) => https.createServer({ key: TEST_KEY, cert: TEST_CERTIFICATE }, listener)),
);
