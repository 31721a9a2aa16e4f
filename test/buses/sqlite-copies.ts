/** The SQLite entry built anew from `src/`: copies of its modules that share no variable with those that tests import. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import { build } from 'tsup';
import { root } from '../support/package.js';

export interface Copies {
  /** Files to be imported, and required. */
  readonly esm: string;
  readonly cjs: string;
  remove(): Promise<void>;
}

export async function buildCopies(): Promise<Copies> {
  // Beside node_modules, where the SQLite client is found.
  const cache = path.join(root, 'node_modules', '.cache');
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(path.join(cache, 'sse-broker-copies-'));
  await build({
    entry: { sqlite: path.join(root, 'src/buses/sqlite.ts') },
    outDir: folder,
    format: ['esm', 'cjs'],
    outExtension: ({ format }) => ({ js: format === 'esm' ? '.mjs' : '.cjs' }),
    platform: 'node',
    target: 'node20',
    config: false,
    dts: false,
    silent: true,
  });
  return {
    esm: path.join(folder, 'sqlite.mjs'),
    cjs: path.join(folder, 'sqlite.cjs'),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
