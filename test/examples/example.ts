/** An example as its reader runs it: a process of its own, on a port that is free. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { root } from '../support/package.js';
import { until } from '../support/until.js';

export interface RunningExample {
  /** The address it printed. */
  readonly url: string;
  /** The curl lines it printed. */
  readonly lines: string[];
  /** What it wrote to the error output. */
  errors(): string;
  /** Asks it to end and gives its exit code; null where a signal ended it. */
  terminate(): Promise<number | null>;
}

/** Connects and sends nothing, as a browser does ahead of need: `server.close()` would wait for it. With TLS it does nothing. */
export async function openUnused({ url }: Pick<RunningExample, 'url'>): Promise<void> {
  const { protocol, hostname, port } = new URL(url);
  if (protocol === 'https:') return;
  const connection = net.connect(Number(port), hostname);
  // A browser reads what comes, so that it sees the end; a reset is an end too.
  connection.on('error', () => {}).resume();
  onTestFinished(() => void connection.destroy());
  await once(connection, 'connect');
}

/** Starts `examples/NAME.mjs` and waits for the curl lines that it prints. It is killed when the test ends. */
export async function startExample(name: string, env: Record<string, string> = {}): Promise<RunningExample> {
  const child = spawn(process.execPath, [path.join(root, 'examples', `${name}.mjs`)], {
    cwd: root,
    env: { ...process.env, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const exit = new Promise<number | null>((resolve) => child.on('close', resolve));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await exit;
  });
  const curls = () => output.split('\n').filter((line) => line.startsWith('curl '));
  await until(() => {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}: ${output}${errors}`);
    return curls().length === 2 && output.endsWith('\n');
  }, `the curl lines of ${name}`);
  return {
    url: /https?:\/\/localhost:\d+/.exec(output)![0],
    lines: curls(),
    errors: () => errors,
    terminate: () => {
      child.kill('SIGTERM');
      return exit;
    },
  };
}
