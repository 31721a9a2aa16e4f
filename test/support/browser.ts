/** A real Chromium for the tests of one file: found, started once, closed at the end. */
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, onTestFinished } from 'vitest';
import { skipUnless } from './skip.js';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

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

/** Path of a Chromium: `CHROMIUM_PATH`, Debian's, or one on `PATH`; undefined where there is none. */
export function findChromium(): string | undefined {
  const { CHROMIUM_PATH, PATH = '' } = process.env;
  if (CHROMIUM_PATH) return isExecutable(CHROMIUM_PATH) ? CHROMIUM_PATH : undefined;
  const folders = ['/usr/bin', ...PATH.split(path.delimiter).filter((folder) => folder !== '')];
  return folders.flatMap((folder) => NAMES.map((name) => path.join(folder, name))).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

let browser: Promise<Browser> | undefined;

afterAll(async () => {
  await (await browser)?.close();
});

/** A page in a profile of its own, closed when the test ends. Skips the test where there is no Chromium. */
export async function openPage(options: BrowserContextOptions = {}): Promise<Page> {
  const executablePath = findChromium();
  skipUnless(
    executablePath,
    'no Chromium found; apt-get install chromium, or set CHROMIUM_PATH to the executable of one',
  );
  browser ??= chromium.launch({ executablePath, args: ARGUMENTS });
  const context = await (await browser).newContext(options);
  onTestFinished(() => context.close());
  return context.newPage();
}
