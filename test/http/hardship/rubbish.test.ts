/** Requests that nobody sends in good faith: they are answered or ended, and everybody else is served. */
import type { RequestListener } from 'node:http';
import type { Socket } from 'node:net';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { expect, test } from 'vitest';
import { createHandler, queryAuthenticator, queryTopicResolver } from '../../../src/index.js';
import { makeBroker } from '../../support/broker.js';
import { connectRaw, type RawConnection } from '../../support/raw.js';
import { serve } from '../../support/server.js';
import { openStream } from '../../support/stream.js';
import { until } from '../../support/until.js';

async function started(serverOptions = {}, brokerOptions = {}) {
  const broker = makeBroker(brokerOptions);
  const handler = createHandler(broker, { topicResolver: queryTopicResolver() });
  const { port, url, server } = await serve(handler as RequestListener, serverOptions);
  const sockets: Socket[] = [];
  server.on('connection', (socket) => sockets.push(socket));
  return { broker, port, url, sockets };
}

function eventsOf(connection: RawConnection): EventSourceMessage[] {
  const events: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (event) => events.push(event) });
  parser.feed(connection.responses()[0]!.body.toString());
  return events;
}

test('headers of 100 KiB: refused by Node, or taken where the server allows it', async () => {
  const big = `X-Big: ${'x'.repeat(100 * 1024)}\r\n`;
  const strict = await started();
  const refused = await connectRaw(strict.port);
  refused.get('/', big);
  await refused.ended();
  expect(refused.text).toMatch(/^HTTP\/1\.1 431 /);
  expect(strict.broker.getStats()).toMatchObject({ connects: 0 });

  const lax = await started({ maxHeaderSize: 1024 * 1024 });
  const taken = await connectRaw(lax.port);
  taken.get('/', `${big}Cookie: ${'a=b; '.repeat(20_000)}\r\n`);
  await taken.has('event: connected');
});

const cursors: [string, string, string][] = [
  ['10 KB long', '/', `Last-Event-ID: ${'9'.repeat(10_000)}\r\n`],
  ['not in ASCII', '/', 'Last-Event-ID: caf\xe9-\xff\xfe\r\n'],
  ['in UTF-8', '/', 'Last-Event-ID: 日本\r\n'],
  ['with a NUL and line breaks, in the query', '/?lastEventId=1%00%0d%0aevent:%20evil%0d%0adata:%20x%0d%0a%0d%0a', ''],
  ['that looks like an id and is none', '/', 'Last-Event-ID: 0-18446744073709551616\r\n'],
  ['of JSON', '/', 'Last-Event-ID: {"$gt":""}\r\n'],
  ['of a prototype', '/', 'Last-Event-ID: __proto__\r\n'],
  ['broken percent-encoding, in the query', '/?lastEventId=%ff%fe%&lastEventId=%00', ''],
];
for (const [name, path, headers] of cursors) {
  test(`a Last-Event-ID ${name}: a gap, nothing of it comes back, and the stream goes on`, async () => {
    const { broker, port } = await started({}, { historySize: 10 });
    await broker.broadcast('note', 'before');
    const connection = await connectRaw(port);
    connection.write(
      Buffer.from(
        `GET ${path} HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n${headers}\r\n`,
        name === 'in UTF-8' ? 'utf8' : 'latin1',
      ),
    );
    await connection.has('event: gap');
    await broker.broadcast('note', 'after');
    await connection.has('after');
    const events = eventsOf(connection);
    expect(events.map(({ event }) => event)).toEqual(['connected', 'gap', 'note']);
    const gap = JSON.parse(events[1]!.data);
    // Only what may be an id of ours is repeated.
    expect(['unknown', 'epoch']).toContain(gap.reason);
    expect(gap.requested === null || /^[A-Za-z0-9._~-]{1,128}$/.test(gap.requested)).toBe(true);
    expect(connection.text).not.toContain('evil');
    expect(broker.reported).toEqual([]);
  });
}

test('a Last-Event-ID with raw control bytes is refused by Node before anybody sees it', async () => {
  const { broker, port } = await started();
  for (const control of ['\x00', '\x07', '\x1b', '\x7f', '\n event: evil', '\r']) {
    const connection = await connectRaw(port);
    connection.get('/', `Last-Event-ID: 1${control}2\r\n`);
    await connection.ended();
    expect(connection.text).toMatch(/^HTTP\/1\.1 400 /);
  }
  expect(broker.getStats()).toMatchObject({ connects: 0 });
});

test('thousands of query parameters: served, or refused by the limit of topics, quickly', async () => {
  const { broker, port } = await started({ maxHeaderSize: 4 * 1024 * 1024 });
  const many = await connectRaw(port);
  many.get(`/?${Array.from({ length: 20_000 }, (_, n) => `p${n}=${n}`).join('&')}&topics=a`);
  await many.has('"topics":["a"]');
  for (const query of [
    Array.from({ length: 20_000 }, (_, n) => `topics=t${n}`).join('&'),
    `topics=${Array.from({ length: 20_000 }, (_, n) => `t${n}`).join(',')}`,
  ]) {
    const connection = await connectRaw(port);
    const startedAt = performance.now();
    connection.get(`/?${query}`);
    const [refused] = await connection.completed(1);
    expect(performance.now() - startedAt).toBeLessThan(2_000);
    expect(JSON.parse(refused!.body.toString()).error.code).toBe('SSE_ERR_TOO_MANY_TOPICS');
    // Refused, not quoted.
    expect(refused!.body.length).toBeLessThan(1_000);
  }
  expect(broker.getStats()).toMatchObject({ connects: 1, totalTopics: 1 });
});

test('targets in every form: absolute, with a fragment, without a path, not percent-encoded', async () => {
  const broker = makeBroker();
  const { port } = await serve(createHandler(broker, { authenticator: queryAuthenticator() }) as RequestListener);
  for (const target of [
    'http://elsewhere.example/events?user_id=alice',
    'HTTP://user:password@[::1]:80/?a=?&user_id=alice',
    '/?user_id=alice#fragment&user_id=bob',
    '//double//slash?user_id=alice',
    '/..;/%00?user_id=alice',
    '/"<>\\^`{|}?user_id=alice',
  ]) {
    const connection = await connectRaw(port);
    connection.get(target);
    await connection.has('"userId":"alice"');
    connection.destroy();
  }
  const asterisk = await connectRaw(port);
  asterisk.write('OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n');
  expect((await asterisk.completed(1))[0]!.status).toBe(204);
});

test('a request with a body, sized or chunked, is a request: the body is dropped, what follows it is not', async () => {
  const { broker, port } = await started();
  const connection = await connectRaw(port);
  connection.get('/', 'Content-Length: 70000\r\n');
  connection.write('x'.repeat(70_000));
  connection.write('DELETE / HTTP/1.1\r\nHost: test\r\n\r\n');
  await until(() => broker.getStats().refused === 1, 'the request behind the body');
  await broker.disconnect([...broker.getClients()][0]!.id);
  expect((await connection.completed(2)).map(({ status }) => status)).toEqual([200, 405]);
});

test('Expect: 100-continue is answered, and the stream follows', async () => {
  const { broker, port } = await started();
  const connection = await connectRaw(port);
  connection.get('/', 'Expect: 100-continue\r\n');
  await connection.has('event: connected');
  await broker.close();
  const [interim, stream] = await connection.completed(2);
  expect([interim!.status, stream!.status]).toEqual([100, 200]);
});

test('an upgrade that nobody serves is an ordinary request', async () => {
  const { broker, port } = await started();
  for (const headers of [
    'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n',
    'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n',
  ]) {
    const connection = await connectRaw(port);
    connection.get('/', headers);
    await connection.has('event: connected');
    expect(connection.responses()[0]!.status).toBe(200);
    connection.destroy();
  }
  const tunnel = await connectRaw(port);
  tunnel.write('CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n');
  await tunnel.ended();
  await until(() => broker.getStats().totalClients === 0, 'nobody to be left');
});

test('five hundred mutilated requests: nobody else notices, nothing is left, nothing is thrown', async () => {
  const { broker, port, url, sockets } = await started();
  const witness = await openStream(url);
  await witness.next('connected');
  const sound =
    'GET /?topics=a,b&lastEventId=1 HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\nLast-Event-ID: 5\r\nX: y\r\n\r\n';
  let seed = 20_260_101;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const mutilated = () => {
    const bytes = [...Buffer.from(sound.repeat(1 + random(3)))];
    for (let times = 1 + random(6); times > 0; times--) {
      const at = random(bytes.length);
      const kind = random(4);
      if (kind === 0) bytes[at] = random(256);
      else if (kind === 1) bytes.splice(at, 1 + random(10));
      else if (kind === 2) bytes.splice(at, 0, ...Array.from({ length: 1 + random(10) }, () => random(256)));
      else bytes.length = at + 1;
    }
    return Buffer.from(bytes);
  };
  for (let round = 0; round < 10; round++) {
    const clients = await Promise.all(Array.from({ length: 50 }, () => connectRaw(port)));
    for (const client of clients) client.write(mutilated());
    await broker.broadcast('note', round);
    await witness.next('note', round + 1);
    for (const client of clients) client.destroy();
  }
  await until(() => sockets.slice(1).every(({ closed }) => closed), 'the connections to close');
  await until(
    () => broker.getStats().totalClients === 1 && broker.getStats().ending === 0,
    'the witness alone to be left',
  );
  expect(await witness.all('note', 10)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(broker.reported).toEqual([]);
  // Some of them were still requests.
  expect(broker.getStats().connects).toBeGreaterThan(10);
});
