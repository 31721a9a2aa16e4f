/** The package as a user gets it: packed, and installed into a folder of its own. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** The folder of this project, without a slash at its end. */
export const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, Readonly<Record<string, string>>>>>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
}

/** What `package.json` says. */
export async function readManifest(): Promise<Manifest> {
  return JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8'));
}

/** What may be imported, as in `sse-broker/koa`: the keys of `exports` that are code. */
export async function specifiers(): Promise<string[]> {
  const { name, exports } = await readManifest();
  return Object.entries(exports)
    .filter(([, target]) => typeof target === 'object')
    .map(([subpath]) => path.posix.join(name, subpath));
}

/** An empty folder outside of this project, with its end. */
export async function temporaryFolder(): Promise<{ folder: string; remove: () => Promise<void> }> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'sse-broker-'));
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

/** Packs what `dist/` holds now and installs it into `folder`, with `packages` beside it. Throws as {@link assertBuilt}. */
export async function installPacked(folder: string, packages: readonly string[] = []): Promise<void> {
  await assertBuilt();
  const tarballs = path.join(folder, 'tarballs');
  await mkdir(tarballs);
  const { stdout } = await run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', tarballs], root);
  const [{ filename }] = JSON.parse(stdout) as [{ filename: string }];
  await writeFile(path.join(folder, 'package.json'), '{ "private": true }\n');
  await installInto(folder, [path.join(tarballs, filename), ...packages]);
}

/** `npm install` of `packages` into `folder`, from npm's cache where it has them; no script of theirs runs. */
export async function installInto(folder: string, packages: readonly string[]): Promise<void> {
  const quiet = [
    '--ignore-scripts',
    '--prefer-offline',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
    '--fetch-retries=1',
  ];
  await run('npm', ['install', ...quiet, ...packages], folder);
}

/** {@link installInto} a `home` of its own that stays. Two test files may want it at once. */
export async function installOnce(home: string, packed: string): Promise<void> {
  await mkdir(path.dirname(home), { recursive: true });
  // Each installs beside, and the first to be done moves it into place, whole.
  const beside = await mkdtemp(`${home}-`);
  try {
    await writeFile(path.join(beside, 'package.json'), '{ "private": true }\n');
    await installInto(beside, [packed]);
    await rename(beside, home).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(beside, { recursive: true, force: true });
  }
}

/** Runs a program to its end in `cwd` and gives its output; a code other than 0 rejects with all of it. */
export async function run(
  file: string,
  args: readonly string[],
  cwd: string,
  { timeoutMs = 120_000, env = {} }: { timeoutMs?: number; env?: NodeJS.ProcessEnv } = {},
): Promise<{ stdout: string; stderr: string }> {
  try {
    return await promisify(execFile)(file, args, {
      cwd,
      timeout: timeoutMs,
      maxBuffer: 64 * 1024 * 1024,
      env: { ...plainEnv(), ...env },
    });
  } catch (error) {
    const {
      code,
      signal,
      stdout = '',
      stderr = '',
    } = error as { code?: unknown; signal?: unknown } & Record<string, string>;
    // npm tells where it asked; whose registry that is belongs in no log.
    const output = `${stdout}${stderr}`.replaceAll(/https?:\/\/(?!127\.|localhost)\S+/g, '<url>');
    throw new Error(`${file} ${args.join(' ')} ended with ${code ?? signal}\n${output}`.trimEnd());
  }
}

/** The environment of a user's shell: without what npm and vitest add for the processes below them. */
function plainEnv(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) =>
        !/^(npm_(package|lifecycle|command|execpath|node_execpath)|VITEST|NODE_ENV|NODE_OPTIONS|NODE_PATH)/.test(name),
    ),
  );
}

/** @throws when `dist/` is not there or older than `src/`: what a test proves then is not what stands there. */
export async function assertBuilt(): Promise<void> {
  const built = await stat(path.join(root, 'dist/index.d.cts')).catch(() => undefined);
  if (!built) throw new Error('dist/ is not there, or has no types: npm run build');
  const sources = await readdir(path.join(root, 'src'), { recursive: true, withFileTypes: true });
  for (const source of sources.filter((entry) => entry.isFile())) {
    const file = path.join(source.parentPath, source.name);
    if ((await stat(file)).mtimeMs > built.mtimeMs)
      throw new Error(`${path.relative(root, file)} is newer than dist/: npm run build`);
  }
}
