/** Options of the Redis bus: what they mean, their defaults, and the one place where they are checked. */
import { SseError, shown } from '../core/errors.js';
import { checkOptionNames } from '../core/option-names.js';
import type { RedisClient } from './redis-client.js';

/** Options of {@link RedisBus}. Durations are in milliseconds, sizes in bytes. */
export interface RedisBusOptions {
  /**
   * A client of yours, of `ioredis` (5 or newer) or `redis` (4 or newer): one server, Sentinel or Cluster. It stays yours:
   * the bus sends its commands through it, closes only the one connection that it opens beside it, and needs it to come back
   * by itself (both libraries do by default). One of `redis` must be connected, or connecting, when the bus starts.
   */
  readonly client: RedisClient;
  /** Brokers of one namespace share their events. 1 to 64 letters, digits, `_`, `-` and `.`. Default `default`. */
  readonly namespace?: string | undefined;
  /** What every key and channel starts with, before `{namespace}`. At most 64 characters. Default `sse:`. */
  readonly keyPrefix?: string | undefined;
  /** Events kept per channel key. Default 1 000; 0: none, a client that comes back is told a gap where it missed one. */
  readonly historySize?: number | undefined;
  /**
   * Age in ms at which an event is forgotten, with everything Redis has of a channel key that was not used for so long; at
   * least three times `checkInterval`. Events live up to a thirtieth longer. Default one hour. Redis has no limit on bytes:
   * plan for `historySize` × channel keys in use within `historyTtl`.
   */
  readonly historyTtl?: number | undefined;
  /**
   * How often the bus looks whether it has all that Redis has, so that a loss on a quiet topic, a flush or a fail-over is
   * noticed without an event; in ms, ± a fifth. Default 10 000.
   */
  readonly checkInterval?: number | undefined;
  /** How long a key stays subscribed after its last client left, in ms. Default 5 000. */
  readonly linger?: number | undefined;
  /**
   * While Redis is away: `false` rejects publishing at once (`SSE_ERR_BUS_UNAVAILABLE`, retryable). With limits, what is
   * published waits and is sent in its order when Redis is back, once, also where an answer was lost; beyond them it is
   * rejected. Default false.
   */
  readonly publishBuffer?: false | RedisPublishBuffer | undefined;
  /**
   * Sharded Pub/Sub (`SPUBLISH`, Redis 7): in a cluster an event then stays on its shard instead of going to every node.
   * `'auto'`: in a cluster that has it. The first node of a namespace decides for all. Default `'auto'`.
   */
  readonly shardedPubSub?: boolean | 'auto' | undefined;
  /** How long Redis may take for an answer, in ms; beyond that it counts as down. Default 5 000. */
  readonly commandTimeout?: number | undefined;
  /** Memory for events that are read again and again. Default 16 MiB. */
  readonly cacheBytes?: number | undefined;
}

/** Limits of what waits while Redis is away. */
export interface RedisPublishBuffer {
  /** Default 10 000. */
  readonly maxEvents?: number | undefined;
  /** Default 16 MiB. */
  readonly maxBytes?: number | undefined;
}

/** The defaults of {@link RedisBusOptions}. */
export const REDIS_BUS_DEFAULTS = Object.freeze({
  namespace: 'default',
  keyPrefix: 'sse:',
  historySize: 1_000,
  historyTtl: 60 * 60 * 1000,
  checkInterval: 10_000,
  linger: 5_000,
  publishBuffer: false as false | RedisPublishBuffer,
  shardedPubSub: 'auto' as boolean | 'auto',
  commandTimeout: 5_000,
  cacheBytes: 16 * 1024 * 1024,
});

const BUFFER_DEFAULTS = Object.freeze({ maxEvents: 10_000, maxBytes: 16 * 1024 * 1024 });

export type ResolvedRedisBusOptions = {
  readonly [K in keyof Omit<RedisBusOptions, 'publishBuffer'>]-?: Exclude<RedisBusOptions[K], undefined>;
} & { readonly publishBuffer: false | { readonly maxEvents: number; readonly maxBytes: number } };

type Known = keyof ResolvedRedisBusOptions;
type Check = readonly [allowed: string, holds: (value: never) => boolean];

const isWhole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
// Node's timers take 32 bits; a longer duration would fire at once.
const duration: Check = [
  'a whole number of ms from 0 to 2147483647',
  (value) => isWhole(value) && (value as number) < 2 ** 31,
];
const positive: Check = [
  'a whole number of ms from 1 to 2147483647',
  (value) => isWhole(value) && (value as number) > 0 && (value as number) < 2 ** 31,
];
const isText = (value: unknown, pattern: RegExp): boolean => typeof value === 'string' && pattern.test(value);

/** What tells where in Redis, and through whose client: of all that uses it. */
export const REDIS_PLACE_CHECKS = {
  client: ['a client of ioredis or redis (node-redis)', isClient],
  namespace: ['1 to 64 letters, digits, _, - and .', (value) => isText(value, /^[A-Za-z0-9_.-]{1,64}$/)],
  // Braces would be the hash tag, stars and the like would be patterns in an ACL.
  keyPrefix: ['at most 64 letters, digits and _ - . : /', (value) => isText(value, /^[A-Za-z0-9_.:/-]{0,64}$/)],
  commandTimeout: positive,
} satisfies Readonly<Record<string, Check>>;

const CHECKS: Readonly<Record<Known, Check>> = {
  ...REDIS_PLACE_CHECKS,
  historySize: ['a whole number from 0 to 1000000', (value) => isWhole(value) && value <= 1_000_000],
  historyTtl: positive,
  checkInterval: positive,
  linger: duration,
  publishBuffer: ['false, or { maxEvents?, maxBytes? }, both whole numbers of 1 or more', isBuffer],
  shardedPubSub: ["true, false or 'auto'", (value) => [true, false, 'auto'].includes(value)],
  cacheBytes: ['a whole number, 0 or more', isWhole],
};

function isClient(value: unknown): boolean {
  const client = (value ?? {}) as Record<string, unknown>;
  return (
    typeof client.duplicate === 'function' &&
    (typeof client.call === 'function' || typeof client.sendCommand === 'function')
  );
}

function isBuffer(value: unknown): boolean {
  if (value === false) return true;
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).every(
    ([name, limit]) => Object.hasOwn(BUFFER_DEFAULTS, name) && (limit === undefined || (isWhole(limit) && limit > 0)),
  );
}

function refuse(option: string, value: unknown, allowed: string): never {
  throw new SseError('SSE_ERR_INVALID_OPTION', `${option} must be ${allowed}; got ${shown(value)}`);
}

/**
 * Checks `options` and fills in the defaults. An option that is `undefined` counts as absent.
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function resolveRedisOptions(options: RedisBusOptions): ResolvedRedisBusOptions {
  if (typeof options !== 'object' || options === null) refuse('options', options, 'an object with a client');
  const given = withoutUndefined(options) as Partial<Record<Known, unknown>>;
  checkOptionNames('RedisBus', given, Object.keys(CHECKS));
  const resolved = { ...REDIS_BUS_DEFAULTS, ...given } as Record<Known, unknown>;
  for (const [option, [allowed, holds]] of Object.entries(CHECKS) as [Known, Check][]) {
    if (!(holds as (value: unknown) => boolean)(resolved[option])) refuse(option, resolved[option], allowed);
  }
  const { historyTtl, checkInterval, publishBuffer } = resolved as unknown as ResolvedRedisBusOptions;
  // What a check has not looked at before Redis forgets it would count as lost.
  if (historyTtl < 3 * checkInterval) {
    refuse('historyTtl', historyTtl, `at least three times checkInterval (${3 * checkInterval})`);
  }
  const buffer =
    publishBuffer === false ? false : Object.freeze({ ...BUFFER_DEFAULTS, ...withoutUndefined(publishBuffer) });
  return Object.freeze({ ...resolved, publishBuffer: buffer }) as ResolvedRedisBusOptions;
}

function withoutUndefined(object: object): object {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}
