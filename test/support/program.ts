/** A program in a process of its own, beside a build of `src/index.ts` as `./sse-broker.js`. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'tsup';
import { onTestFinished } from 'vitest';

export interface Ended {
  /** Exit code; null where a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `program` (ESM) to its end. */
export async function runProgram(program: string, timeoutMs = 15_000): Promise<Ended> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'sse-broker-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await build({
    entry: { 'sse-broker': fileURLToPath(new URL('../../src/index.ts', import.meta.url)) },
    outDir: folder,
    format: 'esm',
    outExtension: () => ({ js: '.js' }),
    platform: 'node',
    target: 'node20',
    noExternal: [/./],
    config: false,
    dts: false,
    silent: true,
  });
  await writeFile(path.join(folder, 'package.json'), '{ "type": "module" }\n');
  await writeFile(path.join(folder, 'program.js'), program);
  return new Promise((resolve) => {
    execFile(process.execPath, ['program.js'], { cwd: folder, timeout: timeoutMs }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : null;
      resolve({ code, stdout, stderr });
    });
  });
}
