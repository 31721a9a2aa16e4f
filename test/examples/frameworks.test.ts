/** The framework examples do the same, so one test runs them all; the guides show their code as it is. */
import { execFile, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { http2Client } from '../adapters/http2-client.js';
import { TEST_CERTIFICATE, TEST_KEY } from '../support/certificate.js';
import { assertBuilt, root } from '../support/package.js';
import { skipUnless } from '../support/skip.js';
import { openStream, type StreamClient } from '../support/stream.js';
import { until } from '../support/until.js';
import { openUnused, type RunningExample, startExample } from './example.js';

const EXAMPLES = ['node-http', 'http2', 'express', 'koa', 'fastify', 'nest', 'hono', 'h3', 'fetch'];

type Open = (path: string, options?: { method?: string }) => Promise<StreamClient>;

/** Connections are kept alive, as a browser does. */
const openerOf = ({ url }: RunningExample, isHttp2: boolean): Open => {
  if (!isHttp2) {
    const { Agent } = url.startsWith('https:') ? https : http;
    const agent = new Agent({ keepAlive: true });
    onTestFinished(() => agent.destroy());
    return (at, options) => openStream(url + at, { agent, ...options });
  }
  const open = http2Client(url);
  return (at, options = {}) => open(at, options);
};

async function proves(example: RunningExample, open: Open): Promise<void> {
  const alice = await open('/events?user=alice&topics=news');
  const bob = await open('/events?user=bob');
  expect(await alice.next('connected')).toMatchObject({ userId: 'alice', topics: ['news'] });
  expect(await bob.next('connected')).toMatchObject({ userId: 'bob', topics: [] });
  expect((await open('/events')).status).toBe(401);
  expect((await open('/nowhere')).status).toBe(404);

  for (const [to, text] of [
    ['alice', 'one'],
    ['bob', 'two'],
    ['alice', 'three'],
  ]) {
    expect((await open(`/notify?to=${to}&text=${text}`, { method: 'POST' })).status).toBe(202);
  }
  expect(await alice.all('note', 2)).toEqual([{ text: 'one' }, { text: 'three' }]);
  expect(await bob.all('note', 1)).toEqual([{ text: 'two' }]);

  await openUnused(example);
  let code: number | null | undefined;
  void example.terminate().then((exit) => {
    code = exit;
  });
  for (const client of [alice, bob]) {
    expect(await client.next('closing')).toEqual({ reason: 'shutdown' });
    await client.ended();
  }
  // Sooner than the connections that were kept alive, or never used, would time out.
  await until(() => code !== undefined, 'the process to end', 4_000);
  expect(code).toBe(0);
  expect(example.errors()).toBe('');
}

beforeAll(assertBuilt);

describe.each(EXAMPLES)('examples/%s.mjs', (name) => {
  test('streams what is for each user, refuses the rest, and ends well on SIGTERM', async () => {
    const example = await startExample(name);
    await proves(example, openerOf(example, name === 'http2'));
  });

  test('goes on after a call that was refused', async () => {
    const example = await startExample(name);
    const open = openerOf(example, name === 'http2');
    expect((await open('/notify?to=&text=nobody', { method: 'POST' })).status).toBeGreaterThanOrEqual(400);
    expect((await open('//')).status).toBe(404);
    expect((await open('/notify?to=alice&text=hello', { method: 'POST' })).status).toBe(202);
  });

  test('prints curl lines that work as they stand', async () => {
    skipUnless(existsSync('/usr/bin/curl'), 'no curl; apt-get install curl');
    const { lines } = await startExample(name);
    const [stream, notify] = lines as [string, string];
    const streaming = spawn('bash', ['-c', `exec ${stream} -s`], { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => {
      streaming.kill();
    });
    let received = '';
    streaming.stdout.setEncoding('utf8').on('data', (text: string) => {
      received += text;
    });
    await until(() => received.includes('event: connected'), 'the stream');
    await promisify(execFile)('bash', ['-c', `${notify} -s --fail`]);
    await until(() => received.includes('event: note\n'), 'the note');
    expect(received).toContain('data: {"text":"hello"}');
  });

  test('stands in its guide as it is', () => {
    const guide = readFileSync(path.join(root, 'docs/guides', `${name}.md`), 'utf8');
    const code = readFileSync(path.join(root, 'examples', `${name}.mjs`), 'utf8');
    expect(guide).toContain(`\`\`\`js\n${code}\`\`\``);
  });
});

test('examples/http2.mjs with a certificate serves HTTP/2 and HTTP/1.1', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'sse-broker-example-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const env = { TLS_KEY: path.join(directory, 'key.pem'), TLS_CERT: path.join(directory, 'cert.pem') };
  await writeFile(env.TLS_KEY, TEST_KEY.trimStart());
  await writeFile(env.TLS_CERT, TEST_CERTIFICATE.trimStart());
  const example = await startExample('http2', env);
  const agent = new https.Agent({ keepAlive: true });
  onTestFinished(() => agent.destroy());
  const old = await openStream(`${example.url}/events?user=old`, { agent });
  expect(await old.next('connected')).toMatchObject({ userId: 'old' });
  await proves(example, openerOf(example, true));
  await old.ended();
});
