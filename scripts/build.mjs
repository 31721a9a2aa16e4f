// Builds dist/ with tsup and takes away what an older build left there.
//
//   node scripts/build.mjs              always, with types
//   --if-stale                          only when a source is newer than what was built
//   --no-types                          no .d.ts files: enough to run, and three times as fast
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));

const withTypes = !process.argv.includes('--no-types');
const outputs = ['dist/index.js', 'dist/index.cjs', ...(withTypes ? ['dist/index.d.ts', 'dist/index.d.cts'] : [])];
const sources = ['package.json', 'tsconfig.json', 'tsup.config.ts', ...filesBelow('src')];

if (!process.argv.includes('--if-stale') || isStale()) build();

/** `dist/` is as new as its sources when its oldest entry is newer than the newest of them. */
function isStale() {
  if (!outputs.every((file) => existsSync(file))) return true;
  return Math.min(...outputs.map(writtenAt)) < Math.max(...sources.map(writtenAt));
}

function build() {
  const startedAt = Date.now();
  const tsup = path.resolve('node_modules/tsup/dist/cli-default.js');
  const { status } = spawnSync(process.execPath, [tsup, '--silent', ...(withTypes ? [] : ['--no-dts'])], {
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
  // Chunks are named by their content, so those of the last build are still there. They go only now: a program that
  // runs beside this build finds all of its files until the new ones stand. Types that were left out stay.
  for (const file of filesBelow('dist')) {
    const isKept = !withTypes && /\.d\.c?ts$/.test(file);
    if (!isKept && writtenAt(file) < startedAt - 1_000) rmSync(file);
  }
  console.log(`built dist/ in ${((Date.now() - startedAt) / 1_000).toFixed(1)} s`);
}

/** When `file` was written, in milliseconds; a missing one was written never. */
function writtenAt(file) {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

function filesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name));
}
