import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Client, type ClientHost } from '../../src/core/client.js';
import { Fanout } from '../../src/core/fanout.js';
import { type Encoded, type Frame, frameOf } from '../../src/core/frame.js';
import { resolveOptions } from '../../src/core/options.js';
import { Channel } from '../../src/core/registry.js';
import { StrictSink } from '../support/strict-sink.js';
import { until } from '../support/until.js';

/** A fan-out with clients that are live, and nothing else of a broker. */
class Stage {
  readonly fanout: Fanout;
  readonly #host: ClientHost;
  #sequence = 0;

  constructor(maxDelay = 0) {
    this.fanout = new Fanout(() => 0, maxDelay);
    this.#host = {
      options: resolveOptions(),
      tick: 0,
      queueTotals: { frames: 0, bytes: 0 },
      now: () => 0,
      ready: (client) => this.fanout.ready(client),
      wrote: () => {},
      dropped: () => {},
      overflowed: () => {},
      gapTold: () => {},
      ended: () => {},
      closed: () => {},
    };
  }

  client(sink: StrictSink = new StrictSink()): Client {
    const client = new Client(this.#host, sink, 'x', {});
    client.open();
    client.goLive([]);
    return client;
  }

  /** A channel with these members. */
  channel(...clients: Client[]): Channel {
    const channel = new Channel('e::');
    for (const client of clients) channel.add(client);
    return channel;
  }

  frame(filler = 0): Frame {
    const sequence = ++this.#sequence;
    const data = `${sequence}${'.'.repeat(filler)}`;
    return frameOf({
      id: `f-${sequence}`,
      sequence,
      key: 'e::',
      event: 'n',
      data,
      json: false,
      timestamp: 0,
      expiresAt: 0,
    });
  }
}

const seen = (sink: StrictSink): number[] => sink.events.map(({ data }) => Number.parseInt(data, 10));
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('all events of a turn are one write per client, and all recipients of the same share one Buffer', async () => {
  const stage = new Stage();
  const sinks = Array.from({ length: 50 }, () => new StrictSink());
  const channel = stage.channel(...sinks.map((sink) => stage.client(sink)));
  for (let i = 0; i < 10; i++) stage.fanout.dispatch(channel, stage.frame());
  expect(sinks[0]!.writes).toEqual([]);
  await turn();
  for (const sink of sinks) {
    expect(sink.writes.length).toBe(1);
    expect(seen(sink)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(sink.writes[0]!.payload).toBe(sinks[0]!.writes[0]!.payload);
    expect(sink.writes[0]!.chunk).toBe(sinks[0]!.writes[0]!.chunk);
  }
  expect(stage.fanout.isIdle).toBe(true);
});

test('publishing in a loop with await between is one turn too', async () => {
  const stage = new Stage();
  const sink = new StrictSink();
  const channel = stage.channel(stage.client(sink), stage.client());
  for (let i = 0; i < 20; i++) {
    stage.fanout.dispatch(channel, stage.frame());
    await Promise.resolve();
  }
  await turn();
  expect(sink.writes.length).toBe(1);
});

test('clients in the same several audiences share what comes of merging them', async () => {
  const stage = new Stage();
  const sinks = Array.from({ length: 10 }, () => new StrictSink());
  const clients = sinks.map((sink) => stage.client(sink));
  const [topic, everybody] = [stage.channel(...clients), stage.channel(...clients, stage.client())];
  stage.fanout.dispatch(topic, stage.frame());
  stage.fanout.dispatch(everybody, stage.frame());
  stage.fanout.dispatch(topic, stage.frame());
  await turn();
  for (const sink of sinks) {
    expect(seen(sink)).toEqual([1, 2, 3]);
    expect(sink.writes.length).toBe(1);
    expect(sink.writes[0]!.payload).toBe(sinks[0]!.writes[0]!.payload);
  }
});

test('over any audiences, turns and settlings, every client gets its events once, in the order of dispatch', async () => {
  const CLIENTS = 5;
  const step = fc.oneof(
    {
      weight: 10,
      arbitrary: fc.record({ to: fc.nat(6), filler: fc.constantFrom(0, 0, 0, 40_000) }),
    },
    { weight: 2, arbitrary: fc.constantFrom('turn' as const, 'settle' as const, 'flush' as const, 'all' as const) },
    // Within one turn, beyond what one turn holds.
    { weight: 1, arbitrary: fc.constant('many' as const) },
  );
  const membership = fc.array(fc.subarray([0, 1, 2, 3, 4]), { minLength: 7, maxLength: 7 });
  await fc.assert(
    fc.asyncProperty(
      membership,
      fc.array(step, { maxLength: 40 }),
      fc.constantFrom(0, 20),
      async (members, script, delay) => {
        const stage = new Stage(delay);
        const sinks = Array.from({ length: CLIENTS }, () => new StrictSink());
        const clients = sinks.map((sink) => stage.client(sink));
        const channels = members.map((list) => stage.channel(...list.map((i) => clients[i]!)));
        const expected = sinks.map((): number[] => []);
        const send = (to: number, filler: number) => {
          const frame = stage.frame(filler);
          for (const i of members[to]!) expected[i]!.push(frame.source!.sequence);
          stage.fanout.dispatch(channels[to]!, frame);
        };
        for (const action of script) {
          if (action === 'turn') await turn();
          else if (action === 'settle') stage.fanout.settle();
          else if (action === 'flush') stage.fanout.flush();
          else if (action === 'all') stage.fanout.flushAll();
          else if (action === 'many') for (let i = 0; i < 150; i++) send(i % 7, 0);
          else send(action.to, action.filler);
        }
        stage.fanout.flushAll();
        expect(stage.fanout.isIdle).toBe(true);
        expect(sinks.map(seen)).toEqual(expected);
      },
    ),
    { numRuns: 150 },
  );
});

test('a long loop of publishing is flushed in the middle, so what waits for a turn stays bounded', () => {
  const stage = new Stage();
  const sink = new StrictSink();
  const channel = stage.channel(stage.client(sink), stage.client());
  for (let i = 0; i < 1_000; i++) stage.fanout.dispatch(channel, stage.frame());
  expect(sink.writes.length).toBeGreaterThan(5);
  const before = sink.writes.length;
  for (let i = 0; i < 5; i++) stage.fanout.dispatch(channel, stage.frame(50_000));
  expect(sink.writes.length).toBeGreaterThan(before);
  stage.fanout.flushAll();
  expect(seen(sink)).toEqual(Array.from({ length: 1_005 }, (_, i) => i + 1));
});

/** A sink whose writes cost time. */
class CostlySink extends StrictSink {
  readonly #onWrite: () => void;
  constructor(onWrite: () => void) {
    super();
    this.#onWrite = onWrite;
  }
  override write(encoded: Encoded): boolean {
    this.#onWrite();
    return super.write(encoded);
  }
}

function spin(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

test('a broadcast to 20 000 clients gives way to timers and immediates, and keeps the order meanwhile', async () => {
  const stage = new Stage();
  let writes = 0;
  const sinks = Array.from(
    { length: 20_000 },
    () =>
      new CostlySink(() => {
        writes++;
        spin(0.01);
      }),
  );
  const channel = stage.channel(...sinks.map((sink) => stage.client(sink)));
  stage.fanout.dispatch(channel, stage.frame());
  let timers = 0;
  const timer = setInterval(() => {
    timers++;
  }, 1);
  let immediates = 0;
  const isDone = () => stage.fanout.isIdle;
  let next = 2;
  while (!isDone()) {
    await turn();
    immediates++;
    // Publishing in the middle, for those who have the first one and for those who have not.
    if (immediates % 5 === 0 && next <= 4) {
      stage.fanout.dispatch(channel, stage.frame());
      next++;
    }
  }
  clearInterval(timer);
  expect(writes).toBeGreaterThanOrEqual(20_000);
  // At 8 ms a slice it takes more than 25 of them; all at once would take one turn.
  expect(immediates).toBeGreaterThan(10);
  expect(timers).toBeGreaterThan(5);
  const all = Array.from({ length: next - 1 }, (_, i) => i + 1);
  expect(all.length).toBeGreaterThan(1);
  for (const sink of sinks) if (seen(sink).join() !== all.join()) expect(seen(sink)).toEqual(all);
});

test('publishing from inside a write reaches everybody, once, in order', async () => {
  const stage = new Stage();
  let isFirst = true;
  const sinks: StrictSink[] = [];
  const publishing = new CostlySink(() => {
    if (!isFirst) return;
    isFirst = false;
    stage.fanout.dispatch(channel, stage.frame());
    stage.fanout.dispatch(alone, stage.frame());
    stage.fanout.flush();
  });
  sinks.push(new StrictSink(), publishing, new StrictSink());
  const clients = sinks.map((sink) => stage.client(sink));
  const channel = stage.channel(...clients);
  const alone = stage.channel(clients[0]!);
  stage.fanout.dispatch(channel, stage.frame());
  await until(() => stage.fanout.isIdle && seen(sinks[2]!).length === 2, 'both events everywhere');
  expect(sinks.map(seen)).toEqual([
    [1, 2, 3],
    [1, 2],
    [1, 2],
  ]);
});

test('flushing everything from inside a flush comes back: close() in a listener does not hang the process', async () => {
  const stage = new Stage();
  let isFirst = true;
  const closing = new CostlySink(() => {
    if (!isFirst) return;
    isFirst = false;
    stage.fanout.flushAll();
  });
  const sinks = [closing, new StrictSink()];
  const channel = stage.channel(...sinks.map((sink) => stage.client(sink)));
  stage.fanout.dispatch(channel, stage.frame());
  await until(() => stage.fanout.isIdle, 'the flush');
  expect(sinks.map(seen)).toEqual([[1], [1]]);
});

test('an event offered before a membership changed reaches who was there, and nobody else', async () => {
  const stage = new Stage();
  const sinks = [new StrictSink(), new StrictSink(), new StrictSink()];
  const clients = sinks.map((sink) => stage.client(sink));
  const channel = stage.channel(clients[0]!, clients[1]!);
  stage.fanout.dispatch(channel, stage.frame());
  stage.fanout.settle();
  channel.delete(clients[0]!);
  channel.add(clients[2]!);
  stage.fanout.dispatch(channel, stage.frame());
  await turn();
  expect(sinks.map(seen)).toEqual([[1], [1, 2], [2]]);
});

test('adaptive: after a flush that took long the next one waits, and takes along what comes meanwhile', async () => {
  const stage = new Stage(1_000);
  // Long enough for the turns below, also on a busy machine.
  let cost = 300;
  const sink = new CostlySink(() => spin(cost));
  const channel = stage.channel(stage.client(sink), stage.client());
  stage.fanout.dispatch(channel, stage.frame());
  await turn();
  expect(sink.writes.length).toBe(1);
  cost = 0;
  for (let i = 0; i < 3; i++) {
    stage.fanout.dispatch(channel, stage.frame());
    await turn();
  }
  expect(sink.writes.length).toBe(1);
  await until(() => sink.writes.length === 2, 'the flush that waited');
  expect(seen(sink)).toEqual([1, 2, 3, 4]);
  // One that kept up does not wait.
  await until(() => {
    stage.fanout.dispatch(channel, stage.frame());
    return turn().then(() => stage.fanout.isIdle);
  }, 'a flush at the end of its turn');
});

test('adaptive: flushing everything takes the waiting timer with it', async () => {
  const stage = new Stage(50);
  const sink = new CostlySink(() => spin(60));
  const channel = stage.channel(stage.client(sink), stage.client());
  const timers = () => process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
  stage.fanout.dispatch(channel, stage.frame());
  await turn();
  const before = timers();
  stage.fanout.dispatch(channel, stage.frame());
  expect(timers()).toBe(before + 1);
  stage.fanout.flushAll();
  expect(timers()).toBe(before);
  expect(seen(sink)).toEqual([1, 2]);
  expect(stage.fanout.isIdle).toBe(true);
});
