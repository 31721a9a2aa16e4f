/** What a page pays: everything that `sse-broker/client` and the React binding bring, minified and gzipped. */
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { bundle } from '../support/bundle.js';

const KB = 1_000;

const gzipped = async (source: string, external: readonly string[] = []): Promise<number> =>
  gzipSync(await bundle(source, { minify: true, format: 'esm', external }), { level: 9 }).length;

const CLIENT = "export { SSEClient } from 'sse-broker/client';";

test('the client takes at most 8 kB, its dependencies included', async () => {
  const bytes = await gzipped("export * from 'sse-broker/client';");
  console.log(`sse-broker/client: ${bytes} B minified and gzipped`);
  expect(bytes).toBeLessThanOrEqual(8 * KB);
});

test.each(['react', 'vue'])('the binding for %s takes at most 1.5 kB more', async (framework) => {
  const external = [framework];
  const client = await gzipped(CLIENT, external);
  const both = await gzipped(`${CLIENT} export * from 'sse-broker/${framework}';`, external);
  console.log(`sse-broker/${framework}: ${both - client} B more`);
  expect(both - client).toBeLessThanOrEqual(1.5 * KB);
});
