/** Event streams over HTTP/2: many on one session, each with its own flow control, none in the way of another. */
import http2, {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';
import { gunzipSync } from 'node:zlib';
import compression from 'compression';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createHandler, queryAuthenticator } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { ManualClock } from '../support/manual-clock.js';
import { listen } from '../support/server.js';
import { until } from '../support/until.js';
import { collectWarnings } from '../support/warnings.js';

const { NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR } = http2.constants;
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A server without TLS, and its sessions. */
async function serve(listener: (req: Http2ServerRequest, res: Http2ServerResponse) => void) {
  const server = http2.createServer(listener);
  const sessions: ServerHttp2Session[] = [];
  server.on('session', (session) => sessions.push(session));
  const { url } = await listen(server);
  onTestFinished(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const session of sessions) session.destroy();
    await closed;
  });
  return { url, server, sessions };
}

async function connect(url: string): Promise<ClientHttp2Session> {
  const session = http2.connect(url);
  session.on('error', () => {});
  onTestFinished(() => session.destroy());
  await new Promise((resolve) => session.once('connect', resolve));
  // The session's window is for all of its streams: as in a browser, it is large.
  session.setLocalWindowSize(64 * 1024 * 1024);
  return session;
}

/** Reads one stream; paused, it grants no more than its window. */
function open(session: ClientHttp2Session, path = '/', { paused = false, headers = {}, endStream = true } = {}) {
  const stream: ClientHttp2Stream = session.request(
    { ':path': path, accept: 'text/event-stream', ...headers },
    { endStream },
  );
  const events: EventSourceMessage[] = [];
  const chunks: Buffer[] = [];
  const parser = createParser({ onEvent: (event) => events.push(event) });
  const decoder = new TextDecoder();
  let status = 0;
  let isEnded = false;
  stream.on('response', (received) => {
    status = received[':status'] ?? 0;
  });
  const resume = () => {
    stream.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      parser.feed(decoder.decode(chunk, { stream: true }));
    });
    stream.resume();
  };
  stream.on('end', () => {
    isEnded = true;
  });
  stream.on('error', () => {});
  if (!paused) resume();
  const named = (name: string) => events.filter(({ event }) => event === name);
  return {
    stream,
    events,
    resume,
    bytes: () => Buffer.concat(chunks),
    status: () => status,
    isEnded: () => isEnded,
    has: (name: string, count = 1) =>
      until(() => named(name).length >= count, `${count} × ${name}; have ${named(name).length}`),
    numbers: () => named('note').map(({ data }) => Number.parseInt(data, 10)),
  };
}

const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);

test('a hundred streams on one session: each gets its own, and nothing is warned of', async () => {
  const broker = makeBroker();
  const warnings = collectWarnings();
  const { url, sessions } = await serve(createHandler(broker, { authenticator: queryAuthenticator() }));
  const session = await connect(url);
  const streams = upTo(100).map((n) => open(session, `/?user_id=user-${n}`));
  await Promise.all(streams.map((stream) => stream.has('connected')));
  for (const n of upTo(100)) {
    await broker.sendToUser(`user-${n}`, 'note', `${n} yours`);
    await broker.broadcast('note', `${1_000 + n}`);
  }
  await Promise.all(streams.map((stream) => stream.has('note', 101)));
  for (const [n, { numbers }] of streams.entries()) {
    expect(numbers().filter((number) => number < 1_000)).toEqual([n]);
    expect(numbers().filter((number) => number >= 1_000)).toEqual(upTo(100).map((i) => 1_000 + i));
  }
  expect(sessions).toHaveLength(1);
  expect(warnings).toEqual([]);
});

describe('a client that leaves', () => {
  const ways: [string, (stream: ClientHttp2Stream, session: ClientHttp2Session) => void, number][] = [
    ['by a reset of its stream', (stream) => stream.close(NGHTTP2_CANCEL), 1],
    ['by a reset that tells an error', (stream) => stream.close(NGHTTP2_INTERNAL_ERROR), 1],
    ['by a GOAWAY that tells an error', (_stream, session) => session.goaway(NGHTTP2_INTERNAL_ERROR), 0],
    ['by dropping the session', (_stream, session) => session.destroy(), 0],
  ];
  for (const [name, leave, left] of ways) {
    test(`${name}: is gone, and only it`, async () => {
      const broker = makeBroker();
      const { url } = await serve(createHandler(broker));
      const session = await connect(url);
      const [one, two] = [open(session), open(session)];
      const other = open(await connect(url));
      await Promise.all([one, two, other].map((stream) => stream.has('connected')));
      leave(one.stream, session);
      await until(() => broker.getStats().totalClients === left + 1, 'the client to be gone');
      await broker.broadcast('note', '1');
      await other.has('note');
      if (left > 0) await two.has('note');
      await until(() => broker.getStats().ending === 0, 'nobody to be ending');
      expect(broker.reported).toEqual([]);
    });
  }

  test('during authentication, 100 times: nothing is left', async () => {
    const broker = makeBroker({ clock: new ManualClock() });
    let release!: () => void;
    let asked = 0;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const authenticator = async () => {
      asked++;
      await gate;
      return {};
    };
    let pending = 0;
    const handler = createHandler(broker, { authenticator });
    const { url, sessions } = await serve((req, res) => {
      pending++;
      void handler(req, res).then(() => pending--);
    });
    for (const batch of [50, 100]) {
      const session = await connect(url);
      const streams = upTo(50).map(() => open(session));
      await until(() => asked === batch, 'the authenticator to be asked');
      if (batch === 50) session.destroy();
      else for (const { stream } of streams) stream.close(NGHTTP2_CANCEL);
      await until(() => pending === 0, 'the handlers to let go');
    }
    release();
    await turn();
    expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 0, connects: 0 });
    expect(broker.reported).toEqual([]);
    await until(() => sessions[0]!.destroyed, 'the session to be gone');
  });
});

test('a GOAWAY without error lets streams go on until they end', async () => {
  const broker = makeBroker();
  const { url, sessions } = await serve(createHandler(broker));
  const session = await connect(url);
  const stream = open(session);
  await stream.has('connected');
  session.close();
  sessions[0]!.close();
  await broker.broadcast('note', '0');
  await stream.has('note');
  await broker.close();
  await until(stream.isEnded, 'the end');
  expect(stream.events.map(({ event }) => event)).toEqual(['connected', 'note', 'closing']);
  await until(() => session.destroyed, 'the session to end');
});

describe('a stream whose window is full', () => {
  test('costs a bounded amount, holds up no other stream of its session, and catches up in order', async () => {
    const broker = makeBroker({ clientBufferSize: 0, clientBufferBytes: 0 });
    const { url } = await serve(createHandler(broker));
    const session = await connect(url);
    const stalled = open(session, '/', { paused: true });
    const fine = open(session);
    await until(() => broker.getStats().totalClients === 2, 'the clients');
    let n = 0;
    while (broker.getStats().queuedFrames < 100) {
      await broker.broadcast('note', `${n++} ${'x'.repeat(10_000)}`);
      await fine.has('note', n);
    }
    // One window of 64 KiB, what Node reads ahead of the pause, and what its stream holds.
    expect(n - 100).toBeLessThan(30);
    stalled.resume();
    await stalled.has('note', n);
    expect(stalled.numbers()).toEqual(upTo(n));
    expect(fine.numbers()).toEqual(upTo(n));
    expect(broker.getStats().queuedFrames).toBe(0);
  });

  for (const overflow of ['disconnect', 'drop-oldest', 'drop-newest'] as const) {
    test(`meets the limits: ${overflow}`, async () => {
      const clock = new ManualClock();
      const broker = makeBroker({ clock, overflow, clientBufferSize: 10 });
      const overflowed: string[] = [];
      broker.on('clientOverflowed', ({ userId }, { policy, limit }) => overflowed.push(`${userId} ${policy} ${limit}`));
      const { url } = await serve(createHandler(broker, { authenticator: queryAuthenticator() }));
      const session = await connect(url);
      const stalled = open(session, '/?user_id=stalled', { paused: true });
      const fine = open(session, '/?user_id=fine');
      await until(() => broker.getStats().totalClients === 2, 'the clients');
      for (let n = 0; n < 100; n++) {
        await broker.broadcast('note', `${n} ${'x'.repeat(10_000)}`);
        await fine.has('note', n + 1);
      }
      expect(fine.numbers()).toEqual(upTo(100));
      expect(overflowed).toEqual([`stalled ${overflow} frames`]);
      clock.advance(400_000);
      await until(
        () => broker.getStats().totalClients === 1 && broker.getStats().ending === 0,
        'the stalled one to go',
      );
      const { disconnects } = broker.getStats();
      expect(overflow === 'disconnect' ? disconnects.overflow : disconnects.timeout).toBe(1);
      // Told by a reset: an orderly end would look as if nothing had been missed.
      stalled.resume();
      await until(() => stalled.stream.closed, 'the reset to arrive');
      expect(stalled.events.filter(({ event }) => event === 'closing')).toEqual([]);
      await broker.broadcast('note', '100');
      await fine.has('note', 101);
    });
  }
});

describe('close()', () => {
  test('sends closing and ends each stream; the session is good for more', async () => {
    const broker = makeBroker();
    const other = makeBroker();
    const handler = createHandler(broker);
    const otherHandler = createHandler(other);
    const { url } = await serve((req, res) => void (req.url === '/other' ? otherHandler : handler)(req, res));
    const session = await connect(url);
    const streams = upTo(20).map(() => open(session));
    await Promise.all(streams.map((stream) => stream.has('connected')));
    expect(await broker.close()).toEqual({ ended: 20, cut: 0 });
    await until(() => streams.every((stream) => stream.isEnded()), 'the ends');
    for (const { stream, events } of streams) {
      expect(JSON.parse(events.at(-1)!.data)).toEqual({ reason: 'shutdown' });
      expect(stream.rstCode).toBe(NGHTTP2_NO_ERROR);
    }
    await open(session, '/other').has('connected');
  });

  test('cuts stalled streams, and those whose request never ends, within its deadline', async () => {
    const broker = makeBroker({ overflow: 'drop-oldest' });
    const { url } = await serve(createHandler(broker));
    const session = await connect(url);
    const live = open(session);
    open(session, '/', { paused: true });
    const unfinished = open(session, '/', { endStream: false });
    await until(() => broker.getStats().totalClients === 3, 'the clients');
    while (broker.getStats().queuedFrames === 0) {
      await broker.broadcast('note', 'x'.repeat(10_000));
      await turn();
    }
    const startedAt = performance.now();
    const { ended, cut } = await broker.close({ timeoutMs: 300 });
    expect(performance.now() - startedAt).toBeLessThan(1_300);
    expect(ended + cut).toBe(3);
    expect(cut).toBeGreaterThanOrEqual(1);
    await until(live.isEnded, 'the end');
    await until(() => unfinished.events.at(-1)?.event === 'closing', 'its closing');
    expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 0 });
  });
});

test("the handler's own compression: one valid gzip to the end", async () => {
  const broker = makeBroker();
  const { url } = await serve(createHandler(broker, { compression: 'gzip' }));
  const stream = open(await connect(url), '/', { headers: { 'accept-encoding': 'gzip' } });
  await until(() => broker.getStats().totalClients === 1, 'the client');
  for (let n = 0; n < 3; n++) await broker.broadcast('note', `${n} ${'x'.repeat(50_000)}`);
  await broker.close();
  await until(stream.isEnded, 'the end');
  const text = gunzipSync(stream.bytes()).toString();
  expect([...text.matchAll(/^event: note\ndata: (\d) x{50000}$/gm)].map((match) => match[1])).toEqual(['0', '1', '2']);
  expect(text).toMatch(/event: closing\n.*\n\n$/);
});

describe('a response that somebody wrapped', () => {
  test('by compression that compresses: the whole is valid gzip, flushed event by event', async () => {
    const broker = makeBroker();
    const warnings = collectWarnings();
    const handler = createHandler(broker, { headers: { 'Cache-Control': 'no-cache' } });
    const compress = compression({ threshold: 0 });
    const { url } = await serve((req, res) => compress(req as never, res as never, () => void handler(req, res)));
    const stream = open(await connect(url), '/', { headers: { 'accept-encoding': 'gzip' } });
    await until(() => broker.getStats().totalClients === 1, 'the client');
    for (let n = 0; n < 3; n++) {
      const before = stream.bytes().length;
      await broker.broadcast('note', `${n}`);
      await until(() => stream.bytes().length > before, `event ${n}, flushed`);
    }
    await broker.close();
    await until(stream.isEnded, 'the end');
    const text = gunzipSync(stream.bytes()).toString();
    expect(text.match(/^event: .*$/gm)).toEqual([
      'event: connected',
      'event: note',
      'event: note',
      'event: note',
      'event: closing',
    ]);
    expect(warnings).toEqual([]);
  });

  test('by patched methods: they see every byte and the end', async () => {
    const broker = makeBroker();
    const handler = createHandler(broker);
    const seen: string[] = [];
    const { url } = await serve((req, res) => {
      const { write, end } = res;
      res.write = ((chunk: Buffer) => {
        seen.push(chunk.toString());
        return (write as (bytes: Buffer) => boolean).call(res, chunk);
      }) as typeof write;
      res.end = (() => {
        seen.push('the end');
        return (end as () => unknown).call(res);
      }) as typeof end;
      void handler(req, res);
    });
    const stream = open(await connect(url));
    await stream.has('connected');
    await broker.broadcast('note', '0');
    await stream.has('note');
    await broker.close();
    await until(stream.isEnded, 'the end');
    expect(seen.slice(0, -1).join('')).toBe(stream.bytes().toString());
    expect(seen.at(-1)).toBe('the end');
  });
});
