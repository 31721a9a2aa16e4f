/** Deno, Bun and workerd, from npm; they stay in `node_modules/.cache`. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { installOnce, root } from './package.js';
import { skipUnless } from './skip.js';

export type RuntimeName = 'deno' | 'bun' | 'workerd';

/**
 * What is tested, and what docs/guides/client-node.md says. The packages with the binaries, which those named as the runtime
 * fetch when they are installed: no script of theirs has to run.
 */
export const RUNTIMES: Readonly<
  Record<RuntimeName, { version: string; binary: string; packages: Readonly<Record<string, string>> }>
> = {
  deno: {
    version: '2.9.6',
    binary: 'deno',
    packages: {
      'linux-x64': '@deno/linux-x64-glibc',
      'linux-arm64': '@deno/linux-arm64-glibc',
      'darwin-x64': '@deno/darwin-x64',
      'darwin-arm64': '@deno/darwin-arm64',
    },
  },
  bun: {
    version: '1.4.5',
    binary: 'bin/bun',
    packages: {
      // Runs also where the processor has no AVX2.
      'linux-x64': '@oven/bun-linux-x64-baseline',
      'linux-arm64': '@oven/bun-linux-aarch64',
      'darwin-x64': '@oven/bun-darwin-x64-baseline',
      'darwin-arm64': '@oven/bun-darwin-aarch64',
    },
  },
  workerd: {
    version: '1.20261117.1',
    binary: 'bin/workerd',
    packages: {
      'linux-x64': '@cloudflare/workerd-linux-64',
      'linux-arm64': '@cloudflare/workerd-linux-arm64',
      'darwin-x64': '@cloudflare/workerd-darwin-64',
      'darwin-arm64': '@cloudflare/workerd-darwin-arm64',
    },
  },
};

/** How a program is started with each; nothing is fetched and nothing written beside it. */
const RUN: Readonly<Record<'deno' | 'bun', readonly string[]>> = {
  deno: ['run', '--allow-all', '--no-lock', '--no-prompt', '--quiet', '--cached-only'],
  bun: ['run', '--no-install'],
};

/** The binary, and the arguments in front of the program's. */
export async function commandOf(name: keyof typeof RUN): Promise<{ file: string; args: readonly string[] }> {
  return { file: await runtimeOf(name), args: RUN[name] };
}

/** Downloads what is not there yet: for `beforeAll`, with minutes of time. Fails in no case: the tests tell. */
export async function prepareRuntimes(...names: RuntimeName[]): Promise<void> {
  await Promise.allSettled(names.map(installedOnce));
}

/** The path of the binary. Skips the running test where it is not there and cannot be downloaded. */
export async function runtimeOf(name: RuntimeName): Promise<string> {
  const binary = await installedOnce(name).catch((error: Error) => error);
  const reason = binary instanceof Error ? binary.message.split('\n').slice(0, 2).join(': ') : '';
  skipUnless(typeof binary === 'string', `${name} ${RUNTIMES[name].version} cannot be installed: ${reason}`);
  return binary;
}

const installing = new Map<RuntimeName, Promise<string>>();

function installedOnce(name: RuntimeName): Promise<string> {
  const known = installing.get(name) ?? installedRuntime(name);
  installing.set(name, known);
  return known;
}

async function installedRuntime(name: RuntimeName): Promise<string> {
  const { version, binary, packages } = RUNTIMES[name];
  const platform = `${process.platform}-${process.arch}`;
  const packed = packages[platform];
  if (packed === undefined) throw new Error(`no binary for ${platform}`);
  const home = path.join(root, 'node_modules/.cache/runtimes', `${name}-${version}`);
  const file = path.join(home, 'node_modules', packed, binary);
  const isThere = () => stat(file).then(() => true);
  if (await isThere().catch(() => false)) return file;
  await installOnce(home, `${packed}@${version}`);
  await isThere();
  return file;
}
