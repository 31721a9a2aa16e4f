/**
 * The parts, each alone: encoding, queue, registry, fan-out. Run it before and after a change of one of them.
 *
 *     node bench/parts.mjs            all
 *     node bench/parts.mjs encode     one
 *
 * The parts are internal, so they are bundled from the sources rather than imported from the package.
 */
import { readdirSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'tsup';

const folder = fileURLToPath(new URL('parts/', import.meta.url));
const outDir = fileURLToPath(new URL('../node_modules/.cache/bench-parts/', import.meta.url));
const wanted = process.argv.slice(2);
const names = readdirSync(folder)
  .map((file) => basename(file, '.ts'))
  .filter((name) => wanted.length === 0 || wanted.includes(name));
if (names.length === 0) throw new Error(`no such part; there are ${readdirSync(folder).join(', ')}`);

await build({
  config: false,
  entry: Object.fromEntries(names.map((name) => [name, `${folder}${name}.ts`])),
  outDir,
  format: 'esm',
  target: 'node20',
  splitting: false,
  silent: true,
});
for (const name of names) {
  const { bench } = await import(pathToFileURL(`${outDir}${name}.mjs`).href).catch(
    () => import(pathToFileURL(`${outDir}${name}.js`).href),
  );
  await bench.run();
  console.log(`\n${bench.name}`);
  console.table(
    bench.tasks.map(({ name: task, result }) => ({
      task,
      'median ns': Math.round(result.latency.p50 * 1e6),
      '± %': Number(result.latency.rme.toFixed(1)),
      samples: result.latency.samplesCount,
    })),
  );
}
