/** The examples with a page: their pages show what their servers send, and the guides show their code as it is. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, test, vi } from 'vitest';
import { assertBuilt, root } from '../support/package.js';
import { until } from '../support/until.js';
import { startPageExample } from './page.js';

// Each bundles its page and starts a server; the first one starts the browser too.
vi.setConfig({ testTimeout: 60_000 });

beforeAll(assertBuilt);

test.each(['react', 'vue'])(
  'examples/%s shows prices as they come, and the alarm knows the newest limit',
  async (name) => {
    const example = await startPageExample(name, { INTERVAL: '20' });
    const page = await example.open();
    const text = () => page.innerText('main');
    await until(async () => /live.*ACME: \d+\.\d\d.*Globex: \d+\.\d\d/s.test(await text()), 'two prices');
    const first = /ACME: \S+/.exec(await text())![0];
    await until(async () => !(await text()).includes(first), 'another price');
    await page.fill('input', '0');
    await until(async () => /: (ACME|Globex) at \d/s.test(await text()), 'the alarm');
    expect(await example.terminate()).toBe(0);
    await until(async () => (await text()).includes('connection lost'), 'the lost connection');
    expect(example.complaints.filter((text) => !text.includes('net::ERR'))).toEqual([]);
  },
);

test('examples/pinia has a snapshot and what comes after it', async () => {
  const example = await startPageExample('pinia');
  const page = await example.open();
  const text = () => page.innerText('main');
  await until(async () => /connected.*1 unread.*Welcome/s.test(await text()), 'the snapshot');
  const body = JSON.stringify({ text: 'You have a visitor' });
  await fetch(`${example.url}/notifications`, { method: 'POST', body });
  await until(async () => /2 unread.*Welcome.*You have a visitor/s.test(await text()), 'the notification');
  expect(example.complaints).toEqual([]);
});

test('examples/tanstack-query fetches again what another page has changed', async () => {
  const example = await startPageExample('tanstack-query');
  const pages = [await example.open(), await example.open()];
  for (const page of pages) await page.waitForSelector('text=Write the example');
  await pages[0]!.click('button');
  for (const page of pages) await page.waitForSelector('text=Something else');
  expect(example.complaints).toEqual([]);
});

test('examples/inbox shows what came before the page, once per device, and what is read anywhere is gone everywhere', async () => {
  const example = await startPageExample('inbox');
  const send = (text: string) => fetch(`${example.url}/notes`, { method: 'POST', body: JSON.stringify({ text }) });
  await send('Before the page');
  const notJson = await fetch(`${example.url}/notes`, { method: 'POST', body: 'Before the page' });
  expect(notJson.status).toBe(400);
  const pages = [await example.open(), await example.open()];
  const shows = (text: RegExp) =>
    until(async () => (await Promise.all(pages.map((page) => page.innerText('main')))).every((one) => text.test(one)));
  await shows(/^1 unread\s+Before the page$/);
  await send('While it is open');
  await shows(/^2 unread\s+While it is open\s*Before the page$/);
  await pages[0]!.click('text=Before the page');
  await shows(/^1 unread\s+While it is open$/);
  await pages[1]!.reload();
  await shows(/^1 unread\s+While it is open$/);
  expect(example.complaints).toEqual([]);
});

test.each([
  ['inbox', 'inbox/page.jsx'],
  ['react', 'react/page.jsx'],
  ['vue', 'vue/page.js'],
  ['vue', 'pinia/page.js'],
  ['react', 'tanstack-query/page.jsx'],
])('docs/guides/%s.md shows examples/%s as it is', (guide, file) => {
  const text = readFileSync(path.join(root, 'docs/guides', `${guide}.md`), 'utf8');
  const code = readFileSync(path.join(root, 'examples', file), 'utf8');
  expect(text).toContain(`\`\`\`${path.extname(file).slice(1)}\n${code}\`\`\``);
});
