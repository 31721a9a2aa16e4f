/** The peers' packages: not ours to depend on, so they have a package of their own and are installed on demand. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const FOLDER = fileURLToPath(new URL('../peers/', import.meta.url));

/** Installs them from their lock file unless they are there. */
export function installPeers() {
  if (existsSync(`${FOLDER}node_modules/.package-lock.json`)) return;
  console.log('Installing the peers (bench/peers/package-lock.json), once: npm ci');
  const { status } = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: FOLDER,
    stdio: 'inherit',
    shell: process.platform === 'win32',
  });
  if (status !== 0) {
    throw new Error('the peers could not be installed: run "npm ci" in bench/peers, or leave out --peers');
  }
}
