/** What a stream that only waits costs: no listener beyond the necessary ones, no timer, nothing of its request. */
import { createHook } from 'node:async_hooks';
import { EventEmitter } from 'node:events';
import http, { type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { createHandler, type HandlerOptions, queryAuthenticator, queryTopicResolver } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { startChild } from '../support/child.js';
import { connectRaw } from '../support/raw.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';
import { CostlySink } from './costly-sink.js';
import type { FromQuietServer } from './quiet-server.js';

const OPTIONS: HandlerOptions = {
  authenticator: async (req, context) => queryAuthenticator()(req, context),
  topicResolver: async (req, identity, context) => queryTopicResolver()(req, identity, context),
  authorizeTopic: async () => true,
  onConnect: () => {},
};

/** Listeners by event, on request, response and socket, once the stream is open. */
async function listenersOf(handler: RequestListener) {
  let seen: { req: IncomingMessage; res: ServerResponse; socket: Socket } | undefined;
  const { port } = await serve((req, res) => {
    seen = { req, res, socket: req.socket };
    handler(req, res);
  });
  const connection = await connectRaw(port);
  connection.get('/?user_id=alice&topics=a,b');
  await connection.has('\n\n');
  // What is removed a turn later counts as removed.
  await new Promise((resolve) => setImmediate(resolve));
  const { req, res, socket } = seen!;
  const count = (emitter: EventEmitter) =>
    Object.fromEntries(emitter.eventNames().map((name) => [String(name), emitter.listenerCount(name)]));
  return { req: count(req), res: count(res), socket: count(socket) };
}

/** What anybody would write first. */
const plain: RequestListener = (req, res) => {
  req.resume();
  res.writeHead(200, { 'Content-Type': 'text/event-stream' });
  res.flushHeaders();
  res.write(':\n\n');
};

test('an open stream has two listeners more than a plain response: its close, and its error', async () => {
  const expected = await listenersOf(plain);
  const actual = await listenersOf(createHandler(makeBroker(), OPTIONS) as RequestListener);
  expect(actual.req).toEqual(expected.req);
  expect(actual.socket).toEqual(expected.socket);
  const { close = 0, error = 0 } = expected.res;
  expect(actual.res).toEqual({ ...expected.res, close: close + 1, error: error + 1 });
});

test('compressing and replaying add none', async () => {
  const broker = makeBroker({ historySize: 10 });
  await broker.broadcast('note', 1);
  const expected = await listenersOf(createHandler(makeBroker(), OPTIONS) as RequestListener);
  const handler = createHandler(broker, { ...OPTIONS, compression: 'gzip' });
  const actual = await listenersOf((req, res) => {
    req.headers['last-event-id'] = 'x-1';
    void handler(req, res);
  });
  expect(actual).toEqual(expected);
});

test('the listeners of two streams are the same functions: none is made for each', async () => {
  const handler = createHandler(makeBroker(), OPTIONS);
  const responses: ServerResponse[] = [];
  const { port } = await serve((req, res) => {
    responses.push(res);
    void handler(req, res);
  });
  for (const n of [1, 2]) {
    const connection = await connectRaw(port);
    connection.get(`/?user_id=u${n}`);
    await connection.has('connected');
  }
  const [first, second] = responses;
  for (const name of ['close', 'error']) {
    expect(second!.listeners(name).at(-1)).toBe(first!.listeners(name).at(-1));
  }
});

/** Timers that are set from now on, unreferenced ones too. */
function collectTimers(): { readonly _destroyed: boolean; readonly _idleTimeout: number }[] {
  const timers: { readonly _destroyed: boolean; readonly _idleTimeout: number }[] = [];
  const hook = createHook({
    init(_asyncId, type, _trigger, resource) {
      if (type === 'Timeout') timers.push(resource as (typeof timers)[number]);
    },
  }).enable();
  onTestFinished(() => {
    hook.disable();
  });
  return timers;
}

test('a thousand streams have one timer together, and the last one takes it along', async () => {
  const broker = makeBroker({ heartbeatInterval: 7_777 * 2, maxConnectionAge: 60_000 });
  const timers = collectTimers();
  const sinks = Array.from({ length: 1_000 }, (_, n) => {
    const sink = new CostlySink();
    broker.connect({ sink, identity: { userId: `u${n}`, expiresAt: Date.now() + 1_000_000 } });
    return sink;
  });
  const open = () => timers.filter(({ _destroyed }) => !_destroyed);
  expect(open().length).toBe(1);
  for (const sink of sinks) sink.owner!.closed();
  expect(open().length).toBe(0);
});

test('a hundred real streams leave no timer of their own behind, authentication and all', async () => {
  const broker = makeBroker({ heartbeatInterval: 0, clientTimeout: 0 });
  // What Node keeps for its connections is not ours: a server that checks nothing.
  const handler = createHandler(broker, { ...OPTIONS, authenticationTimeout: 54_321 });
  const { port } = await serve(handler as RequestListener, { connectionsCheckingInterval: 1_000_000 });
  const timers = collectTimers();
  for (let n = 0; n < 100; n++) (await connectRaw(port)).get(`/?user_id=u${n}&topics=a`);
  await until(() => broker.getStats().totalClients === 100, 'all of them');
  const authentication = timers.filter(({ _idleTimeout }) => _idleTimeout === 54_321);
  expect(authentication.length).toBe(0);
  const own = timers.filter(({ _destroyed, _idleTimeout }) => !_destroyed && _idleTimeout > 5);
  expect(own.length).toBeLessThan(3);
});

test('while a stream is open, nothing of its request but what Node itself keeps can still be reached', {
  timeout: 60_000,
}, async () => {
  const server = await startChild<FromQuietServer>('test/fanout/quiet-server.ts');
  const { port } = (await server.next(30_000)) as { port: number };
  for (let n = 1; n <= 3; n++) {
    const req = http.get({
      port,
      host: '127.0.0.1',
      agent: false,
      headers: { 'X-User': `u${n}`, 'Last-Event-ID': 'x-1' },
    });
    onTestFinished(() => {
      req.destroy();
    });
    const res = await new Promise<IncomingMessage>((resolve, reject) => {
      req.on('response', resolve);
      req.on('error', reject);
    });
    res.resume();
    server.send({ streams: n });
    expect(await server.next(30_000)).toEqual({ held: [], clients: n, timers: expect.any(Number) });
  }
});

test('an emitter is not made for a client', () => {
  const broker = makeBroker({ heartbeatInterval: 0, clientTimeout: 0 });
  let made = 0;
  const { init } = EventEmitter as unknown as { init: (...args: unknown[]) => void };
  (EventEmitter as unknown as { init: unknown }).init = function counted(this: unknown, ...args: unknown[]) {
    made++;
    return init.apply(this, args);
  };
  onTestFinished(() => {
    (EventEmitter as unknown as { init: unknown }).init = init;
  });
  new EventEmitter();
  expect(made).toBe(1);
  for (let n = 0; n < 10; n++) broker.connect({ sink: new CostlySink(), topics: ['a'] });
  expect(made).toBe(1);
});
