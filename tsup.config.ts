import { defineConfig, type Options } from 'tsup';

/**
 * The one list of public entries: the subpath is the key, the file the value. `package.json#exports`
 * must name exactly these (test/package/exports.test.ts compares them).
 */
export const entry: Record<string, string> = {
  index: 'src/index.ts',
};

const shared: Options = {
  entry,
  target: 'node20',
  platform: 'node',
  sourcemap: true,
  // One copy of each class per format: `instanceof` and private fields work across subpaths.
  splitting: true,
  treeshake: true,
  clean: false,
};

export default defineConfig([
  { ...shared, format: 'esm', dts: true },
  // `uuid` is published as ESM only. Node 20.19 can require() that, Jest and older bundlers cannot: the
  // CommonJS build carries the few lines of it that we use.
  { ...shared, format: 'cjs', dts: true, noExternal: ['uuid'] },
]);
