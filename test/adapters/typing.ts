/**
 * What TypeScript must take without a cast: the adapters are typed by the parts of the frameworks that they use, and this
 * holds them against the real types. Checked by `tsc`, never run.
 */
import type { DynamicModule } from '@nestjs/common';
import fastify, { type FastifyRequest } from 'fastify';
import { H3, type H3Event } from 'h3';
import { type Context, Hono } from 'hono';
import { createFastifyHandler, sseBroker } from '../../src/adapters/fastify.js';
import { createH3Handler } from '../../src/adapters/h3.js';
import { createHonoHandler } from '../../src/adapters/hono.js';
import { createKoaHandler } from '../../src/adapters/koa.js';
import { createNestHandler, SseBrokerModule } from '../../src/adapters/nest.js';
import { Broker, createHandler, queryAuthenticator, queryTopicResolver } from '../../src/index.js';

declare module 'fastify' {
  interface FastifyRequest {
    user?: { id: string };
  }
}

const broker = new Broker<{ 'job.progress': { jobId: string }; pong: number }>();
const ready = { authenticator: queryAuthenticator(), topicResolver: queryTopicResolver() };
const readyForFetch = { authenticator: queryAuthenticator<Request>(), topicResolver: queryTopicResolver<Request>() };
// What is ready-made beside what is not: each callback still sees the whole request.
createHandler(broker, {
  authenticator: (req) => (req.headers.authorization === undefined ? null : {}),
  topicResolver: queryTopicResolver(),
});

interface ExpressRequest {
  user?: { id: string };
}
createHandler<ExpressRequest>(broker, { authenticator: (req) => (req.user ? { userId: req.user.id } : null) });
createHandler(broker, ready);

createKoaHandler(broker, ready);
createKoaHandler(broker, { authenticator: (_req, ctx) => ctx.state.user ?? null });

const app = fastify();
const http2App = fastify({ http2: true });
app.register(sseBroker, { broker });
app.register(sseBroker, { broker, path: '/events', ...ready });
app.register(sseBroker, { broker, authenticator: (_req, request) => ({ userId: request.user.id }) });
app.register(sseBroker, { broker, authenticator: (_req, request: FastifyRequest) => ({ userId: request.user?.id }) });
app.get('/a', createFastifyHandler(broker, ready));
app.get(
  '/b',
  createFastifyHandler(broker, { authenticator: (_req, request: FastifyRequest) => ({ userId: request.user?.id }) }),
);
http2App.register(sseBroker, { broker, ...ready });
http2App.get('/a', createFastifyHandler(broker, ready));

type Env = { Variables: { user: string } };
const hono = new Hono<Env>();
hono.all('/a', createHonoHandler(broker, readyForFetch));
hono.all('/b', createHonoHandler(broker, { authenticator: (_request, c) => ({ userId: c.get('user') }) }));
hono.all(
  '/c',
  createHonoHandler(broker, { authenticator: (_request, c: Context<Env>) => ({ userId: c.get('user') }) }),
);

const h3 = new H3();
h3.all('/a', createH3Handler(broker, readyForFetch));
h3.all('/b', createH3Handler(broker, { authenticator: (_request, event) => ({ userId: event.context.user }) }));
h3.all(
  '/c',
  createH3Handler(broker, { authenticator: (_request, event: H3Event) => ({ userId: String(event.context.user) }) }),
);

createNestHandler(broker, ready);
createNestHandler(broker, { authenticator: (_req, request) => ({ userId: request.user.id }) });
createNestHandler(broker, { authenticator: (_req, request: ExpressRequest) => ({ userId: request.user?.id }) });
export const module: DynamicModule = SseBrokerModule.forRoot(broker);
class Settings {
  readonly historySize = 7;
}
class SettingsModule {}
export const asyncModule: DynamicModule = SseBrokerModule.forRootAsync({
  imports: [SettingsModule],
  inject: [Settings],
  useFactory: ({ historySize }: Settings) => new Broker({ historySize }),
});
