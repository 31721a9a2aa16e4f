/** What is not a stream, byte by byte: the right answer, and a connection that is good for the next request. */
import type { RequestListener } from 'node:http';
import { expect, test } from 'vitest';
import { createHandler } from '../../../src/index.js';
import { makeBroker } from '../../support/broker.js';
import { connectRaw, type RawResponse } from '../../support/raw.js';
import { serve } from '../../support/server.js';

interface Case {
  readonly name: string;
  readonly request: string;
  readonly status: number;
  readonly expects?: (response: RawResponse) => void;
}

const code = (expected: string) => (response: RawResponse) =>
  expect(JSON.parse(response.body.toString())).toMatchObject({ error: { code: expected } });

const cases: Case[] = [
  {
    name: 'HEAD: the head of a stream, and no body',
    request: 'HEAD / HTTP/1.1\r\nHost: test\r\n\r\n',
    status: 200,
    expects: ({ headers }) => {
      expect(headers['content-type']).toBe('text/event-stream; charset=utf-8');
      expect(headers['cache-control']).toBe('no-cache, no-transform');
    },
  },
  {
    name: 'OPTIONS: what is allowed',
    request: 'OPTIONS / HTTP/1.1\r\nHost: test\r\n\r\n',
    status: 204,
    expects: ({ headers, body }) => {
      expect(headers.allow).toBe('GET, HEAD, OPTIONS');
      expect(headers['access-control-allow-origin']).toBeUndefined();
      expect(body.length).toBe(0);
    },
  },
  {
    name: 'POST with a body',
    request: `POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n${'x'.repeat(100_000)}`,
    status: 405,
    expects: (response) => {
      expect(response.headers.allow).toBe('GET, HEAD, OPTIONS');
      code('SSE_ERR_METHOD_NOT_ALLOWED')(response);
    },
  },
  {
    name: 'PUT with a chunked body',
    request: 'PUT / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
    status: 405,
    expects: code('SSE_ERR_METHOD_NOT_ALLOWED'),
  },
  {
    name: 'an Accept that wants something else',
    request: 'GET / HTTP/1.1\r\nHost: test\r\nAccept: text/html, application/json;q=0.9\r\n\r\n',
    status: 406,
    expects: code('SSE_ERR_NOT_ACCEPTABLE'),
  },
  {
    name: 'an Accept that refuses streams by weight',
    request: 'GET / HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream;q=0\r\n\r\n',
    status: 406,
    expects: code('SSE_ERR_NOT_ACCEPTABLE'),
  },
];

for (const { name, request, status, expects } of cases) {
  test(`${name}: ${status}, and the connection goes on`, async () => {
    const broker = makeBroker();
    const { port } = await serve(createHandler(broker) as RequestListener);
    const connection = await connectRaw(port);
    const isHead = (index: number) => request.startsWith('HEAD') && index < 2;
    for (let round = 1; round <= 2; round++) {
      connection.write(request);
      const responses = await connection.completed(round, isHead);
      const response = responses.at(-1)!;
      expect(response.status).toBe(status);
      expect(response.headers.connection).toBe('keep-alive');
      // Not left over from one answer and taken for the next.
      expect(response.rest.length).toBe(0);
      if (status >= 400) expect(response.headers['cache-control']).toBe('no-store');
      expects?.(response);
    }
    connection.get();
    await connection.has('event: connected');
    expect(connection.responses(isHead).map((response) => response.status)).toEqual([status, status, 200]);
    expect(broker.getStats()).toMatchObject({ connects: 1, refused: status >= 400 ? 2 : 0 });
  });
}

test('a stream is what the specification says, to the byte', async () => {
  const broker = makeBroker({
    createId: () => 'client-1',
    retry: 0,
    clock: { now: () => 1_000, monotonic: () => 0, every: () => () => {} },
  });
  const { port } = await serve(createHandler(broker) as RequestListener);
  const connection = await connectRaw(port);
  connection.get();
  await connection.has('event: connected');
  const id = await broker.broadcast('note', { text: 'a' });
  await broker.broadcast('note', 'two\r\nlines\rand a third\n');
  await connection.has('third');
  await broker.disconnect('client-1');
  const [response] = await connection.completed(1);
  const [epoch] = id.split('-');
  expect(response!.head.split('\r\n').filter((line) => !line.startsWith('Date: '))).toEqual([
    'HTTP/1.1 200 OK',
    'Content-Type: text/event-stream; charset=utf-8',
    'Cache-Control: no-cache, no-transform',
    'X-Accel-Buffering: no',
    'Connection: keep-alive',
    'Keep-Alive: timeout=5',
    'Transfer-Encoding: chunked',
  ]);
  expect(response!.body.toString()).toBe(
    [
      `id: ${epoch}-0\nevent: connected\ndata: {"clientId":"client-1","userId":null,"tenantId":null,"topics":[],"serverTime":1000,"heartbeatInterval":30000,"retry":0}\n\n`,
      `id: ${epoch}-1\nevent: note\ndata: {"text":"a"}\n\n`,
      `id: ${epoch}-2\nevent: note\ndata: two\ndata: lines\ndata: and a third\ndata: \n\n`,
      'event: closing\ndata: {"reason":"disconnected"}\n\n',
    ].join(''),
  );
});
