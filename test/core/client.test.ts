import assert from 'node:assert/strict';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Client, type ClientHost, type DisconnectReason, type Holder } from '../../src/core/client.js';
import { commentFrame, controlFrame, type Encoded, encodedOf, type Frame, frameOf } from '../../src/core/frame.js';
import type { Gap } from '../../src/core/gap.js';
import { type BrokerOptions, type OverflowPolicy, resolveOptions } from '../../src/core/options.js';
import { StrictSink } from '../support/strict-sink.js';

/** What a broker would be for its clients: takes note of what it is told. */
class FakeHost implements ClientHost {
  readonly options;
  readonly queueTotals = { frames: 0, bytes: 0 };
  readonly readied: Client[] = [];
  readonly gaps: Gap[] = [];
  readonly overflows: ('frames' | 'bytes')[] = [];
  readonly ends: { reason: DisconnectReason; message: string | undefined; cause: Error | undefined }[] = [];
  tick = 0;
  time = 1_000;
  wroteEvents = 0;
  wroteBytes = 0;
  writes = 0;
  droppedEvents = 0;
  closings = 0;
  /** What a listener does. */
  onGapTold: (client: Client) => void = () => {};
  onOverflowed: (client: Client) => void = () => {};
  onEnded: (client: Client) => void = () => {};

  constructor(options: BrokerOptions = {}) {
    this.options = resolveOptions(options);
  }

  now(): number {
    return this.time;
  }
  ready(client: Client): void {
    this.readied.push(client);
  }
  wrote(events: number, bytes: number): void {
    this.wroteEvents += events;
    this.wroteBytes += bytes;
    this.writes++;
  }
  dropped(events: number): void {
    this.droppedEvents += events;
  }
  overflowed(client: Client, limit: 'frames' | 'bytes'): void {
    this.overflows.push(limit);
    this.onOverflowed(client);
  }
  gapTold(client: Client, gap: Gap): void {
    this.gaps.push(gap);
    this.onGapTold(client);
  }
  ended(client: Client, reason: DisconnectReason, message: string | undefined, cause: Error | undefined): void {
    this.ends.push({ reason, message, cause });
    this.onEnded(client);
  }
  closed(): void {
    this.closings++;
  }
}

let lastNumber = 0;
let lastOrder = 0;

/** The frame of an event whose data is its number. */
function frameWith(parts: { filler?: number; expiresAt?: number } = {}): Frame {
  const n = ++lastNumber;
  const frame = frameOf({
    id: `c-${n}`,
    sequence: n,
    key: 'e::',
    event: 'note',
    data: JSON.stringify({ n, filler: 'x'.repeat(parts.filler ?? 0) }),
    json: true,
    timestamp: 0,
    expiresAt: parts.expiresAt ?? 0,
  });
  frame.order = ++lastOrder;
  return frame;
}

const numberOf = (id: string): number => Number(id.slice(2));

function liveClient(options: BrokerOptions = {}, room = Number.POSITIVE_INFINITY) {
  lastNumber = 0;
  const host = new FakeHost(options);
  const sink = new StrictSink(room);
  const client = new Client(host, sink, 'client-1', {});
  client.open();
  client.goLive([]);
  const send = (...frames: Frame[]): void => {
    client.offer(encodedOf(frames));
    client.flush(host.time);
  };
  /** Numbers of the events in the stream, and `gap` and `closing` as they are. */
  const seen = (): (number | string)[] =>
    sink.events.map(({ type, data }) => (type === 'note' ? (JSON.parse(data) as { n: number }).n : type));
  return { host, sink, client, send, seen };
}

const POLICIES: readonly OverflowPolicy[] = ['disconnect', 'drop-oldest', 'drop-newest'];

test('what a turn offers is written at its end, once, in the order of dispatch', () => {
  const { client, host, sink, seen } = liveClient();
  const [a, b, c] = [frameWith(), frameWith(), frameWith()];
  client.offer(encodedOf([a!, c!]));
  client.offer(b!);
  expect(host.readied).toEqual([client]);
  expect(sink.writes).toEqual([]);
  client.flush(host.time);
  expect(sink.writes.length).toBe(1);
  expect(seen()).toEqual([1, 2, 3]);
  expect(host).toMatchObject({ wroteEvents: 3, writes: 1, wroteBytes: sink.writes[0]!.bytes });
  client.flush(host.time);
  expect(sink.writes.length).toBe(1);
  sink.check();
});

test('a client that keeps up has no queue; one that does not gets all of it in order as it drains', () => {
  const { client, sink, send, seen } = liveClient({}, 2);
  send(frameWith());
  expect(client.queuedFrames).toBe(0);
  send(frameWith());
  send(frameWith(), frameWith());
  send(frameWith());
  expect(client).toMatchObject({ isBlocked: true, queuedFrames: 3 });
  expect(seen()).toEqual([1, 2]);
  sink.drain(1);
  expect(seen()).toEqual([1, 2, 3, 4, 5]);
  expect(client).toMatchObject({ isBlocked: true, queuedFrames: 0 });
  sink.drain();
  send(frameWith());
  expect(seen()).toEqual([1, 2, 3, 4, 5, 6]);
  sink.check();
});

test('a queue drains in pieces: a reader that comes back to life is not handed a megabyte at once', () => {
  const { sink, send } = liveClient({}, 1);
  for (let i = 0; i < 21; i++) send(frameWith({ filler: 10_000 }));
  sink.drain();
  expect(sink.writes.length).toBeGreaterThan(3);
  for (const { bytes } of sink.writes) expect(bytes).toBeLessThanOrEqual(64 * 1024);
});

test.each([4, 3, 2])(
  'disconnect: at the first frame too many the client is cut, and what it will not get is counted: %i before',
  (before) => {
    const { client, host, sink, send } = liveClient({ clientBufferSize: 3 }, 1);
    for (let i = 0; i < before; i++) send(frameWith());
    expect(host.overflows).toEqual([]);
    send(frameWith(), frameWith(), frameWith());
    expect(host.overflows).toEqual(['frames']);
    expect(host.ends).toMatchObject([{ reason: 'overflow' }]);
    expect(sink).toMatchObject({ isDestroyed: true, isEnded: false });
    expect(host.wroteEvents + host.droppedEvents).toBe(before + 3);
    expect(host.queueTotals).toEqual({ frames: 0, bytes: 0 });
    send(frameWith());
    sink.close();
    expect(host).toMatchObject({ closings: 1, ends: [{ reason: 'overflow' }] });
    expect(client.isOver).toBe(true);
    sink.check();
  },
);

test('drop-oldest: the newest stay, and a gap before them admits exactly what was dropped', () => {
  const { host, sink, send, seen } = liveClient({ clientBufferSize: 3, overflow: 'drop-oldest' }, 1);
  for (let i = 0; i < 6; i++) send(frameWith());
  expect(host).toMatchObject({ overflows: ['frames'], droppedEvents: 2 });
  sink.drain();
  expect(seen()).toEqual([1, 'gap', 4, 5, 6]);
  expect(host.gaps).toEqual([{ reason: 'overflow', requested: 'c-1', resumedFrom: 'c-3' }]);
  expect(sink.events[1]).toMatchObject({ data: JSON.stringify(host.gaps[0]), lastEventId: 'c-3' });
  send(frameWith());
  expect(seen()).toEqual([1, 'gap', 4, 5, 6, 7]);
  sink.check();
});

test('drop-newest: the oldest stay, and a gap behind them admits exactly what was dropped', () => {
  const { host, sink, send, seen } = liveClient({ clientBufferSize: 3, overflow: 'drop-newest' }, 1);
  for (let i = 0; i < 6; i++) send(frameWith());
  expect(host).toMatchObject({ overflows: ['frames'], droppedEvents: 2 });
  sink.drain();
  expect(seen()).toEqual([1, 2, 3, 4, 'gap']);
  expect(host.gaps).toEqual([{ reason: 'overflow', requested: 'c-4', resumedFrom: 'c-6' }]);
  send(frameWith());
  expect(seen()).toEqual([1, 2, 3, 4, 'gap', 7]);
  sink.check();
});

test('drop-newest: with room again while still blocked, the gap takes its place in the queue', () => {
  const { sink, send, seen, client } = liveClient({ clientBufferSize: 3, overflow: 'drop-newest' }, 1);
  // 2, 3 and 4 wait, 5 is dropped; two writes later there are two places, for the gap and for 6.
  for (let i = 0; i < 5; i++) send(frameWith({ filler: 40_000 }));
  sink.drain(2);
  expect(client.queuedFrames).toBe(1);
  send(frameWith());
  expect(client.queuedFrames).toBe(3);
  send(frameWith());
  sink.drain();
  expect(seen()).toEqual([1, 2, 3, 4, 'gap', 6, 'gap']);
  sink.check();
});

test.each(POLICIES)('%s: the limit in bytes holds as the one in frames does', (overflow) => {
  const { host, client, send } = liveClient({ clientBufferBytes: 3_000, clientBufferSize: 0, overflow }, 1);
  for (let i = 0; i < 5; i++) {
    send(frameWith({ filler: 1_000 }));
    expect(client.queuedBytes).toBeLessThanOrEqual(3_000);
  }
  expect(host.overflows).toEqual(['bytes']);
});

test('an event larger than the whole buffer is dropped and admitted; the next one is there again', () => {
  for (const overflow of ['drop-oldest', 'drop-newest'] as const) {
    const { sink, send, seen, host } = liveClient({ clientBufferBytes: 2_000, overflow }, 1);
    send(frameWith());
    send(frameWith({ filler: 5_000 }));
    expect(host.overflows).toEqual(['bytes']);
    sink.drain();
    send(frameWith());
    expect(seen()).toEqual([1, 'gap', 3]);
    sink.check();
  }
});

test('an event that expired while it waited is left out, and no gap is told for it', () => {
  const { host, sink, send, seen } = liveClient({}, 1);
  send(frameWith());
  send(frameWith({ expiresAt: 2_000 }), frameWith());
  host.time = 2_000;
  sink.drain();
  expect(seen()).toEqual([1, 3]);
  expect(host.gaps).toEqual([]);
});

test('an orderly end hands over what waits, then says closing, then ends', () => {
  const { host, client, sink, send, seen } = liveClient({}, 1);
  send(frameWith());
  send(frameWith(), frameWith());
  client.end('shutdown', 'bye', 1_234);
  expect(seen()).toEqual([1, 2, 3, 'closing']);
  expect(sink.events.at(-1)!.data).toBe('{"reason":"shutdown","message":"bye"}');
  expect(sink.text).toContain('retry: 1234\nevent: closing\n');
  expect(sink.isEnded).toBe(true);
  expect(host.ends).toEqual([{ reason: 'shutdown', message: 'bye', cause: undefined }]);
  client.end('left');
  client.write(frameWith());
  client.fail('failed');
  client.write(frameWith());
  expect(seen()).toEqual([1, 2, 3, 'closing']);
  expect(host.ends.length).toBe(1);
  sink.close();
  sink.close();
  expect(host.closings).toBe(1);
  sink.check();
});

test('an identity that expired reads nothing more, not even what was queued in time', () => {
  const { client, host, sink, send, seen } = liveClient({}, 1);
  client.deadline = 5_000;
  send(frameWith());
  send(frameWith());
  client.end('expired');
  expect(seen()).toEqual([1, 'closing']);
  expect(host.queueTotals).toEqual({ frames: 0, bytes: 0 });
  sink.check();
});

test('what is flushed after the deadline is not delivered: the stream ends instead', () => {
  for (const reason of ['expired', 'max-age'] as const) {
    const { client, host, send, seen } = liveClient();
    client.deadline = 1_500;
    client.deadlineReason = reason;
    host.time = 1_499;
    send(frameWith());
    host.time = 1_500;
    send(frameWith());
    expect(seen()).toEqual([1, 'closing']);
    expect(host.ends).toMatchObject([{ reason }]);
  }
});

test('a carrier that ends is "left", one that breaks is "failed" with its cause', () => {
  const cause = new Error('ECONNRESET');
  for (const [given, reason] of [
    [undefined, 'left'],
    [cause, 'failed'],
  ] as const) {
    const { host, sink, client, send } = liveClient({}, 1);
    send(frameWith());
    send(frameWith());
    sink.close(given);
    expect(host.ends).toEqual([{ reason, message: undefined, cause: given }]);
    expect(host.closings).toBe(1);
    expect(host.queueTotals).toEqual({ frames: 0, bytes: 0 });
    client.end('shutdown');
    client.fail('failed');
    client.flush(host.time);
    expect(host.ends.length).toBe(1);
    expect(sink).toMatchObject({ isEnded: false, isDestroyed: false });
    sink.check();
  }
});

test('while history is replayed, live frames go to the holder; then the held ones go out first', () => {
  lastNumber = 0;
  const host = new FakeHost();
  const sink = new StrictSink();
  const client = new Client(host, sink, 'client-1', {});
  client.open();
  const held: Encoded[] = [];
  let proceeded = 0;
  const holder: Holder = {
    hold: (encoded) => held.push(encoded),
    proceed: () => {
      proceeded++;
    },
  };
  client.holder = holder;
  client.offer(frameWith());
  client.flush(host.time);
  expect(sink.writes).toEqual([]);
  expect(held.length).toBe(1);
  sink.room = 1;
  client.write(controlFrame({ event: 'connected', data: '{}' }));
  expect(client.isBlocked).toBe(true);
  sink.drain();
  expect(proceeded).toBe(1);
  client.goLive(held[0]!.frames);
  client.offer(frameWith());
  client.flush(host.time);
  expect(sink.events.map(({ type }) => type)).toEqual(['connected', 'note', 'note']);
  sink.check();
});

test('a stall has progressed exactly when the sink says another number', () => {
  const { client, sink, send } = liveClient({}, 1);
  send(frameWith());
  expect(client.hasProgressed()).toBe(false);
  sink.advance();
  expect(client.hasProgressed()).toBe(true);
  expect(client.hasProgressed()).toBe(false);
});

test('a listener of clientOverflowed may end the client: nothing is left in the totals, nothing follows the end', () => {
  for (const overflow of ['drop-oldest', 'drop-newest'] as const) {
    const { host, sink, send, seen } = liveClient({ clientBufferSize: 2, overflow }, 1);
    host.onOverflowed = (client) => client.end('disconnected');
    for (let i = 0; i < 4; i++) send(frameWith());
    send(frameWith(), frameWith());
    expect(host.ends).toMatchObject([{ reason: 'disconnected' }]);
    expect(seen().at(-1)).toBe('closing');
    expect(host.queueTotals).toEqual({ frames: 0, bytes: 0 });
    sink.close();
    expect(host.queueTotals).toEqual({ frames: 0, bytes: 0 });
    sink.check();
  }
});

test('a listener of gapTold may end the client: the gap is in the stream, and nothing follows the end', () => {
  for (const overflow of ['drop-oldest', 'drop-newest'] as const) {
    const { host, sink, client, send, seen } = liveClient({ clientBufferSize: 2, overflow }, 1);
    host.onGapTold = () => {
      // As the broker ends a client: what was published before goes out first.
      client.offer(frameWith());
      client.flush(host.time);
      client.end('disconnected');
    };
    for (let i = 0; i < 5; i++) send(frameWith());
    sink.drain();
    expect(seen()).toEqual(
      overflow === 'drop-oldest' ? [1, 'gap', 4, 5, 6, 'closing'] : [1, 2, 3, 'gap', 6, 'closing'],
    );
    expect(host.queueTotals).toEqual({ frames: 0, bytes: 0 });
    sink.check();
  }
});

test('a sink that throws fails alone: the client is over, its cause is told, and nothing is thrown', () => {
  for (const method of ['write', 'end', 'destroy', 'progress'] as const) {
    const { host, sink, client, send } = liveClient();
    const cause = new Error(`${method} threw`);
    sink[method] = () => {
      throw cause;
    };
    if (method === 'progress') sink.room = 1;
    send(frameWith());
    if (method === 'end') client.end('shutdown');
    if (method === 'destroy') client.fail('timeout');
    expect(client.isOver, method).toBe(true);
    expect(host.ends.length, method).toBe(1);
    if (method === 'write' || method === 'progress') expect(host.ends[0]).toMatchObject({ reason: 'failed', cause });
    if (method === 'destroy') expect(host.closings, 'a carrier that cannot be destroyed is gone').toBe(1);
    client.flush(host.time);
    send(frameWith());
    sink.close();
    expect(host).toMatchObject({ closings: 1 });
    expect(host.queueTotals).toEqual({ frames: 0, bytes: 0 });
  }
});

type Command =
  | { do: 'offer'; fillers: number[] }
  | { do: 'flush' }
  | { do: 'drain'; room: number }
  | { do: 'block' }
  | { do: 'heartbeat' }
  | { do: 'end' }
  | { do: 'fail' }
  | { do: 'close' };

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('offer' as const),
      fillers: fc.array(fc.constantFrom(0, 10, 100, 900, 3_000), { minLength: 1, maxLength: 4 }),
    }),
  },
  { weight: 10, arbitrary: fc.constant({ do: 'flush' as const }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('drain' as const), room: fc.constantFrom(1, 2, 3, 1_000) }) },
  { weight: 4, arbitrary: fc.constant({ do: 'block' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'heartbeat' as const }) },
);
const lastCommand: fc.Arbitrary<Command> = fc.constantFrom(
  { do: 'end' as const },
  { do: 'fail' as const },
  { do: 'close' as const },
);

interface Limits {
  readonly overflow: OverflowPolicy;
  readonly clientBufferSize: number;
  readonly clientBufferBytes: number;
}

const limits: fc.Arbitrary<Limits> = fc.record({
  overflow: fc.constantFrom(...POLICIES),
  clientBufferSize: fc.constantFrom(0, 1, 2, 5, 256),
  clientBufferBytes: fc.constantFrom(0, 300, 2_500, 1024 * 1024),
});

/**
 * Reads the stream as its client does: every event is the next of those offered, unless a gap just before said which are
 * missing. Returns how many of the offered ones are accounted for.
 */
function account(
  offered: readonly number[],
  sink: StrictSink,
  mayNotKnow: boolean,
): { upTo: number; admitted: number } {
  let next = 0;
  let admitted = 0;
  for (const { type, data, lastEventId } of sink.events) {
    if (type === 'note') {
      expect((JSON.parse(data) as { n: number }).n, 'the next event, none skipped in silence').toBe(offered[next]);
      next++;
    } else if (type === 'gap') {
      const { reason, requested, resumedFrom } = JSON.parse(data) as Gap;
      expect(reason).toBe('overflow');
      if (requested === null) expect(next === 0 || mayNotKnow, 'the last event it had is known').toBe(true);
      else expect(numberOf(requested)).toBe(offered[next - 1]);
      const last = offered.indexOf(numberOf(resumedFrom!));
      expect(last, 'a gap admits at least one event').toBeGreaterThanOrEqual(next);
      expect(lastEventId).toBe(resumedFrom);
      admitted += last + 1 - next;
      next = last + 1;
    } else {
      expect(type).toBe('closing');
    }
  }
  return { upTo: next, admitted };
}

test('in any order of events, stalls and ends: order, limits, gaps that admit exactly what was dropped, one end', () => {
  fc.assert(
    fc.property(
      fc.array(command, { minLength: 5, maxLength: 80, size: 'max' }),
      fc.option(lastCommand, { nil: undefined }),
      limits,
      fc.constantFrom('nothing', 'gapTold', 'overflowed', 'ended'),
      (script, last, options, reenter) => {
        const { host, client, sink } = liveClient(options);
        const offered: number[] = [];
        let hadHeartbeat = false;
        let isOver = false;
        const end = () => {
          client.flush(host.time);
          client.end('disconnected');
        };
        if (reenter === 'gapTold') host.onGapTold = end;
        if (reenter === 'overflowed') host.onOverflowed = end;
        if (reenter === 'ended') host.onEnded = end;
        for (const step of last === undefined ? script : [...script, last]) {
          switch (step.do) {
            case 'offer': {
              const frames = step.fillers.map((filler) => frameWith({ filler }));
              if (!client.isOver) offered.push(...frames.map(({ source }) => source!.sequence));
              client.offer(encodedOf(frames));
              break;
            }
            case 'flush':
              client.flush(host.time);
              break;
            case 'drain':
              sink.drain(step.room);
              break;
            case 'block':
              sink.room = Math.min(sink.room, 1);
              break;
            case 'heartbeat':
              // As the wheel does: not to a blocked client, nor to one that is over.
              if (client.isBlocked || client.isOver) break;
              hadHeartbeat = true;
              client.write(commentFrame());
              break;
            case 'end':
              end();
              break;
            case 'fail':
              client.fail('timeout');
              break;
            case 'close':
              sink.close();
          }
          isOver ||= client.isOver;
          // Plain assertions: there are hundreds of thousands.
          assert(client.isOver === isOver, 'over for good');
          assert(options.clientBufferSize === 0 || client.queuedFrames <= options.clientBufferSize, 'frames');
          assert(options.clientBufferBytes === 0 || client.queuedBytes <= options.clientBufferBytes, 'bytes');
          assert(host.queueTotals.frames === client.queuedFrames && host.queueTotals.bytes === client.queuedBytes);
          assert(!client.isOver || client.queuedFrames === 0, 'nothing waits for the dead');
          assert(host.ends.length === Number(client.isOver), 'one end');
        }
        if (!client.isOver) {
          client.flush(host.time);
          for (let i = 0; i < 100 && sink.isFull; i++) sink.drain();
        }
        const { upTo, admitted } = account(offered, sink, hadHeartbeat);
        if (!client.isOver) {
          expect(upTo, 'all accounted for once the reader has caught up').toBe(offered.length);
          expect(host.droppedEvents).toBe(admitted);
          expect(host.wroteEvents).toBe(offered.length - admitted);
          expect(client.queuedFrames).toBe(0);
        }
        sink.close();
        expect(host.ends.length).toBe(1);
        expect(host.closings).toBe(1);
        expect(host.queueTotals).toEqual({ frames: 0, bytes: 0 });
        if (options.overflow === 'disconnect') expect(host.gaps).toEqual([]);
        sink.check();
      },
    ),
    { numRuns: 600 },
  );
});
