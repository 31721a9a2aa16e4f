/** examples/bullmq-worker.mjs and -server.mjs: what a job does is seen by who watches it, through a real Redis. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { assertBuilt, root } from '../support/package.js';
import { needsSharedRedis, sharedRedisPort } from '../support/redis-server.js';
import { openStream } from '../support/stream.js';
import { until } from '../support/until.js';
import { startExample } from './example.js';

beforeAll(assertBuilt);

/** The worker, which serves nothing and so prints no address. */
async function startWorker(env: Record<string, string>): Promise<{ readonly process: ChildProcess; errors(): string }> {
  const worker = spawn(process.execPath, [path.join(root, 'examples/bullmq-worker.mjs')], {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let errors = '';
  worker.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  worker.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  onTestFinished(async () => {
    worker.kill('SIGKILL');
    await until(() => worker.exitCode !== null || worker.signalCode !== null);
  });
  await until(() => {
    if (worker.exitCode !== null) throw new Error(`the worker ended with ${worker.exitCode}: ${output}${errors}`);
    return output.includes('working on');
  }, 'the worker');
  return { process: worker, errors: () => errors };
}

test('progress, completion and failure of a job reach its topic, and nobody else', async () => {
  await needsSharedRedis();
  const name = `test-${randomBytes(6).toString('hex')}`;
  const env = { REDIS_URL: `redis://127.0.0.1:${sharedRedisPort}`, QUEUE: name, NAMESPACE: name, INTERVAL: '20' };
  onTestFinished(async () => {
    const connection = new Redis(env.REDIS_URL, { maxRetriesPerRequest: null });
    const queue = new Queue(name, { connection });
    await queue.obliterate({ force: true });
    await queue.close();
    connection.disconnect();
  });
  const server = await startExample('bullmq-server', env);
  const worker = await startWorker(env);

  const good = await openStream(`${server.url}/events?topics=job:good`);
  const bad = await openStream(`${server.url}/events?topics=job:bad`);
  await Promise.all([good.next('connected'), bad.next('connected')]);
  for (const query of ['id=good', 'id=bad&fails-at=3']) {
    const response = await fetch(`${server.url}/jobs?${query}`, { method: 'POST' });
    expect(response.status).toBe(202);
  }
  await Promise.all([good.next('job.completed'), bad.next('job.failed')]);
  const told = (stream: typeof good) =>
    stream.events.filter(({ event }) => event !== 'connected').map(({ event, data }) => [event, JSON.parse(data)]);
  expect(told(good)).toEqual([
    ...[0.2, 0.4, 0.6, 0.8, 1].map((progress) => ['job.progress', { jobId: 'good', progress }]),
    ['job.completed', { jobId: 'good', result: { pages: 5 } }],
  ]);
  expect(told(bad)).toEqual([
    ...[0.2, 0.4].map((progress) => ['job.progress', { jobId: 'bad', progress }]),
    ['job.failed', { jobId: 'bad', message: 'page 3 cannot be printed' }],
  ]);

  worker.process.kill('SIGTERM');
  await until(() => worker.process.exitCode !== null, 'the worker to end by itself');
  expect([worker.process.exitCode, worker.errors()]).toEqual([0, '']);
  expect(await server.terminate()).toBe(0);
  expect(server.errors()).toBe('');
});
