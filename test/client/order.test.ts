/** What comes before what: statuses that a handler changes, gaps while events wait, and the id that is kept. */
import { afterEach, expect, test, vi } from 'vitest';
import type { SSEGap } from '../../src/client/index.js';
import { eventText } from '../support/fault-server.js';
import { until } from '../support/until.js';
import { writtenStream } from './written-stream.js';

afterEach(() => vi.unstubAllGlobals());

const note = (n: number) => eventText(String(n), { id: String(n), event: 'note' });
const gap = (to: number) =>
  eventText(JSON.stringify({ reason: 'evicted', requested: null, resumedFrom: String(to) }), {
    id: String(to),
    event: 'gap',
  });

test('where a handler changes the status, those after it hear of both changes in order', async () => {
  const { client, connect } = await writtenStream();
  const heard: string[] = [];
  client.on('status', ({ status }) => {
    if (status === 'connected') client.disconnect();
  });
  client.on('status', ({ previous, status }) => heard.push(`${previous} → ${status}`));
  client.on('connected', () => heard.push('connected'));
  client.on('disconnected', () => heard.push('disconnected'));
  void connect().catch(() => {});
  await until(() => heard.length === 5, 'all');
  expect(heard).toEqual([
    'disconnected → connecting',
    'connecting → connected',
    'connected',
    'connected → disconnected',
    'disconnected',
  ]);
  expect(client.getStatus().status).toBe('disconnected');
});

test('a gap that comes while paused is told in its place, so a snapshot is newer than what was delivered before', async () => {
  const { client, send, connect } = await writtenStream();
  const seen: unknown[] = [];
  client.subscribe('note', (data) => seen.push(data));
  client.on('gap', ({ resumedFrom, refetch }) => {
    seen.push(`gap to ${resumedFrom}`);
    void refetch(async () => seen.push('snapshot'));
  });
  await connect();
  client.pause();
  await send(note(1), note(2), gap(8), note(9));
  expect(seen).toEqual([]);
  client.resume();
  await until(() => seen.length === 5, 'all');
  expect(seen).toEqual([1, 2, 'gap to 8', 'snapshot', 9]);
  // It is not told again to those who come later.
  client.subscribe('other', () => {});
  await send(note(10));
  expect(seen.slice(5)).toEqual([10]);
  expect(client.getStats().gaps).toBe(1);
});

test('what waited for one snapshot goes out before the next is fetched', async () => {
  const { client, send, connect } = await writtenStream();
  const seen: unknown[] = [];
  const loads: ((value: string) => void)[] = [];
  client.subscribe('note', (data) => seen.push(data));
  client.on('gap', ({ refetch }: SSEGap) => {
    void refetch(async () => seen.push(await new Promise((done) => loads.push(done))));
  });
  await connect();
  await send(gap(5), note(6), gap(20), note(21));
  loads[1]!('snapshot');
  await until(() => seen.length === 3, 'all');
  expect(seen).toEqual([6, 'snapshot', 21]);
});

test('while a snapshot is fetched the id of what waits is not kept for the next page', async () => {
  const kept = new Map<string, string>();
  const storage = { getItem: (key: string) => kept.get(key), setItem: (key: string, id: string) => kept.set(key, id) };
  vi.stubGlobal('sessionStorage', storage);
  const { client, send, connect } = await writtenStream({ persistLastEventId: 'session', name: 'mine' });
  client.subscribe('note', () => {});
  let done = () => {};
  client.on('gap', ({ refetch }) => void refetch(() => new Promise<void>((resolve) => (done = resolve))));
  await connect();
  await send(note(1));
  await send(gap(5));
  await send(note(6));
  await send(note(7));
  expect([...kept.values()]).toEqual(['1']);
  done();
  await until(() => client.clearQueue() === 0, 'delivery');
  await send(note(8));
  expect([...kept.values()]).toEqual(['8']);
});
