import fastify, { type FastifyInstance, type FastifyRequest } from 'fastify';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createFastifyHandler, sseBroker } from '../../src/adapters/fastify.js';
import type { Broker } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { openStream } from '../support/stream.js';
import { until } from '../support/until.js';
import { type AnyHandlerOptions, conformance, type Framework } from './conformance.js';
import { connectionsOf } from './connections.js';
import { http2Client } from './http2-client.js';

type RequestWithUser = FastifyRequest & { user?: { id: string } };
type Mount = (app: FastifyInstance, broker: Broker, options: AnyHandlerOptions) => unknown;

const fastifyFramework = (name: string, mount: Mount, isHttp2 = false): Framework => ({
  name,
  hasKeepAlive: !isHttp2,
  start: async (broker, options) => {
    const app = isHttp2
      ? (fastify({ http2: true, forceCloseConnections: true }) as unknown as FastifyInstance)
      : fastify();
    app.decorateRequest('user');
    app.addHook('onRequest', async (request: RequestWithUser, reply) => {
      const id = request.headers['x-user'];
      if (typeof id === 'string') request.user = { id };
      reply.header('X-Earlier', 'kept');
    });
    await mount(app, broker, options);
    app.get('/other', async () => 'other');
    const url = await app.listen({ host: '127.0.0.1', port: 0 });
    const close = () => app.close();
    return isHttp2
      ? { url, open: http2Client(url), close }
      : { url, connections: connectionsOf(app.server).connections, close };
  },
  userOf: (_req, context) => (context as RequestWithUser).user,
  isContext: (context) => 'routeOptions' in (context as object),
});

conformance(
  fastifyFramework('Fastify 5, plugin', (app, broker, options) => app.register(sseBroker, { broker, ...options })),
);
conformance(
  fastifyFramework(
    'Fastify 5, plugin, HTTP/2',
    (app, broker, options) => app.register(sseBroker, { broker, ...options }),
    true,
  ),
);
conformance(
  fastifyFramework('Fastify 5, route handler', (app, broker, options) =>
    app.all('/events', createFastifyHandler(broker, options)),
  ),
);

describe('Fastify', () => {
  const running = async (app: FastifyInstance) => {
    const url = await app.listen({ host: '127.0.0.1', port: 0 });
    onTestFinished(() => app.close());
    return url;
  };

  test('closing the server closes the broker, so it does not wait for its streams', async () => {
    const broker = makeBroker();
    const app = fastify();
    app.register(sseBroker, { broker, closeBroker: { reconnectWithinMs: 7 } });
    const client = await openStream(`${await running(app)}/events`);
    await client.next('connected');
    await app.close();
    await client.ended();
    expect(client.retry()).toBeLessThanOrEqual(7);
    expect(client.events.at(-1)).toMatchObject({ event: 'closing' });
    await expect(broker.broadcast('note', 1)).rejects.toMatchObject({ code: 'SSE_ERR_BROKER_CLOSED' });
  });

  test('closeBroker: false leaves the broker to its owner', async () => {
    const broker = makeBroker();
    const app = fastify();
    app.register(sseBroker, { broker, closeBroker: false });
    await running(app);
    await app.close();
    await broker.broadcast('note', 1);
  });

  test('a hook that is added after the plugin guards the stream too', async () => {
    const app = fastify();
    await app.register(sseBroker, { broker: makeBroker(), path: '/stream' });
    app.addHook('onRequest', async (request, reply) => {
      if (request.headers.authorization === undefined) await reply.code(401).send('from the hook');
    });
    const url = await running(app);
    const refused = await openStream(`${url}/stream`);
    expect(refused.status).toBe(401);
    await refused.ended();
    expect(refused.text()).toBe('from the hook');
    const client = await openStream(`${url}/stream`, { headers: { authorization: 'yes' } });
    await client.next('connected');
  });

  test('prefixes apply: the own one and those of the instance', async () => {
    const broker = makeBroker();
    const app = fastify();
    await app.register(
      async (api) => {
        await api.register(sseBroker, { broker, prefix: '/v1' });
        await api.register(sseBroker, { broker, path: '/second' });
      },
      { prefix: '/api' },
    );
    const url = await running(app);
    await (await openStream(`${url}/api/v1/events`)).next('connected');
    await (await openStream(`${url}/api/second`)).next('connected');
    expect((await openStream(`${url}/events`)).status).toBe(404);
  });

  test.each([
    [{ prefix: '/api/' }, ['/api/events']],
    [{ prefix: 'api' }, ['/api/events']],
    [{ prefix: '/' }, ['/events']],
    [{ prefix: '/events', path: '/' }, ['/events', '/events/']],
  ])('a prefix is joined as Fastify joins it: %j', async (options, paths) => {
    const app = fastify();
    await app.register(sseBroker, { broker: makeBroker(), ...options });
    // 405 is the handler's, 404 would be Fastify's.
    for (const path of paths) expect((await app.inject({ method: 'POST', url: path })).statusCode).toBe(405);
  });

  test('a header of a hook that cannot be sent is answered by Fastify with 500, as on other routes', async () => {
    const app = fastify();
    app.addHook('onRequest', async (_request, reply) => {
      reply.header('X-User', 'Łukasz');
    });
    await app.register(sseBroker, { broker: makeBroker() });
    app.get('/other', async () => 'other');
    const url = await running(app);
    for (const path of ['/other', '/events']) {
      const answer = await fetch(`${url}${path}`, { signal: AbortSignal.timeout(5_000) });
      expect([answer.status, await answer.json()]).toEqual([
        500,
        expect.objectContaining({ code: 'ERR_INVALID_CHAR' }),
      ]);
    }
  });

  test('with return503OnClosing: false an EventSource that comes while all closes is told to come back', async () => {
    const app = fastify({ return503OnClosing: false });
    await app.register(sseBroker, { broker: makeBroker() });
    let isBrokerClosed = false;
    let goOn = (): void => {};
    app.addHook('preClose', () => {
      isBrokerClosed = true;
      return new Promise<void>((resolve) => {
        goOn = resolve;
      });
    });
    const url = await running(app);
    const closing = app.close();
    await until(() => isBrokerClosed, 'the broker to be closed');
    const headers = { accept: 'text/event-stream', 'cache-control': 'no-cache', connection: 'close' };
    const answer = await fetch(`${url}/events`, { headers });
    expect([answer.status, await answer.text()]).toEqual([200, expect.stringMatching(/^retry: \d+\n/)]);
    goOn();
    await closing;
  });

  test('onResponse hooks run when the stream ends', async () => {
    const broker = makeBroker();
    const app = fastify();
    const answered: string[] = [];
    app.addHook('onResponse', async (request) => {
      answered.push(request.url);
    });
    await app.register(sseBroker, { broker });
    const client = await openStream(`${await running(app)}/events`);
    await client.next('connected');
    expect(answered).toEqual([]);
    await app.close();
    expect(answered).toEqual(['/events']);
  });

  test('a handler timeout does not end a stream', async () => {
    const broker = makeBroker();
    const app = fastify({ handlerTimeout: 50 });
    await app.register(sseBroker, { broker });
    app.get('/slow', () => new Promise(() => {}));
    const url = await running(app);
    const client = await openStream(`${url}/events`);
    await client.next('connected');
    // A request that came later has run into it.
    expect((await openStream(`${url}/slow`)).status).toBe(503);
    await broker.broadcast('note', 1);
    await client.next('note');
  });

  test('nonsense is refused when the plugin is loaded', async () => {
    const rejected = async (options: object) => {
      const app = fastify();
      app.register(sseBroker, options as { broker: Broker });
      return app.ready().then(
        () => undefined,
        (error: { code: string; message: string }) => error,
      );
    };
    const invalid = { code: 'SSE_ERR_INVALID_OPTION' };
    expect(await rejected({})).toMatchObject({ ...invalid, message: expect.stringContaining('broker') });
    expect(await rejected({ broker: makeBroker(), path: 'events' })).toMatchObject({
      ...invalid,
      message: expect.stringContaining("starts with '/'"),
    });
    expect(await rejected({ broker: makeBroker(), pth: '/events' })).toMatchObject(invalid);
    for (const closeBroker of ['no', null, 5_000]) {
      expect(await rejected({ broker: makeBroker(), closeBroker })).toMatchObject({
        ...invalid,
        message: expect.stringContaining('closeBroker must be'),
      });
    }
  });
});
