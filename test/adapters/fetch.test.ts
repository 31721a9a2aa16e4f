import { Readable } from 'node:stream';
import type { ReadableStream as NodeReadableStream } from 'node:stream/web';
import { expect, onTestFinished, test } from 'vitest';
import { createFetchHandler, createFetchPollHandler, queryAuthenticator } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { collectGarbage } from '../support/garbage.js';
import { readStream } from '../support/stream.js';
import { until } from '../support/until.js';
import { conformance, type Framework, type OpenOptions } from './conformance.js';

interface Context {
  user?: { id: string };
}

/** Runtimes tell that a client left by cancelling the body, by aborting the request's signal, or both. */
const plainFetch = (name: string, leaveBy: 'cancel' | 'abort'): Framework => ({
  name,
  start: async (broker, options) => {
    const events = createFetchHandler<Context>(broker, options);
    const serve = async (request: Request): Promise<Response> => {
      const context: Context = {};
      const id = request.headers.get('x-user');
      if (id !== null) context.user = { id };
      const { pathname } = new URL(request.url);
      if (pathname === '/other') return new Response('other');
      if (pathname !== '/events') return new Response(null, { status: 404 });
      const response = await events(request, context);
      response.headers.set('X-Earlier', 'kept');
      return response;
    };
    const open = async (path: string, { method = 'GET', headers = {}, signal }: OpenOptions) => {
      const client = new AbortController();
      signal?.addEventListener('abort', () => client.abort());
      const request = new Request(`http://localhost${path}`, {
        method,
        headers: { accept: 'text/event-stream', ...headers },
        signal: client.signal,
      });
      const response = await serve(request);
      const body =
        response.body === null ? Readable.from([]) : Readable.fromWeb(response.body as NodeReadableStream<Uint8Array>);
      onTestFinished(() => {
        body.destroy();
      });
      return readStream(
        body,
        { status: response.status, headers: Object.fromEntries(response.headers) },
        leaveBy === 'cancel' ? () => body.destroy() : () => client.abort(),
      );
    };
    return { url: 'http://localhost', open, close: async () => {} };
  },
  userOf: (_req, context) => (context as Context).user,
  isContext: (context) => typeof context === 'object',
  hasKeepAlive: false,
});

conformance(plainFetch('Fetch, the body is cancelled', 'cancel'));
conformance(plainFetch('Fetch, the signal aborts', 'abort'));

test.each([
  ['stream', createFetchHandler],
  ['poll', createFetchPollHandler],
] as const)('Fetch: a %s whose Request nobody else holds ends when that is aborted', async (_, create) => {
  const broker = makeBroker();
  const handle = create(broker, { authenticator: queryAuthenticator() });
  const clients = Array.from({ length: 20 }, (_, n) => {
    const client = new AbortController();
    const url = `http://localhost/?user_id=u${n}&wait=60000`;
    return { client, response: handle(new Request(url, { signal: client.signal })) };
  });
  await until(() => broker.getStats().totalClients === 20, 'twenty');
  await collectGarbage();
  await collectGarbage();
  for (const { client } of clients) client.abort();
  await until(() => broker.getStats().totalClients === 0, 'nobody', 2_000);
});

test('Fetch: a body that nobody reads fills up and goes by the rules for slow clients', async () => {
  const broker = makeBroker({ clientBufferSize: 4 });
  const handle = createFetchHandler(broker, { authenticator: queryAuthenticator() });
  const response = await handle(new Request('http://localhost/?user_id=stalled'));
  await until(async () => {
    await broker.broadcast('note', 'x'.repeat(10_000));
    return broker.getStats().totalClients === 0;
  }, 'the client to be cut off');
  expect(broker.getStats().disconnects.overflow).toBe(1);
  await expect(new Response(response.body).text()).rejects.toThrow();
});
