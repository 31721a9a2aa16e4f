/** examples/client-node.mjs and examples/client-browser.mjs, as their readers run them. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { createHandler } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { openProfile, startBrowsers } from '../support/browsers.js';
import { makeFolder } from '../support/files.js';
import { assertBuilt, root } from '../support/package.js';
import { serve } from '../support/server.js';
import { until } from '../support/until.js';
import { openUnused, startExample } from './example.js';

startBrowsers('chromium');

beforeAll(assertBuilt);

/** The follower, with its id kept in `folder`. */
function follow(url: string, folder: string) {
  const child = spawn(process.execPath, [path.join(root, 'examples/client-node.mjs'), url], {
    env: { ...process.env, CURSOR: path.join(folder, 'cursor') },
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
  return {
    child,
    exit,
    errors: () => errors,
    lines: (word: string) => output.split('\n').filter((line) => line.startsWith(word)),
  };
}

test('the follower goes on where it was when it is killed and started again, and ends well on SIGTERM', async () => {
  const broker = makeBroker({ historySize: 100, retry: 100 });
  const { url } = await serve(createHandler(broker));
  const folder = await makeFolder();
  const first = follow(`${url}/`, folder);
  await until(() => first.lines('connected').length === 1, 'the connected event');
  await broker.broadcast('note', 1);
  const id = await broker.broadcast('note', { text: 'grüße' });
  await until(() => first.lines('note').length === 2, 'two notes');
  await until(() => readFileSync(path.join(folder, 'cursor'), 'utf8') === id, 'the id in the file');
  first.child.kill('SIGKILL');
  await first.exit;
  await broker.broadcast('note', 3);

  const second = follow(`${url}/`, folder);
  await until(() => second.lines('note').length === 1, 'what it missed');
  await broker.broadcast('note', 4);
  await until(() => second.lines('note').length === 2, 'what came then');
  second.child.kill('SIGTERM');

  expect(await second.exit).toBe(0);
  expect(first.lines('note')).toEqual(['note 1', 'note {"text":"grüße"}']);
  expect(second.lines('note')).toEqual(['note 3', 'note 4']);
  expect(second.errors()).not.toContain('missing');
});

test('the follower that is refused says why and fails', async () => {
  const broker = makeBroker();
  const { url } = await serve(createHandler(broker, { authenticator: () => null }));
  const { exit, errors } = follow(`${url}/`, await makeFolder());
  expect(await exit).toBe(1);
  expect(errors()).toContain('failed (status)');
});

test('the follower stands in its guide as it is', () => {
  const guide = readFileSync(path.join(root, 'docs/guides/client-node.md'), 'utf8');
  expect(guide).toContain(`\`\`\`js\n${readFileSync(path.join(root, 'examples/client-node.mjs'), 'utf8')}\`\`\``);
});

test('the page shows the clock in two tabs that share one stream, without a bundler', async () => {
  const { url, terminate, errors } = await startExample('client-browser');
  const profile = await openProfile('chromium');
  const pages = [await profile.newPage(), await profile.newPage()];
  const complaints: unknown[] = [];
  for (const page of pages) {
    page.on('pageerror', (error) => complaints.push(error));
    await page.goto(`${url}/`);
    const clock = () => page.evaluate("document.getElementById('clock').textContent") as Promise<string>;
    await until(async () => (await clock()).startsWith('20'), 'the clock');
  }
  const transports = await Promise.all(
    pages.map((page) => page.evaluate("document.getElementById('transport').textContent") as Promise<string>),
  );
  expect(transports.toSorted()).toEqual(['shared', 'stream']);
  const polled = (await (await fetch(`${url}/poll?wait=5000`)).json()) as { lastEventId: string };
  expect(polled.lastEventId).toEqual(expect.any(String));
  await openUnused({ url });
  expect(await terminate()).toBe(0);
  expect(errors()).toBe('');
  expect(complaints).toEqual([]);
});
