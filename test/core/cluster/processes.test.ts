/**
 * Nodes in processes of their own over real buses: killed, stopped and deployed. Presence is right again in the time that
 * the options say, and clients of the other nodes notice nothing.
 */
import { randomBytes } from 'node:crypto';
import { connect } from '@nats-io/transport-node';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type Child, startChildren } from '../../support/child.js';
import { sharedNatsUrl } from '../../support/nats-server.js';
import { needsSharedRedis } from '../../support/redis-server.js';
import { skipUnless } from '../../support/skip.js';
import { openStream, type StreamClient } from '../../support/stream.js';
import { until } from '../../support/until.js';
import type { Look, Order, Reply } from './node-process.js';

const PROGRAM = 'test/core/cluster/node-process.ts';
const OPTIONS = { nodeTimeout: 2_000, presenceGrace: 800, nodeAnswerTimeout: 2_000 };

type Command = Order extends infer One ? (One extends Order ? Omit<One, 'id'> : never) : never;

class Node {
  readonly #child: Child<Reply>;
  #lastId = 0;
  port = 0;

  constructor(child: Child<Reply>) {
    this.#child = child;
  }

  async start(bus: 'redis' | 'nats', namespace: string, options: object): Promise<void> {
    this.port = await this.do<number>({ do: 'start', bus, namespace, options: { ...OPTIONS, ...options } });
  }

  async do<T>(command: Command): Promise<T> {
    const id = ++this.#lastId;
    this.#child.send({ ...command, id });
    const { messages } = this.#child;
    const at = () => messages.findIndex((message) => message.id === id);
    await until(() => at() !== -1, `an answer to ${command.do}`, 15_000);
    const [{ value, error }] = messages.splice(at(), 1) as [Reply];
    if (error !== undefined) throw Object.assign(new Error(error.message), { code: error.code });
    return value as T;
  }

  look(): Promise<Look> {
    return this.do<Look>({ do: 'look' });
  }

  call<T>(method: string, ...args: unknown[]): Promise<T> {
    return this.do<T>({ do: 'call', method, args });
  }

  open(query: string, lastEventId?: string): Promise<StreamClient> {
    const headers = lastEventId === undefined ? {} : { 'last-event-id': lastEventId };
    return openStream(`http://127.0.0.1:${this.port}/?${query}`, { headers });
  }

  /** The same, when its stream has begun. */
  async join(query: string): Promise<StreamClient> {
    const stream = await this.open(query);
    await stream.next('connected').catch(async (cause: Error) => {
      throw new Error(`${cause.message}; ended: ${stream.isEnded()}; ${JSON.stringify(await this.look())}`);
    });
    return stream;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.process.kill(signal);
  }

  /** Waits until it sees exactly these users; returns how long that took, in ms. */
  async sees(users: readonly string[], deadlineMs = 20_000): Promise<number> {
    const startedAt = performance.now();
    let seen: Look | undefined;
    const doesSee = async () => {
      seen = await this.look();
      return JSON.stringify(seen.users) === JSON.stringify(users);
    };
    await until(doesSee, JSON.stringify(users), deadlineMs).catch((cause: Error) => {
      throw new Error(`${cause.message}; last: ${JSON.stringify(seen)}`);
    });
    return performance.now() - startedAt;
  }
}

const clientIdOf = async (stream: StreamClient) => (await stream.next<{ clientId: string }>('connected')).clientId;

describe.each(['redis', 'nats'] as const)('over %s', (bus) => {
  async function three(options: object = {}): Promise<[Node, Node, Node]> {
    if (bus === 'redis') {
      await needsSharedRedis();
    } else {
      const connection = await connect({ servers: sharedNatsUrl }).catch(() => undefined);
      skipUnless(connection, `no NATS listens at ${sharedNatsUrl}; start nats-server -js, or set NATS_URL`);
      await connection.close();
    }
    const namespace = `nodes-${randomBytes(6).toString('hex')}`;
    const nodes = (await startChildren<Reply>(PROGRAM, 3)).map((child) => new Node(child));
    await Promise.all(nodes.map((node) => node.start(bus, namespace, options)));
    for (const node of nodes) await until(async () => (await node.look()).nodes === 3, 'three nodes');
    return nodes as [Node, Node, Node];
  }

  test('one is killed: its users are gone after the lease, the others’ clients notice nothing', async () => {
    const [a, b, c] = await three();
    const alice = await a.join('user_id=alice');
    await b.join('user_id=bob');
    await c.join('user_id=bob');
    const carol = await c.join('user_id=carol');
    for (const node of [a, b, c]) await node.sees(['alice', 'bob', 'carol']);

    // What is on another node is reached, with what it answers.
    const id = await clientIdOf(carol);
    expect(await a.call('subscribe', id, 'news')).toBe(true);
    await b.call('sendToTopic', 'news', 'n', 'topic');
    await b.call('sendToClient', id, 'n', 'you');
    expect(await carol.all('n', 2)).toEqual(['topic', 'you']);
    await expect(a.call('sendToClient', 'nobody', 'n', 1)).rejects.toMatchObject({ code: 'SSE_ERR_UNKNOWN_CLIENT' });
    expect(await a.call('disconnect', 'nobody')).toBe(false);

    c.signal('SIGKILL');
    const asked = a.call('disconnect', 'nobody').catch(({ code }) => code);
    const took = await a.sees(['alice', 'bob']);
    expect(took).toBeLessThan(OPTIONS.nodeTimeout + OPTIONS.presenceGrace + 3_000);
    await b.sees(['alice', 'bob']);
    expect([false, 'SSE_ERR_CLUSTER_TIMEOUT']).toContain(await asked);
    for (const node of [a, b]) {
      const { told, nodes, errors } = await node.look();
      expect(told.toSorted()).toEqual(['+alice', '+bob', '+carol', '-carol']);
      expect(nodes).toBe(2);
      expect(errors.filter((error) => !/CLUSTER_TIMEOUT|UNKNOWN_CLIENT/.test(error))).toEqual([]);
    }
    await b.call('sendToUser', 'alice', 'n', 'still');
    expect(await alice.next('n')).toBe('still');
    expect(await a.call('disconnectUser', 'bob')).toBe(1);
  }, 60_000);

  test('one is stopped for longer than a lease, and comes back', async () => {
    const [a, b, c] = await three();
    const alice = await a.join('user_id=alice');
    await b.join('user_id=bob');
    const carol = await c.join('user_id=carol');
    for (const node of [a, b, c]) await node.sees(['alice', 'bob', 'carol']);
    onTestFinished(() => c.signal('SIGCONT'));
    c.signal('SIGSTOP');
    await a.sees(['alice', 'bob']);
    await b.sees(['alice', 'bob']);
    await b.join('user_id=dave');
    await a.sees(['alice', 'bob', 'dave']);
    c.signal('SIGCONT');
    for (const node of [a, b, c]) await node.sees(['alice', 'bob', 'carol', 'dave']);
    // It has given up nobody meanwhile, and tells its own clients what they missed.
    expect((await c.look()).told.toSorted()).toEqual(['+alice', '+bob', '+carol', '+dave']);
    await a.call('broadcast', 'n', 'after');
    expect(await Promise.all([alice.next('n'), carol.next('n')])).toEqual(['after', 'after']);
  }, 60_000);

  test('a deploy: each node says goodbye and spreads its clients, who resume on the others without a hole', async () => {
    const [a, b, c] = await three({ presenceGrace: 5_000, historySize: undefined });
    const nodes = [a, b, c];
    const closed = new Set<Node>();
    const readers = Array.from({ length: 30 }, (_, n) => ({
      user: `user-${n}`,
      at: n % 3,
      seen: [] as number[],
      stream: undefined as StreamClient | undefined,
    }));
    const delays: number[] = [];
    let isOver = false;
    const reading = readers.map(async (reader) => {
      let lastEventId: string | undefined;
      while (!isOver) {
        const at = nodes[reader.at % 3]!;
        if (closed.has(at)) {
          reader.at++;
          continue;
        }
        const stream = await at.open(`user_id=${reader.user}`, lastEventId).catch(() => undefined);
        if (stream === undefined) continue;
        reader.stream = stream;
        await until(() => stream.isEnded() || isOver, 'the end of the stream', 30_000);
        reader.seen.push(...stream.events.filter(({ event }) => event === 'n').map(({ data }) => Number(data)));
        expect(stream.events.filter(({ event }) => event === 'gap')).toEqual([]);
        lastEventId = stream.events.findLast(({ id }) => id !== undefined)?.id ?? lastEventId;
        const { reason } = JSON.parse(stream.events.find(({ event }) => event === 'closing')?.data ?? '{}');
        if (reason === 'shutdown') delays.push(stream.retry()!);
        else if (!isOver) expect(stream.events, 'a refusal of a node that goes').toEqual([]);
        reader.at++;
      }
    });
    for (const node of nodes) await until(async () => (await node.look()).users.length === 30, 'thirty users');
    let sent = 0;
    let isSending = true;
    const sending = (async () => {
      while (isSending) {
        // The last one is never closed.
        await c.call('broadcast', 'n', ++sent);
      }
    })();
    for (const node of [a, b]) {
      const before = sent;
      closed.add(node);
      await node.do({ do: 'close', options: { reconnectWithinMs: 2_000, timeoutMs: 3_000 } });
      await until(async () => (await c.look()).clients >= 30, 'everybody on the others');
      await until(() => sent > before + 20, 'more events');
    }
    isSending = false;
    await sending;
    await c.call('broadcast', 'n', ++sent);
    const hasLast = (stream: StreamClient | undefined) => Number(stream?.events.at(-1)?.data) === sent;
    await until(() => readers.every(({ stream }) => hasLast(stream)), 'the last event everywhere');
    isOver = true;
    await Promise.all(reading);
    const all = Array.from({ length: sent }, (_, n) => n + 1);
    for (const { seen } of readers) expect(seen).toEqual(all.slice(all.indexOf(seen[0]!)));
    // Spread over the last four fifths of the window, not all at once.
    expect(delays.every((ms) => ms >= 400 && ms <= 2_000)).toBe(true);
    expect(new Set(delays).size).toBeGreaterThan(delays.length / 2);
    const { told, users, nodes: living } = await c.look();
    expect([users.length, living]).toEqual([30, 1]);
    expect(told.filter((one) => one.startsWith('-'))).toEqual([]);
  }, 60_000);
});
