/** SSEClient in real browsers, against a broker over real HTTP. What happens to tabs is in lifecycle.test.ts and tabs.test.ts. */
import type { IncomingMessage } from 'node:http';
import { describe, expect, test } from 'vitest';
import { SseError } from '../../src/index.js';
import { openTab, startBrowsers } from '../support/browsers.js';
import { clientPage, openClient } from '../support/client-page.js';
import { bufferingProxy, byPath, eventText, redirect, startFaultServer, stream } from '../support/fault-server.js';
import { type RestartableOptions, startRestartable } from '../support/restartable-server.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';

startBrowsers('chromium', 'firefox');

describe.each(['chromium', 'firefox'] as const)('%s', (browser) => {
  /** A page with a client whose stream is open. */
  async function start(config: object = {}, options: RestartableOptions = {}) {
    const server = await startRestartable({ other: clientPage(), ...options });
    const page = await openTab(browser);
    const client = await openClient(page, server.url, { url: '/events', reconnectInterval: 100, ...config });
    await client.has('connected');
    return { server, page, client };
  }

  test('events arrive parsed, in order, with their ids, the connected event first', { timeout: 60_000 }, async () => {
    const { server, client } = await start();
    const sent = [{ text: 'grüße, 世界 🙂' }, 'two\nlines', '', [1, null], '💥'.repeat(40_000)];
    const ids: string[] = [];
    for (const data of sent) ids.push(await server.broker.broadcast('note', data));
    for (let n = 0; n < 200; n++) ids.push(await server.broker.broadcast('note', n));
    await client.has('note', ids.length);

    const { events, statuses } = await client.log();
    expect(events[0]).toMatchObject({ type: 'connected', data: { clientId: expect.any(String) } });
    expect(events.slice(1).map(({ data }) => data)).toEqual([...sent, ...Array.from({ length: 200 }, (_, n) => n)]);
    expect(events.slice(1).map(({ id }) => id)).toEqual(ids);
    expect(statuses.map(({ status }) => status)).toEqual(['connecting', 'connected']);
    expect(server.requests).toHaveLength(1);
  });

  test.each(['deploy', 'crash'] as const)(
    'it resumes over a %s of the server, without loss, doubles or gap',
    async (how) => {
      const { server, client } = await start();
      const lastSeen = await server.broker.broadcast('note', 'before');
      await client.has('note');

      await server.stop(how);
      await client.is('reconnecting');
      await server.start();
      await server.broker.broadcast('note', 'missed');
      await client.has('note', 2);
      await server.broker.broadcast('note', 'after');
      await client.has('note', 3);

      const { statuses, gaps } = await client.log();
      expect(await client.dataOf('note')).toEqual(['before', 'missed', 'after']);
      expect(server.requests.at(-1)?.headers['last-event-id']).toBe(lastSeen);
      expect(gaps).toBe(0);
      expect(await client.stats()).toMatchObject({ duplicates: 0, dropped: 0, transport: 'stream' });
      // While the server was away attempts may have failed, but the status is told when it changes.
      expect(statuses.map(({ status }) => status).filter((status, i, all) => status !== all[i - 1])).toEqual([
        ...['connecting', 'connected', 'reconnecting', 'connected'],
      ]);
    },
  );

  test('over a reload it goes on from the id kept in sessionStorage, where it was told to keep it', async () => {
    const { server, client, page } = await start({ persistLastEventId: 'session' });
    await server.broker.broadcast('note', 'before');
    await client.has('note');
    await page.goto('about:blank');
    await until(() => server.broker.getStats().totalClients === 0, 'the page to be gone');
    await server.broker.broadcast('note', 'missed');

    const again = await openClient(page, server.url, { url: '/events', persistLastEventId: 'session' });
    await again.has('note');

    expect(await again.dataOf('note')).toEqual(['missed']);
    expect((await again.log()).gaps).toBe(0);
  });

  test('without persistLastEventId a reload begins anew', async () => {
    const { server, client, page } = await start();
    await server.broker.broadcast('note', 'before');
    await client.has('note');
    const again = await openClient(page, server.url, { url: '/events' });
    await again.has('connected');
    expect(server.requests.at(-1)?.headers['last-event-id']).toBeUndefined();
  });

  test('a page of another origin sends a token and cookies, and a new token after a 401', async () => {
    const { url: pageUrl } = await serve(clientPage());
    const seen: unknown[][] = [];
    const server = await startRestartable({
      handler: {
        cors: { origin: pageUrl, credentials: true },
        authenticator: (req: IncomingMessage) => {
          seen.push([req.headers.authorization, req.headers.cookie]);
          return req.headers.authorization === 'Bearer new' ? { userId: 'alice' } : null;
        },
      },
    });
    const page = await openTab(browser);
    await page.goto(pageUrl);
    await page.evaluate("document.cookie = 'session=abc'");
    const client = await openClient(
      page,
      pageUrl,
      `{ url: '${server.url}/events', headers: ({ refresh }) => ({ Authorization: refresh ? 'Bearer new' : 'Bearer old' }) }`,
    );
    await client.has('connected');
    await server.broker.sendToUser('alice', 'note', 'for alice');
    await client.has('note');

    expect(seen).toEqual([
      ['Bearer old', 'session=abc'],
      ['Bearer new', 'session=abc'],
    ]);
  });

  test('a refusal ends in failed, with the status and what the server said', async () => {
    const server = await startRestartable({ other: clientPage(), handler: { authenticator: () => null } });
    const page = await openTab(browser);
    const client = await openClient(page, server.url, { url: '/events' });
    await client.is('failed');
    const { errors, statuses } = await client.log();
    expect(errors.at(-1)).toMatchObject({ code: 'SSE_CLIENT_STATUS', status: 401 });
    expect(statuses.at(-1)).toMatchObject({ status: 'failed', reason: 'status' });
    expect(statuses.at(-1)?.nextDelay ?? null).toBeNull();
  });

  test('204 is a quiet stop', async () => {
    const authenticator = () => {
      throw new SseError('SSE_ERR_FORBIDDEN', 'no more', { status: 204 });
    };
    const server = await startRestartable({ other: clientPage(), handler: { authenticator } });
    const page = await openTab(browser);
    const client = await openClient(page, server.url, { url: '/events' });
    await until(async () => (await client.log()).statuses.length > 1, 'the end');
    const { errors, statuses } = await client.log();
    expect(statuses.map(({ status, reason }) => [status, reason])).toEqual([
      ['connecting', 'requested'],
      ['disconnected', 'stopped'],
    ]);
    expect(errors).toEqual([]);
    expect(server.requests).toHaveLength(1);
  });

  test('a redirect to another origin takes neither headers nor cookies along', async () => {
    const elsewhere = await startFaultServer(stream(eventText('secret?')), { cors: true });
    const page = await openTab(browser);
    const home = await startFaultServer(
      byPath({
        '/': ({ req, res }) => clientPage()(req, res),
        '/client.js': ({ req, res }) => clientPage()(req, res),
        '/events': redirect(`${elsewhere.url}/stolen`),
      }),
    );
    await page.goto(home.url);
    await page.evaluate("document.cookie = 'session=abc'");
    const client = await openClient(page, home.url, {
      url: '/events',
      headers: { Authorization: 'Bearer token', 'X-Token': 'token' },
      maxReconnectAttempts: 1,
      reconnectInterval: 10,
    });
    await until(
      async () => elsewhere.requests.length > 0 || (await client.status()) === 'failed',
      'it to follow, or to give up',
    );
    for (const { headers } of elsewhere.requests) {
      expect([headers.authorization, headers['x-token'], headers.cookie]).toEqual([undefined, undefined, undefined]);
    }
    expect(home.requests.filter(({ url }) => url === '/events')[0]?.headers).toMatchObject({ 'x-token': 'token' });
  });

  test('where streams do not get through it polls, and nothing is lost on the way', { timeout: 40_000 }, async () => {
    const server = await startRestartable({ other: clientPage() });
    const behind = await startFaultServer(
      byPath({
        '/': ({ req, res }) => clientPage()(req, res),
        '/client.js': ({ req, res }) => clientPage()(req, res),
        '/stream': bufferingProxy,
        '/poll': async ({ req, res }) => {
          const answer = await fetch(`${server.url}${req.url}`, {
            headers: req.headers['last-event-id'] ? { 'last-event-id': String(req.headers['last-event-id']) } : {},
          });
          res.setHeader('Content-Type', 'application/json').end(await answer.text());
        },
      }),
    );
    const page = await openTab(browser);
    const client = await openClient(page, behind.url, {
      url: '/stream',
      connectTimeout: 1_000,
      reconnectInterval: 50,
      pollingInterval: 300,
    });
    await client.is('connected', 20_000);
    for (let n = 0; n < 20; n++) await server.broker.broadcast('note', n);
    await client.has('note', 20);
    expect(await client.dataOf('note')).toEqual(Array.from({ length: 20 }, (_, n) => n));
    expect(await client.stats()).toMatchObject({ transport: 'polling', duplicates: 0 });
  });
});
