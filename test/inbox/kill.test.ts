/**
 * A server is killed (SIGKILL) between any two steps of a send, again and again: every message whose send had resolved reaches the
 * device that follows all the time, and one that comes at the end.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { messageIdOf } from '../../src/inbox/message-tag.js';
import { temporaryFolder } from '../buses/sqlite-files.js';
import { type Child, childStarter } from '../support/child.js';
import { Reader } from '../support/reader.js';
import { until } from '../support/until.js';
import { type KillOrder, STEPS } from './kill-order.js';

type Message = { isReady: true } | { port: number };

interface Following {
  readonly reader: Reader;
  readonly over: Promise<void>;
  leave(): void;
}

/** Follows the stream until the server is gone; like an EventSource it knows only its last event id. */
function follow(port: number, device: string, lastEventId: string): Following {
  const reader = new Reader(lastEventId);
  const headers = lastEventId === '' ? {} : { 'last-event-id': lastEventId };
  const request = http.get({ host: '127.0.0.1', port, path: `/?device=${device}`, headers, agent: false });
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

const numbersIn = ({ events }: Reader): number[] =>
  events.filter(({ type }) => type === 'number').map(({ data }) => Number(data));

const idsIn = ({ events }: Reader): (string | undefined)[] =>
  events.filter(({ type }) => type === 'number').map(({ lastEventId }) => messageIdOf(lastEventId));

const exited = ({ process }: Child<Message>): Promise<undefined> =>
  new Promise((resolve) => {
    if (process.exitCode !== null || process.signalCode !== null) resolve(undefined);
    else process.once('exit', () => resolve(undefined));
  });

test.each([
  { over: 'a bus in memory', hasHistory: false, rounds: 26 },
  { over: 'a bus that keeps history', hasHistory: true, rounds: 26 },
])(
  '$rounds × kill -9 over $over: what was resolved arrives',
  async ({ hasHistory, rounds }) => {
    const { folder, remove } = temporaryFolder();
    onTestFinished(remove);
    const log = path.join(folder, 'resolved.log');
    writeFileSync(log, '');
    const order = {
      store: path.join(folder, 'inbox.db'),
      history: hasHistory ? path.join(folder, 'history.db') : undefined,
      log,
    };
    const start = await childStarter<Message>('test/inbox/kill-program.ts');
    const got: number[] = [];
    const seen: (string | undefined)[] = [];
    let lastEventId = '';
    let next = start();
    const steps = hasHistory ? STEPS : STEPS.filter((step) => step !== 'before publish');
    for (let round = 0; round < rounds; round++) {
      const child = next;
      next = start();
      await child.next();
      const occurrence = 1 + Math.floor(Math.random() * 12);
      const step = steps[round % steps.length];
      child.send({ ...order, first: round * 100_000, step, occurrence } satisfies KillOrder);
      // It may not even live until it listens.
      const said = await Promise.race([child.next(30_000), exited(child)]);
      if (said === undefined) continue;
      const { port } = said as { port: number };
      const phone = follow(port, 'phone', lastEventId);
      await exited(child);
      await phone.over;
      got.push(...numbersIn(phone.reader));
      seen.push(...idsIn(phone.reader));
      lastEventId = phone.reader.lastEventId;
    }
    await next.next();
    next.send({ ...order, first: 0, step: undefined, occurrence: 0 } satisfies KillOrder);
    const { port } = (await next.next()) as { port: number };
    const phone = follow(port, 'phone', lastEventId);
    const laptop = follow(port, 'laptop', '');
    const resolved = readFileSync(log, 'utf8').trim().split('\n').map(Number);
    const has = (numbers: readonly number[]) => {
      const set = new Set(numbers);
      return resolved.every((number) => set.has(number));
    };
    const all = () => [...got, ...numbersIn(phone.reader)];
    await until(() => has(all()), 'every resolved message on the phone', 15_000).catch(tell(resolved, all));
    const laptopHas = () => numbersIn(laptop.reader);
    await until(() => has(laptopHas()), 'every resolved message on the laptop', 15_000).catch(
      tell(resolved, laptopHas),
    );
    phone.leave();
    laptop.leave();
    expect(resolved.length).toBeGreaterThan(rounds);
    // A bus that keeps history may bring a message that a node published and died before it could say so a second time, which a
    // client knows by its id. What has no past does not: there everything comes out of the store.
    const onLaptop = numbersIn(laptop.reader);
    expect(onLaptop.filter((number, at) => onLaptop.indexOf(number) !== at)).toEqual([]);
    const twice = all().filter((number, at) => all().indexOf(number) !== at);
    if (!hasHistory) expect(twice).toEqual([]);
    expect(new Set([...seen, ...idsIn(phone.reader)]).size).toBe(new Set(all()).size);
  },
  180_000,
);

/** What is missing, instead of what was waited for. */
const tell = (resolved: readonly number[], got: () => readonly number[]) => (): never => {
  const set = new Set(got());
  const missing = resolved.filter((number) => !set.has(number));
  throw new Error(`${missing.length} of ${resolved.length} are missing: ${missing.slice(0, 20).join(', ')}`);
};
