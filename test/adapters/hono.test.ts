import { createAdaptorServer } from '@hono/node-server';
import { type Context, Hono } from 'hono';
import { cors } from 'hono/cors';
import { expect, test } from 'vitest';
import { createHonoHandler } from '../../src/adapters/hono.js';
import type { Broker } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { listen } from '../support/server.js';
import { openStream } from '../support/stream.js';
import { type AnyHandlerOptions, conformance } from './conformance.js';
import { connectionsOf } from './connections.js';

type Env = { Variables: { user?: { id: string } } };

function appOf(broker: Broker, options: AnyHandlerOptions): Hono<Env> {
  const app = new Hono<Env>();
  app.use(async (c, next) => {
    const id = c.req.header('x-user');
    if (id !== undefined) c.set('user', { id });
    c.header('X-Earlier', 'kept');
    await next();
  });
  app.all('/events', createHonoHandler(broker, options));
  app.get('/other', (c) => c.text('other'));
  return app;
}

conformance({
  name: 'Hono on Node',
  start: async (broker, options) => {
    const { url, server } = await listen(createAdaptorServer(appOf(broker, options)) as import('node:http').Server);
    return { url, ...connectionsOf(server) };
  },
  userOf: (_req, context) => (context as Context<Env>).get('user'),
  isContext: (context) => typeof (context as Context).newResponse === 'function',
});

test("Hono: the framework's own cors middleware answers for the stream", async () => {
  const broker = makeBroker();
  const app = new Hono();
  app.use(cors({ origin: 'https://app.example', credentials: true }));
  app.all(
    '/events',
    createHonoHandler<Context>(broker, { authenticator: (_request, c) => ({ userId: c.req.query('name') ?? 'none' }) }),
  );
  const { url } = await listen(createAdaptorServer(app) as import('node:http').Server);
  const client = await openStream(`${url}/events?name=alice`, { headers: { origin: 'https://app.example' } });
  expect(client.headers['access-control-allow-origin']).toBe('https://app.example');
  expect(client.headers['access-control-allow-credentials']).toBe('true');
  expect(await client.next('connected')).toMatchObject({ userId: 'alice' });
});

test.each<[string, (c: Context) => void]>([
  ['c.header()', (c) => c.header('Vary', 'X-Tenant')],
  ['c.res.headers', (c) => c.res.headers.set('Vary', 'X-Tenant')],
])('Hono: Vary keeps what an earlier middleware has set by %s, beside ours', async (_name, set) => {
  const app = new Hono();
  app.use(async (c, next) => {
    set(c);
    await next();
  });
  app.get('/events', createHonoHandler(makeBroker(), { cors: { origin: 'https://app.example' }, compression: 'gzip' }));
  const stream = await app.request('/events');
  expect(stream.headers.get('vary')).toBe('X-Tenant, Origin, Accept-Encoding');
  expect(stream.headers.get('cache-control')).toBe('no-cache, no-transform');
  await stream.body?.cancel();
  expect((await app.request('/events', { headers: { accept: 'text/html' } })).headers.get('vary')).toBe(
    'X-Tenant, Origin',
  );
});
