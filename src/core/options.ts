/** What a broker can be told, the defaults, and one function that fills in and checks. */
import { v4 as uuid } from 'uuid';
import type { Bus } from './bus.js';
import { type Clock, systemClock } from './clock.js';
import { SseError, shown } from './errors.js';
import type { Serializer } from './event.js';
import { nameProblem } from './topic.js';

/** What happens when a client's buffer is full: see docs/guides/slow-clients.md. */
export type OverflowPolicy = 'disconnect' | 'drop-oldest' | 'drop-newest';

/** Where the broker writes what an operator should see. Never gets data, tokens or headers. */
export interface Logger {
  warn(message: string, details?: Readonly<Record<string, unknown>>): void;
  error(message: string, details?: Readonly<Record<string, unknown>>): void;
}

/** Options of `new Broker(options)`. Durations are in milliseconds, sizes in bytes; 0 disables a limit. */
export interface BrokerOptions {
  /** Orders events and carries them between nodes. Default: an in-memory bus of this process. */
  bus?: Bus | undefined;
  /** Most frames that wait for one client whose socket is full. Default 256; 0: no limit. */
  clientBufferSize?: number | undefined;
  /** Most bytes that wait for one client whose socket is full. Default 1 MiB; 0: no limit. */
  clientBufferBytes?: number | undefined;
  /**
   * What happens beyond those. Default `disconnect`: the client is cut off, reconnects and resumes. With `drop-oldest`
   * and `drop-newest` it stays, and is told by a `gap` event.
   */
  overflow?: OverflowPolicy | undefined;
  /**
   * When events go out: at the end of each turn of the event loop, or `adaptive`: a flush waits as long as the one before
   * it took (at most `maxFlushDelay`), which makes publishing far cheaper when events come faster than they can be
   * written, and adds that wait to their latency. Default `turn`.
   */
  flush?: 'turn' | 'adaptive' | undefined;
  /** Longest wait of an adaptive flush, in ms, 1 or more. Default 50. */
  maxFlushDelay?: number | undefined;
  /** Longest silence on a stream, in ms. Default 30 000; 0: no heartbeats. */
  heartbeatInterval?: number | undefined;
  /** A comment, which clients do not see, or an event `heartbeat` with a timestamp. Default `comment`. */
  heartbeatMode?: 'comment' | 'event' | undefined;
  /**
   * How long a socket may take no byte while some wait, in ms; then the client is cut off. Default 300 000; 0: for ever.
   * At least twice `heartbeatInterval`.
   */
  clientTimeout?: number | undefined;
  /** Longest life of a stream in ms, minus up to a tenth, drawn per client. Default 0: no limit. */
  maxConnectionAge?: number | undefined;
  /** Whether clients may have topics. Default true. */
  enableTopics?: boolean | undefined;
  /** Most clients of this node. Default 0: no limit. */
  maxConnections?: number | undefined;
  /** Most clients of one user. Default 0: no limit. */
  maxConnectionsPerUser?: number | undefined;
  /**
   * Whether `maxConnectionsPerUser` counts the clients of this node, or of all nodes that share the bus: those that this
   * node knows of, so that a user who connects to several nodes in the same moment may get a few more. Default `node`.
   */
  connectionLimitScope?: 'node' | 'cluster' | undefined;
  /** Most topics of one client. Default 100; 0: no limit. */
  maxTopicsPerClient?: number | undefined;
  /** Largest data of an event, in bytes of UTF-8. Default 1 MiB; 0: no limit. */
  maxEventBytes?: number | undefined;
  /** What clients are told to wait before they reconnect, in ms, ± a quarter, drawn per client. Default 3 000; 0: not told. */
  retry?: number | undefined;
  /** Whether a stream starts with an event `connected`. Default true. */
  connectedEvent?: boolean | undefined;
  /** Events kept per channel key by the in-memory bus, for clients that come back. Default 0: none. */
  historySize?: number | undefined;
  /** Bytes of history in all of the in-memory bus. Default 64 MiB; 0: no limit. */
  historyBytes?: number | undefined;
  /** Age in ms at which the in-memory bus forgets an event. Default 0: no age limit. */
  historyTtl?: number | undefined;
  /** Most events replayed to one client that comes back; beyond them it is told a gap. Default 10 000; 0: no limit. */
  maxReplayEvents?: number | undefined;
  /**
   * Whether this node takes part in what nodes that share a bus tell each other: presence, calls for clients of other
   * nodes, figures of all. Default true; without meaning where the bus is of one process.
   */
  cluster?: boolean | undefined;
  /** How this node is called in figures, for people: a host name, say. Default: not at all. */
  nodeName?: string | undefined;
  /** Silence in ms after which another node counts as gone; it says that it is there three times as often. Default 15 000. */
  nodeTimeout?: number | undefined;
  /** How long a call for clients of other nodes waits for their answers, in ms. Default 5 000. */
  nodeAnswerTimeout?: number | undefined;
  /** How long a user stays online after the last of its streams has ended, in ms. Default 10 000; 0: not at all. */
  presenceGrace?: number | undefined;
  /** Most streams of users that presence keeps in mind, of all nodes. Default 1 000 000; 0: no limit. */
  maxPresence?: number | undefined;
  /** Turns data that is not a string into text. Default `JSON.stringify`. */
  serialize?: Serializer | undefined;
  /** Makes client ids; they must be unique over all nodes. Default UUID v4. */
  createId?: (() => string) | undefined;
  /** Default: the system's. */
  clock?: Clock | undefined;
  /** Default: none; everything is an event as well. */
  logger?: Logger | undefined;
}

/** The defaults; the table in docs/reference/options.md is compared with them by a test. */
export const DEFAULT_OPTIONS = Object.freeze({
  clientBufferSize: 256,
  clientBufferBytes: 1024 * 1024,
  overflow: 'disconnect' as OverflowPolicy,
  flush: 'turn' as 'turn' | 'adaptive',
  maxFlushDelay: 50,
  heartbeatInterval: 30_000,
  heartbeatMode: 'comment' as 'comment' | 'event',
  clientTimeout: 300_000,
  maxConnectionAge: 0,
  enableTopics: true,
  maxConnections: 0,
  maxConnectionsPerUser: 0,
  connectionLimitScope: 'node' as 'node' | 'cluster',
  maxTopicsPerClient: 100,
  maxEventBytes: 1024 * 1024,
  retry: 3_000,
  connectedEvent: true,
  historySize: 0,
  historyBytes: 64 * 1024 * 1024,
  historyTtl: 0,
  maxReplayEvents: 10_000,
  cluster: true,
  nodeTimeout: 15_000,
  nodeAnswerTimeout: 5_000,
  presenceGrace: 10_000,
  maxPresence: 1_000_000,
});

const DEFAULT_MEANS = Object.freeze({
  serialize: JSON.stringify as Serializer,
  createId: uuid as () => string,
  clock: systemClock,
});

/** What has no default. */
type OptionalMeans = 'bus' | 'logger' | 'nodeName';

type Resolved<T> = { readonly [K in keyof T]-?: Exclude<T[K], undefined> };

/** Options with every default filled in. */
export type ResolvedOptions = Resolved<Omit<BrokerOptions, OptionalMeans>> & Pick<BrokerOptions, OptionalMeans>;

type Check = (value: unknown) => string | undefined;

const count: Check = (value) =>
  Number.isSafeInteger(value) && (value as number) >= 0 ? undefined : 'a whole number, 0 or more';
// Node's timers take 32 bits; a longer duration would fire at once.
const duration: Check = (value) =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 31
    ? undefined
    : 'a whole number of ms from 0 to 2147483647';
const LEASE = 'a whole number of ms from 100 to 2147483647';
const ANSWER = 'a whole number of ms from 1 to 2147483647';
const flag: Check = (value) => (typeof value === 'boolean' ? undefined : 'true or false');
const callback: Check = (value) => (typeof value === 'function' ? undefined : 'a function');
const oneOf =
  (...allowed: string[]): Check =>
  (value) =>
    allowed.includes(value as string) ? undefined : allowed.map((name) => `'${name}'`).join(', ');
const having =
  (...methods: string[]): Check =>
  (value) => {
    const object = value as Record<string, unknown> | null;
    const missing = methods.filter((method) => typeof object?.[method] !== 'function');
    return missing.length === 0 ? undefined : `an object with ${methods.map((method) => `${method}()`).join(', ')}`;
  };

const CHECKS: Readonly<Record<keyof BrokerOptions, Check>> = {
  bus: having('start', 'publish', 'join', 'leave', 'head', 'read', 'status', 'close'),
  clientBufferSize: count,
  clientBufferBytes: count,
  overflow: oneOf('disconnect', 'drop-oldest', 'drop-newest'),
  flush: oneOf('turn', 'adaptive'),
  maxFlushDelay: duration,
  heartbeatInterval: duration,
  heartbeatMode: oneOf('comment', 'event'),
  clientTimeout: duration,
  maxConnectionAge: duration,
  enableTopics: flag,
  maxConnections: count,
  maxConnectionsPerUser: count,
  connectionLimitScope: oneOf('node', 'cluster'),
  maxTopicsPerClient: count,
  maxEventBytes: count,
  retry: duration,
  connectedEvent: flag,
  historySize: count,
  historyBytes: count,
  historyTtl: duration,
  maxReplayEvents: count,
  cluster: flag,
  nodeName: (value) => (nameProblem(value) === undefined ? undefined : 'a name of 1 to 256 characters'),
  nodeTimeout: (value) => (duration(value) === undefined && (value as number) >= 100 ? undefined : LEASE),
  nodeAnswerTimeout: (value) => (duration(value) === undefined && (value as number) > 0 ? undefined : ANSWER),
  presenceGrace: duration,
  maxPresence: count,
  serialize: callback,
  createId: callback,
  clock: having('now', 'monotonic', 'every'),
  logger: having('warn', 'error'),
};

function refuse(option: string, value: unknown, allowed: string): never {
  throw new SseError('SSE_ERR_INVALID_OPTION', `${option} must be ${allowed}; got ${shown(value)}`);
}

/** Those of `options` that are not undefined, each of them checked; `known` are the ones there are. */
export function checkedOptions(options: object, known: readonly (keyof BrokerOptions)[]): Record<string, unknown> {
  if (typeof options !== 'object' || options === null) refuse('options', options, 'an object');
  const given: Record<string, unknown> = {};
  for (const [option, value] of Object.entries(options)) {
    if (value === undefined) continue;
    if (!known.includes(option as keyof BrokerOptions)) {
      throw new SseError('SSE_ERR_INVALID_OPTION', `unknown option ${shown(option)}; known are ${known.join(', ')}`);
    }
    const allowed = CHECKS[option as keyof BrokerOptions](value);
    if (allowed !== undefined) refuse(option, value, allowed);
    given[option] = value;
  }
  for (const option of ['historyBytes', 'historyTtl'] as const) {
    if (given[option] !== undefined && given.historySize === undefined && given.bus === undefined) {
      refuse(option, given[option], 'left out without historySize: without it no history is kept');
    }
  }
  return given;
}

const KNOWN = Object.keys(CHECKS) as (keyof BrokerOptions)[];

/**
 * Checks `options` and fills in the defaults. An option that is `undefined` counts as absent.
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`, naming the option, the value and what is allowed.
 */
export function resolveOptions(options: BrokerOptions = {}): ResolvedOptions {
  const given = checkedOptions(options, KNOWN);
  const resolved = { ...DEFAULT_OPTIONS, ...DEFAULT_MEANS, ...given } as ResolvedOptions;
  const { clientTimeout, heartbeatInterval } = resolved;
  if (clientTimeout > 0 && clientTimeout < 2 * heartbeatInterval) {
    refuse('clientTimeout', clientTimeout, `0 or at least twice heartbeatInterval (${2 * heartbeatInterval})`);
  }
  if (given.maxFlushDelay !== undefined && resolved.flush !== 'adaptive') {
    refuse('maxFlushDelay', given.maxFlushDelay, "left out unless flush is 'adaptive'");
  }
  if (resolved.flush === 'adaptive' && resolved.maxFlushDelay === 0) {
    refuse('maxFlushDelay', 0, "1 or more; flush: 'turn' is the one that never waits");
  }
  if (resolved.bus !== undefined) {
    for (const option of ['historySize', 'historyBytes', 'historyTtl'] as const) {
      if (given[option] !== undefined) {
        refuse(option, given[option], 'left out where a bus is given: history is an option of the bus');
      }
    }
  }
  return Object.freeze(resolved);
}
