/** Relative addresses in real browsers: they mean what they mean to `fetch`, for the stream and for tabs that share it. */
import type { Frame, Page } from 'puppeteer-core';
import { describe, expect, test } from 'vitest';
import { openProfile, startBrowsers } from '../support/browsers.js';
import { clientPage, openClient, PageClient } from '../support/client-page.js';
import { startFaultServer } from '../support/fault-server.js';
import { until } from '../support/until.js';

startBrowsers('chromium', 'firefox');

/** Every stream tells its own path; every other page has a client, those of `pages` are as they stand there. */
async function start(pages: Readonly<Record<string, string>> = {}) {
  const other = clientPage();
  return startFaultServer(({ req, res }) => {
    const { url = '' } = req;
    if (url.endsWith('events')) {
      res.writeHead(200, { 'content-type': 'text/event-stream' }).write(`event: path\ndata: "${url}"\n\n`);
    } else if (pages[url] !== undefined) res.setHeader('Content-Type', 'text/html').end(pages[url]);
    else other(req, res);
  });
}

describe.each(['chromium', 'firefox'] as const)('%s', (browser) => {
  const openPage = async (): Promise<Page> => (await openProfile(browser)).newPage();

  test('a page with a <base> gets the stream that its fetch would get', async () => {
    const page = '<!doctype html><base href="/app/"><script src="/client.js" charset="utf-8"></script>';
    const server = await start({ '/app/jobs/7': page });
    const client = await openClient(await openPage(), `${server.url}/app/jobs/7`, { url: 'events' });
    await client.has('path');
    expect(await client.dataOf('path')).toEqual(['/app/events']);
  });

  test('a frame that has no address of its own gets streams of its page', async () => {
    const script = "<script src='/client.js' charset='utf-8'></script>";
    const server = await start({ '/outer': `<!doctype html><iframe srcdoc="${script}"></iframe>` });
    const page = await openPage();
    await page.goto(`${server.url}/outer`);
    const frame = page.frames().find((one) => one !== page.mainFrame()) as Frame;
    await frame.waitForFunction('globalThis.openClient');
    const client = new PageClient(frame);
    await frame.evaluate('openClient({ url: "/events" })');
    await client.has('path');
  });

  test('a page that says no charset can read its script', async () => {
    const server = await start({ '/plain': '<!doctype html><script src="/client.js"></script>' });
    const page = await openPage();
    await page.goto(`${server.url}/plain`);
    expect(await page.evaluate('typeof SSEClient')).toBe('function');
  });
});

test('tabs in two folders do not share what the same relative address is in each', async () => {
  const server = await start();
  const profile = await openProfile('chromium');
  const open = async (folder: string) => {
    const config = { url: 'events', shareAcrossTabs: true };
    const client = await openClient(await profile.newPage(), `${server.url}/${folder}/`, config);
    await client.is('connected');
    return client;
  };
  const [a, b, again] = [await open('a'), await open('b'), await open('a')];
  await until(async () => (await b.dataOf('path')).length > 0, 'an event in the other folder');
  expect(await a.dataOf('path')).toEqual(['/a/events']);
  expect(await b.dataOf('path')).toEqual(['/b/events']);
  expect(await again.stats()).toMatchObject({ transport: 'shared' });
});
