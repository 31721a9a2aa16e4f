/**
 * Real browsers with several tabs, driven by Puppeteer: Chromium over its own protocol, Firefox over WebDriver BiDi. For
 * what happens to tabs (hidden, frozen, closed, crashed, back from the cache), which Playwright, as in browser.ts, keeps
 * from happening: it makes every page believe that it is in front.
 */
import puppeteer, { type Browser, type BrowserContext, type LaunchOptions, type Page } from 'puppeteer-core';
import { afterAll, beforeAll, onTestFinished } from 'vitest';
import { findChromium, findFirefox, STARTING_MS } from './find-browser.js';
import { skipUnless } from './skip.js';

export type BrowserName = 'chromium' | 'firefox';

/** Nothing here talks to anybody but the test; without a sandbox, because CI is root in a container. */
const CHROMIUM: LaunchOptions = {
  browser: 'chrome',
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--no-first-run',
    '--disable-quic',
  ],
};

const FIREFOX: LaunchOptions = {
  browser: 'firefox',
  extraPrefsFirefox: {
    'app.update.enabled': false,
    'browser.safebrowsing.downloads.remote.enabled': false,
    'browser.safebrowsing.malware.enabled': false,
    'browser.safebrowsing.phishing.enabled': false,
    'datareporting.policy.dataSubmissionEnabled': false,
    'extensions.update.enabled': false,
    'network.captive-portal-service.enabled': false,
    'network.connectivity-service.enabled': false,
    'toolkit.telemetry.enabled': false,
  },
};

const running = new Map<BrowserName, Browser>();

/** Starts these before the first test of the file: on a busy machine that takes longer than a test may. */
export function startBrowsers(...names: BrowserName[]): void {
  beforeAll(async () => {
    for (const name of names) {
      const executablePath = name === 'chromium' ? findChromium() : findFirefox();
      if (executablePath === undefined) continue;
      const options = name === 'chromium' ? CHROMIUM : FIREFOX;
      running.set(name, await puppeteer.launch({ ...options, executablePath, timeout: STARTING_MS }));
    }
  }, STARTING_MS * names.length);
}

afterAll(async () => {
  for (const browser of running.values()) await browser.close();
  running.clear();
});

function started(name: BrowserName): Browser {
  const browser = running.get(name);
  const [words, variable, debian] =
    name === 'chromium' ? ['Chromium', 'CHROMIUM_PATH', 'chromium'] : ['Firefox', 'FIREFOX_PATH', 'firefox-esr'];
  skipUnless(browser, `no ${words} found; apt-get install ${debian}, or set ${variable} to the executable of one`);
  return browser;
}

/**
 * A profile of its own: its tabs share cookies, storage, locks and channels. Closed when the test ends. Skips the test
 * where the browser is missing.
 */
export async function openProfile(name: BrowserName): Promise<BrowserContext> {
  const context = await started(name).createBrowserContext();
  onTestFinished(() => context.close());
  return context;
}

/** A tab in a profile of its own. */
export async function openTab(name: BrowserName): Promise<Page> {
  return (await openProfile(name)).newPage();
}

/** Freezes a tab of Chromium as it does with those in the background, or thaws it. Frozen, it runs no code at all. */
export async function setFrozen(page: Page, isFrozen: boolean): Promise<void> {
  const session = await page.createCDPSession();
  await session.send('Page.setWebLifecycleState', { state: isFrozen ? 'frozen' : 'active' });
  await session.detach();
}

/** Kills the process of a tab of Chromium, as the system does when memory is short. */
export async function crash(page: Page): Promise<void> {
  const session = await page.createCDPSession();
  const crashed = new Promise<void>((resolve) => page.once('error', () => resolve()));
  // It never answers: who should.
  session.send('Page.crash').catch(() => {});
  await crashed;
}
