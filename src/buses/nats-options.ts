/** Options of the NATS bus: what they mean, their defaults, and the one place where they are checked. */
import { SseError, shown } from '../core/errors.js';
import { checkOptionNames } from '../core/option-names.js';
import type { JetStream, NatsConnection } from './nats-client.js';

/** Options of {@link NatsBus}. Durations are in milliseconds, sizes in bytes. */
export interface NatsBusOptions {
  /**
   * A connection of yours: `connect()` of `@nats-io/transport-node`, or of another transport. It stays yours: the bus never
   * closes it. Make it with `maxReconnectAttempts: -1`, or the client gives up for good after ten attempts. Without JetStream
   * it must not have `noEcho`.
   */
  readonly connection: NatsConnection;
  /**
   * `jetstream(connection)` of `@nats-io/jetstream`. `false`: no JetStream; then the bus is live only: every node has an
   * order of its own, there is no history, and clients are told a gap (`disabled`) after every interruption.
   */
  readonly jetstream: JetStream | false;
  /** Brokers of one namespace share their events. Letters, digits, `_` and `-`. Default `default`. */
  readonly namespace?: string | undefined;
  /** What the subjects start with, before the namespace. Default `sse`. */
  readonly subjectPrefix?: string | undefined;
  /** Name of the stream. Default `sse-` and the namespace. */
  readonly stream?: string | undefined;
  /**
   * Whether the bus makes the stream where there is none, and gives it the limits below. Default true. With false an admin
   * has made it (docs/guides/nats.md says how), the limits are those of the stream, and the options of them are left out.
   */
  readonly manageStream?: boolean | undefined;
  /** Events kept per channel key. Default 1 000; 0: none, a client that comes back is told a gap where it missed one. */
  readonly historySize?: number | undefined;
  /** Bytes of the stream in all; the server reserves them. Default 256 MiB; 0: no limit. */
  readonly historyBytes?: number | undefined;
  /** Age in ms at which the server forgets an event, at least three times `checkInterval`. Default a day; 0: no limit. */
  readonly historyTtl?: number | undefined;
  /** Where the stream lies; cannot be changed once it is made. Default `file`. */
  readonly storage?: 'file' | 'memory' | undefined;
  /** Servers that keep a copy each, 1 to 5. Default 1. */
  readonly replicas?: number | undefined;
  /** How often the bus looks whether stream and joined keys are as it believes, in ms, ± a tenth. Default 10 000. */
  readonly checkInterval?: number | undefined;
  /** How long the server may take for an answer, in ms. Default 5 000. */
  readonly requestTimeout?: number | undefined;
  /**
   * After a connection has come back, history is read after a random wait of at most this many ms, so that a thousand nodes
   * do not ask in the same instant. Default 500.
   */
  readonly recoveryJitter?: number | undefined;
  /**
   * Servers before 2.10 may pass on two events of a stream without replicas in the wrong order. How long an event waits there
   * for one of before that may still be on its way, in ms, until the stream is asked for it. Default 5; 0: not at all, and
   * what comes late is told as a gap. Elsewhere nothing waits.
   */
  readonly reorderWindow?: number | undefined;
  /** How long a key stays joined after its last client left, in ms. Default 5 000. */
  readonly linger?: number | undefined;
  /**
   * While NATS is away: `false` rejects publishing at once (`SSE_ERR_BUS_UNAVAILABLE`, retryable). With limits, what is
   * published waits and is sent in its order when NATS is back, once, also where an answer was lost; beyond them it is
   * rejected. Needs JetStream. Default false.
   */
  readonly publishBuffer?: false | NatsPublishBuffer | undefined;
  /** Memory for events that are read again and again. Default 16 MiB. */
  readonly cacheBytes?: number | undefined;
}

/** Limits of what waits while NATS is away. */
export interface NatsPublishBuffer {
  /** Default 10 000. */
  readonly maxEvents?: number | undefined;
  /** Default 16 MiB. */
  readonly maxBytes?: number | undefined;
}

/** The defaults of {@link NatsBusOptions}. */
export const NATS_BUS_DEFAULTS = Object.freeze({
  namespace: 'default',
  subjectPrefix: 'sse',
  manageStream: true,
  historySize: 1_000,
  historyBytes: 256 * 1024 * 1024,
  historyTtl: 24 * 60 * 60 * 1000,
  storage: 'file' as 'file' | 'memory',
  replicas: 1,
  checkInterval: 10_000,
  requestTimeout: 5_000,
  recoveryJitter: 500,
  reorderWindow: 5,
  linger: 5_000,
  publishBuffer: false as false | NatsPublishBuffer,
  cacheBytes: 16 * 1024 * 1024,
});

const BUFFER_DEFAULTS = Object.freeze({ maxEvents: 10_000, maxBytes: 16 * 1024 * 1024 });

export type ResolvedNatsBusOptions = {
  readonly [K in keyof Omit<NatsBusOptions, 'publishBuffer'>]-?: Exclude<NatsBusOptions[K], undefined>;
} & { readonly publishBuffer: false | { readonly maxEvents: number; readonly maxBytes: number } };

/** What only a stream can do, and what only a stream of ours. */
const NEED_STREAM = [
  'stream',
  'manageStream',
  'historySize',
  'historyBytes',
  'historyTtl',
  'storage',
  'replicas',
  'publishBuffer',
  'reorderWindow',
  'cacheBytes',
] as const;
const NEED_MANAGED = ['historySize', 'historyBytes', 'historyTtl', 'storage', 'replicas'] as const;

type Known = keyof ResolvedNatsBusOptions;
type Check = readonly [allowed: string, holds: (value: never) => boolean];

const isWhole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const size: Check = ['a whole number, 0 or more', isWhole];
// Node's timers take 32 bits; a longer duration would fire at once.
const duration: Check = ['a whole number of ms from 0 to 2147483647', (value) => isWhole(value) && value < 2 ** 31];
const positive: Check = [
  'a whole number of ms from 1 to 2147483647',
  (value) => isWhole(value) && value > 0 && value < 2 ** 31,
];
const flag: Check = ['true or false', (value) => typeof value === 'boolean'];

const CHECKS: Readonly<Record<Known, Check>> = {
  connection: ['a NATS connection: that of connect()', (value) => hasMethods(value, 'subscribe', 'flush', 'status')],
  jetstream: [
    'jetstream(connection) of @nats-io/jetstream, or false for a bus that is live only',
    (value) => value === false || hasMethods(value, 'publish', 'jetstreamManager'),
  ],
  namespace: ['1 to 64 letters, digits, _ and -', (value) => /^[A-Za-z0-9_-]{1,64}$/.test(value)],
  subjectPrefix: [
    'at most 128 letters, digits, _ and -, with single dots between',
    (value) => /^(?=.{1,128}$)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/.test(value),
  ],
  stream: ['1 to 128 letters, digits, _ and -', (value) => /^[A-Za-z0-9_-]{1,128}$/.test(value)],
  manageStream: flag,
  historySize: ['a whole number from 0 to 1000000', (value) => isWhole(value) && value <= 1_000_000],
  historyBytes: size,
  historyTtl: size,
  storage: ["'file' or 'memory'", (value) => value === 'file' || value === 'memory'],
  replicas: ['a whole number from 1 to 5', (value) => isWhole(value) && value >= 1 && value <= 5],
  checkInterval: positive,
  requestTimeout: positive,
  recoveryJitter: duration,
  reorderWindow: duration,
  linger: duration,
  publishBuffer: ['false, or { maxEvents?, maxBytes? }, both 1 or more', isBuffer],
  cacheBytes: size,
};

function isDeafToItself(connection: unknown): boolean {
  return (connection as { readonly options?: { readonly noEcho?: unknown } }).options?.noEcho === true;
}

function hasMethods(value: unknown, ...methods: string[]): boolean {
  return methods.every(
    (method) => typeof (value as Record<string, unknown> | null | undefined)?.[method] === 'function',
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
export function resolveNatsOptions(options: NatsBusOptions): ResolvedNatsBusOptions {
  if (typeof options !== 'object' || options === null)
    refuse('options', options, 'an object with connection and jetstream');
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  checkOptionNames('NatsBus', given, Object.keys(CHECKS));
  const namespace = given.namespace ?? NATS_BUS_DEFAULTS.namespace;
  const resolved = { ...NATS_BUS_DEFAULTS, stream: `sse-${String(namespace)}`, ...given } as Record<Known, unknown>;
  for (const [option, [allowed, holds]] of Object.entries(CHECKS) as [Known, Check][]) {
    if (!(holds as (value: unknown) => boolean)(resolved[option])) refuse(option, resolved[option], allowed);
  }
  if (given.jetstream === false) {
    for (const option of NEED_STREAM) if (option in given) refuse(option, given[option], 'left out without JetStream');
    if (isDeafToItself(given.connection)) {
      refuse('connection', given.connection, 'one without noEcho: without JetStream it brings a node its own events');
    }
  }
  if (given.manageStream === false) {
    for (const option of NEED_MANAGED) {
      if (option in given) refuse(option, given[option], 'left out with manageStream: false; it is the stream’s own');
    }
  }
  const { historyTtl, checkInterval, publishBuffer } = resolved as unknown as ResolvedNatsBusOptions;
  // A loss that nobody looked for in time could not be told from nothing at all.
  if (historyTtl > 0 && historyTtl < 3 * checkInterval) {
    refuse('historyTtl', historyTtl, `0 or at least three times checkInterval (${3 * checkInterval})`);
  }
  const buffer =
    publishBuffer === false ? false : Object.freeze({ ...BUFFER_DEFAULTS, ...withoutUndefined(publishBuffer) });
  return Object.freeze({ ...resolved, publishBuffer: buffer }) as ResolvedNatsBusOptions;
}

function withoutUndefined(object: object): object {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}
