/** From the stream to handlers: order, waiting, duplicates, gaps, iteration, and handlers that fail. */
import http from 'node:http';
import fc from 'fast-check';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createCursor } from '../../src/client/cursor.js';
import { createDelivery } from '../../src/client/delivery.js';
import {
  SSEClient,
  type SSEClientConfig,
  type SSEClientError,
  type SSEEvent,
  type SSEGap,
} from '../../src/client/index.js';
import { resolveOptions } from '../../src/client/options.js';
import { createHandler, createPollHandler, queryAuthenticator } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { type Behaviour, eventText, headThenEnd, inTurn, startFaultServer, stream } from '../support/fault-server.js';
import { listen } from '../support/server.js';
import { until } from '../support/until.js';

/** A stream that is written to by the test. */
async function startScript(config: SSEClientConfig = {}) {
  let write: (text: string) => void = () => {};
  const behaviour: Behaviour = ({ res }) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    res.flushHeaders();
    write = (text) => res.write(text);
  };
  const server = await startFaultServer(behaviour);
  const client = new SSEClient({ url: `${server.url}/events`, reconnectInterval: 20, ...config });
  onTestFinished(() => client.destroy());
  client.connect();
  await until(() => client.getStatus().connected, 'connected');
  const received = async (count: number) =>
    until(() => client.getStats().messagesReceived === count, `${count} events`);
  return { server, client, write: (text: string) => write(text), received };
}

const note = (n: number, event = 'note') => eventText(String(n), { id: String(n), event });

test('against the broker: types, ids, counters, and what was missed after a cut', async () => {
  const broker = makeBroker({ historySize: 100, retry: 20, heartbeatInterval: 500 });
  const authenticator = queryAuthenticator();
  const server = http.createServer((req, res) => {
    const handler = req.url?.startsWith('/poll') ? createPollHandler : createHandler;
    void handler(broker, { authenticator })(req, res);
  });
  const running = await listen(server);
  onTestFinished(() => running.close());
  const client = new SSEClient<{ note: { n: number } }>({ url: `${running.url}/stream?user_id=alice` });
  onTestFinished(() => client.destroy());
  const seen: number[] = [];
  client.subscribe('note', ({ n }, event) => {
    expect(event).toEqual({ type: 'note', data: { n }, id: event.id, lastEventId: event.id });
    seen.push(n);
  });
  client.connect();
  await until(() => client.getStatus().connected && client.lastEventId, 'connected');
  for (let n = 1; n <= 3; n++) await broker.sendToUser('alice', 'note', { n });
  await until(() => seen.length === 3, 'three');
  server.closeAllConnections();
  for (let n = 4; n <= 6; n++) await broker.sendToUser('alice', 'note', { n });
  await until(() => seen.length === 6, 'all');
  expect(seen).toEqual([1, 2, 3, 4, 5, 6]);
  expect(client.getStats()).toMatchObject({
    reconnectCount: 1,
    messagesReceived: 8,
    duplicates: 0,
    gaps: 0,
    transport: 'stream',
  });
  client.disconnect();
  await until(() => broker.getStats().totalClients === 0, 'the stream to be gone');
});

test('handlers get data and event; message gets every event; a type that is called like one of ours is a type', async () => {
  const { client, write } = await startScript();
  const seen: unknown[] = [];
  client.on('message', ({ type }) => seen.push(['message', type]));
  client.on('note', (data, { id, lastEventId }) => seen.push([data, id, lastEventId]));
  client.subscribe('error', (data) => seen.push(['type error', data]));
  client.on('error', (error) => seen.push(error));
  write('id: 7\nevent: note\ndata: {"a":1}\n\ndata: no id\n\nevent: error\ndata: "x"\n\n');
  await until(() => seen.length === 5, 'all');
  expect(seen).toEqual([
    ['message', 'note'],
    [{ a: 1 }, '7', '7'],
    ['message', 'message'],
    ['message', 'error'],
    ['type error', 'x'],
  ]);
});

test('data is the JSON value, or the text where it is not JSON', async () => {
  const { client, write } = await startScript();
  const seen: unknown[] = [];
  client.on('message', ({ data }) => seen.push(data));
  const texts = ['{"a":[1]}', '-1.5', ' true ', 'null', '"x"', 'truex', '{broken', '', '12 apples', 'NaN'];
  for (const text of texts) write(`data: ${text}\n\n`);
  await until(() => seen.length === texts.length, 'all');
  expect(seen).toEqual([{ a: [1] }, -1.5, true, null, 'x', 'truex', '{broken', '', '12 apples', 'NaN']);
});

test('parse replaces that; where it throws the text goes out, and the error is told', async () => {
  const errors: SSEClientError[] = [];
  const { client, write } = await startScript({
    parse: (text, { type, id }) => {
      if (text === 'bad') throw new Error('mine');
      return [text, type, id];
    },
  });
  const seen: unknown[] = [];
  client.on('error', (error) => errors.push(error));
  client.on('message', ({ data }) => seen.push(data));
  write('id: 1\ndata: 5\n\ndata: bad\n\n');
  await until(() => seen.length === 2, 'both');
  expect(seen).toEqual([['5', 'message', '1'], 'bad']);
  expect(errors).toMatchObject([{ code: 'SSE_CLIENT_CALLBACK' }]);
});

test('a handler that throws or rejects fails alone', async () => {
  const { client, write } = await startScript();
  const errors: SSEClientError[] = [];
  const seen: unknown[] = [];
  client.on('error', (error) => errors.push(error));
  client.subscribe('note', () => {
    throw new Error('thrown');
  });
  client.subscribe('note', () => Promise.reject(new Error('rejected')));
  client.subscribe('note', (data) => seen.push(data));
  write(note(1) + note(2));
  await until(() => seen.length === 2 && errors.length === 4, 'all');
  expect(errors[0]).toMatchObject({ code: 'SSE_CLIENT_HANDLER', cause: { message: 'thrown' } });
  expect(client.getStatus().connected).toBe(true);
});

test('an error that nobody listens for, and one of an error handler, are shown', async () => {
  const shown = vi.spyOn(console, 'error').mockImplementation(() => {});
  onTestFinished(() => shown.mockRestore());
  const { client, write } = await startScript();
  client.subscribe('note', () => {
    throw new Error('thrown');
  });
  write(note(1));
  await until(() => shown.mock.calls.length === 1, 'the first');
  client.on('error', () => {
    throw new Error('again');
  });
  write(note(2));
  await until(() => shown.mock.calls.length === 2, 'the second');
});

test('subscribe gives its own undo, unsubscribe takes all or one, once is once', async () => {
  const { client, write, received } = await startScript({ messageQueueSize: 0 });
  const seen: string[] = [];
  const twice = () => seen.push('twice');
  const off = client.subscribe('note', twice);
  client.subscribe('note', twice);
  client.once('note', () => seen.push('once'));
  const self = client.subscribe('note', () => {
    seen.push('self');
    self();
    // Gone with the event that is under way.
    client.unsubscribe('note', late);
  });
  const late = () => seen.push('late');
  client.subscribe('note', late);
  write(note(1));
  await received(1);
  expect(seen).toEqual(['twice', 'twice', 'once', 'self']);
  off();
  off();
  write(note(2));
  await received(2);
  expect(seen.slice(4)).toEqual(['twice']);
  client.unsubscribe('note');
  write(note(3));
  await received(3);
  expect(seen).toHaveLength(5);
});

test('events wait for a handler, in order, also beside those of the same chunk', async () => {
  const { client, write, received } = await startScript();
  write(note(1) + note(2, 'other') + note(3));
  await received(3);
  const seen: unknown[] = [];
  client.subscribe('first', () => {
    client.subscribe('note', (data) => seen.push(data));
  });
  write(note(4, 'first') + note(5));
  await until(() => seen.length === 3, 'notes');
  expect(seen).toEqual([1, 3, 5]);
  client.on('message', ({ data }) => seen.push(data));
  await until(() => seen.length === 4, 'the other');
  expect(seen.at(-1)).toBe(2);
});

test.each([
  ['drop-oldest', [3, 4]],
  ['drop-newest', [1, 2]],
] as const)('%s keeps %j of four in a queue of two', async (messageQueuePolicy, kept) => {
  const { client, write, received } = await startScript({ messageQueueSize: 2, messageQueuePolicy });
  write(note(1) + note(2) + note(3) + note(4));
  await received(4);
  expect(client.getStats().dropped).toBe(2);
  const seen: unknown[] = [];
  client.subscribe('note', (data) => seen.push(data));
  await until(() => seen.length === 2, 'what was kept');
  expect(seen).toEqual(kept);
});

test('pause and resume keep the order; clearQueue says how many it threw away', async () => {
  const { client, write, received } = await startScript();
  const seen: unknown[] = [];
  client.subscribe('note', (data) => {
    seen.push(data);
    if (data === 2) client.pause();
  });
  client.pause();
  write(note(1) + note(2) + note(3));
  await received(3);
  expect(seen).toEqual([]);
  client.resume();
  expect(seen).toEqual([1, 2]);
  expect(client.clearQueue()).toBe(1);
  client.resume();
  write(note(4));
  await until(() => seen.length === 3, 'the fourth');
});

test('more events than wait while paused are a gap, told before the next', async () => {
  const { client, write, received } = await startScript({ messageQueueSize: 2 });
  const seen: unknown[] = [];
  client.on('gap', ({ reason, local, resumedFrom }) => seen.push({ reason, local, resumedFrom }));
  client.subscribe('note', (data) => seen.push(data));
  client.pause();
  write(note(1) + note(2) + note(3) + note(4));
  await received(4);
  client.resume();
  expect(seen).toEqual([{ reason: 'overflow', local: true, resumedFrom: '2' }, 3, 4]);
  expect(client.getStats()).toMatchObject({ dropped: 2, gaps: 1 });
});

test('what an earlier connection brought is left out and counted, for at least the last thousand ids', async () => {
  const { server, client, write, received } = await startScript();
  const seen: unknown[] = [];
  client.subscribe('note', (data) => seen.push(data));
  let text = '';
  for (let n = 1; n <= 1_001; n++) text += note(n);
  write(text);
  await received(1_001);
  server.cutAll();
  await until(() => server.requests.length === 2 && client.getStatus().connected, 'connected again');
  write(note(2) + note(1_001) + note(1_002));
  await received(1_002);
  expect(client.getStats().duplicates).toBe(2);
  expect(seen).toEqual(Array.from({ length: 1_002 }, (_, i) => i + 1));
  expect(client.lastEventId).toBe('1002');
});

test('several events of one connection may have one id', async () => {
  const { client, write } = await startScript();
  const seen: unknown[] = [];
  client.subscribe('note', (data) => seen.push(data));
  write(note(1) + note(1) + note(2) + note(1));
  await until(() => seen.length === 4, 'four');
  expect(client.getStats().duplicates).toBe(0);
});

test('ids of any shape are new once over connections: rising or not, of a new epoch, with zeros, longer than a number', () => {
  const id = fc.oneof(
    fc.nat(40).map((n) => `k3-${n}`),
    fc.nat(12).map((n) => `k4-${n}`),
    fc.constantFrom('k3-', 'k3-07', 'k3-7', 'k3-007', 'k3-7x', 'k3-x7', 'k3- 7', 'k3-1e1', '7', '07', '世7'),
    fc.constantFrom('k3-9007199254740993', 'k3-9007199254740992', `k3-${'9'.repeat(400)}`, `k3-${'9'.repeat(401)}`),
  );
  const rising = fc
    .uniqueArray(fc.nat(2_000), { maxLength: 60 })
    .map((list) => list.sort((a, b) => a - b).map((n) => `k3-${n}`));
  fc.assert(
    fc.property(rising, fc.array(id, { maxLength: 60 }), (first, then) => {
      const taken: (string | undefined)[] = [];
      const options = resolveOptions({});
      const delivery = createDelivery(
        () => options,
        createCursor(() => options),
        {
          dispatch: (event) => taken.push(event.id) > 0,
          error: () => {},
          gap: () => {},
        },
      );
      const ids = [...first, ...then];
      for (const [index, one] of ids.entries()) {
        delivery.block('note', '1', one);
        // At the end of a chunk, or in the middle of one.
        if (index % 2 === 0) delivery.took(1);
        delivery.renew();
      }
      expect(taken).toEqual([...new Set(ids)]);
      expect(delivery.counts.duplicates).toBe(ids.length - taken.length);
    }),
    { numRuns: 500 },
  );
});

test.each([1, 50, 3_000])(
  'what is remembered of ids, %i in a chunk, is bounded, and reaches back a thousand',
  (perChunk) => {
    for (const idOf of [(n: number) => `k3-${n}`, (n: number) => `${n}-k3`]) {
      const options = resolveOptions({});
      const delivery = createDelivery(
        () => options,
        createCursor(() => options),
        {
          dispatch: () => true,
          error: () => {},
          gap: () => {},
        },
      );
      for (let n = 1; n <= 20_000; n++) {
        delivery.block('note', '1', idOf(n));
        if (n % perChunk === 0) delivery.took(1);
        if (n % 7_000 === 0) delivery.renew();
      }
      delivery.renew();
      expect(delivery.block('note', '1', idOf(20_000 - 999))).toBeUndefined();
      // Long forgotten: whoever remembers everything grows for ever.
      expect(delivery.block('note', '1', idOf(1))).toBeDefined();
    }
  },
);

test('with enableDedup false everything is delivered', async () => {
  const { write, received } = await startScript({ enableDedup: false });
  write(note(1) + note(1));
  await received(2);
});

test('a connected event with the id that the client came with is no duplicate', async () => {
  const hello = eventText('{}', { id: '1', event: 'connected' });
  const server = await startFaultServer(inTurn(headThenEnd(note(1)), stream(hello)));
  const client = new SSEClient({ url: `${server.url}/events`, reconnectInterval: 20 });
  onTestFinished(() => client.destroy());
  client.connect();
  await until(() => client.getStats().messagesReceived === 2, 'both');
  expect(client.getStats().duplicates).toBe(0);
});

test('a gap comes with a helper: events wait until the snapshot is there; a newer one takes over', async () => {
  const { client, write, received } = await startScript();
  const seen: unknown[] = [];
  const loads: { signal: AbortSignal; done: (value: string) => void }[] = [];
  const results: unknown[] = [];
  client.on('gap', (gap: SSEGap) => {
    const load = (signal: AbortSignal) => new Promise<string>((done) => loads.push({ signal, done }));
    void gap.refetch(load).then((value) => seen.push(value));
    results.push([gap.reason, gap.requested, gap.resumedFrom]);
  });
  client.subscribe('note', (data) => seen.push(data));
  const gap = eventText('{"reason":"evicted","requested":"1","resumedFrom":"5"}', { event: 'gap' });
  write(gap + note(6) + gap + note(7));
  await received(4);
  expect(results).toEqual([
    ['evicted', '1', '5'],
    ['evicted', '1', '5'],
  ]);
  expect(loads.map(({ signal }) => signal.aborted)).toEqual([true, false]);
  loads[0]!.done('old');
  await until(() => seen.length === 2, 'the first load');
  // What came before the second gap does not wait for a snapshot that is newer.
  expect(seen).toEqual([6, 'old']);
  loads[1]!.done('new');
  await until(() => seen.length === 4, 'the rest');
  expect(seen).toEqual([6, 'old', 7, 'new']);
});

test('a gap of rubbish is a gap', async () => {
  const { client, write } = await startScript();
  const gaps: SSEGap[] = [];
  client.on('gap', (gap) => gaps.push(gap));
  write(
    'event: gap\ndata: null\n\nevent: gap\ndata: text\n\nevent: connected\ndata: null\n\nevent: connected\ndata: {"heartbeatInterval":"x"}\n\n',
  );
  await until(() => gaps.length === 2, 'gaps');
  expect(gaps[0]).toMatchObject({ reason: 'unknown', requested: null, resumedFrom: null });
});

test('iteration: some types, over reconnects, until disconnect()', async () => {
  const server = await startFaultServer(inTurn(headThenEnd(note(1) + note(2, 'other')), stream(note(3), note(4))));
  const client = new SSEClient({ url: `${server.url}/events`, reconnectInterval: 20 });
  onTestFinished(() => client.destroy());
  const seen: unknown[] = [];
  const loop = (async () => {
    for await (const event of client.events({ types: ['note'] })) {
      seen.push(event.data);
      if (event.data === 4) client.disconnect();
    }
  })();
  client.connect();
  await loop;
  expect(seen).toEqual([1, 3, 4]);
});

test('iteration ends with its signal, with break, with return() while it waits; and throws when the client gives up', async () => {
  const { client, write, received } = await startScript();
  const controller = new AbortController();
  const waiting = client.events({ signal: controller.signal }).next();
  controller.abort();
  expect(await waiting).toEqual({ done: true, value: undefined });
  const iterator = client.events();
  const next = iterator.next();
  await iterator.return?.();
  expect((await next).done).toBe(true);
  write(note(1) + note(2));
  await received(2);
  for await (const event of client.events()) {
    expect(event.data).toBe(1);
    break;
  }
  expect(await client.events({ signal: AbortSignal.abort() }).next()).toEqual({ done: true, value: undefined });

  const server = await startFaultServer(({ res }) => void res.writeHead(400).end());
  const failing = new SSEClient({ url: server.url });
  const lost = failing.events().next();
  failing.connect();
  await expect(lost).rejects.toMatchObject({ code: 'SSE_CLIENT_STATUS' });
});

test('a loop that is slow holds the stream back, loses nothing, and is no silence', async () => {
  let sent = 0;
  const behaviour: Behaviour = ({ res, signal }) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    const pump = () => {
      while (!signal.aborted && sent < 20_000)
        if (!res.write(eventText(JSON.stringify([++sent, 'x'.repeat(1_000)])))) break;
    };
    res.on('drain', pump);
    pump();
  };
  const server = await startFaultServer(behaviour);
  const client = new SSEClient({ url: server.url, heartbeatInterval: 500, heartbeatTimeout: 500, enableDedup: false });
  onTestFinished(() => client.destroy());
  client.connect();
  const events = client.events() as AsyncIterableIterator<SSEEvent<[number, string]>>;
  await events.next();
  const at = performance.now();
  await until(() => performance.now() - at > 1_300, 'some silence');
  expect(client.getStatus().connected).toBe(true);
  // What is on its way in sockets and the runtime comes on top of what waits here.
  expect(client.getStats().messagesReceived).toBeLessThan(2_000);
  let expected = 1;
  for await (const { data } of events) {
    expect(data[0]).toBe(++expected);
    if (expected === 20_000) break;
  }
  expect(client.getStats().dropped).toBe(0);
});

test('destroy() is the end: no handlers, no connect()', async () => {
  const { client, write, server } = await startScript();
  client.subscribe('note', () => expect.unreachable());
  write(note(1));
  client.destroy();
  client.destroy();
  expect(() => client.connect()).toThrow(expect.objectContaining({ code: 'SSE_CLIENT_DESTROYED' }));
  await until(() => server.openResponses === 0, 'the stream to be gone');
});

test('connect() with a new address goes there with the last id; again with the same it does nothing', async () => {
  const { client, write, received, server } = await startScript();
  write(note(1));
  await received(1);
  const other = await startFaultServer(stream(note(2)));
  client.connect(`${other.url}/events`);
  await received(2);
  client.connect(`${other.url}/events`);
  client.connect();
  await until(() => server.openResponses === 0, 'the old stream to be gone');
  expect(other.requests.map(({ headers }) => headers['last-event-id'])).toEqual(['1']);
});

test.each([
  [{ url: '/', reconnectInterval: -1 }, 'reconnectInterval'],
  [{ url: '/', maxEventBytes: Number.NaN }, 'maxEventBytes'],
  [{ url: '/', reconnectInterval: '1000' }, 'reconnectInterval'],
  [{ url: '/', messageQueueSize: true }, 'messageQueueSize'],
  [{ url: '/', reconnectDecay: 0.5 }, 'reconnectDecay'],
  [{ url: '/', messageQueuePolicy: 'drop-all' }, 'messageQueuePolicy'],
  [{ url: '/', persistLastEventId: 'cookie' }, 'persistLastEventId'],
  [{ url: '/', recconect: true }, 'recconect'],
  [{ url: '/', urls: ['/'] }, 'urls'],
  [{ url: '/', parse: 'json' }, 'parse'],
  [{ url: '/', decide: 'retry' }, 'decide'],
  [{ url: '/', fetch: {} }, 'fetch'],
  [{ url: '/', name: () => 'mine' }, 'name'],
])('settings %j are refused by name', (config, name) => {
  const make = () => new SSEClient(config as SSEClientConfig);
  expect(make).toThrow(expect.objectContaining({ code: 'SSE_CLIENT_OPTION', message: expect.stringContaining(name) }));
});

test.each(['http://', '/stream', 'http://localhost:port/stream'])(
  'an address that cannot be one is refused by connect(): %s',
  (url) => {
    // Outside of pages nothing says what a relative address is relative to. Making the client is fine, for pages to come.
    for (const config of [{ url }, { urls: [() => 'http://localhost:1/', url] }]) {
      const client = new SSEClient(config);
      expect(() => client.connect()).toThrow(
        expect.objectContaining({ code: 'SSE_CLIENT_OPTION', message: expect.stringContaining(url) }),
      );
      expect(client.getStatus().status).toBe('disconnected');
    }
  },
);
