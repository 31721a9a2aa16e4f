/** A page that shows a counter, and a server that is restarted under it: by a deploy, and by `kill -9`. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { openPage } from '../support/browser.js';
import { freePort } from '../support/port.js';
import { until } from '../support/until.js';

const program = fileURLToPath(new URL('counter-server.mjs', import.meta.url));
const RESTARTS = 10;

async function start(port: number, file: string): Promise<ChildProcess> {
  const server = fork(program, [String(port), file], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  await Promise.race([
    once(server, 'message'),
    once(server, 'exit').then(() => Promise.reject(new Error('the server did not start'))),
  ]);
  return server;
}

test('a page misses nothing and sees nothing twice over ten restarts of the server', { timeout: 90_000 }, async () => {
  const page = await openPage();
  const folder = await mkdtemp(path.join(os.tmpdir(), 'sse-broker-restarts-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const file = path.join(folder, 'bus.sqlite');
  let server = await start(port, file);
  onTestFinished(() => {
    server.kill('SIGKILL');
  });
  const publish = async (n: number): Promise<void> => {
    const answer = await fetch(`${url}/publish?n=${n}`);
    expect(await answer.text()).toBe('ok');
  };

  await page.goto(url);
  await publish(1);
  await until(() => page.evaluate('seen.length === 1'), 'the first event in the page');
  let n = 1;
  for (let restart = 0; restart < RESTARTS; restart++) {
    for (let i = 0; i < 5; i++) await publish(++n);
    server.kill(restart % 2 === 0 ? 'SIGKILL' : 'SIGTERM');
    if (server.exitCode === null && server.signalCode === null) await once(server, 'exit');
    server = await start(port, file);
    // Before the page is back: only history can bring these.
    for (let i = 0; i < 5; i++) await publish(++n);
  }
  const all = Array.from({ length: n }, (_, i) => i + 1);
  await until(async () => (await page.evaluate('seen.at(-1)')) === n, 'the last event in the page', 30_000);
  expect(await page.evaluate('seen')).toEqual(all);
  expect(await page.evaluate('gaps')).toBe(0);
  expect(await page.textContent('output')).toBe(String(n));
});
