/** Who may do what: every route by every kind of caller, as a table; and what an application may make of it. */
import { describe, expect, test } from 'vitest';
import { type ApiOptions, tokenAuthorizer } from '../../src/api/index.js';
import { type Broker, SseError } from '../../src/index.js';
import { until } from '../support/until.js';
import { inboxOf } from './inboxes.js';
import { mountApi, TOKENS, userOf } from './mounted.js';

const authorize = tokenAuthorizer([
  { token: TOKENS.publish, scopes: ['publish'] },
  { token: TOKENS.read, scopes: ['read'] },
  { token: TOKENS.admin, scopes: ['admin'] },
]);

const CALLERS = [
  'nobody',
  'user alice',
  'user mallory',
  'publish',
  'read',
  'admin',
  'Bearer not-a-token-that-anybody-has',
] as const;

/** Status by caller, in the order of {@link CALLERS}. The routes name alice where they can name somebody. */
const MATRIX: readonly (readonly [
  method: string,
  path: string,
  body: object | undefined,
  statuses: readonly number[],
])[] = [
  //                                                        nobody alice mallory publish read admin wrong
  ['GET', '/stream', undefined, [401, 200, 200, 401, 401, 401, 401]],
  ['GET', '/stream/alice', undefined, [401, 200, 403, 401, 401, 401, 401]],
  ['GET', '/stream/private/alice', undefined, [401, 200, 403, 401, 401, 401, 401]],
  ['GET', '/poll', undefined, [401, 200, 200, 401, 401, 401, 401]],
  ['POST', '/send', { user_id: 'alice', event_type: 'e', data: 1 }, [401, 401, 401, 202, 403, 403, 401]],
  ['POST', '/send/group', { group: 'g', event_type: 'e', data: 1 }, [401, 401, 401, 202, 403, 403, 401]],
  ['POST', '/broadcast', { event_type: 'e', data: 1 }, [401, 401, 401, 202, 403, 403, 401]],
  ['GET', '/messages/pending?user_id=alice', undefined, [401, 200, 403, 401, 401, 401, 401]],
  ['POST', '/messages/read', { user_id: 'alice', all: true }, [401, 200, 403, 401, 401, 401, 401]],
  ['GET', '/messages/unread?user_id=alice', undefined, [401, 200, 403, 401, 401, 401, 401]],
  ['POST', '/subscribe', { user_id: 'alice', group: 'private:alice' }, [401, 200, 403, 401, 401, 401, 401]],
  ['POST', '/subscribe', { group: 'private:alice' }, [401, 200, 403, 401, 401, 401, 401]],
  ['POST', '/unsubscribe', { user_id: 'alice', group: 'g' }, [401, 200, 403, 401, 401, 401, 401]],
  ['GET', '/subscriptions?user_id=alice', undefined, [401, 200, 403, 401, 401, 401, 401]],
  ['GET', '/info', undefined, [401, 401, 401, 403, 200, 403, 401]],
  ['GET', '/group/g', undefined, [401, 401, 401, 403, 200, 403, 401]],
  ['GET', '/connections', undefined, [401, 401, 401, 403, 200, 403, 401]],
  ['POST', '/disconnect/nobody', {}, [401, 401, 401, 403, 403, 404, 401]],
  ['GET', '/healthz', undefined, [200, 200, 200, 200, 200, 200, 200]],
  ['GET', '/readyz', undefined, [200, 200, 200, 200, 200, 200, 200]],
  ['GET', '/openapi.json', undefined, [200, 200, 200, 200, 200, 200, 200]],
];

const guarded = (broker: Broker): ApiOptions => ({
  inbox: inboxOf(broker),
  authorize,
  authorizeTopic: ({ userId }, topic) => topic === `private:${userId}`,
});

describe('every route by every caller', () => {
  test('the table has every route of the document', async () => {
    const { check } = await mountApi(guarded);
    const documented = Object.entries(check.document.paths).flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const tabled = MATRIX.map(([method, path]) => `${method} ${check.templateOf(path)}`);
    expect([...new Set(tabled)].toSorted()).toEqual(documented.toSorted());
  });

  test.each(MATRIX)('%s %s', async (method, path, body, expected) => {
    const { ask, open, broker, post } = await mountApi(guarded);
    const statuses: number[] = [];
    for (const caller of CALLERS) {
      const as = caller === 'nobody' ? undefined : caller;
      if (path.startsWith('/stream')) {
        const stream = await open(path, as);
        statuses.push(stream.status);
        stream.close();
      } else if (body === undefined) {
        statuses.push(
          (await ask(method, path, { headers: as === undefined ? {} : { authorization: authorization(as) } })).status,
        );
      } else {
        statuses.push((await post(path, body, as)).status);
      }
    }
    expect(Object.fromEntries(CALLERS.map((caller, at) => [caller, statuses[at]]))).toEqual(
      Object.fromEntries(CALLERS.map((caller, at) => [caller, expected[at]])),
    );
    await until(() => broker.getStats().totalClients === 0, 'nobody to be left');
    expect(broker.reported).toEqual([]);
  });

  test('who may not is refused before anything of the request is looked at', async () => {
    const { ask } = await mountApi(guarded);
    const junk = { headers: { 'content-type': 'text/plain' }, body: 'x'.repeat(3_000_000) };
    expect((await ask('POST', '/broadcast', junk)).status).toBe(401);
  });
});

const authorization = (as: string): string => (as in TOKENS ? `Bearer ${TOKENS[as as keyof typeof TOKENS]}` : as);

describe('closed by default', () => {
  test('without authorize nobody publishes or administers', async () => {
    const { post, get } = await mountApi();
    for (const as of ['publish', 'user alice', undefined]) {
      expect((await post('/broadcast', { event_type: 'e', data: 1 }, as)).status).toBe(403);
      expect((await get('/info', as)).status).toBe(403);
    }
  });

  test('without an authenticator there is no user: streams are anonymous, and nothing is anybody’s', async () => {
    const { get, open } = await mountApi((broker) => ({ ...guarded(broker), authenticator: undefined }));
    const stream = await open('/stream', 'user alice');
    expect(await stream.next('connected')).toMatchObject({ userId: null, topics: [] });
    expect((await open('/stream/alice', 'user alice')).status).toBe(403);
    expect((await get('/messages/pending', 'user alice')).status).toBe(401);
  });

  test('without authorizeTopic nobody has a topic for the asking, and nobody subscribes', async () => {
    const { open, post } = await mountApi((broker) => ({ inbox: inboxOf(broker) }));
    expect((await open('/stream/news/sport', 'user alice')).status).toBe(403);
    expect((await post('/subscribe', { group: 'news' }, 'user alice')).status).toBe(403);
  });

  test('a topic that the resolver gives can be asked for by path; others cannot, and both kinds add up', async () => {
    const { open } = await mountApi({ topicResolver: () => ['news:sport', 'always'] });
    const sport = await open('/stream/news/sport', 'user alice');
    expect(await sport.next('connected')).toMatchObject({ topics: ['news:sport', 'always'] });
    expect((await open('/stream/news/secret', 'user alice')).status).toBe(403);
    const { open: opened } = await mountApi({
      topicResolver: () => ['always'],
      authorizeTopic: (_identity, topic) => topic !== 'a:b',
    });
    const both = await opened('/stream/news/sport', 'user alice');
    expect(await both.next('connected')).toMatchObject({ topics: ['always', 'news:sport'] });
    expect((await opened('/stream/a/b', 'user alice')).status).toBe(403);
  });

  test('a name in a path is decoded once, and cannot become another route', async () => {
    const topics: string[] = [];
    const { open } = await mountApi({
      authorizeTopic: (_identity, topic) => {
        topics.push(topic);
        return true;
      },
    });
    expect((await open('/stream/a%2Fb/c%252Fd', 'user alice')).status).toBe(200);
    expect(topics).toEqual(['a/b:c%2Fd']);
    expect((await open('/stream/a%/c', 'user alice')).status).toBe(404);
    expect((await open('/stream//c', 'user alice')).status).toBe(404);
    expect((await open('/stream/a%0Ab/c', 'user alice')).status).toBe(400);
  });
});

describe('tenants', () => {
  const perTenant = tokenAuthorizer([{ token: TOKENS.publish, scopes: ['publish', 'read'], tenantId: 'acme' }]);

  test('a grant for a tenant sends to it and sees it, and no other', async () => {
    const { open, post, get } = await mountApi({ authorize: perTenant, topicResolver: () => ['news'] });
    const inside = await open('/stream', 'user alice of acme');
    const outside = await open('/stream', 'user alice of other');
    await inside.next('connected');
    await outside.next('connected');
    await post('/send', { user_id: 'alice', event_type: 'note', data: 1 }, 'publish');
    await post('/send/group', { group: 'news', event_type: 'note', data: 2 }, 'publish');
    await post('/broadcast', { event_type: 'note', data: 3 }, 'publish');
    expect(await inside.all('note', 3)).toEqual([1, 2, 3]);
    expect(outside.events.map(({ event }) => event)).toEqual(['connected']);

    expect((await get('/group/news', 'publish')).json).toMatchObject({ group: 'news', clients: 1 });
    for (const path of ['/connections', '/connections?user_id=alice']) {
      expect((await get(path, 'publish')).json.connections).toMatchObject([{ user_id: 'alice', tenant_id: 'acme' }]);
    }
    expect((await get('/info', 'publish')).status).toBe(403);
  });

  test('admin does not go with a tenant', async () => {
    expect(() => tokenAuthorizer([{ token: TOKENS.admin, scopes: ['admin'], tenantId: 'acme' }])).toThrow(
      /all tenants/,
    );
    const { post, broker } = await mountApi({ authorize: () => ({ scopes: ['admin'], tenantId: 'acme' }) });
    expect((await post('/disconnect/x', {}, 'admin')).status).toBe(500);
    expect(broker.reported.map(({ message }) => message)).toEqual(['authorize gave what is no grant; see cause']);
  });
});

describe('what the application makes of it', () => {
  const send = { user_id: 'alice', event_type: 'e', data: 1 };

  test('what authorize throws is told to the application, and not to the caller', async () => {
    const { post, broker } = await mountApi({
      authorize: () => {
        throw new Error('the secret of the database');
      },
    });
    const refused = await post('/send', send, 'publish');
    expect([refused.status, refused.json.error.message]).toEqual([401, 'authentication failed']);
    expect(String(broker.reported[0]?.cause)).toContain('the secret of the database');
  });

  test('an SseError of authorize keeps its status', async () => {
    const { post } = await mountApi({
      authorize: async () => {
        throw new SseError('SSE_ERR_AUTHENTICATION_UNAVAILABLE', 'the key server of acme is down');
      },
    });
    const refused = await post('/send', send, 'publish');
    expect([refused.status, refused.json.error.code]).toEqual([503, 'SSE_ERR_AUTHENTICATION_UNAVAILABLE']);
    expect(refused.body).not.toContain('acme');
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
  });

  test('an authorize that takes too long is 503, and one whose caller leaves is forgotten', async () => {
    const { post, broker } = await mountApi({ authorize: () => new Promise(() => {}), authenticationTimeout: 20 });
    const refused = await post('/send', send, 'publish');
    expect([refused.status, refused.json.error.code]).toEqual([503, 'SSE_ERR_AUTHENTICATION_TIMEOUT']);
    expect(broker.reported).toEqual([]);
  });

  test('an identity whose time is over is nobody', async () => {
    const { get } = await mountApi((broker) => ({
      ...guarded(broker),
      authenticator: (req) => ({ ...userOf(req), expiresAt: Date.now() - 1 }),
    }));
    expect((await get('/messages/unread', 'user alice')).status).toBe(401);
  });

  test('what authorizeTopic throws is told to the application', async () => {
    const { post, broker } = await mountApi((broker) => ({
      inbox: inboxOf(broker),
      authorizeTopic: async () => {
        throw new Error('the secret of the database');
      },
    }));
    const refused = await post('/subscribe', { group: 'news' }, 'user alice');
    expect(refused.status).toBe(500);
    expect(refused.body).not.toContain('secret');
    expect(broker.reported).toHaveLength(1);
  });

  test('the refusal is told by requestRefused, with its code', async () => {
    const { post, broker } = await mountApi({ authorize });
    const refusals: unknown[] = [];
    broker.on('requestRefused', (refusal) => refusals.push(refusal));
    await post('/send', send, 'read');
    expect(refusals).toEqual([{ code: 'SSE_ERR_FORBIDDEN', status: 403 }]);
  });
});

describe('tokenAuthorizer', () => {
  test('takes a token only as a bearer, whole', async () => {
    const granted = (authorization?: string) =>
      authorize({ method: 'GET', url: '/', headers: { authorization } } as never, undefined);
    expect(granted(`Bearer ${TOKENS.read}`)).toMatchObject({ scopes: ['read'] });
    expect(granted(`bearer  ${TOKENS.read}`)).toMatchObject({ scopes: ['read'] });
    for (const wrong of [
      undefined,
      '',
      'Bearer',
      'Bearer ',
      TOKENS.read,
      `Basic ${TOKENS.read}`,
      `Bearer ${TOKENS.read}x`,
      `Bearer ${TOKENS.read.slice(0, -1)}`,
    ]) {
      expect(granted(wrong), wrong).toBeNull();
    }
  });

  test('refuses tokens that can be guessed and grants that are none, and shows no token', () => {
    const refusals = [
      [],
      undefined,
      [{ token: undefined, scopes: ['read'] }],
      [{ token: '', scopes: ['read'] }],
      [{ token: 'short-secret', scopes: ['read'] }],
      [{ token: `${TOKENS.read}\n`, scopes: ['read'] }],
      [{ token: 'a-token with blanks in it', scopes: ['read'] }],
      [{ token: 'a-token-für-die-Lesenden', scopes: ['read'] }],
      [
        { token: TOKENS.read, scopes: ['read'] },
        { token: TOKENS.read, scopes: ['publish'] },
      ],
      [{ token: TOKENS.read, scopes: ['everything'] }],
      [{ token: TOKENS.read }],
      [{ token: TOKENS.read, scopes: ['read'], tenantId: '' }],
    ].map((tokens) => {
      try {
        tokenAuthorizer(tokens as never);
      } catch (error) {
        expect(error).toMatchObject({ code: 'SSE_ERR_INVALID_OPTION' });
        return (error as Error).message;
      }
      return expect.fail(`took ${JSON.stringify(tokens)}`);
    });
    for (const message of refusals) expect(message).not.toMatch(/short-secret|a-token/);
  });
});
