/** Polling with a token that has to be renewed; what came is counted, also where the server does not say how much it will be. */
import { expect, onTestFinished, test } from 'vitest';
import { SSEClient } from '../../src/client/index.js';
import { startFaultServer } from '../support/fault-server.js';
import { until } from '../support/until.js';

test('a pollingUrl function is asked once more after 401, and bytes are counted', async () => {
  const server = await startFaultServer(({ req, res }) => {
    if (!req.url?.startsWith('/poll')) return void res.destroy();
    res.writeHead(req.url.includes('new') ? 200 : 401, { 'content-type': 'application/json' });
    // Two writes: chunked.
    res.write('{"events":[{"id":"1","type":"note","data":"é"}],');
    res.end('"lastEventId":"1"}');
  });
  const client = new SSEClient({
    url: `${server.url}/stream`,
    reconnectInterval: 1,
    pollingInterval: 5_000,
    pollingUrl: ({ refresh }) => `${server.url}/poll?token=${refresh ? 'new' : 'old'}`,
  });
  onTestFinished(() => client.destroy());
  client.connect();
  await until(() => client.getStats().messagesReceived > 0, 'an event');
  expect(client.getStats()).toMatchObject({ transport: 'polling' });
  await until(() => client.getStats().bytes > 0, 'bytes');
  expect(client.getStats().bytes % 67).toBe(0);
});
