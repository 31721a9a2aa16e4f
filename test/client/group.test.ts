/**
 * One stream for several clients, with Node's BroadcastChannel and locks of our own, where a browser cannot be told to be
 * late: what comes in the wrong order, and what nobody remembers. Real tabs are in tabs.test.ts.
 */
import { afterEach, expect, onTestFinished, test, vi } from 'vitest';
import { SSEClient, type SSEClientConfig, type SSEGap } from '../../src/client/index.js';
import { eventText, startFaultServer, status } from '../support/fault-server.js';
import { until } from '../support/until.js';

afterEach(() => vi.unstubAllGlobals());

/** Web Locks, by the part that is used. */
function stubLocks(): void {
  let holder: { reject: (error: Error) => void } | undefined;
  const waiting: (() => void)[] = [];
  const request = (
    _: string,
    options: { steal?: boolean; signal?: AbortSignal },
    use: () => Promise<void> | undefined,
  ) =>
    new Promise<void>((resolve, reject) => {
      const own = { reject };
      const grant = () => {
        holder = own;
        void Promise.resolve(use()).then(() => {
          resolve();
          if (holder !== own) return;
          holder = undefined;
          waiting.shift()?.();
        });
      };
      options.signal?.addEventListener('abort', () => {
        const at = waiting.indexOf(grant);
        if (at !== -1) waiting.splice(at, 1);
        reject(new DOMException('', 'AbortError'));
      });
      if (options.steal) {
        holder?.reject(new DOMException('', 'AbortError'));
        grant();
      } else if (holder) waiting.push(grant);
      else queueMicrotask(grant);
    });
  vi.stubGlobal('navigator', { locks: { request } });
}

async function startGroup() {
  stubLocks();
  let write = (_: string) => {};
  const sent: string[] = [];
  let isAway = false;
  const server = await startFaultServer((exchange) => {
    const { req, res } = exchange;
    if (isAway) return status(503)(exchange);
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    res.flushHeaders();
    const last = Number(req.headers['last-event-id'] ?? sent.length);
    for (const text of sent.slice(last)) res.write(text);
    write = (text) => void res.write(text);
  });
  const publish = () => {
    const n = sent.length + 1;
    sent.push(eventText(String(n), { id: String(n), event: 'note' }));
    write(sent.at(-1)!);
  };
  const name = `group-${Math.random()}`;
  const open = async (config: SSEClientConfig = {}) => {
    const client = new SSEClient({ url: server.url, shareAcrossTabs: true, name, reconnectInterval: 20, ...config });
    onTestFinished(() => client.destroy());
    const seen: unknown[] = [];
    const gaps: SSEGap[] = [];
    client.subscribe('note', (data) => seen.push(data));
    client.on('gap', (gap) => gaps.push(gap));
    client.connect();
    await until(() => client.getStatus().connected, 'connected');
    return { client, seen, gaps };
  };
  const setAway = (away: boolean) => {
    isAway = away;
  };
  return { server, publish, open, name, setAway };
}

const upTo = (last: number, first = 1) => Array.from({ length: last - first + 1 }, (_, i) => first + i);

test('one connection; a follower says shared; when the leader leaves the next one goes on from the last id', async () => {
  const { server, publish, open } = await startGroup();
  const [first, second, third] = [await open(), await open(), await open()];
  for (let i = 0; i < 3; i++) publish();
  await until(() => third.seen.length === 3 && second.seen.length === 3, 'three');
  expect(server.requests).toHaveLength(1);
  expect([first, second].map(({ client }) => client.getStatus().transport)).toEqual(['stream', 'shared']);
  first.client.disconnect();
  publish();
  await until(() => second.client.getStatus().transport === 'stream', 'a new leader');
  await until(() => second.seen.length === 4 && third.seen.length === 4, 'the fourth');
  expect(third.seen).toEqual(upTo(4));
  expect(server.requests[1]?.headers['last-event-id']).toBe('3');
  expect(server.openResponses).toBe(1);
});

test('a tab that comes back gets what it missed from the leader, without a request', async () => {
  const { server, publish, open } = await startGroup();
  const [leader, other] = [await open(), await open()];
  publish();
  await until(() => other.seen.length === 1, 'one');
  other.client.disconnect();
  publish();
  publish();
  await until(() => leader.seen.length === 3, 'three');
  other.client.connect();
  await until(() => other.seen.length === 3, 'what was missed');
  expect(other.seen).toEqual(upTo(3));
  expect([other.gaps.length, server.requests.length]).toEqual([0, 1]);
});

test('a leader that lost its place and had to ask twice gets what it missed once', { timeout: 30_000 }, async () => {
  const { publish, open } = await startGroup();
  let held: (() => void)[] | undefined;
  class SlowChannel extends BroadcastChannel {
    override postMessage(message: { to?: string }): void {
      if (held === undefined || message.to === undefined) super.postMessage(message);
      else held.push(() => super.postMessage(message));
    }
  }
  vi.stubGlobal('BroadcastChannel', SlowChannel);
  const [deposed, other] = [await open(), await open()];
  publish();
  await until(() => deposed.seen.length === 1 && other.seen.length === 1, 'one');
  // Nobody hears the leader's answers, so the other takes its place.
  held = [];
  await until(() => other.client.getStatus().transport === 'stream', 'a new leader', 15_000);
  held = [];
  publish();
  publish();
  await until(() => other.seen.length === 3, 'three');
  await until(() => held!.length >= 2, 'two answers', 10_000);
  const answers = held;
  held = undefined;
  for (const post of answers) post();
  await until(() => deposed.seen.length >= 3, 'what was missed');
  publish();
  await until(() => deposed.seen.at(-1) === 4, 'the fourth');
  expect(deposed.seen).toEqual(upTo(4));
  expect(deposed.gaps).toEqual([]);
});

test('a tab with an id that nobody remembers is told a gap, before anything else', async () => {
  const { publish, open } = await startGroup();
  await open();
  publish();
  const late = await open({ lastEventId: 'long-ago' });
  await until(() => late.gaps.length === 1, 'the gap', 15_000);
  expect(late.gaps[0]).toMatchObject({ reason: 'evicted', requested: 'long-ago', resumedFrom: '1' });
  publish();
  await until(() => late.seen.length === 1, 'the next');
  expect(late.seen).toEqual([2]);
});

test('while the leader has no connection yet, a tab that is ahead of it is told no gap', {
  timeout: 30_000,
}, async () => {
  const { server, publish, name, setAway } = await startGroup();
  for (let i = 0; i < 4; i++) publish();
  setAway(true);
  const questions: unknown[] = [];
  const listener = new BroadcastChannel(`sse-broker:${name}`);
  onTestFinished(() => listener.close());
  listener.onmessage = ({ data }) => {
    if ((data as { ask?: unknown }).ask === '3') questions.push(data);
  };
  const config = { url: server.url, shareAcrossTabs: true, name, reconnectInterval: 20, maxReconnectInterval: 300 };
  const [leader, ahead] = ['1', '3'].map((lastEventId) => new SSEClient({ ...config, lastEventId }));
  const [seen, gaps]: [unknown[], SSEGap[]] = [[], []];
  ahead!.subscribe('note', (data) => seen.push(data));
  ahead!.on('gap', (gap) => gaps.push(gap));
  for (const client of [leader!, ahead!]) {
    onTestFinished(() => client.destroy());
    client.connect();
    await until(() => server.requests.length > 0, 'one to lead');
  }
  await until(() => questions.length >= 3 || gaps.length > 0, 'it to ask three times', 15_000);
  await until(() => ahead!.getStatus().reconnecting, 'it to say that there is no connection');
  setAway(false);
  await until(() => seen.includes(4), 'what it missed', 15_000);
  expect([seen, gaps]).toEqual([[4], []]);
});

test('what others post to the channel is not heard, by the leader or by those who follow', async () => {
  const { server, publish, open, name } = await startGroup();
  const [leader, other] = [await open(), await open()];
  const stranger = new BroadcastChannel(`sse-broker:${name}`);
  onTestFinished(() => stranger.close());
  const info = { status: 'disconnected', reason: 'stopped' };
  for (const rubbish of [
    null,
    undefined,
    7,
    'text',
    [],
    {},
    { info },
    { info, blocks: 5 },
    { ask: '1' },
    { again: true },
  ])
    stranger.postMessage(rubbish);
  publish();
  await until(() => leader.seen.length === 1 && other.seen.length === 1, 'one');
  publish();
  await until(() => leader.seen.length === 2 && other.seen.length === 2, 'two');
  expect([leader, other].map(({ client }) => client.getStatus().transport)).toEqual(['stream', 'shared']);
  expect([leader.gaps.length, other.gaps.length, server.requests.length]).toEqual([0, 0, 1]);
});

test('a leader that is refused for good makes room for a tab with a better token', async () => {
  stubLocks();
  const server = await startFaultServer((exchange) => {
    if (exchange.req.headers.authorization === 'good') {
      exchange.res.writeHead(200, { 'content-type': 'text/event-stream' }).write(eventText('1', { id: '1' }));
    } else status(401)(exchange);
  });
  const make = (authorization: string) => {
    const client = new SSEClient({ url: server.url, shareAcrossTabs: true, headers: { authorization } });
    onTestFinished(() => client.destroy());
    client.connect();
    return client;
  };
  const bad = make('bad');
  const fine = make('good');
  await until(() => fine.getStatus().connected, 'the good one');
  expect(bad.getStatus()).toMatchObject({ status: 'failed', error: { status: 401 } });
});

test('disconnect() leaves no timer and no open channel', async () => {
  const { open } = await startGroup();
  const opened = [await open(), await open()];
  for (const { client } of opened) client.disconnect();
  await until(
    () => process.getActiveResourcesInfo().filter((one) => /Timeout|MessagePort/.test(one)).length <= 4,
    `nothing left: ${process.getActiveResourcesInfo()}`,
  );
  for (const { client } of opened)
    expect(client.getStatus()).toMatchObject({ status: 'disconnected', transport: null });
});

test('a loop that nobody reads in the leader does not hold back the others', async () => {
  const { publish, open } = await startGroup();
  const [first, second] = [await open(), await open()];
  first.client.events();
  for (let i = 0; i < 1_000; i++) publish();
  await until(() => second.seen.length === 1_000, 'all');
  expect(second.seen).toEqual(upTo(1_000));
});
