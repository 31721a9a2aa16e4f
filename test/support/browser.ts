/** A real Chromium for the tests of one file: found, started once, closed at the end. */
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, onTestFinished } from 'vitest';
import { findChromium, STARTING_MS } from './find-browser.js';
import { skipUnless } from './skip.js';

/** Nothing here talks to anybody but the test; without a sandbox, because CI is root in a container. */
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
  '--disable-quic',
];

let browser: Browser | undefined;

beforeAll(async () => {
  const executablePath = findChromium();
  if (executablePath === undefined) return;
  browser = await chromium.launch({ executablePath, args: ARGUMENTS, timeout: STARTING_MS });
}, STARTING_MS);

afterAll(() => browser?.close());

/** A page in a profile of its own, closed when the test ends. Skips the test where there is no Chromium. */
export async function openPage(options: BrowserContextOptions = {}): Promise<Page> {
  skipUnless(browser, 'no Chromium found; apt-get install chromium, or set CHROMIUM_PATH to the executable of one');
  const context = await browser.newContext(options);
  onTestFinished(() => context.close());
  return context.newPage();
}
