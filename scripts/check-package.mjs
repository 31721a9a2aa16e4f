// Packs the package once and lets publint and attw look at the packed file, as a registry would get it.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
const folder = mkdtempSync(path.join(os.tmpdir(), 'sse-broker-pack-'));
try {
  run(process.execPath, 'scripts/build.mjs', '--if-stale');
  const packed = JSON.parse(run('npm', 'pack', '--ignore-scripts', '--json', '--pack-destination', folder))[0];
  const file = path.join(folder, packed.filename);
  console.log(run('node_modules/.bin/publint', 'run', file, '--strict'));
  console.log(run('node_modules/.bin/attw', file));
} finally {
  rmSync(folder, { recursive: true });
}

function run(command, ...args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (status === 0) return stdout.trimEnd();
  process.exitCode = 1;
  throw new Error(`${path.basename(command)} ended with ${status}\n${stdout}${stderr}`, { cause: error });
}
