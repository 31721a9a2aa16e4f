import { expect, test } from 'vitest';
import { type Broker, type Bus, MemoryBus } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { runProgram } from '../support/program.js';
import { StrictSink } from '../support/strict-sink.js';
import { until } from '../support/until.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function connected(broker: Broker, userId = 'ann', topics: readonly string[] = ['news']) {
  const sink = StrictSink.forTest();
  const clientId = broker.connect({ sink, identity: { userId }, topics });
  return { sink, clientId };
}

const circle: Record<string, unknown> = {};
circle.self = circle;

const names: [string, unknown][] = [
  ['empty', ''],
  ['no string', 7],
  ['undefined', undefined],
  ['null', null],
  ['with a line feed', 'a\nb'],
  ['with NUL', 'a\0'],
  ['too long', 'x'.repeat(257)],
  ['with half a character', '\ud800'],
];

test.each(names)('a user, topic or client that is %s is refused with its code', async (_, name) => {
  const broker = makeBroker();
  const bad = name as string;
  await expect(broker.sendToUser(bad, 'n', 1)).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_USER' });
  await expect(broker.sendToTopic(bad, 'n', 1)).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_TOPIC' });
  await expect(broker.sendToClient(bad, 'n', 1)).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_CLIENT' });
  await expect(broker.publish({ type: 'n', channel: bad, data: 1 })).rejects.toMatchObject({
    code: 'SSE_ERR_INVALID_TOPIC',
  });
  await expect(broker.subscribe(bad, 'news')).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_CLIENT' });
  await expect(broker.unsubscribe(bad, 'news')).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_CLIENT' });
  await expect(broker.disconnect(bad)).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_CLIENT' });
  await expect(broker.disconnectUser(bad)).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_USER' });
  const { clientId } = connected(broker);
  await expect(broker.subscribe(clientId, bad)).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_TOPIC' });
  await expect(broker.unsubscribe(clientId, bad)).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_TOPIC' });
  if (name !== undefined) {
    expect(() => broker.tenant(bad)).toThrow(expect.objectContaining({ code: 'SSE_ERR_INVALID_TENANT' }));
    await expect(broker.broadcast('n', 1, { tenantId: bad })).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_TENANT' });
    await expect(broker.disconnectUser('ann', { tenantId: bad })).rejects.toMatchObject({
      code: 'SSE_ERR_INVALID_TENANT',
    });
  }
  // Every one of them was told as well.
  await turn();
  expect(broker.reported.length).toBe(broker.getStats().errors);
  expect(broker.reported.length).toBeGreaterThan(9);
  expect(broker.getStats()).toMatchObject({ published: 0, totalClients: 1 });
});

test('names of 256 units are taken, in every place', async () => {
  const name = 'x'.repeat(256);
  const broker = makeBroker({ createId: () => name });
  const sink = StrictSink.forTest();
  expect(broker.connect({ sink, identity: { userId: name, tenantId: name }, topics: [name] })).toBe(name);
  await broker.tenant(name).sendToUser(name, name, 1);
  await broker.sendToTopic(name, name, 2);
  await broker.sendToClient(name, name, 3);
  await turn();
  expect(sink.all(name)).toEqual([1, 2, 3]);
});

type Send = (broker: Broker, event: string, data: unknown, options?: object) => Promise<string>;

const sends: [string, Send][] = [
  ['sendToUser', (broker, event, data, options) => broker.sendToUser('ann', event, data, options)],
  ['sendToTopic', (broker, event, data, options) => broker.sendToTopic('news', event, data, options)],
  ['broadcast', (broker, event, data, options) => broker.broadcast(event, data, options)],
  [
    'sendToClient',
    (broker, event, data, options) => broker.sendToClient([...broker.getClients()][0]!.id, event, data, options),
  ],
  [
    'tenant().sendToUser',
    (broker, event, data, options) => broker.tenant('acme').sendToUser('ann', event, data, options),
  ],
];

const calls: [string, string, unknown, object | undefined, string][] = [
  ['an event name with CR', 'a\rb', 1, undefined, 'SSE_ERR_INVALID_EVENT_NAME'],
  ['an event name with LF', 'a\nb', 1, undefined, 'SSE_ERR_INVALID_EVENT_NAME'],
  ['an event name with NUL', 'a\0', 1, undefined, 'SSE_ERR_INVALID_EVENT_NAME'],
  ['no event name', '', 1, undefined, 'SSE_ERR_INVALID_EVENT_NAME'],
  ['the name connected', 'connected', 1, undefined, 'SSE_ERR_RESERVED_EVENT_NAME'],
  ['the name heartbeat', 'heartbeat', 1, undefined, 'SSE_ERR_RESERVED_EVENT_NAME'],
  ['the name gap', 'gap', 1, undefined, 'SSE_ERR_RESERVED_EVENT_NAME'],
  ['the name closing', 'closing', 1, undefined, 'SSE_ERR_RESERVED_EVENT_NAME'],
  ['undefined', 'n', undefined, undefined, 'SSE_ERR_INVALID_DATA'],
  ['a BigInt', 'n', { n: 1n }, undefined, 'SSE_ERR_INVALID_DATA'],
  ['a circle', 'n', circle, undefined, 'SSE_ERR_INVALID_DATA'],
  ['a function', 'n', () => {}, undefined, 'SSE_ERR_INVALID_DATA'],
  ['a symbol', 'n', Symbol('s'), undefined, 'SSE_ERR_INVALID_DATA'],
  ['data over the limit', 'n', '€'.repeat(334), undefined, 'SSE_ERR_EVENT_TOO_LARGE'],
  ['a negative ttl', 'n', 1, { ttl: -1 }, 'SSE_ERR_INVALID_OPTION'],
  ['a timestamp that is none', 'n', 1, { timestamp: 'now' }, 'SSE_ERR_INVALID_OPTION'],
  ['a misspelt tenantId', 'n', 1, { tenant: 'acme' }, 'SSE_ERR_INVALID_OPTION'],
  ['options that are a name', 'n', 1, 'acme' as never, 'SSE_ERR_INVALID_OPTION'],
];

test.each(sends)('%s refuses what cannot be sent, and sends nothing', async (_, send) => {
  const broker = makeBroker({ maxEventBytes: 1_000 });
  const sink = StrictSink.forTest();
  broker.connect({ sink, identity: { userId: 'ann', tenantId: 'acme' }, topics: ['news'] });
  for (const [what, event, data, options, code] of calls) {
    await expect(send(broker, event, data, options), what).rejects.toMatchObject({ code });
  }
  await send(broker, 'n', '€'.repeat(333));
  await turn();
  expect(sink.events.map(({ type }) => type)).toEqual(['connected', 'n']);
  expect(broker.getStats()).toMatchObject({ published: 1, errors: calls.length });
  expect(broker.reported.map(({ code }) => code)).toEqual(calls.map(([, , , , code]) => code));
});

test('the event-bus spelling is sendToTopic, with its timestamp; nonsense for a message rejects and does not throw', async () => {
  const broker = makeBroker();
  const published: unknown[] = [];
  broker.on('eventPublished', ({ event, data, timestamp, audience }) =>
    published.push({ event, data, timestamp, audience }),
  );
  await broker.publish({ type: 'n', channel: 'news', data: { a: 1 }, timestamp: 7 });
  await broker.publish({ type: 'n', channel: 'news', data: null, timestamp: new Date(8) });
  expect(published).toEqual([
    { event: 'n', data: '{"a":1}', timestamp: 7, audience: { kind: 'topic', topic: 'news' } },
    { event: 'n', data: 'null', timestamp: 8, audience: { kind: 'topic', topic: 'news' } },
  ]);
  for (const message of [undefined, null, 7, 'x', {}]) {
    await expect(broker.publish(message as never)).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_TOPIC' });
  }
});

test('topics can be off: sends, subscriptions and connects with topics are refused, the rest works', async () => {
  const broker = makeBroker({ enableTopics: false });
  const { sink, clientId } = connected(broker, 'ann', []);
  const code = 'SSE_ERR_TOPICS_DISABLED';
  await expect(broker.sendToTopic('news', 'n', 1)).rejects.toMatchObject({ code, status: 403 });
  await expect(broker.publish({ type: 'n', channel: 'news', data: 1 })).rejects.toMatchObject({ code });
  await expect(broker.subscribe(clientId, 'news')).rejects.toMatchObject({ code });
  expect(() => connected(broker)).toThrow(expect.objectContaining({ code }));
  await broker.broadcast('n', 1);
  await turn();
  expect(sink.all('n')).toEqual([1]);
});

test('data is taken at the call: changing the object afterwards changes nothing', async () => {
  const broker = makeBroker({ historySize: 5 });
  const { sink } = connected(broker);
  const data = { list: [1], at: new Date(0) };
  const sent = broker.sendToUser('ann', 'n', data);
  data.list.push(2);
  (data as { list: unknown }).list = 'gone';
  await sent;
  await turn();
  expect(sink.all('n')).toEqual([{ list: [1], at: '1970-01-01T00:00:00.000Z' }]);
});

test('an event is serialised once, written once per client and turn, and its bytes are shared by all recipients', async () => {
  let serialised = 0;
  const broker = makeBroker({
    serialize: (data) => {
      serialised++;
      return JSON.stringify(data);
    },
  });
  const all = Array.from({ length: 100 }, () => connected(broker));
  await turn();
  const before = all.map(({ sink }) => sink.writes.length);
  for (let i = 0; i < 3; i++) {
    broker.sendToUser('ann', 'n', { i, to: 'user' });
    broker.sendToTopic('news', 'n', { i, to: 'topic' });
    broker.broadcast('n', { i, to: 'all' });
  }
  expect(serialised).toBe(9);
  // A process that is held up writes in slices.
  await until(() => broker.getStats().delivered === 900, 'all to be written');
  expect(serialised).toBe(9);
  const [first] = all;
  for (const [i, { sink }] of all.entries()) {
    expect(sink.writes.length - before[i]!).toBe(1);
    const written = sink.writes.at(-1)!;
    expect(written.count).toBe(9);
    expect(written.payload).toBe(first!.sink.writes.at(-1)!.payload);
    expect(written.chunk).toBe(first!.sink.writes.at(-1)!.chunk);
  }
  expect(first!.sink.all<{ to: string }>('n').map(({ to }) => to)).toEqual([
    'user',
    'topic',
    'all',
    'user',
    'topic',
    'all',
    'user',
    'topic',
    'all',
  ]);
  expect(broker.getStats()).toMatchObject({ published: 9, delivered: 900 });
});

test('every way to send resolves with the id that the recipients see', async () => {
  const broker = makeBroker();
  const { sink, clientId } = connected(broker);
  const ids = [
    await broker.sendToUser('ann', 'n', 1),
    await broker.sendToTopic('news', 'n', 2),
    await broker.broadcast('n', 3),
    await broker.sendToClient(clientId, 'n', 4),
    await broker.publish({ type: 'n', channel: 'news', data: 5 }),
  ];
  await turn();
  expect(sink.all('n')).toEqual([1, 2, 3, 4, 5]);
  expect(sink.events.slice(1).map(({ lastEventId }) => lastEventId)).toEqual(ids);
  expect(new Set(ids).size).toBe(5);
});

test('an event beyond its ttl is not written any more', async () => {
  let now = 1_000;
  const clock = { now: () => now, monotonic: () => now, every: () => () => {} };
  const broker = makeBroker({ clock });
  const { sink } = connected(broker);
  sink.room = 1;
  await broker.sendToUser('ann', 'n', 1);
  await turn();
  await broker.sendToUser('ann', 'n', 2, { ttl: 100 });
  await broker.sendToUser('ann', 'n', 3);
  await turn();
  now += 100;
  sink.drain();
  expect(sink.all('n')).toEqual([1, 3]);
});

/** A bus whose `publish` is somebody else's idea. */
function busWith(publish: (...args: Parameters<Bus['publish']>) => unknown): Bus {
  const bus = new MemoryBus();
  bus.publish = publish as never;
  return bus;
}

test('a bus that fails is told as such: retryable, with its error as the cause', async () => {
  const cause = new Error('ECONNREFUSED');
  const failing: [string, () => unknown][] = [
    [
      'throws',
      () => {
        throw cause;
      },
    ],
    ['rejects', () => Promise.reject(cause)],
  ];
  for (const [, publish] of failing) {
    const broker = makeBroker({ bus: busWith(publish) });
    await expect(broker.broadcast('n', 1)).rejects.toMatchObject({
      code: 'SSE_ERR_BUS_UNAVAILABLE',
      status: 503,
      retryable: true,
      cause,
    });
    expect(broker.reported).toMatchObject([{ code: 'SSE_ERR_BUS_UNAVAILABLE', cause }]);
    expect(broker.getStats()).toMatchObject({ published: 0, errors: 1 });
  }
});

test('nonsense from a bus rejects the call instead of throwing at the caller', async () => {
  for (const answer of [undefined, null, 7, {}]) {
    const broker = makeBroker({ bus: busWith(() => answer) });
    await expect(broker.broadcast('n', 1)).rejects.toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE' });
  }
});

test('a bus that could not start is tried again with the next call', async () => {
  for (const fails of [
    () => Promise.reject(new Error('down')),
    () => {
      throw new Error('down');
    },
  ]) {
    const bus = new MemoryBus();
    const start = bus.start.bind(bus);
    let tries = 0;
    bus.start = (receiver) => {
      tries++;
      if (tries < 3) return fails() as never;
      start(receiver);
    };
    const broker = makeBroker({ bus });
    const unavailable = { code: 'SSE_ERR_BUS_UNAVAILABLE', retryable: true, cause: new Error('down') };
    await expect(broker.start()).rejects.toMatchObject(unavailable);
    await expect(broker.broadcast('n', 1)).rejects.toMatchObject(unavailable);
    const { sink } = connected(broker);
    await turn();
    expect(sink.events.map(({ type }) => type)).toEqual(['connected']);
    await broker.broadcast('n', 1);
    await turn();
    expect(sink.all('n')).toEqual([1]);
    expect(tries).toBe(3);
  }
});

test('publishing from inside a listener keeps the order for everybody', async () => {
  const broker = makeBroker();
  const [ann, bob] = [connected(broker, 'ann'), connected(broker, 'bob')];
  let echoes = 0;
  broker.on('eventPublished', ({ data }) => {
    if (echoes++ < 2) broker.broadcast('n', `${data}'`);
  });
  broker.broadcast('n', 'a');
  broker.broadcast('n', 'b');
  await turn();
  const data = ann.sink.events.filter(({ type }) => type === 'n').map((event) => event.data);
  expect(data).toEqual(['a', "a'", "a''", 'b']);
  expect(bob.sink.events.filter(({ type }) => type === 'n').map((event) => event.data)).toEqual(data);
});

test('a throwing toJSON, serializer, listener or sink: the others still get theirs', async () => {
  const broker = makeBroker({
    serialize: (data) => {
      if (data === 'throw' || (data as { throw?: boolean }).throw) throw new Error('serializer');
      return JSON.stringify(data);
    },
  });
  const [first, failing, last] = [connected(broker, 'ann'), connected(broker, 'bob'), connected(broker, 'cy')];
  broker.on('eventPublished', () => {
    throw new Error('listener');
  });
  broker.on('clientDisconnected', () => Promise.reject(new Error('listener')));
  failing.sink.write = () => {
    throw new Error('sink');
  };
  broker.broadcast('n', 1);
  broker.broadcast('n', { throw: true });
  broker.broadcast('n', {
    toJSON() {
      throw new Error('toJSON');
    },
  });
  broker.broadcast('n', 2);
  await turn();
  await turn();
  expect(first.sink.all('n')).toEqual([1, 2]);
  expect(last.sink.all('n')).toEqual([1, 2]);
  expect(broker.getStats()).toMatchObject({ totalClients: 2, published: 2, disconnects: { failed: 1 } });
  expect(broker.reported.map(({ code }) => code).toSorted()).toEqual(
    [
      'SSE_ERR_INVALID_DATA',
      'SSE_ERR_INVALID_DATA',
      'SSE_ERR_LISTENER_FAILED',
      'SSE_ERR_LISTENER_FAILED',
      'SSE_ERR_LISTENER_FAILED',
      'SSE_ERR_STREAM_FAILED',
    ].toSorted(),
  );
});

test('a rejection that nobody awaits does not end the process: it is counted and told', async () => {
  const { code, stdout, stderr } = await runProgram(`
    import { Broker, MemoryBus } from './sse-broker.js';

    const sink = () => ({ open() {}, write: () => true, end() {}, destroy() {}, progress: () => 0 });
    const told = [];
    const broker = new Broker({
      logger: { warn() { throw new Error('logger'); }, error() { throw new Error('logger'); } },
    });
    broker.on('error', (error) => { told.push(error.code); throw new Error('from a listener of error'); });
    broker.on('error', () => Promise.reject(new Error('rejected by a listener of error')));
    broker.on('clientConnected', () => Promise.reject(new Error('rejected by a listener')));

    broker.sendToUser('', 'n', 1);
    broker.sendToTopic('a\\n', 'n', 1);
    broker.broadcast('gap', 1);
    broker.broadcast('n', undefined);
    broker.sendToClient('nobody', 'n', 1);
    broker.publish(undefined);
    broker.tenant('acme').broadcast('n', 1n);
    broker.subscribe('nobody', 'x');
    broker.unsubscribe('nobody', 'x');
    broker.disconnect('');
    broker.disconnectUser('');
    broker.disconnectUser('ann', null);
    broker.close({ timeoutMs: -1 });
    broker.connect({ sink: sink() });

    // A bus that fails in every way.
    const fail = () => Promise.reject(new Error('bus'));
    for (const method of ['start', 'publish', 'join', 'head', 'read', 'close']) {
      const bus = new MemoryBus();
      bus[method] = fail;
      const other = new Broker({ bus });
      other.on('error', () => {});
      other.start();
      other.broadcast('n', 1);
      other.connect({ sink: sink(), lastEventId: method === 'head' ? undefined : 'x-1', topics: ['a'] });
      const id = other.connect({ sink: sink() });
      other.subscribe(id, 'b');
      setTimeout(() => other.close({ timeoutMs: 0 }), 20);
    }
    broker.start();
    setTimeout(() => {
      broker.close({ timeoutMs: 0 });
      broker.start();
      broker.broadcast('n', 1);
      console.log(JSON.stringify({ errors: broker.getStats().errors, told }));
    }, 50);
  `);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const { errors, told } = JSON.parse(stdout) as { errors: number; told: string[] };
  expect(told.toSorted()).toEqual([
    'SSE_ERR_INVALID_CLIENT',
    'SSE_ERR_INVALID_DATA',
    'SSE_ERR_INVALID_DATA',
    'SSE_ERR_INVALID_OPTION',
    'SSE_ERR_INVALID_TOPIC',
    'SSE_ERR_INVALID_TOPIC',
    'SSE_ERR_INVALID_USER',
    'SSE_ERR_INVALID_USER',
    'SSE_ERR_LISTENER_FAILED',
    'SSE_ERR_RESERVED_EVENT_NAME',
    'SSE_ERR_UNKNOWN_CLIENT',
    'SSE_ERR_UNKNOWN_CLIENT',
    'SSE_ERR_UNKNOWN_CLIENT',
  ]);
  expect(errors).toBeGreaterThan(told.length);
});
