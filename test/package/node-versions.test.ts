/**
 * The packed package under every Node version that we promise: the lowest of `engines`, and the newest of each even major.
 * The runtimes come from npm (the package `node` is a front of them) and stay in `node_modules/.cache`.
 */
import { cp } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { nodeOf } from '../support/node-version.js';
import { installPacked, root, run, specifiers, temporaryFolder } from '../support/package.js';
import { skipUnless } from '../support/skip.js';

let folder: string;
let remove: () => Promise<void>;

beforeAll(async () => {
  ({ folder, remove } = await temporaryFolder());
  // What entries of ours import: who imports those has them.
  await installPacked(folder, ['react', 'vue', 'zod']);
  await cp(path.join(root, 'test/package/smoke'), folder, { recursive: true });
}, 120_000);

afterAll(() => remove?.());

// 20.19 is what `engines` promises; the other majors in their newest version.
test.each(['20.19', '22', '24', '26'])(
  'Node %s runs the smoke suite, as ESM and as CommonJS',
  async (version) => {
    const node = await nodeOf(version).catch((error: Error) => error);
    // The command and npm's code; the rest of what npm says is about where it asked.
    const reason = node instanceof Error ? node.message.split('\n').slice(0, 2).join(': ') : '';
    skipUnless(typeof node === 'string', `Node ${version} cannot be installed: ${reason}`);
    const subpaths = await specifiers();
    for (const file of ['esm.mjs', 'commonjs.cjs']) {
      const { stdout, stderr } = await run(node, [file, ...subpaths], folder);
      expect(stdout.match(/^ok /gm)?.length, stdout).toBeGreaterThan(5);
      // Nothing of ours is deprecated or experimental there.
      expect(stderr).not.toMatch(/deprecat|experimental/i);
    }
  },
  300_000,
);
