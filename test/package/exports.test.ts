/** The lists that name the entries of the package, and what the build may carry, agree with each other. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { entry } from '../../tsup.config.js';
import { readManifest, root } from '../support/package.js';

/** What `package.json` says for one entry of the build. */
function conditionsOf(name: string) {
  return {
    import: { types: `./dist/${name}.d.ts`, default: `./dist/${name}.js` },
    require: { types: `./dist/${name}.d.cts`, default: `./dist/${name}.cjs` },
  };
}

test('package.json exports every entry of tsup.config.ts, in both formats, with types first', async () => {
  const expected = {
    ...Object.fromEntries(
      Object.keys(entry).map((name) => [name === 'index' ? '.' : `./${name}`, conditionsOf(name)] as const),
    ),
    './package.json': './package.json',
  };
  const { exports } = await readManifest();
  // Compared as text: in `exports` the order of the conditions decides.
  expect(JSON.stringify(exports, null, 2)).toBe(JSON.stringify(expected, null, 2));
});

test('every entry is a file that says what it is', async () => {
  for (const file of Object.values(entry)) {
    expect(await readFile(path.join(root, file), 'utf8'), file).toMatch(/^\/\*\*/);
  }
});

test('the package needs uuid and eventemitter3 at run time, and nothing else', async () => {
  const { dependencies } = await readManifest();
  expect(Object.keys(dependencies)).toEqual(['eventemitter3', 'uuid']);
});

test('every peer is optional', async () => {
  const { peerDependencies = {}, peerDependenciesMeta = {} } = await readManifest();
  for (const peer of Object.keys(peerDependencies))
    expect(peerDependenciesMeta[peer], peer).toEqual({ optional: true });
});
