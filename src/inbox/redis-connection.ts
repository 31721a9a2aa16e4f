/**
 * Scripts in the application's own Redis, through its own client of either library: what the cache and presence have in common.
 * Everything that fails is one error that says why; nothing is tried twice, and nothing waits longer than it may.
 */
import { createHash } from 'node:crypto';
import type { IoredisClient, NodeRedisClient, RedisClient, RedisLink } from '../buses/redis-client.js';
import { ioredisLink } from '../buses/redis-ioredis.js';
import { nodeRedisLink } from '../buses/redis-node-redis.js';
import { SseError, shown } from '../core/errors.js';

/** Where in Redis, and through whose client. */
export interface RedisPlaceOptions {
  /**
   * A client of yours, of `ioredis` (5 or newer) or `redis` (4 or newer): one server, Sentinel or Cluster, Redis 6.2 or newer. It
   * stays yours, and may be the one that a {@link RedisBus} has.
   */
  readonly client: RedisClient;
  /** Who shares it names the same. 1 to 64 letters, digits, `_`, `-` and `.`. Default `default`. */
  readonly namespace?: string | undefined;
  /** What every key starts with, before `inbox:{namespace}`. At most 64 characters. Default `sse:`. */
  readonly keyPrefix?: string | undefined;
  /** How long Redis may take for an answer, in ms; beyond that it counts as down. Default 1 000. */
  readonly commandTimeout?: number | undefined;
}

/** The defaults of {@link RedisPlaceOptions}. */
export const REDIS_PLACE_DEFAULTS = Object.freeze({ namespace: 'default', keyPrefix: 'sse:', commandTimeout: 1_000 });

/** A script, and the name by which Redis knows it. */
export interface RedisScript {
  readonly source: string;
  readonly hash: string;
}

export function redisScript(source: string): RedisScript {
  return { source, hash: createHash('sha1').update(source).digest('hex') };
}

export function refuseOption(option: string, value: unknown, allowed: string): never {
  throw new SseError('SSE_ERR_INVALID_OPTION', `${option} must be ${allowed}; got ${shown(value)}`);
}

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` where `value` is no duration of `least` ms or more that a timer takes */
export function checkDuration(option: string, value: unknown, least: number): void {
  const isDuration = Number.isSafeInteger(value) && (value as number) >= least && (value as number) < 2 ** 31;
  if (!isDuration) refuseOption(option, value, `a whole number of ms from ${least} to ${2 ** 31 - 1}`);
}

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` for a name that is none of `known` */
export function checkOptionNames(of: string, options: object, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null) refuseOption('options', options, 'an object');
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    throw new SseError(
      'SSE_ERR_INVALID_OPTION',
      `unknown option ${shown(name)} of ${of}; known are ${known.join(', ')}`,
    );
  }
}

export class RedisConnection {
  /** The first key of every script: all others begin with it, and share its hash tag. */
  readonly root: string;
  readonly #link: RedisLink;
  readonly #timeoutMs: number;

  /** @throws {SseError} `SSE_ERR_INVALID_OPTION`, naming the option, the value and what is allowed. */
  constructor(options: RedisPlaceOptions) {
    const { client, namespace = 'default', keyPrefix = 'sse:', commandTimeout = 1_000 } = options;
    this.#link = linkOf(client);
    if (typeof namespace !== 'string' || !/^[A-Za-z0-9_.-]{1,64}$/.test(namespace)) {
      refuseOption('namespace', namespace, '1 to 64 letters, digits, _, - and .');
    }
    if (typeof keyPrefix !== 'string' || !/^[A-Za-z0-9_.:/-]{0,64}$/.test(keyPrefix)) {
      refuseOption('keyPrefix', keyPrefix, 'at most 64 letters, digits and _ - . : /');
    }
    checkDuration('commandTimeout', commandTimeout, 1);
    this.#timeoutMs = commandTimeout;
    this.root = `${keyPrefix}inbox:{${namespace}}`;
  }

  /** Calls `listener` whenever the client is connected again; returns its undo. */
  onReady(listener: () => void): () => void {
    return this.#link.onReady(listener);
  }

  /** An application starts its client and what uses it side by side: resolves when it is connected, or is not in time. */
  async whenReady(): Promise<void> {
    if (this.#link.problem() === undefined) return;
    let undo: (() => void) | undefined;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      undo = this.#link.onReady(resolve);
      timer = setTimeout(resolve, this.#timeoutMs);
    });
    clearTimeout(timer);
    undo?.();
  }

  /**
   * Runs a script by its hash, and whole where the server does not know it. An answer that comes too late is thrown away: the
   * script may have run, or may run yet.
   *
   * @throws {SseError} `SSE_ERR_STORE_UNAVAILABLE`, with the reason
   */
  async run(script: RedisScript, args: readonly string[], key = this.root): Promise<readonly unknown[]> {
    let answer: unknown;
    try {
      answer = await this.#send(['evalsha', script.hash, '1', key, ...args], key);
    } catch (error) {
      const { cause } = error as SseError;
      if (!(cause instanceof Error) || !cause.message.startsWith('NOSCRIPT')) throw error;
      answer = await this.#send(['eval', script.source, '1', key, ...args], key);
    }
    if (!Array.isArray(answer)) throw failure('Redis gave an answer that makes no sense', new TypeError(shown(answer)));
    return answer;
  }

  #send(args: string[], key: string): Promise<unknown> {
    const problem = this.#link.problem();
    if (problem !== undefined) return Promise.reject(failure(problem));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(failure(`Redis gave no answer within ${this.#timeoutMs} ms`)),
        this.#timeoutMs,
      );
      const failed = (error: unknown): void => {
        clearTimeout(timer);
        reject(failure('Redis', error));
      };
      try {
        this.#link.send(args, this.#link.keyPrefix + key).then((answer) => {
          clearTimeout(timer);
          resolve(answer);
        }, failed);
      } catch (error) {
        failed(error);
      }
    });
  }
}

/** Text out of an answer; empty where there is none. */
export function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  return Buffer.isBuffer(value) ? value.toString() : '';
}

function failure(what: string, cause?: unknown): SseError {
  const reason = cause instanceof Error ? `: ${cause.message}` : '';
  return new SseError('SSE_ERR_STORE_UNAVAILABLE', what + reason, { cause });
}

function linkOf(client: RedisClient): RedisLink {
  const { call, sendCommand, duplicate } = (client ?? {}) as unknown as Record<string, unknown>;
  if (typeof duplicate === 'function' && typeof call === 'function') return ioredisLink(client as IoredisClient);
  if (typeof duplicate === 'function' && typeof sendCommand === 'function')
    return nodeRedisLink(client as NodeRedisClient);
  return refuseOption('client', client, 'a client of ioredis or redis (node-redis)');
}
