import { readFile, writeFile } from 'node:fs/promises';
import { defineConfig, type Options } from 'tsup';

/**
 * The one list of public entries: the subpath is the key, the file the value. `package.json#exports`
 * must name exactly these (test/package/exports.test.ts compares them).
 */
export const entry: Record<string, string> = {
  index: 'src/index.ts',
  api: 'src/api/index.ts',
  auth: 'src/auth/index.ts',
  client: 'src/client/index.ts',
  fastify: 'src/adapters/fastify.ts',
  h3: 'src/adapters/h3.ts',
  hono: 'src/adapters/hono.ts',
  inbox: 'src/inbox/index.ts',
  koa: 'src/adapters/koa.ts',
  nats: 'src/buses/nats.ts',
  nest: 'src/adapters/nest.ts',
  react: 'src/react/index.ts',
  redis: 'src/buses/redis.ts',
  sqlite: 'src/buses/sqlite.ts',
  testing: 'src/testing/index.ts',
  vue: 'src/vue/index.ts',
};

/** What runs in pages too. Built on its own, so that no chunk of it is shared with the server's. */
const PORTABLE: readonly string[] = ['client', 'react', 'vue'];

const entriesWhere = (isPortable: boolean): Record<string, string> =>
  Object.fromEntries(Object.entries(entry).filter(([name]) => PORTABLE.includes(name) === isPortable));

const shared: Options = {
  entry: entriesWhere(false),
  target: 'node20',
  platform: 'node',
  sourcemap: true,
  // One copy of each class per format: `instanceof` and private fields work across subpaths.
  splitting: true,
  treeshake: true,
  // Bare `http` for `node:http` would end in a polyfill, or nowhere, outside Node.
  removeNodeProtocol: false,
  clean: false,
};

/** Private fields and `??=` stay as they are: Chrome 84, Firefox 90, Safari 15 and later run it. */
const portable: Options = {
  ...shared,
  entry: entriesWhere(true),
  target: 'es2022',
  platform: 'neutral',
  // A page without a bundler imports dist/client.js as it is, and knows no bare name.
  noExternal: ['eventemitter3'],
  esbuildOptions(options) {
    options.mainFields = ['module', 'main'];
    // Constants stand where they are used. In the one file that is published minifiers are not sure enough to do that: 76 B.
    options.minifySyntax = true;
  },
};

/** Rollup, which tree-shakes, drops the directive that lets server components of React import hooks: back to the front. */
const useClient: NonNullable<Options['plugins']>[number] = {
  name: 'use-client',
  async buildEnd({ writtenFiles }) {
    for (const { name } of writtenFiles.filter(({ name }) => /(^|\/)react\.c?js$/.test(name))) {
      // On the first line, so that the source map stays right.
      await writeFile(name, `'use client';${await readFile(name, 'utf8')}`);
    }
  },
};

const portableScripts: Options = { ...portable, plugins: [useClient], format: ['esm', 'cjs'] };

const serverScripts: Options[] = [
  { ...shared, format: 'esm' },
  // `uuid` is published as ESM only. Node 20.19 can require() that, Jest and older bundlers cannot: the
  // CommonJS build carries the few lines of it that we use.
  { ...shared, format: 'cjs', noExternal: ['uuid'] },
];

/** One pass for `.d.ts` and `.d.cts`; it takes longer than all the rest. */
const types: Options = { ...shared, entry, format: ['esm', 'cjs'], dts: { only: true } };

/**
 * `tsup --no-dts` leaves the types out: `npm start` has no use for them. Files named on the command line are the server's:
 * they take the place of every `entry` here.
 */
export default defineConfig(({ dts, entry: named }) => {
  const scripts = named === undefined ? [portableScripts, ...serverScripts] : serverScripts;
  return dts === false ? scripts : [...scripts, types];
});
