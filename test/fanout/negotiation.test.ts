/** Shared compression: who gets it, and what the head says. */
import { describe, expect, test } from 'vitest';
import { createHandler, createPollHandler, type HandlerOptions, queryAuthenticator } from '../../src/index.js';
import { carriers } from '../support/ask.js';
import { makeBroker } from '../support/broker.js';
import { PipeSink } from '../support/pipe-sink.js';
import { serve } from '../support/server.js';
import { openStream } from '../support/stream.js';

const start = async (options: HandlerOptions = { compression: 'gzip' }) => {
  const broker = makeBroker();
  return { broker, ...(await serve(createHandler(broker, options))) };
};
/** No header at all where undefined. */
const accepting = (encoding?: string): Record<string, string> =>
  encoding === undefined ? {} : { 'accept-encoding': encoding };

test.each([
  [undefined, false],
  ['', false],
  ['gzip', true],
  ['GZip', true],
  ['br;q=1.0, Gzip;Q=0.5', true],
  ['deflate, gzip;q=1.0, *;q=0.5', true],
  ['gzip;q=0', false],
  ['gzip;q=0.000', false],
  ['gzip; q=0, *', false],
  ['*', true],
  ['*;q=0', false],
  ['identity', false],
  ['identity, *;q=0', false],
  ['br', false],
  ['gzipped', false],
])('Accept-Encoding %j: compressed %s, and a cache is told why', async (encoding, isCompressed) => {
  const { broker, url } = await start();
  const client = await openStream(url, { headers: accepting(encoding) });
  expect(client.status).toBe(200);
  expect(client.headers['content-encoding']).toBe(isCompressed ? 'gzip' : undefined);
  expect(client.headers.vary).toBe('Accept-Encoding');
  expect(client.headers['content-type']).toBe('text/event-stream; charset=utf-8');
  if (isCompressed) return;
  await broker.broadcast('note', 1);
  expect(await client.next('note')).toBe(1);
});

test('without the option nothing is compressed, and the head does not speak of it', async () => {
  const { broker, url } = await start({});
  const client = await openStream(url, { headers: accepting('gzip') });
  expect(client.headers['content-encoding']).toBeUndefined();
  expect(client.headers.vary).toBeUndefined();
  await broker.broadcast('note', 1);
  expect(await client.next('note')).toBe(1);
});

describe.each(Object.entries(carriers))('%s', (_name, carry) => {
  const cors = { origin: 'https://app.example' };

  test('a HEAD tells what a GET would', async () => {
    const ask = await carry(makeBroker(), { compression: 'gzip', cors });
    const { status, headers, body } = await ask('/', { method: 'HEAD', headers: accepting('gzip') });
    expect([status, headers['content-encoding'], headers.vary, body]).toEqual([
      200,
      'gzip',
      'Origin, Accept-Encoding',
      '',
    ]);
    expect((await ask('/', { method: 'HEAD' })).headers['content-encoding']).toBeUndefined();
  });

  test('Vary names every reason: the origin, the encoding, and those of the application', async () => {
    const ask = await carry(makeBroker(), { compression: 'gzip', cors, headers: { vary: 'Cookie' } });
    const { headers } = await ask('/', { method: 'HEAD', headers: { origin: 'https://app.example' } });
    expect(headers.vary).toBe('Origin, Accept-Encoding, Cookie');
    expect(headers['access-control-allow-origin']).toBe('https://app.example');
  });

  test('refusals are not compressed: their few bytes are read by anybody', async () => {
    const broker = makeBroker({ maxConnections: 1 });
    const ask = await carry(broker, { compression: 'gzip', authenticator: queryAuthenticator(), refusal: 'stream' });
    const nobody = await ask('/', { headers: accepting('gzip') });
    expect([nobody.status, nobody.headers['content-encoding'], nobody.error?.code]).toEqual([
      401,
      undefined,
      'SSE_ERR_UNAUTHENTICATED',
    ]);
    broker.connect({ sink: new PipeSink() });
    const later = await ask('/?user_id=alice', { headers: accepting('gzip') });
    expect([later.status, later.headers['content-encoding']]).toEqual([200, undefined]);
    expect(later.body).toMatch(/^retry: \d+\n/);
  });
});

test('answers to a poll are not compressed: they belong to the server in front', async () => {
  const broker = makeBroker({ historySize: 10 });
  const { url } = await serve(createPollHandler(broker, { compression: 'gzip' }));
  const first = await fetch(url, { headers: accepting('gzip') });
  expect(first.headers.get('content-encoding')).toBeNull();
  expect(first.headers.get('vary')).toBeNull();
  expect(await first.json()).toBeTypeOf('object');
});
