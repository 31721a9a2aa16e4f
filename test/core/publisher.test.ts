/** A publisher sends what a broker sends, through the same bus, and leaves nothing behind. */
import { describe, expect, expectTypeOf, test } from 'vitest';
import { createPublisher, MemoryBus, type PublisherOptions } from '../../src/index.js';
import { runProgram } from '../support/program.js';
import { quiet, SharedHub } from '../support/shared-bus.js';
import { Nodes } from './cluster/nodes.js';

function raise(): never {
  throw new Error('no at once');
}

async function setUp(options: Partial<PublisherOptions> = {}) {
  const nodes = new Nodes();
  const [a, b] = [await nodes.add(), await nodes.add()];
  const port = nodes.hub.port();
  const publisher = createPublisher({ bus: port, ...options });
  const errors: string[] = [];
  publisher.on('error', ({ code }, origin) => errors.push(`${origin} ${code}`));
  return { nodes, a, b, port, publisher, errors };
}

test('what it sends reaches users, topics, everybody, one client and one tenant, on every node', async () => {
  const { a, b, publisher } = await setUp();
  const alice = a.connect({ userId: 'alice', tenantId: 'acme' }, ['news']);
  const bob = b.connect({ userId: 'bob' }, ['news']);
  await quiet();
  const ids = [
    await publisher.sendToUser('alice', 'n', 1),
    await publisher.sendToTopic('news', 'n', 2),
    await publisher.publish({ type: 'n', channel: 'news', data: 3 }),
    await publisher.broadcast('n', 4),
    await publisher.sendToClient(bob.id, 'n', 5),
    await publisher.tenant('acme').sendToTopic('news', 'n', 6),
    await publisher.tenant('acme').broadcast('n', 7),
    await publisher.sendToUser('alice', 'n', 8, { tenantId: 'umbrella' }),
  ];
  await quiet();
  expect(new Set(ids).size).toBe(8);
  expect(alice.sink.all('n')).toEqual([1, 2, 3, 4, 6, 7]);
  expect(bob.sink.all('n')).toEqual([2, 3, 4, 5]);
  expect(publisher.getStats()).toMatchObject({ published: 8, errors: 0, bus: { name: 'hub', state: 'up' } });
});

test('it refuses what a broker refuses, and tells it', async () => {
  const { publisher, errors } = await setUp({ maxEventBytes: 10 });
  const wrong: [Promise<string>, string][] = [
    [publisher.sendToUser('', 'n', 1), 'SSE_ERR_INVALID_USER'],
    [publisher.sendToTopic('a\nb', 'n', 1), 'SSE_ERR_INVALID_TOPIC'],
    [publisher.sendToClient('', 'n', 1), 'SSE_ERR_INVALID_CLIENT'],
    [publisher.broadcast('a\nb', 1), 'SSE_ERR_INVALID_EVENT_NAME'],
    [publisher.broadcast('closing', 1), 'SSE_ERR_RESERVED_EVENT_NAME'],
    [publisher.broadcast('n', undefined), 'SSE_ERR_INVALID_DATA'],
    [publisher.broadcast('n', 'x'.repeat(11)), 'SSE_ERR_EVENT_TOO_LARGE'],
    [publisher.broadcast('n', 1, { tenantId: '' }), 'SSE_ERR_INVALID_TENANT'],
    [publisher.broadcast('n', 1, { ttl: -1 }), 'SSE_ERR_INVALID_OPTION'],
  ];
  for (const [sent, code] of wrong) await expect(sent).rejects.toMatchObject({ code });
  expect(errors).toEqual(wrong.map(([, code]) => `publish ${code}`));
  expect(() => publisher.tenant('')).toThrow(expect.objectContaining({ code: 'SSE_ERR_INVALID_TENANT' }));
});

test('a bus that is down rejects, retryably, and is used again when it is up', async () => {
  const { port, publisher } = await setUp();
  await publisher.broadcast('n', 1);
  port.isCut = true;
  await expect(publisher.broadcast('n', 2)).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE', retryable: true });
  port.isCut = false;
  await publisher.broadcast('n', 3);
});

test('a bus that cannot start is started again by the next call', async () => {
  const { port, publisher } = await setUp();
  const start = port.start.bind(port);
  for (const failing of [() => Promise.reject(new Error('no')), raise]) {
    port.start = failing;
    await expect(publisher.broadcast('n', 1)).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
  }
  // Not sent through a bus that was never started.
  await expect(publisher.broadcast('n', 1)).rejects.toMatchObject({ cause: new Error('no at once') });
  port.start = start;
  await publisher.broadcast('n', 1);
});

test('close closes the bus once, and nothing can be sent after it', async () => {
  const { port, publisher, errors } = await setUp();
  await publisher.broadcast('n', 1);
  let closed = 0;
  port.close = () => {
    closed++;
  };
  await Promise.all([publisher.close(), publisher.close(), publisher[Symbol.asyncDispose]()]);
  expect(closed).toBe(1);
  await expect(publisher.broadcast('n', 2)).rejects.toMatchObject({ code: 'SSE_ERR_BROKER_CLOSED' });
  expect(errors).toEqual(['publish SSE_ERR_BROKER_CLOSED']);
});

test('close is through when the bus is; one that cannot close is told', async () => {
  const { port, publisher, errors } = await setUp();
  await publisher.broadcast('n', 1);
  port.close = (async () => {
    await quiet();
    throw new Error('no');
  }) as never;
  await publisher.close();
  expect(errors).toEqual(['bus SSE_ERR_BUS_UNAVAILABLE']);
});

test('a publisher that never sent anything starts nothing, and closes nothing', async () => {
  let calls = 0;
  const count = () => {
    calls++;
    return undefined as never;
  };
  const bus = new SharedHub().port();
  Object.assign(bus, { start: count, close: count, join: count, publish: count });
  await createPublisher({ bus }).close();
  expect(calls).toBe(0);
});

test('it joins nothing, and is no node', async () => {
  const { nodes, a, port, publisher } = await setUp();
  await publisher.broadcast('n', 1);
  await nodes.pass(2_000);
  expect(port.joined.size).toBe(0);
  expect(a.broker.getClusterStats().totalNodes).toBe(2);
});

describe('options', () => {
  for (const [name, options] of [
    ['none', undefined],
    ['no bus', {}],
    ['a bus that is none', { bus: {} }],
    ['one of a broker', { bus: new MemoryBus(), maxConnections: 1 }],
    ['a size that is none', { bus: new MemoryBus(), maxEventBytes: -1 }],
  ] as const) {
    test(`${name}: refused`, () => {
      expect(() => createPublisher(options as never)).toThrow(
        expect.objectContaining({ code: 'SSE_ERR_INVALID_OPTION' }),
      );
    });
  }
});

test('names and data of events are typed', () => {
  const publisher = createPublisher<{ 'job.progress': { progress: number } }>({ bus: new MemoryBus() });
  expectTypeOf(publisher.sendToUser<'job.progress'>)
    .parameter(2)
    .toEqualTypeOf<{ progress: number }>();
  // @ts-expect-error: there is no such event
  const wrong = () => publisher.sendToUser('alice', 'job.progres', { progress: 1 });
  expect(wrong).toBeTypeOf('function');
});

test('it does not hold the process', async () => {
  const { code, stdout, stderr } = await runProgram(`
    import { createPublisher, MemoryBus } from './sse-broker.js';
    const publisher = createPublisher({ bus: new MemoryBus() });
    await publisher.sendToTopic('job:7', 'job.progress', { progress: 1 });
    console.log(publisher.getStats().published);
  `);
  expect([code, stdout, stderr]).toEqual([0, '1\n', '']);
});
