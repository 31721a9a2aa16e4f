/** What a page pays: everything that `sse-broker/client` and the React binding bring, minified and gzipped. */
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { bundle } from '../support/bundle.js';
import { assertBuilt, root } from '../support/package.js';

const KB = 1_000;

const gzipped = async (
  source: string,
  external: readonly string[] = [],
  alias: Readonly<Record<string, string>> = {},
): Promise<number> =>
  gzipSync(await bundle(source, { minify: true, format: 'esm', external, alias }), { level: 9 }).length;

const CLIENT = "export { SSEClient } from 'sse-broker/client';";

test('the client takes at most 8 kB, its dependencies included', async () => {
  const bytes = await gzipped("export * from 'sse-broker/client';");
  console.log(`sse-broker/client: ${bytes} B minified and gzipped`);
  expect(bytes).toBeLessThanOrEqual(8 * KB);
});

test('and so it does as it is published', async () => {
  await assertBuilt();
  const alias = { 'sse-broker/client': path.join(root, 'dist/client.js') };
  const bytes = await gzipped("export * from 'sse-broker/client';", [], alias);
  console.log(`dist/client.js: ${bytes} B minified and gzipped`);
  expect(bytes).toBeLessThanOrEqual(8 * KB);
});

test.each(['react', 'vue'])('the binding for %s takes at most 1.5 kB more', async (framework) => {
  const external = [framework];
  const client = await gzipped(CLIENT, external);
  const both = await gzipped(`${CLIENT} export * from 'sse-broker/${framework}';`, external);
  console.log(`sse-broker/${framework}: ${both - client} B more`);
  expect(both - client).toBeLessThanOrEqual(1.5 * KB);
});
