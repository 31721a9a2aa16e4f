/**
 * Any EventSource works with our server: the libraries people use, in Node and in a real Chromium, against a broker over
 * real HTTP.
 */
import { describe, expect, onTestFinished, test } from 'vitest';
import { openPage } from '../support/browser.js';
import { cursorOf, type RestartableServer, startRestartable } from '../support/restartable-server.js';
import { until } from '../support/until.js';
import { NODE_SOURCES, type OpenSource, PAGE_SOURCES, type SeenEvent, sourceInPage } from './event-sources.js';

const TYPES = ['connected', 'note', 'gap', 'heartbeat', 'message'];

const PAGE = '<!doctype html><meta charset="utf-8"><title>matrix</title>';

/** A server whose comments are far more frequent than anybody's, and the library under test. */
async function start(name: string): Promise<{ server: RestartableServer; open: OpenSource }> {
  const server = await startRestartable({
    broker: { heartbeatInterval: 20, clientTimeout: 1_000, retry: 50 },
    other: (_, res) => res.setHeader('Content-Type', 'text/html').end(PAGE),
  });
  if (name in NODE_SOURCES) return { server, open: NODE_SOURCES[name]! };
  const page = await openPage();
  await page.goto(server.url);
  return { server, open: await sourceInPage(page, name) };
}

/** Opens the stream and waits for `connected`; closed with the test. */
async function opened(name: string) {
  const { server, open } = await start(name);
  const source = await open(`${server.url}/events`, TYPES);
  // A page may be gone by then, and its source with it.
  onTestFinished(() => source.close().catch(() => {}));
  const has = (what: string, holds: (seen: readonly SeenEvent[]) => boolean) =>
    until(async () => holds(await source.seen()), `${what} in ${name}`);
  const count = (type: string, seen: readonly SeenEvent[]) => seen.filter((event) => event.type === type).length;
  await has('the connected event', (seen) => count('connected', seen) === 1);
  const notes = async () => (await source.seen()).filter(({ type }) => type === 'note');
  return { server, source, notes, hasNotes: (n: number) => has(`${n} notes`, (seen) => count('note', seen) >= n) };
}

describe.each([...Object.keys(NODE_SOURCES), ...PAGE_SOURCES])('%s', (name) => {
  test('gets connected first, then every event once, in order, with its id, whatever characters are in it', async () => {
    const { server, source, notes, hasNotes } = await opened(name);
    const data = ['grüße, 世界 🙂 \u2028', 'two\nlines', '', ' leading space: and colon', '💥'.repeat(40_000)];
    const ids: string[] = [];
    for (const text of data) ids.push(await server.broker.broadcast('note', text));
    for (let n = 0; n < 200; n++) ids.push(await server.broker.broadcast('note', String(n)));
    await hasNotes(ids.length);

    const seen = await source.seen();
    expect((await notes()).map((note) => note.data)).toEqual([
      ...data,
      ...Array.from({ length: 200 }, (_, n) => `${n}`),
    ]);
    expect((await notes()).map(({ id }) => id)).toEqual(ids);
    expect(seen[0]).toMatchObject({ type: 'connected', data: expect.stringContaining('"clientId":"') });
  });

  test('is not bothered with heartbeats', async () => {
    const { server, source, hasNotes } = await opened(name);
    const { writes } = server.broker.getStats();
    await until(() => server.broker.getStats().writes >= writes + 5, 'five heartbeats');
    await server.broker.broadcast('note', 'after the silence');
    await hasNotes(1);
    expect((await source.seen()).map(({ type }) => type)).toEqual(['connected', 'note']);
    expect(server.requests).toHaveLength(1);
  });

  test.each(['deploy', 'crash'] as const)(
    'resumes over a %s of the server, without loss, doubles or gap',
    async (how) => {
      const { server, source, notes, hasNotes } = await opened(name);
      await server.broker.broadcast('note', 'before');
      await hasNotes(1);
      const [{ id: lastSeen }] = (await notes()) as [SeenEvent];

      await server.stop(how);
      await server.start();
      await server.broker.broadcast('note', 'missed');
      await hasNotes(2);
      await server.broker.broadcast('note', 'after');
      await hasNotes(3);

      expect((await notes()).map(({ data }) => data)).toEqual(['before', 'missed', 'after']);
      expect(cursorOf(server.requests.at(-1))).toBe(lastSeen);
      expect((await source.seen()).some(({ type }) => type === 'gap')).toBe(false);
    },
  );
});
