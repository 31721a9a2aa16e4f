/** SSEClient works with servers that are not ours: whatever the standard allows, and what frameworks send. */
import type { IncomingHttpHeaders } from 'node:http';
import { describe, expect, onTestFinished, test } from 'vitest';
import { SSEClient, type SSEClientConfig, type SSEEvent } from '../../src/client/index.js';
import { eventText, startFaultServer, stream } from '../support/fault-server.js';
import { until } from '../support/until.js';
import { FOREIGN_SERVERS, type ForeignEvent, type Script } from './foreign-servers.js';

/** A client whose events are written down; destroyed with the test. */
function openClient(config: SSEClientConfig) {
  const client = new SSEClient({ reconnectInterval: 50, ...config });
  onTestFinished(() => client.destroy());
  const events: SSEEvent[] = [];
  client.on('message', (event: SSEEvent) => events.push(event));
  client.connect();
  return { client, events };
}

const PER_CONNECTION = 3;
const CONNECTIONS = 3;

/** Numbers go on from connection to connection: from the last id, or, where there are no ids, from where they stopped. */
function counting(hasIds: boolean) {
  const cursors: unknown[] = [];
  let connections = 0;
  const script: Script = async function* (headers: IncomingHttpHeaders): AsyncGenerator<ForeignEvent> {
    const cursor = headers['last-event-id'];
    cursors.push(cursor);
    const first = hasIds ? Number(cursor ?? 0) : connections * PER_CONNECTION;
    connections++;
    for (let n = first + 1; n <= first + PER_CONNECTION; n++) {
      yield { id: String(n), event: 'tick', data: JSON.stringify({ n, text: 'grüße, 世界 🙂' }) };
    }
  };
  return { script, cursors };
}

describe.each(Object.entries(FOREIGN_SERVERS))('%s', (_, { start, hasIds }) => {
  test('every event arrives once, in order, over ends of the stream', async () => {
    const { script, cursors } = counting(hasIds);
    const { url } = await start(script);
    const { client, events } = openClient({ url });

    const total = PER_CONNECTION * CONNECTIONS;
    await until(() => events.length >= total, `${total} events; have ${events.length}`, 15_000);
    client.disconnect();

    const numbers = Array.from({ length: total }, (_, i) => i + 1);
    expect(events.slice(0, total).map(({ type, data }) => [type, data])).toEqual(
      numbers.map((n) => ['tick', { n, text: 'grüße, 世界 🙂' }]),
    );
    expect(events.slice(0, total).map(({ id }) => id)).toEqual(numbers.map((n) => (hasIds ? String(n) : undefined)));
    expect(cursors.slice(0, CONNECTIONS)).toEqual(hasIds ? [undefined, '3', '6'] : [undefined, undefined, undefined]);
    expect(client.getStats()).toMatchObject({ duplicates: 0, dropped: 0, gaps: 0 });
  });
});

test('a server that sends no connected event is connected with its head', async () => {
  const { url } = await startFaultServer(stream());
  const { client } = openClient({ url });
  await until(() => client.getStatus().connected, 'the status connected');
  expect(client.getStatus().status).toBe('connected');
});

test('with heartbeatInterval 0 the silence of a server without heartbeats is no reason to leave it', async () => {
  const server = await startFaultServer(stream(eventText('1')));
  const patient = openClient({ url: server.url, heartbeatInterval: 0, heartbeatTimeout: 50 });
  const strict = openClient({ url: server.url, heartbeatInterval: 100, heartbeatTimeout: 50 });
  await until(() => strict.client.getStats().reconnectCount >= 2, 'the other one to have come back twice');
  expect(patient.client.getStats().reconnectCount).toBe(0);
  expect(patient.client.getStatus().status).toBe('connected');
});

test('data that is not JSON stays the text it is', async () => {
  const texts = ['hello', '', '{"cut', '0x10', ' 1', 'null', '007', '[DONE]'];
  const { url } = await startFaultServer(stream(...texts.map((text) => eventText(text))));
  const { events } = openClient({ url });
  await until(() => events.length === texts.length, `${texts.length} events; have ${events.length}`);
  expect(events.map(({ data }) => data)).toEqual(['hello', '', '{"cut', '0x10', 1, null, '007', '[DONE]']);
});

test('several lines of data are one text, an id stays until the next one, and an empty id takes it away', async () => {
  const server = await startFaultServer(
    stream('id: 1\ndata: a\ndata:\ndata:  b\n\n', 'data: 2\n\n', 'id: \x00\ndata: 3\n\n', 'id\ndata: 4\n\n'),
  );
  const { client, events } = openClient({ url: server.url });
  await until(() => events.length === 4, 'four events');
  expect(events.map(({ data, id, lastEventId }) => [data, id, lastEventId])).toEqual([
    ['a\n\n b', '1', '1'],
    [2, undefined, '1'],
    [3, undefined, '1'],
    [4, '', ''],
  ]);
  client.reconnect();
  await until(() => server.requests.length === 2, 'the second request');
  expect(server.requests[1]!.headers['last-event-id']).toBeUndefined();
});

test('ids that begin anew, or that several events have, are no duplicates with enableDedup false', async () => {
  const one = eventText('1', { id: '7' }) + eventText('2', { id: '7' });
  const { url } = await startFaultServer(stream(one));
  const whole = openClient({ url, enableDedup: false });
  await until(() => whole.events.length === 2, 'both events');
  whole.client.reconnect();
  await until(() => whole.events.length === 4, 'both events again');
  expect(whole.events.map(({ data }) => data)).toEqual([1, 2, 1, 2]);
  expect(whole.client.getStats().duplicates).toBe(0);
});
