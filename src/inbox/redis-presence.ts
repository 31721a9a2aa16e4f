/**
 * Who is online on which node, in Redis: a {@link Presence}.
 *
 * Per user a sorted set of nodes, each with the time until which it is believed. Nodes say it again before that, a bounded number
 * of users at a time; so what a dead node has said ends by itself. Changes of one turn are one call, in the order in which they
 * were: one call at a time, each with how it is by then.
 *
 * Keys: `root:p:…` (sorted set, expires) of a user, and of a user in a tenant; `root:at:…` (expires): that this server process was
 * told by a node. Where that is missing, Redis may have lost more, and the node says everything again.
 */
import { redisScript } from '../buses/redis-caller.js';
import { SseError } from '../core/errors.js';
import { checkOptionNames } from '../core/option-names.js';
import type { Presence, PresenceSource, PresentClient } from './presence.js';
import { checkDuration, REDIS_PLACE_DEFAULTS, RedisConnection, type RedisPlaceOptions } from './redis-connection.js';

/** Options of {@link RedisPresence}. Durations are in milliseconds. */
export interface RedisPresenceOptions extends RedisPlaceOptions {
  /** How long what a node said of a user is believed, should it die. The same on all nodes. Default 5 minutes. */
  readonly onlineTtl?: number | undefined;
}

/** The defaults; docs/guides/inbox-cache.md lists them. */
export const REDIS_PRESENCE_DEFAULTS = Object.freeze({ ...REDIS_PLACE_DEFAULTS, onlineTtl: 5 * 60_000 });

/** Users in one call. */
const AT_ONCE = 500;
/** Ms between two looks at what is due, at most. */
const TICK_MS = 1_000;

const CLOCK = `
local root = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end
`;

/** 1 node, 2 ms it is believed, 3 users that are here, 4 users that are not any more → `known`, or `new`. */
const TELL = redisScript(`${CLOCK}
local node, ttl = ARGV[1], tonumber(ARGV[2])
local through = text(now + ttl)
for _, name in ipairs(cjson.decode(ARGV[3])) do
  local key = root .. ':p:' .. name
  redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now))
  redis.call('ZADD', key, through, node)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ARGV[2]) end
end
for _, name in ipairs(cjson.decode(ARGV[4])) do redis.call('ZREM', root .. ':p:' .. name, node) end
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local at = root .. ':at:' .. node
local isKnown = redis.call('GET', at) == run
redis.call('SET', at, run, 'PX', ARGV[2])
return {isKnown and 'known' or 'new'}
`);

/** 1 users → 1 for each that is online, else 0. */
const ASK = redisScript(`${CLOCK}
local answers = {}
for i, name in ipairs(cjson.decode(ARGV[1])) do
  answers[i] = redis.call('ZCOUNT', root .. ':p:' .. name, '(' .. text(now), '+inf') > 0 and 1 or 0
end
return answers
`);

interface Held {
  streams: number;
  /** When it is to be said again, in ms that never go back. */
  due: number;
}

interface Question {
  readonly name: string;
  readonly resolve: (isOnline: boolean) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Presence in Redis, for {@link InboxOptions.presence}.
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`, naming the option, the value and what is allowed
 * @example
 * const inbox = new Inbox({ broker, store, presence: new RedisPresence({ client: new Redis() }) });
 */
export class RedisPresence implements Presence {
  readonly #connection: RedisConnection;
  readonly #ttl: number;
  /** Users of this node, those first that are due first. */
  readonly #held = new Map<string, Held>();
  /** By client. */
  readonly #clients = new Map<string, readonly string[]>();
  /** What is to be said. */
  readonly #changed = new Set<string>();
  #node: string | undefined = undefined;
  #report: (error: unknown) => void = () => {};
  #isScheduled = false;
  #telling: Promise<void> | undefined = undefined;
  #ticks: NodeJS.Timeout | undefined = undefined;
  #questions: Question[] = [];
  /** A client that is just connecting is waited for, once. */
  readonly #ready: Promise<void>;

  constructor(options: RedisPresenceOptions) {
    checkOptionNames('RedisPresence', options, ['client', ...Object.keys(REDIS_PRESENCE_DEFAULTS)]);
    const { onlineTtl = REDIS_PRESENCE_DEFAULTS.onlineTtl } = options;
    checkDuration('onlineTtl', onlineTtl, 100);
    this.#ttl = onlineTtl;
    this.#connection = new RedisConnection(options);
    this.#ready = this.#connection.whenReady();
  }

  attach(source: PresenceSource, report: (error: unknown) => void): () => Promise<void> {
    if (this.#node !== undefined) {
      throw new SseError('SSE_ERR_INVALID_OPTION', 'presence belongs to one inbox; make another RedisPresence');
    }
    this.#node = source.nodeId;
    this.#report = report;
    const came = (client: PresentClient): void => this.#came(client);
    const went = (client: PresentClient): void => this.#went(client);
    source.on('clientConnected', came);
    source.on('clientDisconnected', went);
    for (const client of source.getClients()) this.#came(client);
    this.#ticks = setInterval(() => this.#tick(), Math.min(TICK_MS, this.#ttl / 6)).unref();
    let leaving: Promise<void> | undefined;
    return () => {
      source.off('clientConnected', came);
      source.off('clientDisconnected', went);
      leaving ??= this.#leave();
      return leaving;
    };
  }

  async isOnline(userId: string, tenantId: string | undefined): Promise<boolean> {
    const name = nameOf(userId, tenantId);
    if (this.#held.has(name)) return true;
    return new Promise((resolve, reject) => {
      this.#questions.push({ name, resolve, reject });
      // What is asked in one turn is one call.
      if (this.#questions.length === 1) setImmediate(() => this.#ask());
    });
  }

  #came({ id, userId, tenantId }: PresentClient): void {
    if (userId === undefined || this.#clients.has(id)) return;
    const names = [nameOf(userId, undefined)];
    if (tenantId !== undefined) names.push(nameOf(userId, tenantId));
    this.#clients.set(id, names);
    for (const name of names) {
      const held = this.#held.get(name);
      if (held !== undefined) {
        held.streams++;
        continue;
      }
      this.#held.set(name, { streams: 1, due: Number.POSITIVE_INFINITY });
      this.#say(name);
    }
  }

  #went({ id }: PresentClient): void {
    const names = this.#clients.get(id) ?? [];
    this.#clients.delete(id);
    for (const name of names) {
      const held = this.#held.get(name)!;
      if (--held.streams > 0) continue;
      this.#held.delete(name);
      this.#say(name);
    }
  }

  #say(name: string): void {
    this.#changed.add(name);
    if (this.#isScheduled || this.#telling !== undefined) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      void this.#tell();
    });
  }

  #tick(): void {
    if (this.#telling !== undefined || this.#held.size + this.#changed.size === 0) return;
    const now = performance.now();
    const interval = this.#ttl / 3;
    // As many as it takes to come round in time: what came at once, or was said again at once, spreads over the interval.
    let most = AT_ONCE + Math.ceil((this.#held.size * Math.min(TICK_MS, this.#ttl / 6)) / interval);
    for (const [name, { due }] of this.#held) {
      if (due > now || most-- === 0) break;
      this.#changed.add(name);
    }
    void this.#tell(true);
  }

  /** `isAsking`: also where there is nothing to say, to learn whether Redis still has what was said. Never rejects. */
  #tell(isAsking = false): Promise<void> {
    this.#telling ??= this.#tellAll(isAsking)
      .catch((error: unknown) => this.#report(error))
      .finally(() => {
        this.#telling = undefined;
      });
    return this.#telling;
  }

  async #tellAll(isAsking: boolean): Promise<void> {
    await this.#ready;
    for (let isFirst = isAsking; isFirst || this.#changed.size > 0; isFirst = false) {
      const names = firstOf(this.#changed, AT_ONCE);
      for (const name of names) this.#changed.delete(name);
      const here = names.filter((name) => this.#held.has(name));
      const gone = names.filter((name) => !this.#held.has(name));
      let answer: readonly unknown[];
      try {
        const args = [this.#node!, String(this.#ttl), JSON.stringify(here), JSON.stringify(gone)];
        answer = await this.#connection.run(TELL, args);
      } catch (error) {
        // Said with the next tick, however it is by then.
        for (const name of names) this.#changed.add(name);
        throw error;
      }
      const due = performance.now() + this.#ttl / 3;
      for (const name of here) this.#dueAt(name, due);
      if (answer[0] !== 'known')
        for (const name of this.#held.keys()) if (!here.includes(name)) this.#changed.add(name);
    }
  }

  #dueAt(name: string, due: number): void {
    const held = this.#held.get(name);
    if (held === undefined) return;
    held.due = due;
    // At the end: all before it are due earlier.
    this.#held.delete(name);
    this.#held.set(name, held);
  }

  async #leave(): Promise<void> {
    clearInterval(this.#ticks);
    for (const name of this.#held.keys()) this.#changed.add(name);
    this.#held.clear();
    this.#clients.clear();
    await this.#telling;
    await this.#tell();
    this.#changed.clear();
    this.#node = undefined;
  }

  async #ask(): Promise<void> {
    const questions = this.#questions;
    this.#questions = [];
    await this.#ready;
    for (let from = 0; from < questions.length; from += AT_ONCE) {
      const some = questions.slice(from, from + AT_ONCE);
      try {
        const answers = await this.#connection.run(ASK, [JSON.stringify(some.map(({ name }) => name))]);
        for (const [index, { resolve }] of some.entries()) resolve(Number(answers[index]) === 1);
      } catch (error) {
        for (const { reject } of some) reject(error);
      }
    }
  }
}

const nameOf = (userId: string, tenantId: string | undefined): string =>
  JSON.stringify(tenantId === undefined ? [userId] : [userId, tenantId]);

function firstOf(names: Iterable<string>, count: number): string[] {
  const first: string[] = [];
  for (const name of names) {
    if (first.length === count) break;
    first.push(name);
  }
  return first;
}
