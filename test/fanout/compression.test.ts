/** Compressed streams over every carrier, as real clients read them: event by event, and whole at the end. */
import { spawn } from 'node:child_process';
import http, { type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import { Readable } from 'node:stream';
import compression from 'compression';
import { createParser } from 'eventsource-parser';
import express from 'express';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  type Broker,
  type BrokerOptions,
  createFetchHandler,
  createHandler,
  type HandlerOptions,
  queryAuthenticator,
} from '../../src/index.js';
import { makeBroker } from '../support/broker.js';
import { TEST_CERTIFICATE, TEST_KEY } from '../support/certificate.js';
import { connectRaw } from '../support/raw.js';
import { listen, serve } from '../support/server.js';
import { skipUnless } from '../support/skip.js';
import { countSocketWrites } from '../support/socket-writes.js';
import { until } from '../support/until.js';
import { checkGzip, type GzipClient, inflateSoFar, openGzip, readGzip } from './gzip-stream.js';

const OPTIONS: HandlerOptions = { compression: 'gzip', authenticator: queryAuthenticator() };
const PATH = '/?user_id=alice';
const LONG = 'grüße, 世界 🙂 '.repeat(5_000);

/** Ways from a handler to a client. Each gives a function that opens one more stream. */
const ways: Record<string, (broker: Broker) => Promise<(headers?: Record<string, string>) => Promise<GzipClient>>> = {
  'the raw socket': async (broker) => {
    const { url } = await serve(createHandler(broker, OPTIONS));
    return (headers) => openGzip(url + PATH, headers);
  },
  TLS: async (broker) => {
    const server = https.createServer(
      { key: TEST_KEY, cert: TEST_CERTIFICATE },
      createHandler(broker, OPTIONS) as RequestListener,
    );
    const running = await listen(server, 'https');
    onTestFinished(() => running.close());
    return (headers) =>
      new Promise((resolve, reject) => {
        const req = https.get(running.url + PATH, {
          agent: false,
          rejectUnauthorized: false,
          headers: { accept: 'text/event-stream', 'accept-encoding': 'gzip', ...headers },
        });
        req.on('error', reject);
        req.on('response', (res) =>
          resolve(readGzip(res, { status: res.statusCode!, headers: res.headers }, () => req.destroy())),
        );
      });
  },
  'a response that somebody wrapped': async (broker) => {
    const handler = createHandler(broker, OPTIONS);
    const { url } = await serve((req, res) => {
      const { write } = res;
      res.write = function wrapped(this: ServerResponse, ...args: unknown[]) {
        return (write as (...args: unknown[]) => boolean).apply(this, args);
      } as typeof res.write;
      void handler(req, res);
    });
    return (headers) => openGzip(url + PATH, headers);
  },
  'HTTP/1.0': async (broker) => {
    const { port } = await serve(createHandler(broker, OPTIONS));
    return async (headers = {}) => {
      const { socket } = await connectRaw(port, { paused: true });
      const lines = Object.entries({ 'Accept-Encoding': 'gzip', ...headers }).map(
        ([name, value]) => `${name}: ${value}\r\n`,
      );
      socket.write(`GET ${PATH} HTTP/1.0\r\n${lines.join('')}\r\n`);
      // No framing: the body is what follows the head.
      let head = '';
      const body = new Readable({ read() {} });
      socket.on('data', (bytes: Buffer) => {
        const had = head.includes('\r\n\r\n');
        if (had) body.push(bytes);
        else {
          head += bytes.toString('latin1');
          const end = head.indexOf('\r\n\r\n');
          if (end !== -1) body.push(Buffer.from(head.slice(end + 4), 'latin1'));
        }
      });
      socket.on('end', () => body.push(null));
      socket.resume();
      await until(() => head.includes('\r\n\r\n'), 'the head');
      expect(head).toMatch(/\r\ncontent-encoding: gzip\r\n/i);
      expect(head).not.toMatch(/transfer-encoding/i);
      return readGzip(body, { status: 200, headers: {} }, () => socket.destroy());
    };
  },
  'HTTP/2': async (broker) => {
    const { url } = await listenHttp2(http2.createServer(createHandler(broker, OPTIONS) as never));
    return async (headers = {}) => {
      const session = http2.connect(url);
      onTestFinished(() => session.destroy());
      const stream = session.request({ ':path': PATH, 'accept-encoding': 'gzip', ...headers });
      const answered = await new Promise<http2.IncomingHttpHeaders>((resolve) => stream.once('response', resolve));
      expect(answered['content-encoding']).toBe('gzip');
      return readGzip(stream, { status: Number(answered[':status']), headers: answered }, () => stream.close());
    };
  },
  'the Fetch handler': async (broker) => {
    const handler = createFetchHandler(broker, { compression: 'gzip', authenticator: queryAuthenticator() });
    return async (headers = {}) => {
      const left = new AbortController();
      onTestFinished(() => left.abort());
      const response = await handler(
        new Request(`http://localhost${PATH}`, {
          headers: { 'accept-encoding': 'gzip', ...headers },
          signal: left.signal,
        }),
      );
      expect(response.headers.get('content-encoding')).toBe('gzip');
      const body = Readable.fromWeb(response.body as never);
      return readGzip(body, { status: response.status, headers: {} }, () => left.abort());
    };
  },
  'compression middleware that would compress as well': async (broker) => {
    const app = express();
    app.use(compression({ filter: () => true, threshold: 0 }));
    // Without no-transform it has only our Content-Encoding to hold it back.
    app.get('/', createHandler(broker, { ...OPTIONS, headers: { 'Cache-Control': 'no-cache' } }));
    const running = await listen(http.createServer(app));
    onTestFinished(() => running.close());
    return async (headers) => {
      const client = await openGzip(running.url + PATH, headers);
      expect(client.headers.vary).toBe('Accept-Encoding');
      return client;
    };
  },
};

async function listenHttp2(server: http2.Http2Server) {
  const sessions = new Set<http2.Http2Session>();
  server.on('session', (session) => sessions.add(session));
  const running = await listen(server);
  onTestFinished(async () => {
    for (const session of sessions) session.destroy();
    await running.close();
  });
  return running;
}

const closed = (broker: Broker) => until(() => broker.getStats().totalClients === 0, 'nobody to be left');

describe.each(Object.entries(ways))('through %s', (_name, way) => {
  test('each event can be read as it arrives, and the whole has the right checksum and length', async () => {
    const broker = makeBroker();
    const open = await way(broker);
    const client = await open();
    await client.next('connected');
    for (const [i, data] of [{ n: 1 }, 'two\nlines', '', LONG, [null, '💥']].entries()) {
      await (i % 2 === 0 ? broker.broadcast('note', data) : broker.sendToUser('alice', 'note', data));
      // Nothing follows that could push it out.
      expect(await client.next('note', i + 1)).toEqual(data);
    }
    // Several in one turn are one write.
    for (let n = 0; n < 20; n++) void broker.broadcast('burst', n);
    expect(await client.all('burst', 20)).toEqual(Array.from({ length: 20 }, (_, n) => n));
    await broker.close();
    await client.completed();
    expect(client.events.at(-1)).toMatchObject({ event: 'closing' });
  });

  test("the broker's own frames go the same way: gap, replay, heartbeats, a stream without any event", async () => {
    const broker = makeBroker({ historySize: 3, heartbeatInterval: 20, clientTimeout: 1_000, connectedEvent: false });
    const open = await way(broker);
    const ids: string[] = [];
    for (let n = 0; n < 6; n++) ids.push(await broker.broadcast('note', n));
    const client = await open({ 'last-event-id': ids[0]! });
    expect(await client.all('note', 3)).toEqual([3, 4, 5]);
    await until(() => client.comments.length >= 2, 'two heartbeats');
    await broker.broadcast('note', 6);
    await client.next('note', 4);
    const quiet = await open();
    await until(() => quiet.comments.length >= 1, 'a heartbeat');
    await broker.disconnect([...broker.getClients()][0]!.id, 'enough');
    await client.completed();
    expect(client.events.map(({ event, data }) => (event === 'gap' ? JSON.parse(data).reason : event))).toEqual([
      'evicted',
      'note',
      'note',
      'note',
      'note',
      'closing',
    ]);
    await broker.close();
    await quiet.completed();
    expect(quiet.events.map(({ event }) => event)).toEqual(['closing']);
    expect(quiet.retry()).toBeGreaterThan(0);
  });

  test('a client that leaves is gone', async () => {
    const broker = makeBroker();
    const client = await (await way(broker))();
    await client.next('connected');
    client.close();
    await closed(broker);
  });
});

describe('a reader that stalls', () => {
  const noise = (n: number) =>
    `${n} ${Array.from({ length: 3_000 }, () => Math.random().toString(36).slice(2)).join('')}`;

  const stall = async (options: BrokerOptions) => {
    const broker = makeBroker({ clientBufferSize: 10, ...options });
    const { port } = await serve(createHandler(broker, OPTIONS));
    const connection = await connectRaw(port, { paused: true });
    connection.get(PATH, 'Accept-Encoding: gzip\r\n');
    await until(() => broker.getStats().totalClients === 1, 'the client');
    let n = 0;
    const publishUntil = async (condition: () => boolean) => {
      while (!condition()) {
        await broker.broadcast('note', noise(n++));
        expect(broker.getStats().queuedFrames).toBeLessThanOrEqual(10);
        await new Promise((resolve) => setImmediate(resolve));
        if (n > 2_000) throw new Error('the kernel took it all');
      }
    };
    return { broker, connection, publishUntil, published: () => n };
  };

  test('overruns its buffer like any other, is told the gap, and its stream stays valid', async () => {
    const { broker, connection, publishUntil } = await stall({ overflow: 'drop-oldest' });
    await publishUntil(() => broker.getStats().dropped >= 25);
    connection.resume();
    await until(() => broker.getStats().queuedFrames === 0, 'the queue to drain');
    await broker.broadcast('last', 'one');
    await broker.close();
    const [response] = await connection.completed(1);
    const text = inflateSoFar(response!.body);
    checkGzip(response!.body, text);
    const numbers: number[] = [];
    const kinds: string[] = [];
    createParser({
      onEvent: ({ event, data }) => {
        kinds.push(event!);
        if (event === 'note') numbers.push(Number.parseInt(data, 10));
      },
    }).feed(text);
    expect(kinds.filter((kind) => kind !== 'note')).toEqual(['connected', 'gap', 'last', 'closing']);
    const hole = numbers.findIndex((number, i) => i > 0 && number !== numbers[i - 1]! + 1);
    expect(kinds.indexOf('gap')).toBe(hole + 1);
    expect(numbers[hole]! - numbers[hole - 1]! - 1).toBe(broker.getStats().dropped);
  });

  test('is cut off by the policy, and bounded by bytes of text, not of what they came to', async () => {
    const { broker, publishUntil } = await stall({
      overflow: 'disconnect',
      clientBufferSize: 0,
      clientBufferBytes: 200_000,
    });
    let most = 0;
    await publishUntil(() => {
      most = Math.max(most, broker.getStats().queuedBytes);
      return broker.getStats().disconnects.overflow === 1;
    });
    expect(most).toBeGreaterThan(100_000);
    expect(most).toBeLessThanOrEqual(200_000);
    await closed(broker);
  });
});

test('one write per client and turn, the head and the first event in one packet with the gzip header', async () => {
  const broker = makeBroker();
  const { port, server } = await serve(createHandler(broker, OPTIONS));
  const writes = countSocketWrites(server);
  const connection = await connectRaw(port);
  connection.get(PATH, 'Accept-Encoding: gzip\r\n');
  await until(() => connection.responses()[0] !== undefined, 'the head');
  expect(writes.total()).toBe(1);
  expect(inflateSoFar(connection.responses()[0]!.body)).toContain('event: connected\n');
  writes.reset();
  for (let n = 0; n < 30; n++) void broker.broadcast('note', n);
  void broker.sendToUser('alice', 'note', 'end');
  await until(() => inflateSoFar(connection.responses()[0]!.body).includes('data: end\n'), 'the last');
  expect(writes.total()).toBe(1);
});

describe('as programs read it', () => {
  const startHttp = async () => {
    const broker = makeBroker();
    const asked: IncomingMessage[] = [];
    const handler = createHandler(broker, OPTIONS);
    const { url } = await serve((req, res) => {
      asked.push(req);
      void handler(req, res);
    });
    return { broker, url: url + PATH, asked };
  };

  /** Publishes while `text` is read: an event goes out when the one before it has been seen. */
  const alternate = async (broker: Broker, text: () => string) => {
    await until(() => text().includes('event: connected'), 'the first event');
    for (const n of [1, 2, 3]) {
      await broker.broadcast('note', { n, text: 'grüße 世界 🙂' });
      await until(() => text().includes(`data: {"n":${n},"text":"grüße 世界 🙂"}\n\n`), `event ${n}`);
    }
    await broker.close();
  };

  test("Node's fetch", async () => {
    const { broker, url, asked } = await startHttp();
    const response = await fetch(url);
    expect(asked[0]!.headers['accept-encoding']).toContain('gzip');
    expect(response.headers.get('content-encoding')).toBe('gzip');
    let text = '';
    const reading = (async () => {
      const decoder = new TextDecoder();
      for await (const bytes of response.body!) text += decoder.decode(bytes, { stream: true });
    })();
    await alternate(broker, () => text);
    await reading;
    expect(text).toContain('event: closing');
  });

  test("a web standard's DecompressionStream, which refuses what is cut or followed by anything", async () => {
    const { broker, url } = await startHttp();
    const body = await new Promise<IncomingMessage>((resolve, reject) => {
      http.get(url, { agent: false, headers: { 'accept-encoding': 'gzip' } }, resolve).on('error', reject);
    });
    let text = '';
    const web = (Readable.toWeb(body) as ReadableStream<Uint8Array>).pipeThrough(
      new DecompressionStream('gzip') as never,
    ) as ReadableStream<Uint8Array>;
    const reading = (async () => {
      const decoder = new TextDecoder();
      for await (const bytes of web as never as AsyncIterable<Uint8Array>)
        text += decoder.decode(bytes, { stream: true });
    })();
    await alternate(broker, () => text);
    await reading;
    expect(text).toContain('event: closing');
  });

  test('curl --compressed', async () => {
    skipUnless(await hasCurl(), 'no curl that can decompress; apt-get install curl');
    const { broker, url } = await startHttp();
    const child = spawn('curl', ['--silent', '--show-error', '--no-buffer', '--compressed', '--http1.1', url]);
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
    let text = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      text += part;
    });
    child.stderr.setEncoding('utf8').on('data', (part: string) => {
      errors += part;
    });
    const exit = new Promise<number | null>((resolve) => child.on('close', resolve));
    await alternate(broker, () => text);
    // It checks the trailer, too: a wrong sum is 61, a stream that ends too early 18 or 23.
    expect([await exit, errors]).toEqual([0, '']);
    expect(text).toContain('event: closing');
  });
});

async function hasCurl(): Promise<boolean> {
  const child = spawn('curl', ['--version']);
  let output = '';
  child.stdout.on('data', (bytes) => {
    output += bytes;
  });
  const code = await new Promise<number | null>((resolve) =>
    child.on('error', () => resolve(null)).on('close', resolve),
  );
  return code === 0 && /^Features:.*\blibz\b/m.test(output);
}
