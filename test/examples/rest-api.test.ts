/** examples/rest-api/server.mjs as its reader runs it. */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { assertBuilt, root } from '../support/package.js';
import { skipUnless } from '../support/skip.js';
import { openStream } from '../support/stream.js';
import { startExample } from './example.js';

beforeAll(assertBuilt);

test('what curl posts waits for its user, reaches the stream, and can be marked read', async () => {
  skipUnless(existsSync('/usr/bin/curl'), 'no curl; apt-get install curl');
  const example = await startExample('rest-api/server');
  const api = `${example.url}/api`;
  const [, send] = example.lines as [string, string];
  const json = async (path: string, init?: RequestInit) => (await fetch(api + path, init)).json();

  const { stdout } = await promisify(execFile)('bash', ['-c', `${send} -s --fail`]);
  const { event_id } = JSON.parse(stdout);
  expect(await json('/messages/unread?user_id=alice')).toEqual({ unread: 1 });
  expect(await json('/messages/pending?user_id=alice')).toMatchObject({
    messages: [{ event_id, event_type: 'note', data: { text: 'hello' } }],
  });

  const stream = await openStream(`${api}/stream?user_id=alice`);
  expect(await stream.next('note')).toEqual({ text: 'hello' });
  const read = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"all":true}' };
  expect(await json('/messages/read?user_id=alice', read)).toEqual({ marked: 1 });

  expect((await fetch(`${api}/stream/private/x?user_id=alice`)).status).toBe(403);
  expect((await fetch(`${api}/info`)).status).toBe(401);

  expect(await example.terminate()).toBe(0);
  expect(await stream.next('closing')).toEqual({ reason: 'shutdown' });
  expect(example.errors()).toBe('');
});

test('it stands in its guide as it is', () => {
  const guide = readFileSync(path.join(root, 'docs/guides/rest-api.md'), 'utf8');
  expect(guide).toContain(`\`\`\`js\n${readFileSync(path.join(root, 'examples/rest-api/server.mjs'), 'utf8')}\`\`\``);
});
