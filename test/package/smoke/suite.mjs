// What the built package must do on every Node version that we promise: real sockets, no test runner. The two files
// beside this one load the package, as ESM and as CommonJS, and hand it over.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import zlib from 'node:zlib';

/** Runs every check with the exports of `sse-broker` and prints its name; the first that fails ends the process. */
export async function smoke(sse) {
  const deadline = setTimeout(() => assert.fail('the smoke suite took longer than 30 s'), 30_000);
  for (const check of checks) {
    await check(sse);
    console.log(`ok ${check.name}`);
  }
  clearTimeout(deadline);
}

const checks = [
  async function deliversToUsersTopicsAndEverybody(sse) {
    await withServer(sse, {}, {}, async ({ broker, url }) => {
      const alice = await open(`${url}/?user_id=alice&topics=job:1`);
      const bob = await open(`${url}/?user_id=bob`);
      await broker.sendToUser('alice', 'note', { n: 1 });
      await broker.sendToTopic('job:1', 'note', { n: 2 });
      await broker.broadcast('note', { text: 'two\nlines, ünïcödé' });
      await alice.has('data: {"n":1}', 'data: {"n":2}', 'ünïcödé');
      await bob.has('ünïcödé');
      assert.ok(!bob.text.includes('{"n":'), 'bob got what was for alice');
      assert.equal(broker.getStats().totalClients, 2);
    });
  },

  async function resumesAfterTheLastEventId(sse) {
    await withServer(sse, { historySize: 100 }, {}, async ({ broker, url }) => {
      const first = await open(`${url}/?user_id=alice`);
      await broker.sendToUser('alice', 'note', 'seen');
      await first.has('data: seen');
      const id = first.text
        .match(/^id: ?(.+)$/gm)
        .at(-1)
        .replace(/^id: ?/, '');
      first.leave();
      await until(() => broker.getStats().totalClients === 0);
      await broker.sendToUser('alice', 'note', 'missed');
      const second = await open(`${url}/?user_id=alice`, { 'last-event-id': id });
      await second.has('data: missed');
      assert.ok(!second.text.includes('data: seen'), 'an event came twice');
    });
  },

  async function cutsAStalledReaderAndSparesTheOthers(sse) {
    await withServer(sse, {}, {}, async ({ broker, url, port }) => {
      const reasons = [];
      broker.on('clientDisconnected', (_client, reason) => reasons.push(reason));
      const stalled = net.connect(port, '127.0.0.1');
      stalled.on('error', () => {});
      stalled.write('GET /?user_id=stalled HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n');
      const reader = await open(`${url}/?user_id=reader`);
      await until(() => broker.getStats().totalClients === 2);
      stalled.pause();
      const data = 'x'.repeat(256 * 1024);
      let sent = 0;
      while (reasons.length === 0 && sent < 400) {
        await broker.broadcast('blob', { n: ++sent, data });
        await reader.has(`"n":${sent},`);
        reader.text = '';
      }
      assert.deepEqual(reasons, ['overflow']);
      assert.equal(broker.isUserOnline('reader'), true);
      stalled.destroy();
    });
  },

  async function forgetsAClientThatLeaves(sse) {
    await withServer(sse, {}, {}, async ({ broker, url }) => {
      const reader = await open(`${url}/?user_id=alice&topics=a,b`);
      reader.leave();
      await until(() => broker.getStats().totalClients === 0);
      assert.equal(broker.getStats().totalTopics, 0);
    });
  },

  async function speaksHttp2(sse) {
    const broker = new sse.Broker();
    const server = http2.createServer(sse.createHandler(broker));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const session = http2.connect(`http://127.0.0.1:${server.address().port}`);
    const stream = session.request({ ':path': '/', accept: 'text/event-stream' });
    const reader = collect(stream);
    await reader.has('event: connected');
    await broker.broadcast('note', 'over h2');
    await reader.has('data: over h2');
    await broker.close({ timeoutMs: 2_000 });
    session.destroy();
    server.close();
  },

  async function answersAFetchRequest(sse) {
    const broker = new sse.Broker();
    const handle = sse.createFetchHandler(broker);
    const response = await handle(new Request('http://localhost/', { headers: { accept: 'text/event-stream' } }));
    assert.equal(response.status, 200);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    await broker.broadcast('note', 'over fetch');
    let text = '';
    while (!text.includes('data: over fetch')) text += (await reader.read()).value;
    await reader.cancel();
    await until(() => broker.getStats().totalClients === 0);
    await broker.close();
  },

  async function compressesWhenAsked(sse) {
    await withServer(sse, {}, { compression: 'gzip' }, async ({ broker, url }) => {
      const reader = await open(`${url}/?user_id=alice`, { 'accept-encoding': 'gzip' });
      assert.equal(reader.headers['content-encoding'], 'gzip');
      await broker.broadcast('note', 'squeezed');
      await reader.has('data: squeezed');
    });
  },

  async function refusesWithACode(sse) {
    const broker = new sse.Broker();
    await assert.rejects(broker.broadcast('a\nb', 1), { code: 'SSE_ERR_INVALID_EVENT_NAME', name: 'SseError' });
    assert.throws(
      () => new sse.Broker({ retry: -1 }),
      (error) => error instanceof sse.SseError && sse.isSseError(error),
    );
    await broker.close();
  },
];

/** A broker behind a handler on a real server; both must be able to close when the check is over. */
async function withServer(sse, options, handlerOptions, check) {
  const broker = new sse.Broker(options);
  const handler = sse.createHandler(broker, {
    authenticator: sse.queryAuthenticator(),
    topicResolver: sse.queryTopicResolver(),
    ...handlerOptions,
  });
  const server = http.createServer(handler);
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address();
  await check({ broker, port, url: `http://127.0.0.1:${port}` });
  const { cut } = await broker.close({ timeoutMs: 2_000, reconnectWithinMs: 100 });
  assert.equal(cut, 0, 'close() had to cut a stream');
  server.closeAllConnections();
  await once(server.close(), 'close');
}

/** Opens a stream and waits for its first event. */
async function open(url, headers = {}) {
  const request = http.get(url, { agent: false, headers: { accept: 'text/event-stream', ...headers } });
  const [response] = await once(request, 'response');
  assert.equal(response.statusCode, 200);
  const isGzip = response.headers['content-encoding'] === 'gzip';
  response.on('error', () => {});
  const reader = collect(isGzip ? response.pipe(zlib.createGunzip({ flush: zlib.constants.Z_SYNC_FLUSH })) : response);
  reader.headers = response.headers;
  reader.leave = () => request.destroy();
  await reader.has('event: connected');
  return reader;
}

function collect(stream) {
  const reader = {
    text: '',
    has: (...parts) => until(() => parts.every((part) => reader.text.includes(part)), parts),
  };
  stream.setEncoding('utf8');
  stream.on('error', () => {});
  stream.on('data', (chunk) => {
    reader.text += chunk;
  });
  return reader;
}

async function until(condition, what = condition) {
  const deadline = Date.now() + 5_000;
  while (!condition()) {
    if (Date.now() > deadline) assert.fail(`waited 5 s in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
