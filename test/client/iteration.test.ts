/** Loops over events that others drive: what ends one ends it wholly, or the stream would be held back for ever. */
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { expect, onTestFinished, test } from 'vitest';
import { SSEClient } from '../../src/client/index.js';
import { eventText, startFaultServer } from '../support/fault-server.js';
import { until } from '../support/until.js';

async function start() {
  let write: (text: string) => void = () => {};
  const server = await startFaultServer(({ res }) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
    write = (text) => res.write(text);
  });
  const client = new SSEClient({ url: server.url });
  onTestFinished(() => client.destroy());
  let count = 0;
  client.subscribe('message', () => count++);
  client.connect();
  await until(() => client.getStatus().connected, 'connected');
  const sendMany = () => {
    for (let n = 0; n < 2_000; n++) write(eventText('"x"'));
  };
  return { client, write: (text: string) => write(text), sendMany, count: () => count };
}

test('a Node stream over events that fails does not hold back the client', async () => {
  const { client, sendMany, count } = await start();
  const failing = new Writable({ objectMode: true, write: (_event, _encoding, done) => done(new Error('full')) });
  const piped = pipeline(Readable.from(client.events()), failing);
  sendMany();
  await expect(piped).rejects.toThrow('full');
  await until(() => count() === 2_000, 'all');
});

test('throw() ends a loop: before it began, while it waits, and in between', async () => {
  const { client, write, sendMany, count } = await start();
  const error = new Error('mine');
  const before = client.events();
  await expect(before.throw!(error)).rejects.toBe(error);
  expect(await before.next()).toEqual({ done: true, value: undefined });

  const waiting = client.events();
  const next = waiting.next();
  const thrown = waiting.throw!(error);
  await expect(Promise.race([next, thrown])).rejects.toBe(error);
  await Promise.allSettled([next, thrown]);

  const between = client.events();
  const first = between.next();
  write(eventText('1'));
  expect((await first).value).toMatchObject({ data: 1 });
  await expect(between.throw!(error)).rejects.toBe(error);
  expect((await between.next()).done).toBe(true);
  sendMany();
  await until(() => count() === 2_001, 'all');
});
