/** The demo as two people see it, in a real Chromium. */
import path from 'node:path';
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { openPage } from '../support/browser.js';
import { type Demo, startDemo } from '../support/demo.js';
import { makeFolder, makeSparseFile, sha256OfFiles } from '../support/files.js';
import { until } from '../support/until.js';

const MINUTES_OF_READING = 64 * 1024 ** 3;

/** The page of a user, with its stream open, and whatever the browser complained about. */
async function openAs(user: string, { url }: Demo): Promise<{ page: Page; complaints: string[] }> {
  const page = await openPage();
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    // A server that is away is part of these tests.
    if (message.type() === 'error' && !message.text().includes('ERR_CONNECTION')) complaints.push(message.text());
  });
  await page.goto(`${url}/?user_id=${encodeURIComponent(user)}`);
  await stateIs(page, 'Open');
  await until(() => page.locator('#folder option').count(), 'the list of folders');
  return { page, complaints };
}

const textOf = async (page: Page, selector: string) =>
  (await page.locator(selector).first().textContent())?.trim() ?? '';

const stateIs = (page: Page, state: string) =>
  until(async () => (await textOf(page, '#pill')) === state, `the state ${state}`, 15_000);

const logOf = async (page: Page) => (await page.locator('#log .name').allTextContents()).map((name) => name.trim());

/** Place in the order of what the page has seen. */
const sequenceOf = async (page: Page) => Number((await textOf(page, '#fact-cursor')).split('-').at(-1));

test('who started a job sees it progress and end; somebody else sees nothing of it', async () => {
  const root = await makeFolder({ 'data/small.txt': 'small', 'data/deep/other.txt': 'other' });
  await makeSparseFile(path.join(root, 'endless/large'), MINUTES_OF_READING);
  const demo = await startDemo({ root });
  const alice = await openAs('alice', demo);
  const bob = await openAs('bob', demo);
  const percents = new Set<string>();

  await alice.page.locator('#folder').selectOption('endless');
  await alice.page.locator('#folder').focus();
  await alice.page.keyboard.press('Tab');
  await alice.page.keyboard.press('Enter');
  await until(async () => {
    percents.add(await textOf(alice.page, '.job .percent'));
    return percents.size >= 3;
  }, 'progress that moves');
  await alice.page.locator('#folder').selectOption('data');
  await alice.page.locator('#start-button').click();
  await until(async () => (await textOf(alice.page, '.job .badge')) === 'Completed', 'the end of the job');
  const completedAt = await sequenceOf(alice.page);
  await until(async () => (await sequenceOf(bob.page)) > completedAt, 'a later broadcast at bob');

  const ids = await alice.page.evaluate<string[]>(
    "[...document.querySelectorAll('.job')].map((job) => job.dataset.job)",
  );
  const [sums] = await Promise.all([
    alice.page.context().waitForEvent('page'),
    alice.page.getByRole('link', { name: 'All hashes' }).click(),
  ]);
  await sums.waitForLoadState();
  const hashes = await sha256OfFiles(path.join(root, 'data'));
  expect((await sums.locator('body').innerText()).trim().split('\n').toSorted()).toEqual(
    [...hashes].map(([file, hash]) => `${hash}  ${file}`).toSorted(),
  );
  expect(await textOf(alice.page, '.job .percent')).toBe('100 %');
  expect(await logOf(alice.page)).toEqual(expect.arrayContaining(['job.started', 'job.completed']));
  expect(await bob.page.locator('.job').count()).toBe(0);
  expect((await logOf(bob.page)).filter((name) => name.startsWith('job.'))).toEqual([]);
  expect(ids).toHaveLength(2);
  for (const id of ids) expect(await bob.page.content()).not.toContain(id);
  expect([...alice.complaints, ...bob.complaints]).toEqual([]);
});

test('a second tab of the same user shows the same job, and one that comes later too', async () => {
  const root = await makeFolder({ 'data/small.txt': 'small' });
  const demo = await startDemo({ root });
  const first = await openAs('alice', demo);
  const second = await openAs('alice', demo);

  await first.page.locator('#start-button').click();
  await until(async () => (await textOf(second.page, '.job .badge')) === 'Completed', 'the job in the second tab');
  const third = await openAs('alice', demo);
  await until(async () => (await textOf(third.page, '.job .badge')) === 'Completed', 'the job in the third tab');

  expect(await third.page.locator('.job').count()).toBe(1);
});

test('the connection state follows a server that goes away and comes back, and the gap is told', async () => {
  const root = await makeFolder();
  await makeSparseFile(path.join(root, 'data/endless'), MINUTES_OF_READING);
  const demo = await startDemo({ root });
  const { page, complaints } = await openAs('alice', demo);
  await page.locator('#start-button').click();
  await until(async () => Number.parseFloat(await textOf(page, '.job .percent')) > 0, 'progress');

  expect(await demo.stop()).toEqual({ code: 0, signal: null });
  await stateIs(page, 'Lost');
  expect(await textOf(page, '.job .badge')).toBe('Failed');
  expect(await textOf(page, '.job .outcome')).toBe('the server was stopped');
  expect(await textOf(page, '#fact-state')).toMatch(/^lost .* ago; attempt \d+$/);
  await page.locator('#start-button').click();
  await until(async () => (await textOf(page, '#start-problem')) === 'The server cannot be reached.', 'the problem');

  await startDemo({ root, port: demo.port });
  await stateIs(page, 'Open');
  await until(async () => (await textOf(page, '#fact-gaps')) === '1, last: epoch', 'the gap');
  const log = await logOf(page);
  expect(log.filter((name) => !name.startsWith('job.')).toReversed()).toEqual([
    ...['(connecting)', '(open)', 'connected', 'closing', '(lost)', '(open)', 'connected', 'gap'],
  ]);
  expect(complaints).toEqual([]);
});

test('disconnecting and reconnecting by hand misses nothing', async () => {
  const root = await makeFolder({ 'data/small.txt': 'small' });
  const demo = await startDemo({ root });
  const { page } = await openAs('alice', demo);

  await page.getByRole('button', { name: 'Disconnect' }).click();
  await stateIs(page, 'Disconnected');
  await page.locator('#start-button').click();
  await until(() => page.locator('.job').count(), 'the job');
  await page.getByRole('button', { name: 'Reconnect' }).click();
  await until(async () => (await logOf(page)).includes('job.completed'), 'the event that was missed');

  expect(await textOf(page, '#fact-gaps')).toBe('none');
  expect((await logOf(page)).filter((name) => name === 'job.started')).toHaveLength(1);
});

test('a job is cancelled from the page', async () => {
  const root = await makeFolder();
  await makeSparseFile(path.join(root, 'data/endless'), MINUTES_OF_READING);
  const { page } = await openAs('alice', await startDemo({ root }));
  await page.locator('#start-button').click();

  await page.getByRole('button', { name: 'Cancel' }).click();

  await until(async () => (await textOf(page, '.job .badge')) === 'Cancelled', 'the end of the job');
  expect(await page.getByRole('button', { name: 'Cancel' }).count()).toBe(0);
});

test('names from the disk and from the address are shown as text', async () => {
  const evil = '<img src=x onerror="window.hacked=1">';
  const root = await makeFolder({ [`${evil}/${evil}`]: 'x' });
  const { page, complaints } = await openAs(evil, await startDemo({ root }));

  await page.locator('#start-button').click();
  await until(async () => (await textOf(page, '.job .badge')) === 'Completed', 'the end of the job');

  expect(await textOf(page, '.job h3')).toBe(evil);
  expect(await page.locator('#user').inputValue()).toBe(evil);
  expect(await page.locator('img').count()).toBe(0);
  expect(await page.evaluate('window.hacked')).toBeUndefined();
  expect(complaints).toEqual([]);
});

test.each([1280, 768, 320])('the page fits a window %i pixels wide', async (width) => {
  const root = await makeFolder({ 'data/small.txt': 'small' });
  const { page } = await openAs('alice', await startDemo({ root }));
  await page.setViewportSize({ width, height: 800 });
  await page.locator('#start-button').click();
  await until(async () => (await textOf(page, '.job .badge')) === 'Completed', 'the end of the job');

  expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(width);
});

test('the theme is the one of the system until another is chosen, and then stays', async () => {
  const root = await makeFolder({ 'data/small.txt': 'small' });
  const { page } = await openAs('alice', await startDemo({ root }));
  const background = () => page.evaluate<string>('getComputedStyle(document.body).backgroundColor');
  const light = await background();
  await page.emulateMedia({ colorScheme: 'dark' });
  const dark = await background();
  await page.emulateMedia({ colorScheme: 'light' });

  await page.getByRole('button', { name: 'Dark theme' }).click();
  const chosen = await background();
  await page.reload();

  expect(dark).not.toBe(light);
  expect(chosen).toBe(dark);
  expect(await background()).toBe(dark);
  expect(await page.locator('#theme').getAttribute('aria-pressed')).toBe('true');
});
