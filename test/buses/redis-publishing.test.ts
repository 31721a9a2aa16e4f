/** Publishing over a Redis that goes away: what waits, what is rejected, and that nothing is stored twice. */
import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { outgoing } from '../../src/testing/bus-recorder.js';
import { until } from '../support/until.js';
import { makeCluster, startProxy, startRedis } from './redis-nodes.js';

const A = 't::a';
const numbers = (count: number, from = 1): string[] => Array.from({ length: count }, (_, i) => String(from + i));

test('with a buffer what is published while Redis is away waits, and follows in its order', async () => {
  const server = await startRedis();
  const proxy = await startProxy(server.port);
  const node = makeCluster();
  const reader = await node(server.port, [A]);
  const publisher = await node(proxy.port, [], { publishBuffer: {} });
  await publisher.publish(A, '1');
  proxy.refuse();
  await until(() => publisher.bus.status().state === 'down', 'the node to notice');
  const waiting = numbers(500, 2).map((data) => publisher.bus.publish(outgoing(A, data)));
  expect(publisher.bus.status().details?.unansweredPublishes).toBe(500);
  proxy.mend();
  const ids = await Promise.all(waiting);
  await reader.delivered(501);
  expect(reader.dataOf()).toEqual(numbers(501));
  expect(reader.events.slice(1).map(({ id }) => id)).toEqual(ids);
});

test('a batch whose answer was lost is stored once', async () => {
  const server = await startRedis();
  const proxy = await startProxy(server.port);
  const node = makeCluster();
  const reader = await node(server.port, [A]);
  // A client that sends nothing again by itself: what is repeated, the bus repeats.
  const publisher = await node(proxy.port, [], { publishBuffer: {}, commandTimeout: 400 });
  await publisher.publish(A, '1');
  for (let round = 0; round < 3; round++) {
    // What goes to Redis arrives; what comes back is held up until the node has given up.
    proxy.delayBack(700);
    const waiting = numbers(5, 2 + round * 5).map((data) => publisher.bus.publish(outgoing(A, data)));
    await reader.delivered(6 + round * 5);
    await until(() => publisher.bus.status().state === 'down', 'the node to give up');
    proxy.mend();
    await Promise.all(waiting);
  }
  await publisher.publish(A, 'end');
  await reader.eventually(() => reader.dataOf().includes('end'), 'the end');
  expect(reader.dataOf()).toEqual([...numbers(16), 'end']);
});

test('without a buffer a publish whose answer was lost is rejected, and is there at most once', async () => {
  const server = await startRedis();
  const proxy = await startProxy(server.port);
  const node = makeCluster();
  const reader = await node(server.port, [A]);
  const publisher = await node(proxy.port, [], { commandTimeout: 300 });
  await publisher.publish(A, 'before');
  proxy.delayBack(600);
  await expect(publisher.bus.publish(outgoing(A, 'in doubt'))).rejects.toMatchObject({
    code: 'SSE_ERR_BUS_UNAVAILABLE',
  });
  await expect(publisher.bus.publish(outgoing(A, 'no'))).rejects.toMatchObject({ retryable: true });
  proxy.mend();
  await until(() => publisher.bus.status().state === 'up', 'the node to be well');
  await publisher.publish(A, 'after');
  await reader.eventually(() => reader.dataOf().includes('after'), 'the next event');
  expect(reader.dataOf()).toEqual(['before', 'in doubt', 'after']);
});

test('a buffer has its limits, and what is beyond is rejected at once', async () => {
  const server = await startRedis();
  const proxy = await startProxy(server.port);
  const node = makeCluster();
  const reader = await node(server.port, [A]);
  const few = await node(proxy.port, [], { publishBuffer: { maxEvents: 3 } });
  const small = await node(proxy.port, [], { publishBuffer: { maxBytes: 1_000 } });
  proxy.refuse();
  for (const { bus } of [few, small]) await until(() => bus.status().state === 'down', 'the node to notice');
  const kept = numbers(3).map((data) => few.bus.publish(outgoing(A, data)));
  kept.push(Promise.resolve(small.bus.publish(outgoing(A, 'x'.repeat(900)))));
  for (const { bus } of [few, small]) {
    await expect(bus.publish(outgoing(A, 'y'.repeat(200)))).rejects.toMatchObject({
      code: 'SSE_ERR_BUS_UNAVAILABLE',
      retryable: true,
      message: expect.stringContaining('too much waits'),
    });
  }
  proxy.mend();
  await Promise.all(kept);
  await reader.delivered(4);
  expect(reader.dataOf().filter((data) => data.length === 1)).toEqual(numbers(3));
});

test('close sends what was published, and rejects what it cannot send', async () => {
  const server = await startRedis();
  const proxy = await startProxy(server.port);
  const node = makeCluster();
  const reader = await node(server.port, [A]);
  const going = await node(proxy.port, [], { publishBuffer: {} });
  const sent = numbers(600).map((data) => going.bus.publish(outgoing(A, data)));
  await going.bus.close();
  await Promise.all(sent);
  await reader.delivered(600);
  const stuck = await node(proxy.port, [], { publishBuffer: {} });
  proxy.refuse();
  await until(() => stuck.bus.status().state === 'down', 'the node to notice');
  const waiting = Promise.resolve(stuck.bus.publish(outgoing(A, 'never')));
  const rejected = expect(waiting).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
  await stuck.bus.close();
  await rejected;
  await expect(stuck.bus.publish(outgoing(A, 'late'))).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
});

test('a batch that Redis refuses is rejected, and the next ones go on', async () => {
  const server = await startRedis();
  const namespace = 'refusing';
  const node = makeCluster(namespace);
  const reader = await node(server.port, [A]);
  const publisher = await node(server.port, [], { publishBuffer: {} });
  await server.admin((redis) => redis.set(`sse:{${namespace}}:h:t::broken`, 'not a stream'));
  const error = await Promise.resolve(publisher.bus.publish(outgoing('t::broken', 'between us'))).catch(
    (reason: unknown) => reason,
  );
  expect(error).toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
  expect(inspect(error, { depth: 20 }), 'what is logged').not.toContain('between us');
  await publisher.publish(A, '1');
  await reader.delivered(1);
  expect(publisher.bus.status().state).toBe('up');
});

test('a Redis that is full rejects with a reason, and takes what waited when there is room', async () => {
  const server = await startRedis();
  const node = makeCluster();
  const reader = await node(server.port, [A]);
  const patient = await node(server.port, [], { publishBuffer: {} });
  await server.admin((redis) => redis.config('SET', 'maxmemory', '1mb'));
  await expect(reader.bus.publish(outgoing(A, 'no'))).rejects.toMatchObject({
    message: expect.stringContaining('OOM'),
  });
  const waiting = Promise.resolve(patient.bus.publish(outgoing(A, 'yes')));
  await until(() => patient.bus.status().state === 'down', 'the node to say so');
  await server.admin((redis) => redis.config('SET', 'maxmemory', '0'));
  await waiting;
  await reader.delivered(1);
  expect(reader.dataOf()).toEqual(['yes']);
});
