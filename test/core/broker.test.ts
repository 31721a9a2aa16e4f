import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { DISCONNECT_REASONS } from '../../src/core/client.js';
import { RESERVED_EVENT_NAMES } from '../../src/core/event.js';
import {
  type Broker,
  type BrokerEventName,
  type BusReceiver,
  type ConnectRequest,
  type ErrorOrigin,
  type Gap,
  type GapReason,
  MemoryBus,
  type SinkOwner,
} from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { LateBus } from '../support/late-bus.js';
import { ManualClock } from '../support/manual-clock.js';
import { runProgram } from '../support/program.js';
import { StrictSink } from '../support/strict-sink.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function join(broker: Broker, request: Omit<ConnectRequest, 'sink'> = {}, room?: number) {
  const sink = StrictSink.forTest(room);
  const clientId = broker.connect({ sink, ...request });
  return { sink, clientId };
}

/** Everything listeners were told, in order, by name. */
function listened(broker: Broker): string[] {
  const told: string[] = [];
  broker.on('clientConnected', ({ id }) => told.push(`connected ${id}`));
  broker.on('clientDisconnected', ({ id }, reason, message) => told.push(`disconnected ${id} ${reason} ${message}`));
  broker.on('clientOverflowed', ({ id }, { policy, limit }) => told.push(`overflowed ${id} ${policy} ${limit}`));
  broker.on('gapTold', ({ id }, { reason }) => told.push(`gap ${id} ${reason}`));
  broker.on('busStatus', ({ state }) => told.push(`bus ${state}`));
  broker.on('requestRefused', ({ code, status }) => told.push(`refused ${code} ${status}`));
  return told;
}

const counter = () => {
  let count = 0;
  return () => `client-${++count}`;
};

test('a stream: registered, first frame, told; then over, told once, and nothing is left', async () => {
  const clock = new ManualClock();
  const broker = makeBroker({ clock, createId: counter() });
  const told = listened(broker);
  const identity = { userId: 'ann', tenantId: 'acme', sessionId: 's1', claims: { role: 'admin' } };
  const { sink, clientId } = join(broker, { identity, topics: ['x', 'y', 'x'] });
  expect(clientId).toBe('client-1');
  expect(told).toEqual(['bus up', 'connected client-1']);
  expect(broker.getClient(clientId)).toEqual({
    id: 'client-1',
    userId: 'ann',
    tenantId: 'acme',
    sessionId: 's1',
    identity,
    topics: ['x', 'y'],
    connectedAt: clock.now(),
    queuedFrames: 0,
    queuedBytes: 0,
  });
  const [connected] = sink.all<{ retry: number }>('connected');
  expect(connected).toEqual({
    clientId,
    userId: 'ann',
    tenantId: 'acme',
    topics: ['x', 'y'],
    serverTime: clock.now(),
    heartbeatInterval: 30_000,
    retry: connected!.retry,
  });
  expect(sink.text).toContain(`retry: ${connected!.retry}\n`);
  // What a client is told about itself is no more than that.
  expect(sink.text).not.toMatch(/s1|admin/);
  sink.close();
  sink.close();
  expect(told).toEqual(['bus up', 'connected client-1', 'disconnected client-1 left undefined']);
  expect(broker.getClient(clientId)).toBeUndefined();
  expect([...broker.getClients()]).toEqual([]);
  expect(broker.getActiveTopics()).toEqual([]);
  expect(broker.getOnlineUsers()).toEqual([]);
  expect(clock.timers).toBe(0);
  sink.check();
});

test('the first frame can be bare: without the event, and without a reconnection time', () => {
  const text = (options: { connectedEvent?: boolean; retry?: number }) => join(makeBroker(options)).sink.text;
  expect(text({ connectedEvent: false, retry: 0 })).toMatch(/^id: [a-z0-9]+-0\n\n$/);
  expect(text({ connectedEvent: false })).toMatch(/^retry: \d+\nid: [a-z0-9]+-0\n\n$/);
  expect(text({ retry: 0 })).toMatch(/^id: \S+\nevent: connected\ndata: \{.*"retry":0\}\n\n$/);
});

test('reconnection times are spread a quarter around the option', () => {
  const broker = makeBroker({ retry: 1_000 });
  const retries = Array.from({ length: 300 }, () => join(broker).sink.all<{ retry: number }>('connected')[0]!.retry);
  expect(Math.min(...retries)).toBeGreaterThanOrEqual(750);
  expect(Math.max(...retries)).toBeLessThanOrEqual(1_250);
  expect(new Set(retries).size).toBeGreaterThan(100);
});

test('maxConnectionAge ends streams within the last tenth of it, spread', () => {
  const clock = new ManualClock();
  const broker = makeBroker({ clock, maxConnectionAge: 100_000 });
  const sinks = Array.from({ length: 100 }, () => join(broker).sink);
  const ended = () => sinks.filter(({ isEnded }) => isEnded).length;
  clock.advance(89_900);
  expect(ended()).toBe(0);
  clock.advance(5_600);
  expect(ended()).toBeGreaterThan(20);
  expect(ended()).toBeLessThan(80);
  clock.advance(6_000);
  expect(ended()).toBe(100);
  expect(sinks[0]!.all('closing')).toEqual([{ reason: 'max-age' }]);
});

test('the earlier of token and age ends the stream, and says which it was', () => {
  const clock = new ManualClock();
  const broker = makeBroker({ clock, maxConnectionAge: 100_000 });
  const early = join(broker, { identity: { expiresAt: clock.now() + 10_000 } });
  const late = join(broker, { identity: { expiresAt: clock.now() + 1_000_000 } });
  clock.advance(12_000);
  expect(early.sink.all('closing')).toEqual([{ reason: 'expired' }]);
  clock.advance(100_000);
  expect(late.sink.all('closing')).toEqual([{ reason: 'max-age' }]);
});

test('a carrier that is gone before it began comes into no map, and listeners never hear of it', () => {
  const broker = makeBroker({ createId: counter() });
  const told = listened(broker);
  let owner: SinkOwner | undefined;
  const sink = {
    open: (given: SinkOwner) => {
      owner = given;
      given.closed();
    },
    write: () => expect.unreachable(),
    end: () => expect.unreachable(),
    destroy: () => expect.unreachable(),
    progress: () => 0,
  };
  broker.connect({ sink, identity: { userId: 'ann' }, topics: ['x'] });
  expect(owner).toBeDefined();
  expect(told.filter((line) => line.includes('client-1'))).toEqual([]);
  expect(broker.getStats()).toMatchObject({ totalClients: 0, totalUsers: 0, totalTopics: 0, ending: 0, connects: 1 });
  expect(broker.getStats().disconnects.left).toBe(1);
});

test('a sink that cannot be opened is thrown to the caller, and leaves nothing', () => {
  const broker = makeBroker();
  const sink = new StrictSink();
  sink.open = () => {
    throw new Error('no carrier');
  };
  expect(() => broker.connect({ sink, identity: { userId: 'ann' } })).toThrow('no carrier');
  expect(broker.getStats()).toMatchObject({ totalClients: 0, totalUsers: 0, ending: 0, connects: 0 });
});

test('a sink that fails with the first frame is gone at once; the error is told', async () => {
  const broker = makeBroker({ createId: counter() });
  const told = listened(broker);
  const sink = StrictSink.forTest();
  sink.write = () => {
    throw new Error('EPIPE');
  };
  broker.connect({ sink });
  expect(told.filter((line) => line.includes('client-1'))).toEqual([]);
  expect(broker.reported).toMatchObject([{ code: 'SSE_ERR_STREAM_FAILED', cause: new Error('EPIPE') }]);
  expect(broker.getStats()).toMatchObject({ totalClients: 0, disconnects: { failed: 1 } });
});

test('what a listener of clientConnected sends reaches the new client, by any address', async () => {
  const broker = makeBroker();
  broker.on('clientConnected', ({ id, userId }) => {
    broker.sendToClient(id, 'n', 1);
    broker.sendToUser(userId!, 'n', 2);
    broker.broadcast('n', 3);
  });
  const { sink } = join(broker, { identity: { userId: 'ann' } });
  await turn();
  expect(sink.events.map(({ type }) => type)).toEqual(['connected', 'n', 'n', 'n']);
  expect(sink.all('n')).toEqual([1, 2, 3]);
});

test('a listener of clientConnected may end the client at once', async () => {
  const broker = makeBroker({ createId: counter() });
  const told = listened(broker);
  broker.on('clientConnected', ({ id }) => broker.disconnect(id, 'not today'));
  const { sink } = join(broker);
  expect(sink.events.map(({ type }) => type)).toEqual(['connected', 'closing']);
  expect(sink.isEnded).toBe(true);
  expect(told.slice(1)).toEqual(['connected client-1', 'disconnected client-1 disconnected not today']);
  expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 1 });
});

test('the old socket closes after its replacement opened: the user stays online', () => {
  const broker = makeBroker();
  const identity = { userId: 'ann', tenantId: 'acme' };
  const old = join(broker, { identity, topics: ['x'] });
  const replacement = join(broker, { identity, topics: ['x'] });
  expect(broker.getUserConnectionCount('ann')).toBe(2);
  old.sink.close();
  for (const of of [broker, broker.tenant('acme')]) {
    expect(of.isUserOnline('ann')).toBe(true);
    expect(of.getUserConnectionCount('ann')).toBe(1);
    expect(of.getTopicConnectionCount('x')).toBe(1);
    expect(of.getOnlineUsers()).toEqual(['ann']);
  }
  expect(broker.getStats().totalUsers).toBe(1);
  replacement.sink.close();
  expect(broker.isUserOnline('ann')).toBe(false);
  expect(broker.tenant('acme').isUserOnline('ann')).toBe(false);
});

test('a topic is heard from its subscription to its end, to the event', async () => {
  const broker = makeBroker();
  const there = join(broker, { topics: ['x'] });
  const { sink, clientId } = join(broker, { identity: { tenantId: 'acme' } });
  broker.sendToTopic('x', 'n', 1);
  expect(await broker.subscribe(clientId, 'x')).toBe(true);
  expect(await broker.subscribe(clientId, 'x')).toBe(false);
  broker.sendToTopic('x', 'n', 2);
  broker.tenant('acme').sendToTopic('x', 'n', 3);
  expect(broker.getClient(clientId)!.topics).toEqual(['x']);
  expect(await broker.unsubscribe(clientId, 'x')).toBe(true);
  expect(await broker.unsubscribe(clientId, 'x')).toBe(false);
  broker.sendToTopic('x', 'n', 4);
  await turn();
  expect(sink.all('n')).toEqual([2, 3]);
  expect(there.sink.all('n')).toEqual([1, 2, 4]);
  expect(broker.getActiveTopics()).toEqual(['x']);
});

test('a topic that the bus cannot join is refused and taken away again: no topic is silent', async () => {
  const bus = new LateBus();
  const broker = makeBroker({ bus, heartbeatInterval: 0, clientTimeout: 0 });
  const { sink, clientId } = join(broker);
  for (let i = 0; i < 3; i++) {
    await bus.settle();
    await turn();
  }
  bus.fail('join', new Error('no'));
  const [refused] = await Promise.all([broker.subscribe(clientId, 'x').catch((error) => error), bus.settle()]);
  expect(refused).toMatchObject({ code: 'SSE_ERR_BUS_UNAVAILABLE', retryable: true, cause: new Error('no') });
  expect(broker.getClient(clientId)!.topics).toEqual([]);
  expect(sink.isDestroyed).toBe(false);
  const [again] = await Promise.all([broker.subscribe(clientId, 'x'), bus.settle()]);
  expect(again).toBe(true);
});

test('disconnect tells why, once; nobody of that id is false', async () => {
  const broker = makeBroker({ createId: counter() });
  const told = listened(broker);
  const { sink, clientId } = join(broker);
  broker.broadcast('n', 1);
  expect(await broker.disconnect(clientId, 'moved')).toBe(true);
  expect(await broker.disconnect(clientId, 'again')).toBe(false);
  expect(await broker.disconnect('nobody')).toBe(false);
  // What was published before goes out before.
  expect(sink.events.map(({ type }) => type)).toEqual(['connected', 'n', 'closing']);
  expect(sink.all('closing')).toEqual([{ reason: 'disconnected', message: 'moved' }]);
  expect(told.at(-1)).toBe('disconnected client-1 disconnected moved');
  await expect(broker.sendToClient(clientId, 'n', 2)).rejects.toMatchObject({ code: 'SSE_ERR_UNKNOWN_CLIENT' });
  sink.check();
});

test('a reason that is no string ends nobody', async () => {
  const broker = makeBroker();
  const { sink, clientId } = join(broker, { identity: { userId: 'ann' } });
  for (const reason of [1n, null, {}] as unknown as string[]) {
    await expect(broker.disconnect(clientId, reason)).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_OPTION' });
    await expect(broker.disconnectUser('ann', { reason })).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_OPTION' });
  }
  expect(sink.isEnded).toBe(false);
  expect(broker.getStats()).toMatchObject({ totalClients: 1, ending: 0 });
});

test('a misspelt tenant of disconnectUser ends nobody', async () => {
  const broker = makeBroker();
  const { sink } = join(broker, { identity: { userId: 'ann', tenantId: 'acme' } });
  for (const options of [{ tenant: 'other' }, 'other'] as never[]) {
    await expect(broker.disconnectUser('ann', options)).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_OPTION' });
  }
  expect(sink.isEnded).toBe(false);
});

test('an overflow names the client, the policy and the limit once, until it has caught up; every drop is counted', async () => {
  const broker = makeBroker({ clientBufferSize: 2, overflow: 'drop-oldest', createId: counter() });
  const told = listened(broker);
  const { sink } = join(broker, {}, 2);
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 6; i++) {
      broker.broadcast('n', i);
      await turn();
    }
    expect(broker.getStats()).toMatchObject({ queuedFrames: 2 });
    sink.drain(6);
    expect(broker.getStats()).toMatchObject({ queuedFrames: 0, queuedBytes: 0 });
    sink.room = 1;
  }
  expect(told.filter((line) => line.startsWith('overflowed'))).toEqual([
    'overflowed client-1 drop-oldest frames',
    'overflowed client-1 drop-oldest frames',
  ]);
  expect(told.filter((line) => line.startsWith('gap'))).toEqual(['gap client-1 overflow', 'gap client-1 overflow']);
  const { delivered, dropped, published, gaps } = broker.getStats();
  expect(published).toBe(12);
  expect(delivered + dropped).toBe(12);
  expect(gaps).toBe(2);
});

test('a listener may close the broker in the middle of a flush: nothing hangs, and all streams end', async () => {
  const broker = makeBroker({ clientBufferSize: 1 });
  broker.on('clientDisconnected', () => broker.close({ timeoutMs: 100 }));
  const stalled = join(broker, {}, 1);
  const others = Array.from({ length: 5 }, () => join(broker));
  for (let i = 0; i < 3; i++) broker.broadcast('n', i);
  await turn();
  expect(stalled.sink.isDestroyed).toBe(true);
  expect(others.map(({ sink }) => sink.isEnded)).toEqual([true, true, true, true, true]);
  for (const { sink } of others) {
    expect(sink.all('n')).toEqual([0, 1, 2]);
    sink.check();
    sink.close();
  }
  stalled.sink.close();
  await broker.close();
});

/** A bus that the test speaks for. */
class VoicedBus extends MemoryBus {
  receiver!: BusReceiver;
  override start(receiver: BusReceiver): void {
    this.receiver = receiver;
    super.start(receiver);
  }
}

test('a loss that a bus tells is a gap for whom it concerns, before anything later', async () => {
  const bus = new VoicedBus();
  const broker = makeBroker({ bus, createId: counter() });
  const told = listened(broker);
  const ann = join(broker, { identity: { userId: 'ann' }, topics: ['x'] });
  const bob = join(broker, { identity: { userId: 'bob' } });
  const before = await broker.broadcast('n', 1);
  bus.receiver.lost({ reason: 'evicted', keys: ['t::x', 'u::ann', 't::nobody'] });
  await broker.broadcast('n', 2);
  bus.receiver.lost({ reason: 'epoch' });
  await turn();
  const types = (sink: StrictSink) => sink.events.map(({ type }) => type);
  expect(types(ann.sink)).toEqual(['connected', 'n', 'gap', 'n', 'gap']);
  expect(types(bob.sink)).toEqual(['connected', 'n', 'n', 'gap']);
  const [gap] = ann.sink.all<Gap>('gap');
  expect(gap).toMatchObject({ reason: 'evicted', resumedFrom: before });
  expect(ann.sink.events[2]!.lastEventId).toBe(before);
  expect(told.filter((line) => line.startsWith('gap'))).toEqual([
    'gap client-1 evicted',
    'gap client-1 epoch',
    'gap client-2 epoch',
  ]);
  expect(broker.getStats().gaps).toBe(3);
});

test('the state of the bus and its errors are told', () => {
  const bus = new VoicedBus();
  const broker = makeBroker({ bus });
  const told = listened(broker);
  broker.start();
  bus.receiver.status({ state: 'down', reason: 'ECONNRESET' });
  bus.receiver.error(new Error('lost a packet'));
  expect(told).toEqual(['bus up', 'bus down']);
  expect(broker.reported).toMatchObject([{ cause: new Error('lost a packet') }]);
});

test('an event of a key that nobody here has costs nothing and harms nobody', async () => {
  const bus = new VoicedBus();
  const broker = makeBroker({ bus });
  const { sink } = join(broker);
  await broker.sendToUser('nobody', 'n', 1);
  await broker.sendToTopic('nowhere', 'n', 1);
  bus.receiver.deliver({
    id: 'x-9',
    sequence: 9,
    key: 'c::gone',
    event: 'n',
    data: '1',
    json: true,
    timestamp: 0,
    expiresAt: 0,
  });
  await turn();
  expect(sink.events.map(({ type }) => type)).toEqual(['connected']);
  expect(broker.getStats()).toMatchObject({ published: 2, delivered: 0 });
});

test('start connects the bus once; after close it is refused', async () => {
  const bus = new MemoryBus();
  let starts = 0;
  const start = bus.start.bind(bus);
  bus.start = (receiver) => {
    starts++;
    start(receiver);
  };
  const broker = makeBroker({ bus });
  expect(broker.getStats().isRunning).toBe(false);
  await Promise.all([broker.start(), broker.start()]);
  join(broker).sink.close();
  await broker.broadcast('n', 1);
  expect(starts).toBe(1);
  expect(broker.getStats().isRunning).toBe(true);
  await broker.close();
  await expect(broker.start()).rejects.toMatchObject({ code: 'SSE_ERR_BROKER_CLOSED' });
  expect(broker.getStats().isRunning).toBe(false);
});

test('on, once and off give the broker back, and do what they say', async () => {
  const broker = makeBroker();
  const seen: string[] = [];
  const always = () => seen.push('always');
  expect(broker.on('eventPublished', always).once('eventPublished', () => seen.push('once'))).toBe(broker);
  await broker.broadcast('n', 1);
  await broker.broadcast('n', 2);
  expect(broker.off('eventPublished', always)).toBe(broker);
  await broker.broadcast('n', 3);
  expect(seen).toEqual(['always', 'once', 'always']);
});

test('the figures add up, and go back to nothing', async () => {
  const broker = makeBroker({ clientBufferSize: 7, maxConnections: 9 });
  expect(broker.getStats()).toEqual({
    totalClients: 0,
    totalUsers: 0,
    totalTopics: 0,
    isRunning: false,
    bufferSize: 7,
    maxConnections: 9,
    published: 0,
    delivered: 0,
    dropped: 0,
    replayed: 0,
    bytes: 0,
    writes: 0,
    gaps: 0,
    queuedFrames: 0,
    queuedBytes: 0,
    connects: 0,
    refused: 0,
    disconnects: Object.fromEntries(DISCONNECT_REASONS.map((reason) => [reason, 0])),
    ending: 0,
    errors: 0,
    bus: { name: 'memory', refused: 0, state: 'up', details: { historyKeys: 0, historyEvents: 0, historyBytes: 0 } },
  });
  const streams = [
    join(broker, { identity: { userId: 'ann' }, topics: ['x'] }),
    join(broker, { identity: { userId: 'ann' } }),
    join(broker, {}, 1),
  ];
  await broker.broadcast('n', 1);
  await turn();
  const stats = broker.getStats();
  expect(stats).toMatchObject({
    totalClients: 3,
    totalUsers: 1,
    totalTopics: 1,
    isRunning: true,
    published: 1,
    delivered: 2,
    queuedFrames: 1,
    connects: 3,
  });
  const written = streams.flatMap(({ sink }) => sink.writes);
  expect(stats.writes).toBe(written.length);
  expect(stats.bytes).toBe(written.reduce((sum, { bytes }) => sum + bytes, 0));
  for (const { sink } of streams) sink.close();
  expect(broker.getStats()).toMatchObject({
    totalClients: 0,
    totalUsers: 0,
    totalTopics: 0,
    queuedFrames: 0,
    queuedBytes: 0,
    disconnects: { left: 3 },
  });
  // A copy: changing it changes nothing.
  (broker.getStats().disconnects as Record<string, number>).left = 99;
  expect(broker.getStats().disconnects.left).toBe(3);
});

test('what handlers tell is counted and told', () => {
  const broker = makeBroker();
  const told = listened(broker);
  broker.refused({ code: 'SSE_ERR_FORBIDDEN', status: 403 } as never);
  broker.reportError(new Error('x'), 'authenticator', 'SSE_ERR_UNAUTHENTICATED');
  expect(told).toEqual(['refused SSE_ERR_FORBIDDEN 403']);
  expect(broker.getStats()).toMatchObject({ refused: 1, errors: 1 });
  expect(broker.reported).toMatchObject([{ code: 'SSE_ERR_UNAUTHENTICATED' }]);
});

test('a broker with open streams does not hold the process', async () => {
  const { code, stdout } = await runProgram(`
    import { Broker } from './sse-broker.js';
    const broker = new Broker({ historySize: 5, historyTtl: 60_000, flush: 'adaptive' });
    broker.connect({ sink: { open() {}, write: () => true, end() {}, destroy() {}, progress: () => 0 } });
    await broker.broadcast('n', 1);
    console.log('done');
  `);
  expect({ code, stdout }).toEqual({ code: 0, stdout: 'done\n' });
});

/** First cells of the tables below a heading of docs/reference/events.md. */
async function documented(heading: string): Promise<string[]> {
  const text = await readFile(new URL('../../docs/reference/events.md', import.meta.url), 'utf8');
  const section = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`))!;
  return [...section.matchAll(/^\| `([^`]+)` \|/gm)].map(([, name]) => name!);
}

test('docs/reference/events.md names every event, origin, reason and wire event, and no others', async () => {
  const events = {
    clientConnected: true,
    clientDisconnected: true,
    clientOverflowed: true,
    eventPublished: true,
    gapTold: true,
    requestRefused: true,
    userJoined: true,
    userLeft: true,
    nodeJoined: true,
    nodeLeft: true,
    busStatus: true,
    error: true,
  } satisfies Record<BrokerEventName, true>;
  const origins = {
    publish: true,
    bus: true,
    stream: true,
    listener: true,
    authenticator: true,
    'topic-resolver': true,
    handler: true,
    replay: true,
    cluster: true,
    inbox: true,
  } satisfies Record<ErrorOrigin, true>;
  const gaps = {
    evicted: true,
    epoch: true,
    unknown: true,
    disabled: true,
    overflow: true,
  } satisfies Record<GapReason, true>;
  expect(await documented('broker.on')).toEqual([...Object.keys(events), ...Object.keys(origins)]);
  expect(await documented('Disconnect reasons')).toEqual([...DISCONNECT_REASONS]);
  expect(await documented('In the stream')).toEqual([...RESERVED_EVENT_NAMES, ...Object.keys(gaps)]);
});
