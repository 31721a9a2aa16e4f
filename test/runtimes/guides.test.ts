/** The programs and versions in the guides are those that are tested. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { codeBlocks, linesOf } from '../support/markdown.js';
import { assertBuilt, root, temporaryFolder } from '../support/package.js';
import { freePort, isListening } from '../support/port.js';
import { connectRaw } from '../support/raw.js';
import { commandOf, prepareRuntimes, RUNTIMES } from '../support/runtimes.js';
import { until } from '../support/until.js';

const FETCH = 'docs/guides/fetch.md';

beforeAll(() => prepareRuntimes('deno', 'bun'), 300_000);

test.each(['deno', 'bun'] as const)(
  'the program for %s serves a stream, and ends when it is asked to',
  async (runtime) => {
    await assertBuilt();
    const { file, args } = await commandOf(runtime);
    const [block] = codeBlocks(FETCH, linesOf(FETCH)).filter(({ code }) =>
      code.toLowerCase().includes(`${runtime}.serve`),
    );
    const { folder, remove } = await temporaryFolder();
    onTestFinished(remove);
    await mkdir(path.join(folder, 'node_modules'));
    await symlink(root, path.join(folder, 'node_modules/sse-broker'));
    await writeFile(path.join(folder, 'package.json'), '{ "private": true, "type": "module" }\n');
    await writeFile(path.join(folder, 'server.js'), block!.code.replace("'npm:sse-broker'", "'sse-broker'"));

    // What the guide asks for, and no more.
    const permitted = args.flatMap((arg) => (arg === '--allow-all' ? ['--allow-net', '--allow-env=PORT'] : [arg]));
    const port = await freePort();
    const child = spawn(file, [...permitted, 'server.js'], {
      cwd: folder,
      env: { ...process.env, PORT: `${port}` },
      stdio: 'ignore',
    });
    const exit = once(child, 'exit');
    onTestFinished(async () => {
      child.kill('SIGKILL');
      await exit;
    });
    await until(() => child.exitCode !== null || isListening(port), `${runtime} to listen`);
    const stream = await connectRaw(port);
    stream.get('/events?user_id=alice');
    await stream.has('event: connected');
    child.kill('SIGTERM');
    await stream.has('event: closing');
    await stream.completed(1);
    stream.destroy();
    const [code] = await exit;
    expect(code).toBe(0);
  },
);

test.each([
  [FETCH, ['deno', 'bun']],
  ['docs/guides/client-node.md', ['deno', 'bun', 'workerd']],
] as const)('%s names the versions that are tested', (page, names) => {
  const text = linesOf(page).join('\n').toLowerCase();
  for (const name of names) {
    const row = text.split('\n').filter((line) => line.startsWith('|') && line.includes(name));
    expect(row.length).toBeGreaterThan(0);
    for (const line of row) expect(line).toContain(RUNTIMES[name].version);
  }
});
