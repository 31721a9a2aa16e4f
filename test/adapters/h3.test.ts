import http from 'node:http';
import { H3, type H3Event, toNodeHandler } from 'h3';
import { expect, test } from 'vitest';
import { createH3Handler } from '../../src/adapters/h3.js';
import { makeBroker } from '../support/broker.js';
import { listen } from '../support/server.js';
import { conformance } from './conformance.js';
import { connectionsOf } from './connections.js';

conformance({
  name: 'h3 2 on Node',
  start: async (broker, options) => {
    const app = new H3();
    app.use((event) => {
      const id = event.req.headers.get('x-user');
      if (id !== null) event.context.user = { id };
      event.res.headers.set('X-Earlier', 'kept');
    });
    app.all('/events', createH3Handler(broker, options));
    app.get('/other', () => 'other');
    const { url, server } = await listen(http.createServer(toNodeHandler(app)));
    return { url, ...connectionsOf(server) };
  },
  userOf: (_req, context) => (context as H3Event).context.user as { id: string } | undefined,
  isContext: (context) => (context as H3Event).req instanceof Request,
});

test('h3: Vary keeps what an earlier middleware has set, beside ours', async () => {
  const app = new H3();
  app.use((event) => event.res.headers.set('Vary', 'X-Tenant'));
  app.get('/events', createH3Handler(makeBroker(), { cors: { origin: 'https://app.example' }, compression: 'gzip' }));
  const stream = await app.request('/events');
  expect(stream.headers.get('vary')).toBe('X-Tenant, Origin, Accept-Encoding');
  await stream.body?.cancel();
});
