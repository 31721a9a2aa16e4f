/** A whole broker over a Redis that is away when it starts, or when it ends. */
import { Redis } from 'ioredis';
import { expect, onTestFinished, test } from 'vitest';
import { RedisBus } from '../../src/buses/redis.js';
import { createHandler, createPublisher } from '../../src/index.js';
import { MemorySink } from '../../src/testing/index.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';
import { connected, newNamespace, redisLibraries } from './redis-clients.js';
import { ioredis, startProxy, startRedis } from './redis-nodes.js';

/** An application that is there before its Redis is: nothing listens on the port yet. */
async function beforeRedis() {
  const server = await startRedis();
  await server.kill();
  const client = new Redis(server.port, '127.0.0.1', { retryStrategy: () => 50 });
  client.on('error', () => {});
  onTestFinished(() => client.disconnect());
  const bus = () => new RedisBus({ client, namespace: newNamespace(), commandTimeout: 200, checkInterval: 1_000 });
  return { server, bus };
}

test('a broker that was started before its Redis serves as soon as that is there', async () => {
  const { server, bus } = await beforeRedis();
  const broker = makeBroker({ bus: bus() });
  const early = new MemorySink();
  broker.connect({ sink: early, topics: ['t'] });
  // Several tries, as clients that come back make them.
  for (let i = 0; i < 3; i++) {
    await expect(broker.broadcast('n', i)).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE', retryable: true });
  }
  await until(() => early.isClosed, 'the stream that nobody can serve to end');
  await server.start();
  await until(
    () =>
      broker.broadcast('n', 'up').then(
        () => true,
        () => false,
      ),
    'publishing to succeed',
  );
  const sink = new MemorySink();
  broker.connect({ sink, topics: ['t'] });
  await sink.wrote('event: connected');
  await broker.sendToTopic('t', 'n', 'live');
  await sink.wrote('data: live');
  expect(new Set(broker.reported.map(({ code }) => code))).toEqual(new Set(['SSE_ERR_BUS_UNAVAILABLE']));
});

test('readers that come before Redis is there are told when to come back, and are served when it is', async () => {
  const { server, bus } = await beforeRedis();
  const broker = makeBroker({ bus: bus(), retry: 100 });
  const { url } = await serve(createHandler(broker));
  const accept = { accept: 'text/event-stream' };
  // Nobody knew yet that it is away: a stream that ends after commandTimeout.
  const first = await fetch(url, { headers: accept });
  expect(first.status).toBe(200);
  const [, retry] = /^retry: (\d+)\nevent: closing\ndata: {"reason":"failed"}\n\n$/.exec(await first.text()) ?? [];
  expect(Number(retry)).toBeGreaterThanOrEqual(100);
  expect(Number(retry)).toBeLessThanOrEqual(300);
  // From then on they are refused at once, each in the way that it understands.
  const program = await fetch(url, { headers: accept });
  expect(program.status).toBe(503);
  expect(program.headers.get('retry-after')).toBe('1');
  expect(await program.json()).toMatchObject({ error: { code: 'SSE_ERR_BUS_UNAVAILABLE' } });
  const browser = await fetch(url, { headers: { ...accept, 'cache-control': 'no-cache' } });
  expect(browser.status).toBe(200);
  expect(await browser.text()).toMatch(/^retry: \d+\n: SSE_ERR_BUS_UNAVAILABLE\n\n$/);
  const nobody = { totalClients: 0, ending: 0, connects: 1, refused: 2, disconnects: { failed: 1 } };
  expect(broker.getStats()).toMatchObject(nobody);
  await server.start();
  // Whoever is turned away has Redis asked again; nobody else publishes or starts anything.
  const stream = await until(async () => {
    const response = await fetch(url, { headers: accept });
    if (response.status === 200) return response;
    await response.body?.cancel();
    return undefined;
  }, 'a stream');
  const reader = stream.body!.getReader();
  onTestFinished(() => reader.cancel());
  expect(new TextDecoder().decode((await reader.read()).value)).toContain('event: connected');
});

test('a publisher that was started before its Redis publishes as soon as that is there', async () => {
  const { server, bus } = await beforeRedis();
  const publisher = createPublisher({ bus: bus() });
  publisher.on('error', () => {});
  onTestFinished(() => publisher.close());
  await expect(publisher.broadcast('n', 1)).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
  await server.start();
  await until(
    () =>
      publisher.broadcast('n', 2).then(
        () => true,
        () => false,
      ),
    'publishing to succeed',
  );
});

test('what a broker leaves out of what others wrote into its channels is counted', async () => {
  const server = await startRedis();
  const namespace = newNamespace();
  const broker = makeBroker({ bus: new RedisBus({ client: await connected(ioredis, server.port), namespace }) });
  const sink = new MemorySink();
  broker.connect({ sink, topics: ['t'] });
  await sink.wrote('event: connected');
  const rubbish = [
    '',
    'x y z',
    'run 1 - 1t 1 0 a\rid: 5\n1',
    'run 1 - 1j 1 0 connected\n{}',
    '\0\u{ffff}',
    '{"__proto__":1}',
  ];
  await server.admin(async (redis) => {
    for (const text of rubbish) await redis.publish(`sse:{${namespace}}:c:t::t`, text);
    await redis.publish(`sse:{${namespace}}:c:t::t`, Buffer.from([0xff, 0xfe, 0, 10, 13]));
  });
  await broker.sendToTopic('t', 'n', 'after');
  await sink.wrote('data: after');
  expect(sink.text.match(/^event: .*/gm)).toEqual(['event: connected', 'event: n']);
  expect(broker.getStats().bus).toMatchObject({ state: 'up', refused: rubbish.length + 1 });
  expect(broker.reported.map(({ code }) => code)).toEqual(
    new Array(rubbish.length + 1).fill('SSE_ERR_INVALID_BUS_EVENT'),
  );
});

test.each(redisLibraries)('close ends in time while Redis is silent, over $name', async (library) => {
  const server = await startRedis();
  const proxy = await startProxy(server.port);
  const client = await connected(library, proxy.port);
  const broker = makeBroker({ bus: new RedisBus({ client, namespace: newNamespace(), commandTimeout: 3_000 }) });
  const sink = new MemorySink();
  broker.connect({ sink, identity: { userId: 'ann' }, topics: ['t'] });
  await sink.wrote('event: connected');
  proxy.stall();
  const startedAt = performance.now();
  const unanswered = broker.sendToTopic('t', 'n', 1).catch((error: unknown) => error);
  expect(await broker.close({ timeoutMs: 2_000, reconnectWithinMs: 0 })).toEqual({ ended: 1, cut: 0 });
  // Goodbye to the other nodes and the bus share what the streams have left of it.
  expect(performance.now() - startedAt).toBeLessThan(2_500);
  expect(await unanswered).toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
});
