import http from 'node:http';
import { describe, expect, test } from 'vitest';
import { type CorsOptions, createFetchHandler, createHandler } from '../../src/index.js';
import { type Ask, asking, carriers } from '../support/ask.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';

const APP = 'https://app.example';

/** The CORS headers of an answer, and Vary. */
async function corsOf(ask: Ask, origin?: string, method = 'HEAD') {
  const { headers, status } = await ask('/', { method, headers: origin === undefined ? {} : { origin } });
  const entries = Object.entries(headers).filter(([name]) => name.startsWith('access-control-') || name === 'vary');
  return { status, headers: Object.fromEntries(entries) };
}

for (const [carrier, serveBy] of Object.entries(carriers)) {
  describe(carrier, () => {
    const asksWith = (cors: CorsOptions | undefined) => serveBy(makeBroker(), { cors });

    test('without the option there is no header at all, not even for a preflight', async () => {
      const ask = await asksWith(undefined);
      expect(await corsOf(ask, APP)).toEqual({ status: 200, headers: {} });
      expect(await corsOf(ask, APP, 'OPTIONS')).toEqual({ status: 204, headers: {} });
      expect(await corsOf(ask, APP, 'POST')).toEqual({ status: 405, headers: {} });
    });

    test('an allowed origin is named, others are not, and caches are told apart', async () => {
      const ask = await asksWith({ origin: [APP, 'https://other.example:8443'] });
      for (const origin of [APP, 'https://other.example:8443']) {
        expect((await corsOf(ask, origin)).headers).toEqual({
          'access-control-allow-origin': origin,
          'access-control-expose-headers': 'Retry-After',
          vary: 'Origin',
        });
      }
      const strangers = [
        'https://evil.example',
        `${APP}.evil.example`,
        `${APP}:8443`,
        'http://app.example',
        'https://APP.example',
        `${APP}/`,
        `${APP}, https://evil.example`,
        'null',
        '*',
        '',
      ];
      for (const origin of [...strangers, undefined]) {
        expect((await corsOf(ask, origin)).headers).toEqual({ vary: 'Origin' });
      }
    });

    test('refusals carry the headers too, or a page could not read why', async () => {
      const ask = await serveBy(makeBroker(), { cors: { origin: APP }, authenticator: () => null });
      const { status, headers } = await corsOf(ask, APP, 'GET');
      expect(status).toBe(401);
      expect(headers['access-control-allow-origin']).toBe(APP);
    });

    test('any origin is *, the same for all, without Vary', async () => {
      const ask = await asksWith({ origin: '*' });
      expect((await corsOf(ask, APP)).headers).toEqual({
        'access-control-allow-origin': '*',
        'access-control-expose-headers': 'Retry-After',
      });
    });

    test('credentials are allowed to allowed origins only', async () => {
      const ask = await asksWith({ origin: APP, credentials: true });
      expect((await corsOf(ask, APP)).headers['access-control-allow-credentials']).toBe('true');
      expect((await corsOf(ask, 'https://evil.example')).headers).toEqual({ vary: 'Origin' });
    });

    test('a client may always come back with its Last-Event-ID, named once', async () => {
      for (const [allowedHeaders, answer] of [
        [undefined, 'Authorization, Cache-Control, Device-Id, Last-Event-ID'],
        [[], 'Last-Event-ID'],
        [['last-event-id', 'X-A'], 'last-event-id, X-A'],
      ] as const) {
        const ask = await asksWith({ origin: APP, allowedHeaders });
        expect((await corsOf(ask, APP, 'OPTIONS')).headers['access-control-allow-headers']).toBe(answer);
      }
    });

    test('a preflight names method, headers and age, and asks no authenticator', async () => {
      const ask = await serveBy(makeBroker(), {
        cors: { origin: APP, allowedHeaders: ['X-Token'], maxAge: 60 },
        authenticator: () => null,
      });
      const { status, headers } = await ask('/', {
        method: 'OPTIONS',
        headers: { origin: APP, 'access-control-request-method': 'GET', 'access-control-request-headers': 'x-token' },
      });
      expect(status).toBe(204);
      expect(headers).toMatchObject({
        'access-control-allow-origin': APP,
        'access-control-allow-methods': 'GET',
        'access-control-allow-headers': 'X-Token, Last-Event-ID',
        'access-control-max-age': '60',
        vary: 'Origin',
      });
      const refused = await corsOf(ask, 'https://evil.example', 'OPTIONS');
      expect(refused).toEqual({ status: 204, headers: { vary: 'Origin' } });
    });

    test('by default a preflight allows what streams need', async () => {
      const ask = await asksWith({ origin: APP });
      expect((await corsOf(ask, APP, 'OPTIONS')).headers).toMatchObject({
        'access-control-allow-headers': 'Authorization, Cache-Control, Device-Id, Last-Event-ID',
        'access-control-max-age': '600',
      });
    });

    test('a pattern gives the same answer every time, also with the flags g and y', async () => {
      for (const flags of ['', 'g', 'y', 'gi']) {
        const ask = await asksWith({ origin: new RegExp('^https://[a-z]+\\.example$', flags) });
        for (let n = 0; n < 4; n++) {
          expect((await corsOf(ask, APP)).headers['access-control-allow-origin']).toBe(APP);
        }
        expect((await corsOf(ask, `${APP}.evil`)).headers['access-control-allow-origin']).toBeUndefined();
      }
    });

    test('a function decides by true alone', async () => {
      const answers: Record<string, unknown> = { [APP]: true, 'https://b': 1, 'https://c': Promise.resolve(true) };
      const ask = await asksWith({ origin: (origin) => answers[origin] as boolean });
      const allowed = async (origin: string) => (await corsOf(ask, origin)).headers['access-control-allow-origin'];
      expect(await allowed(APP)).toBe(APP);
      expect([await allowed('https://b'), await allowed('https://c'), await allowed('https://d')]).toEqual([
        undefined,
        undefined,
        undefined,
      ]);
    });

    test('a function that throws is 500 and an error event, and the server lives', async () => {
      const broker = makeBroker();
      const ask = await serveBy(broker, {
        cors: {
          origin: (origin) => {
            if (origin !== APP) throw new Error('hunter2');
            return true;
          },
        },
      });
      for (const method of ['GET', 'OPTIONS']) {
        const { status, body } = await ask('/', { method, headers: { origin: 'https://evil.example' } });
        expect(status).toBe(500);
        expect(body).not.toContain('hunter2');
      }
      expect(broker.reported.map(({ cause }) => (cause as Error).message)).toEqual(['hunter2', 'hunter2']);
      expect((await corsOf(ask, APP)).status).toBe(200);
    });

    test("Vary keeps what compression and the application's own headers add", async () => {
      const ask = await serveBy(makeBroker(), {
        cors: { origin: APP },
        compression: 'gzip',
        headers: { vary: 'X-Tenant' },
      });
      expect((await corsOf(ask, APP)).headers.vary).toBe('Origin, Accept-Encoding, X-Tenant');
    });
  });
}

test('Vary keeps what earlier middleware has set', async () => {
  const handler = createHandler(makeBroker(), { cors: { origin: APP } });
  const { url } = await serve((req, res) => {
    res.setHeader('Vary', 'Accept-Encoding');
    void handler(req, res);
  });
  const ask = asking(url);
  for (const method of ['HEAD', 'OPTIONS', 'POST']) {
    expect((await corsOf(ask, APP, method)).headers.vary).toBe('Origin, Accept-Encoding');
  }
  await new Promise<void>((resolve) => {
    const req = http.get(url, { headers: { origin: APP }, agent: false }, (res) => {
      expect(res.headers.vary).toBe('Origin, Accept-Encoding');
      req.destroy();
      resolve();
    });
  });
});

describe('nonsense throws at construction', () => {
  test.each<[string, unknown, RegExp]>([
    ['null', null, /^cors must be an object with origin; got null/],
    ['true', true, /^cors must be an object with origin; got true/],
    ['an origin outside an object', APP, /^cors must be an object/],
    ['no origin', {}, /^cors.origin must be .*; got undefined/],
    ['no origins', { origin: [] }, /^cors.origin must be .*; got an array/],
    ['true as origin', { origin: true }, /^cors.origin must be .*; got true/],
    ['* with credentials', { origin: '*', credentials: true }, /'\*' cannot go with cors.credentials/],
    ['* in a list', { origin: ['*'] }, /^cors.origin must be .*'\*' on its own, or a RegExp; got "\*"/],
    ['a number in a list', { origin: [APP, 7] }, /^cors.origin must be .*; got 7/],
    ['a slash at the end', { origin: `${APP}/` }, /^cors.origin must be .*got "https:\/\/app.example\/"/],
    ['a path', { origin: `${APP}/path` }, /^cors.origin must be/],
    ['a default port', { origin: `${APP}:443` }, /^cors.origin must be/],
    ['capitals', { origin: 'https://App.example' }, /^cors.origin must be/],
    ['a host alone', { origin: 'app.example' }, /^cors.origin must be/],
    ['a wildcard', { origin: 'https://*.example' }, /^cors.origin must be/],
    [
      'credentials that are no flag',
      { origin: APP, credentials: 'include' },
      /^cors.credentials must be true or false/,
    ],
    ['headers outside a list', { origin: APP, allowedHeaders: 'X-A' }, /^cors.allowedHeaders must be/],
    ['a header with a line break', { origin: APP, allowedHeaders: ['X-A\r\nX-B: 1'] }, /^cors.allowedHeaders must be/],
    ['an age that is NaN', { origin: APP, maxAge: Number.NaN }, /^cors.maxAge must be .*; got NaN/],
    ['an age below 0', { origin: APP, maxAge: -1 }, /^cors.maxAge must be .*; got -1/],
    ['an unknown option', { origin: APP, methods: ['GET'] }, /^cors must be an object of origin, .*; got "methods"/],
  ])('%s', (_name, cors, message) => {
    for (const create of [createHandler, createFetchHandler] as ((...args: unknown[]) => unknown)[]) {
      expect(() => create(makeBroker(), { cors })).toThrow(
        expect.objectContaining({ code: 'SSE_ERR_INVALID_OPTION', message: expect.stringMatching(message) }),
      );
    }
  });

  test.each<[string]>([
    [APP],
    ['http://localhost:3000'],
    ['http://[::1]:3000'],
    ['null'],
    ['capacitor://localhost'],
    ['chrome-extension://abcdefghijklmnop'],
  ])('%s is an origin', async (origin) => {
    const ask = await carriers['Node handler']!(makeBroker(), { cors: { origin } });
    expect((await corsOf(ask, origin)).headers['access-control-allow-origin']).toBe(origin);
  });
});
