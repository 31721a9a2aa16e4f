/** The API on every framework, with the frameworks' own body parsers before it and without. */
import 'reflect-metadata';
import http, { type IncomingMessage } from 'node:http';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { All, Controller, Module, Req, Res } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import express5 from 'express';
import express4 from 'express4';
import fastify from 'fastify';
import { H3, toNodeHandler } from 'h3';
import { Hono, type Context as HonoContext } from 'hono';
import Koa from 'koa';
import { describe, expect, onTestFinished, test } from 'vitest';
import { toFastifyHandler } from '../../src/adapters/fastify.js';
import { toH3Handler } from '../../src/adapters/h3.js';
import { toHonoHandler } from '../../src/adapters/hono.js';
import { toKoaHandler } from '../../src/adapters/koa.js';
import { toNestHandler } from '../../src/adapters/nest.js';
import { type ApiOptions, createApi, createFetchApi, tokenAuthorizer } from '../../src/api/index.js';
import type { Broker, RequestLike } from '../../src/index.js';
import { http2Client } from '../adapters/http2-client.js';
import { asking } from '../support/ask.js';
import { makeBroker } from '../support/broker.js';
import { listen } from '../support/server.js';
import { skipUnless } from '../support/skip.js';
import { openStream } from '../support/stream.js';
import { DocumentCheck } from './document-check.js';
import { credentials, TOKENS, userOf } from './mounted.js';

/** Options that suit every kind of handler. */
type AnyApiOptions = ApiOptions<RequestLike, unknown>;

/** Serves an API on `/api`, and the text `other` on `/other`; gives its address, and ends with the test. */
type Mount = (broker: Broker, options: AnyApiOptions) => Promise<string>;

/** Starts `server` until the test ends. */
async function running(server: import('node:net').Server): Promise<string> {
  const { url, close } = await listen(server);
  onTestFinished(() => close());
  return url;
}

const express =
  (createApp: typeof express5, hasParser: boolean): Mount =>
  async (broker, options) => {
    const app = createApp();
    if (hasParser) app.use(createApp.json({ limit: '5mb' }));
    app.use('/api', createApi(broker, options));
    // biome-ignore lint/suspicious/noExplicitAny: Express ships no types
    app.get('/other', (_req: any, res: any) => res.send('other'));
    return running(http.createServer(app));
  };

const fastifyMount =
  (hasParser: boolean): Mount =>
  async (broker, options) => {
    const app = fastify({ bodyLimit: 5_000_000 });
    await app.register(async (scope) => {
      if (!hasParser) {
        scope.removeAllContentTypeParsers();
        scope.addContentTypeParser('*', (_request, _payload, done) => done(null));
      }
      scope.all('/api/*', toFastifyHandler(createApi(broker, { ...options, path: '/api' })));
    });
    app.get('/other', async () => 'other');
    const url = await app.listen({ host: '127.0.0.1', port: 0 });
    onTestFinished(async () => {
      await broker.close({ timeoutMs: 200 });
      await app.close();
    });
    return url;
  };

interface KoaContext {
  readonly req: IncomingMessage & import('../../src/index.js').NodeRequest;
  readonly res: import('../../src/index.js').NodeResponse;
  path: string;
  body: unknown;
  request: { body?: unknown };
}

const koa =
  (hasParser: boolean): Mount =>
  async (broker, options) => {
    const app = new Koa();
    if (hasParser) {
      // What koa-bodyparser and koa-body do.
      app.use(async (ctx: KoaContext, next: () => Promise<void>) => {
        let text = '';
        for await (const chunk of ctx.req) text += chunk;
        if (text !== '') ctx.request.body = JSON.parse(text);
        await next();
      });
    }
    const api = toKoaHandler(createApi(broker, { ...options, path: '/api' }));
    app.use((ctx: KoaContext, next: () => Promise<void>) => (ctx.path.startsWith('/api/') ? api(ctx) : next()));
    app.use((ctx: KoaContext) => {
      if (ctx.path === '/other') ctx.body = 'other';
    });
    return running(http.createServer(app.callback()));
  };

const hono =
  (hasParser: boolean): Mount =>
  async (broker, options) => {
    const app = new Hono();
    if (hasParser) {
      app.use(async (c, next) => {
        if (c.req.method === 'POST') await c.req.json().catch(() => {});
        await next();
      });
    }
    app.all('/api/*', toHonoHandler<HonoContext>(createFetchApi<HonoContext>(broker, { ...options, path: '/api' })));
    app.get('/other', (c) => c.text('other'));
    return running(createAdaptorServer(app) as http.Server);
  };

// biome-ignore lint/suspicious/noExplicitAny: it may not be installed
const fastifyPlatform = (): Promise<any> => import(/* @vite-ignore */ ['@nestjs', 'platform-fastify'].join('/'));

const nest =
  (platform: 'express' | 'fastify'): Mount =>
  async (broker, options) => {
    if (platform === 'fastify') {
      const isThere = await fastifyPlatform().then(
        () => true,
        () => false,
      );
      skipUnless(isThere, 'no @nestjs/platform-fastify; npm install --save-dev @nestjs/platform-fastify');
    }
    const handle = toNestHandler(createApi(broker, { ...options, path: '/api' }));
    class ApiController {
      api(req: object, res: object): Promise<void> {
        return handle(req, res);
      }
      other(_req: object, res: { send(text: string): void }): void {
        res.send('other');
      }
    }
    for (const [method, path] of [
      ['api', platform === 'express' ? 'api/*path' : 'api/*'],
      ['other', 'other'],
    ] as const) {
      All(path)(ApiController.prototype, method, Object.getOwnPropertyDescriptor(ApiController.prototype, method)!);
      Req()(ApiController.prototype, method, 0);
      Res()(ApiController.prototype, method, 1);
    }
    Controller()(ApiController);
    class AppModule {}
    Module({ controllers: [ApiController] })(AppModule);
    const app =
      platform === 'express'
        ? await NestFactory.create(AppModule, { logger: ['error'] })
        : await NestFactory.create(AppModule, new (await fastifyPlatform()).FastifyAdapter(), { logger: ['error'] });
    await app.listen(0, '127.0.0.1');
    onTestFinished(async () => {
      await broker.close({ timeoutMs: 200 });
      await app.close();
    });
    return `http://127.0.0.1:${(app.getHttpServer().address() as AddressInfo).port}`;
  };

const MOUNTS: Readonly<Record<string, Mount>> = {
  'node:http': async (broker, options) => {
    const api = createApi(broker, { ...options, path: '/api' });
    return running(
      http.createServer((req, res) => {
        if (req.url === '/other') res.end('other');
        else void api(req, res);
      }),
    );
  },
  'Express 5': express(express5, false),
  'Express 5, after express.json()': express(express5, true),
  'Express 4': express(express4, false),
  'Express 4, after express.json()': express(express4, true),
  'Fastify 5, with its parser': fastifyMount(true),
  'Fastify 5, without a parser': fastifyMount(false),
  'Koa 3': koa(false),
  'Koa 3, after a parser': koa(true),
  'Nest on Express': nest('express'),
  'Nest on Fastify': nest('fastify'),
  Hono: hono(false),
  'Hono, after a middleware that reads the body': hono(true),
  'h3 2': async (broker, options) => {
    const app = new H3();
    app.all('/api/**', toH3Handler(createFetchApi(broker, { ...options, path: '/api' })));
    app.get('/other', () => 'other');
    return running(http.createServer(toNodeHandler(app)));
  },
};

const options: AnyApiOptions = {
  authenticator: (req) => userOf(req as IncomingMessage) ?? fetchUserOf(req),
  authorize: tokenAuthorizer([{ token: TOKENS.publish, scopes: ['publish'] }]),
  maxBodyBytes: 10_000,
};

/** The same of a Fetch `Request`. */
const fetchUserOf = ({ headers }: RequestLike) =>
  headers instanceof Headers ? userOf({ headers: { authorization: headers.get('authorization') ?? '' } }) : null;

describe.each(Object.keys(MOUNTS))('%s', (name) => {
  const mounted = async () => {
    const broker = makeBroker();
    const url = await MOUNTS[name]!(broker, options);
    const asks = asking(url);
    const check = new DocumentCheck(JSON.parse((await asks('/api/openapi.json')).body));
    const ask = async (method: string, path: string, as?: string, body?: string, headers = {}) => {
      const type: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' };
      const asked = await asks(`/api${path}`, {
        method,
        headers: { ...type, ...credentials(as), ...headers },
        ...(body !== undefined && { body }),
      });
      check.check(method, path, asked);
      return asked;
    };
    return { broker, url, asks, ask };
  };

  test('what is posted reaches a stream, and a poll', async () => {
    const { broker, url, ask } = await mounted();
    const alice = await openStream(`${url}/api/stream`, { headers: credentials('user alice') });
    expect(await alice.next('connected')).toMatchObject({ userId: 'alice' });
    const send = JSON.stringify({ user_id: 'alice', event_type: 'note', data: { text: 'ünï 😀' } });
    expect((await ask('POST', '/send', 'publish', send)).status).toBe(202);
    expect(await alice.next('note')).toEqual({ text: 'ünï 😀' });

    const polling = ask('GET', '/poll?wait=10000', 'user bob');
    while (!broker.isUserOnline('bob')) await new Promise((resolve) => setImmediate(resolve));
    expect((await ask('POST', '/broadcast', 'publish', '{"event_type":"note","data":1}')).status).toBe(202);
    expect(JSON.parse((await polling).body).events).toMatchObject([{ type: 'note', data: 1 }]);
    expect(broker.reported).toEqual([]);
  });

  test('it is closed to others, and answers errors as JSON', async () => {
    const { broker, ask, asks } = await mounted();
    const good = '{"user_id":"a","event_type":"e","data":1}';
    const answered = async (...request: Parameters<typeof ask>) => {
      const { status, error } = await ask(...request);
      return [status, error?.code];
    };
    expect(await answered('POST', '/send', undefined, good)).toEqual([401, 'SSE_ERR_UNAUTHENTICATED']);
    expect(await answered('GET', '/info', 'publish')).toEqual([403, 'SSE_ERR_FORBIDDEN']);
    expect(await answered('GET', '/stream/bob', 'user alice')).toEqual([403, 'SSE_ERR_FORBIDDEN']);
    expect(await answered('POST', '/send', 'publish', '{"user_id":7,"event_type":"e","data":1}')).toEqual([
      400,
      'SSE_ERR_INVALID_REQUEST',
    ]);
    const long = JSON.stringify({ user_id: 'a', event_type: 'e', data: 'x'.repeat(10_000) });
    expect(await answered('POST', '/send', 'publish', long)).toEqual([413, 'SSE_ERR_BODY_TOO_LARGE']);
    expect(await answered('GET', '/nowhere', 'publish')).toEqual([404, 'SSE_ERR_NOT_FOUND']);
    expect(await answered('GET', '/send', 'publish')).toEqual([405, 'SSE_ERR_METHOD_NOT_ALLOWED']);
    expect((await ask('HEAD', '/healthz')).status).toBe(200);
    expect((await asks('/other')).body).toBe('other');
    expect(broker.reported).toEqual([]);
  });

  test('a body in pieces of unknown length has the same limit', async () => {
    const { url } = await mounted();
    const statusOf = (size: number) =>
      new Promise<number>((resolve, reject) => {
        const req = http.request(`${url}/api/send`, {
          method: 'POST',
          agent: false,
          headers: { 'content-type': 'application/json', ...credentials('publish') },
        });
        req.on('response', (res) => {
          res.resume();
          resolve(res.statusCode!);
        });
        req.on('error', reject);
        req.write('{"user_id":"a","event_type":"e","data":"');
        for (let sent = 0; sent < size; sent += 1_000) req.write('x'.repeat(1_000));
        req.end('"}');
      });
    expect(await statusOf(5_000)).toBe(202);
    expect(await statusOf(20_000)).toBe(413);
  });
});

test('HTTP/2', async () => {
  const broker = makeBroker();
  const api = createApi(broker, { ...(options as ApiOptions), path: '/api' });
  const url = await running(http2.createServer((req, res) => void api(req, res)));
  const open = http2Client(url);
  const alice = await open('/api/stream', { headers: credentials('user alice') });
  await alice.next('connected');
  const session = http2.connect(url);
  onTestFinished(() => session.destroy());
  const posted = (body: string) =>
    new Promise<number>((resolve, reject) => {
      const stream = session.request({
        ':method': 'POST',
        ':path': '/api/send',
        'content-type': 'application/json',
        ...credentials('publish'),
      });
      stream.on('response', (head) => resolve(head[':status']!));
      stream.on('error', reject);
      stream.resume();
      stream.end(body);
    });
  expect(await posted('{"user_id":"alice","event_type":"note","data":1}')).toBe(202);
  expect(await alice.next('note')).toBe(1);
  expect(await posted(`"${'x'.repeat(20_000)}"`)).toBe(413);
  expect(await posted('{')).toBe(400);
});
