import { execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { symlink, writeFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { ask, spawnDemo, startDemo } from '../support/demo.js';
import { makeFolder, makeSparseFile, sha256OfFiles } from '../support/files.js';
import { skipUnless } from '../support/skip.js';
import { openStream } from '../support/stream.js';
import { until } from '../support/until.js';

const run = promisify(execFile);

interface Job {
  readonly id: string;
  readonly topic: string;
  readonly status: string;
  readonly phase: string;
  readonly percent: number;
  readonly files: number;
  readonly bytes: number;
  readonly totalBytes: number;
  readonly reason?: string;
  readonly result?: { readonly digest: string; readonly links: number; readonly unreadable: number };
}

const MINUTES_OF_READING = 64 * 1024 ** 3;

const start = (url: string, user: string, folder: string) =>
  ask<{ job: Job }>(`${url}/jobs?user_id=${user}`, { method: 'POST', body: { folder } });

const isThere = (program: string) =>
  run('which', [program]).then(
    () => true,
    () => false,
  );

test('the printed curl lines work as they stand', async () => {
  skipUnless(await isThere('curl'), 'no curl; apt-get install curl');
  const root = await makeFolder({ 'data/a.txt': 'a', 'data/b.txt': 'b' });
  const { output } = await startDemo({ root });
  const lines = output()
    .split('\n')
    .filter((line) => line.trimStart().startsWith('curl '));
  expect(lines).toHaveLength(2);
  const [watch, post] = lines as [string, string];
  expect(watch).toContain('curl -N ');
  expect(post).toContain('curl -X POST ');

  const watcher = spawn('bash', ['-c', `exec ${watch.trim()}`], { stdio: ['ignore', 'pipe', 'ignore'] });
  onTestFinished(() => void watcher.kill('SIGKILL'));
  let seen = '';
  watcher.stdout.setEncoding('utf8').on('data', (text: string) => {
    seen += text;
  });
  await until(() => seen.includes('event: connected'), 'the first event in curl');
  const { stdout } = await run('bash', ['-c', post]);

  const { job } = JSON.parse(stdout) as { job: Job };
  expect(job.status).toBe('running');
  await until(() => seen.includes('event: job.completed'), 'the result in curl');
  expect(seen).toContain('event: job.started');
  expect(seen).toContain('event: job.progress');
  expect(seen).toContain(`"id":"${job.id}"`);
});

const FILES = {
  'data/empty': '',
  'data/one.txt': 'one\n',
  'data/large.bin': randomBytes(700_001),
  'data/deep/er/two.txt': 'two',
  'data/deep/.hidden': 'hidden',
  'data/with space & "quotes"': 'odd',
  'data/grüße.txt': 'hello',
};

test('a job hashes every file below the folder, and follows no link out of it', async () => {
  const root = await makeFolder(FILES);
  const outside = await makeFolder({ 'secret.txt': 'not yours' });
  await symlink(path.join(outside, 'secret.txt'), path.join(root, 'data/link-to-file'));
  await symlink(outside, path.join(root, 'data/link-to-folder'));
  const { url } = await startDemo({ root });
  const alice = await openStream(`${url}/events?user_id=alice`);
  await alice.next('connected');

  const { status, body } = await start(url, 'alice', 'data');
  const job = await alice.next<Job>('job.completed');
  const sums = await (await fetch(`${url}/jobs/${job.id}/sha256sums?user_id=alice`)).text();

  const expected = await sha256OfFiles(path.join(root, 'data'));
  const actual = sums.split('\n').slice(0, -1);
  expect(status).toBe(202);
  expect(body.job.id).toBe(job.id);
  expect(expected.size).toBe(Object.keys(FILES).length);
  expect(actual.toSorted()).toEqual([...expected].map(([file, hash]) => `${hash}  ${file}`).toSorted());
  expect(job).toMatchObject({ percent: 100, files: expected.size, result: { links: 2, unreadable: 0 } });
  expect(job.bytes).toBe(Object.values(FILES).reduce((sum, content) => sum + Buffer.byteLength(content), 0));
  expect(job.result?.digest).toBe(createHash('sha256').update(sums).digest('hex'));
  const steps = alice.events.filter(({ event }) => event === 'job.progress').map(({ data }) => JSON.parse(data) as Job);
  expect(steps.at(-1)).toMatchObject({ percent: 100, phase: 'done' });
});

test('its list of hashes is one that sha256sum accepts, odd names included', async () => {
  skipUnless(await isThere('sha256sum'), 'no sha256sum; it is part of GNU coreutils');
  const root = await makeFolder({
    'data/two\nlines': '1',
    'data/back\\slash': '2',
    'data/return\r': '3',
    'data/-': '4',
  });
  const { url } = await startDemo({ root });
  const alice = await openStream(`${url}/events?user_id=alice`);
  const { body } = await start(url, 'alice', 'data');
  await alice.next('job.completed');

  const sums = await (await fetch(`${url}/jobs/${body.job.id}/sha256sums?user_id=alice`)).text();
  await writeFile(path.join(root, 'SHA256SUMS'), sums);

  const check = run('sha256sum', ['--check', '--strict', path.join(root, 'SHA256SUMS')], {
    cwd: path.join(root, 'data'),
  });
  await expect(check).resolves.toMatchObject({ stderr: '' });
  expect(sums.split('\n')).toHaveLength(5);
});

test('somebody else gets neither the progress nor the result, and may not ask for them', async () => {
  const root = await makeFolder({ 'data/a.txt': 'a' });
  const { url } = await startDemo({ root });
  const alice = await openStream(`${url}/events?user_id=alice`);
  const bob = await openStream(`${url}/events?user_id=bob`);
  await alice.next('connected');
  await bob.next('connected');

  const { body } = await start(url, 'alice', 'data');
  const { id, topic } = body.job;
  await alice.next('job.completed');
  await alice.next('job.progress');
  const before = bob.events.length;
  // The order is one for everybody: what bob gets later came after all of that.
  await until(() => bob.events.length > before && bob.events.at(-1)?.event === 'process.stats', 'a later broadcast');

  expect(new Set(bob.events.map(({ event }) => event))).toEqual(new Set(['connected', 'process.stats']));
  expect(bob.text()).not.toContain(id);
  expect((await openStream(`${url}/events?user_id=bob&topics=${topic}`)).status).toBe(403);
  expect((await openStream(`${url}/events?user_id=bob&topics=anything`)).status).toBe(403);
  expect((await openStream(`${url}/events?user_id=alice&topics=${topic}`)).status).toBe(200);
  expect((await ask(`${url}/jobs?user_id=bob`)).body).toEqual({ jobs: [] });
  expect((await ask(`${url}/jobs/${id}?user_id=bob`)).status).toBe(404);
  expect((await ask(`${url}/jobs/${id}?user_id=bob`, { method: 'DELETE' })).status).toBe(404);
  expect((await ask(`${url}/jobs/${id}/sha256sums?user_id=bob`)).status).toBe(404);
  expect((await ask<{ job: Job }>(`${url}/jobs/${id}?user_id=alice`)).body.job.status).toBe('completed');
});

test('a user in another tenant is the same user: the demo has no tenants to hide behind', async () => {
  const root = await makeFolder({ 'data/a.txt': 'a' });
  const { url } = await startDemo({ root });

  const stream = await openStream(`${url}/events?user_id=alice&tenant_id=acme`);

  expect(await stream.next('connected')).toMatchObject({ userId: 'alice', tenantId: null });
});

test('a job can be cancelled while it runs, by whoever started it', async () => {
  const root = await makeFolder();
  await makeSparseFile(path.join(root, 'data/endless'), MINUTES_OF_READING);
  const { url } = await startDemo({ root });
  const alice = await openStream(`${url}/events?user_id=alice`);
  await alice.next('connected');
  const { id } = (await start(url, 'alice', 'data')).body.job;
  const latest = () => JSON.parse(alice.events.findLast(({ event }) => event === 'job.progress')?.data ?? '{}') as Job;
  await until(() => latest().phase === 'hashing' && latest().bytes > 0, 'progress');

  const answer = await ask<{ job: Job }>(`${url}/jobs/${id}?user_id=alice`, { method: 'DELETE' });
  const again = await ask(`${url}/jobs/${id}?user_id=alice`, { method: 'DELETE' });

  expect(answer.status).toBe(200);
  expect(answer.body.job.status).toBe('cancelled');
  expect(await alice.next<Job>('job.cancelled')).toMatchObject({ id, status: 'cancelled' });
  expect(latest().percent).toBeLessThan(100);
  expect(again.status).toBe(409);
  expect((await ask(`${url}/jobs/${id}/sha256sums?user_id=alice`)).status).toBe(409);
});

test('progress comes several times a second, not once per chunk', async () => {
  const root = await makeFolder();
  await makeSparseFile(path.join(root, 'data/endless'), MINUTES_OF_READING);
  const { url } = await startDemo({ root });
  const alice = await openStream(`${url}/events?user_id=alice`);
  await start(url, 'alice', 'data');

  const steps = await alice.all<Job & { elapsedMs: number }>('job.progress', 6);

  expect(steps[5]!.elapsedMs - steps[0]!.elapsedMs).toBeGreaterThanOrEqual(450);
  expect(steps[5]!.bytes).toBeGreaterThan(steps[0]!.bytes);
});

test('running jobs are bounded, per user and in all', async () => {
  const root = await makeFolder();
  await makeSparseFile(path.join(root, 'data/endless'), MINUTES_OF_READING);
  const { url } = await startDemo({ root });
  const startAs = async (user: string) => (await start(url, user, 'data')).status;

  expect([await startAs('alice'), await startAs('alice'), await startAs('alice')]).toEqual([202, 202, 429]);
  expect([await startAs('bob'), await startAs('bob'), await startAs('carol')]).toEqual([202, 202, 429]);
  const refused = await start(url, 'alice', 'data');
  expect(refused.headers.get('retry-after')).toBe('2');
  expect(refused.body).toMatchObject({ error: { code: 'TOO_MANY_JOBS' } });
  // What is refused leaves no trace.
  expect((await ask<{ jobs: Job[] }>(`${url}/jobs?user_id=carol`)).body.jobs).toEqual([]);
});

test('no spelling of a folder leads out of the project', async () => {
  const root = await makeFolder({ 'data/a.txt': 'a', '.git/config': 'x', 'data/.private/key': 'x', 'file.txt': 'x' });
  await symlink('/', path.join(root, 'link-out'));
  await symlink('/', path.join(root, 'data/link-out'));
  await symlink(path.join(root, 'data'), path.join(root, 'link-in'));
  const { url } = await startDemo({ root });
  const names = [
    ...[
      '..',
      '../',
      './',
      '.',
      '',
      '/',
      '/etc',
      '//etc',
      'data/..',
      'data/../..',
      'data/../../etc',
      'data/./x',
      'data//',
    ],
    ...['.git', 'data/.private', 'link-out', 'link-out/etc', 'data/link-out', 'data/link-out/etc', 'link-in'],
    ...[
      '..\\..',
      'data\\..',
      'C:\\',
      'C:',
      'data/%2e%2e',
      '%2e%2e',
      'data\0',
      '\0',
      'file.txt',
      'no-such',
      'data/no-such',
    ],
    ...[null, 7, ['data'], { toString: 'data' }, 'x'.repeat(600)],
  ];

  for (const folder of names) {
    const { status, body } = await ask<{ error?: { code: string } }>(`${url}/jobs?user_id=alice`, {
      method: 'POST',
      body: { folder },
    });
    expect([400, 404], `folder ${JSON.stringify(folder)}`).toContain(status);
    expect(body.error?.code).toMatch(/^(INVALID|UNKNOWN)_FOLDER$/);
  }
  expect((await ask(`${url}/jobs?user_id=alice`)).body).toEqual({ jobs: [] });
  expect((await ask(`${url}/folders?user_id=alice`)).body).toEqual({ folders: ['data'] });
  expect((await start(url, 'alice', 'data')).status).toBe(202);
});

/** A request as it is: `fetch` would tidy the path, and would not send another Host. */
function rawRequest(url: string, options: http.RequestOptions): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url);
    const req = http.request({ hostname, port, ...options }, (res) => {
      res.resume();
      resolve(res.statusCode);
    });
    req.on('error', reject);
    req.end();
  });
}

test('requests that make no sense get the status that says so, as JSON', async () => {
  const root = await makeFolder({ 'data/a.txt': 'a' });
  const { url } = await startDemo({ root });
  const json = { 'Content-Type': 'application/json' };
  const post = (body: string, headers: Record<string, string>) =>
    fetch(`${url}/jobs?user_id=alice`, { method: 'POST', body, headers });
  const wrongMethod = await fetch(`${url}/jobs?user_id=alice`, { method: 'PUT' });
  const answers = {
    'no user': [await fetch(`${url}/jobs`), 401],
    'no user for the stream': [await fetch(`${url}/events`), 401],
    'no such page': [await fetch(`${url}/nothing`), 404],
    'a method that is not there': [wrongMethod, 405],
    'a method that the page has not': [await fetch(url, { method: 'POST' }), 405],
    'a stream by POST': [await fetch(`${url}/events?user_id=alice`, { method: 'POST' }), 405],
    'a form': [await post('folder=data', { 'Content-Type': 'application/x-www-form-urlencoded' }), 415],
    'text that is no JSON': [await post('{"folder":', json), 400],
    'JSON that is no object': [await post('"data"', json), 400],
    'a body that does not end': [await post(`{"folder":"${'x'.repeat(100_000)}"}`, json), 413],
  } as const;

  for (const [what, [response, status]] of Object.entries(answers)) {
    expect(response.status, what).toBe(status);
    expect(await response.json(), what).toMatchObject({ error: { code: expect.any(String) } });
  }
  expect(wrongMethod.headers.get('allow')).toBe('GET, POST, HEAD');
  expect(await rawRequest(url, { path: '/../../../etc/passwd' })).toBe(404);
  expect(await rawRequest(url, { path: '//' })).toBe(400);
  expect(await rawRequest(url, { path: '/', headers: { host: 'evil.example' } })).toBe(421);
  expect(await rawRequest(url, { path: '/events?user_id=alice', headers: { host: 'evil.example' } })).toBe(421);
  const page = await fetch(url);
  expect(page.status).toBe(200);
  expect(page.headers.get('content-security-policy')).toContain("default-src 'none'");
});

test('a stream that comes back gets what it missed, and the topics of its jobs without asking', async () => {
  const root = await makeFolder({ 'data/a.txt': 'a' });
  const { url } = await startDemo({ root });
  const before = await openStream(`${url}/events?user_id=alice`);
  await before.next('connected');
  const cursor = before.events[0]!.id!;
  before.close();
  const { topic } = (await start(url, 'alice', 'data')).body.job;
  await until(async () => {
    const { body } = await ask<{ jobs: Job[] }>(`${url}/jobs?user_id=alice`);
    return body.jobs[0]?.status === 'completed';
  }, 'the end of the job');

  const after = await openStream(`${url}/events?user_id=alice`, { headers: { 'Last-Event-ID': cursor } });
  await after.next('job.completed');

  const names = after.events.map(({ event }) => event).filter((event) => event?.startsWith('job.'));
  expect(await after.next('connected')).toMatchObject({ topics: [topic] });
  expect(names[0]).toBe('job.started');
  expect(names).toContain('job.progress');
  expect(names.at(-1)).toBe('job.completed');
});

test.each(['SIGTERM', 'SIGINT'] as const)('%s tells everybody and ends with code 0', async (signal) => {
  const root = await makeFolder();
  await makeSparseFile(path.join(root, 'data/endless'), MINUTES_OF_READING);
  const { url, stop, output } = await startDemo({ root });
  const alice = await openStream(`${url}/events?user_id=alice`);
  await alice.next('connected');
  await start(url, 'alice', 'data');
  await alice.next('job.progress');

  const exit = await stop(signal);

  expect(exit).toEqual({ code: 0, signal: null });
  expect(await alice.next<Job>('job.failed')).toMatchObject({ status: 'failed', reason: 'the server was stopped' });
  expect(await alice.next('closing')).toEqual({ reason: 'shutdown' });
  expect(alice.events.at(-1)?.event).toBe('closing');
  const [, retry] = /retry: (\d+)\nevent: closing\n/.exec(alice.text()) ?? [];
  expect(Number(retry)).toBeLessThanOrEqual(2_000);
  expect(output()).toContain('1 streams ended');
});

test('it ends with the npm that started it, which passes no signal on', async () => {
  const root = await makeFolder({ 'data/a.txt': 'a' });
  const demo = spawnDemo({ PORT: '0', DEMO_ROOT: root, npm_lifecycle_event: 'start' }, 'shell');
  await until(() => demo.output().includes('Ctrl+C'), 'the start-up text');

  demo.child.kill('SIGTERM');
  // Not before the demo has closed what it shares with the shell: its output.
  await demo.exit;

  expect(demo.output()).toContain('npm ended: closing\nclosed: 0 streams ended\n');
});

test('after a restart the stream says that there is a gap', async () => {
  const root = await makeFolder({ 'data/a.txt': 'a' });
  const first = await startDemo({ root });
  const before = await openStream(`${first.url}/events?user_id=alice`);
  await before.next('connected');
  const cursor = before.events[0]!.id!;
  await first.stop();

  const { url } = await startDemo({ root, port: first.port });
  const after = await openStream(`${url}/events?user_id=alice`, { headers: { 'Last-Event-ID': cursor } });

  expect(await after.next('gap')).toMatchObject({ reason: 'epoch', requested: cursor });
});

test('a port that is taken is told with the remedy', async () => {
  const root = await makeFolder({ 'data/a.txt': 'a' });
  const { port } = await startDemo({ root });

  const second = spawnDemo({ PORT: port, DEMO_ROOT: root });

  expect(await second.exit).toEqual({ code: 1, signal: null });
  expect(second.output()).toBe(`Port ${port} is in use. Choose another one: PORT=${Number(port) + 1} npm start\n`);
});

test('a PORT that is none is told', async () => {
  const demo = spawnDemo({ PORT: 'http' });

  expect(await demo.exit).toEqual({ code: 1, signal: null });
  expect(demo.output()).toBe('PORT must be a number from 0 to 65535; got "http"\n');
});
