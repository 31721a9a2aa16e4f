/** An example with a page as its reader runs it: a process of its own, on a port that is free, and a browser. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { onTestFinished } from 'vitest';
import { openPage } from '../support/browser.js';
import { root } from '../support/package.js';
import { until } from '../support/until.js';

export interface PageExample {
  readonly url: string;
  /** Opens its page; what it complains of goes to `complaints`. */
  open(): Promise<Page>;
  readonly complaints: string[];
  /** Asks it to end and gives its exit code; null where a signal ended it. */
  terminate(): Promise<number | null>;
}

/** Starts `examples/NAME/server.mjs`. It is killed when the test ends. */
export async function startPageExample(name: string, env: Record<string, string> = {}): Promise<PageExample> {
  const child = spawn(process.execPath, [path.join(root, 'examples', name, 'server.mjs')], {
    cwd: root,
    env: { ...process.env, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const exit = new Promise<number | null>((resolve) => child.on('close', resolve));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await exit;
  });
  // It bundles its page first, which takes its time on a machine that is busy.
  const isOpen = () => {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}: ${output}`);
    return /open (http:\S+)/.exec(output)?.[1];
  };
  const url = await until(isOpen, `the address of ${name}`, 40_000);
  const complaints: string[] = [];
  return {
    url,
    complaints,
    open: async () => {
      const page = await openPage();
      page.on('pageerror', (error) => complaints.push(String(error)));
      page.on('console', (message) => {
        if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
      });
      await page.goto(url);
      return page;
    },
    terminate: () => {
      child.kill('SIGTERM');
      return exit;
    },
  };
}
