/** examples/demo/server.mjs as a process of its own, on a free port unless told otherwise. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { until } from './until.js';

const SERVER = fileURLToPath(new URL('../../examples/demo/server.mjs', import.meta.url));

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface DemoProcess {
  readonly child: ChildProcess;
  /** All that it printed, on both streams. */
  readonly output: () => string;
  readonly exit: Promise<Exit>;
}

export interface Demo extends DemoProcess {
  /** As printed, without a slash at its end. */
  readonly url: string;
  readonly port: string;
  /** Sends a signal and waits for the end. */
  stop(signal?: NodeJS.Signals): Promise<Exit>;
}

/**
 * Runs the demo; it is killed when the test ends, if it has not ended by then. `below` a shell, as npm runs it, `child` is
 * the shell.
 */
export function spawnDemo(env: Record<string, string>, below?: 'shell'): DemoProcess {
  const [command, args] =
    below === undefined
      ? [process.execPath, [SERVER]]
      : ['bash', ['-c', '"$0" "$1"; exit $?', process.execPath, SERVER]];
  const { npm_lifecycle_event: _, ...inherited } = process.env;
  const child = spawn(command, args, {
    env: { ...inherited, HOST: '127.0.0.1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      output += text;
    });
  }
  const exit = new Promise<Exit>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal }));
  });
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await exit;
  });
  return { child, output: () => output, exit };
}

/** Runs the demo and waits until it says where it listens. `root` is the folder whose folders may be hashed. */
export async function startDemo({ root, port = '0' }: { root: string; port?: string }): Promise<Demo> {
  const demo = spawnDemo({ PORT: port, DEMO_ROOT: root });
  const { child, output, exit } = demo;
  await until(() => output().includes('Ctrl+C') || child.exitCode !== null, 'the start-up text');
  const url = /demo at (http:\S+)/.exec(output())?.[1];
  if (url === undefined) throw new Error(`the demo did not start:\n${output()}`);
  const stop = (signal: NodeJS.Signals = 'SIGTERM') => {
    child.kill(signal);
    return exit;
  };
  return { ...demo, url, port: new URL(url).port, stop };
}

/** A request to the demo as a user, with its answer parsed. */
export async function ask<T = Record<string, unknown>>(
  url: string,
  init: Omit<RequestInit, 'body'> & { body?: unknown } = {},
): Promise<{ status: number; headers: Headers; body: T }> {
  const { body, ...rest } = init;
  const response = await fetch(url, {
    ...rest,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } }),
  });
  return { status: response.status, headers: response.headers, body: (await response.json()) as T };
}
