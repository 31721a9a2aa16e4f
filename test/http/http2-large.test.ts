/** Large events over HTTP/2, whose streams do not tell how far they are with a write: handed over in pieces. */
import http2, { type Http2ServerResponse } from 'node:http2';
import type { Server } from 'node:net';
import { gunzipSync } from 'node:zlib';
import { expect, onTestFinished, test } from 'vitest';
import { type BrokerOptions, createHandler, type HandlerOptions } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { ManualClock } from '../support/manual-clock.js';
import { Reader } from '../support/reader.js';
import { listen } from '../support/server.js';
import { until } from '../support/until.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function start(options: BrokerOptions = {}, handlerOptions: HandlerOptions = {}) {
  const broker = makeBroker({ maxEventBytes: 0, clientBufferBytes: 0, ...options });
  const handler = createHandler(broker, handlerOptions);
  const responses: Http2ServerResponse[] = [];
  const server = http2.createServer((req, res) => {
    responses.push(res);
    void handler(req, res);
  });
  const { port, close } = await listen(server as unknown as Server);
  onTestFinished(close);
  /** A stream that is read by `take` only; `bytes` is what was. */
  const open = async () => {
    const session = http2.connect(`http://127.0.0.1:${port}`);
    onTestFinished(() => session.destroy());
    const count = broker.getStats().totalClients + 1;
    const stream = session.request({ ':path': '/', accept: 'text/event-stream', 'accept-encoding': 'gzip' });
    const bytes: Buffer[] = [];
    await until(() => broker.getStats().totalClients === count, 'the client');
    const take = () => {
      const some = stream.read() as Buffer | null;
      if (some !== null) bytes.push(some);
      return some?.length ?? 0;
    };
    const ended = () => until(() => take() === 0 && stream.readableEnded, 'the end of the stream');
    const events = (text = Buffer.concat(bytes)) => {
      const reader = new Reader();
      reader.feed(text);
      return reader.events;
    };
    return { stream, take, ended, events, bytes, id: [...broker.getClients()].at(-1)!.id };
  };
  return { broker, responses, open };
}

test('a reader that takes its time over one stays; one that takes nothing is cut off', async () => {
  const clock = new ManualClock();
  const { broker, open } = await start({ clock, heartbeatInterval: 1_000, clientTimeout: 60_000 });
  const gone: string[] = [];
  broker.on('clientDisconnected', ({ id }, reason) => gone.push(`${id} ${reason}`));
  const slow = await open();
  const dead = await open();
  await broker.broadcast('note', 'x'.repeat(5_000_000));
  await turn();
  await broker.broadcast('note', 'y');
  await until(() => [...broker.getClients()].every(({ queuedFrames }) => queuedFrames === 1), 'both to be behind');
  for (let round = 0; round < 6; round++) {
    clock.advance(40_000);
    let taken = 0;
    await until(() => {
      taken += slow.take();
      return taken > 150_000;
    }, 'some bytes');
  }
  expect(gone).toEqual([`${dead.id} timeout`]);
  // And it gets all of it, in order.
  await broker.disconnect(slow.id);
  await slow.ended();
  expect(slow.events().map(({ type, data }) => [type, data.length > 100 ? data.length : data])).toEqual([
    ['connected', expect.anything()],
    ['note', 5_000_000],
    ['note', 'y'],
    ['closing', '{"reason":"disconnected"}'],
  ]);
});

test.each<[string, HandlerOptions]>([
  ['plain', {}],
  ['compressed', { compression: 'gzip' }],
])('the end comes behind one that is under way, once: %s', async (name, options) => {
  const { broker, open } = await start({ connectedEvent: false }, options);
  const client = await open();
  // Not to be compressed to next to nothing.
  const data = Array.from({ length: 300_000 }, () => Math.random().toString(36).slice(2, 6)).join('');
  await broker.broadcast('note', data);
  await turn();
  await broker.disconnect(client.id);
  expect(broker.getStats()).toMatchObject({ totalClients: 0, ending: 1 });
  await client.ended();
  const all = Buffer.concat(client.bytes);
  const events = client.events(name === 'plain' ? all : gunzipSync(all));
  expect(events.map(({ type }) => type)).toEqual(['note', 'closing']);
  expect(events[0]!.data === data).toBe(true);
  await until(() => broker.getStats().ending === 0, 'the client to be closed');
});

test('an application that ends the response in the middle of one breaks nothing', async () => {
  const { broker, responses, open } = await start();
  const client = await open();
  await broker.broadcast('note', 'x'.repeat(2_000_000));
  await turn();
  responses[0]!.end();
  await broker.broadcast('note', 'y');
  await turn();
  await client.ended();
  await until(() => broker.getStats().totalClients === 0, 'the client to be gone');
  expect(client.stream.rstCode).toBe(http2.constants.NGHTTP2_NO_ERROR);
  expect(broker.reported).toEqual([]);
  expect(broker.getStats()).toMatchObject({ ending: 0, queuedFrames: 0, disconnects: { left: 1 } });
});
