/**
 * A server process is killed (SIGKILL) in the middle of a stream of publishes, again and again, and a client that resumes over
 * real HTTP gets every event whose publish had resolved, once and in order.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { root } from '../support/package.js';
import { Reader } from '../support/reader.js';
import { until } from '../support/until.js';
import { temporaryFolder } from './sqlite-files.js';

/** A process that has loaded its code and waits for its turn. */
function spawnServer(): { child: ChildProcess; isReady: Promise<void>; exited: Promise<void> } {
  const child = fork(path.join(root, 'test/buses/children/server.mjs'), {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const isReady = new Promise<void>((resolve) => child.once('message', () => resolve()));
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  return { child, isReady, exited };
}

/** Follows the stream until the server is gone; like an EventSource it knows only its last event id. */
function follow(port: number, lastEventId: string): { reader: Reader; over: Promise<void>; leave(): void } {
  const reader = new Reader(lastEventId);
  const headers = lastEventId === '' ? {} : { 'last-event-id': lastEventId };
  const request = http.get({ host: '127.0.0.1', port, headers, agent: false });
  const over = new Promise<void>((resolve) => {
    request.on('response', (response) => {
      response.on('data', (bytes: Uint8Array) => reader.feed(bytes));
      response.on('error', () => {});
      response.on('close', resolve);
    });
    request.on('error', () => resolve());
  });
  return { reader, over, leave: () => request.destroy() };
}

test.each([
  { rounds: 50, driver: undefined, over: 'a file' },
  { rounds: 8, driver: 'libsql', over: 'a database of libsql' },
])(
  '$rounds × kill -9 over $over: what was resolved arrives, once, in order',
  async ({ rounds, driver }) => {
    const { folder, remove } = temporaryFolder();
    onTestFinished(remove);
    const file = path.join(folder, 'history.db');
    const log = path.join(folder, 'resolved.log');
    writeFileSync(log, '');
    const seen: number[] = [];
    const gaps: string[] = [];
    let lastEventId = '';
    let server = spawnServer();

    // Before the first round the client gets its first cursor, after the last it gets the rest: nobody publishes then.
    for (let round = 0; round <= rounds + 1; round++) {
      const isLast = round > rounds;
      const next = isLast ? undefined : spawnServer();
      await server.isReady;
      const { child, exited } = server;
      const listening = new Promise<number>((resolve) => {
        child.once('message', (message) => resolve((message as { port: number }).port));
      });
      child.send({ file, driver, log, first: round * 1_000_000, publishes: round > 0 && !isLast });
      const { reader, over, leave } = follow(await listening, lastEventId);
      const take = () => {
        for (const { type, data } of reader.events.splice(0)) {
          if (type === 'number') seen.push(Number(data));
          if (type === 'gap') gaps.push(data);
        }
        return seen;
      };
      if (round === 0) {
        await until(() => reader.lastEventId !== '', 'the first cursor');
      } else if (isLast) {
        const last = Number(readFileSync(log, 'utf8').trim().split('\n').at(-1));
        await until(() => take().includes(last), `event ${last}`);
      } else {
        // Killed at any point: before the first event, in the middle of the replay, or well into the live stream.
        const enough = Math.floor(Math.random() * 150);
        const before = seen.length;
        await until(() => take().length - before >= enough, `${enough} events`);
      }
      if (isLast) leave();
      else child.kill('SIGKILL');
      await over;
      take();
      lastEventId = reader.lastEventId;
      child.kill('SIGKILL');
      await exited;
      if (next !== undefined) server = next;
    }

    const resolved = readFileSync(log, 'utf8').trim().split('\n').map(Number);
    const got = new Set(seen);
    expect(resolved.length).toBeGreaterThan(rounds);
    expect(resolved.filter((number) => !got.has(number))).toEqual([]);
    expect(gaps).toEqual([]);
    expect(seen).toEqual([...got].sort((a, b) => a - b));
  },
  120_000,
);
