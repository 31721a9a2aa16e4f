/** Other versions of Node, from npm (the package `node` is a front of them); they stay in `node_modules/.cache`. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { installOnce, root, run } from './package.js';

/** The path of a Node binary of that version, downloaded when it is not there yet. */
export async function nodeOf(version: string): Promise<string> {
  const system = process.platform === 'win32' ? 'win' : process.platform;
  // The names that the package `node` picks from.
  const prefix = system === 'darwin' && process.arch === 'arm64' ? 'node-bin' : 'node';
  const runtime = `${prefix}-${system}-${process.arch}`;
  const home = path.join(root, 'node_modules/.cache/node-versions', version);
  const installed = async () => {
    const folder = path.join(home, 'node_modules', runtime);
    const { bin } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8')) as { bin: { node: string } };
    const node = path.join(folder, bin.node);
    const { stdout } = await run(node, ['--version'], home);
    if (!stdout.startsWith(`v${version}.`)) throw new Error(`${runtime}@${version} is Node ${stdout}`);
    return node;
  };
  return installed().catch(async () => {
    await installOnce(home, `${runtime}@${version}`);
    return installed();
  });
}
