/**
 * Scripts in the application's own Redis, through its own client of either library: what the cache and presence have in common.
 * Everything that fails is one error that says why; nothing is tried twice, and nothing waits longer than it may.
 */
import { RedisCaller, type RedisScript, redisLink } from '../buses/redis-caller.js';
import type { RedisClient, RedisLink } from '../buses/redis-client.js';
import { REDIS_PLACE_CHECKS } from '../buses/redis-options.js';
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

export function refuseOption(option: string, value: unknown, allowed: string): never {
  throw new SseError('SSE_ERR_INVALID_OPTION', `${option} must be ${allowed}; got ${shown(value)}`);
}

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` where `value` is no duration of `least` ms or more that a timer takes */
export function checkDuration(option: string, value: unknown, least: number): void {
  const isDuration = Number.isSafeInteger(value) && (value as number) >= least && (value as number) < 2 ** 31;
  if (!isDuration) refuseOption(option, value, `a whole number of ms from ${least} to ${2 ** 31 - 1}`);
}

export class RedisConnection {
  /** The first key of every script: all others begin with it, and share its hash tag. */
  readonly root: string;
  readonly #link: RedisLink;
  readonly #timeoutMs: number;
  readonly #caller: RedisCaller;

  /** @throws {SseError} `SSE_ERR_INVALID_OPTION`, naming the option, the value and what is allowed. */
  constructor({ client, namespace, keyPrefix, commandTimeout }: RedisPlaceOptions) {
    const given = Object.entries({ client, namespace, keyPrefix, commandTimeout });
    const place = { ...REDIS_PLACE_DEFAULTS, ...Object.fromEntries(given.filter(([, value]) => value !== undefined)) };
    for (const [option, [allowed, holds]] of Object.entries(REDIS_PLACE_CHECKS)) {
      const value: unknown = place[option as keyof typeof place];
      if (!(holds as (value: unknown) => boolean)(value)) refuseOption(option, value, allowed);
    }
    this.#link = redisLink(client);
    this.#timeoutMs = place.commandTimeout;
    this.#caller = new RedisCaller(this.#link, place.commandTimeout, failure);
    this.root = `${place.keyPrefix}inbox:{${place.namespace}}`;
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
    const answer = await this.#caller.run(script, [key], args);
    if (!Array.isArray(answer)) throw failure('Redis gave an answer that makes no sense', new TypeError(shown(answer)));
    return answer;
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
