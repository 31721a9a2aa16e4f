import http from 'node:http';
import Koa from 'koa';
import { expect, test } from 'vitest';
import { createKoaHandler, type KoaContextLike } from '../../src/adapters/koa.js';
import { makeBroker } from '../support/broker.js';
import { listen, serve } from '../support/server.js';
import { openStream } from '../support/stream.js';
import { conformance } from './conformance.js';
import { connectionsOf } from './connections.js';

/** As in an application with `@types/koa`. */
interface KoaContext extends KoaContextLike {
  path: string;
  state: { user?: { id: string } };
  body: unknown;
  status: number;
  get(name: string): string;
  set(name: string, value: string): void;
}
type Next = () => Promise<unknown>;

conformance({
  name: 'Koa 3',
  start: async (broker, options) => {
    const app = new Koa();
    app.use((ctx: KoaContext, next: Next) => {
      const id = ctx.get('x-user');
      if (id !== '') ctx.state.user = { id };
      ctx.set('X-Earlier', 'kept');
      return next();
    });
    const events = createKoaHandler(broker, options);
    app.use((ctx: KoaContext, next: Next) => (ctx.path === '/events' ? events(ctx) : next()));
    app.use((ctx: KoaContext) => {
      if (ctx.path === '/other') ctx.body = 'other';
    });
    const { url, server } = await listen(http.createServer(app.callback()));
    return { url, ...connectionsOf(server) };
  },
  userOf: (_req, context) => (context as KoaContext).state.user,
  isContext: (context) => typeof context === 'object' && context !== null && 'respond' in context && 'state' in context,
});

test('Koa: what a middleware does to ctx after the stream was opened does not touch it', async () => {
  const broker = makeBroker();
  const app = new Koa();
  let isThrough = false;
  app.use(async (ctx: KoaContext, next: Next) => {
    await next();
    ctx.status = 418;
    ctx.body = 'too late';
    isThrough = true;
  });
  app.use(createKoaHandler(broker));
  const { url } = await serve(app.callback());
  const client = await openStream(url);
  await client.next('connected');
  expect(isThrough).toBe(true);
  await broker.broadcast('note', 1);
  expect(await client.next('note')).toBe(1);
  expect(client.status).toBe(200);
  expect(client.text()).not.toContain('too late');
});
