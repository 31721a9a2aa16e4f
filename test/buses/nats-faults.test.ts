/** What happens to NatsBus when the network, the server or an admin does what it should not; over real servers. */
import { jetstream } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';
import { expect, onTestFinished, test } from 'vitest';
import { isSseError } from '../../src/core/errors.js';
import { outgoing, type Recorder } from '../../src/testing/bus-recorder.js';
import { deleteStream, NatsServer, needsNatsServer } from '../support/nats-server.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';
import { hooked, publishUntilTaken, startNode } from './nats-nodes.js';

const A = 't::a';
const B = 't::b';
const numbers = (count: number, from = 1): string[] => Array.from({ length: count }, (_, i) => String(from + i));

async function startServer(config: readonly string[] = [], maxFileStore?: number): Promise<NatsServer> {
  needsNatsServer();
  const server = await NatsServer.start({ config, ...(maxFileStore && { maxFileStore }) });
  onTestFinished(() => server.close());
  return server;
}

async function startProxy(server: NatsServer): Promise<{ proxy: TcpProxy; url: string }> {
  const proxy = await TcpProxy.start(server.port);
  onTestFinished(() => proxy.close());
  return { proxy, url: `nats://127.0.0.1:${proxy.port}` };
}

const isUp = ({ bus }: Recorder) => bus.status().state === 'up';
const isDown = ({ bus }: Recorder) => bus.status().state === 'down';
const expectGrowing = ({ events }: Recorder) => {
  const sequences = events.map(({ sequence }) => sequence);
  expect(sequences).toEqual([...new Set(sequences)].sort((a, b) => a - b));
};

test('a node that was cut off for seconds gets what it missed, in order, once, and its clients are told nothing', async () => {
  const server = await startServer();
  const { proxy, url } = await startProxy(server);
  const cut = await startNode(url, [A, B]);
  const other = await startNode(server.url, [A, B]);
  await other.publish(A, 'before');
  await cut.delivered(1);
  proxy.refuse();
  await until(() => isDown(cut), 'the node to notice');
  expect(cut.bus.status().reason).toMatch(/disconnected/);
  for (let i = 1; i <= 50; i++) await other.publish(i % 2 === 0 ? A : B, String(i));
  await expect(cut.publish(A, 'no')).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE', retryable: true });
  proxy.mend();
  await until(() => isUp(cut), 'the node to recover');
  await other.publish(A, 'after');
  await cut.delivered(52);
  expect(cut.dataOf()).toEqual(['before', ...numbers(50), 'after']);
  expect(cut.losses).toEqual([]);
  expectGrowing(cut);
});

test('what history has dropped meanwhile is told as lost: of that key alone, before anything newer', async () => {
  const server = await startServer();
  const { proxy, url } = await startProxy(server);
  const cut = await startNode(url, [A, B], { historySize: 5 });
  const other = await startNode(server.url, [], { historySize: 5 });
  proxy.refuse();
  await until(() => isDown(cut), 'the node to notice');
  await other.publish(B, 'b1');
  await other.publish(A, ...numbers(12));
  await other.publish(B, 'b2');
  proxy.mend();
  await cut.delivered(7);
  expect(cut.dataOf()).toEqual(['b1', ...numbers(5, 8), 'b2']);
  expect(cut.losses).toMatchObject([{ reason: 'evicted', keys: [A], before: 1 }]);
  expect((await cut.read([A, B], (cut.losses[0] as { head?: { id: string } }).head!.id)).loss).toBeUndefined();
});

test('a connection that is open and dead is noticed, publishing is refused, and all heals when it moves again', async () => {
  const server = await startServer();
  const { proxy, url } = await startProxy(server);
  const node = await startNode(url, [A], { requestTimeout: 300 });
  const other = await startNode(server.url, []);
  await node.publish(A, '1');
  proxy.stall();
  await until(() => isDown(node), 'the node to notice');
  expect(node.bus.status().reason).toMatch(/no answer in time/);
  await expect(node.publish(A, 'no')).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
  await other.publish(A, '2');
  proxy.mend();
  await until(() => isUp(node), 'the node to recover');
  await other.publish(A, '3');
  await node.delivered(3);
  expect(node.dataOf()).toEqual(['1', '2', '3']);
  expect(node.losses).toEqual([]);
});

test('a server that is stopped for a while and goes on', async () => {
  const server = await startServer();
  const node = await startNode(server.url, [A]);
  await node.publish(A, '1');
  server.freeze();
  await until(() => isDown(node), 'the node to notice');
  server.thaw();
  await until(() => isUp(node), 'the node to recover');
  await node.publish(A, '2');
  await node.delivered(2);
  expect(node.dataOf()).toEqual(['1', '2']);
  expect(node.losses).toEqual([]);
});

test('kill -9 of the server: with its files nothing is lost, and ids lead on', async () => {
  const server = await startServer();
  const nodes = [await startNode(server.url, [A]), await startNode(server.url, [A])] as const;
  const ids = await nodes[0].publish(A, ...numbers(20));
  await server.kill();
  await until(() => nodes.every(isDown), 'the nodes to notice');
  await server.start();
  await until(() => nodes.every(isUp), 'the nodes to recover');
  await publishUntilTaken(nodes[1], A, '21');
  for (const node of nodes) {
    await node.delivered(21);
    expect(node.dataOf()).toEqual(numbers(21));
    expect(node.losses).toEqual([]);
    const { events, loss } = await node.read([A], ids[9]!);
    expect([events.map(({ data }) => data), loss]).toEqual([numbers(11, 11), undefined]);
  }
});

test('kill -9 and the files are gone: another epoch, told once to each node, and old ids are told a gap', async () => {
  const server = await startServer();
  const nodes = [await startNode(server.url, [A]), await startNode(server.url, [A])] as const;
  const [old] = await nodes[0].publish(A, ...numbers(5));
  await nodes[1].delivered(5);
  await server.kill();
  await server.forget();
  await server.start();
  await until(() => nodes.every(({ losses }) => losses.length > 0) && nodes.every(isUp), 'the nodes to recover');
  await publishUntilTaken(nodes[0], A, 'new');
  for (const node of nodes) {
    await node.delivered(6);
    expect(node.dataOf()).toEqual([...numbers(5), 'new']);
    expect(node.losses).toMatchObject([{ reason: 'epoch', before: 5 }]);
    expect(await node.read([A], old!)).toMatchObject({ events: [], loss: 'epoch' });
    expect((await node.read([A], node.events[5]!.id)).loss).toBeUndefined();
  }
  expect(nodes[0].events[5]!.id).toBe(nodes[1].events[5]!.id);
});

test('a stream that was deleted is made again; quiet topics too are told within a check interval', async () => {
  const server = await startServer();
  const node = await startNode(server.url, [A]);
  await node.publish(A, '1');
  await deleteStream(node.connection, 'sse-default');
  await until(() => node.losses.length > 0, 'the loss to be told');
  expect(node.losses).toMatchObject([{ reason: 'epoch' }]);
  await until(() => isUp(node), 'the bus to be up');
  await publishUntilTaken(node, A, '2');
  await node.delivered(2);
  expect(node.dataOf()).toEqual(['1', '2']);
});

test('a stream that was made again is there after a kill -9 of the server too, however much the deleted one had', async () => {
  const server = await startServer();
  const options = { requestTimeout: 10_000 };
  const nodes = await Promise.all([1, 2, 3].map(() => startNode(server.url, [A], options)));
  for (let round = 1; round <= 3; round++) {
    await Promise.all(numbers(2_000).map(async () => nodes[0]!.bus.publish(outgoing(A, 'x'.repeat(500)))));
    await deleteStream(nodes[0]!.connection, 'sse-default');
    await until(() => nodes.every(({ losses }) => losses.length === round), 'the loss to be told');
    await publishUntilTaken(nodes[0]!, A, `round ${round}`);
    await server.kill();
    await server.start();
    await publishUntilTaken(nodes[0]!, A, `round ${round}, after`);
    for (const node of nodes) {
      await until(() => node.dataOf().at(-1) === `round ${round}, after`, 'what came after the kill');
      expect(node.losses.length).toBe(round);
    }
  }
}, 60_000);

test('a stream that another node has made anew is noticed by its first event, long before the next check', async () => {
  const server = await startServer();
  const node = await startNode(server.url, [A], { checkInterval: 60_000 });
  await node.publish(A, ...numbers(5));
  await deleteStream(node.connection, 'sse-default');
  const other = await startNode(server.url, []);
  await other.publish(A, 'new');
  await until(() => node.losses.length > 0, 'the loss to be told', 2_000);
  await other.publish(A, 'newer');
  await until(() => node.dataOf().at(-1) === 'newer', 'the next event');
  expect(node.losses).toMatchObject([{ reason: 'epoch' }]);
});

for (const [what, before] of [
  ['before anybody else published to it', 0],
  ['when it has gone beyond the old one already', 50],
] as const) {
  test(`who publishes to a stream that has replaced another one gets an id of the new one, also ${what}`, async () => {
    const server = await startServer();
    const node = await startNode(server.url, [], { checkInterval: 60_000, recoveryJitter: 60_000 });
    await node.publish(A, ...numbers(5));
    await deleteStream(node.connection, 'sse-default');
    const other = await startNode(server.url, [A]);
    await other.publish(A, ...numbers(before));
    await node.connection.flush();
    const ids = await Promise.all(['x', 'y'].map((data) => publishUntilTaken(node, A, data)));
    await other.delivered(before + 2);
    expect(other.events.slice(-2).map(({ id }) => id)).toEqual(ids);
    expect(node.losses).toMatchObject([{ reason: 'epoch' }]);
  });
}

test('a backup that is older than what clients have seen is another epoch: old ids are told a gap, not taken for new ones', async () => {
  const server = await startServer();
  const node = await startNode(server.url, [A]);
  await node.publish(A, ...numbers(5));
  await server.stop();
  await server.backUp();
  await server.start();
  await until(() => isUp(node), 'the node to recover');
  for (const data of numbers(5, 6)) await publishUntilTaken(node, A, data);
  const old = node.events.at(-1)!.id;
  await server.kill();
  await server.restore();
  await server.start();
  await until(() => node.losses.length > 0 && isUp(node), 'the loss to be told');
  expect(node.losses).toMatchObject([{ reason: 'epoch', before: 10 }]);
  for (const data of numbers(10, 11)) await publishUntilTaken(node, A, data);
  await node.delivered(20);
  expect(node.dataOf()).toEqual(numbers(20));
  expect((await node.read([A], old)).loss).toBe('epoch');
  expect((await node.read([A], node.events[12]!.id)).events.map(({ data }) => data)).toEqual(numbers(7, 14));
});

test('what is for one client, or between brokers, takes no room in the history', async () => {
  const server = await startServer();
  const node = await startNode(server.url, ['c::client', 'n::']);
  const { state: before } = await (await jetstream(node.connection).jetstreamManager(false)).streams.info(
    'sse-default',
  );
  for (let i = 0; i < 20; i++) {
    await node.publish('c::client', String(i));
    await node.publish('n::', String(i));
  }
  await node.delivered(40);
  const { state } = await (await jetstream(node.connection).jetstreamManager(false)).streams.info('sse-default');
  expect(state.messages - before.messages).toBe(2);
});

test('a purged stream: clients that are there notice nothing, who comes back with an older id is told a gap', async () => {
  const server = await startServer();
  const node = await startNode(server.url, [A]);
  const fresh = await startNode(server.url, []);
  const ids = await node.publish(A, ...numbers(5));
  const manager = await jetstream(node.connection).jetstreamManager(false);
  await manager.streams.purge('sse-default');
  await node.publish(A, '6');
  await node.delivered(6);
  expect(node.losses).toEqual([]);
  for (const reader of [node, fresh]) {
    await until(async () => (await reader.read([A], ids[2]!)).loss === 'evicted', 'the gap to be told');
    const { events, loss } = await reader.read([A], ids[4]!);
    expect([events.map(({ data }) => data), loss]).toEqual([['6'], undefined]);
  }
});

test('a message that got lost on the way is noticed by the next of its key; on a quiet key by a check', async () => {
  const server = await startServer();
  let drops = 0;
  const lossy = (connection: NatsConnection): NatsConnection =>
    hooked(connection, (_message, deliver) => {
      if (drops > 0) drops--;
      else deliver();
    });
  const node = await startNode(server.url, [A, B], { checkInterval: 60_000 }, lossy);
  drops = 2;
  await node.publish(A, '1', '2', '3');
  await node.delivered(3);
  expect(node.dataOf()).toEqual(['1', '2', '3']);
  const quiet = await startNode(server.url, [A, B], {}, lossy);
  drops = 1;
  await quiet.publish(B, '4');
  await quiet.delivered(1);
  expect(quiet.dataOf()).toEqual(['4']);
  expect([...node.losses, ...quiet.losses]).toEqual([]);
});

test('a check holds nothing up where an event comes in behind its answer', async () => {
  const server = await startServer();
  const other = await startNode(server.url, []);
  let isWatched = false;
  let answered = 0;
  const node = await startNode(server.url, [A], { checkInterval: 20 }, undefined, (connection) => {
    const client = jetstream(connection);
    const managerOf = client.jetstreamManager.bind(client);
    client.jetstreamManager = async (...args) => {
      const manager = await managerOf(...args);
      const info = manager.streams.info.bind(manager.streams);
      manager.streams.info = async (...asked) => {
        const answer = await info(...asked);
        if (isWatched) {
          await other.publish(A, String(++answered));
          await node.delivered(answered);
        }
        return answer;
      };
      return manager;
    };
    return client;
  });
  isWatched = true;
  await node.delivered(5);
  isWatched = false;
  expect(node.bus.status()).toMatchObject({ state: 'up', details: { recoveries: 0 } });
  expect(node.dataOf().slice(0, 5)).toEqual(numbers(5));
});

test('a connection that breaks while a check places an anchor is told as the state of the bus, and as no error', async () => {
  const { proxy, url } = await startProxy(await startServer());
  let isCut = false;
  const node = await startNode(url, [A], {}, undefined, (connection) => {
    const client = jetstream(connection);
    const managerOf = client.jetstreamManager.bind(client);
    client.jetstreamManager = async (...args) => {
      const manager = await managerOf(...args);
      const getMessage = manager.streams.getMessage.bind(manager.streams);
      manager.streams.getMessage = (stream, query) => {
        if (isCut || !('last_by_subj' in query) || !query.last_by_subj.endsWith('.=anchor'))
          return getMessage(stream, query);
        isCut = true;
        proxy.cut();
        return new Promise(() => {});
      };
      return manager;
    };
    return client;
  });
  await until(() => isCut && node.statuses.some(({ state }) => state === 'down'), 'the bus to be down');
  await until(() => isUp(node), 'the bus to be up');
  await node.publish(A, '1');
  await node.delivered(1);
  expect(node.errors).toEqual([]);
});

test('a listing of history that breaks off in its middle is not taken for whole', async () => {
  const server = await startServer();
  const { proxy, url } = await startProxy(server);
  let skips = 0;
  // What was on its way to a consumer when a connection broke is not sent again; the next batch begins after it.
  const skipping = (connection: NatsConnection) => {
    const js = jetstream(connection);
    const getConsumer = js.consumers.getConsumerFromInfo.bind(js.consumers);
    js.consumers.getConsumerFromInfo = (info) => {
      const consumer = getConsumer(info);
      const fetch = consumer.fetch.bind(consumer);
      consumer.fetch = async (request) => {
        const messages = await fetch(request);
        const iterate = messages[Symbol.asyncIterator].bind(messages);
        messages[Symbol.asyncIterator] = async function* () {
          let count = 0;
          for await (const message of { [Symbol.asyncIterator]: iterate }) {
            if (++count === 5 && skips > 0) skips--;
            else yield message;
          }
        };
        return messages;
      };
      return consumer;
    };
    return js;
  };
  const node = await startNode(url, [A], {}, undefined, skipping);
  const other = await startNode(server.url, []);
  proxy.refuse();
  await until(() => isDown(node), 'the node to notice');
  skips = 2;
  await other.publish(A, ...numbers(20));
  proxy.mend();
  await node.delivered(20);
  expect(skips).toBe(0);
  expect(node.dataOf()).toEqual(numbers(20));
  expect(node.losses).toEqual([]);
});

test('with a publish buffer nothing that was published while NATS was away is lost, doubled or out of order', async () => {
  const server = await startServer();
  const { proxy, url } = await startProxy(server);
  const node = await startNode(url, [], { publishBuffer: { maxEvents: 100 } });
  const other = await startNode(server.url, [A]);
  const published: Promise<unknown>[] = [];
  const publish = (from: number, count: number) => {
    for (const data of numbers(count, from)) published.push(Promise.resolve(node.bus.publish(outgoing(A, data))));
  };
  publish(1, 5);
  await Promise.all(published);
  proxy.drop();
  publish(6, 10);
  proxy.refuse();
  await until(() => isDown(node), 'the node to notice');
  publish(16, 90);
  proxy.mend();
  await Promise.all(published);
  await other.delivered(105);
  expect(other.dataOf()).toEqual(numbers(105));
});

test('an event that was stored, but whose answer got lost, is stored once and keeps its place', async () => {
  const server = await startServer();
  let lost = 0;
  const forgetful = (connection: NatsConnection) => {
    const js = jetstream(connection);
    const publish = js.publish.bind(js);
    js.publish = async (...call) => {
      const answer = await publish(...call);
      if (lost-- > 0) throw Object.assign(new Error('timeout'), { name: 'TimeoutError' });
      return answer;
    };
    return js;
  };
  const node = await startNode(server.url, [A], { publishBuffer: {} }, undefined, forgetful);
  lost = 3;
  const ids = await Promise.all(numbers(10).map((data) => node.bus.publish(outgoing(A, data))));
  await node.publish(A, '11');
  await node.delivered(11);
  expect(node.dataOf()).toEqual(numbers(11));
  expect(node.events.slice(0, 10).map(({ id }) => id)).toEqual(ids);

  const careless = await startNode(server.url, [], {}, undefined, forgetful);
  lost = 1;
  await expect(careless.publish(A, '12')).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE', retryable: true });
});

test('what does not fit into the publish buffer is rejected, newest first, and without one everything is', async () => {
  const server = await startServer();
  const { proxy, url } = await startProxy(server);
  const node = await startNode(url, [A], { publishBuffer: { maxEvents: 3 } });
  proxy.refuse();
  await until(() => isDown(node), 'the node to notice');
  const results = Promise.allSettled(numbers(5).map(async (data) => node.bus.publish(outgoing(A, data))));
  proxy.mend();
  const settled = await results;
  expect(settled.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'rejected']);
  for (const result of settled) if (result.status === 'rejected') expect(isSseError(result.reason)).toBe(true);
  await node.delivered(3);
  expect(node.dataOf()).toEqual(['1', '2', '3']);
});

test('a connection that its owner closed: down for good, with the reason; closing the bus leaves an open one open', async () => {
  const server = await startServer();
  const node = await startNode(server.url, [A]);
  await node.connection.close();
  await until(() => isDown(node), 'the node to notice');
  expect(node.bus.status().reason).toMatch(/closed/);
  await expect(node.publish(A, 'no')).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
  await expect((async () => node.bus.join(B))()).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });

  const closed = await startNode(server.url, [A]);
  await closed.bus.close();
  expect(closed.connection.isClosed()).toBe(false);
  const { protocol } = closed.connection as unknown as {
    protocol: { listeners: unknown[]; subscriptions: { size(): number } };
  };
  await until(() => protocol.listeners.length === 0, 'the listener of its states to be gone');
  await closed.connection.flush();
});

test('a JetStream without room: what it cannot store is refused for now, streams stay, and with room it goes on', async () => {
  const server = await startServer([], 1_000_000);
  await expect(startNode(server.url, [A])).rejects.toThrow(
    /insufficient storage.*give less of these, or JetStream more/,
  );
  const [node, other] = [
    await startNode(server.url, [A], { historyBytes: 0, historySize: 1_000 }),
    await startNode(server.url, [A], { historyBytes: 0, historySize: 1_000 }),
  ];
  const text = 'x'.repeat(10_000);
  const refused = await until(() =>
    node.publish(A, text).then(
      () => undefined,
      (error: unknown) => error,
    ),
  );
  expect(refused).toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE', retryable: true });
  expect([node, other].map(({ bus }) => bus.status().state)).toEqual(['up', 'up']);

  const { streams } = await jetstream(node.connection).jetstreamManager(false);
  await streams.purge('sse-default', { keep: 5 });
  await publishUntilTaken(node, A, 'there is room');
  for (const one of [node, other]) {
    await until(() => one.dataOf().at(-1) === 'there is room', 'the event behind the refused one');
    expect(one.losses).toEqual([]);
  }
  expect(node.events.map(({ id }) => id)).toEqual(other.events.map(({ id }) => id));
});
