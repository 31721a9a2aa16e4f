/** What browsers do to pages, and SSEClient in them: hidden, frozen, cached, offline. Nothing is lost, and it is back at once. */
import type { Page } from 'puppeteer-core';
import { describe, expect, test } from 'vitest';
import { type BrowserName, openProfile, setFrozen, startBrowsers } from '../support/browsers.js';
import { clientPage, openClient, type PageClient } from '../support/client-page.js';
import { type RestartableServer, startRestartable } from '../support/restartable-server.js';
import { until } from '../support/until.js';

startBrowsers('chromium', 'firefox');

/** Delays so long that only a check at once can explain that somebody is back. */
const PATIENT = { reconnectInterval: 60_000, maxReconnectInterval: 60_000 };
const AT_ONCE = 3_000;

interface Opened {
  readonly server: RestartableServer;
  readonly page: Page;
  readonly client: PageClient;
  /** Another tab comes to the front, so that the page is hidden, as behind a tab. */
  hide(): Promise<void>;
  show(): Promise<void>;
}

async function start(browser: BrowserName, config: object = {}): Promise<Opened> {
  const server = await startRestartable({ other: clientPage(), broker: { retry: 0 } });
  const profile = await openProfile(browser);
  const page = await profile.newPage();
  const client = await openClient(page, server.url, { url: '/events', ...config });
  await client.has('connected');
  let other: Page | undefined;
  const visibility = (state: string) =>
    until(async () => (await page.evaluate('document.visibilityState')) === state, `the page to be ${state}`);
  return {
    server,
    page,
    client,
    hide: async () => {
      other ??= await profile.newPage();
      await other.bringToFront();
      await visibility('hidden');
    },
    show: async () => {
      await page.bringToFront();
      await visibility('visible');
    },
  };
}

/** The server goes away and comes back, and one event is published that nobody heard. */
async function missOne(server: RestartableServer, data: unknown): Promise<void> {
  await server.stop('crash');
  await server.start();
  await server.broker.broadcast('note', data);
}

async function heardOnce(client: PageClient, expected: readonly unknown[]): Promise<void> {
  expect(await client.dataOf('note')).toEqual(expected);
  expect((await client.log()).gaps).toBe(0);
  expect(await client.stats()).toMatchObject({ duplicates: 0, dropped: 0 });
}

describe.each(['chromium', 'firefox'] as const)('%s', (browser) => {
  test('a hidden page goes on receiving', async () => {
    const { server, client, hide } = await start(browser);
    await hide();
    await server.broker.broadcast('note', 1);
    await client.has('note');
    expect(server.requests).toHaveLength(1);
  });

  test('with closeWhenHidden the stream ends while the page is hidden, and nothing is missed', async () => {
    const { server, client, hide, show } = await start(browser, { closeWhenHidden: true });
    await server.broker.broadcast('note', 1);
    await client.has('note');
    await hide();
    await until(() => server.broker.getStats().totalClients === 0, 'the end of the stream');
    expect((await client.log()).statuses.at(-1)).toMatchObject({ status: 'disconnected', reason: 'hidden' });
    await server.broker.broadcast('note', 2);

    await show();
    await client.has('note', 2, AT_ONCE);
    await heardOnce(client, [1, 2]);
  });

  test('after disconnect() a page that is seen again stays disconnected', async () => {
    const { server, page, client, hide, show } = await start(browser, { closeWhenHidden: true });
    await page.evaluate('client.disconnect()');
    await hide();
    await show();
    // Whoever would come back would have done so by the time a second client is connected.
    await page.evaluate("new SSEClient({ url: '/events' }).connect()");
    await until(() => server.requests.length === 2, 'the second client');
    await until(() => server.broker.getStats().totalClients === 1, 'one client');
    expect(await client.status()).toBe('disconnected');
    expect(server.requests).toHaveLength(2);
  });

  test('a page seen again does not wait for its delay', async () => {
    const { server, client, hide, show } = await start(browser, PATIENT);
    await hide();
    await missOne(server, 1);
    await client.is('reconnecting');
    await show();
    await client.has('note', 1, AT_ONCE);
    await heardOnce(client, [1]);
  });
});

describe('chromium, which can be told to', () => {
  // Firefox keeps no page in its cache that has a request under way, closed on `pagehide` or not.
  test('back from the back/forward cache a page goes on where it was', async () => {
    const { server, page, client } = await start('chromium', PATIENT);
    await server.broker.broadcast('note', 1);
    await client.has('note');
    await page.evaluate('globalThis.mark = 1');

    await page.goto(`${server.url}/elsewhere`);
    await until(() => server.broker.getStats().totalClients === 0, 'the end of the stream of a page that is gone');
    await server.broker.broadcast('note', 2);
    // Puppeteer waits for a load that a page from the cache never has.
    void page.goBack().catch(() => {});
    await until(() => page.evaluate('globalThis.mark === 1').catch(() => false), 'the same page, from the cache');

    await client.has('note', 2, AT_ONCE);
    await heardOnce(client, [1, 2]);
  });

  test('freeze: a page whose stream ended in its sleep is back at once when it is seen again', async () => {
    const { server, page, client, hide, show } = await start('chromium', PATIENT);
    await server.broker.broadcast('note', 1);
    await client.has('note');
    await hide();
    await setFrozen(page, true);
    await missOne(server, 2);

    await setFrozen(page, false);
    // Only now it learns of the end; that may be after `resume`.
    await until(async () => {
      const { status, reconnectCount } = await client.stats();
      return status !== 'connected' || reconnectCount === 1;
    }, 'the end of the stream, in the page');
    await show();
    await client.has('note', 2, AT_ONCE);
    await heardOnce(client, [1, 2]);
  });

  test('freeze: a page that slept through the heartbeats trusts the clock, not its timers', async () => {
    const { server, page, client, hide, show } = await start('chromium', {
      ...PATIENT,
      heartbeatInterval: 30_000,
      heartbeatTimeout: 10_000,
    });
    await hide();
    // An hour passes in its sleep, as on a laptop; the connection looks as if it were there.
    await page.evaluate(`{
      const now = Date.now;
      document.addEventListener('freeze', () => { Date.now = () => now() + 3_600_000; }, { once: true });
    }`);
    await setFrozen(page, true);
    await setFrozen(page, false);
    await show();
    await until(() => server.requests.length === 2, 'a new stream', AT_ONCE);
    await server.broker.broadcast('note', 1);
    await client.has('note', 1, AT_ONCE);
    await heardOnce(client, [1]);
  });

  test('offline: it waits without asking, and is back at once when it is online', async () => {
    const { server, page, client } = await start('chromium', PATIENT);
    await server.broker.broadcast('note', 1);
    await client.has('note');
    await page.setOfflineMode(true);
    await missOne(server, 2);
    await client.is('reconnecting');
    const { attempt } = (await client.log()).statuses.at(-1)!;

    await page.setOfflineMode(false);
    await client.has('note', 2, AT_ONCE);
    await heardOnce(client, [1, 2]);
    expect(attempt).toBeLessThanOrEqual(1);
  });

  test('offline: a stream that is still there is left alone', async () => {
    const { server, page, client } = await start('chromium', PATIENT);
    await page.setOfflineMode(true);
    await server.broker.broadcast('note', 1);
    await client.has('note');
    await page.setOfflineMode(false);
    await server.broker.broadcast('note', 2);
    await client.has('note', 2);
    expect(server.requests).toHaveLength(1);
    expect(await client.status()).toBe('connected');
  });
});
