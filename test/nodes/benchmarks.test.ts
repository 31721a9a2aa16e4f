/**
 * The small forms of two benchmarks with real Redis and node processes of their own: a rolling restart under constant load, and
 * clients that lose their network again and again. They count every delivery; the large forms are in bench/README.md.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { root } from '../support/package.js';
import { needsSharedRedis, sharedRedisPort } from '../support/redis-server.js';

/** What a run says of itself; the counts of bench/nodes/fleet.mjs. */
interface Report {
  readonly due: number;
  readonly delivered: number;
  readonly lost: number;
  readonly repeated: number;
  readonly gaps: number;
  readonly returns: number;
}

async function run(file: string): Promise<{ report: Report; verdict: string }> {
  const { stdout } = await promisify(execFile)(process.execPath, [file, '--short'], {
    cwd: root,
    env: { ...process.env, REDIS_PORT: String(sharedRedisPort) },
    timeout: 55_000,
  }).catch((error: { stdout: string; stderr: string }) => {
    throw new Error(`${file} failed\n${error.stdout}\n${error.stderr}`);
  });
  const [, json, verdict] = stdout.trim().split('\n') as [string, string, string];
  return { report: JSON.parse(json) as Report, verdict };
}

test('a rolling restart of three nodes under constant load: every client has every event', async () => {
  await needsSharedRedis();
  const { report, verdict } = await run('bench/deploy.mjs');
  expect(verdict).toBe('deploy: every client has every event');
  expect(report).toMatchObject({ lost: 0, repeated: 0, gaps: 0, delivered: report.due });
  expect(report.due).toBeGreaterThan(10_000);
  expect(report.returns).toBeGreaterThanOrEqual(100);
}, 60_000);

test('clients that lose TCP eight times: 100 % is delivered', async () => {
  await needsSharedRedis();
  const { report, verdict } = await run('bench/drop.mjs');
  expect(verdict).toBe('drop: 100.000 % delivered');
  expect(report).toMatchObject({ lost: 0, repeated: 0, gaps: 0, delivered: report.due });
  expect(report.due).toBeGreaterThan(10_000);
  expect(report.returns).toBeGreaterThanOrEqual(800);
}, 60_000);
