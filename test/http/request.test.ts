import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  accepts,
  acceptsGzip,
  cookieOf,
  headerOf,
  isEventSource,
  lastEventIdOf,
  parameterOf,
  parametersOf,
  queryOf,
} from '../../src/http/request.js';

const node = (headers: Record<string, string | string[]>, url = '/') => ({ url, headers });
const acceptsStream = (accept: string) => accepts(node({ accept }), 'text/event-stream');

describe('headers', () => {
  test('are read alike from Node and from Fetch, repeated ones joined', () => {
    expect(headerOf(node({ 'x-a': ['1', '2'] }), 'x-a')).toBe('1, 2');
    const headers = new Headers([
      ['X-A', '1'],
      ['X-A', '2'],
    ]);
    expect(headerOf({ headers }, 'x-a')).toBe('1, 2');
    expect(headerOf(node({}), 'x-a')).toBeUndefined();
    expect(headerOf({ headers }, 'x-b')).toBeUndefined();
  });
});

describe('query', () => {
  test.each([
    ['/events', ''],
    ['/events?', ''],
    ['/events?a=1&a=2', 'a=1&a=2'],
    ['http://h/events?a=%0A', 'a=%0A'],
    ['/events?a=b?c', 'a=b%3Fc'],
    ['/events?a=1#?b=2', 'a=1'],
    [undefined, ''],
  ])('of %s is %s', (url, expected) => {
    expect(queryOf({ url, headers: {} }).toString()).toBe(expected);
  });
});

describe('query parameters', () => {
  test('are what URLSearchParams reads, encoded or not', () => {
    const piece = fc.oneof(
      fc.constantFrom(
        'a',
        'b',
        'ab',
        '',
        '=',
        '&',
        '?',
        '#',
        '+',
        '%',
        '%20',
        '%zz',
        '%C3%A4',
        '/',
        ' ',
        'ä',
        '"',
        '\ud800',
      ),
      fc.string({ maxLength: 3 }),
    );
    const name = fc.oneof(fc.constantFrom('a', 'b', 'ab', '', 'ä', '?a', 'a=b'), fc.string({ maxLength: 2 }));
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), name, (pieces, wanted) => {
        const req = { url: `/events?${pieces.join('')}`, headers: {} };
        expect(parametersOf(req, wanted)).toEqual(queryOf(req).getAll(wanted));
        expect(parameterOf(req, wanted)).toBe(queryOf(req).get(wanted));
      }),
      { numRuns: 3_000 },
    );
  });
});

describe('Accept (RFC 9110, section 12.5.1)', () => {
  test.each([
    'text/event-stream',
    'TEXT/Event-Stream',
    'text/event-stream; charset=utf-8',
    'text/event-stream;q=0.001',
    'application/json, text/event-stream;q=0.1',
    '*/*',
    'text/*',
    'text/*;q=0, text/event-stream',
    '*/*;q=0, text/*;q=0.5',
    'text/html;title="a, b;q=0", text/event-stream',
    'application/json;q=0,*/*',
    '',
    '  ',
    'text/event-stream,',
    ',,text/event-stream',
    'text/event-stream;q=0, text/event-stream',
  ])('%j takes a stream', (accept) => {
    expect(acceptsStream(accept)).toBe(true);
  });

  test.each([
    'application/json',
    'text/html',
    'text/event-streams',
    'text/event-stream;q=0',
    'text/event-stream; q=0.000',
    'text/event-stream;Q=0.',
    'text/event-stream;q=0, */*',
    'text/event-stream;q=0, text/*, */*;q=0.8',
    'text/*;q=0, */*',
    'text/html;x=",text/event-stream"',
    'text/html;x=",text/event-stream',
    ',',
  ])('%j does not', (accept) => {
    expect(acceptsStream(accept)).toBe(false);
  });

  test('no header takes everything', () => {
    expect(accepts(node({}), 'text/event-stream')).toBe(true);
  });

  test('a poll asks for JSON', () => {
    const json = (accept: string) => accepts(node({ accept }), 'application/json');
    expect([json('application/*'), json('text/*'), json('application/json;q=0, */*')]).toEqual([true, false, false]);
  });

  const white = fc.stringMatching(/^[ \t]{0,2}$/);
  const weight = fc.option(fc.integer({ min: 0, max: 1000 }).map((n) => n / 1000));
  const range = fc.record({
    type: fc.constantFrom('*/*', 'text/*', 'text/event-stream', 'text/html', 'application/json', 'a/b', '*'),
    weight,
    parameter: fc.constantFrom('', 'charset=utf-8', 'x="a,b;q=0"', 'x=","'),
    before: white,
    after: white,
    isUpper: fc.boolean(),
  });

  test('property: the most specific range decides, wherever it stands', () => {
    fc.assert(
      fc.property(fc.array(range, { minLength: 1 }), (given) => {
        const accept = given
          .map(({ type, weight, parameter, before, after, isUpper }) => {
            const parts = [isUpper ? type.toUpperCase() : type];
            if (parameter !== '') parts.push(parameter);
            if (weight !== null) parts.push(`q=${weight}`);
            return before + parts.join(`${after};${before}`) + after;
          })
          .join(',');
        const best = ['text/event-stream', 'text/*', '*/*'].find((type) => given.some((one) => one.type === type));
        const expected = given.some(({ type, weight }) => type === best && weight !== 0);
        expect(acceptsStream(accept)).toBe(expected);
      }),
      { numRuns: 1_000 },
    );
  });

  test('property: no text makes it throw, or slow', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (accept) => typeof acceptsStream(accept) === 'boolean'));
    const started = performance.now();
    for (const one of [',', '"', ';', ' ', '"\\', 'text/*;q=0,', '\t;', '",']) {
      acceptsStream(one.repeat(100_000 / one.length));
      acceptsStream(`text/event-stream${one.repeat(100_000 / one.length)}x`);
    }
    expect(performance.now() - started).toBeLessThan(5_000);
  });
});

describe('Accept-Encoding (RFC 9110, section 12.5.3)', () => {
  test.each([
    ['gzip', true],
    ['GZIP, br', true],
    ['br;q=1, gzip;q=0.2', true],
    ['*', true],
    ['gzip;q=0', false],
    ['gzip;q=0, *', false],
    ['*;q=0', false],
    ['br', false],
    ['', false],
  ])('%j: gzip %s', (encoding, expected) => {
    expect(acceptsGzip(node({ 'accept-encoding': encoding }))).toBe(expected);
  });

  test('no header takes none', () => {
    expect(acceptsGzip(node({}))).toBe(false);
  });
});

describe('cookies', () => {
  const cookie = (text: string, name = 'token') => cookieOf(node({ cookie: text }), name);

  test.each([
    ['token=abc', 'abc'],
    ['a=1; token=abc; b=2', 'abc'],
    ['a=1;token=abc', 'abc'],
    ['token="abc"', 'abc'],
    ['token=a%20b', 'a b'],
    ['token=100%', '100%'],
    ['token=%E0%A4%A', '%E0%A4%A'],
    ['token=a=b==', 'a=b=='],
    ['token=', ''],
    ['token=first; token=second', 'first'],
    [' \ttoken = abc\t ', 'abc'],
    ['token="', '"'],
  ])('%j', (text, expected) => {
    expect(cookie(text)).toBe(expected);
  });

  test.each(['', 'Token=abc', 'xtoken=abc', 'tokenx=abc', 'token', ';;;', 'a=token=abc'])('%j has none', (text) => {
    expect(cookie(text)).toBeUndefined();
  });

  test('a name that only looks alike is another: what a browser guards cannot be set from elsewhere', () => {
    for (const disguise of ['\u00a0', '\u0085', '\u2000', '\ufeff', '\v', '\f']) {
      expect(cookie(`${disguise}__Host-token=forged; __Host-token=good`, '__Host-token')).toBe('good');
      expect(cookie(`__Host-token${disguise}=forged`, '__Host-token')).toBeUndefined();
    }
  });

  test('names of the prototype are no cookies', () => {
    for (const name of ['__proto__', 'constructor', 'toString']) expect(cookie('a=b', name)).toBeUndefined();
    expect(cookie('__proto__=x', '__proto__')).toBe('x');
  });

  test('property: what a browser sends comes out, among others and in any order', () => {
    const name = fc.stringMatching(/^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,8}$/);
    const value = fc.string({ unit: 'grapheme', maxLength: 20 }).filter((text) => text.isWellFormed());
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(name, value), { selector: ([key]) => key, minLength: 1 }), (pairs) => {
        const header = pairs.map(([key, text]) => `${key}=${encodeURIComponent(text)}`).join('; ');
        for (const [key, text] of pairs) expect(cookie(header, key)).toBe(text);
      }),
    );
  });

  test('property: no text makes it throw, or slow', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => typeof cookie(text) !== 'number'));
    const started = performance.now();
    for (const one of [';', ' ', '=', '"', 'token', 'token=;', ' \t', 'x=y;']) {
      cookie(one.repeat(100_000 / one.length));
      cookie(`token=${one.repeat(100_000 / one.length)}x`);
      cookie(`token=x${' '.repeat(100_000)}x${one.repeat(1_000)}`);
    }
    expect(performance.now() - started).toBeLessThan(5_000);
  });
});

describe('Last-Event-ID', () => {
  test('the header comes before the parameters, and empty is none (HTML standard, section 9.2.6)', () => {
    expect(lastEventIdOf(node({ 'last-event-id': 'h' }, '/?lastEventId=q'))).toBe('h');
    expect(lastEventIdOf(node({ 'last-event-id': '' }, '/?lastEventId=q'))).toBe('q');
    expect(lastEventIdOf(node({}, '/?last_event_id=q'))).toBe('q');
    expect(lastEventIdOf(node({}, '/?lastEventId=&last_event_id=q'))).toBe('q');
    expect(lastEventIdOf(node({}, '/?lastEventId='))).toBeUndefined();
    expect(lastEventIdOf(node({}))).toBeUndefined();
  });
});

describe("a browser's EventSource", () => {
  test.each([
    [{ accept: 'text/event-stream', 'cache-control': 'no-cache' }, true],
    [{ accept: ' Text/Event-Stream ', 'cache-control': 'max-age=0, No-Cache' }, true],
    [{ accept: 'text/event-stream' }, false],
    [{ accept: 'text/event-stream', 'cache-control': 'no-store' }, false],
    [{ accept: 'text/event-stream', 'cache-control': 'x-no-cache' }, false],
    [{ accept: 'text/event-stream, */*', 'cache-control': 'no-cache' }, false],
    [{ accept: '*/*', 'cache-control': 'no-cache' }, false],
    [{}, false],
  ])('%j: %s', (headers, expected) => {
    expect(isEventSource(node(headers as Record<string, string>))).toBe(expected);
  });
});
