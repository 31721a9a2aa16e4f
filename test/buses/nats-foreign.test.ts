/** NatsBus beside others: admins with streams of their own, users who may do little, strangers who write rubbish. */
import { type JetStreamManager, jetstream } from '@nats-io/jetstream';
import { expect, onTestFinished, test } from 'vitest';
import { NatsBus, type NatsBusOptions } from '../../src/buses/nats.js';
import { tokenOf } from '../../src/buses/nats-subjects.js';
import { Broker } from '../../src/index.js';
import { MemorySink } from '../../src/testing/index.js';
import { NatsServer, natsClient, needsNatsServer } from '../support/nats-server.js';
import { until } from '../support/until.js';
import { startNode } from './nats-nodes.js';

const A = 't::a';
const B = 't::b';

async function startServer(config: readonly string[] = []): Promise<NatsServer> {
  needsNatsServer();
  const server = await NatsServer.start({ config });
  onTestFinished(() => server.close());
  return server;
}

const adminStream = {
  name: 'sse-default',
  subjects: ['sse.default.event.>'],
  republish: { src: 'sse.default.event.>', dest: 'sse.default.live.v1.>' },
  max_msgs_per_subject: 6,
  allow_rollup_hdrs: true,
  allow_direct: true,
};

async function adminOf(url: string, credentials = {}): Promise<JetStreamManager> {
  const connection = await natsClient(url, credentials);
  onTestFinished(() => connection.close());
  return jetstream(connection).jetstreamManager();
}

test('a user who may do exactly what the guide says can run a bus on a stream that an admin made', async () => {
  const stream = 'sse-default';
  const publish = [
    'sse.default.event.>',
    `$JS.API.STREAM.INFO.${stream}`,
    `$JS.API.STREAM.MSG.GET.${stream}`,
    `$JS.API.DIRECT.GET.${stream}`,
    `$JS.API.CONSUMER.CREATE.${stream}.>`,
    `$JS.API.CONSUMER.MSG.NEXT.${stream}.>`,
    `$JS.API.CONSUMER.DELETE.${stream}.>`,
  ];
  const subscribe = ['_INBOX.>', 'sse.default.live.>'];
  const permissions = `permissions: { publish: ${JSON.stringify(publish)}, subscribe: ${JSON.stringify(subscribe)} }`;
  const server = await startServer([
    `authorization: { users: [`,
    `  { user: admin, password: admin },`,
    `  { user: node, password: node, ${permissions} }`,
    `] }`,
  ]);
  const admin = await adminOf(server.url, { user: 'admin', pass: 'admin' });
  const url = `nats://node:node@127.0.0.1:${server.port}`;
  const credentials = { user: 'node', pass: 'node' };
  const refused = await natsClient(server.url, credentials);
  onTestFinished(() => refused.close());
  const early = new NatsBus({ connection: refused, jetstream: jetstream(refused), manageStream: false });
  const receiver = { deliver() {}, lost() {}, status() {}, error() {} };
  await expect(early.start(receiver)).rejects.toMatchObject({
    code: 'SSE_ERR_BUS_UNAVAILABLE',
    message: expect.stringContaining('there is no stream sse-default'),
  });
  await admin.streams.add({ ...adminStream, max_msgs_per_subject: 1_001 });
  const node = await startNode(url, [A], { manageStream: false }, undefined, undefined, credentials);
  const { id } = await node.bus.head();
  await node.publish(A, ...Array.from({ length: 40 }, (_, i) => String(i)));
  await node.publish('c::client', 'live only');
  const other = await startNode(url, [], { manageStream: false }, undefined, undefined, credentials);
  const { events, loss } = await other.read([A], id);
  expect([events.length, loss]).toEqual([40, undefined]);
  expect([...node.errors, ...other.errors]).toEqual([]);
  // A subject that it may not listen to is refused, not joined in silence.
  const elsewhere = new NatsBus({ connection: node.connection, jetstream: false, namespace: 'elsewhere' });
  await elsewhere.start(receiver);
  await expect((async () => elsewhere.join(A))()).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
  await elsewhere.close();
});

test('a stream of an admin that was replaced is another epoch, told by its first event', async () => {
  const server = await startServer();
  const admin = await adminOf(server.url);
  await admin.streams.add(adminStream);
  const node = await startNode(server.url, [A], { manageStream: false, checkInterval: 60_000 });
  const [old] = await node.publish(A, '1', '2', '3');
  await admin.streams.delete('sse-default');
  await admin.streams.add(adminStream);
  await node.publish(A, 'new');
  await until(() => node.losses.length > 0, 'the loss to be told', 3_000);
  expect(node.losses).toMatchObject([{ reason: 'epoch' }]);
  expect((await node.read([A], old!)).loss).toBe('epoch');
});

test.each([
  ['without republish', { republish: undefined }, /must republish/],
  ['that republishes elsewhere', { republish: { src: '>', dest: 'other.>' } }, /must republish/],
  ['that refuses to replace', { allow_rollup_hdrs: false }, /allow_rollup_hdrs/],
  [
    'of other subjects',
    { subjects: ['other'], republish: { src: '>', dest: 'sse.default.live.v1.>' } },
    /must have sse/,
  ],
])('a stream %s is refused with the reason', async (_name, change, message) => {
  const server = await startServer();
  const admin = await adminOf(server.url);
  await admin.streams.add({ ...adminStream, ...change } as typeof adminStream);
  const connection = await natsClient(server.url);
  onTestFinished(() => connection.close());
  const bus = new NatsBus({ connection, jetstream: jetstream(connection), manageStream: false });
  const starting = bus.start({ deliver() {}, lost() {}, status() {}, error() {} });
  await expect(starting).rejects.toMatchObject({
    code: 'SSE_ERR_HISTORY_UNUSABLE',
    message: expect.stringMatching(message),
  });
});

test.each([
  ['of another application', { name: 'ORDERS', subjects: ['orders.>'] }, { stream: 'ORDERS' }],
  ['of the same namespace under another prefix', adminStream, { subjectPrefix: 'other' }],
])('a stream %s is refused as it is', async (_name, config, options) => {
  const server = await startServer();
  const admin = await adminOf(server.url);
  const before = (await admin.streams.add(config)).config;
  await expect(startNode(server.url, [], options)).rejects.toMatchObject({ code: 'SSE_ERR_HISTORY_UNUSABLE' });
  expect((await admin.streams.info(config.name)).config).toEqual(before);
});

test('limits that a node is given are given to the stream; storage cannot be changed and says so', async () => {
  const server = await startServer();
  const first = await startNode(server.url, []);
  const admin = await adminOf(server.url);
  expect((await admin.streams.info('sse-default')).config).toMatchObject({
    max_msgs_per_subject: 1_001,
    storage: 'file',
  });
  await startNode(server.url, [], { historySize: 3, historyBytes: 5_000_000, historyTtl: 3_600_000 });
  expect((await admin.streams.info('sse-default')).config).toMatchObject({
    max_msgs_per_subject: 4,
    max_bytes: 5_000_000,
    max_age: 3_600_000 * 1e6,
  });
  const options: NatsBusOptions = {
    connection: first.connection,
    jetstream: jetstream(first.connection),
    storage: 'memory',
  };
  await expect(new NatsBus(options).start({ deliver() {}, lost() {}, status() {}, error() {} })).rejects.toMatchObject({
    code: 'SSE_ERR_HISTORY_UNUSABLE',
  });
});

test('rubbish on the subjects is reported and dropped, and neither live events nor history stumble over it', async () => {
  const server = await startServer();
  const node = await startNode(server.url, [A]);
  const { id } = await node.bus.head();
  const stranger = await natsClient(server.url);
  onTestFinished(() => stranger.close());
  await node.publish(A, '1');
  // Straight to those who listen, past the stream.
  stranger.publish(`sse.default.live.x.${tokenOf(A)}`, 'rubbish');
  // Into the stream: an event name that would write into the streams of clients.
  const js = jetstream(stranger);
  for (const text of ['', 'rubbish', '1t 0 0 a\rdata: x\ndata', '9t 0 0 name\ndata', '1t NaN 0 name\ndata']) {
    await js.publish(`sse.default.event.${tokenOf(A)}`, text);
  }
  await node.publish(A, '2');
  await node.delivered(2);
  expect(node.dataOf()).toEqual(['1', '2']);
  expect(node.losses).toEqual([]);
  await until(() => node.errors.length >= 6, 'all of it to be reported');
  for (const error of node.errors) expect(error).toMatchObject({ code: 'SSE_ERR_INVALID_BUS_EVENT' });
  const fresh = await startNode(server.url, []);
  for (const limit of [1, 2, 100]) {
    const { events, loss } = await fresh.readAll([A], id, limit);
    expect([events.map(({ data }) => data), loss]).toEqual([['1', '2'], undefined]);
  }
});

test('keys with every kind of character are subjects of their own', async () => {
  const server = await startServer();
  const keys = [
    'a.b',
    'a b',
    'a*',
    '>',
    '*',
    '.',
    '',
    'ünï',
    '🎈',
    'x'.repeat(256),
    '界'.repeat(256),
    '=2E',
    'a=b',
    'A',
    'a',
  ];
  const node = await startNode(
    server.url,
    keys.map((name) => `t:ten%20ant:${name}`),
  );
  const { id } = await node.bus.head();
  for (const name of keys) await node.publish(`t:ten%20ant:${name}`, name);
  await node.delivered(keys.length);
  expect(node.events.map(({ key, data }) => [key, data])).toEqual(keys.map((name) => [`t:ten%20ant:${name}`, name]));
  const other = await startNode(server.url, []);
  for (const name of keys) {
    const { events } = await other.read([`t:ten%20ant:${name}`], id);
    expect(events.map(({ data }) => data)).toEqual([name]);
  }
  expect(new Set(keys.map((name) => tokenOf(name))).size).toBe(keys.length);
});

test('a node gets nothing over the network that its clients do not want', async () => {
  const server = await startServer();
  const node = await startNode(server.url, [A]);
  const idle = await startNode(server.url, [B], { checkInterval: 60_000 });
  const before = idle.connection.stats().inMsgs;
  await node.publish(A, ...Array.from({ length: 100 }, (_, i) => String(i)));
  await idle.connection.flush();
  expect(idle.connection.stats().inMsgs).toBe(before);
  // After the last client left and a while, the subscription is given back.
  node.bus.leave(A);
  await until(() => node.bus.status().details!.joinedKeys === 0, 'the key to be left');
});

test('an event that NATS does not take says so, and is no outage', async () => {
  const server = await startServer(['max_payload: 4096']);
  const node = await startNode(server.url, [A]);
  const error = { code: 'SSE_ERR_EVENT_TOO_LARGE', message: expect.stringContaining('max_payload') };
  await expect(node.publish(A, 'x'.repeat(5_000))).rejects.toMatchObject(error);
  expect(node.bus.status().state).toBe('up');
  await node.publish(A, 'x'.repeat(3_000));
});

test('age: what was dropped is told, a key that lost nothing is told nothing, busy neighbours or not', async () => {
  const server = await startServer();
  const options = { historySize: 5, historyTtl: 1_000, checkInterval: 50 };
  const node = await startNode(server.url, [A], options);
  const { id } = await node.bus.head();
  await node.publish(A, 'old');
  const other = await startNode(server.url, [], options);
  await until(async () => (await other.read([A], id)).loss === 'evicted', 'the event to be dropped');
  // Nobody on `other` has seen what B had before; here there was somebody for A.
  expect((await node.read([A], node.events[0]!.id)).loss).toBeUndefined();
  const head = await node.bus.head();
  // A busy key drops its oldest: that says nothing about quiet ones.
  await node.publish(A, ...Array.from({ length: 30 }, (_, i) => String(i)));
  await node.publish(B, 'young');
  const read = await other.read([B], head.id);
  expect([read.events.map(({ data }) => data), read.loss]).toEqual([['young'], undefined]);
  expect((await other.read(['t::never'], head.id)).loss).toBeUndefined();
});

test('without JetStream: an order per node that keeps each publisher’s, and every interruption is told', async () => {
  const server = await startServer();
  const one = await startNode(server.url, [A, B], { jetstream: false });
  const two = await startNode(server.url, [A, B], { jetstream: false });
  const count = 50;
  const publishing = Array.from({ length: count }, (_, i) => [one.publish(A, String(i)), two.publish(B, String(i))]);
  const ids = (await Promise.all(publishing.flat())).flat();
  for (const node of [one, two]) {
    await node.delivered(2 * count);
    for (const key of [A, B]) expect(node.dataOf(key)).toEqual(Array.from({ length: count }, (_, i) => String(i)));
    expect(node.events.map(({ id }) => id).sort()).toEqual([...ids].sort());
    expect((await node.read([A, B], node.events.at(-1)!.id)).loss).toBeUndefined();
    expect((await node.read([A, B], node.events.at(-2)!.id)).loss).toBe('disabled');
  }
  expect((await two.read([A], (await one.bus.head()).id)).loss).toBe('epoch');
  await server.kill();
  await until(() => one.bus.status().state === 'down', 'the node to notice');
  await expect(one.publish(A, 'no')).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
  await server.start();
  await until(() => one.bus.status().state === 'up' && two.bus.status().state === 'up', 'the nodes to recover');
  expect(one.losses).toMatchObject([{ reason: 'disabled' }]);
  expect((await one.read([A], one.events.at(-1)!.id)).loss).toBe('disabled');
  await two.publish(A, 'after');
  await one.delivered(2 * count + 1);
});

test('without JetStream: a connection that its owner closes first leaves the bus down, and the process alive', async () => {
  const server = await startServer();
  let asked = 0;
  const options = { jetstream: false, checkInterval: 20 } as const;
  const node = await startNode(server.url, [A], options, (connection) => {
    const isClosed = connection.isClosed.bind(connection);
    connection.isClosed = () => {
      if (isClosed()) asked++;
      return isClosed();
    };
    return connection;
  });
  await node.connection.close();
  await until(() => node.bus.status().state === 'down', 'the node to notice');
  await until(() => asked > 0, 'the next check');
  expect(node.bus.status().reason).toMatch(/it does not come back/);
  expect(node.errors).toEqual([]);
});

test('without JetStream: a connection that does not bring a node its own events is refused', async () => {
  const server = await startServer();
  const connection = await natsClient(server.url, { noEcho: true });
  onTestFinished(() => connection.close());
  expect(() => new NatsBus({ connection, jetstream: false })).toThrow(
    expect.objectContaining({ code: 'SSE_ERR_INVALID_OPTION', message: expect.stringContaining('noEcho') }),
  );
  // The stream brings them as well.
  const node = await startNode(server.url, [A], {}, undefined, undefined, { noEcho: true });
  await node.publish(A, '1');
  await node.delivered(1);
});

test.each([{}, { jetstream: false }] as const)(
  'a server that takes no more subscriptions: the key is refused instead of staying silent, with %o',
  async (options) => {
    const server = await startServer(['max_subscriptions: 8']);
    const node = await startNode(server.url, [], { checkInterval: 60_000, ...options });
    const keys = Array.from({ length: 9 }, (_, i) => `t::${i}`);
    const joined: string[] = [];
    let refusal: unknown;
    for (const key of keys) {
      refusal = await (async () => node.bus.join(key))().catch((error: unknown) => error);
      if (refusal !== undefined) break;
      joined.push(key);
    }
    expect(refusal).toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE', message: expect.stringContaining('maximum') });
    expect(joined.length).toBeGreaterThan(2);
    for (const key of joined) await node.publish(key, key);
    await node.delivered(joined.length);
    expect(node.dataOf()).toEqual(joined);
    expect(node.bus.status().details?.joinedKeys).toBe(joined.length);
  },
);

test.each([{}, { jetstream: false }] as const)(
  'a connection that its owner drains takes no new key, says so, and the bus is down, with %o',
  async (options) => {
    const server = await startServer();
    const node = await startNode(server.url, [A], options);
    const draining = node.connection.drain();
    await expect((async () => node.bus.join(B))()).rejects.toMatchObject({
      code: 'SSE_ERR_BUS_UNAVAILABLE',
      retryable: true,
    });
    await draining;
    await until(() => node.bus.status().state === 'down', 'the node to notice');
    expect(node.bus.status().details?.joinedKeys).toBe(1);
  },
);

test('without JetStream: a bus that is closed while it starts stays closed, and leaves the connection as it was', async () => {
  const server = await startServer();
  const connection = await natsClient(server.url);
  onTestFinished(() => connection.close());
  let watched = 0;
  const status = connection.status.bind(connection);
  connection.status = () => {
    watched++;
    return status();
  };
  const bus = new NatsBus({ connection, jetstream: false });
  const starting = Promise.resolve(bus.start({ deliver() {}, lost() {}, status() {}, error() {} }));
  const refused = expect(starting).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
  await bus.close();
  await refused;
  expect(bus.status()).toMatchObject({ state: 'down', reason: 'closed' });
  expect(watched).toBe(0);
});

test('brokers on NATS: what one publishes, the clients of another get', async () => {
  const server = await startServer();
  const make = async () => {
    const connection = await natsClient(server.url);
    const broker = new Broker({ bus: new NatsBus({ connection, jetstream: jetstream(connection) }) });
    onTestFinished(async () => {
      await broker.close();
      await connection.close();
    });
    return broker;
  };
  const [here, there] = [await make(), await make()];
  const sink = new MemorySink();
  here.connect({ sink, identity: { userId: 'ada' }, topics: ['news'] });
  await until(() => sink.text.includes('event: connected'), 'the stream to begin');
  await there.sendToTopic('news', 'n', { a: 1 });
  await there.sendToUser('ada', 'n', { b: 2 });
  await until(() => sink.text.includes('{"b":2}'), 'the events');
  expect(sink.text.indexOf('{"a":1}')).toBeLessThan(sink.text.indexOf('{"b":2}'));
});

test.each([
  [{ jetstream: undefined }, /jetstream must be/],
  [{ connection: {} }, /connection must be/],
  [{ namespace: 'a.b' }, /namespace must be/],
  [{ subjectPrefix: 'a..b' }, /subjectPrefix must be/],
  [{ stream: 'a b' }, /stream must be/],
  [{ historySize: -1 }, /historySize must be/],
  [{ historyTtl: 5_000 }, /historyTtl must be 0 or at least three times checkInterval/],
  [{ replicas: 6 }, /replicas must be/],
  [{ storage: 'tape' }, /storage must be/],
  [{ publishBuffer: true }, /publishBuffer must be/],
  [{ publishBuffer: { events: 1 } }, /publishBuffer must be/],
  [{ manageStream: false, historySize: 5 }, /historySize must be left out/],
  [{ jetstream: false, historySize: 5 }, /historySize must be left out/],
  [{ jetstream: false, publishBuffer: {} }, /publishBuffer must be left out/],
  [{ strange: 1 }, /unknown option "strange"/],
])('options %j are refused, and the message says what is allowed', (change, message) => {
  const fits = () => undefined;
  const connection = { subscribe: fits, flush: fits, status: fits };
  const options = { connection, jetstream: { publish: fits, jetstreamManager: fits }, ...change };
  expect(() => new NatsBus(options as unknown as NatsBusOptions)).toThrow(message);
});
