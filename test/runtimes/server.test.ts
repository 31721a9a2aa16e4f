/** A broker served by Deno and Bun: by their own servers through the Fetch handler, and by their node:http. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import zlib from 'node:zlib';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { BrokerOptions, BrokerStats } from '../../src/index.js';
import { assertBuilt, root } from '../support/package.js';
import { connectRaw, type RawConnection, type RawOptions, type RawResponse } from '../support/raw.js';
import { commandOf, prepareRuntimes } from '../support/runtimes.js';
import { until } from '../support/until.js';

interface Stats extends BrokerStats {
  readonly ended: readonly string[];
  /** What the broker reported, and what nobody caught. */
  readonly reported: readonly string[];
}

interface Served {
  readonly url: string;
  /** With `Connection: close`: whatever else is open then is a stream. */
  ask(path: string): Promise<unknown>;
  stats(): Promise<Stats>;
  /** A stream of `user`, once its `connected` event is there. */
  open(path?: string, headers?: string): Promise<RawConnection>;
  connection(options?: RawOptions): Promise<RawConnection>;
  /** Resolves with its exit code. */
  readonly exit: Promise<number | null>;
}

async function start(
  runtime: 'deno' | 'bun',
  how: 'fetch' | 'node',
  options: { broker?: BrokerOptions; serve?: object } = {},
): Promise<Served> {
  await assertBuilt();
  const { file, args } = await commandOf(runtime);
  const program = path.join(root, 'test/runtimes/children/server.mjs');
  const child = spawn(file, [...args, program, how, JSON.stringify(options)], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (text) => {
    said += text;
  });
  const exit = once(child, 'exit').then(([code]) => code as number | null);
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await exit;
  });
  let port = 0;
  for await (const line of createInterface(child.stdout)) {
    port = Number(line);
    break;
  }
  if (!port) throw new Error(`${runtime} did not listen: ${said}`);
  const url = `http://127.0.0.1:${port}`;
  const ask = async (path: string) => (await fetch(url + path)).json();
  const connection = (options?: RawOptions) => connectRaw(port, options);
  return {
    url,
    ask,
    stats: () => ask('/stats') as Promise<Stats>,
    connection,
    open: async (path = '/events?user=alice', headers = '') => {
      const stream = await connection();
      stream.get(path, headers);
      await stream.has('event: connected');
      return stream;
    },
    exit,
  };
}

const count = (text: string, part: string) => text.split(part).length - 1;

beforeAll(() => prepareRuntimes('deno', 'bun'), 300_000);

describe.each([
  ['deno', 'fetch'],
  ['deno', 'node'],
  ['bun', 'fetch'],
  ['bun', 'node'],
] as const)('%s, %s handler', (runtime, how) => {
  test('events go out as they come, silence is filled, and who leaves is gone', async () => {
    const { ask, stats, open } = await start(runtime, how, { broker: { heartbeatInterval: 300 } });
    // What a client does: closes, resets, or closes its half and waits for the rest.
    for (const leave of ['destroy', 'resetAndDestroy', 'end'] as const) {
      const stream = await open();
      for (let n = 1; n <= 3; n++) {
        await ask('/send');
        await until(() => count(stream.text, 'event: note') === n, `note ${n}`);
      }
      const { length } = stream.bytes;
      await until(() => stream.text.includes('\n:\n', length - 3), 'a heartbeat');
      expect((await stats()).totalClients).toBe(1);
      stream.socket[leave]();
      await until(async () => (await stats()).totalClients === 0, `the server to notice ${leave}`);
    }
    expect(await stats()).toMatchObject({ ended: ['left', 'left', 'left'], reported: [] });
  });

  test('whoever leaves, at any moment, leaves nothing', async () => {
    const { stats, connection } = await start(runtime, how);
    await Promise.all(
      Array.from({ length: 90 }, async (_, n) => {
        const client = await connection();
        client.get(n % 2 === 0 ? '/events?user=late' : '/events?user=alice');
        // Before, during and after authentication, and in the stream.
        await new Promise((resolve) => setTimeout(resolve, n / 3));
        if (n % 3 === 0) client.socket.resetAndDestroy();
        else client.destroy();
      }),
    );
    await until(async () => {
      const { totalClients, ending } = await stats();
      return totalClients === 0 && ending === 0;
    }, 'all to be gone');
    const { connects, ended, reported } = await stats();
    expect({ ended: ended.length, reported }).toEqual({ ended: connects, reported: [] });
  });

  test('a compressed stream can be read event by event', async () => {
    const { ask, connection } = await start(runtime, how);
    const stream = await connection();
    stream.get('/events?user=alice', 'Accept-Encoding: gzip\r\n');
    const text = () => {
      const body = stream.responses()[0]?.body ?? Buffer.alloc(0);
      return body.length > 0 ? zlib.gunzipSync(body, { finishFlush: zlib.constants.Z_SYNC_FLUSH }).toString() : '';
    };
    await until(() => text().includes('event: connected'), 'the first event');
    for (let n = 1; n <= 3; n++) {
      await ask('/send');
      await until(() => count(text(), 'event: note') === n, `note ${n}`);
    }
    await ask('/close');
    const [{ body }] = (await stream.completed(1)) as [RawResponse];
    // With its checksum.
    expect(zlib.gunzipSync(body).toString()).toContain('event: closing');
  });

  test('who comes back gets what was missed, by stream and by poll', async () => {
    const { ask, open, url } = await start(runtime, how);
    const stream = await open();
    const [, id] = /^id: (\S+)$/m.exec(stream.text)!;
    stream.socket.destroy();
    await ask('/send?count=3');
    const next = await open('/events?user=alice', `Last-Event-ID: ${id}\r\n`);
    await until(() => count(next.text, 'event: note') === 3, 'what was missed');
    const polled = (await (await fetch(`${url}/poll?user=alice&lastEventId=${id}`)).json()) as { events: unknown[] };
    expect(polled.events).toHaveLength(3);
    await ask('/send');
    await until(() => count(next.text, 'event: note') === 4, 'what is new');
    expect(next.text).not.toContain('event: gap');
  });

  test('answers what is no stream: HEAD, a preflight, refusals, the API', async () => {
    const { url, stats, ask } = await start(runtime, how);
    const events = `${url}/events?user=alice`;
    const head = await fetch(events, { method: 'HEAD' });
    expect(head.status).toBe(200);
    expect(head.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    const preflight = await fetch(events, {
      method: 'OPTIONS',
      headers: { origin: 'https://app.example', 'access-control-request-headers': 'last-event-id' },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-origin')).toBe('https://app.example');
    expect(preflight.headers.get('access-control-allow-headers')).toContain('Last-Event-ID');
    const refusals = [
      [`${url}/events`, {}, 401],
      [events, { method: 'POST', body: '{}' }, 405],
      [events, { headers: { accept: 'text/html' } }, 406],
    ] as const;
    for (const [at, init, status] of refusals) {
      const refused = await fetch(at, init);
      expect([refused.status, Object.keys((await refused.json()) as object)]).toEqual([status, ['error']]);
    }
    const sent = await fetch(`${url}/api/send`, {
      method: 'POST',
      headers: { authorization: 'Bearer a-token-for-the-tests', 'content-type': 'application/json' },
      body: JSON.stringify({ user_id: 'alice', event_type: 'note', data: { text: 'hello' } }),
    });
    expect(sent.status).toBe(202);
    expect(await ask('/stats')).toMatchObject({ published: 1, reported: [] });
    expect((await stats()).totalClients).toBe(0);
  });

  test('a reader that stands still costs a bounded amount, and is cut', async () => {
    const limit = 1024 * 1024;
    const { ask, stats, open, connection } = await start(runtime, how, {
      broker: { clientBufferBytes: limit, historySize: 0 },
    });
    const still = await connection({ paused: true });
    still.get('/events?user=still');
    await until(async () => (await stats()).totalClients === 1, 'the reader');
    const other = await open('/events?user=other');
    let most = 0;
    await until(async () => {
      await ask('/send?count=4&size=60000');
      const { queuedBytes, ended } = await stats();
      most = Math.max(most, queuedBytes);
      return ended.length > 0;
    }, 'the cut');
    const { ended, disconnects, published, totalClients, reported } = await stats();
    expect({ ended, totalClients, reported }).toEqual({ ended: ['overflow'], totalClients: 1, reported: [] });
    expect(disconnects.overflow).toBe(1);
    expect(most).toBeGreaterThan(limit / 2);
    expect(most).toBeLessThanOrEqual(limit);
    // What nobody counted waits in the kernel, and not in the runtime: some megabytes, whatever was sent.
    expect(published * 60_000).toBeLessThan(16 * limit);
    await until(() => count(other.text, 'event: note') === published, 'all of it at the other reader');
    still.resume();
    await still.ended();
    // Cut, and not ended: nobody may take it for whole.
    expect(still.text).not.toMatch(/\r\n0\r\n\r\n$/);
  });

  test('an end behind a large event that is still under way leaves it whole', async () => {
    const size = 12_000_000;
    const { ask, stats, connection } = await start(runtime, how, { broker: { maxEventBytes: 0 } });
    const slow = await connection({ paused: true });
    slow.get('/events?user=slow');
    await until(async () => (await stats()).totalClients === 1, 'the reader');
    await ask(`/send?size=${size}`);
    const closed = ask('/close');
    await until(async () => (await stats().catch(() => undefined))?.isRunning !== true, 'the end to begin');
    slow.resume();
    // Read strictly: a byte at the wrong place is no chunk.
    const [{ body }] = (await slow.completed(1)) as [RawResponse];
    const text = body.toString();
    expect(text.slice(text.indexOf('event: note')).replace(/x+/, (all) => `${all.length}`)).toMatch(
      new RegExp(`^event: note\\ndata: ${size}\\n\\n(retry: \\d+\\n)?event: closing\\n`),
    );
    await closed;
  });

  test('close() tells the streams, ends them, and lets the process end', async () => {
    const { ask, open, exit } = await start(runtime, how);
    const streams = [await open(), await open('/events?user=bob')];
    await ask('/close');
    for (const stream of streams) {
      const [{ body }] = (await stream.completed(1)) as [RawResponse];
      expect(body.toString()).toContain('event: closing');
      // Kept alive by the server for the next request.
      stream.destroy();
    }
    expect(await exit).toBe(0);
  });
});

test("bun: its server's idleTimeout ends quiet streams, and server.timeout(request, 0) keeps it away", async () => {
  const { ask, stats, open } = await start('bun', 'fetch', {
    // The shortest there is: Bun looks every four seconds.
    serve: { idleTimeout: 1 },
  });
  const patient = await open('/events?user=patient');
  const other = await open();
  await other.ended();
  expect(patient.isEnded).toBe(false);
  await ask('/send');
  await patient.has('event: note');
  expect(await stats()).toMatchObject({ totalClients: 1, ended: ['left'] });
});
