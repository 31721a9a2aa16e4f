import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Client, type ClientHost, type DisconnectReason } from '../../src/core/client.js';
import type { Clock } from '../../src/core/clock.js';
import { commentFrame, controlFrame } from '../../src/core/frame.js';
import { Heartbeat } from '../../src/core/heartbeat.js';
import { type BrokerOptions, resolveOptions } from '../../src/core/options.js';
import { stillHeld } from '../support/garbage.js';
import { StrictSink } from '../support/strict-sink.js';

/** One timer, which the test fires; it can also let time pass while the process does not run. */
class StandClock implements Clock {
  elapsed = 0;
  readonly #start = 1_700_000_000_000;
  timer: { readonly ms: number; readonly callback: () => void; due: number } | undefined;

  now(): number {
    return this.#start + Math.floor(this.elapsed);
  }
  monotonic(): number {
    return this.elapsed;
  }
  every(ms: number, callback: () => void): () => void {
    if (this.timer !== undefined) throw new Error('one timer for all clients');
    const timer = { ms, callback, due: this.elapsed + ms };
    this.timer = timer;
    return () => {
      this.timer = undefined;
    };
  }

  advance(ms: number): void {
    const target = this.elapsed + ms;
    while (this.timer !== undefined && this.timer.due <= target) {
      this.elapsed = this.timer.due;
      this.timer.due += this.timer.ms;
      this.timer.callback();
    }
    this.elapsed = target;
  }

  /** The process stands still for `ms`; then its timer fires once. */
  suspend(ms: number): void {
    this.elapsed += ms;
    if (this.timer === undefined) return;
    this.timer.due = this.elapsed + this.timer.ms;
    this.timer.callback();
  }
}

class Stage {
  readonly clock = new StandClock();
  readonly heartbeat: Heartbeat;
  readonly ended = new Map<Client, DisconnectReason>();
  readonly #host: ClientHost;

  constructor(options: BrokerOptions = {}) {
    const resolved = resolveOptions({ ...options, clock: this.clock });
    const heartbeat = new Heartbeat(resolved);
    this.heartbeat = heartbeat;
    this.#host = {
      options: resolved,
      queueTotals: { frames: 0, bytes: 0 },
      get tick() {
        return heartbeat.tick;
      },
      now: () => this.clock.now(),
      ready: () => {},
      wrote: () => {},
      dropped: () => {},
      overflowed: () => {},
      gapTold: () => {},
      ended: (client, reason) => this.ended.set(client, reason),
      closed: (client) => this.heartbeat.delete(client),
    };
  }

  /** A live client, with the times at which it was written to. */
  add(deadlineIn = 0, reason: 'expired' | 'max-age' = 'expired') {
    const times: number[] = [];
    const { clock } = this;
    const sink = new (class extends StrictSink {
      override write(...args: Parameters<StrictSink['write']>): boolean {
        times.push(clock.elapsed);
        return super.write(...args);
      }
    })();
    const client = new Client(this.#host, sink, 'x', {});
    if (deadlineIn > 0) {
      client.deadline = this.clock.now() + deadlineIn;
      client.deadlineReason = reason;
    }
    this.heartbeat.add(client);
    client.open();
    client.goLive([]);
    times.push(clock.elapsed);
    return { client, sink, times };
  }
}

/** Longest time between two neighbours, and from the last one to `end`. */
function longestSilence(times: readonly number[], end: number): number {
  return Math.max(...times.map((time, i) => (times[i + 1] ?? end) - time));
}

test.each([30_000, 60_000, 10_000, 5_000, 1_000, 333, 100, 50])(
  'with an interval of %i ms nobody is silent for longer than that and one tick',
  (heartbeatInterval) => {
    const stage = new Stage({ heartbeatInterval, clientTimeout: 0 });
    const clients = Array.from({ length: 40 }, () => {
      stage.clock.advance(heartbeatInterval / 37);
      return stage.add();
    });
    stage.clock.advance(heartbeatInterval * 5);
    for (const { times, sink } of clients) {
      expect(longestSilence(times, stage.clock.elapsed)).toBeLessThanOrEqual(
        heartbeatInterval + stage.heartbeat.tickMs + 0.001,
      );
      sink.check();
    }
  },
);

test('whatever else is written and when: no silence beyond interval and tick, no heartbeat right after something', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(1_000, 2_000, 30_000),
      fc.array(fc.record({ wait: fc.nat(1_500), who: fc.nat(4) }), { maxLength: 60 }),
      (heartbeatInterval, script) => {
        const stage = new Stage({ heartbeatInterval, clientTimeout: 0 });
        const clients = Array.from({ length: 5 }, () => stage.add());
        const events = clients.map((): number[] => []);
        for (const { wait, who } of script) {
          stage.clock.advance((wait / 1_000) * heartbeatInterval);
          events[who]!.push(stage.clock.elapsed);
          clients[who]!.client.write(controlFrame({ event: 'x', data: '' }));
        }
        stage.clock.advance(heartbeatInterval * 3);
        for (const [i, { times }] of clients.entries()) {
          const silence = longestSilence(times, stage.clock.elapsed);
          expect(silence).toBeLessThanOrEqual(heartbeatInterval + stage.heartbeat.tickMs + 0.001);
          // Half an interval of rest after anything that was written.
          const beats = times.slice(1).filter((time) => !events[i]!.includes(time));
          for (const beat of beats) {
            const before = times[times.indexOf(beat) - 1]!;
            expect(beat - before).toBeGreaterThan(heartbeatInterval / 2 - stage.heartbeat.tickMs);
          }
        }
      },
    ),
    { numRuns: 100 },
  );
});

test('heartbeats of clients that came at once are spread over the interval', () => {
  const stage = new Stage({ heartbeatInterval: 30_000 });
  const clients = Array.from({ length: 3_000 }, () => stage.add());
  stage.clock.advance(30_500);
  const perTick = new Map<number, number>();
  for (const { times } of clients) for (const time of times.slice(1)) perTick.set(time, (perTick.get(time) ?? 0) + 1);
  const counts = [...perTick.values()];
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(3_000);
  expect(counts.length).toBeGreaterThanOrEqual(25);
  expect(Math.max(...counts)).toBeLessThanOrEqual(3_000 / 25);
});

test('a comment by default, an event with a timestamp where asked, nothing where off', () => {
  const text = (options: BrokerOptions) => {
    const stage = new Stage({ heartbeatInterval: 1_000, clientTimeout: 0, ...options });
    const { sink } = stage.add();
    stage.clock.advance(1_050);
    return sink.text;
  };
  expect(text({})).toBe(':\n\n');
  expect(text({ heartbeatMode: 'event' })).toMatch(/^event: heartbeat\ndata: \{"timestamp":1700000001\d{3}\}\n\n$/);
  expect(text({ heartbeatInterval: 0 })).toBe('');
});

test('a heartbeat moves no cursor', () => {
  for (const heartbeatMode of ['comment', 'event'] as const) {
    const stage = new Stage({ heartbeatInterval: 1_000, clientTimeout: 0, heartbeatMode });
    const { sink } = stage.add();
    stage.clock.advance(5_000);
    expect(sink.read('before').lastEventId).toBe('before');
    expect(sink.text).not.toContain('id:');
  }
});

function blocked(stage: Stage) {
  const added = stage.add();
  added.sink.room = 1;
  added.client.write(commentFrame());
  expect(added.client.isBlocked).toBe(true);
  return added;
}

test('a full socket gets no heartbeat; without any progress for clientTimeout it is cut, not sooner, not much later', () => {
  const stage = new Stage({ heartbeatInterval: 10_000, clientTimeout: 20_000 });
  const { client, sink } = blocked(stage);
  stage.clock.advance(19_999);
  expect(stage.ended.has(client)).toBe(false);
  expect(sink.writes.length).toBe(1);
  // Looked at twice per interval.
  stage.clock.advance(5_000 + stage.heartbeat.tickMs);
  expect(stage.ended.get(client)).toBe('timeout');
  expect(sink.isDestroyed).toBe(true);
});

test('a slow reader that takes a little from time to time stays', () => {
  const stage = new Stage({ heartbeatInterval: 10_000, clientTimeout: 20_000 });
  const { client, sink } = blocked(stage);
  for (let i = 0; i < 20; i++) {
    stage.clock.advance(15_000);
    sink.advance();
  }
  expect(stage.ended.has(client)).toBe(false);
  stage.clock.advance(40_000);
  expect(stage.ended.get(client)).toBe('timeout');
});

test('clientTimeout 0: a reader that takes nothing stays for ever', () => {
  const stage = new Stage({ heartbeatInterval: 10_000, clientTimeout: 0 });
  const { client } = blocked(stage);
  stage.clock.advance(3_600_000);
  expect(stage.ended.has(client)).toBe(false);
});

test('dead readers are found with heartbeats off, too', () => {
  const stage = new Stage({ heartbeatInterval: 0, clientTimeout: 1_000 });
  const { client } = blocked(stage);
  const { sink } = stage.add();
  stage.clock.advance(1_600);
  expect(stage.ended.get(client)).toBe('timeout');
  expect(sink.text).toBe('');
});

test('a process that stood still does not take its readers for dead: they could not have read', () => {
  const stage = new Stage({ heartbeatInterval: 10_000, clientTimeout: 20_000 });
  const { client, sink } = blocked(stage);
  stage.clock.advance(2_000);
  stage.clock.suspend(3_600_000);
  expect(stage.ended.has(client)).toBe(false);
  stage.clock.advance(15_000);
  expect(stage.ended.has(client)).toBe(false);
  // Given its time again, it is dead.
  stage.clock.advance(11_000);
  expect(stage.ended.get(client)).toBe('timeout');
  expect(sink.isDestroyed).toBe(true);
});

test('after a process stood still everybody is sent a heartbeat at once, and only one', () => {
  const stage = new Stage({ heartbeatInterval: 10_000 });
  const clients = Array.from({ length: 50 }, () => stage.add());
  stage.clock.advance(3_000);
  const before = clients.map(({ times }) => times.length);
  stage.clock.suspend(3_600_000);
  expect(clients.map(({ times }, i) => times.length - before[i]!)).toEqual(clients.map(() => 1));
});

test('a stream that was told to end has seconds to hand over its last bytes, then it is cut', () => {
  const stage = new Stage({ heartbeatInterval: 10_000, clientTimeout: 0 });
  const { client, sink } = blocked(stage);
  client.end('shutdown');
  stage.clock.advance(4_900);
  expect(sink.isDestroyed).toBe(false);
  stage.clock.advance(6_000);
  expect(sink.isDestroyed).toBe(true);
  expect(stage.ended.get(client)).toBe('shutdown');
});

test('with rare heartbeats, ends and dead readers are looked after all the same', () => {
  const stage = new Stage({ heartbeatInterval: 3_600_000, clientTimeout: 7_200_000 });
  const { client, sink } = blocked(stage);
  const quiet = stage.add();
  client.end('max-age');
  stage.clock.advance(60_000);
  expect(sink.isDestroyed).toBe(true);
  expect(quiet.sink.text).toBe('');
  stage.clock.advance(3_600_000 * 3);
  expect(longestSilence(quiet.times, stage.clock.elapsed)).toBeLessThanOrEqual(3_600_000 + stage.heartbeat.tickMs);
  expect(quiet.times.length).toBeLessThanOrEqual(8);
});

test('streams end when their time has come, within a second and a tick, each for its reason', () => {
  const stage = new Stage({ heartbeatInterval: 10_000 });
  const [expiring, old, other] = [stage.add(5_300), stage.add(7_700, 'max-age'), stage.add()];
  stage.clock.advance(5_299);
  expect(stage.ended.size).toBe(0);
  stage.clock.advance(1_001 + stage.heartbeat.tickMs);
  expect(stage.ended.get(expiring!.client)).toBe('expired');
  expect(stage.ended.has(old!.client)).toBe(false);
  stage.clock.advance(3_000);
  expect(stage.ended.get(old!.client)).toBe('max-age');
  expect(old!.sink.events.at(-1)).toMatchObject({ type: 'closing', data: '{"reason":"max-age"}' });
  stage.clock.advance(100_000);
  expect(stage.ended.has(other!.client)).toBe(false);
});

test('a deadline passes while the process stands still: the stream ends at once afterwards', () => {
  const stage = new Stage();
  const { client } = stage.add(5_000);
  stage.clock.suspend(60_000);
  expect(stage.ended.get(client)).toBe('expired');
});

test('there is one timer, only while somebody is here, and it starts again', () => {
  const stage = new Stage();
  expect(stage.clock.timer).toBeUndefined();
  const [one, two] = [stage.add(), stage.add(50_000)];
  expect(stage.clock.timer).toBeDefined();
  one!.sink.close();
  one!.sink.close();
  expect(stage.clock.timer).toBeDefined();
  two!.sink.close();
  expect(stage.clock.timer).toBeUndefined();
  stage.heartbeat.delete(one!.client);
  const three = stage.add();
  stage.clock.advance(31_000);
  expect(three.sink.text).toBe(':\n\n');
  stage.heartbeat.close();
  expect(stage.clock.timer).toBeUndefined();
});

test('time without anybody does not count: who comes after it is not taken for silent', () => {
  const stage = new Stage({ heartbeatInterval: 10_000 });
  stage.add().sink.close();
  stage.clock.advance(3_600_000);
  const { sink } = stage.add();
  stage.clock.advance(4_000);
  expect(sink.text).toBe('');
});

test('whoever leaves, in whatever order, takes nobody else out of the round', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ wait: fc.nat(3), leave: fc.nat(200) }), { minLength: 10, maxLength: 40 }),
      (script) => {
        // Few slots: many neighbours.
        const stage = new Stage({ heartbeatInterval: 100, clientTimeout: 0 });
        const all = Array.from({ length: 20 }, () => stage.add());
        for (const { wait, leave } of script) {
          stage.clock.advance(wait * 10);
          all.push(stage.add(), stage.add(leave * 5));
          all[leave % all.length]!.sink.close();
        }
        stage.clock.advance(500);
        const here = all.filter(({ sink, client }) => !sink.isClosed && !client.isOver);
        for (const { times } of here) {
          expect(longestSilence(times, stage.clock.elapsed)).toBeLessThanOrEqual(100 + stage.heartbeat.tickMs + 0.001);
        }
        for (const { sink } of all) sink.close();
        expect(stage.clock.timer).toBeUndefined();
      },
    ),
    { numRuns: 100 },
  );
});

test('a client that has left is let go of, also one whose token would have lived for another hour', async () => {
  const stage = new Stage();
  const stays = stage.add(3_600_000);
  const references = Array.from({ length: 50 }, (_, i) => {
    const { client, sink } = stage.add(i % 2 === 0 ? 3_600_000 : 0);
    sink.close();
    return new WeakRef(client);
  });
  stage.ended.clear();
  expect(await stillHeld(references)).toBeLessThan(5);
  expect(stays.client.isOver).toBe(false);
});
