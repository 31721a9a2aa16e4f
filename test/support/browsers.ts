/**
 * Real browsers with several tabs, driven by Puppeteer: Chromium over its own protocol, Firefox over WebDriver BiDi. For
 * what happens to tabs (hidden, frozen, closed, crashed, back from the cache), which Playwright, as in browser.ts, keeps
 * from happening: it makes every page believe that it is in front.
 */
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import puppeteer, { type Browser, type BrowserContext, type LaunchOptions, type Page } from 'puppeteer-core';
import { afterAll, onTestFinished } from 'vitest';
import { findChromium } from './browser.js';
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

/** Path of a Firefox: `FIREFOX_PATH`, Debian's, or one on `PATH`; undefined where there is none. */
export function findFirefox(): string | undefined {
  const { FIREFOX_PATH, PATH = '' } = process.env;
  if (FIREFOX_PATH) return isExecutable(FIREFOX_PATH) ? FIREFOX_PATH : undefined;
  const folders = ['/usr/bin', ...PATH.split(path.delimiter).filter((folder) => folder !== '')];
  return folders
    .flatMap((folder) => ['firefox-esr', 'firefox'].map((name) => path.join(folder, name)))
    .find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const running = new Map<BrowserName, Promise<Browser>>();

afterAll(async () => {
  for (const browser of running.values()) await (await browser).close();
  running.clear();
});

function launch(name: BrowserName): Promise<Browser> {
  const executablePath = name === 'chromium' ? findChromium() : findFirefox();
  const [words, variable, debian] =
    name === 'chromium' ? ['Chromium', 'CHROMIUM_PATH', 'chromium'] : ['Firefox', 'FIREFOX_PATH', 'firefox-esr'];
  skipUnless(
    executablePath,
    `no ${words} found; apt-get install ${debian}, or set ${variable} to the executable of one`,
  );
  const browser =
    running.get(name) ?? puppeteer.launch({ ...(name === 'chromium' ? CHROMIUM : FIREFOX), executablePath });
  running.set(name, browser);
  return browser;
}

/**
 * A profile of its own: its tabs share cookies, storage, locks and channels. Closed when the test ends. Skips the test
 * where the browser is missing.
 */
export async function openProfile(name: BrowserName): Promise<BrowserContext> {
  const context = await (await launch(name)).createBrowserContext();
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
