/** React in other versions than the one beside us, from npm; they stay in `node_modules/.cache`. */
import { access, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { installInto, root } from '../support/package.js';
import { skipUnless } from '../support/skip.js';

/** What stands for each version: with React 19 only what does not stand beside us anyway. */
const PACKAGES = {
  '18': ['react@18', 'react-dom@18', 'react-refresh@0.18'],
  '19': ['react-refresh@0.18'],
} as const;

export type ReactVersion = keyof typeof PACKAGES;

/** Package to folder, as a bundler's alias; installed when they are not there yet. Skips the test where that fails. */
export async function aliasesOf(version: ReactVersion): Promise<Record<string, string>> {
  const packages = PACKAGES[version];
  const installed = await install(`react-${version}`, packages).catch((error: Error) => error);
  // The command and npm's code; the rest of what npm says is about where it asked.
  const reason = installed instanceof Error ? installed.message.split('\n').slice(0, 2).join(': ') : '';
  skipUnless(typeof installed === 'string', `${packages.join(', ')} cannot be installed: ${reason}`);
  return Object.fromEntries(
    packages.map((specifier) => {
      const name = specifier.slice(0, specifier.lastIndexOf('@'));
      return [name, path.join(installed, 'node_modules', name)];
    }),
  );
}

async function install(name: string, packages: readonly string[]): Promise<string> {
  const home = path.join(root, 'node_modules/.cache', name);
  const isThere = () => access(path.join(home, 'node_modules/react-refresh/package.json'));
  await isThere().catch(async () => {
    // Two test files may want it at once: each installs beside, and the first to be done moves it into place, whole.
    await mkdir(path.dirname(home), { recursive: true });
    const beside = await mkdtemp(`${home}-`);
    try {
      await writeFile(path.join(beside, 'package.json'), '{ "private": true }\n');
      await installInto(beside, packages);
      await rename(beside, home).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
      });
    } finally {
      await rm(beside, { recursive: true, force: true });
    }
    await isThere();
  });
  return home;
}
