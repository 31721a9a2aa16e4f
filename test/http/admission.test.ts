/** Who gets in: authenticator, topics and their authorisation, limits, methods, and requests that mean harm. */
import type http from 'node:http';
import { describe, expect, test } from 'vitest';
import {
  createHandler,
  type HandlerOptions,
  type Identity,
  queryAuthenticator,
  queryTopicResolver,
  type RequestLike,
  SseError,
} from '../../src/index.js';
import { asking, carriers } from '../support/ask.js';
import { makeBroker } from '../support/broker.js';
import { ManualClock } from '../support/manual-clock.js';
import { connectRaw } from '../support/raw.js';
import { serve } from '../support/server.js';
import { openStream } from '../support/stream.js';
import { until } from '../support/until.js';

type Options = HandlerOptions<RequestLike>;

/** A promise with its ends in hand. */
function deferred<T>() {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((ok, fail) => {
    resolve = ok;
    reject = fail;
  });
  return { promise, resolve, reject };
}

for (const [carrier, serveBy] of Object.entries(carriers)) {
  describe(carrier, () => {
    describe('the authenticator', () => {
      test.each([[null], [undefined], [false]])('%s is 401, asks for credentials, and is no error', async (nobody) => {
        const broker = makeBroker();
        const refusals: unknown[] = [];
        broker.on('requestRefused', (refusal) => refusals.push(refusal));
        const ask = await serveBy(broker, { authenticator: () => nobody as null });
        const { status, headers, error } = await ask();
        expect(status).toBe(401);
        expect(headers['www-authenticate']).toBe('Bearer');
        expect(headers['cache-control']).toBe('no-store');
        expect(error).toEqual({ code: 'SSE_ERR_UNAUTHENTICATED', message: 'authentication is required' });
        expect(broker.reported).toEqual([]);
        expect(refusals).toEqual([{ code: 'SSE_ERR_UNAUTHENTICATED', status: 401 }]);
        expect(broker.getStats()).toMatchObject({ refused: 1, connects: 0, totalClients: 0 });
      });

      test.each<[string, unknown]>([
        ['an Error', new Error('the password is hunter2')],
        ['a string', 'hunter2'],
        ['null', null],
        ['undefined', undefined],
        ['an SseError without a status', new SseError('SSE_ERR_INVALID_OPTION', 'hunter2')],
      ])('that throws or rejects %s: 401, and only the application hears of it', async (_name, thrown) => {
        const sync = () => {
          throw thrown;
        };
        for (const authenticator of [sync, async () => sync(), () => Promise.reject(thrown)]) {
          const broker = makeBroker();
          const origins: string[] = [];
          broker.on('error', (_error, origin) => origins.push(origin));
          const ask = await serveBy(broker, { authenticator });
          const { status, body, error } = await ask();
          expect(status).toBe(401);
          expect(error?.code).toBe('SSE_ERR_UNAUTHENTICATED');
          expect(body).not.toContain('hunter2');
          expect(origins).toEqual(['authenticator']);
          const [reported] = broker.reported;
          expect(thrown instanceof SseError ? reported : reported!.cause).toBe(thrown);
        }
      });

      test('keeps the status of an SseError, not its message', async () => {
        for (const [status, retryAfter] of [
          [403, false],
          [418, false],
          [429, true],
          [503, true],
          [599, false],
        ] as const) {
          const broker = makeBroker();
          const ask = await serveBy(broker, {
            authenticator: () => {
              throw new SseError('SSE_ERR_FORBIDDEN', 'hunter2', { status });
            },
          });
          const answer = await ask();
          expect(answer.status).toBe(status);
          expect(answer.error).toEqual({ code: 'SSE_ERR_FORBIDDEN', message: 'authentication failed' });
          expect(answer.headers['retry-after'] !== undefined).toBe(retryAfter);
          expect(broker.reported[0]!.message).toBe('hunter2');
        }
      });

      test('may send a browser away for good with 204, which has no body', async () => {
        const ask = await serveBy(makeBroker(), {
          authenticator: () => {
            throw new SseError('SSE_ERR_UNAUTHENTICATED', 'gone', { status: 204 });
          },
        });
        const { status, body } = await ask();
        expect([status, body]).toEqual([204, '']);
      });

      test.each([Number.NaN, -1, 0, 99, 101, 200, 302, 404.5, 600, 99_999, '403'])(
        'an SseError with status %s is 500, and the server lives',
        async (status) => {
          const broker = makeBroker();
          const ask = await serveBy(broker, {
            authenticator: (req) => {
              if (req.url?.includes('bad') !== true) return {};
              throw new SseError('SSE_ERR_FORBIDDEN', 'hunter2', { status: status as number });
            },
          });
          const answer = await ask('/?bad');
          expect(answer.status).toBe(500);
          expect(answer.error?.code).toBe('SSE_ERR_INTERNAL');
          expect((await ask('/', { method: 'HEAD' })).status).toBe(200);
        },
      );

      const lonely = '\ud800';
      test.each<[string, unknown]>([
        ['a string', 'alice'],
        ['a number', 7],
        ['true', true],
        ['a list', [{ userId: 'alice' }]],
        ['a function', () => ({ userId: 'alice' })],
        ['a symbol', Symbol('alice')],
        ['an empty user', { userId: '' }],
        ['a user with a line break', { userId: 'alice\nevent: forged' }],
        ['a user with NUL', { userId: 'a\0' }],
        ['a user that is null', { userId: null }],
        ['a user that is a number', { userId: 7 }],
        ['a user of 257 characters', { userId: 'x'.repeat(257) }],
        ['a user with half a character', { userId: lonely }],
        ['an empty tenant', { userId: 'alice', tenantId: '' }],
        ['a tenant that is an object', { userId: 'alice', tenantId: { id: 'acme' } }],
        ['a tenant with half a character', { userId: 'alice', tenantId: lonely }],
        ['an expiry that is NaN', { userId: 'alice', expiresAt: Number.NaN }],
        ['an expiry that is a Date', { userId: 'alice', expiresAt: new Date(Date.now() + 60_000) }],
        ['an expiry that is text', { userId: 'alice', expiresAt: '2999-01-01' }],
        ['an expiry that is null', { userId: 'alice', expiresAt: null }],
        [
          'an object that throws when it is looked at',
          {
            get userId() {
              throw new Error('no');
            },
          },
        ],
      ])('that gives %s: 500, an error event, nobody connected', async (_name, identity) => {
        const broker = makeBroker();
        const origins: string[] = [];
        broker.on('error', (_error, origin) => origins.push(origin));
        const ask = await serveBy(broker, { authenticator: () => identity as Identity });
        const { status, error } = await ask();
        expect(status).toBe(500);
        expect(error).toEqual({ code: 'SSE_ERR_INTERNAL', message: 'authentication failed' });
        expect(origins).toEqual(['authenticator']);
        expect(broker.getStats()).toMatchObject({ connects: 0, totalClients: 0, totalUsers: 0 });
      });

      test('an identity that has expired is 401', async () => {
        const clock = new ManualClock();
        for (const expiresAt of [clock.now() - 1, clock.now(), 1, -1, Number.NEGATIVE_INFINITY]) {
          const broker = makeBroker({ clock });
          const ask = await serveBy(broker, { authenticator: () => ({ userId: 'alice', expiresAt }) });
          expect((await ask()).status).toBe(401);
          expect(broker.reported).toEqual([]);
        }
      });

      test('an identity that expires while its topics are authorised is 401, and gets no history', async () => {
        const clock = new ManualClock();
        const broker = makeBroker({ clock, historySize: 10 });
        const id = await broker.broadcast('note', 'secret');
        const ask = await serveBy(broker, {
          authenticator: () => ({ expiresAt: clock.now() + 1_000 }),
          topicResolver: () => ['a'],
          authorizeTopic: async () => {
            clock.advance(1_000);
            return true;
          },
        });
        const { status, body } = await ask('/', { headers: { 'last-event-id': id } });
        expect(status).toBe(401);
        expect(body).not.toContain('secret');
        expect(broker.getStats().connects).toBe(0);
      });

      test('that hangs is 503 to be tried again after authenticationTimeout, and comes too late afterwards', async () => {
        const broker = makeBroker();
        const slow = deferred<Identity>();
        const ask = await serveBy(broker, { authenticator: () => slow.promise, authenticationTimeout: 20 });
        const { status, headers, error } = await ask();
        expect(status).toBe(503);
        expect(error?.code).toBe('SSE_ERR_AUTHENTICATION_TIMEOUT');
        expect(Number(headers['retry-after'])).toBeGreaterThan(0);
        slow.resolve({ userId: 'alice' });
        await new Promise((resolve) => setImmediate(resolve));
        expect(broker.getStats()).toMatchObject({ connects: 0, totalUsers: 0, refused: 1 });
      });

      test('that fails after authenticationTimeout is reported and hurts nobody', async () => {
        const broker = makeBroker();
        const slow = deferred<Identity>();
        const ask = await serveBy(broker, { authenticator: () => slow.promise, authenticationTimeout: 20 });
        expect((await ask()).status).toBe(503);
        slow.reject(new Error('too late'));
        await until(() => broker.reported.length === 1, 'the error event');
      });
    });

    describe('topics', () => {
      const twice = (topic: string) => `/?topics=${encodeURIComponent(topic)}`;

      test.each<[string, unknown]>([
        ['nothing', undefined],
        ['null', null],
        ['a string', 'a,b'],
        ['a set', new Set(['a'])],
        ['an object', { 0: 'a', length: 1 }],
        ['numbers', [1]],
        ['a hole', ['a', undefined]],
        // biome-ignore lint/suspicious/noSparseArray: it is what the test is about
        ['a sparse list', [, 'a']],
        ['null in a list', ['a', null]],
        ['a list in a list', [['a']]],
      ])('a resolver that gives %s: 500 and an error event', async (_name, topics) => {
        const broker = makeBroker();
        const origins: string[] = [];
        broker.on('error', (_error, origin) => origins.push(origin));
        const ask = await serveBy(broker, { topicResolver: () => topics as string[] });
        const { status, error } = await ask();
        expect(status).toBe(500);
        expect(error).toEqual({ code: 'SSE_ERR_INTERNAL', message: 'the topics could not be determined' });
        expect(origins).toEqual(['topic-resolver']);
        expect(broker.getStats().connects).toBe(0);
      });

      test('names that a client may not ask for are its own mistake: 400, and no error event', async () => {
        const broker = makeBroker();
        const ask = await serveBy(broker, { topicResolver: queryTopicResolver() });
        for (const topic of ['a\nb', 'a\0', 'a\r\nevent: x', '\x7f', 'x'.repeat(257)]) {
          const { status, error } = await ask(twice(topic));
          expect(status).toBe(400);
          expect(error?.code).toBe('SSE_ERR_INVALID_TOPIC');
          expect(error?.message).toMatch(/^topic must .*; got /);
        }
        expect(broker.reported).toEqual([]);
      });

      test('a resolver or an authorisation that throws is 500; an SseError keeps its status, not its message', async () => {
        const throwing = (error: Error) => () => {
          throw error;
        };
        for (const [error, status] of [
          [new Error('hunter2'), 500],
          [new SseError('SSE_ERR_FORBIDDEN', 'hunter2'), 403],
          [new SseError('SSE_ERR_BUS_UNAVAILABLE', 'hunter2'), 503],
          [new SseError('SSE_ERR_INVALID_TOPIC', 'hunter2', { status: 404 }), 404],
        ] as const) {
          const allOptions: Options[] = [
            { topicResolver: throwing(error) },
            { topicResolver: () => ['a'], authorizeTopic: throwing(error) },
          ];
          for (const options of allOptions) {
            const broker = makeBroker();
            const ask = await serveBy(broker, options);
            const answer = await ask();
            expect(answer.status).toBe(status);
            expect(answer.body).not.toContain('hunter2');
            expect(broker.reported).toHaveLength(1);
          }
        }
      });

      test('an authorisation that is anything but true is 403, and nobody is asked further', async () => {
        for (const answer of [false, undefined, null, 0, 1, 'yes', {}]) {
          const broker = makeBroker();
          const asked: string[] = [];
          const ask = await serveBy(broker, {
            authenticator: () => ({ userId: 'alice' }),
            topicResolver: () => ['a', 'b', 'c'],
            authorizeTopic: async (identity, topic) => {
              asked.push(`${identity.userId}:${topic}`);
              return topic === 'a' || (answer as boolean);
            },
          });
          const { status, error } = await ask();
          expect(status).toBe(403);
          expect(error?.code).toBe('SSE_ERR_FORBIDDEN');
          expect(asked).toEqual(['alice:a', 'alice:b']);
          expect(broker.reported).toEqual([]);
        }
      });

      test('ten thousand topics are refused before anybody is asked about one', async () => {
        const broker = makeBroker();
        let asked = 0;
        const ask = await serveBy(broker, {
          topicResolver: () => Array.from({ length: 10_000 }, (_, n) => `t${n}`),
          authorizeTopic: () => {
            asked++;
            return true;
          },
        });
        const { status, error } = await ask();
        expect(status).toBe(403);
        expect(error?.code).toBe('SSE_ERR_TOO_MANY_TOPICS');
        expect(asked).toBe(0);
      });

      test('are 403 where the broker has none; without them the stream opens', async () => {
        const broker = makeBroker({ enableTopics: false });
        const ask = await serveBy(broker, { topicResolver: queryTopicResolver() });
        expect((await ask('/?topics=a')).error?.code).toBe('SSE_ERR_TOPICS_DISABLED');
        expect((await ask('/', { method: 'HEAD' })).status).toBe(200);
      });
    });

    describe('methods', () => {
      test.each(['POST', 'PUT', 'PATCH', 'DELETE'])('%s is 405 and says what is allowed', async (method) => {
        const ask = await serveBy(makeBroker());
        const { status, headers, error } = await ask('/', { method, body: 'x' });
        expect(status).toBe(405);
        expect(headers.allow).toBe('GET, HEAD, OPTIONS');
        expect(error?.code).toBe('SSE_ERR_METHOD_NOT_ALLOWED');
      });

      test('OPTIONS says what is allowed, and asks nobody', async () => {
        const ask = await serveBy(makeBroker(), { authenticator: () => null });
        const { status, headers, body } = await ask('/', { method: 'OPTIONS' });
        expect([status, headers.allow, body]).toEqual([204, 'GET, HEAD, OPTIONS', '']);
      });

      test('HEAD gives the head of the stream, opens none, and is refused like GET', async () => {
        const broker = makeBroker();
        const ask = await serveBy(broker, { authenticator: queryAuthenticator() });
        const { status, headers, body } = await ask('/?user_id=alice', { method: 'HEAD' });
        expect([status, headers['content-type'], body]).toEqual([200, 'text/event-stream; charset=utf-8', '']);
        const refused = await ask('/', { method: 'HEAD' });
        expect([refused.status, refused.body]).toEqual([401, '']);
        expect(broker.getStats().connects).toBe(0);
      });

      test('an Accept that takes no stream is 406', async () => {
        const ask = await serveBy(makeBroker());
        const { status, error } = await ask('/', { headers: { accept: 'application/json' } });
        expect([status, error?.code]).toEqual([406, 'SSE_ERR_NOT_ACCEPTABLE']);
      });
    });
  });
}

describe('what an authenticator is given', () => {
  test('the raw request, with what earlier middleware put on it', async () => {
    const broker = makeBroker();
    const handler = createHandler(broker, {
      authenticator: (req: http.IncomingMessage & { user?: { id: string } }) => ({ userId: req.user!.id }),
    });
    const { url } = await serve((req, res) => {
      Object.assign(req, { user: { id: 'from-session' } });
      void handler(req, res);
    });
    expect(await (await openStream(url)).next('connected')).toMatchObject({ userId: 'from-session' });
  });

  test('as long as it needs with authenticationTimeout 0', async () => {
    const broker = makeBroker();
    const slow = deferred<Identity>();
    const { url } = await serve(createHandler(broker, { authenticator: () => slow.promise, authenticationTimeout: 0 }));
    const opening = openStream(url);
    setTimeout(() => slow.resolve({ userId: 'alice' }), 50);
    expect((await opening).status).toBe(200);
  });

  test.each([0, undefined, Number.POSITIVE_INFINITY])(
    'an identity with expiresAt %s does not expire',
    async (expiresAt) => {
      const broker = makeBroker();
      const { url } = await serve(createHandler(broker, { authenticator: () => ({ userId: 'alice', expiresAt }) }));
      const stream = await openStream(url);
      await stream.next('connected');
      await broker.broadcast('note', 1);
      expect(await stream.next('note')).toBe(1);
    },
  );
});

test('topics that the application adds to its list while they are authorised do not count', async () => {
  const broker = makeBroker();
  const topics = ['mine'];
  const { url } = await serve(
    createHandler(broker, {
      topicResolver: () => topics,
      authorizeTopic: async () => {
        if (topics.length === 1) topics.push('not-mine');
        return true;
      },
    }),
  );
  expect(await (await openStream(url)).next('connected')).toMatchObject({ topics: ['mine'] });
});

describe('clients that leave while they are being authenticated', () => {
  test.each([
    ['let in', { userId: 'alice' }],
    ['refused', null],
  ])('leave nothing behind when they would have been %s', async (_name, identity) => {
    const broker = makeBroker();
    const waiting: ((identity: Identity | null) => void)[] = [];
    const { port, server } = await serve(
      createHandler(broker, { authenticator: () => new Promise<Identity | null>((resolve) => waiting.push(resolve)) }),
    );
    for (let n = 0; n < 100; n++) {
      const client = await connectRaw(port);
      client.get();
      await until(() => waiting.length === n + 1);
      client.destroy();
    }
    const connections = () =>
      new Promise<number>((resolve) => server.getConnections((_error, count) => resolve(count)));
    await until(async () => (await connections()) === 0, 'Node to see them leave');
    for (const resolve of waiting) resolve(identity);
    await new Promise((resolve) => setImmediate(resolve));
    expect(broker.getStats()).toMatchObject({ totalClients: 0, totalUsers: 0, connects: 0, ending: 0 });
    expect(broker.reported).toEqual([]);
  });
});

describe('limits', () => {
  test('maxConnections: 503 with Retry-After, until somebody leaves', async () => {
    const broker = makeBroker({ maxConnections: 2 });
    const { url } = await serve(createHandler(broker));
    const [first] = [await openStream(url), await openStream(url)];
    const { status, headers, error } = await asking(url)();
    expect(status).toBe(503);
    expect(error?.code).toBe('SSE_ERR_TOO_MANY_CONNECTIONS');
    expect(headers['retry-after']).toMatch(/^[3-9]$/);
    first!.close();
    await until(() => broker.getStats().totalClients === 1);
    expect((await openStream(url)).status).toBe(200);
  });

  test('maxConnections holds when all come at once, however long their authentication takes', async () => {
    const broker = makeBroker({ maxConnections: 10 });
    const gate = deferred<void>();
    let waiting = 0;
    const { url } = await serve(
      createHandler(broker, {
        authenticator: async () => {
          waiting++;
          await gate.promise;
          return {};
        },
      }),
    );
    const opening = Promise.all(Array.from({ length: 40 }, () => openStream(url)));
    await until(() => waiting === 40);
    gate.resolve();
    const statuses = (await opening).map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(10);
    expect(statuses.filter((status) => status === 503)).toHaveLength(30);
    expect(broker.getStats()).toMatchObject({ totalClients: 10, refused: 30 });
  });

  test('maxConnectionsPerUser: 429, counted per tenant, not for the anonymous', async () => {
    const broker = makeBroker({ maxConnectionsPerUser: 2 });
    const { url } = await serve(
      createHandler(broker, {
        authenticator: (req) => (req.url === '/' ? {} : (queryAuthenticator()(req, undefined) as Identity)),
      }),
    );
    const statusOf = async (path: string) => (await openStream(url + path)).status;
    for (const tenant of ['', '&tenant_id=acme', '&tenant_id=globex']) {
      const path = `/?user_id=alice${tenant}`;
      expect([await statusOf(path), await statusOf(path), await statusOf(path)]).toEqual([200, 200, 429]);
    }
    expect(await statusOf('/?user_id=bob')).toBe(200);
    expect([await statusOf('/'), await statusOf('/'), await statusOf('/')]).toEqual([200, 200, 200]);
    const { error, headers } = await asking(url)('/?user_id=alice');
    expect(error?.code).toBe('SSE_ERR_TOO_MANY_USER_CONNECTIONS');
    expect(Number(headers['retry-after'])).toBeGreaterThan(0);
  });

  test('a closed broker is 503', async () => {
    const broker = makeBroker();
    const { url } = await serve(createHandler(broker));
    await broker.close();
    const { status, error } = await asking(url)();
    expect([status, error?.code]).toEqual([503, 'SSE_ERR_BROKER_CLOSED']);
  });
});

describe('requests that mean harm', () => {
  test('a GET with a body gets its stream, and its leaving is seen', async () => {
    const broker = makeBroker();
    const { port } = await serve(createHandler(broker));
    const client = await connectRaw(port);
    client.get('/', 'Content-Length: 2000000\r\n');
    client.write(Buffer.alloc(1_999_999));
    await client.has('event: connected');
    expect(broker.getStats().totalClients).toBe(1);
    client.destroy();
    await until(() => broker.getStats().totalClients === 0);
  });

  test('a POST with an endless body is answered, and the next request on the connection too', async () => {
    const { port } = await serve(createHandler(makeBroker()));
    const client = await connectRaw(port);
    client.write('POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3000000\r\n\r\n');
    client.write(Buffer.alloc(3_000_000));
    client.write('OPTIONS / HTTP/1.1\r\nHost: test\r\n\r\n');
    const [refused, options] = await client.completed(2);
    expect([refused!.status, options!.status]).toEqual([405, 204]);
  });

  test('a megabyte of anything in the URL or a header is refused or ignored, never repeated', async () => {
    const broker = makeBroker({ historySize: 10 });
    await broker.broadcast('note', 1);
    const handler = createHandler(broker, {
      authenticator: queryAuthenticator(),
      topicResolver: queryTopicResolver(),
      cors: { origin: ['https://app.example'] },
    });
    const { url, port } = await serve(handler, { maxHeaderSize: 4 * 1024 * 1024 });
    const rubbish = 'x'.repeat(1024 * 1024);
    const ask = asking(url);
    const started = performance.now();
    const small = async (path: string, headers = {}) => {
      const answer = await ask(path, { headers });
      expect(answer.body.length).toBeLessThan(1_000);
      expect(JSON.stringify(answer.headers).length).toBeLessThan(1_000);
      return answer.status;
    };
    expect(await small(`/${rubbish}`)).toBe(401);
    expect(await small(`/?user_id=${rubbish}`)).toBe(401);
    expect(await small(`/?user_id=a&topics=${rubbish}`)).toBe(400);
    expect(await small(`/?user_id=a&topics=${'a,'.repeat(500_000)}`)).toBe(403);
    expect(await small(`/?${'user_id=a&topics=b&'.repeat(50_000)}`)).toBe(403);
    expect(await small('/', { accept: ',;"'.repeat(300_000) })).toBe(406);
    expect(await small('/', { cookie: 'a=b;'.repeat(250_000) })).toBe(401);
    expect(await small('/', { origin: rubbish })).toBe(401);
    expect(performance.now() - started).toBeLessThan(10_000);

    const client = await connectRaw(port);
    client.get('/?user_id=a', `Last-Event-ID: ${rubbish}\r\n`);
    await client.has('event: gap');
    expect(client.bytes.length).toBeLessThan(2_000);
  });

  test("Node's own limit on headers is an answer, and the server lives", async () => {
    const broker = makeBroker();
    const { url } = await serve(createHandler(broker));
    expect((await asking(url)('/', { headers: { 'x-a': 'x'.repeat(20_000) } })).status).toBe(431);
    expect((await openStream(url)).status).toBe(200);
  });

  test('bytes that are no text in headers and URL open a stream or are refused, nothing else', async () => {
    const broker = makeBroker();
    const handler = createHandler(broker, { authenticator: queryAuthenticator(), topicResolver: queryTopicResolver() });
    const { port } = await serve(handler);
    for (const bytes of ['\x80\xff', '%00', '%0a', '%', '%zz', '%ff%fe', '%ED%A0%80', '\u00e9']) {
      const client = await connectRaw(port);
      client.write(
        Buffer.from(
          `GET /?user_id=${bytes}&topics=${bytes} HTTP/1.1\r\nHost: test\r\nLast-Event-ID: ${bytes}\r\n` +
            `Cookie: ${bytes}=${bytes}\r\nConnection: close\r\n\r\n`,
          'latin1',
        ),
      );
      await client.has('\r\n\r\n');
      expect(client.text).toMatch(/^HTTP\/1\.1 (200|400|401) /);
      client.destroy();
    }
    await until(() => broker.getStats().totalClients === 0);
    expect(broker.reported).toEqual([]);
  });

  test('a method that nobody knows is refused', async () => {
    const { port } = await serve(createHandler(makeBroker()));
    const client = await connectRaw(port);
    client.write('PROPFIND / HTTP/1.1\r\nHost: test\r\n\r\n');
    expect((await client.completed(1))[0]!.status).toBe(405);
  });
});
