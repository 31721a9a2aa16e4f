/** JavaScript for a page: modules and packages put together into one script, `sse-broker/…` taken from `src/`. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { build } from 'tsup';
import { entry } from '../../tsup.config.js';
import { root } from './package.js';

export interface BundleOptions {
  /** As a user's bundler does for production: minified, and without the branches that are for development. Default false. */
  readonly minify?: boolean;
  /** Packages that stay imports. Default: none. */
  readonly external?: readonly string[];
  /** `iife` for a script tag, `esm` for a module. Default `iife`. */
  readonly format?: 'iife' | 'esm';
  /** Other places of packages: name to folder. Default: none. */
  readonly alias?: Readonly<Record<string, string>>;
}

/** What `import`s in `source` (JavaScript or TypeScript) need, and `source` itself, as one script. */
export async function bundle(
  source: string,
  { minify = false, external = [], format = 'iife', alias = {} }: BundleOptions = {},
): Promise<string> {
  // Beside node_modules, where packages are found.
  const cache = path.join(root, 'node_modules', '.cache');
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(path.join(cache, 'sse-broker-bundle-'));
  try {
    await writeFile(path.join(folder, 'page.ts'), source);
    await build({
      entry: { page: path.join(folder, 'page.ts') },
      outDir: path.join(folder, 'out'),
      format,
      platform: 'browser',
      target: 'es2022',
      minify,
      external: [...external],
      // All others, also those that package.json of this project names; tsup asks this list first.
      noExternal: external.length === 0 ? [/./] : [new RegExp(`^(?!(?:${external.join('|')})(?:/|$))`)],
      outExtension: () => ({ js: '.js' }),
      esbuildOptions(options) {
        const entries = Object.entries(entry).map(([name, file]) => [`sse-broker/${name}`, path.join(root, file)]);
        options.alias = { ...Object.fromEntries(entries), ...alias };
        options.legalComments = 'none';
      },
      define: { 'process.env.NODE_ENV': JSON.stringify(minify ? 'production' : 'development') },
      config: false,
      dts: false,
      silent: true,
      splitting: false,
      treeshake: false,
    });
    return await readFile(path.join(folder, 'out', 'page.js'), 'utf8');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
