/**
 * One stream for all tabs (`shareAcrossTabs`), in real browsers over HTTP/1.1, which allows six connections per host. What
 * is asked of every hand-over: each tab that lives gets every event, once, in order, while publishing goes on.
 */
import type { BrowserContext, Page } from 'puppeteer-core';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type BrowserName, crash, openProfile, setFrozen, startBrowsers } from '../support/browsers.js';
import { clientPage, openClient, type PageClient } from '../support/client-page.js';
import { type RestartableServer, startRestartable } from '../support/restartable-server.js';
import { until } from '../support/until.js';

startBrowsers('chromium', 'firefox');

interface Tab {
  readonly page: Page;
  readonly client: PageClient;
}

/** A server and tabs that share. */
interface Sharing {
  readonly server: RestartableServer;
  readonly profile: BrowserContext;
  readonly tabs: Tab[];
  open(config?: object): Promise<Tab>;
  /** The one that holds the stream. */
  leader(among?: readonly Tab[]): Promise<Tab>;
}

async function start(browser: BrowserName, count: number, config: object = {}): Promise<Sharing> {
  const server = await startRestartable({ other: clientPage(), broker: { heartbeatInterval: 1_000 } });
  const profile = await openProfile(browser);
  const tabs: Tab[] = [];
  const open = async (more: object = {}): Promise<Tab> => {
    const page = await profile.newPage();
    const client = await openClient(page, server.url, {
      url: '/events',
      shareAcrossTabs: true,
      reconnectInterval: 100,
      ...config,
      ...more,
    });
    await client.is('connected');
    return { page, client };
  };
  tabs.push(...(await Promise.all(Array.from({ length: count }, () => open()))));
  const leader = async (among: readonly Tab[] = tabs): Promise<Tab> => {
    let found: Tab[] = [];
    await until(async () => {
      const transports = await Promise.all(among.map(({ client }) => client.stats()));
      found = among.filter((_, i) => transports[i]!.transport === 'stream');
      return found.length === 1;
    }, 'one leader');
    return found[0]!;
  };
  return { server, profile, tabs, open, leader };
}

/** Publishes numbers from 1 on until stopped, which gives the last one. */
function publishAllTheTime({ server }: Sharing): () => Promise<number> {
  let n = 0;
  let isStopped = false;
  const publishing = (async () => {
    while (!isStopped) {
      n++;
      await server.broker.broadcast('note', n);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return n;
  })();
  onTestFinished(() => {
    isStopped = true;
  });
  return () => {
    isStopped = true;
    return publishing;
  };
}

const upTo = (last: number, first = 1) => Array.from({ length: last - first + 1 }, (_, i) => first + i);

/** Each of `tabs` has exactly the numbers from 1 to `last`. */
async function heardAll(tabs: readonly Tab[], last: number): Promise<void> {
  for (const { client } of tabs) {
    await client.has('note', last);
    expect(await client.dataOf('note')).toEqual(upTo(last));
    expect((await client.log()).gaps).toBe(0);
    expect(await client.stats()).toMatchObject({ dropped: 0 });
  }
}

/** Waits until the tabs have heard of something that was published after now. */
async function heardMore(tabs: readonly Tab[]): Promise<void> {
  const before = await Promise.all(tabs.map(async ({ client }) => (await client.dataOf('note')).length));
  await Promise.all(tabs.map(({ client }, i) => client.has('note', before[i]! + 5, 15_000)));
}

describe.each(['chromium', 'firefox'] as const)('%s', (browser) => {
  test('twenty tabs share one stream', { timeout: 60_000 }, async () => {
    const sharing = await start(browser, 20);
    const { server, tabs } = sharing;
    const { page } = await sharing.leader();
    for (const n of upTo(50)) await server.broker.broadcast('note', n);
    await heardAll(tabs, 50);

    expect(server.requests).toHaveLength(1);
    expect(server.broker.getStats().totalClients).toBe(1);
    const transports = await Promise.all(tabs.map(async ({ client }) => (await client.stats()).transport));
    expect(transports.filter((transport) => transport === 'shared')).toHaveLength(19);
    // Connections are free for everything else.
    expect(await page.evaluate("fetch('/anything').then(({ status }) => status)")).toBe(200);
  });

  test('when the leader is closed another tab goes on, without loss or doubles', async () => {
    const sharing = await start(browser, 4);
    const { tabs, server } = sharing;
    const stop = publishAllTheTime(sharing);
    await heardMore(tabs);
    let left = tabs;
    for (let closed = 1; closed <= 2; closed++) {
      const leader = await sharing.leader(left);
      await leader.page.close();
      left = left.filter((tab) => tab !== leader);
      await heardMore(left);
    }
    await heardAll(left, await stop());
    expect(server.broker.getStats().totalClients).toBe(1);
    expect(server.requests).toHaveLength(3);
  });

  test('when the leader disconnects another tab goes on, and it stays disconnected', async () => {
    const sharing = await start(browser, 3);
    const { tabs } = sharing;
    const stop = publishAllTheTime(sharing);
    await heardMore(tabs);
    const leader = await sharing.leader();
    const others = tabs.filter((tab) => tab !== leader);
    await leader.page.evaluate('client.disconnect()');
    await heardMore(others);
    await heardAll(others, await stop());
    expect(await leader.client.status()).toBe('disconnected');
  });

  test('a stream that ended for good ends for all, and a tab that comes later connects', async () => {
    const { server, tabs, open } = await start(browser, 3, { reconnect: false });
    await server.stop('deploy');
    // A tab that gets the lead before it hears of the end makes one attempt.
    const hasEnded = async ({ client }: Tab) => /disconnected|failed/.test(await client.status());
    for (const tab of tabs) await until(() => hasEnded(tab), 'the end');
    await server.start();
    await open();
    for (const tab of tabs) expect(await hasEnded(tab)).toBe(true);
    expect(server.broker.getStats().totalClients).toBe(1);
  });

  test('over a restart of the server every tab gets what it missed, once', async () => {
    const sharing = await start(browser, 3);
    const { server, tabs } = sharing;
    await server.broker.broadcast('note', 1);
    for (const { client } of tabs) await client.has('note');
    await server.stop('crash');
    for (const { client } of tabs) await client.is('reconnecting');
    await server.start();
    await server.broker.broadcast('note', 2);
    for (const { client } of tabs) await client.has('note', 2);
    await server.broker.broadcast('note', 3);
    await heardAll(tabs, 3);
    expect(server.broker.getStats().totalClients).toBe(1);
  });

  test('each tab has its own subscriptions, and a tab that comes later hears what comes later', async () => {
    const sharing = await start(browser, 2);
    const { server, tabs } = sharing;
    await tabs[0]!.page.evaluate("globalThis.heard = []; client.subscribe('a', (data) => heard.push(data)); 0");
    await tabs[1]!.page.evaluate("globalThis.heard = []; client.subscribe('b', (data) => heard.push(data)); 0");
    await server.broker.broadcast('a', 'A1');
    await server.broker.broadcast('b', 'B1');
    await until(() => tabs[1]!.page.evaluate('heard.length === 1'), 'B1');
    const late = await sharing.open();
    await late.page.evaluate("globalThis.heard = []; client.subscribe('a', (data) => heard.push(data)); 0");
    await tabs[1]!.page.evaluate("client.unsubscribe('b')");
    await server.broker.broadcast('b', 'B2');
    await server.broker.broadcast('a', 'A2');
    await until(() => late.page.evaluate('heard.length === 1'), 'A2 in the late tab');
    await until(() => tabs[0]!.page.evaluate('heard.length === 2'), 'A2 in the first tab');

    expect(await tabs[0]!.page.evaluate('heard')).toEqual(['A1', 'A2']);
    expect(await tabs[1]!.page.evaluate('heard')).toEqual(['B1']);
    expect(await late.page.evaluate('heard')).toEqual(['A2']);
    expect(server.requests).toHaveLength(1);
  });

  test('tabs with other names do not share', async () => {
    const sharing = await start(browser, 1, { name: 'alice' });
    await sharing.open({ name: 'bob' });
    await until(() => sharing.server.broker.getStats().totalClients === 2, 'two streams');
  });

  test('where the browser has no Web Locks each tab has its own stream', async () => {
    const sharing = await start(browser, 1);
    const page = await sharing.profile.newPage();
    await page.goto(sharing.server.url);
    await page.evaluate("Object.defineProperty(navigator, 'locks', { value: undefined }); 0");
    await page.evaluate("openClient({ url: '/events', shareAcrossTabs: true })");
    await until(() => sharing.server.broker.getStats().totalClients === 2, 'two streams');
    await sharing.server.broker.broadcast('note', 1);
    await until(() => page.evaluate("log.events.some(({ type }) => type === 'note')"), 'the event');
  });
});

describe('chromium, which can be told to', () => {
  test('crash: another tab goes on, without loss or doubles', async () => {
    const sharing = await start('chromium', 3);
    const { tabs, server } = sharing;
    const stop = publishAllTheTime(sharing);
    await heardMore(tabs);
    const leader = await sharing.leader();
    const left = tabs.filter((tab) => tab !== leader);
    await crash(leader.page);
    await heardMore(left);
    await heardAll(left, await stop());
    expect(server.broker.getStats().totalClients).toBe(1);
  });

  test('hang: a leader that no longer answers loses the lead, and catches up when it is back', {
    timeout: 40_000,
  }, async () => {
    const sharing = await start('chromium', 3);
    const { tabs, server } = sharing;
    const stop = publishAllTheTime(sharing);
    await heardMore(tabs);
    const leader = await sharing.leader();
    const others = tabs.filter((tab) => tab !== leader);
    // An endless loop, all but: nothing else of the tab runs, and no event tells anybody.
    const hanging = leader.page.evaluate('{ const end = Date.now() + 11_000; while (Date.now() < end); }');
    hanging.catch(() => {});
    await heardMore(others);
    // Its own, and that of one of the others.
    await until(() => server.broker.getStats().totalClients === 2, 'one more stream');

    await hanging;
    await heardMore(tabs);
    await heardAll(tabs, await stop());
    await until(() => server.broker.getStats().totalClients === 1, 'one stream');
  });

  test('freeze: another tab goes on, and the frozen one catches up when it thaws', async () => {
    const sharing = await start('chromium', 3);
    const { tabs, server } = sharing;
    const stop = publishAllTheTime(sharing);
    await heardMore(tabs);
    const leader = await sharing.leader();
    const others = tabs.filter((tab) => tab !== leader);
    // Only what is in the background is frozen.
    await others[0]!.page.bringToFront();
    await setFrozen(leader.page, true);
    await heardMore(others);

    await setFrozen(leader.page, false);
    await leader.page.bringToFront();
    await heardMore(tabs);
    await heardAll(tabs, await stop());
    await until(() => server.broker.getStats().totalClients === 1, 'one stream');
  });

  test('freeze: a follower that slept catches up when it thaws', async () => {
    const sharing = await start('chromium', 3);
    const { tabs } = sharing;
    const stop = publishAllTheTime(sharing);
    await heardMore(tabs);
    const leader = await sharing.leader();
    const [sleeper, other] = tabs.filter((tab) => tab !== leader) as [Tab, Tab];
    await leader.page.bringToFront();
    await setFrozen(sleeper.page, true);
    await heardMore([leader, other]);

    await setFrozen(sleeper.page, false);
    await sleeper.page.bringToFront();
    await heardMore(tabs);
    await heardAll(tabs, await stop());
  });

  test('freeze: when the leader goes while a follower sleeps, the follower misses nothing', async () => {
    const sharing = await start('chromium', 3);
    const { tabs } = sharing;
    const stop = publishAllTheTime(sharing);
    await heardMore(tabs);
    const leader = await sharing.leader();
    const [sleeper, other] = tabs.filter((tab) => tab !== leader) as [Tab, Tab];
    await other.page.bringToFront();
    await setFrozen(sleeper.page, true);
    await heardMore([other]);
    await leader.page.close();
    await heardMore([other]);

    await setFrozen(sleeper.page, false);
    await sleeper.page.bringToFront();
    await heardMore([sleeper, other]);
    await heardAll([sleeper, other], await stop());
  });
});
