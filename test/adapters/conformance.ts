/**
 * What every way to mount a broker must do, whatever the framework. A framework's test file says how to start a server;
 * the rest is the same for all: real servers, real connections.
 *
 * Each test ends with the application's own orderly end (broker, then server), and fails if anything was printed or warned
 * of on the way.
 */
import http from 'node:http';
import https from 'node:https';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  Broker,
  type BrokerOptions,
  type HandlerOptions,
  queryTopicResolver,
  type RequestLike,
  type SseError,
} from '../../src/index.js';
import { connectRaw } from '../support/raw.js';
import { openStream, type StreamClient } from '../support/stream.js';
import { until } from '../support/until.js';
import { collectWarnings } from '../support/warnings.js';

/** Options that suit every kind of handler. */
export type AnyHandlerOptions = HandlerOptions<RequestLike, unknown>;

/** How a request is sent. */
export interface OpenOptions {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  /** The client leaves when it aborts, also before there is a head. */
  readonly signal?: AbortSignal;
  readonly agent?: http.Agent;
}

/** A started server. */
export interface Started {
  /** Where a client connects to, without a path. */
  readonly url: string;
  /** Sends a request and waits for the head of its response. Default: HTTP/1.1 to `url`. */
  readonly open?: (path: string, options: OpenOptions) => Promise<StreamClient>;
  /** Open connections; absent where one connection serves many requests. */
  readonly connections?: () => Promise<number>;
  /** The framework's orderly end. Resolves when no connection is left. */
  close(): Promise<unknown>;
}

/** A framework under test. */
export interface Framework {
  readonly name: string;
  /**
   * Starts a server on a free port of 127.0.0.1. It serves the broker on `/events`, for every method; the text `other` on
   * `/other`; and the framework's 404 elsewhere. Before the broker an earlier middleware, or what the framework has for
   * that, reads the request header `x-user`, puts `{ id }` where the framework's applications keep their user, and sets the
   * response header `X-Earlier: kept`.
   */
  start(broker: Broker, options: AnyHandlerOptions): Promise<Started>;
  /** The user that the earlier middleware has put there, as an application would read it in an authenticator. */
  userOf(req: RequestLike, context: unknown): { id: string } | undefined;
  /** Whether `context` is the framework's own object. */
  isContext(context: unknown): boolean;
  /** False for HTTP/2 and for handlers without a server: no connection is used again. Default true. */
  readonly hasKeepAlive?: boolean;
}

interface Mounted {
  readonly broker: Broker;
  /** Errors that the broker reported and the test has not taken out. */
  readonly reported: SseError[];
  open(path?: string, options?: OpenOptions): Promise<StreamClient>;
  readonly connections: Started['connections'];
  readonly url: string;
  /** Ends the server; again does nothing. */
  close(): Promise<void>;
}

type Mount = (options?: AnyHandlerOptions, brokerOptions?: BrokerOptions) => Promise<Mounted>;

function mountOf(framework: Framework, mounted: Mounted[]): Mount {
  return async (options = {}, brokerOptions = {}) => {
    const broker = new Broker(brokerOptions);
    const reported: SseError[] = [];
    broker.on('error', (error) => {
      reported.push(error);
    });
    const started = await framework.start(broker, options);
    let closing: Promise<unknown> | undefined;
    const one: Mounted = {
      broker,
      reported,
      open: (path = '/events', open = {}) =>
        (started.open ?? ((at, how) => openStream(started.url + at, how)))(path, open),
      connections: started.connections,
      url: started.url,
      close: async () => {
        closing ??= started.close();
        await closing;
      },
    };
    mounted.push(one);
    return one;
  };
}

/** True where the server has seen that the client is gone. */
function hasLeft(req: RequestLike): boolean {
  const { stream, signal, socket } = req as {
    stream?: { destroyed: boolean };
    signal?: AbortSignal;
    socket?: { destroyed: boolean };
  };
  return stream?.destroyed ?? signal?.aborted ?? socket?.destroyed ?? false;
}

const nobodyLeft = (broker: Broker) =>
  until(
    () => broker.getStats().totalClients === 0 && broker.getStats().ending === 0,
    `no client to be left: ${JSON.stringify(broker.getStats())}`,
  );

/** Runs the suite on `framework`. */
export function conformance(framework: Framework): void {
  const { userOf, hasKeepAlive = true } = framework;

  /** Whoever the earlier middleware says. */
  const login: AnyHandlerOptions = {
    authenticator: (req, context) => {
      const user = userOf(req, context);
      return user === undefined ? null : { userId: user.id };
    },
    topicResolver: queryTopicResolver(),
  };
  const as = (user: string, headers: Record<string, string> = {}): OpenOptions => ({
    headers: { 'x-user': user, ...headers },
  });

  const it = (name: string, body: (mount: Mount) => Promise<void>) =>
    test(name, async () => {
      const noise = collectWarnings();
      for (const level of ['error', 'warn', 'info', 'log'] as const) {
        const spy = vi.spyOn(console, level).mockImplementation((...args) => {
          noise.push(`console.${level}: ${args.map(String).join(' ')}`);
        });
        onTestFinished(() => spy.mockRestore());
      }
      const mounted: Mounted[] = [];
      // For a test that failed half-way.
      onTestFinished(async () => {
        for (const { broker, close } of mounted) {
          await broker.close({ timeoutMs: 100 });
          await close();
        }
      });
      await body(mountOf(framework, mounted));
      for (const { broker, reported, close } of mounted) {
        await broker.close({ timeoutMs: 2_000 });
        await close();
        expect(reported.map(String)).toEqual([]);
      }
      expect(noise).toEqual([]);
    });

  describe(framework.name, () => {
    it('a user, a topic and everybody get their events, in order', async (mount) => {
      const { broker, open } = await mount(login);
      const alice = await open('/events?topics=job:1', as('alice'));
      const bob = await open('/events', as('bob'));
      expect(alice.status).toBe(200);
      expect(await alice.next('connected')).toMatchObject({ userId: 'alice', topics: ['job:1'] });
      await bob.next('connected');

      await broker.sendToUser('alice', 'note', { n: 1 });
      await broker.sendToTopic('job:1', 'note', { n: 2 });
      await broker.sendToUser('bob', 'note', { n: 3 });
      await broker.broadcast('note', { n: 4 });

      expect(await alice.all('note', 3)).toEqual([{ n: 1 }, { n: 2 }, { n: 4 }]);
      expect(await bob.all('note', 2)).toEqual([{ n: 3 }, { n: 4 }]);
    });

    it('the head comes at once, with nothing to say, and has the headers of a stream', async (mount) => {
      const { broker, open } = await mount({}, { connectedEvent: false, retry: 0, heartbeatInterval: 0 });
      const client = await open();
      expect(client.status).toBe(200);
      expect(client.headers['content-type']).toMatch(/^text\/event-stream\b/);
      expect(client.headers['cache-control']).toBe('no-cache, no-transform');
      expect(client.headers['x-accel-buffering']).toBe('no');
      expect(client.headers['content-length']).toBeUndefined();
      expect(client.headers['content-encoding']).toBeUndefined();
      await broker.broadcast('note', 1);
      await client.next('note');
    });

    it('what an earlier middleware did is there: its user, its headers; callbacks get the context', async (mount) => {
      const contexts: unknown[] = [];
      const { open } = await mount({
        ...login,
        authenticator: (req, context) => {
          contexts.push(context);
          return login.authenticator!(req, context);
        },
        topicResolver: (_req, _identity, context) => {
          contexts.push(context);
          return [];
        },
        onConnect: (_client, _req, context) => {
          contexts.push(context);
        },
      });
      const client = await open('/events', as('alice'));
      expect(await client.next('connected')).toMatchObject({ userId: 'alice' });
      expect(client.headers['x-earlier']).toBe('kept');
      expect(contexts.length).toBe(3);
      expect(contexts.map((context) => framework.isContext(context))).toEqual([true, true, true]);
    });

    it('who is refused gets 401 or 403, and no reason', async (mount) => {
      const { broker, reported, open } = await mount({
        ...login,
        authenticator: (req, context) => {
          if (userOf(req, context)?.id === 'thrown') throw new Error('secret reason');
          return login.authenticator!(req, context);
        },
        authorizeTopic: (identity, topic) => topic === `of:${identity.userId}`,
      });
      const nobody = await open('/events');
      expect(nobody.status).toBe(401);
      expect(nobody.headers['content-type']).toMatch(/^application\/json\b/);
      await nobody.ended();
      expect(JSON.parse(nobody.text())).toMatchObject({ error: { code: 'SSE_ERR_UNAUTHENTICATED' } });

      const thrown = await open('/events', as('thrown'));
      expect(thrown.status).toBe(401);
      await thrown.ended();
      expect(thrown.text()).not.toContain('secret');
      expect(reported.splice(0).map((error) => error.code)).toEqual(['SSE_ERR_UNAUTHENTICATED']);

      const forbidden = await open('/events?topics=of:alice,of:bob', as('alice'));
      expect(forbidden.status).toBe(403);
      const allowed = await open('/events?topics=of:alice', as('alice'));
      expect(allowed.status).toBe(200);
      await allowed.next('connected');
      expect(broker.getStats()).toMatchObject({ refused: 3, connects: 1 });
    });

    it('HEAD, OPTIONS, POST and a wrong Accept get their status and no stream', async (mount) => {
      const { broker, open } = await mount();
      const head = await open('/events', { method: 'HEAD' });
      expect(head.status).toBe(200);
      expect(head.headers['content-type']).toMatch(/^text\/event-stream\b/);
      await head.ended();
      expect(head.text()).toBe('');

      const options = await open('/events', { method: 'OPTIONS' });
      expect(options.status).toBe(204);
      expect(options.headers.allow).toBe('GET, HEAD, OPTIONS');

      const post = await open('/events', { method: 'POST' });
      expect(post.status).toBe(405);
      expect(post.headers.allow).toBe('GET, HEAD, OPTIONS');

      const json = await open('/events', { headers: { accept: 'application/json' } });
      expect(json.status).toBe(406);
      for (const client of [options, post, json]) await client.ended();
      expect(broker.getStats()).toMatchObject({ connects: 0, totalClients: 0 });
    });

    it('a page of another origin is answered as the cors option says', async (mount) => {
      const { open } = await mount({ cors: { origin: 'https://app.example', credentials: true } });
      const origin = 'https://app.example';
      const preflight = await open('/events', {
        method: 'OPTIONS',
        headers: { origin, 'access-control-request-method': 'GET' },
      });
      expect(preflight.status).toBe(204);
      expect(preflight.headers['access-control-allow-origin']).toBe(origin);
      const client = await open('/events', { headers: { origin } });
      expect(client.headers['access-control-allow-origin']).toBe(origin);
      expect(client.headers['access-control-allow-credentials']).toBe('true');
    });

    it('a client that comes back with Last-Event-ID gets what it missed, once, then what is new', async (mount) => {
      const { broker, open } = await mount(login, { historySize: 100 });
      const before = await open('/events', as('alice'));
      await before.next('connected');
      for (const n of [1, 2, 3]) await broker.sendToUser('alice', 'note', n);
      await before.all('note', 3);
      const { id } = before.events.findLast((event) => event.event === 'note')!;
      before.close();
      await nobodyLeft(broker);
      for (const n of [4, 5]) await broker.sendToUser('alice', 'note', n);
      await broker.sendToUser('bob', 'note', 'not for alice');

      const after = await open('/events', as('alice', { 'last-event-id': id! }));
      await after.all('note', 2);
      await broker.sendToUser('alice', 'note', 6);
      expect(await after.all('note', 3)).toEqual([4, 5, 6]);
      expect(after.events.filter((event) => event.event === 'gap')).toEqual([]);
    });

    it('a long burst to a client that reads arrives whole and in order', async (mount) => {
      const { broker, open } = await mount({}, { clientBufferSize: 0, clientBufferBytes: 0 });
      const client = await open();
      await client.next('connected');
      const text = 'x'.repeat(10_000);
      for (let n = 0; n < 300; n++) await broker.broadcast('note', { n, text });
      const notes = await client.all<{ n: number; text: string }>('note', 300);
      expect(notes.map(({ n }) => n)).toEqual(Array.from({ length: 300 }, (_, n) => n));
      expect(notes.every((note) => note.text === text)).toBe(true);
    });

    it('a client that leaves is gone', async (mount) => {
      const { broker, open } = await mount(login);
      const clients = await Promise.all(
        Array.from({ length: 20 }, (_, n) => open('/events?topics=t', as(`user-${n}`))),
      );
      for (const client of clients) await client.next('connected');
      await broker.broadcast('note', 1);
      for (const client of clients) await client.next('note');
      const [stays, ...leave] = clients;
      for (const client of leave) client.close();
      await until(() => broker.getStats().totalClients === 1, 'nineteen to be gone');
      await broker.broadcast('note', 2);
      expect(await stays!.all('note', 2)).toEqual([1, 2]);
      stays!.close();
      await nobodyLeft(broker);
      expect(broker.getStats()).toMatchObject({ totalUsers: 0, totalTopics: 0, connects: 20 });
      expect(broker.getStats().disconnects.left).toBe(20);
    });

    if (hasKeepAlive) {
      it('a client whose connection is reset is gone, and that is no error', async (mount) => {
        const { broker, url, connections } = await mount();
        const { port, protocol } = new URL(url);
        const client = await connectRaw(Number(port), { secure: protocol === 'https:' });
        client.get('/events');
        await client.has('connected');
        // Node cannot reset a TLS connection: it is cut.
        if (protocol === 'https:') client.destroy();
        else client.socket.resetAndDestroy();
        await nobodyLeft(broker);
        await until(async () => (await connections!()) === 0, 'the connection to be gone');
        expect(broker.getStats().disconnects.left).toBe(1);
      });
    }

    it('a client that left during authentication never becomes one', async (mount) => {
      const arrived: RequestLike[] = [];
      let open: (() => void) | undefined;
      const gate = new Promise<void>((resolve) => {
        open = resolve;
      });
      const mounted = await mount({
        authenticator: async (req) => {
          arrived.push(req);
          await gate;
          return { userId: 'late' };
        },
      });
      const { broker, connections } = mounted;
      const leaving = new AbortController();
      const requests = Array.from({ length: 10 }, () => mounted.open('/events', { signal: leaving.signal }));
      const refused = Promise.allSettled(requests);
      await until(() => arrived.length === 10, 'ten to be asked who they are');
      leaving.abort();
      await refused;
      await until(
        async () => (connections === undefined ? arrived.every(hasLeft) : (await connections()) === 0),
        'the server to see that they left',
      );
      open!();
      const stays = await mounted.open();
      await stays.next('connected');
      expect(broker.getStats()).toMatchObject({ totalClients: 1, ending: 0, connects: 1 });
    });

    it('clients that leave at the moment they are let in leave nothing', async (mount) => {
      let asked = 0;
      let answered = 0;
      const { broker, open } = await mount({
        authenticator: async () => {
          const turns = asked++ % 5;
          for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
          answered++;
          return { userId: 'hasty' };
        },
      });
      for (let round = 0; round < 20; round++) {
        const leaving = new AbortController();
        const request = open('/events', { signal: leaving.signal });
        const settled = Promise.allSettled([request]);
        await until(() => asked > round, 'the request to arrive');
        leaving.abort();
        await settled;
      }
      await until(() => answered === 20, 'all to be answered');
      const stays = await open();
      await stays.next('connected');
      await until(() => broker.getStats().totalClients === 1, 'the hasty ones to be gone');
    });

    it('close() tells the streams, ends them, and lets the server close', async (mount) => {
      const { broker, open, close } = await mount(login);
      const clients = await Promise.all(['alice', 'bob'].map((user) => open('/events', as(user))));
      for (const client of clients) await client.next('connected');
      void broker.broadcast('note', 'last words');
      const result = await broker.close({ reconnectWithinMs: 500 });
      expect(result).toEqual({ ended: 2, cut: 0 });
      for (const client of clients) {
        await client.ended();
        expect(client.events.map((event) => event.event)).toEqual(['connected', 'note', 'closing']);
        expect(client.retry()).toBeLessThanOrEqual(500);
      }
      const late = await open('/events', as('late'));
      expect(late.status).toBe(503);
      expect(late.headers['retry-after']).toMatch(/^\d+$/);
      await close();
    });

    it('other routes go on working beside open streams', async (mount) => {
      const { open } = await mount();
      const stream = await open();
      await stream.next('connected');
      const other = await open('/other', { headers: { accept: '*/*' } });
      expect(other.status).toBe(200);
      await other.ended();
      expect(other.text()).toBe('other');
      expect((await open('/nowhere', { headers: { accept: '*/*' } })).status).toBe(404);
      expect(stream.isEnded()).toBe(false);
    });

    if (hasKeepAlive) {
      it('a connection that was kept alive serves refusals, a stream, and then closes', async (mount) => {
        const { broker, url, open, connections } = await mount(login);
        const { Agent } = url.startsWith('https:') ? https : http;
        const agent = new Agent({ keepAlive: true, maxSockets: 1 });
        onTestFinished(() => agent.destroy());
        for (const [method, status] of [['GET', 401] as const, ['POST', 405] as const, ['HEAD', 401] as const]) {
          const refused = await open('/events', { method, agent });
          expect(refused.status).toBe(status);
          await refused.ended();
        }
        const client = await open('/events', { ...as('alice'), agent });
        await client.next('connected');
        expect(await connections!()).toBe(1);
        await broker.disconnectUser('alice');
        await client.ended();
        const again = await open('/events', { ...as('alice'), agent });
        await again.next('connected');
        expect(await connections!()).toBe(1);
        await broker.disconnectUser('alice');
        await again.ended();
        agent.destroy();
      });
    }
  });
}
