import http from 'node:http';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { TokenSource } from '../../src/auth/index.js';
import { tokenReader } from '../../src/auth/token.js';
import { guarded, signed } from './guarded.js';

/** Status of a GET with exactly these headers. */
function statusOf(url: string, headers: http.OutgoingHttpHeaders | string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const req = http.get(url, { headers, agent: false }, (res) => {
      resolve(res.statusCode!);
      req.destroy();
    });
    req.on('error', reject);
  });
}

const accept = 'text/event-stream';

describe('over HTTP', () => {
  test('the Authorization header is read by default, its scheme in any case, and nothing else', async () => {
    const { url } = await guarded();
    const token = await signed();
    for (const scheme of ['Bearer', 'bearer', 'BEARER', 'Bearer  ']) {
      expect(await statusOf(url, { accept, authorization: `${scheme} ${token}` })).toBe(200);
    }
    for (const authorization of [token, `Basic ${token}`, `Bearertoken ${token}`, 'Bearer', 'Bearer ', '']) {
      expect(await statusOf(url, { accept, authorization })).toBe(401);
    }
    expect(await statusOf(`${url}/?access_token=${token}`, { accept })).toBe(401);
    expect(await statusOf(url, { accept, cookie: `token=${token}; access_token=${token}` })).toBe(401);
  });

  test('a cookie and a query parameter are read where they are asked for', async () => {
    const tokenFrom: TokenSource[] = [{ cookie: '__Host-token' }, { query: 'access_token' }];
    const { url } = await guarded({ tokenFrom });
    const token = await signed();
    expect(await statusOf(url, { accept, cookie: `a=b; __Host-token=${token}; c=d` })).toBe(200);
    expect(await statusOf(url, { accept, cookie: `__Host-token="${token}"` })).toBe(200);
    expect(await statusOf(`${url}/?a=b&access_token=${token}`, { accept })).toBe(200);
    expect(await statusOf(url, { accept, authorization: `Bearer ${token}` })).toBe(401);
    expect(await statusOf(url, { accept, cookie: `token=${token}` })).toBe(401);
  });

  test('the first place that has a token counts, even when a later one has a better one', async () => {
    const token = await signed();
    const bad = await signed({}, { secret: 'another secret of more than thirty-two bytes' });
    const places = (first: string, second: string) => ({
      accept,
      authorization: `Bearer ${first}`,
      cookie: `t=${second}`,
    });
    const headerFirst = await guarded({ tokenFrom: ['header', { cookie: 't' }] });
    expect(await statusOf(headerFirst.url, places(token, bad))).toBe(200);
    expect(await statusOf(headerFirst.url, places(bad, token))).toBe(401);
    const cookieFirst = await guarded({ tokenFrom: [{ cookie: 't' }, 'header'] });
    expect(await statusOf(cookieFirst.url, places(token, bad))).toBe(401);
    expect(await statusOf(cookieFirst.url, places(bad, token))).toBe(200);
  });

  test('another scheme and an empty cookie are no token: the next place is looked at', async () => {
    const token = await signed();
    const { url } = await guarded({ tokenFrom: ['header', { cookie: 't' }, { query: 'q' }] });
    const headers = { accept, authorization: 'Basic dTpw', cookie: 't=' };
    expect(await statusOf(`${url}/?q=${token}`, headers)).toBe(200);
  });

  test('a parameter that stands twice is refused', async () => {
    const token = await signed();
    const { url, errors } = await guarded({ tokenFrom: [{ query: 'q' }] });
    expect(await statusOf(`${url}/?q=${token}&q=${token}`, { accept })).toBe(401);
    expect(errors[0]!.error.message).toMatch(/"q" stands in the URL twice/);
  });

  test("two Authorization headers are Node's to judge: the first is read, the other is dropped", async () => {
    const token = await signed();
    const { url } = await guarded();
    const twice = (...values: string[]) => ['host', 'x', ...values.flatMap((value) => ['authorization', value])];
    expect(await statusOf(url, twice(`Bearer ${token}`, 'Bearer x'))).toBe(200);
    expect(await statusOf(url, twice('Bearer x', `Bearer ${token}`))).toBe(401);
  });
});

describe('on its own', () => {
  test('on a Fetch request, whose two Authorization headers arrive as one, there is no good token', () => {
    const headers = new Headers({ authorization: 'Bearer a.b.c' });
    headers.append('authorization', 'Bearer d.e.f');
    expect(tokenReader(['header'])({ url: 'http://x/', headers })).toBe('a.b.c, Bearer d.e.f');
  });

  test('no header whatever makes it throw, and what it finds is what stood there', () => {
    const read = tokenReader(['header', { cookie: 't' }]);
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (authorization, cookie) => {
        const token = read({ url: '/', headers: { authorization, cookie } });
        return token === undefined || (token !== '' && (authorization.includes(token) || cookie.length > 0));
      }),
    );
  });

  test.each([
    [undefined],
    ['header'],
    [[]],
    [['headers']],
    [[null]],
    [['header', {}]],
    [[{ cookie: '' }]],
    [[{ cookie: 'a b' }]],
    [[{ cookie: 'a=b' }]],
    [[{ cookie: 'a;b' }]],
    [[{ query: '' }]],
    [[{ query: 7 }]],
    [[{ cookie: 'a', query: 'b' }]],
    [[{ body: 'a' }]],
  ])('%j is no list of places', (sources) => {
    expect(() => tokenReader(sources)).toThrow(
      expect.objectContaining({ code: 'SSE_ERR_INVALID_OPTION', message: expect.stringMatching(/^tokenFrom must be/) }),
    );
  });
});
