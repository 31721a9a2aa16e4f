/** The `compression` middleware in front of Express: events must not wait in it, whether it obeys or not. */
import compression from 'compression';
import express5 from 'express';
import express4 from 'express4';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createHandler, type HandlerOptions } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { listen } from '../support/server.js';
import { openStream } from '../support/stream.js';
import { until } from '../support/until.js';
import { connectionsOf } from './connections.js';
import { openEncoded } from './encoded-client.js';

for (const [name, express] of [
  ['Express 5', express5],
  ['Express 4', express4],
] as const) {
  const start = async (options: HandlerOptions, brokerOptions = {}) => {
    const broker = makeBroker(brokerOptions);
    const app = express();
    app.use(compression({ filter: () => true, threshold: 0 }));
    app.get('/events', createHandler(broker, options));
    const { url, server } = await listen(app.listen(0, '127.0.0.1'));
    onTestFinished(async () => {
      await broker.close({ timeoutMs: 100 });
      await connectionsOf(server).close();
    });
    return { broker, url: `${url}/events` };
  };

  describe(`compression in front of ${name}`, () => {
    test('it sees no-transform, leaves the stream alone, and events arrive at once', async () => {
      const { broker, url } = await start({});
      const client = await openStream(url, { headers: { 'accept-encoding': 'gzip, br' } });
      expect(client.headers['content-encoding']).toBeUndefined();
      await client.next('connected');
      for (const n of [1, 2, 3]) {
        await broker.broadcast('note', n);
        expect(await client.next('note', n)).toBe(n);
      }
    });

    // What a wrapper does that takes no-transform away.
    const disobedient = { headers: { 'Cache-Control': 'no-cache' } };

    for (const encoding of ['gzip', 'br'] as const) {
      test(`it does not see no-transform and compresses with ${encoding}: each event still arrives at once`, async () => {
        const { broker, url } = await start(disobedient);
        const client = await openEncoded(url, encoding);
        await client.next('connected');
        for (const n of [1, 2, 3]) {
          await broker.broadcast('note', n);
          expect(await client.next('note', n)).toBe(n);
        }
        await broker.close();
        await client.ended();
        expect(client.events.at(-1)).toMatchObject({ event: 'closing' });
      });
    }

    test('it compresses a long burst: whole, in order, and the client that leaves is gone', async () => {
      const { broker, url } = await start(disobedient, { clientBufferSize: 0, clientBufferBytes: 0 });
      const client = await openEncoded(url, 'gzip');
      await client.next('connected');
      const text = Array.from({ length: 2_000 }, () => Math.random().toString(36)).join('');
      for (let n = 0; n < 200; n++) await broker.broadcast('note', { n, text });
      const notes = await client.all<{ n: number; text: string }>('note', 200);
      expect(notes.map(({ n }) => n)).toEqual(Array.from({ length: 200 }, (_, n) => n));
      expect(notes.every((note) => note.text === text)).toBe(true);
      client.close();
      await until(() => broker.getStats().totalClients === 0 && broker.getStats().ending === 0, 'it to be gone');
    });
  });
}
