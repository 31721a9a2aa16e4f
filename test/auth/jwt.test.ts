import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { inspect } from 'node:util';
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';
import { describe, expect, onTestFinished, test } from 'vitest';
import { jwtAuthenticator } from '../../src/auth/index.js';
import { Broker, createFetchHandler, type Identity } from '../../src/index.js';
import { until } from '../support/until.js';
import { expectNoTraceOf, forged, guarded, nowInSeconds, SECRET, signed } from './guarded.js';

async function identityFrom(claims: JWTPayload, options: Parameters<typeof guarded>[0] = {}): Promise<Identity> {
  const { broker, open } = await guarded(options);
  const stream = await open(await signed(claims));
  expect(stream.status).toBe(200);
  await stream.next('connected');
  return broker.getClients().next().value!.identity;
}

describe('a good token', () => {
  test('opens a stream as its subject, with all claims and its expiry', async () => {
    const exp = nowInSeconds() + 3_600;
    const identity = await identityFrom({ sub: 'alice', exp, role: 'admin' });
    expect(identity).toEqual({
      userId: 'alice',
      expiresAt: exp * 1_000,
      claims: { sub: 'alice', exp, role: 'admin' },
    });
    expect(Object.isFrozen(identity.claims)).toBe(true);
  });

  test('without exp opens a stream that does not expire', async () => {
    expect(await identityFrom({})).toEqual({ userId: 'alice', claims: { sub: 'alice' } });
  });

  test('gives user, tenant and session by the names of the claims', async () => {
    const identity = await identityFrom(
      { 'https://example.com/uid': 'u-7', org_id: 'acme', sid: 's-1' },
      { userClaim: 'https://example.com/uid', tenantClaim: 'org_id', sessionClaim: 'sid' },
    );
    expect(identity).toMatchObject({ userId: 'u-7', tenantId: 'acme', sessionId: 's-1' });
  });

  test('may lack the session claim', async () => {
    expect(await identityFrom({}, { sessionClaim: 'sid' })).not.toHaveProperty('sessionId');
  });

  test('reaches only its own tenant', async () => {
    const { broker, open } = await guarded({ tenantClaim: 'org' });
    const acme = await open(await signed({ org: 'acme' }));
    const globex = await open(await signed({ org: 'globex' }));
    await acme.next('connected');
    await globex.next('connected');
    await broker.tenant('acme').sendToUser('alice', 'note', 1);
    await broker.tenant('globex').sendToUser('alice', 'note', 2);
    expect(await acme.next('note')).toBe(1);
    expect(await globex.next('note')).toBe(2);
    expect([acme.events.length, globex.events.length]).toEqual([2, 2]);
  });

  test('is mapped by mapIdentity, which cannot make the stream outlive it', async () => {
    const exp = nowInSeconds() + 60;
    const seen: unknown[] = [];
    const identity = await identityFrom(
      { exp, user: { id: 7 } },
      {
        mapIdentity: async (claims) => {
          seen.push(claims);
          return { userId: `u${(claims.user as { id: number }).id}`, tenantId: 'acme', expiresAt: (exp + 999) * 1_000 };
        },
      },
    );
    expect(seen).toEqual([{ sub: 'alice', exp, user: { id: 7 } }]);
    expect(identity).toEqual({ userId: 'u7', tenantId: 'acme', expiresAt: exp * 1_000, claims: seen[0] });
  });

  test('may end earlier by mapIdentity, and carry other claims', async () => {
    const soon = Date.now() + 60_000;
    const identity = await identityFrom(
      { exp: nowInSeconds() + 3_600 },
      { mapIdentity: () => ({ expiresAt: soon, claims: { plan: 'free' } }) },
    );
    expect(identity).toEqual({ expiresAt: soon, claims: { plan: 'free' } });
  });

  test('is refused where mapIdentity says null', async () => {
    const { open, errors } = await guarded({ mapIdentity: () => null });
    const stream = await open(await signed());
    expect(stream.status).toBe(401);
    expect(errors).toEqual([]);
  });

  test('is 500 where mapIdentity gives the rows of a query: nobody gets in as nobody', async () => {
    for (const rows of [[], [{ userId: 'bob' }]]) {
      const { open, errors } = await guarded({ mapIdentity: () => rows as object });
      const stream = await open(await signed());
      await stream.ended();
      expect(stream.status).toBe(500);
      expect((errors[0]!.error.cause as Error).message).toMatch(/must give an identity or null; got an array$/);
    }
  });

  test('is whom an instance of a class says, accessors too', async () => {
    class Account {
      readonly plan = 'free';
      get userId(): string {
        return 'bob';
      }
      get tenantId(): string {
        return 'acme';
      }
    }
    const exp = nowInSeconds() + 60;
    const identity = await identityFrom({ exp }, { mapIdentity: () => new Account() });
    expect(identity).toEqual({
      userId: 'bob',
      tenantId: 'acme',
      plan: 'free',
      expiresAt: exp * 1_000,
      claims: { sub: 'alice', exp },
    });
  });

  test('is refused where mapIdentity throws, and only the application hears why', async () => {
    const { open, errors } = await guarded({
      mapIdentity: () => {
        throw new Error('row 7 is locked');
      },
    });
    const stream = await open(await signed());
    await stream.ended();
    expect(stream.status).toBe(401);
    expect(stream.text()).not.toContain('row 7');
    expect((errors[0]!.error.cause as Error).message).toBe('row 7 is locked');
  });

  test('within the clock tolerance is taken, and its stream ends after the tolerance', async () => {
    const exp = nowInSeconds() - 2;
    const identity = await identityFrom({ exp }, { clockTolerance: 60 });
    expect(identity.expiresAt).toBe((exp + 60) * 1_000);
  });

  test('ends its stream at maxTokenAge where that comes before exp', async () => {
    const iat = nowInSeconds();
    const identity = await identityFrom({ iat, exp: iat + 3_600 }, { maxTokenAge: 300 });
    expect(identity.expiresAt).toBe((iat + 300) * 1_000);
  });

  test('is taken from a Fetch request too', async () => {
    const broker = new Broker();
    onTestFinished(async () => {
      await broker.close();
    });
    const handler = createFetchHandler(broker, { authenticator: jwtAuthenticator({ secret: SECRET }) });
    const headers = { authorization: `Bearer ${await signed()}` };
    const response = await handler(new Request('http://localhost/events', { headers }));
    expect(response.status).toBe(200);
    expect(broker.isUserOnline('alice')).toBe(true);
    await response.body!.cancel();
    expect((await handler(new Request('http://localhost/events'))).status).toBe(401);
  });
});

describe('no token', () => {
  test('is 401, asks for one, and is no error', async () => {
    const { open, errors } = await guarded();
    const stream = await open(undefined);
    await stream.ended();
    expect(stream.status).toBe(401);
    expect(stream.headers['www-authenticate']).toBe('Bearer');
    expect(JSON.parse(stream.text()).error.code).toBe('SSE_ERR_UNAUTHENTICATED');
    expect(errors).toEqual([]);
  });
});

describe('a token is refused with 401, its reason told to the application only', () => {
  const HS256 = { alg: 'HS256', typ: 'JWT' };
  const alice = { sub: 'alice' };
  const cases: Record<string, { token: () => string | Promise<string>; options?: object; reason: RegExp }> = {
    'with another signature': {
      token: () => signed({}, { secret: 'another secret of more than thirty-two bytes' }),
      reason: /signature verification failed/,
    },
    'changed after signing': {
      token: async () => {
        const [header, , signature] = (await signed()).split('.');
        return `${header}.${Buffer.from('{"sub":"mallory"}').toString('base64url')}.${signature}`;
      },
      reason: /signature verification failed/,
    },
    'with alg none and no signature': { token: () => forged({ alg: 'none' }, alice), reason: /"alg".*not allowed/ },
    'with alg NonE': { token: () => forged({ alg: 'NonE' }, alice, SECRET), reason: /"alg".*not allowed/ },
    'without a signature': { token: () => forged(HS256, alice), reason: /signature verification failed/ },
    'without alg': { token: () => forged({}, alice, SECRET), reason: /"alg"/ },
    'with a longer hash than pinned': {
      token: () => signed({}, { header: { alg: 'HS512' }, secret: SECRET.repeat(2) }),
      options: { secret: SECRET.repeat(2) },
      reason: /"alg".*not allowed/,
    },
    'with a critical header that nobody knows': {
      token: () => forged({ ...HS256, crit: ['evil\nline'], 'evil\nline': 1 }, alice, SECRET),
      reason: /extension that is not supported$/,
    },
    'with an unencoded payload': {
      token: () => forged({ ...HS256, crit: ['b64'], b64: false }, alice, SECRET),
      reason: /unencoded payload|signature|invalid/i,
    },
    'that is no JSON': { token: () => 'bm9wZQ.bm9wZQ.bm9wZQ', reason: /Header is invalid/ },
    'of five parts, as encrypted ones have': { token: () => 'aaaa.bbbb.cccc.dddd.eeee', reason: /Invalid Compact JWS/ },
    'that is one word': { token: () => 'opaque-session-id', reason: /Invalid Compact JWS/ },
    'whose claims are a list': { token: () => forged(HS256, [alice], SECRET), reason: /top-level JSON object/ },
    'that has expired': { token: () => signed({ exp: nowInSeconds() - 1 }), reason: /"exp"/ },
    'that expires this second': { token: () => signed({ exp: nowInSeconds() }), reason: /"exp"/ },
    'whose exp is text': { token: () => forged(HS256, { ...alice, exp: '9999999999' }, SECRET), reason: /"exp"/ },
    'whose exp is 0': { token: () => signed({ exp: 0 }), reason: /"exp"/ },
    'that is not valid yet': { token: () => signed({ nbf: nowInSeconds() + 60 }), reason: /"nbf"/ },
    'of another issuer': {
      token: () => signed({ iss: 'https://evil.example' }),
      options: { issuer: ['https://a.example', 'https://b.example'] },
      reason: /"iss"/,
    },
    'of no issuer': { token: () => signed(), options: { issuer: 'https://a.example' }, reason: /"iss"/ },
    'for another audience': { token: () => signed({ aud: ['x', 'y'] }), options: { audience: 'me' }, reason: /"aud"/ },
    'for no audience': { token: () => signed(), options: { audience: 'me' }, reason: /"aud"/ },
    'of another type': {
      token: () => signed({}, { header: { typ: 'JWT' } }),
      options: { type: 'at+jwt' },
      reason: /"typ"/,
    },
    'without a required claim': { token: () => signed(), options: { requiredClaims: ['exp'] }, reason: /"exp"/ },
    'that is too old': {
      token: () => signed({ iat: nowInSeconds() - 301 }),
      options: { maxTokenAge: 300 },
      reason: /"iat"/,
    },
    'without the age that is asked for': { token: () => signed(), options: { maxTokenAge: 300 }, reason: /"iat"/ },
    'without a user': { token: () => signed({ sub: undefined }), reason: /"sub" is missing/ },
    'whose user is a number': { token: () => forged(HS256, { sub: 7 }, SECRET), reason: /"sub" must be a string/ },
    'whose user is null': { token: () => forged(HS256, { sub: null }, SECRET), reason: /"sub" must be a string/ },
    'whose user is empty': { token: () => signed({ sub: '' }), reason: /"sub" must not be empty/ },
    'whose user has a line break': { token: () => signed({ sub: 'a\nb' }), reason: /control characters/ },
    'whose user is far too long': { token: () => signed({ sub: 'x'.repeat(257) }), reason: /at most 256/ },
    'whose user comes from the prototype': {
      token: () => signed(),
      options: { userClaim: 'constructor' },
      reason: /"constructor" is missing/,
    },
    'without a tenant': { token: () => signed(), options: { tenantClaim: 'org' }, reason: /"org" is missing/ },
    'whose tenant is an object': {
      token: () => signed({ org: { id: 'acme' } }),
      options: { tenantClaim: 'org' },
      reason: /"org" must be a string/,
    },
    'whose tenant is empty': {
      token: () => signed({ org: '' }),
      options: { tenantClaim: 'org' },
      reason: /"org" must not be empty/,
    },
    'whose session is a list': {
      token: () => signed({ sid: ['a'] }),
      options: { sessionClaim: 'sid' },
      reason: /"sid" must be a string/,
    },
  };

  for (const [name, { token, options, reason }] of Object.entries(cases)) {
    test(name, async () => {
      const { refused } = await guarded(options);
      const error = await refused(await token());
      expect(error.code).toBe('SSE_ERR_UNAUTHENTICATED');
      expect(error.message).toMatch(/^the token was refused: [ -~]+$/);
      expect(error.message).toMatch(reason);
    });
  }

  test('and its claims are not told either', async () => {
    const { refused } = await guarded();
    const error = await refused(await signed({ exp: 1, email: 'alice@private.example' }));
    expect(inspect(error, { depth: null, showHidden: true })).not.toContain('private.example');
    expect(error.cause).toMatchObject({ name: 'JWTExpired', code: 'ERR_JWT_EXPIRED' });
  });

  test('when it is longer than maxTokenLength, unread', async () => {
    const token = await signed({ padding: 'x'.repeat(2_000) });
    const { refused } = await guarded({ maxTokenLength: token.length - 1 });
    expect((await refused(token)).message).toMatch(/maxTokenLength allows/);
    const { open } = await guarded({ maxTokenLength: token.length });
    expect((await open(token)).status).toBe(200);
  });
});

describe('public keys', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const ec384 = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const ed = generateKeyPairSync('ed25519');
  const pem = (key: KeyObject, type: 'spki' | 'pkcs1' = 'spki') => key.export({ format: 'pem', type }) as string;
  const sign = (alg: string, key: KeyObject | Awaited<ReturnType<typeof generateKeyPair>>['privateKey']) =>
    new SignJWT({ sub: 'alice' }).setProtectedHeader({ alg }).sign(key);

  const cases: [string, string, { publicKey: KeyObject; privateKey: KeyObject }][] = [
    ['RSA', 'RS256', rsa],
    ['EC on P-256', 'ES256', ec],
    ['EC on P-384', 'ES384', ec384],
    ['Ed25519', 'EdDSA', ed],
    ['Ed25519 by its newer name', 'Ed25519', ed],
  ];
  for (const [name, alg, { publicKey, privateKey }] of cases) {
    test(`${name}: as PEM, JWK and KeyObject`, async () => {
      const token = await sign(alg, privateKey);
      for (const key of [pem(publicKey), await exportJWK(publicKey), publicKey]) {
        const { open } = await guarded({ publicKey: key as string });
        expect((await open(token)).status).toBe(200);
      }
    });
  }

  test('RSA in PKCS#1, as older tools write it', async () => {
    const { open } = await guarded({ publicKey: pem(rsa.publicKey, 'pkcs1') });
    expect((await open(await sign('RS256', rsa.privateKey))).status).toBe(200);
  });

  test('CryptoKeys, each with the algorithm it is bound to', async () => {
    for (const alg of ['PS384', 'RS512', 'ES256', 'Ed25519']) {
      const { publicKey, privateKey } = await generateKeyPair(alg);
      const { open } = await guarded({ publicKey });
      expect((await open(await sign(alg, privateKey))).status).toBe(200);
    }
  });

  test('an RSA key takes another algorithm only where it is asked for', async () => {
    const token = await sign('PS256', rsa.privateKey);
    await (await guarded({ publicKey: rsa.publicKey })).refused(token);
    const { open } = await guarded({ publicKey: rsa.publicKey, algorithms: ['PS256', 'RS256'] });
    expect((await open(token)).status).toBe(200);
  });

  test('a JWK that names its algorithm takes no other', async () => {
    const jwk = { ...(await exportJWK(rsa.publicKey)), alg: 'PS256', use: 'sig' };
    const { open, refused } = await guarded({ publicKey: jwk });
    expect((await refused(await sign('RS256', rsa.privateKey))).message).toMatch(/"alg".*not allowed/);
    expect((await open(await sign('PS256', rsa.privateKey))).status).toBe(200);
  });

  test('the public key used as an HMAC secret opens nothing (algorithm confusion)', async () => {
    const publicPem = pem(rsa.publicKey);
    const claims = { sub: 'mallory' };
    const keys = [publicPem, publicPem.trim(), rsa.publicKey.export({ format: 'der', type: 'spki' })];
    const { refused } = await guarded({ publicKey: publicPem });
    for (const key of keys) {
      const error = await refused(forged({ alg: 'HS256', typ: 'JWT' }, claims, key));
      expect(error.message).toMatch(/"alg".*not allowed/);
    }
  });

  test('a key that the token brings along opens nothing (jwk, jku, x5u, kid)', async () => {
    const { publicKey, privateKey } = await generateKeyPair('RS256', { extractable: true });
    const own = await exportJWK(publicKey);
    const { refused } = await guarded({ publicKey: rsa.publicKey });
    for (const header of [
      { jwk: own },
      { jku: 'http://127.0.0.1:9/' },
      { x5u: 'http://127.0.0.1:9/' },
      { kid: '../../dev/null' },
    ]) {
      const token = await new SignJWT({ sub: 'mallory' })
        .setProtectedHeader({ alg: 'RS256', ...header })
        .sign(privateKey);
      expect((await refused(token)).message).toMatch(/signature verification failed/);
    }
  });
});

describe('expiry', () => {
  test('ends the stream within 1.5 s, says why, and nothing published later arrives', async () => {
    const exp = nowInSeconds() + 2;
    const { broker, open } = await guarded();
    const disconnected: unknown[] = [];
    broker.on('clientDisconnected', (_client, reason) => disconnected.push(reason));
    const stream = await open(await signed({ exp }));
    const other = await open(await signed({ sub: 'bob' }));
    await stream.next('connected');
    await other.next('connected');

    // Publishes all the time, also between the expiry and the end of the stream.
    const sent: number[] = [];
    await until(async () => {
      const at = Date.now();
      sent.push(at);
      await broker.broadcast('tick', at);
      return stream.isEnded();
    }, 'the expired stream to end');

    expect(Date.now()).toBeGreaterThanOrEqual(exp * 1_000);
    expect(Date.now()).toBeLessThan(exp * 1_000 + 1_500);
    const ticks = stream.events.filter(({ event }) => event === 'tick').map(({ data }) => Number(data));
    expect(ticks.length).toBeGreaterThan(10);
    expect(ticks.filter((at) => at >= exp * 1_000)).toEqual([]);
    expect(await stream.next('closing')).toEqual({ reason: 'expired' });
    expect(disconnected).toEqual(['expired']);
    expect(broker.isUserOnline('alice')).toBe(false);
    // Nobody else notices.
    await other.all('tick', sent.length);
  });

  test('of the token in the meantime refuses the next connect', async () => {
    let now = Date.now();
    const { open, errors } = await guarded({ clock: { now: () => now } });
    const token = await signed({ exp: nowInSeconds() + 60 });
    expect((await open(token)).status).toBe(200);
    now += 61_000;
    expect((await open(token)).status).toBe(401);
    expect(errors[0]!.error.message).toMatch(/"exp"/);
    expectNoTraceOf(token, errors);
  });
});
