/** The Fetch handler as a runtime calls it: `Request` in, `Response` out, and a reader at its own pace. */
import { gunzipSync } from 'node:zlib';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { describe, expect, test } from 'vitest';
import { createFetchHandler, queryAuthenticator, queryTopicResolver } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { ManualClock } from '../support/manual-clock.js';
import { until } from '../support/until.js';
import { collectWarnings } from '../support/warnings.js';

const URL = 'http://test/events';
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Reads a body step by step, with an independent parser. */
function reading(response: Response) {
  const reader = response.body!.getReader();
  const decoder = new TextDecoder();
  const events: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (event) => events.push(event) });
  let isEnded = false;
  const step = async (): Promise<boolean> => {
    const { value, done } = await reader.read();
    if (value !== undefined) parser.feed(decoder.decode(value, { stream: true }));
    isEnded = done;
    return !done;
  };
  return {
    reader,
    events,
    step,
    isEnded: () => isEnded,
    toEnd: async () => {
      while (await step());
    },
    until: async (name: string, count = 1) => {
      while (events.filter(({ event }) => event === name).length < count) if (!(await step())) break;
    },
    numbers: () => events.filter(({ event }) => event === 'note').map(({ data }) => Number.parseInt(data, 10)),
  };
}

test('gives a stream at once, with the events of its user and topics in order', async () => {
  const broker = makeBroker();
  const handle = createFetchHandler(broker, {
    authenticator: queryAuthenticator(),
    topicResolver: queryTopicResolver(),
  });
  const response = await handle(new Request(`${URL}?user_id=alice&topics=job:1`));
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
  const alice = reading(response);
  // The first byte is there before any event.
  await alice.until('connected');
  await broker.sendToUser('alice', 'note', 1);
  await broker.sendToUser('bob', 'note', 2);
  await broker.sendToTopic('job:1', 'note', 3);
  await broker.broadcast('note', 4);
  await alice.until('note', 3);
  expect(alice.numbers()).toEqual([1, 3, 4]);
});

test('does not wait for onConnect, and survives it', async () => {
  const broker = makeBroker();
  const seen: string[] = [];
  const handle = createFetchHandler(broker, {
    onConnect: ({ id }) => {
      seen.push(id);
      return new Promise(() => {});
    },
  });
  const one = reading(await handle(new Request(URL)));
  await one.until('connected');
  expect(seen).toEqual([JSON.parse(one.events[0]!.data).clientId]);
  const rejecting = createFetchHandler(broker, { onConnect: () => Promise.reject(new Error('no')) });
  const two = reading(await rejecting(new Request(URL)));
  await two.until('connected');
  await until(() => broker.reported.length === 1, 'the error');
  await broker.broadcast('note', 1);
  await two.until('note');
});

test("the handler's own compression: one valid gzip, also for a reader that is behind at the end", async () => {
  const broker = makeBroker();
  const handle = createFetchHandler(broker, { compression: 'gzip' });
  const response = await handle(new Request(URL, { headers: { 'accept-encoding': 'gzip' } }));
  expect(response.headers.get('content-encoding')).toBe('gzip');
  for (let n = 0; n < 200; n++) await broker.broadcast('note', `${n} ${Math.random()}`.repeat(50));
  await turn();
  const closing = broker.close();
  const text = gunzipSync(Buffer.from(await response.arrayBuffer())).toString();
  expect(await closing).toEqual({ ended: 1, cut: 0 });
  expect(text.match(/^event: .*$/gm)).toEqual([
    'event: connected',
    ...Array(200).fill('event: note'),
    'event: closing',
  ]);
});

describe('a reader that is slow', () => {
  test('costs a bounded amount, and catches up complete and in order', async () => {
    const broker = makeBroker({ clientBufferSize: 1_000 });
    const slow = reading(await createFetchHandler(broker)(new Request(URL)));
    await slow.until('connected');
    let n = 0;
    while (broker.getStats().queuedFrames < 200) {
      await broker.broadcast('note', `${n++} ${'x'.repeat(1_000)}`);
      await turn();
      // What the stream holds besides the queue: its high-water mark and one write.
      expect(n - broker.getStats().queuedFrames).toBeLessThan(30);
    }
    const [client] = [...broker.getClients()];
    const ended = broker.disconnect(client!.id);
    await slow.toEnd();
    await ended;
    expect(slow.numbers()).toEqual(Array.from({ length: n }, (_, i) => i));
    expect(slow.events.at(-1)!.event).toBe('closing');
  });

  test('reads one step per publish: everything arrives, nothing piles up', async () => {
    const broker = makeBroker();
    const slow = reading(await createFetchHandler(broker)(new Request(URL)));
    await slow.until('connected');
    for (let n = 0; n < 500; n++) {
      await broker.broadcast('note', `${n} ${'x'.repeat(5_000)}`);
      await turn();
      if (n % 2 === 0) await slow.step();
      if (broker.getStats().queuedFrames > 100) await slow.until('note', n - 20);
    }
    await slow.until('note', 500);
    expect(slow.numbers()).toEqual(Array.from({ length: 500 }, (_, i) => i));
  });

  for (const overflow of ['disconnect', 'drop-oldest', 'drop-newest'] as const) {
    test(`and stops reading meets the limits: ${overflow}`, async () => {
      const clock = new ManualClock();
      const broker = makeBroker({ clock, overflow, clientBufferSize: 10 });
      const overflowed: string[] = [];
      broker.on('clientOverflowed', ({ id }, { policy }) => overflowed.push(`${id} ${policy}`));
      const handle = createFetchHandler(broker);
      const stalled = reading(await handle(new Request(URL)));
      await stalled.until('connected');
      const { clientId } = JSON.parse(stalled.events[0]!.data);
      const fine = reading(await handle(new Request(URL)));
      for (let n = 0; n < 100; n++) {
        await broker.broadcast('note', `${n} ${'x'.repeat(5_000)}`);
        await fine.until('note', n + 1);
        expect(broker.getStats().queuedFrames).toBeLessThanOrEqual(10);
      }
      expect(fine.numbers()).toEqual(Array.from({ length: 100 }, (_, i) => i));
      expect(overflowed).toEqual([`${clientId} ${overflow}`]);
      if (overflow === 'disconnect') {
        expect(broker.getStats().disconnects.overflow).toBe(1);
        await expect(stalled.toEnd()).rejects.toThrow('cut by the server');
        return;
      }
      clock.advance(400_000);
      expect(broker.getStats().disconnects.timeout).toBe(1);
      await expect(stalled.toEnd()).rejects.toThrow('cut by the server');
    });
  }
});

describe('a client that leaves', () => {
  test('by its signal: before, during authentication, and while it reads', async () => {
    const broker = makeBroker();
    let release!: () => void;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    let asked = 0;
    const handle = createFetchHandler(broker, {
      authenticator: async () => {
        asked++;
        await gate;
        return {};
      },
    });
    const before = new AbortController();
    before.abort();
    await handle(new Request(URL, { signal: before.signal }));
    expect(asked).toBe(0);

    const during = new AbortController();
    const pending = handle(new Request(URL, { signal: during.signal }));
    await until(() => asked === 1, 'the authenticator to be asked');
    during.abort();
    // It does not wait for the authenticator.
    await pending;
    expect(broker.getStats().totalClients).toBe(0);

    release();
    const later = new AbortController();
    const stream = reading(await handle(new Request(URL, { signal: later.signal })));
    await stream.until('connected');
    expect(broker.getStats().totalClients).toBe(1);
    later.abort();
    expect(broker.getStats().totalClients).toBe(0);
    await stream.toEnd();
    expect(broker.getStats()).toMatchObject({ ending: 0, connects: 1, disconnects: { left: 1 } });
    expect(broker.reported).toEqual([]);
  });

  test('by cancelling the body, also one that nobody ever read', async () => {
    const broker = makeBroker();
    const warnings = collectWarnings();
    const handle = createFetchHandler(broker);
    const controller = new AbortController();
    for (let n = 0; n < 50; n++) {
      // One signal for all, as a test or a proxy may use it: nothing may gather on it.
      const response = await handle(new Request(URL, { signal: controller.signal }));
      if (n % 2 === 0) await response.body!.getReader().read();
      else await response.body!.cancel();
    }
    expect(broker.getStats()).toMatchObject({ totalClients: 25, disconnects: { left: 25 } });
    controller.abort();
    await until(() => broker.getStats().totalClients === 0, 'the others to be gone');
    await broker.broadcast('note', 1);
    expect(broker.reported).toEqual([]);
    expect(warnings).toEqual([]);
  });
});

describe('close()', () => {
  test('waits for readers that are behind, and counts them as ended', async () => {
    const broker = makeBroker();
    const handle = createFetchHandler(broker);
    const streams = await Promise.all(Array.from({ length: 10 }, async () => reading(await handle(new Request(URL)))));
    for (let n = 0; n < 40; n++) await broker.broadcast('note', `${n} ${'x'.repeat(2_000)}`);
    await turn();
    let isClosed = false;
    const closing = broker.close().then((result) => {
      isClosed = true;
      return result;
    });
    await turn();
    expect(isClosed).toBe(false);
    await Promise.all(streams.map((stream) => stream.toEnd()));
    expect(await closing).toEqual({ ended: 10, cut: 0 });
    for (const { events, numbers } of streams) {
      expect(numbers()).toEqual(Array.from({ length: 40 }, (_, i) => i));
      expect(events.at(-1)!.event).toBe('closing');
    }
  });

  test('cuts a reader that takes nothing at its deadline', async () => {
    const broker = makeBroker();
    const handle = createFetchHandler(broker);
    const dead = reading(await handle(new Request(URL)));
    const alive = reading(await handle(new Request(URL)));
    for (let n = 0; n < 40; n++) await broker.broadcast('note', `${n} ${'x'.repeat(2_000)}`);
    const closing = broker.close({ timeoutMs: 100 });
    await alive.toEnd();
    expect(await closing).toEqual({ ended: 1, cut: 1 });
    await expect(dead.toEnd()).rejects.toThrow('cut by the server');
  });
});

test('an empty or refused answer has the status and no stream', async () => {
  const broker = makeBroker();
  const handle = createFetchHandler(broker);
  for (const [init, status] of [
    [{ method: 'HEAD' }, 200],
    [{ method: 'OPTIONS' }, 204],
    [{ method: 'POST', body: 'x' }, 405],
    [{ headers: { accept: 'text/html' } }, 406],
  ] as const) {
    const response = await handle(new Request(URL, init));
    expect(response.status).toBe(status);
    await response.text();
  }
  expect(broker.getStats()).toMatchObject({ totalClients: 0, connects: 0 });
});
