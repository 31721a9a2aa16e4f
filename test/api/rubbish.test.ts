/** What clients, parsers before the API and callbacks of the application may do wrong, and what comes of it. */
import http from 'node:http';
import http2 from 'node:http2';
import { gzipSync } from 'node:zlib';
import express from 'express';
import fastify from 'fastify';
import { describe, expect, onTestFinished, test } from 'vitest';
import { toFastifyHandler } from '../../src/adapters/fastify.js';
import { jsonBodyOf } from '../../src/api/body.js';
import { type ApiOptions, createApi, createFetchApi } from '../../src/api/index.js';
import { SseError } from '../../src/index.js';
import { asking } from '../support/ask.js';
import { makeBroker } from '../support/broker.js';
import { listen } from '../support/server.js';
import { until } from '../support/until.js';
import { inboxOf } from './inboxes.js';
import { mountApi } from './mounted.js';

const json = { 'content-type': 'application/json' };
const anybody: ApiOptions = { authorize: () => ['publish', 'read'] };
const note = { user_id: 'alice', event_type: 'note', data: 1 };

describe('a body', () => {
  test('a media type of any length is told apart at once', async () => {
    const blanks = ' '.repeat(100_000);
    const before = performance.now();
    for (const type of [
      `application/json${blanks}x`,
      `application/json;${blanks}x`,
      `application/${'+'.repeat(100_000)}x`,
    ]) {
      const request = { method: 'POST', url: '/', headers: { 'content-type': type } };
      await expect(jsonBodyOf(request, 0, false, async () => undefined)).rejects.toMatchObject({ status: 415 });
    }
    // It was 8 s, growing with the square; now it is some ms.
    expect(performance.now() - before).toBeLessThan(2_000);
  });

  test('null that a framework has parsed is a body that is wrong, not one that is missing', async () => {
    const broker = makeBroker();
    const app = fastify();
    app.all('/*', toFastifyHandler(createApi(broker, anybody)));
    const url = await app.listen({ host: '127.0.0.1', port: 0 });
    onTestFinished(() => app.close());
    for (const body of ['null', 'false', '0', '""']) {
      const { status, error } = await asking(url)('/send', { method: 'POST', headers: json, body });
      expect([status, error?.code], body).toEqual([400, 'SSE_ERR_INVALID_REQUEST']);
    }
    expect(broker.reported).toEqual([]);
  });

  test.each([
    ['express.raw()', express.raw({ type: '*/*', limit: '1mb' })],
    ['express.text()', express.text({ type: '*/*', limit: '1mb' })],
    ['express.json()', express.json({ limit: '1mb' })],
  ])('maxBodyBytes is for what %s made of it, too', async (_name, parser) => {
    const app = express();
    app.use(parser, createApi(makeBroker(), { ...anybody, maxBodyBytes: 1_000 }));
    const { url, close } = await listen(http.createServer(app));
    onTestFinished(() => close());
    const posted = (body: Buffer, headers: http.OutgoingHttpHeaders) =>
      new Promise<number>((resolve, reject) => {
        const req = http.request(`${url}/send`, { method: 'POST', agent: false, headers: { ...json, ...headers } });
        req.on('response', (res) => resolve(res.resume().statusCode!));
        req.on('error', reject);
        // In two pieces, so that its length is announced only where it is said here.
        req.write(body.subarray(0, 10));
        req.end(body.subarray(10));
      });
    const text = (length: number) => Buffer.from(JSON.stringify({ ...note, data: 'x'.repeat(length) }));
    expect(await posted(text(500), {})).toBe(202);
    expect(await posted(text(5_000), {})).toBe(413);
    const small = gzipSync(text(5_000));
    expect(small.length).toBeLessThan(1_000);
    expect(await posted(small, { 'content-encoding': 'gzip', 'content-length': small.length })).toBe(413);
  });

  test('one that breaks off, though its sender is there, is refused', async () => {
    const broker = makeBroker();
    const api = createFetchApi(broker, { authorize: () => ['publish'] });
    const body = new ReadableStream({
      pull: (controller) => controller.error(new Error('not gzip at all')),
    });
    const init = { method: 'POST', headers: json, body, duplex: 'half' };
    const answer = await api(new Request('http://localhost/broadcast', init as RequestInit));
    const { error } = (await answer.json()) as { error: { field: string } };
    expect([answer.status, error.field]).toEqual([400, 'body']);
    expect(broker.reported).toEqual([]);
  });

  test.each([
    ['/nowhere', {}, 404],
    ['/send', {}, 413],
    ['/send', { 'content-length': '1000000' }, 413],
    ['/info', {}, 405],
  ])('over HTTP/2 one without an end, to %s %j, ends with the answer', async (path, headers, status) => {
    const api = createApi(makeBroker(), { ...anybody, maxBodyBytes: 1_000 });
    const open = new Set<http2.ServerHttp2Stream>();
    const server = http2.createServer((req, res) => void api(req, res));
    server.on('stream', (stream) => {
      open.add(stream);
      stream.on('close', () => open.delete(stream));
    });
    const { url, close } = await listen(server);
    onTestFinished(() => close());
    const session = http2.connect(url);
    onTestFinished(() => session.destroy());
    const stream = session.request({ ':method': 'POST', ':path': path, ...json, ...headers });
    const seen = { status: 0, text: '' };
    stream.on('response', (head) => {
      seen.status = head[':status']!;
    });
    stream.on('data', (chunk) => {
      seen.text += chunk;
    });
    stream.on('error', () => {});
    const more = setInterval(() => stream.writable && stream.write('x'.repeat(500)), 1);
    onTestFinished(() => clearInterval(more));
    await until(() => stream.closed && open.size === 0, 'the stream to end on both sides');
    expect(seen.status).toBe(status);
    expect(JSON.parse(seen.text).error.code).toMatch(/^SSE_ERR_/);
    expect(session.closed).toBe(false);
  });

  test('names are as long as the core takes them, in UTF-16 units; half a character is named', async () => {
    const { post } = await mountApi(anybody);
    const emoji = '😀'.repeat(128);
    for (const [field, value] of [
      ['user_id', `${emoji}x`],
      ['event_type', `${emoji}x`],
      ['data', 'half \ud800'],
    ] as const) {
      expect((await post('/send', { ...note, [field]: emoji })).status).toBe(202);
      const refused = await post('/send', { ...note, [field]: value });
      expect([refused.status, refused.json.error]).toEqual([
        400,
        { code: 'SSE_ERR_INVALID_REQUEST', message: expect.stringMatching(/must/), field },
      ]);
    }
    const deep = `{"user_id":"a","event_type":"e","data":${'['.repeat(100_000)}${']'.repeat(100_000)}}`;
    expect((await post('/send', deep)).json.error.field).toBe('data');
  });
});

describe('callbacks', () => {
  test.each([
    ['Infinity', () => Number.POSITIVE_INFINITY],
    ['NaN', () => Number.NaN],
    ['true', () => true],
    [
      'an SseError with a status of its own',
      () => {
        throw new SseError('SSE_ERR_FORBIDDEN', 'the secret of the counter');
      },
    ],
  ])(
    'a rateLimit that gives or throws %s lets nobody in, and is told to the application only',
    async (_what, limit) => {
      const { post, open, broker } = await mountApi({ ...anybody, rateLimit: limit as never });
      const refused = await post('/broadcast', { event_type: 'note', data: 1 });
      expect([refused.status, refused.json.error]).toEqual([
        500,
        { code: 'SSE_ERR_INTERNAL', message: 'the request could not be served' },
      ]);
      expect((await open('/stream', 'user alice')).status).toBe(500);
      expect(broker.reported).toHaveLength(2);
    },
  );

  test('an EventSource that comes too often is told when to come back: a status would end it for good', async () => {
    const { open, get, broker } = await mountApi({ ...anybody, rateLimit: () => 2_500 });
    const codes: string[] = [];
    broker.on('requestRefused', ({ code }) => codes.push(code));
    for (const path of ['/stream', '/stream/alice', '/stream/news/sport']) {
      const later = await open(path, 'user alice', { 'cache-control': 'no-cache' });
      await later.ended();
      expect([later.status, later.text()]).toEqual([200, 'retry: 2500\n: SSE_ERR_RATE_LIMITED\n\n']);
      expect((await open(path, 'user alice')).headers['retry-after']).toBe('3');
    }
    expect((await get('/poll', 'user alice')).status).toBe(429);
    expect(codes).toEqual(Array.from({ length: 7 }, () => 'SSE_ERR_RATE_LIMITED'));
    const { open: opened, broker: failing } = await mountApi({
      rateLimit: () => 2_500,
      refusal: () => {
        throw new Error('no style');
      },
    });
    expect((await opened('/stream', 'user alice')).status).toBe(429);
    expect(failing.reported).toHaveLength(1);
  });

  test('what is wrong in the path of a stream is named, as everywhere', async () => {
    const { get } = await mountApi(anybody);
    const refused = await get('/stream/a%0Ab/c', 'user alice');
    expect([refused.status, refused.json.error.field]).toEqual([400, 'group']);
  });

  test('"stay away" of an Authenticator is a refusal where nobody listens for it', async () => {
    const { get, broker } = await mountApi((broker) => ({
      inbox: inboxOf(broker),
      authenticator: () => {
        throw new SseError('SSE_ERR_FORBIDDEN', 'gone for good', { status: 204 });
      },
    }));
    const refused = await get('/messages/unread', 'user alice');
    expect([refused.status, refused.json.error.code]).toEqual([403, 'SSE_ERR_FORBIDDEN']);
    for (const path of ['/stream', '/poll']) {
      const away = await get(path, 'user alice');
      expect([away.status, away.body]).toEqual([204, '']);
    }
    expect(broker.reported.map(({ code }) => code)).not.toContain('SSE_ERR_INTERNAL');
  });

  test('an authorizeTopic that never answers keeps nobody who subscribes for longer than a stream', async () => {
    const { post, broker } = await mountApi((broker) => ({
      inbox: inboxOf(broker),
      authorizeTopic: () => new Promise(() => {}),
      authenticationTimeout: 20,
    }));
    const refused = await post('/subscribe', { group: 'news' }, 'user alice');
    expect([refused.status, refused.json.error.code]).toEqual([503, 'SSE_ERR_AUTHENTICATION_TIMEOUT']);
    expect(broker.reported).toEqual([]);
  });
});
