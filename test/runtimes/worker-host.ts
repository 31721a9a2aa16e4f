/** workerd with one worker of ours: its modules by name, and the network of this machine. */
import { spawn } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { onTestFinished } from 'vitest';
import { root, temporaryFolder } from '../support/package.js';
import { runtimeOf } from '../support/runtimes.js';

/** Serves `worker.mjs` until the running test ends, without a flag: what Node has is not there. Gives its URL. */
export async function startWorker(compatibilityDate = '2026-11-01'): Promise<string> {
  const workerd = await runtimeOf('workerd');
  const { folder, remove } = await temporaryFolder();
  onTestFinished(remove);
  const modules = await modulesOf();
  const embedded = await Promise.all(
    [...modules].map(async ([name, text], index) => {
      await writeFile(path.join(folder, `${index}.js`), text);
      return `(name = ${JSON.stringify(name)}, esModule = embed "${index}.js")`;
    }),
  );
  await writeFile(
    path.join(folder, 'config.capnp'),
    `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = (
      modules = [${embedded.join(', ')}],
      compatibilityDate = "${compatibilityDate}",
      globalOutbound = "network",
    )),
    (name = "network", network = (allow = ["local"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);
`,
  );
  const child = spawn(workerd, ['serve', '--control-fd=1', 'config.capnp'], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  let said = '';
  child.stderr.on('data', (text) => {
    said += text;
  });
  for await (const line of createInterface(child.stdout)) {
    const { event, port } = JSON.parse(line) as { event: string; port?: number };
    if (event === 'listen' && port !== undefined) return `http://127.0.0.1:${port}`;
  }
  throw new Error(`workerd ended: ${said}`);
}

/** The worker, the scenarios, and the client of `dist/` with all that it imports; `main` first, as workerd wants it. */
async function modulesOf(): Promise<Map<string, string>> {
  const modules = new Map<string, string>();
  const add = async (name: string, file: string): Promise<void> => {
    if (modules.has(name)) return;
    modules.set(name, await readFile(file, 'utf8'));
    for (const [, imported] of modules.get(name)!.matchAll(/from\s*['"](\.\/[^'"]+)['"]/g)) {
      await add(path.posix.normalize(imported!), path.join(path.dirname(file), imported!));
    }
  };
  await add('worker.mjs', path.join(root, 'test/runtimes/children/worker.mjs'));
  await add('sse-broker/client', path.join(root, 'dist/client.js'));
  // Beside `sse-broker/client`, as workerd sees names.
  return new Map([...modules].map(([name, text]) => [/^chunk-/.test(name) ? `sse-broker/${name}` : name, text]));
}
