/** Events that wait for a handler: their order, and how long it takes to deliver many. */
import { expect, onTestFinished, test } from 'vitest';
import { SSEClient, type SSEClientConfig } from '../../src/client/index.js';
import { eventText, startFaultServer, stream } from '../support/fault-server.js';
import { until } from '../support/until.js';

async function receive(text: string, count: number, config: SSEClientConfig = {}) {
  const server = await startFaultServer(stream(text));
  const client = new SSEClient({ url: server.url, ...config });
  onTestFinished(() => client.destroy());
  client.connect();
  await until(() => client.getStats().messagesReceived === count, `${count} events`);
  return client;
}

test('they come in order to a handler that is registered while they are delivered', async () => {
  const of = (event: string, data: string) => eventText(data, { event });
  const client = await receive(of('x', '1') + of('y', '1') + of('x', '2'), 3);
  const seen: unknown[] = [];
  client.subscribe('y', () => client.subscribe('x', (data) => seen.push(data)));
  await until(() => seen.length === 2, 'both');
  expect(seen).toEqual([1, 2]);
});

test('a hundred thousand take less than two seconds', async () => {
  const count = 100_000;
  let text = '';
  for (let n = 0; n < count; n++) text += `data: ${n}\n\n`;
  const client = await receive(text, count, { messageQueueSize: Infinity });
  let next = 0;
  const begin = performance.now();
  client.on('message', ({ data }) => {
    if (data === next) next++;
  });
  await until(() => next === count, 'all, in order');
  expect(performance.now() - begin).toBeLessThan(2_000);
});
