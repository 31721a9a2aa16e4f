/** SqliteBus over the SQLite that Node itself has, from 22.13 on. */
import path from 'node:path';
import { expect, test } from 'vitest';
import { nodeOf } from '../support/node-version.js';
import { root, run } from '../support/package.js';
import { skipUnless } from '../support/skip.js';

test.each(['22', '24'])(
  'node:sqlite of Node %s keeps the contract',
  async (version) => {
    const node = await nodeOf(version).catch((error: Error) => error);
    const reason = node instanceof Error ? node.message.split('\n').slice(0, 2).join(': ') : '';
    skipUnless(typeof node === 'string', `Node ${version} cannot be installed: ${reason}`);
    const { stdout } = await run(node, [path.join(root, 'test/buses/children/builtin.mjs')], root);
    expect(stdout.match(/^ok /gm)?.length, stdout).toBeGreaterThan(40);
  },
  300_000,
);
