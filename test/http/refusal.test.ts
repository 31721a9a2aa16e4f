/** How a request is refused, so that each kind of client can live with it. */
import type http from 'node:http';
import { describe, expect, test } from 'vitest';
import {
  type BrokerOptions,
  createHandler,
  type HandlerOptions,
  type RequestLike,
  type Sink,
  type SinkOwner,
  SseError,
} from '../../src/index.js';
import { type Asked, asking, carriers } from '../support/ask.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';
import { openStream } from '../support/stream.js';
import { until } from '../support/until.js';

type Options = HandlerOptions<RequestLike>;

const EVENT_SOURCE = { accept: 'text/event-stream', 'cache-control': 'no-cache' };
const LIBRARY = { accept: 'text/event-stream' };

/** Takes up room. */
class IdleSink implements Sink {
  #owner: SinkOwner | undefined;
  open(owner: SinkOwner): void {
    this.#owner = owner;
  }
  write(): boolean {
    return true;
  }
  end(): void {
    queueMicrotask(() => this.#owner?.closed());
  }
  destroy(): void {
    this.end();
  }
  progress(): number {
    return 0;
  }
}

/** Asked to come back: 200, `retry:`, the end. Gives the wait in ms. */
function waitOf({ status, headers, body }: Asked): number {
  expect(status).toBe(200);
  expect(headers['content-type']).toBe('text/event-stream; charset=utf-8');
  const [, retry] = /^retry: (\d+)\n: SSE_ERR_[A-Z_]+\n\n$/.exec(body) ?? [];
  return Number(retry);
}

for (const [carrier, serveBy] of Object.entries(carriers)) {
  describe(carrier, () => {
    /** A broker that has no room. */
    const full = (options?: Options, more: BrokerOptions = {}) => {
      const broker = makeBroker({ maxConnections: 1, ...more });
      broker.connect({ sink: new IdleSink() });
      return serveBy(broker, options);
    };

    describe('a full broker', () => {
      test("tells a browser's EventSource to come back, with the only answer after which it does", async () => {
        const ask = await full();
        expect(waitOf(await ask('/', { headers: EVENT_SOURCE }))).toBeGreaterThan(0);
      });

      test('tells others with a status and Retry-After', async () => {
        const ask = await full();
        for (const headers of [LIBRARY, { accept: '*/*' }, {}, { ...EVENT_SOURCE, accept: 'text/event-stream, */*' }]) {
          const answer = await ask('/', { headers });
          expect(answer.status).toBe(503);
          expect(answer.headers['retry-after']).toMatch(/^[3-9]$/);
          expect(answer.headers['content-type']).toBe('application/json; charset=utf-8');
          expect(answer.error).toEqual({
            code: 'SSE_ERR_TOO_MANY_CONNECTIONS',
            message: 'maxConnections is 1; try again later',
          });
        }
      });

      test('can be told to use one answer for all', async () => {
        const byStatus = await full({ refusal: 'status' });
        expect((await byStatus('/', { headers: EVENT_SOURCE })).status).toBe(503);
        const byStream = await full({ refusal: 'stream' });
        expect(waitOf(await byStream('/', { headers: LIBRARY }))).toBeGreaterThan(0);
      });

      test('can be told by a function of the request', async () => {
        const ask = await full({ refusal: (req) => (req.url?.includes('browser') ? 'stream' : 'status') });
        expect((await ask('/?browser')).status).toBe(200);
        expect((await ask('/?native')).status).toBe(503);
      });

      test('answers with a status when that function throws or gives nonsense', async () => {
        const throwing = await full({
          refusal: () => {
            throw new Error('hunter2');
          },
        });
        const { status, body } = await throwing();
        expect(status).toBe(503);
        expect(body).not.toContain('hunter2');
        const nonsense = await full({ refusal: () => 'later' as 'stream' });
        expect((await nonsense()).status).toBe(503);
      });

      test('spreads those it turns away over one to three times the usual wait', async () => {
        const ask = await full({}, { retry: 1_000 });
        const waits: number[] = [];
        for (let n = 0; n < 60; n++) waits.push(waitOf(await ask('/', { headers: EVENT_SOURCE })));
        expect(Math.min(...waits)).toBeGreaterThanOrEqual(1_000);
        expect(Math.max(...waits)).toBeLessThanOrEqual(3_000);
        // All in one half by chance: once in 2^59.
        expect(Math.min(...waits)).toBeLessThan(2_000);
        expect(Math.max(...waits)).toBeGreaterThan(2_000);
      });

      test('answers HEAD without a body', async () => {
        const ask = await full();
        for (const headers of [EVENT_SOURCE, LIBRARY]) {
          expect((await ask('/', { method: 'HEAD', headers })).body).toBe('');
        }
      });
    });

    describe("a browser's EventSource", () => {
      const throwing = (error: Error) => () => {
        throw error;
      };
      test.each<[string, Options, BrokerOptions]>([
        ['its user has too many', { authenticator: () => ({ userId: 'alice' }) }, { maxConnectionsPerUser: 1 }],
        ['authentication takes too long', { authenticator: () => new Promise(() => {}), authenticationTimeout: 5 }, {}],
        ['the bus is away', { topicResolver: throwing(new SseError('SSE_ERR_BUS_UNAVAILABLE', 'x')) }, {}],
        ['keys are away', { authenticator: throwing(new SseError('SSE_ERR_AUTHENTICATION_UNAVAILABLE', 'x')) }, {}],
        [
          "its resolver's store is away",
          { topicResolver: throwing(new SseError('SSE_ERR_STORE_UNAVAILABLE', 'x')) },
          {},
        ],
        ['its authenticator says 429', { authenticator: throwing(new SseError('SSE_ERR_RATE_LIMITED', 'x')) }, {}],
        [
          'a callback says 503',
          { authenticator: throwing(new SseError('SSE_ERR_UNAUTHENTICATED', 'x', { status: 503 })) },
          {},
        ],
      ])('is told to come back when %s', async (_name, options, brokerOptions) => {
        const broker = makeBroker(brokerOptions);
        broker.connect({ sink: new IdleSink(), identity: { userId: 'alice' } });
        const ask = await serveBy(broker, options);
        expect(waitOf(await ask('/', { headers: EVENT_SOURCE }))).toBeGreaterThan(0);
      });

      test('is told to come back when the broker is closed', async () => {
        const broker = makeBroker();
        const ask = await serveBy(broker);
        await broker.close();
        expect(waitOf(await ask('/', { headers: EVENT_SOURCE }))).toBeGreaterThan(0);
      });

      test.each<[string, Options]>([
        ['authenticator', { authenticator: throwing(new Error('the pool has ended')) }],
        ['authenticator, which says null then', { authenticator: () => null }],
        ['topic resolver', { topicResolver: throwing(new Error('the pool has ended')) }],
      ])('is told to come back when the database is closed with the broker: %s', async (_name, options) => {
        const broker = makeBroker();
        const ask = await serveBy(broker, options);
        expect((await ask('/', { headers: EVENT_SOURCE })).status).toBeGreaterThan(400);
        await broker.close();
        expect(waitOf(await ask('/', { headers: EVENT_SOURCE }))).toBeGreaterThan(0);
        expect((await ask('/', { headers: LIBRARY })).status).toBe(503);
      });

      test.each<[number, Options, object]>([
        [401, { authenticator: () => null }, {}],
        [403, { topicResolver: () => ['a'], authorizeTopic: () => false }, {}],
        [400, { topicResolver: () => [''] }, {}],
        [500, { topicResolver: throwing(new Error('x')) }, {}],
        [405, {}, { method: 'POST' }],
        [204, { authenticator: throwing(new SseError('SSE_ERR_BROKER_CLOSED', 'x', { status: 204 })) }, {}],
      ])('gets %d for what coming back would not change', async (status, options, init) => {
        const ask = await serveBy(makeBroker(), options);
        expect((await ask('/', { headers: EVENT_SOURCE, ...init })).status).toBe(status);
      });
    });

    test('every refusal is counted once and told by its code', async () => {
      const broker = makeBroker();
      const refusals: unknown[] = [];
      broker.on('requestRefused', (refusal) => refusals.push(refusal));
      const ask = await serveBy(broker, { authenticator: () => null });
      await ask();
      await ask('/', { method: 'POST' });
      await ask('/', { headers: { accept: 'text/html' } });
      expect(refusals).toEqual([
        { code: 'SSE_ERR_UNAUTHENTICATED', status: 401 },
        { code: 'SSE_ERR_METHOD_NOT_ALLOWED', status: 405 },
        { code: 'SSE_ERR_NOT_ACCEPTABLE', status: 406 },
      ]);
      expect(broker.getStats().refused).toBe(3);
    });

    test('headers of the application are on the stream, in place of ours, in whatever case they are written', async () => {
      const ask = await serveBy(makeBroker(), { headers: { 'cache-control': 'no-store', 'X-Node': 'a' } });
      const { headers } = await ask('/', { method: 'HEAD' });
      expect(headers['cache-control']).toBe('no-store');
      expect(headers['x-node']).toBe('a');
      expect(headers['content-type']).toBe('text/event-stream; charset=utf-8');
    });
  });
}

describe('on a response that somebody else has touched', () => {
  test('a Content-Length of earlier middleware does not cut the refusal', async () => {
    const handler = createHandler(makeBroker(), { authenticator: () => null });
    const { url } = await serve((req, res) => {
      res.setHeader('Content-Length', '5');
      void handler(req, res);
    });
    expect((await asking(url)()).error?.code).toBe('SSE_ERR_UNAUTHENTICATED');
  });

  test('that has been begun, the application hears of it, and nobody is connected', async () => {
    const broker = makeBroker();
    const handler = createHandler(broker);
    const { url } = await serve((req, res) => {
      res.writeHead(200);
      void handler(req, res).then(() => res.end('theirs'));
    });
    expect((await asking(url)()).body).toBe('theirs');
    expect(broker.reported[0]!.message).toMatch(/begun by somebody else/);
    expect(broker.getStats().totalClients).toBe(0);
  });

  test('that can no longer be answered, the connection is cut, and the handler does not reject', async () => {
    const broker = makeBroker();
    const handler = createHandler(broker, { authenticator: () => null });
    let handled: Promise<void> | undefined;
    const { url } = await serve((req, res) => {
      res.writeHead = () => {
        throw new Error('patched');
      };
      handled = handler(req, res);
    });
    await expect(asking(url)()).rejects.toThrow(/hang up/);
    await expect(handled).resolves.toBeUndefined();
    expect((broker.reported[0]!.cause as Error).message).toBe('patched');
  });

  test('a stream that cannot be connected after its head is cut, not left open for ever', async () => {
    const broker = makeBroker({
      createId: () => {
        throw new Error('no entropy');
      },
    });
    const { url } = await serve(createHandler(broker));
    await expect(openStream(url)).rejects.toThrow(/hang up/);
    expect((broker.reported[0]!.cause as Error).message).toBe('no entropy');
    expect(broker.getStats().totalClients).toBe(0);
  });
});

describe('onConnect', () => {
  test('that throws or rejects is reported, and the stream stays', async () => {
    for (const fail of [
      () => {
        throw new SseError('SSE_ERR_FORBIDDEN', 'x');
      },
      () => Promise.reject(new Error('x')),
    ]) {
      const broker = makeBroker();
      const { url } = await serve(createHandler(broker, { onConnect: fail }));
      const stream = await openStream(url);
      await until(() => broker.reported.length === 1, 'the error event');
      await broker.broadcast('note', 1);
      expect(await stream.next('note')).toBe(1);
      expect(broker.getStats().refused).toBe(0);
    }
  });

  test('is given the client, the request and the context, when the stream is registered', async () => {
    const broker = makeBroker();
    const seen: unknown[] = [];
    const handler = createHandler<http.IncomingMessage, string>(broker, {
      authenticator: () => ({ userId: 'alice' }),
      onConnect: async (client, req, context) => {
        seen.push(client.userId, req.url, context, broker.isUserOnline('alice'));
        await broker.subscribe(client.id, 'late');
      },
    });
    const { url } = await serve((req, res) => void handler(req, res, 'context'));
    const stream = await openStream(`${url}/events`);
    await until(() => broker.getTopicConnectionCount('late') === 1);
    expect(seen).toEqual(['alice', '/events', 'context', true]);
    await broker.sendToTopic('late', 'note', 1);
    expect(await stream.next('note')).toBe(1);
  });
});
