/** How streams begin and end: whoever leaves leaves nothing, and what throws throws alone. */
import { createHook } from 'node:async_hooks';
import http, { type RequestListener, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  type Authenticator,
  type ClientInfo,
  createHandler,
  queryAuthenticator,
  queryTopicResolver,
  SseError,
} from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { ManualClock } from '../support/manual-clock.js';
import { connectRaw, type RawConnection } from '../support/raw.js';
import { serve } from '../support/server.js';
import { openStream } from '../support/stream.js';
import { until } from '../support/until.js';
import { collectWarnings } from '../support/warnings.js';

const ACCEPT = { accept: 'text/event-stream' };

/** Timers that hold the process. */
const activeTimers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;

/** {@link activeTimers} as a condition of `until` sees them when nothing else runs. */
async function timersInUntil(): Promise<number> {
  let looks = 0;
  let timers = 0;
  await until(() => {
    timers = activeTimers();
    return ++looks === 3;
  });
  return timers;
}

/** Timers of `ms` that are set from now on, unreferenced ones too; each knows whether it is over. */
function collectTimers(ms: number): { readonly _idleTimeout: number; readonly _destroyed: boolean }[] {
  const timers: { readonly _idleTimeout: number; readonly _destroyed: boolean }[] = [];
  const hook = createHook({
    init(_asyncId, type, _trigger, resource) {
      const timer = resource as (typeof timers)[number];
      if (type === 'Timeout' && timer._idleTimeout === ms) timers.push(timer);
    },
  }).enable();
  onTestFinished(() => {
    hook.disable();
  });
  return timers;
}

/** An authenticator that answers when told to. */
function gated(answer: Authenticator = () => ({ userId: 'alice' })) {
  let release!: () => void;
  let released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const gate = {
    calls: 0,
    release: () => release(),
    close: () => {
      released = new Promise<void>((resolve) => {
        release = resolve;
      });
    },
    authenticator: (async (req, context) => {
      gate.calls++;
      await released;
      return answer(req, context);
    }) as Authenticator,
  };
  return gate;
}

describe('a client that leaves', () => {
  const moments = ['before', 'during', 'right after'] as const;
  const connections: [string, (connection: RawConnection) => Promise<void> | void][] = [
    ['its first request', (connection) => connection.get()],
    [
      'a kept-alive connection',
      async (connection) => {
        connection.write('DELETE / HTTP/1.1\r\nHost: test\r\n\r\n');
        await connection.has('405');
        connection.get();
      },
    ],
    [
      'pipelined requests',
      (connection) => {
        connection.get();
        connection.get();
        connection.get();
      },
    ],
  ];
  for (const moment of moments) {
    for (const [how, send] of connections) {
      test(`${moment} authentication, on ${how}, 100 times: no client, timer or listener left`, async () => {
        const clock = new ManualClock();
        const broker = makeBroker({ clock });
        const warnings = collectWarnings();
        const gate = gated();
        const handler = createHandler(broker, { authenticator: gate.authenticator });
        let ignored = 0;
        const { port, server } = await serve(
          (req, res) => void (req.url === '/ignored' ? ignored++ : handler(req, res)),
        );
        const sockets: Socket[] = [];
        server.on('connection', (socket) => sockets.push(socket));
        // What Node itself leaves on a connection that was closed before it was answered.
        const plain = await connectRaw(port);
        plain.get('/ignored');
        await until(() => ignored === 1, 'the request');
        plain.destroy();
        await until(() => sockets[0]!.closed, 'the connection to close');
        const listenersOf = (socket: Socket) =>
          socket.eventNames().reduce((total, name) => total + socket.listenerCount(name), 0);
        const usual = listenersOf(sockets[0]!);
        const timers = await timersInUntil();

        for (let batch = 0; batch < 4; batch++) {
          gate.calls = 0;
          gate.close();
          const clients = await Promise.all(Array.from({ length: 25 }, () => connectRaw(port)));
          await Promise.all(clients.map(send));
          if (moment === 'before') {
            for (const client of clients) client.destroy();
          } else {
            await until(() => gate.calls >= 25, 'the authenticator to be asked');
            if (moment === 'during') {
              for (const client of clients) client.destroy();
              await until(() => sockets.every(({ closed }) => closed), 'the connections to close');
            }
          }
          gate.release();
          if (moment === 'right after') for (const client of clients) client.destroy();
          await until(() => sockets.every(({ closed }) => closed), 'the connections to close');
        }

        await until(
          () => broker.getStats().totalClients === 0 && broker.getStats().ending === 0,
          'the clients to be gone',
        );
        await until(() => activeTimers() <= timers, 'the timers to be gone');
        expect(sockets).toHaveLength(101);
        expect(Math.max(...sockets.map(listenersOf))).toBeLessThanOrEqual(usual);
        expect(clock.timers).toBe(0);
        expect(broker.getStats()).toMatchObject({ totalUsers: 0, queuedFrames: 0 });
        expect(broker.isUserOnline('alice')).toBe(false);
        expect(broker.reported).toEqual([]);
        expect(warnings).toEqual([]);
      });
    }
  }

  test('while an authenticator never answers: nobody waits for it any more, and no timer runs', async () => {
    const broker = makeBroker();
    const authenticationTimeout = 54_321;
    const timers = collectTimers(authenticationTimeout);
    const handler = createHandler(broker, { authenticator: () => new Promise(() => {}), authenticationTimeout });
    let open = 0;
    const responses: ServerResponse[] = [];
    const { port } = await serve((req, res) => {
      open++;
      responses.push(res);
      void handler(req, res).then(() => open--);
    });
    const clients = await Promise.all(Array.from({ length: 10 }, () => connectRaw(port)));
    for (const client of clients) client.get();
    await until(() => open === 10, 'the requests');
    expect(timers).toHaveLength(10);
    for (const client of clients) client.destroy();
    await until(() => open === 0, 'the handler to let go');
    expect(timers.every(({ _destroyed }) => _destroyed)).toBe(true);
    expect(responses.map((res) => res.listenerCount('close'))).toEqual(Array(10).fill(0));
    expect(broker.reported).toEqual([]);
  });

  test('and would have been refused is no error of the application', async () => {
    const broker = makeBroker();
    const gate = gated(() => null);
    const { port, server } = await serve(
      createHandler(broker, { authenticator: gate.authenticator }) as RequestListener,
    );
    const sockets: Socket[] = [];
    server.on('connection', (socket) => sockets.push(socket));
    const client = await connectRaw(port);
    client.get();
    await until(() => gate.calls === 1, 'the authenticator to be asked');
    client.destroy();
    await until(() => sockets[0]!.closed, 'the connection to close');
    gate.release();
    await new Promise((resolve) => setImmediate(resolve));
    expect(broker.reported).toEqual([]);
  });
});

describe('what throws, throws alone', () => {
  const boom = () => {
    throw new Error('secret: hunter2');
  };
  const rejects = async () => boom();

  test('listeners of every event', async () => {
    const broker = makeBroker();
    for (const name of ['clientConnected', 'clientDisconnected', 'eventPublished', 'requestRefused'] as const) {
      broker.on(name, boom);
      broker.on(name, rejects);
    }
    broker.on('error', boom);
    const seen: string[] = [];
    broker.on('clientConnected', ({ id }) => seen.push(id));
    const { url } = await serve(createHandler(broker) as RequestListener);
    const [one, two] = await Promise.all([openStream(url), openStream(url)]);
    const refused = await openStream(url, { method: 'DELETE' });
    expect(refused.status).toBe(405);
    await broker.broadcast('note', 1);
    one.close();
    await until(() => broker.getStats().totalClients === 1, 'one to be gone');
    await broker.broadcast('note', 2);
    expect(await two.all('note', 2)).toEqual([1, 2]);
    expect(seen).toHaveLength(2);
    expect(broker.reported.every(({ code }) => code === 'SSE_ERR_LISTENER_FAILED')).toBe(true);
    expect(broker.reported.length).toBeGreaterThanOrEqual(10);
  });

  const callbacks: [string, Parameters<typeof createHandler>[1], number][] = [
    ['an authenticator', { authenticator: boom }, 401],
    ['an authenticator that rejects', { authenticator: rejects }, 401],
    [
      'an authenticator with a status of its own',
      {
        authenticator: () => {
          throw new SseError('SSE_ERR_FORBIDDEN', 'secret: hunter2');
        },
      },
      403,
    ],
    ['an authenticator that gives nonsense', { authenticator: () => 'alice' as never }, 500],
    ['a topic resolver', { topicResolver: boom }, 500],
    ['a topic resolver that rejects', { topicResolver: rejects }, 500],
    ['a topic resolver that gives nonsense', { topicResolver: () => 'a' as never }, 500],
    ['a topic authorisation', { topicResolver: () => ['a'], authorizeTopic: boom }, 500],
    ['a topic authorisation that rejects', { topicResolver: () => ['a'], authorizeTopic: rejects }, 500],
    ['a CORS function', { cors: { origin: boom } }, 500],
    [
      'a refusal function',
      { authenticator: async () => new Promise(() => {}), authenticationTimeout: 1, refusal: boom },
      503,
    ],
  ];
  for (const [name, options, status] of callbacks) {
    test(`${name}: ${status}, without a word of why, and the next request is served`, async () => {
      const broker = makeBroker();
      let isBroken = true;
      const broken = createHandler(broker, options);
      const sound = createHandler(broker);
      const { port } = await serve((req, res) => void (isBroken ? broken : sound)(req, res));
      const connection = await connectRaw(port);
      connection.get('/', 'Origin: https://elsewhere.example\r\n');
      const [refused] = await connection.completed(1);
      expect(refused!.status).toBe(status);
      expect(refused!.head + refused!.body.toString()).not.toMatch(/hunter2|secret|TypeError/);
      expect(broker.reported.length).toBeGreaterThan(0);
      isBroken = false;
      connection.get();
      await connection.has('event: connected');
      await broker.broadcast('note', 'served');
      await connection.has('served');
      expect(broker.getStats().totalClients).toBe(1);
    });
  }

  for (const [name, onConnect] of [
    ['throws', boom],
    ['rejects', rejects],
  ] as const) {
    test(`onConnect that ${name}: the stream stays`, async () => {
      const broker = makeBroker();
      const { url } = await serve(createHandler(broker, { onConnect }) as RequestListener);
      const stream = await openStream(url);
      await stream.next('connected');
      await until(() => broker.reported.length === 1, 'the error');
      await broker.broadcast('note', 'here');
      expect(await stream.next('note')).toBe('here');
    });
  }

  test('a broker that cannot make a client: the request is answered, not left open for ever', async () => {
    let isBroken = true;
    let n = 0;
    const broker = makeBroker({
      createId: () => {
        if (isBroken) boom();
        return `client-${n++}`;
      },
    });
    const { port } = await serve(createHandler(broker) as RequestListener);
    const connection = await connectRaw(port);
    connection.get();
    await until(() => connection.isEnded || connection.responses()[0]?.isComplete, 'an answer or an end');
    expect(broker.reported).toHaveLength(1);
    isBroken = false;
    const next = await connectRaw(port);
    next.get();
    await next.has('client-0');
    expect(broker.getStats().totalClients).toBe(1);
  });

  test('toJSON, and data that has no JSON: the publish rejects, the others arrive', async () => {
    const broker = makeBroker();
    const { url } = await serve(createHandler(broker) as RequestListener);
    const stream = await openStream(url);
    await stream.next('connected');
    const circular: Record<string, unknown> = {};
    circular.self = circular;
    const bad = [{ toJSON: boom }, circular, 1n, undefined, () => {}];
    // Neither awaited nor caught: that alone must not end the process.
    for (const [n, data] of bad.entries()) {
      void broker.broadcast('note', n);
      void broker.broadcast('note', data);
    }
    await expect(broker.broadcast('note', bad[0])).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_DATA' });
    void broker.broadcast('note', 'last');
    expect(await stream.all('note', 6)).toEqual([0, 1, 2, 3, 4, 'last']);
    await until(() => broker.reported.length === 6, 'the errors');
  });
});

test('an object that is changed after publishing is delivered, and replayed, as it was', async () => {
  const broker = makeBroker({ historySize: 10 });
  const { url } = await serve(createHandler(broker) as RequestListener);
  const stream = await openStream(url);
  const { lastEventId } = await until(() => stream.events[0] && { lastEventId: stream.events[0].id! }, 'the cursor');
  const order = { items: ['apple'], total: 1 };
  void broker.broadcast('order', order);
  order.items.push('pear');
  order.total = 2;
  void broker.broadcast('order', order);
  order.items.length = 0;
  const expected = [
    { items: ['apple'], total: 1 },
    { items: ['apple', 'pear'], total: 2 },
  ];
  expect(await stream.all('order', 2)).toEqual(expected);
  const later = await openStream(url, { headers: { 'last-event-id': lastEventId } });
  expect(await later.all('order', 2)).toEqual(expected);
});

test('a socket that closes after its replacement opened takes nothing from it', async () => {
  const broker = makeBroker();
  const handler = createHandler(broker, {
    authenticator: queryAuthenticator(),
    topicResolver: queryTopicResolver(),
  }) as RequestListener;
  const { url } = await serve(handler);
  const target = `${url}/?user_id=alice&tenant_id=acme&topics=job:1`;
  let current = await openStream(target);
  await current.next('connected');
  for (let n = 0; n < 20; n++) {
    const replacement = await openStream(target);
    await replacement.next('connected');
    current.close();
    await until(() => broker.getUserConnectionCount('alice') === 1, 'the old one to be gone');
    current = replacement;
    expect(broker.isUserOnline('alice')).toBe(true);
    expect(broker.tenant('acme').getOnlineUsers()).toEqual(['alice']);
    expect(broker.getTopicConnectionCount('job:1')).toBe(1);
    await broker.sendToUser('alice', 'note', `user ${n}`);
    await broker.tenant('acme').sendToTopic('job:1', 'note', `topic ${n}`);
    expect(await current.all('note', 2)).toEqual([`user ${n}`, `topic ${n}`]);
  }
});

describe('limits while somebody authenticates', () => {
  test('maxConnections is kept, and those beyond it are answered', async () => {
    const broker = makeBroker({ maxConnections: 3 });
    const gate = gated();
    const { port } = await serve(createHandler(broker, { authenticator: gate.authenticator }) as RequestListener);
    const clients = await Promise.all(Array.from({ length: 10 }, () => connectRaw(port)));
    for (const client of clients) client.get();
    await until(() => gate.calls === 10, 'the authenticator to be asked');
    gate.release();
    await until(() => clients.every((client) => client.responses().length === 1), 'ten answers');
    const statuses = clients.map((client) => client.responses()[0]!.status).sort();
    expect(statuses).toEqual([200, 200, 200, 503, 503, 503, 503, 503, 503, 503]);
    expect(broker.getStats()).toMatchObject({ totalClients: 3, refused: 7 });
    expect(broker.reported).toEqual([]);
  });

  test('a broker that closes meanwhile refuses them', async () => {
    const broker = makeBroker();
    const gate = gated();
    const { port } = await serve(createHandler(broker, { authenticator: gate.authenticator }) as RequestListener);
    const connection = await connectRaw(port);
    connection.get();
    await until(() => gate.calls === 1, 'the authenticator to be asked');
    await broker.close();
    gate.release();
    const [refused] = await connection.completed(1);
    expect(refused!.status).toBe(503);
    expect(refused!.headers['retry-after']).toMatch(/^\d+$/);
  });
});

describe('listeners that end what they are told about', () => {
  test('at clientConnected: the response is complete, and says why', async () => {
    const broker = makeBroker();
    broker.on('clientConnected', ({ id }) => broker.disconnect(id, 'not you'));
    const { port } = await serve(createHandler(broker, { onConnect: () => {} }) as RequestListener);
    const connection = await connectRaw(port);
    connection.get();
    const [response] = await connection.completed(1);
    expect(response!.body.toString()).toMatch(
      /event: closing\ndata: {"reason":"disconnected","message":"not you"}\n\n$/,
    );
    expect(broker.reported).toEqual([]);
    expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 0 });
  });

  for (const overflow of ['disconnect', 'drop-oldest', 'drop-newest'] as const) {
    for (const name of ['clientOverflowed', 'gapTold'] as const) {
      if (name === 'gapTold' && overflow === 'disconnect') continue;
      test(`at ${name}, with ${overflow}: the stream ends, nothing is counted as waiting, nothing follows the end`, async () => {
        const broker = makeBroker({ overflow, clientBufferSize: 4, clientBufferBytes: 0 });
        const told: string[] = [];
        const disconnect = ({ id }: ClientInfo) => {
          told.push(id);
          void broker.disconnect(id, 'too slow');
        };
        if (name === 'gapTold') broker.on(name, disconnect);
        else broker.on(name, disconnect);
        const { port } = await serve(createHandler(broker) as RequestListener);
        const stalled = await connectRaw(port, { paused: true });
        stalled.get();
        await until(() => broker.getStats().totalClients === 1, 'the client');
        while (broker.getStats().dropped === 0 && broker.getStats().totalClients === 1) {
          for (let n = 0; n < 20; n++) void broker.broadcast('note', 'x'.repeat(100_000));
          await new Promise((resolve) => setImmediate(resolve));
        }
        stalled.resume();
        await until(() => told.length > 0, name);
        await until(
          () => broker.getStats().totalClients === 0 && broker.getStats().ending === 0,
          'the end of the stream',
        );
        expect(broker.getStats()).toMatchObject({ queuedFrames: 0, queuedBytes: 0 });
        if (overflow === 'disconnect') {
          await stalled.ended();
        } else {
          const [response] = await stalled.completed(1);
          expect(response!.body.toString()).toMatch(
            /event: closing\ndata: {"reason":"disconnected","message":"too slow"}\n\n$/,
          );
          expect(response!.rest.length).toBe(0);
        }
        expect(broker.reported).toEqual([]);
      });
    }
  }
});

describe('close()', () => {
  test('ends live streams with closing and a time to come back, spread over the window', async () => {
    const broker = makeBroker();
    const { url, server } = await serve(createHandler(broker) as RequestListener);
    const agent = new http.Agent({ keepAlive: true });
    onTestFinished(() => agent.destroy());
    const streams = await Promise.all(Array.from({ length: 200 }, () => openStream(url, { agent, headers: ACCEPT })));
    await until(() => broker.getStats().totalClients === 200, 'the clients');
    for (let n = 0; n < 3; n++) void broker.broadcast('note', n);
    const result = await broker.close({ reconnectWithinMs: 8_000 });
    expect(result).toEqual({ ended: 200, cut: 0 });
    await Promise.all(streams.map((stream) => stream.ended()));
    for (const { events } of streams) {
      expect(events.map(({ event }) => event)).toEqual(['connected', 'note', 'note', 'note', 'closing']);
      expect(JSON.parse(events.at(-1)!.data)).toEqual({ reason: 'shutdown' });
    }
    const retries = streams.map((stream) => stream.retry()!);
    // From a fifth of the window to its end: 200 draws miss an eighth of that once in 10^11 runs.
    const [earliest, latest] = [1_600, 8_000];
    const eighth = (latest - earliest) / 8;
    const drawn = new Set(retries.map((ms) => Math.min(7, Math.floor((ms - earliest) / eighth))));
    expect([...drawn].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    await new Promise((resolve) => server.close(resolve));
    await expect(broker.broadcast('note', 1)).rejects.toMatchObject({ code: 'SSE_ERR_BROKER_CLOSED' });
    expect(await broker.close()).toBe(result);
  });

  test('with live, stalled, half-open and pipelined clients ends within its deadline, and so does the server', async () => {
    const clock = new ManualClock();
    // The real clock for the deadline: only heartbeats must not help.
    const broker = makeBroker({ overflow: 'drop-oldest' });
    const { port, url, server } = await serve(createHandler(broker) as RequestListener);
    const live = await openStream(url);
    const stalled = await connectRaw(port, { paused: true });
    stalled.get();
    const halfOpen = await connectRaw(port, { paused: true, allowHalfOpen: true });
    halfOpen.get();
    const pipelined = await connectRaw(port, { paused: true });
    pipelined.get();
    pipelined.get();
    await until(() => broker.getStats().totalClients === 5, 'the clients');
    // More than the kernels of both sides take, for those who do not read.
    while ([...broker.getClients()].filter(({ queuedFrames }) => queuedFrames > 0).length < 4) {
      await broker.broadcast('note', 'x'.repeat(100_000));
      await new Promise((resolve) => setImmediate(resolve));
    }
    halfOpen.socket.end();
    const startedAt = performance.now();
    const { ended, cut } = await broker.close({ timeoutMs: 300 });
    expect(performance.now() - startedAt).toBeLessThan(1_300);
    expect([ended, cut]).toEqual([1, 4]);
    await live.ended();
    expect(JSON.parse(live.events.at(-1)!.data)).toEqual({ reason: 'shutdown' });
    await new Promise((resolve) => server.close(resolve));
    expect(performance.now() - startedAt).toBeLessThan(2_000);
    expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 0, queuedFrames: 0, isRunning: false });
    expect(clock.timers).toBe(0);
  });

  test('with nonsense refuses, and can be called again', async () => {
    const broker = makeBroker();
    const { url } = await serve(createHandler(broker) as RequestListener);
    const stream = await openStream(url);
    await stream.next('connected');
    await expect(broker.close({ timeoutMs: -1 })).rejects.toMatchObject({ code: 'SSE_ERR_INVALID_OPTION' });
    expect(await broker.close()).toEqual({ ended: 1, cut: 0 });
    await stream.ended();
  });
});
