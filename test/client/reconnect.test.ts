/** What the client does when something fails: how often it asks, how soon, where, and when it stops. */
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { SSEClient, type SSEClientConfig, type SSEClientError, type SSEStatusChange } from '../../src/client/index.js';
import {
  acceptAndClose,
  type Behaviour,
  byPath,
  cutMidCharacter,
  endlessLine,
  eventText,
  hangBeforeHead,
  headThenEnd,
  inTurn,
  muteAfterHead,
  redirect,
  slowLoris,
  startFaultServer,
  status,
  stream,
  wrongContentType,
} from '../support/fault-server.js';
import { until } from '../support/until.js';

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

function openClient(config: SSEClientConfig) {
  const client = new SSEClient({ reconnectInterval: 20, ...config });
  onTestFinished(() => client.destroy());
  const statuses: SSEStatusChange[] = [];
  const errors: SSEClientError[] = [];
  const data: unknown[] = [];
  client.on('status', (change) => statuses.push(change));
  client.on('error', (error) => errors.push(error));
  client.on('message', (event) => data.push(event.data));
  client.connect();
  const is = (wanted: string) => until(() => client.getStatus().status === wanted, `status ${wanted}`);
  return { client, statuses, errors, data, is };
}

async function open(behaviour: Behaviour, config: SSEClientConfig = {}) {
  const server = await startFaultServer(behaviour);
  return { server, ...openClient({ url: `${server.url}/stream`, fallbackToPolling: false, ...config }) };
}

const good = stream(eventText('"hello"', { id: '1' }));

describe('however short the drawn delays are', () => {
  test.each([
    ['accepts and closes', () => Promise.reject(new TypeError('fetch failed'))],
    [
      'answers and ends',
      () => Promise.resolve(new Response('retry: 0\n\n', { headers: { 'content-type': 'text/event-stream' } })),
    ],
    ['is overloaded', () => Promise.resolve(new Response('', { status: 503 }))],
  ])('a server that %s gets at most ten attempts in seven seconds, none within 250 ms', async (_, answer) => {
    vi.useFakeTimers();
    vi.spyOn(Math, 'random').mockReturnValue(0);
    const attempts: number[] = [];
    const { client } = openClient({
      url: 'http://host.test/stream',
      reconnectInterval: 1_000,
      fetch: () => {
        attempts.push(Date.now());
        return answer();
      },
    });
    await vi.advanceTimersByTimeAsync(7_000);
    expect(attempts.length).toBeGreaterThan(5);
    expect(attempts.length).toBeLessThanOrEqual(10);
    expect(Math.min(...attempts.slice(1).map((at, i) => at - attempts[i]!))).toBeGreaterThanOrEqual(250);
    // Nor does asking for it bring them closer.
    attempts.length = 0;
    for (let i = 0; i < 20; i++) client.reconnect();
    await vi.advanceTimersByTimeAsync(250);
    expect(attempts.length).toBeLessThanOrEqual(1);
    client.disconnect();
    expect(vi.getTimerCount()).toBe(0);
  });
});

test('delays grow, and stay below the largest', async () => {
  vi.useFakeTimers();
  vi.spyOn(Math, 'random').mockReturnValue(0.999);
  const attempts: number[] = [];
  openClient({
    url: 'http://host.test/events',
    reconnectInterval: 1_000,
    maxReconnectInterval: 4_000,
    fetch: () => {
      attempts.push(Date.now());
      return Promise.reject(new TypeError());
    },
  });
  await vi.advanceTimersByTimeAsync(40_000);
  const delays = attempts.slice(1).map((at, i) => at - attempts[i]!);
  expect(delays[0]).toBeGreaterThan(900);
  expect(delays[1]).toBeGreaterThan(delays[0]!);
  expect(Math.max(...delays)).toBeLessThanOrEqual(4_010);
});

test('a stream that was open for five seconds begins a new row; a shorter one does not', async () => {
  vi.useFakeTimers();
  const life = { ms: 6_000 };
  const body = () =>
    new ReadableStream({
      start(controller) {
        setTimeout(() => controller.close(), life.ms);
      },
    });
  const { client } = openClient({
    url: 'http://host.test/events',
    maxReconnectAttempts: 2,
    fetch: () => Promise.resolve(new Response(body(), { headers: { 'content-type': 'text/event-stream' } })),
  });
  await vi.advanceTimersByTimeAsync(60_000);
  expect(client.getStatus().connected || client.getStatus().reconnecting).toBe(true);
  life.ms = 100;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(client.getStatus()).toMatchObject({ status: 'disconnected', reason: 'ended' });
  client.destroy();
  expect(vi.getTimerCount()).toBe(0);
});

test('maxReconnectAttempts ends in failed, with the last error, and nothing pending', async () => {
  const { client, server, is } = await open(acceptAndClose, { maxReconnectAttempts: 2 });
  await is('failed');
  expect(server.requests).toHaveLength(3);
  expect(client.getStatus()).toMatchObject({ reason: 'network', nextDelay: null, transport: null });
  expect(client.getStatus().error).toMatchObject({ code: 'SSE_CLIENT_NETWORK', retryable: true });
  client.connect();
  expect(client.getStatus().status).toBe('connecting');
});

test('each status comes once', async () => {
  const { statuses, is, client } = await open(inTurn(acceptAndClose, acceptAndClose, good));
  await is('connected');
  client.disconnect();
  client.disconnect();
  expect(statuses.map((change) => `${change.previous} → ${change.status}: ${change.reason}`)).toEqual([
    'disconnected → connecting: requested',
    'connecting → reconnecting: network',
    'reconnecting → connected: opened',
    'connected → disconnected: requested',
  ]);
});

test('the last id comes along, and the head is the one of a stream', async () => {
  const { server } = await open(inTurn(headThenEnd(eventText('1', { id: 'é-7' })), good));
  await until(() => server.requests.length === 2, 'the second request');
  const [first, second] = server.requests;
  expect(first!.headers['last-event-id']).toBeUndefined();
  expect(first!.headers.accept).toMatch(/^text\/event-stream/);
  expect(Buffer.from(String(second!.headers['last-event-id']), 'latin1').toString()).toBe('é-7');
});

test('an event that was cut in the middle is not delivered', async () => {
  const { data, is } = await open(inTurn(cutMidCharacter(eventText('1', { id: '1' })), good));
  await is('reconnecting');
  await is('connected');
  await until(() => data.length >= 1, 'events');
  expect(data[0]).toBe(1);
  expect(data).not.toContain('cut here: ');
});

test.each([
  ['seconds', () => '1'],
  ['a date', () => new Date(Date.now() + 2_500).toUTCString()],
])('429 with Retry-After in %s is waited for', async (_, retryAfter) => {
  const value = retryAfter();
  const { server, errors, is } = await open(inTurn(status(429, { 'Retry-After': value }, 'slow down'), good));
  await is('connected');
  expect(server.requests[1]!.at - server.requests[0]!.at).toBeGreaterThanOrEqual(900);
  expect(errors[0]).toMatchObject({ code: 'SSE_CLIENT_STATUS', status: 429, body: 'slow down', retryable: true });
});

test('Retry-After is capped at ten times the largest delay', async () => {
  const { client, is } = await open(status(503, { 'Retry-After': '86400' }), { maxReconnectInterval: 1_000 });
  await is('reconnecting');
  await until(() => client.getStatus().nextDelay, 'a delay');
  expect(client.getStatus().nextDelay).toBeGreaterThan(9_000);
  expect(client.getStatus().nextDelay).toBeLessThanOrEqual(11_500);
});

test('204 is a quiet stop; connect() begins anew', async () => {
  const { client, errors, is, server } = await open(inTurn(status(204), good));
  await until(() => client.getStatus().reason === 'stopped', 'the stop');
  expect(client.getStatus()).toMatchObject({ status: 'disconnected', error: null });
  expect(errors).toEqual([]);
  client.connect();
  await is('connected');
  expect(server.requests).toHaveLength(2);
});

describe('401', () => {
  test('asks the token function once more', async () => {
    const asked: boolean[] = [];
    const { is, server } = await open(inTurn(status(401), good), {
      headers: async ({ refresh }) => {
        asked.push(refresh);
        return { authorization: refresh ? 'Bearer new' : 'Bearer old' };
      },
    });
    await is('connected');
    expect(asked).toEqual([false, true]);
    expect(server.requests.map(({ headers }) => headers.authorization)).toEqual(['Bearer old', 'Bearer new']);
  });

  test('fails after the second, or where there is nobody to ask', async () => {
    const asking = await open(status(403, {}, 'go away'), { headers: () => ({}) });
    await asking.is('failed');
    expect(asking.server.requests).toHaveLength(2);
    const plain = await open(status(401, {}, 'who are you?'));
    await plain.is('failed');
    expect(plain.server.requests).toHaveLength(1);
    expect(plain.errors).toHaveLength(1);
    expect(plain.errors[0]).toMatchObject({ status: 401, body: 'who are you?', retryable: false });
  });
});

test.each([400, 404, 410, 422])('%i fails, with the status and the start of the body', async (code) => {
  const { client, is } = await open(status(code, {}, 'x'.repeat(5_000)));
  await is('failed');
  expect(client.getStatus().error).toMatchObject({ code: 'SSE_CLIENT_STATUS', status: code, body: 'x'.repeat(1_024) });
});

test('a page instead of a stream fails, with its start', async () => {
  const { client, is } = await open(wrongContentType('<!doctype html>'));
  await is('failed');
  expect(client.getStatus().error).toMatchObject({
    code: 'SSE_CLIENT_CONTENT_TYPE',
    status: 200,
    body: '<!doctype html>',
  });
});

test('a refusal whose body never comes is a refusal all the same', async () => {
  const { client, is } = await open(({ res }) => {
    res.writeHead(400, { 'content-length': '10' }).write('abc');
  });
  await is('failed');
  expect(client.getStatus().error).toMatchObject({ status: 400, body: 'abc' });
});

test('no head within connectTimeout: it tries again', async () => {
  const { errors, is, server } = await open(inTurn(hangBeforeHead, good), { connectTimeout: 100 });
  await is('connected');
  expect(errors[0]).toMatchObject({ code: 'SSE_CLIENT_TIMEOUT', retryable: true });
  await until(() => server.openResponses === 1, 'the first request to be gone');
});

test('a token function that hangs or throws is an attempt that failed', async () => {
  let calls = 0;
  const { errors, is } = await open(good, {
    connectTimeout: 100,
    headers: () => {
      calls++;
      if (calls === 1) return new Promise(() => {});
      if (calls === 2) throw new Error('no token');
      return {};
    },
  });
  await is('connected');
  expect(errors.map(({ code }) => code)).toEqual(['SSE_CLIENT_TIMEOUT', 'SSE_CLIENT_CALLBACK']);
});

test('silence is noticed; comments are no silence', async () => {
  const talking: Behaviour = ({ res, signal }) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' }).write(':\n\n');
    const timer = setInterval(() => res.write(':\n\n'), 40);
    signal.addEventListener('abort', () => clearInterval(timer));
  };
  const { errors, server, is } = await open(inTurn(muteAfterHead(eventText('1')), talking), {
    heartbeatInterval: 100,
    heartbeatTimeout: 50,
  });
  await is('reconnecting');
  await is('connected');
  expect(errors[0]?.code).toBe('SSE_CLIENT_SILENT');
  const at = performance.now();
  await until(() => performance.now() - at > 400, 'time to pass');
  expect(server.requests).toHaveLength(2);
});

test("the server's connected event says how often it is heard from; 0 switches the watchdog off", async () => {
  const hello = (interval: number) =>
    eventText(JSON.stringify({ heartbeatInterval: interval }), { event: 'connected' });
  const fast = await open(inTurn(stream(hello(50)), good), { heartbeatTimeout: 50 });
  await until(() => fast.errors.length > 0, 'silence', 2_000);
  expect(fast.errors[0]?.code).toBe('SSE_CLIENT_SILENT');
  const never = await open(stream(hello(0)), { heartbeatInterval: 50, heartbeatTimeout: 50 });
  await never.is('connected');
  const at = performance.now();
  await until(() => performance.now() - at > 300, 'time to pass');
  expect(never.errors).toEqual([]);
});

test('a byte at a time is a stream', async () => {
  const { data } = await open(slowLoris(eventText('"ü"', { id: '1' })));
  await until(() => data.length === 1, 'the event');
  expect(data).toEqual(['ü']);
});

test('a line without an end ends at maxEventBytes, and the client comes back', async () => {
  const { errors, is } = await open(inTurn(endlessLine(), good), { maxEventBytes: 100_000 });
  await until(() => errors.length > 0, 'the error');
  expect(errors[0]).toMatchObject({ code: 'SSE_CLIENT_TOO_LARGE', retryable: true });
  await is('connected');
});

describe('redirects', () => {
  test('at the same origin keep the headers', async () => {
    const { server, is } = await open(byPath({ '/stream': redirect('/moved'), '/moved': good }), {
      headers: { 'x-token': 'secret' },
    });
    await is('connected');
    const [first, last] = [server.requests[0], server.requests.at(-1)];
    expect([first?.headers['x-token'], last?.url, last?.headers['x-token']]).toEqual(['secret', '/moved', 'secret']);
  });

  test('to another origin take no headers along', async () => {
    const other = await startFaultServer(good);
    const { is, data } = await open(redirect(`${other.url}/stream`), {
      headers: { authorization: 'Bearer secret', 'x-token': 'secret', cookie: 'a=b' },
    });
    await is('connected');
    await until(() => data.length > 0, 'the event');
    for (const { headers } of other.requests) {
      expect([headers.authorization, headers['x-token'], headers.cookie]).toEqual([undefined, undefined, undefined]);
    }
  });
});

describe('several addresses', () => {
  test('it goes on to the next, at once, stays there, and takes the id along', async () => {
    const bad = await startFaultServer(acceptAndClose);
    const fine = await startFaultServer(good);
    const { is } = openClient({ urls: [`${bad.url}/stream`, `${fine.url}/stream`], lastEventId: 'x-1' });
    await is('connected');
    expect([bad.requests.length, fine.requests[0]?.headers['last-event-id']]).toEqual([1, 'x-1']);
    fine.cutAll();
    await is('reconnecting');
    await until(() => bad.requests.length + fine.requests.length === 3, 'the next attempt');
    // The first one is left alone for a while.
    expect(bad.requests).toHaveLength(1);
  });

  test('404 moves on; when all say so it fails', async () => {
    const gone = await startFaultServer(status(410));
    const none = await startFaultServer(status(404));
    const { is } = openClient({ urls: [`${gone.url}/`, `${none.url}/`] });
    await is('failed');
    expect([gone.requests.length, none.requests.length]).toEqual([1, 1]);
  });
});

describe('decide', () => {
  test('overrides what a status means', async () => {
    const seen: unknown[] = [];
    const { is } = await open(inTurn(status(400, { 'x-why': 'busy' }), good), {
      decide: ({ status, headers, error, attempt }) => {
        seen.push([status, headers?.get('x-why'), error?.code, attempt]);
        return 10;
      },
    });
    await is('connected');
    expect(seen).toEqual([[400, 'busy', 'SSE_CLIENT_STATUS', 1]]);
  });

  test.each([
    ['stop', 'disconnected', 'stopped'],
    ['fail', 'failed', 'ended'],
    ['next', 'failed', 'ended'],
  ] as const)('%s after the end of a stream: %s', async (decision, wanted, reason) => {
    const { client } = await open(headThenEnd(), { decide: () => decision });
    await until(() => client.getStatus().reason === reason, reason);
    expect(client.getStatus().status).toBe(wanted);
  });

  test('one that throws is told, and changes nothing', async () => {
    const { errors, is } = await open(inTurn(acceptAndClose, good), {
      decide: () => {
        throw new Error('mine');
      },
    });
    await is('connected');
    expect(errors.map(({ code }) => code)).toContain('SSE_CLIENT_CALLBACK');
  });
});

test('without reconnect it ends with the stream: quietly, or failed', async () => {
  const ended = await open(headThenEnd(eventText('1')), { reconnect: false });
  await until(() => ended.client.getStatus().reason === 'ended', 'the end');
  expect(ended.client.getStatus().status).toBe('disconnected');
  const cut = await open(acceptAndClose, { reconnect: false });
  await cut.is('failed');
});

describe('polling', () => {
  const poll =
    (id: string, ...data: unknown[]): Behaviour =>
    ({ res }) => {
      const events = data.map((one, i) => ({ id: `${id}.${i}`, type: 'note', data: one }));
      res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ events, lastEventId: id }));
    };

  test('begins after three attempts without a byte, says connected, and carries the id', async () => {
    const { client, server, data, is } = await open(
      byPath({ '/stream': hangBeforeHead, '/poll': inTurn(poll('a', 1, { n: 2 }, 'text'), poll('a')) }),
      { fallbackToPolling: true, connectTimeout: 50, pollingInterval: 100, lastEventId: 'start' },
    );
    await is('connected');
    await until(() => server.requests.filter(({ url }) => url.startsWith('/poll')).length >= 3, 'polls');
    const polls = server.requests.filter(({ url }) => url.startsWith('/poll'));
    expect(data).toEqual([1, { n: 2 }, 'text']);
    expect(polls.slice(0, 2).map(({ url, headers }) => [url, headers['last-event-id']])).toEqual([
      ['/poll?wait=100', 'start'],
      ['/poll?wait=100', 'a'],
    ]);
    expect(client.getStatus()).toMatchObject({ transport: 'polling', status: 'connected' });
    expect(client.lastEventId).toBe('a');
  });

  test('goes back as soon as a stream gets through', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const { client, server, is } = await open(
      byPath({ '/stream': inTurn(hangBeforeHead, hangBeforeHead, hangBeforeHead, good), '/poll': poll('a') }),
      { fallbackToPolling: true, connectTimeout: 50, pollingInterval: 20 },
    );
    await is('connected');
    expect(client.getStatus().transport).toBe('polling');
    vi.setSystemTime(Date.now() + 31_000);
    await until(() => client.getStatus().transport === 'stream', 'the stream');
    expect(client.getStatus().status).toBe('connected');
    expect(client.getStats().reconnectCount).toBe(0);
    expect(server.requests.at(-1)?.headers['last-event-id']).toBe('a');
  });

  test('where nothing answers polls, streams are tried on', async () => {
    const { client, server } = await open(
      byPath({ '/stream': inTurn(hangBeforeHead, hangBeforeHead, hangBeforeHead, good) }),
      {
        fallbackToPolling: true,
        connectTimeout: 50,
      },
    );
    await until(() => client.getStatus().transport === 'stream', 'the stream');
    expect(server.requests.filter(({ url }) => url.startsWith('/poll'))).toHaveLength(1);
  });
});

test('disconnect() at any moment leaves no timer, socket, or word', async () => {
  const moments: readonly ((client: SSEClient) => unknown)[] = [
    () => undefined,
    () => Promise.resolve(),
    () => new Promise((resolve) => setTimeout(resolve, 2)),
    () => new Promise((resolve) => setTimeout(resolve, 15)),
    (client) =>
      until(() => client.getStatus().connected || client.getStatus().reconnecting, 'an answer', 1_500).catch(() => {}),
  ];
  for (const behaviour of [good, acceptAndClose, hangBeforeHead, status(500, {}, 'x'), headThenEnd(eventText('1'))]) {
    const server = await startFaultServer(behaviour);
    for (const moment of moments) {
      const client = new SSEClient({ url: `${server.url}/stream`, headers: async () => ({}) });
      const said: unknown[] = [];
      client.on('status', (change) => said.push(change));
      client.on('message', (event) => said.push(event));
      client.connect();
      await moment(client);
      client.disconnect();
      said.length = 0;
      await until(() => server.openResponses === 0, 'no response to be under way');
      expect(said).toEqual([]);
      expect(client.getStatus()).toMatchObject({ status: 'disconnected', reason: 'requested', nextDelay: null });
    }
  }
  await until(
    () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length <= 2,
    `no timer: ${process.getActiveResourcesInfo()}`,
  );
});

test('what comes late from an older attempt is ignored', async () => {
  const answers: ((response: Response) => void)[] = [];
  let cancelled = 0;
  const answer = (data: string) =>
    new Response(
      new ReadableStream({
        start: (controller) => controller.enqueue(new TextEncoder().encode(`data: ${data}\n\n`)),
        cancel: () => {
          cancelled++;
        },
      }),
      { headers: { 'content-type': 'text/event-stream' } },
    );
  // A fetch that knows no signals.
  const { client, data, is } = openClient({
    url: 'http://host.test/events',
    fetch: () => new Promise((resolve) => answers.push(resolve)),
  });
  await until(() => answers.length === 1, 'the first');
  client.reconnect();
  await until(() => answers.length === 2, 'the second');
  answers[1]!(answer('2'));
  await is('connected');
  answers[0]!(answer('1'));
  await until(() => cancelled === 1, 'the late answer to be let go');
  expect(data).toEqual([2]);
});
