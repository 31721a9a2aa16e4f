/** Where browsers are on this machine. */
import { accessSync, constants } from 'node:fs';
import path from 'node:path';

/** How long one may take to start: 5 s alone, 18 s beside other tests and a build. */
export const STARTING_MS = 60_000;

/** Path of a Chromium: `CHROMIUM_PATH`, Debian's, or one on `PATH`; undefined where there is none. */
export function findChromium(): string | undefined {
  return find(process.env.CHROMIUM_PATH, ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']);
}

/** Path of a Firefox: `FIREFOX_PATH`, Debian's, or one on `PATH`; undefined where there is none. */
export function findFirefox(): string | undefined {
  return find(process.env.FIREFOX_PATH, ['firefox-esr', 'firefox']);
}

function find(named: string | undefined, names: readonly string[]): string | undefined {
  if (named) return isExecutable(named) ? named : undefined;
  const folders = ['/usr/bin', ...(process.env.PATH ?? '').split(path.delimiter).filter((folder) => folder !== '')];
  return folders.flatMap((folder) => names.map((name) => path.join(folder, name))).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
