import { expect, test } from 'vitest';
import { resolveCloseOptions } from '../../src/core/shutdown.js';
import { Broker, type BrokerOptions, type ConnectRequest, MemoryBus } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { LateBus } from '../support/late-bus.js';
import { runProgram } from '../support/program.js';
import { StrictSink } from '../support/strict-sink.js';
import { until } from '../support/until.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A sink that ends in order, a turn later. */
class ReadingSink extends StrictSink {
  override end(...last: Parameters<StrictSink['end']>): void {
    super.end(...last);
    setImmediate(() => this.close());
  }
  override destroy(): void {
    super.destroy();
    setImmediate(() => this.close());
  }
}

/** One whose reader takes nothing: it ends only where it is destroyed. */
class StalledSink extends StrictSink {
  constructor() {
    super(1);
  }
  override destroy(): void {
    super.destroy();
    setImmediate(() => this.close());
  }
}

function join<T extends StrictSink>(broker: Broker, sink: T, request: Omit<ConnectRequest, 'sink'> = {}): T {
  broker.connect({ sink, ...request });
  return sink;
}

test('close says when to come back, flushes what was published before, ends everybody, and counts them', async () => {
  const broker = makeBroker();
  const sinks = Array.from({ length: 50 }, () => join(broker, new ReadingSink()));
  broker.broadcast('n', 1);
  const told: string[] = [];
  broker.on('clientDisconnected', (_, reason) => told.push(reason));
  expect(await broker.close({ reconnectWithinMs: 10_000 })).toEqual({ ended: 50, cut: 0 });
  const retries = sinks.map((sink) => {
    expect(sink.events.map(({ type }) => type)).toEqual(['connected', 'n', 'closing']);
    expect(sink.all('closing')).toEqual([{ reason: 'shutdown' }]);
    expect(sink.isEnded).toBe(true);
    sink.check();
    return Number(/retry: (\d+)\nevent: closing/.exec(sink.text)![1]);
  });
  expect(Math.max(...retries)).toBeLessThanOrEqual(10_000);
  expect(Math.min(...retries)).toBeGreaterThanOrEqual(2_000);
  expect(new Set(retries).size).toBeGreaterThan(25);
  expect(new Set(told)).toEqual(new Set(['shutdown']));
  expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 0, disconnects: { shutdown: 50 } });
});

test('closing again gives the same promise, whatever it is asked', async () => {
  const broker = makeBroker();
  const sink = join(broker, new ReadingSink());
  const first = broker.close();
  expect(broker.close({ timeoutMs: 1 })).toBe(first);
  await first;
  expect(broker.close()).toBe(first);
  expect(sink.all('closing').length).toBe(1);
});

test('from the call on nothing is sent and nobody is let in', async () => {
  const broker = makeBroker();
  join(broker, new ReadingSink());
  const closing = broker.close();
  const code = 'SSE_ERR_BROKER_CLOSED';
  const refuses = async () => {
    await expect(broker.broadcast('n', 1)).rejects.toMatchObject({ code, status: 503 });
    await expect(broker.tenant('acme').sendToUser('ann', 'n', 1)).rejects.toMatchObject({ code });
    await expect(broker.publish({ type: 'n', channel: 'x', data: 1 })).rejects.toMatchObject({ code });
    expect(() => broker.admit({})).toThrow(expect.objectContaining({ code }));
    expect(() => broker.connect({ sink: new StrictSink() })).toThrow(expect.objectContaining({ code }));
  };
  await refuses();
  await closing;
  await refuses();
  expect(broker.getStats()).toMatchObject({ isRunning: false, totalClients: 0 });
});

test('stalled readers are cut at the deadline, and close is through soon after it', async () => {
  const broker = makeBroker();
  const [stalled, reading] = [join(broker, new StalledSink()), join(broker, new ReadingSink())];
  const startedAt = performance.now();
  expect(await broker.close({ timeoutMs: 150 })).toEqual({ ended: 1, cut: 1 });
  const took = performance.now() - startedAt;
  expect(took).toBeGreaterThan(140);
  expect(took).toBeLessThan(3_000);
  expect(stalled.isDestroyed).toBe(true);
  expect(reading.isDestroyed).toBe(false);
  expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 0 });
});

test('a carrier that never tells its end does not keep close from ending', async () => {
  const broker = new Broker();
  join(broker, new StrictSink());
  const startedAt = performance.now();
  expect(await broker.close({ timeoutMs: 20 })).toEqual({ ended: 0, cut: 1 });
  expect(performance.now() - startedAt).toBeLessThan(5_000);
});

test('a stream that was ending already is waited for, too', async () => {
  const broker = makeBroker();
  const sink = new StrictSink();
  const clientId = broker.connect({ sink });
  await broker.disconnect(clientId);
  let isClosed = false;
  const closing = broker.close({ timeoutMs: 5_000 }).then((result) => {
    isClosed = true;
    return result;
  });
  for (let i = 0; i < 5; i++) await turn();
  expect(isClosed).toBe(false);
  sink.close();
  expect(await closing).toEqual({ ended: 1, cut: 0 });
  expect(sink.all('closing')).toEqual([{ reason: 'disconnected' }]);
});

test('timeoutMs 0 cuts at once', async () => {
  const broker = makeBroker();
  const sinks = [join(broker, new StalledSink()), join(broker, new ReadingSink())];
  expect(await broker.close({ timeoutMs: 0 })).toEqual({ ended: 0, cut: 2 });
  expect(sinks.map(({ isDestroyed }) => isDestroyed)).toEqual([true, true]);
});

test('without options: five seconds for the streams to end, and for their clients to be spread over', () => {
  expect(resolveCloseOptions({})).toEqual({ timeoutMs: 5_000, reconnectWithinMs: 5_000 });
});

test('nonsense is refused, and the broker can still be closed', async () => {
  const broker = makeBroker();
  for (const options of [
    { timeoutMs: -1 },
    { timeoutMs: Number.NaN },
    { timeoutMs: 2 ** 31 },
    { timeoutMs: '5' as never },
    { timeout: 5 } as never,
    { reconnectWithinMs: -1 },
    { reconnectWithinMs: Number.POSITIVE_INFINITY },
  ]) {
    await expect(broker.close(options)).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_OPTION' });
  }
  await broker.broadcast('n', 1);
  expect(await broker.close()).toEqual({ ended: 0, cut: 0 });
});

test('many streams are ended in slices: others get their turn', async () => {
  const broker = makeBroker();
  const sinks = Array.from({ length: 3_000 }, () => join(broker, new ReadingSink()));
  let turns = 0;
  let isClosed = false;
  const closing = broker.close().then(() => {
    isClosed = true;
  });
  const seen: number[] = [];
  while (!isClosed) {
    await turn();
    turns++;
    seen.push(sinks.filter(({ isEnded }) => isEnded).length);
  }
  await closing;
  expect(turns).toBeGreaterThan(10);
  expect(seen.some((count) => count > 0 && count < 3_000)).toBe(true);
});

test('who leaves while others are ended is no error', async () => {
  const broker = makeBroker();
  const sinks = Array.from({ length: 1_000 }, () => join(broker, new ReadingSink()));
  const closing = broker.close();
  for (const sink of sinks.slice(500)) sink.close();
  expect(await closing).toEqual({ ended: 1_000, cut: 0 });
  const { shutdown, left } = broker.getStats().disconnects;
  expect(shutdown + left).toBe(1_000);
  expect(left).toBeGreaterThan(0);
});

test('a listener that publishes or connects while the broker closes is refused, and nothing else happens', async () => {
  const broker = makeBroker();
  broker.on('clientDisconnected', () => {
    broker.broadcast('n', 1);
    broker.connect({ sink: new StrictSink() });
  });
  join(broker, new ReadingSink());
  expect(await broker.close()).toEqual({ ended: 1, cut: 0 });
  expect(broker.reported.map(({ code }) => code)).toEqual(['SSE_ERR_BROKER_CLOSED', 'SSE_ERR_BROKER_CLOSED']);
});

test('clients whose replay waits for the bus end like others', async () => {
  const bus = new LateBus();
  const broker = makeBroker({ bus, heartbeatInterval: 0, clientTimeout: 0 });
  const sinks = [join(broker, new ReadingSink()), join(broker, new ReadingSink(), { lastEventId: 'x-1' })];
  await bus.step();
  expect(await broker.close()).toEqual({ ended: 2, cut: 0 });
  await bus.settle();
  await turn();
  for (const sink of sinks) {
    expect(sink.events.map(({ type }) => type)).toEqual(['closing']);
    sink.check();
  }
  expect(bus.isClosed).toBe(true);
});

function closingBus(close: () => unknown): BrokerOptions & { readonly closed: () => number } {
  const bus = new MemoryBus();
  let closed = 0;
  bus.close = (() => {
    closed++;
    return close();
  }) as never;
  return { bus, closed: () => closed };
}

test.each([
  ['closes', () => undefined, []],
  ['rejects', () => Promise.reject(new Error('no')), [{ code: 'SSE_ERR_BUS_UNAVAILABLE' }]],
  [
    'throws',
    () => {
      throw new Error('no');
    },
    [{ code: 'SSE_ERR_BUS_UNAVAILABLE' }],
  ],
])('the bus is closed once, at the end; one that %s does not keep close from ending', async (_, close, reported) => {
  const { closed, ...options } = closingBus(close);
  const broker = makeBroker(options);
  join(broker, new ReadingSink());
  expect(closed()).toBe(0);
  expect(await broker.close()).toEqual({ ended: 1, cut: 0 });
  await broker.close();
  expect(closed()).toBe(1);
  expect(broker.reported).toMatchObject(reported);
});

test('the bus is closed when all streams have ended, and not before', async () => {
  let ending = -1;
  const { closed: _, ...options } = closingBus(() => {
    ending = broker.getStats().ending;
  });
  const broker = makeBroker(options);
  join(broker, new StalledSink());
  expect(await broker.close({ timeoutMs: 50 })).toEqual({ ended: 0, cut: 1 });
  expect(ending).toBe(0);
});

test('a bus that takes for ever to close does not keep the process', async () => {
  const { closed: _, ...options } = closingBus(() => new Promise(() => {}));
  const broker = new Broker(options);
  const errors: unknown[] = [];
  broker.on('error', (error) => errors.push(error));
  await broker.start();
  const startedAt = performance.now();
  await broker.close({ timeoutMs: 100 });
  expect(performance.now() - startedAt).toBeLessThan(4_000);
  expect(errors).toMatchObject([{ code: 'SSE_ERR_BUS_UNAVAILABLE' }]);
});

test('a broker that was never used closes at once, and its bus was never touched', async () => {
  const { closed, ...options } = closingBus(() => undefined);
  const broker = makeBroker(options);
  expect(await broker.close()).toEqual({ ended: 0, cut: 0 });
  expect(closed()).toBe(0);
});

test('leaves no timer behind', async () => {
  const timers = () => process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
  const before = timers();
  const broker = new Broker({ historySize: 5, historyTtl: 60_000 });
  join(broker, new ReadingSink());
  await broker.broadcast('n', 1);
  await broker.close();
  await until(() => timers() <= before, 'the timers to be gone');
});

test('a process whose broker is closed ends, however long that might have taken', async () => {
  const { code, stdout, stderr } = await runProgram(`
    import { Broker, MemoryBus } from './sse-broker.js';
    for (const isShared of [false, true]) {
      const broker = new Broker({ bus: Object.assign(new MemoryBus(), { isShared }) });
      await broker.broadcast('n', 1);
      await broker.close({ timeoutMs: 60_000 });
    }
    console.log('closed');
  `);
  expect([code, stdout, stderr]).toEqual([0, 'closed\n', '']);
});

test('"await using" closes', async () => {
  const broker = makeBroker();
  const sink = join(broker, new ReadingSink());
  await broker[Symbol.asyncDispose]();
  expect(sink.isEnded).toBe(true);
  expect(broker.getStats()).toMatchObject({ isRunning: false, ending: 0 });
});
