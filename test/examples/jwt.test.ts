import { execFile, spawn } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { assertBuilt, root } from '../support/package.js';
import { skipUnless } from '../support/skip.js';
import { openStream } from '../support/stream.js';
import { until } from '../support/until.js';

const run = promisify(execFile);

beforeAll(assertBuilt);

async function start(env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [path.join(root, 'examples/jwt.mjs')], {
    env: { ...process.env, PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const exit = new Promise<number | null>((resolve) => child.on('close', (code) => resolve(code)));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await exit;
  });
  await until(() => output.includes('Ctrl+C') || child.exitCode !== null, 'the start-up text');
  const [url = ''] = /http:\/\/localhost:\d+/.exec(output) ?? [];
  const login = async (user: string) => {
    const response = await fetch(`${url}/login`, { method: 'POST', body: new URLSearchParams({ user }) });
    return { token: await response.text(), cookie: response.headers.getSetCookie()[0]! };
  };
  return { url, child, exit, output: () => output, login };
}

test('the header and the cookie open the stream of who logged in; nothing else opens one', async () => {
  const { url, login, output } = await start();
  const { token, cookie } = await login('alice');
  expect(cookie).toMatch(/^token=[\w.-]+; HttpOnly; SameSite=Strict; Path=\/; Max-Age=60$/);

  for (const headers of [{ authorization: `Bearer ${token}` }, { cookie: cookie.split(';')[0]! }]) {
    const stream = await openStream(`${url}/events`, { headers });
    expect(await stream.next('connected')).toMatchObject({ userId: 'alice' });
    expect(await stream.next('welcome')).toMatchObject({ userId: 'alice' });
    await stream.next('tick');
  }
  expect((await openStream(`${url}/events`)).status).toBe(401);
  const wrong = await openStream(`${url}/events`, { headers: { authorization: `Bearer ${token.slice(0, -4)}AAAA` } });
  expect(wrong.status).toBe(401);
  await until(() => output().includes('SSE_ERR_UNAUTHENTICATED: the token was refused: signature'), 'the reason');
  for (const part of token.split('.')) expect(output()).not.toContain(part);
});

test('a stream ends with its token', async () => {
  const { url, login } = await start({ TOKEN_SECONDS: '3' });
  const { token } = await login('alice');
  const headers = { authorization: `Bearer ${token}` };
  const stream = await openStream(`${url}/events`, { headers });
  expect(await stream.next('closing')).toEqual({ reason: 'expired' });
  await stream.ended();
  expect((await openStream(`${url}/events`, { headers })).status).toBe(401);
});

test('SIGTERM ends the streams and the process', async () => {
  const { url, login, child, exit } = await start();
  const { token } = await login('bob');
  const stream = await openStream(`${url}/events`, { headers: { authorization: `Bearer ${token}` } });
  await stream.next('welcome');
  child.kill('SIGTERM');
  expect(await stream.next('closing')).toEqual({ reason: 'shutdown' });
  expect(await exit).toBe(0);
});

test('the printed curl lines work as they stand', async () => {
  const curl = await run('which', ['curl']).catch(() => undefined);
  skipUnless(curl, 'no curl; apt-get install curl');
  const { output } = await start();
  const lines = output()
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line.includes('curl '));
  expect(lines).toHaveLength(3);
  const [login, ...streams] = lines as [string, string, string];
  for (const line of streams) {
    const { stdout } = await run('bash', ['-c', `${login}\n${line} --max-time 5 | sed '/event: welcome/q'`]);
    expect(stdout).toContain('event: welcome');
  }
});
