import { defineConfig, type Options } from 'tsup';

/**
 * The one list of public entries: the subpath is the key, the file the value. `package.json#exports`
 * must name exactly these (test/package/exports.test.ts compares them).
 */
export const entry: Record<string, string> = {
  index: 'src/index.ts',
  auth: 'src/auth/index.ts',
  fastify: 'src/adapters/fastify.ts',
  h3: 'src/adapters/h3.ts',
  hono: 'src/adapters/hono.ts',
  koa: 'src/adapters/koa.ts',
  nest: 'src/adapters/nest.ts',
  sqlite: 'src/buses/sqlite.ts',
  testing: 'src/testing/index.ts',
};

const shared: Options = {
  entry,
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

const scripts: Options[] = [
  { ...shared, format: 'esm' },
  // `uuid` is published as ESM only. Node 20.19 can require() that, Jest and older bundlers cannot: the
  // CommonJS build carries the few lines of it that we use.
  { ...shared, format: 'cjs', noExternal: ['uuid'] },
];

/** One pass for `.d.ts` and `.d.cts`; it takes longer than all the rest. */
const types: Options = { ...shared, format: ['esm', 'cjs'], dts: { only: true } };

/** `tsup --no-dts` leaves the types out: `npm start` has no use for them. */
export default defineConfig(({ dts }) => (dts === false ? scripts : [...scripts, types]));
