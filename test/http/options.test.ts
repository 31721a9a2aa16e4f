import { describe, expect, test } from 'vitest';
import { resolveHandlerOptions } from '../../src/http/options.js';
import { createFetchHandler, createHandler, type HandlerOptions } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';

const HANDLERS = [createHandler, createFetchHandler] as ((broker: unknown, options?: unknown) => unknown)[];

test('without options callbacks have ten seconds, and nothing is added to what is answered', () => {
  const { authenticationTimeout, compression, headers, cors } = resolveHandlerOptions({});
  expect({ authenticationTimeout, compression, headers }).toEqual({
    authenticationTimeout: 10_000,
    compression: undefined,
    headers: {},
  });
  expect(cors({ headers: { origin: 'https://app.example' } }, true)).toEqual({});
});

describe('nonsense throws at construction and names the option', () => {
  test.each<[string, unknown, RegExp]>([
    ['null', null, /^options must be an object; got null$/],
    ['a broker in the wrong place', 7, /^options must be an object; got 7$/],
    [
      'an unknown option',
      { authenticate: () => null },
      /^unknown handler option "authenticate"; known are authenticator/,
    ],
    ['an authenticator that is none', { authenticator: {} }, /^authenticator must be a function; got an object$/],
    ['null as authenticator', { authenticator: null }, /^authenticator must be a function; got null$/],
    ['topics in a list', { topicResolver: ['a'] }, /^topicResolver must be a function; got an array$/],
    ['true as authorisation', { authorizeTopic: true }, /^authorizeTopic must be a function; got true$/],
    ['a name as onConnect', { onConnect: 'log' }, /^onConnect must be a function; got "log"$/],
    ['a timeout below 0', { authenticationTimeout: -1 }, /^authenticationTimeout must be .*ms.*; got -1$/],
    ['a timeout in text', { authenticationTimeout: '5s' }, /^authenticationTimeout must be .*; got "5s"$/],
    ['an endless timeout', { authenticationTimeout: Number.POSITIVE_INFINITY }, /got Infinity$/],
    ['a timeout that Node would take for 1 ms', { authenticationTimeout: 2 ** 31 }, /got 2147483648$/],
    ['a refusal that is none', { refusal: 'json' }, /^refusal must be 'auto', 'status', 'stream'.*; got "json"$/],
    ['a compression that is none', { compression: 'br' }, /^compression must be 'gzip'.*; got "br"$/],
    ['headers in a list', { headers: ['X-A: 1'] }, /^headers must be an object.*; got an array$/],
    ['null as headers', { headers: null }, /^headers must be an object.*; got null$/],
    ['a header name with a colon', { headers: { 'X-A:': '1' } }, /^headers must have header names; got "X-A:"$/],
    ['a header with a line break', { headers: { 'X-A': '1\r\nX-B: 2' } }, /^headers must have values of printable/],
    ['a header outside Latin-1', { headers: { 'X-A': '…' } }, /for X-A$/],
    ['a number as header', { headers: { 'X-A': 1 } }, /got 1 for X-A$/],
    ['another content type', { headers: { 'content-type': 'text/plain' } }, /must not have content-type/],
    ["the connection's own header", { headers: { Connection: 'keep-alive' } }, /must not have Connection/],
    ['a length', { headers: { 'Content-Length': '0' } }, /must not have Content-Length/],
  ])('%s', (_name, options, message) => {
    for (const create of HANDLERS) {
      expect(() => create(makeBroker(), options)).toThrow(
        expect.objectContaining({ code: 'SSE_ERR_INVALID_OPTION', message: expect.stringMatching(message) }),
      );
    }
  });

  test.each([undefined, null, {}, 'broker'])('%s is no broker', (broker) => {
    for (const create of HANDLERS) {
      expect(() => create(broker)).toThrow(
        expect.objectContaining({ code: 'SSE_ERR_INVALID_OPTION', message: expect.stringMatching(/^broker must be/) }),
      );
    }
  });
});

test('an option that is undefined counts as absent', () => {
  const options: HandlerOptions<object> = {
    authenticator: undefined,
    topicResolver: undefined,
    authorizeTopic: undefined,
    cors: undefined,
    headers: undefined,
    compression: undefined,
    onConnect: undefined,
    authenticationTimeout: undefined,
    refusal: undefined,
  };
  for (const create of HANDLERS) {
    expect(create(makeBroker(), options)).toBeTypeOf('function');
  }
});
