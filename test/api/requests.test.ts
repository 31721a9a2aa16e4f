/** What a request may look like: bodies, media types, limits, methods, origins, and how often. */
import { readFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import {
  type ApiOptions,
  createApi,
  createFetchApi,
  DEFAULT_API_OPTIONS,
  tokenAuthorizer,
} from '../../src/api/index.js';
import { makeBroker } from '../support/broker.js';
import { root } from '../support/package.js';
import { connectRaw } from '../support/raw.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';
import { credentials, mountApi, TOKENS } from './mounted.js';

const authorize = tokenAuthorizer([{ token: TOKENS.publish, scopes: ['publish'] }]);
const mount = (options: ApiOptions = {}) => mountApi({ authorize, ...options });
const note = { user_id: 'alice', event_type: 'note', data: 1 };
const json = { 'content-type': 'application/json', ...credentials('publish') };

describe('a body', () => {
  test('what is wrong is named, and its value is not shown', async () => {
    const { post } = await mount();
    const cases: readonly (readonly [body: unknown, field: string])[] = [
      [{ ...note, user_id: undefined }, 'user_id'],
      [{ ...note, user_id: 7 }, 'user_id'],
      [{ ...note, user_id: '' }, 'user_id'],
      [{ ...note, user_id: 'x'.repeat(257) }, 'user_id'],
      [{ ...note, user_id: 'a\u0000b' }, 'user_id'],
      [{ ...note, user_id: 'half \ud800' }, 'user_id'],
      [{ ...note, event_type: 'two\nlines' }, 'event_type'],
      [{ ...note, event_type: 'connected' }, 'event_type'],
      [{ ...note, event_type: undefined }, 'event_type'],
      [{ ...note, data: undefined }, 'data'],
      [{ ...note, priority: 3 }, 'priority'],
      [{ ...note, priority: 'high' }, 'priority'],
      [{ ...note, ttl: -1 }, 'ttl'],
      [{ ...note, ttl: 0.5 }, 'ttl'],
      [{ ...note, ttl: 1e300 }, 'ttl'],
      [{ ...note, tll: 1 }, 'tll'],
      ['{"user_id":"a","event_type":"e","data":1,"__proto__":{"ttl":1}}', '__proto__'],
      [[], 'body'],
      [null, 'body'],
      ['"secret-text"', 'body'],
      ['{"user_id": secret-text}', 'body'],
      ['', 'body'],
    ];
    for (const [body, field] of cases) {
      const refused = await post('/send', body, 'publish');
      expect([refused.status, refused.json.error.field, refused.json.error.code], JSON.stringify(body)).toEqual([
        400,
        field,
        'SSE_ERR_INVALID_REQUEST',
      ]);
      expect(refused.json.error.message).toMatch(/^\S+ (is|must) /);
      expect(refused.body).not.toContain('secret');
    }
  });

  test('a name may be anything that the broker takes, quotes and 4-byte characters included', async () => {
    const { post, open, broker } = await mount({ authenticator: () => ({ userId: 'o\'brien "😀" {{x}} \\' }) });
    const stream = await open('/stream');
    await stream.next('connected');
    expect((await post('/send', { ...note, user_id: 'o\'brien "😀" {{x}} \\' }, 'publish')).status).toBe(202);
    await stream.next('note');
    expect(broker.reported).toEqual([]);
  });

  test('is JSON by its Content-Type', async () => {
    const { ask } = await mount();
    const body = JSON.stringify(note);
    const statusOf = async (type: string | undefined) =>
      (
        await ask('POST', '/send', {
          headers: { ...credentials('publish'), ...(type !== undefined && { 'content-type': type }) },
          body,
        })
      ).status;
    for (const type of [
      'application/json',
      'Application/JSON; charset=UTF-8',
      'application/json;charset="utf-8"',
      'application/vnd.acme+json',
    ]) {
      expect(await statusOf(type), type).toBe(202);
    }
    for (const type of [
      undefined,
      '',
      'text/plain',
      'text/json',
      'application/x-www-form-urlencoded',
      'application/json; charset=utf-16',
      'application/jsonp',
      'text/plain; application/json',
    ]) {
      expect(await statusOf(type), type).toBe(415);
    }
  });

  test('is UTF-8, with or without a byte order mark, and not compressed', async () => {
    const { url } = await mount();
    const posted = (body: Buffer, headers = {}) =>
      new Promise<{ status: number; text: string }>((resolve, reject) => {
        const req = http.request(
          `${url}/send`,
          { method: 'POST', agent: false, headers: { ...json, ...headers } },
          (res) => {
            let text = '';
            res.on('data', (chunk) => {
              text += chunk;
            });
            res.on('end', () => resolve({ status: res.statusCode!, text }));
          },
        );
        req.on('error', reject);
        req.end(body);
      });
    const text = JSON.stringify(note);
    expect((await posted(Buffer.from(`\ufeff${text}`))).status).toBe(202);
    const broken = await posted(Buffer.from([...Buffer.from('{"user_id":"'), 0xff, 0xfe, ...Buffer.from('"}')]));
    expect([broken.status, JSON.parse(broken.text).error.field]).toEqual([400, 'body']);
    expect((await posted(gzipSync(text), { 'content-encoding': 'gzip' })).status).toBe(415);
    expect((await posted(Buffer.from(text), { 'content-encoding': 'identity' })).status).toBe(202);
  });

  test('has a limit of its own, by what is announced and by what comes', async () => {
    const { post, ask } = await mount({ maxBodyBytes: 200 });
    const body = (size: number) => {
      const empty = JSON.stringify({ ...note, data: '' }).length;
      return { ...note, data: 'x'.repeat(size - empty) };
    };
    expect((await post('/send', body(200), 'publish')).status).toBe(202);
    const refused = await post('/send', body(201), 'publish');
    expect([refused.status, refused.json.error.code]).toEqual([413, 'SSE_ERR_BODY_TOO_LARGE']);
    const lying = await ask('POST', '/send', {
      headers: { ...json, 'transfer-encoding': 'chunked' },
      body: JSON.stringify(body(300)),
    });
    expect(lying.status).toBe(413);
  });

  test('maxBodyBytes 0 is no limit; the event has one all the same', async () => {
    const { post } = await mount({ maxBodyBytes: 0 });
    const refused = await post('/send', { ...note, data: 'x'.repeat(2_000_000) }, 'publish');
    expect([refused.status, refused.json.error.code]).toEqual([413, 'SSE_ERR_EVENT_TOO_LARGE']);
  });

  test('after one that was too long the connection goes on', async () => {
    const { url } = await mount({ maxBodyBytes: 100 });
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const ports: (number | undefined)[] = [];
    const posted = (body: string) =>
      new Promise<number>((resolve, reject) => {
        const req = http.request(`${url}/send`, { method: 'POST', agent, headers: json }, (res) => {
          ports.push(req.socket?.localPort);
          res.resume();
          res.on('end', () => resolve(res.statusCode!));
        });
        req.on('error', reject);
        // In two pieces, so that its length is not announced.
        req.write(body.slice(0, 50));
        req.end(body.slice(50));
      });
    expect(await posted(`"${'x'.repeat(300_000)}"`)).toBe(413);
    expect(await posted(JSON.stringify(note))).toBe(202);
    expect(ports[0]).toBe(ports[1]);
    agent.destroy();
  });

  test('nesting of any depth is refused or sent, and nothing breaks', async () => {
    const { post, broker } = await mount();
    for (const headers of [{}, { 'idempotency-key': 'k' }]) {
      const deep = `{"user_id":"a","event_type":"e","data":${'['.repeat(100_000)}${']'.repeat(100_000)}}`;
      const refused = await post('/send', deep, 'publish', headers);
      expect(refused.status).toBe(400);
    }
    expect((await post('/send', note, 'publish')).status).toBe(202);
    expect(broker.reported.every(({ status }) => status === 400)).toBe(true);
  });

  test('a sender who leaves in the middle of one leaves nothing behind', async () => {
    const broker = makeBroker();
    let isAsked = false;
    let isOver = false;
    const api = createApi(broker, {
      authorize: () => {
        isAsked = true;
        return ['publish'];
      },
    });
    const { port } = await serve(async (req, res) => {
      await api(req, res);
      isOver = true;
    });
    const raw = await connectRaw(port);
    raw.write(
      'POST /send HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"user_id"',
    );
    await until(() => isAsked, 'the request to be looked at');
    expect(isOver).toBe(false);
    raw.destroy();
    await until(() => isOver, 'the handler to let go');
    expect(broker.reported).toEqual([]);
  });

  test('one that was read before the API and left nowhere is the application’s mistake, and told to it', async () => {
    const broker = makeBroker();
    const api = createFetchApi(broker, { authorize: () => ['publish'] });
    const request = new Request('http://localhost/send', { method: 'POST', headers: json, body: JSON.stringify(note) });
    await request.text();
    expect((await api(request)).status).toBe(500);
    expect(broker.reported.map(({ cause }) => String(cause))).toEqual([expect.stringContaining('read before the API')]);
  });
});

describe('a path and a method', () => {
  test('405 names what is allowed, OPTIONS too, and HEAD is GET without its body', async () => {
    const { ask } = await mount();
    const refused = await ask('DELETE', '/send', { headers: credentials('publish') });
    expect([refused.status, refused.headers.allow]).toEqual([405, 'POST, OPTIONS']);
    const options = await ask('OPTIONS', '/stream/a/b');
    expect([options.status, options.headers.allow]).toEqual([204, 'GET, HEAD, OPTIONS']);
    const head = await ask('HEAD', '/openapi.json');
    expect([head.status, head.body, head.headers['content-type']]).toEqual([
      200,
      '',
      'application/json; charset=utf-8',
    ]);
    expect((await ask('HEAD', '/stream', { headers: credentials('user alice') })).headers['content-type']).toMatch(
      /event-stream/,
    );
  });

  test('only what is below `path` is the API’s', async () => {
    const broker = makeBroker();
    const api = createFetchApi(broker, { path: '/v1/api/' });
    const statusOf = async (path: string) => (await api(new Request(`http://localhost${path}`))).status;
    expect(await statusOf('/v1/api/healthz')).toBe(200);
    expect(await statusOf('/v1/api/healthz?x=/v1')).toBe(200);
    for (const path of [
      '/healthz',
      '/v1/apihealthz',
      '/v1/apix/healthz',
      '/v1/api',
      '/v1/api/',
      '/v1/api//healthz',
      '/v1/api/healthz/',
      '/V1/api/healthz',
      '/x/v1/api/healthz',
    ]) {
      expect(await statusOf(path), path).toBe(404);
    }
  });

  test('dots are no way out of a path, or into it', async () => {
    const broker = makeBroker();
    const { port } = await serve(createApi(broker, { path: '/api' }));
    for (const path of [
      '/api/../api/healthz',
      '/api/./healthz',
      '/x/../api/healthz',
      '/api/%2e/healthz',
      '/api\\healthz',
    ]) {
      const raw = await connectRaw(port);
      raw.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
      expect((await until(() => raw.responses()[0])).status, path).toBe(404);
    }
  });

  test('answers are not kept by caches, and not sniffed', async () => {
    const { ask } = await mount();
    for (const path of ['/healthz', '/nowhere']) {
      expect((await ask('GET', path)).headers).toMatchObject({
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
      });
    }
  });
});

describe('parameters', () => {
  test('numbers in a query are numbers within bounds, and what is not known there is somebody else’s', async () => {
    const { ask } = await mountApi({ authorize: () => ['read'] });
    const statusOf = async (query: string) => (await ask('GET', `/connections?${query}`)).status;
    expect(await statusOf('limit=10&after=x&access_token=x')).toBe(200);
    for (const query of [
      'limit=0',
      'limit=1001',
      'limit=x',
      'limit=1.5',
      'limit=',
      'after=',
      'limit=1e999',
      'limit[]=1&limit=x',
    ]) {
      expect(await statusOf(query), query).toBe(400);
    }
    // As an authenticator reads it, the first counts.
    expect(await statusOf('limit=1&limit=x')).toBe(200);
  });
});

describe('cors', () => {
  test('other origins are let in where the option names them, to post as well', async () => {
    const { ask } = await mount({ cors: { origin: 'https://app.example', credentials: true } });
    const origin = { origin: 'https://app.example' };
    const preflight = await ask('OPTIONS', '/send', {
      headers: { ...origin, 'access-control-request-method': 'POST' },
    });
    expect(preflight.headers).toMatchObject({
      'access-control-allow-origin': 'https://app.example',
      'access-control-allow-credentials': 'true',
      'access-control-allow-methods': 'POST',
      'access-control-allow-headers':
        'Authorization, Cache-Control, Device-Id, Last-Event-ID, Content-Type, Idempotency-Key',
    });
    const refused = await ask('POST', '/send', {
      headers: { ...origin, 'content-type': 'application/json' },
      body: '{}',
    });
    expect(refused.headers).toMatchObject({ 'access-control-allow-origin': 'https://app.example', vary: 'Origin' });
    const stranger = await ask('OPTIONS', '/send', { headers: { origin: 'https://evil.example' } });
    expect(stranger.headers['access-control-allow-origin']).toBeUndefined();
  });

  test('no option, no header', async () => {
    const { ask } = await mount();
    const { headers } = await ask('OPTIONS', '/send', { headers: { origin: 'https://app.example' } });
    expect(Object.keys(headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
  });
});

describe('rateLimit', () => {
  test('who comes too often is 429 with how long to wait, before anybody is asked who that is', async () => {
    const asked: string[] = [];
    let isTooMany = false;
    const { post, get, open, broker } = await mountApi({
      authorize: () => {
        asked.push('authorize');
        return ['publish'];
      },
      rateLimit: (_req, _context, route) => {
        asked.push(route);
        return isTooMany ? 2_500 : 0;
      },
    });
    expect((await post('/send', note, 'publish')).status).toBe(202);
    expect(asked).toEqual(['POST /send', 'authorize']);
    isTooMany = true;
    const refused = await post('/send', note, 'publish');
    expect([refused.status, refused.json.error.code, refused.headers['retry-after']]).toEqual([
      429,
      'SSE_ERR_RATE_LIMITED',
      '3',
    ]);
    expect(asked.filter((one) => one === 'authorize')).toHaveLength(1);
    for (const path of ['/stream', '/stream/alice']) {
      const stream = await open(path, 'user alice');
      expect([stream.status, stream.headers['retry-after']]).toEqual([429, '3']);
    }
    // A balancer that is turned away would take the node out.
    for (const path of ['/healthz', '/readyz']) expect((await get(path)).status).toBe(200);
    expect(broker.reported).toEqual([]);
  });

  test.each([new Error('the counter is down'), undefined])(
    'one that throws %s is told to the application, and lets nobody in',
    async (thrown) => {
      const { post, open, get, broker } = await mount({
        rateLimit: async () => {
          throw thrown;
        },
      });
      expect((await post('/send', note, 'publish')).status).toBe(500);
      expect((await open('/stream', 'user alice')).status).toBe(500);
      expect((await get('/poll', 'user alice')).status).toBe(500);
      expect(broker.reported).toHaveLength(3);
    },
  );

  test('one that never answers keeps nobody for longer than authenticationTimeout, and lets nobody in', async () => {
    const { post, open, get } = await mount({ rateLimit: () => new Promise(() => {}), authenticationTimeout: 20 });
    const refused = await post('/send', note, 'publish');
    expect([refused.status, refused.json.error.code]).toEqual([503, 'SSE_ERR_AUTHENTICATION_TIMEOUT']);
    expect((await open('/stream', 'user alice')).status).toBe(503);
    expect((await get('/poll', 'user alice')).status).toBe(503);
  });
});

describe('options', () => {
  test('the guide has them all, with their defaults', () => {
    const guide = readFileSync(path.join(root, 'docs/guides/rest-api.md'), 'utf8');
    for (const [name, value] of Object.entries(DEFAULT_API_OPTIONS)) {
      expect(guide).toContain(`| \`${name}\` | \`${value === '' ? "''" : value}\` |`);
    }
    for (const name of ['inbox', 'authorize', 'rateLimit']) expect(guide).toContain(`| \`${name}\` |`);
  });

  test('nonsense is refused when the API is made', () => {
    const broker = makeBroker();
    const refused = (options: object) => {
      try {
        createApi(broker, options);
      } catch (error) {
        return error;
      }
      return undefined;
    };
    const invalid = { code: 'SSE_ERR_INVALID_OPTION' };
    for (const options of [
      { path: 'api' },
      { path: '/a?b' },
      { path: 7 },
      { authorise: () => [] },
      { authorize: [] },
      { rateLimit: 7 },
      { inbox: {} },
      { maxBodyBytes: -1 },
      { maxBodyBytes: 1.5 },
      { idempotencyTtl: Number.NaN },
      { maxIdempotencyKeys: '5' },
      { authenticator: 'x' },
    ]) {
      expect(refused(options), JSON.stringify(options)).toMatchObject(invalid);
    }
    expect(() => createApi(undefined as never)).toThrow(/broker must be a Broker/);
    expect(() => createApi(broker, null as never)).toThrow(/options must be an object/);
    expect(refused({})).toBeUndefined();
  });
});
