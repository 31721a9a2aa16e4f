/** SSEClient in a page of another origin than its stream's: what the guide says servers must allow, and what it costs not to. */
import type { RequestListener } from 'node:http';
import { expect, test } from 'vitest';
import type { CorsOptions } from '../../src/index.js';
import { openTab, startBrowsers } from '../support/browsers.js';
import { clientPage, openClient } from '../support/client-page.js';
import { cursorOf, startRestartable } from '../support/restartable-server.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';

startBrowsers('chromium');

async function openPage(config: (pageUrl: string) => Promise<{ url: string; settings?: object }>) {
  const { url: pageUrl } = await serve(clientPage());
  const { url, settings } = await config(pageUrl);
  const page = await openTab('chromium');
  return openClient(page, pageUrl, { url, reconnectInterval: 50, ...settings });
}

async function openAgainst(cors: Omit<CorsOptions, 'origin'>) {
  let server!: Awaited<ReturnType<typeof startRestartable>>;
  const client = await openPage(async (origin) => {
    server = await startRestartable({ handler: { cors: { origin, credentials: true, ...cors } } });
    return { url: `${server.url}/events` };
  });
  await client.has('connected');
  await server.broker.broadcast('note', 1);
  await client.has('note');
  return { server, client };
}

test.each([
  ['no more is said', {}],
  ['allowedHeaders names others only', { allowedHeaders: ['Authorization'] }],
])('comes back with its last id where the server allows its origin and %s', async (_, cors) => {
  const { server, client } = await openAgainst(cors);
  const lastId = (await client.log()).events.at(-1)?.id;
  await server.stop();
  await server.start();
  await server.broker.broadcast('note', 2);
  await client.has('note', 2, 15_000);
  expect(await client.dataOf('note')).toEqual([1, 2]);
  expect(cursorOf(server.requests.filter(({ method }) => method === 'GET').at(-1))).toBe(lastId);
});

/** A stream of somebody else's that any page may read. */
const PUBLIC: RequestListener = (req, res) => {
  const cursor = Number(req.headers['last-event-id'] ?? 0);
  res.setHeader('Access-Control-Allow-Origin', '*').setHeader('Access-Control-Allow-Headers', 'Last-Event-ID');
  if (req.method === 'OPTIONS') res.writeHead(204).end();
  else
    res.setHeader('Content-Type', 'text/event-stream').end(`id: ${cursor + 1}\nevent: note\ndata: ${cursor + 1}\n\n`);
};

test('reads a server that allows every origin, with withCredentials false, and goes on from its ids', async () => {
  const { url } = await serve(PUBLIC);
  const client = await openPage(async () => ({ url, settings: { withCredentials: false } }));
  await client.has('note', 3);
  expect((await client.dataOf('note')).slice(0, 3)).toEqual([1, 2, 3]);
});

test('does not with cookies: browsers refuse', async () => {
  const { url } = await serve(PUBLIC);
  const client = await openPage(async () => ({ url }));
  await until(async () => (await client.log()).errors.length > 0, 'the refusal of the browser');
  expect((await client.log()).errors[0]).toMatchObject({ code: 'SSE_CLIENT_NETWORK' });
  expect(await client.dataOf('note')).toEqual([]);
});
