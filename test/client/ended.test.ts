/** After an end that is final: loops end, `connect()` begins anew, and what is wrong with one server stays with that one. */
import { expect, onTestFinished, test } from 'vitest';
import { SSEClient, type SSEClientConfig, type SSEClientError } from '../../src/client/index.js';
import { eventText, headThenEnd, startFaultServer, status, stream } from '../support/fault-server.js';
import { until } from '../support/until.js';

function make(config: SSEClientConfig) {
  const client = new SSEClient({ reconnectInterval: 1, fallbackToPolling: false, ...config });
  onTestFinished(() => client.destroy());
  const errors: SSEClientError[] = [];
  client.on('error', (error) => errors.push(error));
  return { client, errors };
}

const short = headThenEnd(eventText('1'));

test.each([
  ['reconnect is false', short, { reconnect: false }, 'ended', 1],
  ['the attempts are used up', short, { maxReconnectAttempts: 1 }, 'ended', 2],
  ['decide says stop after an error', status(500), { decide: () => 'stop' as const }, 'stopped', 1],
])('where %s, a loop ends, and connect() begins anew', async (_, behaviour, config, reason, requests) => {
  const server = await startFaultServer(behaviour);
  const { client } = make({ url: server.url, ...config });
  const loop = (async () => {
    for await (const _event of client.events());
    return 'over';
  })();
  client.connect();
  expect(await loop).toBe('over');
  expect(client.getStatus()).toMatchObject({ status: 'disconnected', reason });
  expect(server.requests).toHaveLength(requests);
  client.connect();
  await until(() => server.requests.length > requests, 'another request');
});

test('a loop goes on when the address changes, and ends at once after destroy()', async () => {
  const [first, second] = [
    await startFaultServer(stream(eventText('1'))),
    await startFaultServer(stream(eventText('2'))),
  ];
  const { client } = make({ url: first.url });
  const events = client.events();
  client.connect();
  expect((await events.next()).value).toMatchObject({ data: 1 });
  client.connect(second.url);
  expect((await events.next()).value).toMatchObject({ data: 2 });
  client.destroy();
  expect(await client.events().next()).toEqual({ done: true, value: undefined });
});

test('a handler that connects whenever the stream has ended does not bring back what destroy() has ended', async () => {
  const server = await startFaultServer(stream(eventText('1')));
  const { client, errors } = make({ url: server.url });
  client.on('disconnected', () => client.connect());
  client.connect();
  await until(() => client.getStats().messagesReceived === 1, 'the event');
  server.cutAll();
  await until(() => client.getStats().messagesReceived === 2, 'the event again');
  client.destroy();
  await until(() => server.openResponses === 0, 'the stream to be gone');
  expect(client.getStatus()).toMatchObject({ status: 'disconnected', reason: 'requested' });
  expect(errors.at(-1)).toMatchObject({ code: 'SSE_CLIENT_HANDLER', cause: { code: 'SSE_CLIENT_DESTROYED' } });
});

test('nor does it keep the old address beside a new one', async () => {
  const [first, second] = [
    await startFaultServer(stream(eventText('1'))),
    await startFaultServer(stream(eventText('2'))),
  ];
  const { client } = make({ url: first.url });
  client.on('disconnected', () => client.connect());
  client.connect();
  await until(() => client.getStats().messagesReceived === 1, 'the event');
  client.connect(second.url);
  await until(() => client.getStats().messagesReceived === 2, 'the other event');
  await until(() => first.openResponses === 0, 'the old stream to be gone');
  // Whoever would ask the old address again would do so before this.
  client.reconnect();
  await until(() => second.requests.length === 2 && client.getStatus().connected, 'connected again');
  expect([first.requests.length, first.openResponses, second.openResponses]).toEqual([1, 0, 1]);
});

test('destroy() in a handler of the end is the end, also where the end is for a new address', async () => {
  const [first, second] = [
    await startFaultServer(stream(eventText('1'))),
    await startFaultServer(stream(eventText('2'))),
  ];
  const { client } = make({ url: first.url });
  client.on('disconnected', () => client.destroy());
  client.connect();
  await until(() => client.getStats().messagesReceived === 1, 'the event');
  client.connect(second.url);
  const other = make({ url: second.url }).client;
  other.connect();
  await until(() => other.getStatus().connected && first.openResponses === 0, 'another client');
  // Nothing is begun that would come later.
  expect(client.getStatus()).toMatchObject({ status: 'disconnected', nextDelay: null });
  expect(second.requests).toHaveLength(1);
});

test('Retry-After of one server holds back neither another one nor reconnect()', async () => {
  const busy = await startFaultServer(({ res }) => res.writeHead(503, { 'retry-after': '60' }).end());
  const free = await startFaultServer(stream(eventText('1')));
  const { client } = make({ url: busy.url });
  client.connect();
  await until(() => (client.getStatus().nextDelay ?? 0) > 50_000, 'the wait');
  client.reconnect();
  await until(() => busy.requests.length === 2, 'asked again');
  await until(() => (client.getStatus().nextDelay ?? 0) > 50_000, 'the wait again');
  client.connect(free.url);
  await until(() => client.getStatus().connected, 'connected');
});

test.each([[NaN], [Infinity], [-5], ['Retry'], [{}]])(
  'a decide that gives %s is an error, and as if there were none',
  async (given) => {
    const server = await startFaultServer(status(503));
    const { client, errors } = make({ url: server.url, decide: () => given as never });
    client.connect();
    await until(() => server.requests.length === 2, 'a second attempt');
    expect(errors.map(({ code }) => code)).toContain('SSE_CLIENT_CALLBACK');
  },
);

test('decide is not asked when a handler of the error has called disconnect()', async () => {
  const server = await startFaultServer(status(503));
  let asked = 0;
  const { client } = make({ url: server.url, decide: () => void asked++ });
  client.on('error', () => client.disconnect());
  client.connect();
  await until(() => client.getStatus().status === 'disconnected' && server.requests.length > 0, 'disconnected');
  expect(asked).toBe(0);
});

test.each([
  ['is very long', 'a'.repeat(200_000)],
  ['has a control character', 'a\u0001b'],
])('an id that %s is not sent, and the client comes back', async (_, id) => {
  const server = await startFaultServer(headThenEnd(eventText('1', { id })));
  const { client } = make({ url: server.url });
  client.connect();
  await until(() => server.requests.length === 2, 'a second request');
  expect(server.requests[1]!.headers['last-event-id']).toBeUndefined();
});
