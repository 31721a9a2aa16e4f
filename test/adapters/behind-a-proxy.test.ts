/** What docs/guides/behind-a-proxy.md says of nginx, with a real one. */
import { expect, test } from 'vitest';
import { createHandler, queryAuthenticator } from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { serve } from '../support/server.js';
import { openStream } from '../support/stream.js';
import { until } from '../support/until.js';
import { openEncoded } from './encoded-client.js';
import { http2Client } from './http2-client.js';
import { startNginx } from './nginx.js';

test.each([
  ['as it comes, buffering on and HTTP/1.0 to the server', ''],
  ['with HTTP/1.1 to the server', 'proxy_http_version 1.1; proxy_set_header Connection "";'],
  ['with buffering written out', 'proxy_buffering on; proxy_buffers 8 64k; proxy_buffer_size 64k;'],
])('behind nginx %s, events arrive at once', async (_name, location) => {
  const broker = makeBroker();
  const { url } = await serve(createHandler(broker));
  const client = await openStream(await startNginx(url, { location }));
  expect(client.headers.server).toMatch(/^nginx/);
  await client.next('connected');
  for (const n of [1, 2, 3]) {
    await broker.broadcast('note', n);
    expect(await client.next('note', n)).toBe(n);
  }
});

test('behind nginx that gzips, events arrive at once, though it does not know no-transform', async () => {
  const broker = makeBroker();
  const { url } = await serve(createHandler(broker));
  const proxied = await startNginx(url, {
    location: 'proxy_http_version 1.1; gzip on; gzip_types text/event-stream; gzip_min_length 0; gzip_proxied any;',
  });
  const client = await openEncoded(proxied, 'gzip');
  await client.next('connected');
  for (const n of [1, 2, 3]) {
    await broker.broadcast('note', n);
    expect(await client.next('note', n)).toBe(n);
  }
});

test('behind nginx, a client that leaves is gone, and one that comes back gets what it missed', async () => {
  const broker = makeBroker({ historySize: 10 });
  const { url } = await serve(createHandler(broker, { authenticator: queryAuthenticator() }));
  const proxied = `${await startNginx(url)}/?user_id=alice`;
  const before = await openStream(proxied);
  await before.next('connected');
  await broker.sendToUser('alice', 'note', 1);
  await before.next('note');
  before.close();
  await until(() => broker.getStats().totalClients === 0, 'nginx to hang up');
  await broker.sendToUser('alice', 'note', 2);
  const after = await openStream(proxied, { headers: { 'last-event-id': before.events.at(-1)!.id! } });
  expect(await after.next('note')).toBe(2);
});

test('behind nginx, a stream outlives proxy_read_timeout if the heartbeat is shorter, and not otherwise', async () => {
  const location = 'proxy_read_timeout 1s;';
  const lively = makeBroker({ heartbeatInterval: 250 });
  const silent = makeBroker({ heartbeatInterval: 0 });
  const livelyServer = await serve(createHandler(lively));
  const silentServer = await serve(createHandler(silent));
  const stays = await openStream(await startNginx(livelyServer.url, { location }));
  const goes = await openStream(await startNginx(silentServer.url, { location }));
  await until(() => stays.comments.length >= 8, 'two seconds of heartbeats');
  await goes.ended();
  expect(stays.isEnded()).toBe(false);
  await lively.broadcast('note', 1);
  await stays.next('note');
  await until(() => silent.getStats().totalClients === 0, 'the silent client to be gone');
});

test('behind nginx with HTTP/2, eight streams share one connection', async () => {
  const broker = makeBroker();
  const { url } = await serve(createHandler(broker));
  const open = http2Client(await startNginx(url, { http2: true }));
  const clients = await Promise.all(Array.from({ length: 8 }, () => open('/', {})));
  for (const client of clients) await client.next('connected');
  await broker.broadcast('note', 1);
  for (const client of clients) expect(await client.next('note')).toBe(1);
  for (const client of clients) client.close();
  await until(() => broker.getStats().totalClients === 0, 'all to be gone');
});

test('behind nginx, close() ends the streams in good order', async () => {
  const broker = makeBroker();
  const { url } = await serve(createHandler(broker));
  const client = await openStream(await startNginx(url));
  await client.next('connected');
  expect(await broker.close({ reconnectWithinMs: 100 })).toEqual({ ended: 1, cut: 0 });
  await client.ended();
  expect(client.events.at(-1)).toMatchObject({ event: 'closing' });
});
