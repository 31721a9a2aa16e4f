/** What is done to a client reaches it on whichever node it is, with the results and errors of one node. */
import { expect, test } from 'vitest';
import { quiet } from '../../support/shared-bus.js';
import { Nodes, type TestNode } from './nodes.js';

async function three(options = {}) {
  const nodes = new Nodes(options);
  const [a, b, c] = [await nodes.add(), await nodes.add(), await nodes.add()];
  await nodes.pass(600);
  return { nodes, a, b, c };
}

const typesOf = ({ sink }: { sink: { events: readonly { type: string; data: string }[] } }) =>
  sink.events.map(({ type, data }) => (type === 'connected' ? type : `${type} ${data}`));

for (const [who, identity] of [
  ['a user', { userId: 'alice' }],
  ['somebody anonymous', {}],
] as const) {
  test(`a client of ${who} on another node is sent to, given topics, and disconnected`, async () => {
    const { nodes, a, b } = await three();
    const client = b.connect(identity);
    await nodes.pass(100);
    const id = await a.broker.sendToClient(client.id, 'n', 'hello');
    expect(await a.broker.subscribe(client.id, 'news')).toBe(true);
    expect(await a.broker.subscribe(client.id, 'news')).toBe(false);
    expect(b.broker.getTopicConnectionCount('news')).toBe(1);
    await a.broker.sendToTopic('news', 'n', 'first');
    expect(await a.broker.unsubscribe(client.id, 'news')).toBe(true);
    expect(await a.broker.unsubscribe(client.id, 'news')).toBe(false);
    await a.broker.sendToTopic('news', 'n', 'second');
    expect(await a.broker.disconnect(client.id, 'enough')).toBe(true);
    await quiet();
    expect(typesOf(client)).toEqual([
      'connected',
      'n hello',
      'n first',
      'closing {"reason":"disconnected","message":"enough"}',
    ]);
    expect(client.sink.events[1]!.lastEventId).toBe(id);
    expect(await a.broker.disconnect(client.id)).toBe(false);
    expect([...a.errors, ...b.errors]).toEqual([]);
  });
}

test('many sends to one client of another node arrive in the order of the calls', async () => {
  const { nodes, a, b } = await three();
  const client = b.connect({ userId: 'alice' });
  await nodes.pass(100);
  const numbers = Array.from({ length: 200 }, (_, n) => n);
  await Promise.all(numbers.map((n) => a.broker.sendToClient(client.id, 'n', n)));
  await quiet();
  expect(client.sink.all('n')).toEqual(numbers);
});

test('all streams of a user end, on all nodes, in one tenant or in all', async () => {
  const { nodes, a, b, c } = await three();
  for (const node of [a, b, c]) {
    node.connect({ userId: 'alice', tenantId: 'acme' });
    node.connect({ userId: 'alice' });
    node.connect({ userId: 'bob' });
  }
  await nodes.pass(100);
  expect(await a.broker.disconnectUser('alice', { tenantId: 'acme', reason: 'fired' })).toBe(3);
  expect(await a.broker.disconnectUser('alice')).toBe(3);
  expect(await a.broker.disconnectUser('nobody')).toBe(0);
  await nodes.pass(100);
  expect(c.broker.presence.connections('alice')).toEqual([]);
  expect(c.broker.presence.connections('bob')).toHaveLength(3);
});

test('what no node has is unknown, and so is another tenant’s client; what is refused there is refused here', async () => {
  const { nodes, a, b } = await three({ maxTopicsPerClient: 1 });
  const client = b.connect({ userId: 'alice', tenantId: 'acme' }, ['one']);
  await nodes.pass(100);
  const unknown = { code: 'SSE_ERR_UNKNOWN_CLIENT' };
  await expect(a.broker.sendToClient('nobody', 'n', 1)).rejects.toMatchObject(unknown);
  await expect(a.broker.subscribe('nobody', 'news')).rejects.toMatchObject(unknown);
  await expect(a.broker.unsubscribe('nobody', 'news')).rejects.toMatchObject(unknown);
  expect(await a.broker.disconnect('nobody')).toBe(false);
  await expect(a.broker.tenant('umbrella').sendToClient(client.id, 'n', 1)).rejects.toMatchObject(unknown);
  await a.broker.tenant('acme').sendToClient(client.id, 'n', 1);
  await expect(a.broker.subscribe(client.id, 'two')).rejects.toMatchObject({
    code: 'SSE_ERR_TOO_MANY_TOPICS',
    status: 403,
  });
  await expect(a.broker.subscribe(client.id, 'a\nb')).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_TOPIC' });
  await expect(a.broker.disconnect('')).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_CLIENT' });
  await quiet();
  expect(client.sink.all('n')).toEqual([1]);
});

test('a node that dies while it is asked is not waited for longer than an answer may take', async () => {
  const { nodes, a, b, c } = await three();
  const client = b.connect({});
  await nodes.pass(100);
  nodes.kill(c);
  // The answer of the one that has it settles it.
  expect(await a.broker.subscribe(client.id, 'news')).toBe(true);
  const asked = [a.broker.disconnect('nobody'), a.broker.sendToClient('nobody', 'n', 1), a.broker.disconnectUser('x')];
  const settled = Promise.allSettled(asked);
  await nodes.pass(700, [a, b]);
  expect(await settled).toEqual(
    asked.map(() => ({
      status: 'rejected',
      reason: expect.objectContaining({ code: 'SSE_ERR_CLUSTER_TIMEOUT', retryable: true, status: 503 }),
    })),
  );
  await nodes.pass(3_000, [a, b]);
  expect(await a.broker.disconnect('nobody')).toBe(false);
});

test('a node that goes, or is given up, while it is asked counts as one that does not have it', async () => {
  for (const how of ['goodbye', 'timeout']) {
    const { nodes, a, b, c } = await three({ nodeAnswerTimeout: 60_000 });
    await nodes.pass(100);
    b.port.isPaused = true;
    c.port.isPaused = true;
    const asked = a.broker.disconnect('nobody');
    await quiet();
    c.port.isPaused = false;
    c.port.flush();
    if (how === 'goodbye') {
      const closing = b.broker.close();
      await quiet();
      expect(await asked).toBe(false);
      await closing;
    } else {
      await nodes.pass(3_500, [a, c]);
      expect(await asked).toBe(false);
      expect(a.nodes.at(-1)).toBe('-n1 timeout');
    }
  }
});

test('while the bus is down clients of this node are reached, others are told to be unavailable', async () => {
  const { nodes, a, b } = await three();
  const here = a.connect({ userId: 'alice' });
  const there = b.connect({ userId: 'bob' });
  await nodes.pass(100);
  a.port.isCut = true;
  const unavailable = { code: 'SSE_ERR_BUS_UNAVAILABLE', retryable: true };
  await expect(a.broker.disconnect(there.id)).rejects.toMatchObject(unavailable);
  await expect(a.broker.subscribe('nobody', 'news')).rejects.toMatchObject(unavailable);
  expect(await a.broker.disconnect(here.id)).toBe(true);
});

test('a node that has just started waits until it knows the others, before it says that nobody has a client', async () => {
  const nodes = new Nodes();
  const a = await nodes.add();
  const client = a.connect({});
  const b = nodes.make();
  const asked = b.broker.disconnect(client.id);
  await nodes.pass(800);
  expect(await asked).toBe(true);
});

test('a node that the bus does not let join tries again; until then others cannot be asked', async () => {
  const nodes = new Nodes();
  const a = await nodes.add();
  const client = a.connect({});
  const b = nodes.make();
  b.port.isCut = true;
  await b.broker.start();
  const asked = Promise.allSettled([b.broker.disconnect(client.id)]);
  await nodes.pass(600);
  expect(await asked).toMatchObject([{ reason: { code: 'SSE_ERR_BUS_UNAVAILABLE', retryable: true } }]);
  expect(b.errors).toContain('SSE_ERR_BUS_UNAVAILABLE');
  b.port.isCut = false;
  await nodes.pass(2_000);
  expect(a.nodes).toEqual(['+n1']);
  expect(await b.broker.disconnect(client.id)).toBe(true);
});

test('what is asked when the broker closes is not waited for', async () => {
  const { nodes, a, b } = await three({ nodeAnswerTimeout: 60_000 });
  const client = b.connect({});
  await nodes.pass(100);
  b.port.isPaused = true;
  const asked = Promise.allSettled([a.broker.subscribe(client.id, 'news')]);
  await quiet();
  await a.broker.close();
  expect(await asked).toMatchObject([{ reason: { code: 'SSE_ERR_BROKER_CLOSED' } }]);
});

test('a topic that the bus cannot join on the other node is refused here, as it would be there', async () => {
  const { nodes, a, b } = await three();
  const client = b.connect({});
  await nodes.pass(100);
  b.port.join = () => Promise.reject(new Error('no'));
  await expect(a.broker.subscribe(client.id, 'news')).rejects.toMatchObject({
    code: 'SSE_ERR_BUS_UNAVAILABLE',
    retryable: true,
  });
  expect(b.broker.getClient(client.id)!.topics).toEqual([]);
});

test('what is asked in a sync bus of nobody else is answered at once', async () => {
  const nodes = new Nodes();
  const a = await nodes.add();
  await nodes.pass(600);
  expect(await a.broker.disconnect('nobody')).toBe(false);
  await expect(a.broker.sendToClient('nobody', 'n', 1)).rejects.toMatchObject({ code: 'SSE_ERR_UNKNOWN_CLIENT' });
});

test('a reason that is too long for a message is refused, and nothing waits', async () => {
  const { nodes, a, b } = await three();
  const client = b.connect({ userId: 'alice' });
  await nodes.pass(100);
  await expect(a.broker.disconnect(client.id, 'x'.repeat(600_000))).rejects.toMatchObject({
    code: 'SSE_ERR_EVENT_TOO_LARGE',
  });
});

test('a client that leaves while it is asked for is unknown', async () => {
  const { nodes, a, b } = await three();
  const client = b.connect({ userId: 'alice' });
  await nodes.pass(100);
  b.port.isPaused = true;
  const sent = a.broker.sendToClient(client.id, 'n', 1);
  await quiet();
  client.sink.close();
  b.port.isPaused = false;
  b.port.flush();
  await expect(sent).rejects.toMatchObject({ code: 'SSE_ERR_UNKNOWN_CLIENT' });
});

test('figures of all nodes: per node and in all, as they said last', async () => {
  const { nodes, a, b, c } = await three();
  a.connect({ userId: 'alice' }, ['x', 'y']);
  b.connect({ userId: 'alice' }, ['x']);
  b.connect({ userId: 'bob' });
  b.connect({});
  await nodes.pass(1_100);
  const seen = (node: TestNode) => node.broker.getClusterStats();
  expect(seen(a)).toEqual({
    nodes: [
      { id: a.broker.nodeId, name: 'n0', isSelf: true, isSynced: true, silentFor: 0, clients: 1, users: 1, topics: 2 },
      expect.objectContaining({ id: b.broker.nodeId, name: 'n1', isSelf: false, clients: 3, users: 2, topics: 1 }),
      expect.objectContaining({ id: c.broker.nodeId, name: 'n2', clients: 0, users: 0, topics: 0 }),
    ],
    totalNodes: 3,
    totalClients: 4,
    totalUsers: 2,
    totalTopics: 3,
  });
  for (const node of [b, c]) {
    const { totalNodes, totalClients, totalUsers, totalTopics } = seen(node);
    expect([totalNodes, totalClients, totalUsers, totalTopics]).toEqual([3, 4, 2, 3]);
  }
});
