/**
 * What the bus needs of a Redis client, whichever library it is from. The application makes the client, configures it and
 * closes it; the bus sends its commands through it and opens connections of its own, by `duplicate`, to listen on.
 */

/** A client of ioredis, 5 or newer: `new Redis(…)` or `new Cluster(…)`. */
export interface IoredisClient {
  readonly status: string;
  call(command: string, args: (string | Buffer | number)[]): Promise<unknown>;
  duplicate(...args: never[]): unknown;
}

/** A client of `redis` (node-redis), 4 or newer: of `createClient`, `createCluster` or `createSentinel`. */
export interface NodeRedisClient {
  sendCommand(...args: never[]): Promise<unknown>;
  duplicate(...args: never[]): unknown;
}

/** A client of one of the two libraries, connected or about to connect. */
export type RedisClient = IoredisClient | NodeRedisClient;

/** What a connection that listens tells. */
export interface SubscriberHandlers {
  /** In the order in which the server sent them. */
  message(channel: string, text: string): void;
  /** It is gone, or cannot be relied on; told once or more, never before it was opened. */
  closed(reason: string): void;
}

/** A connection that listens. It never comes back by itself: who wants that opens another. */
export interface Subscriber {
  /** Resolves when the server has confirmed all of them. */
  subscribe(channels: string[]): Promise<unknown>;
  unsubscribe(channels: string[]): Promise<unknown>;
  /** Ends it without a word. Safe to call twice. */
  close(): void;
}

/** The application's client, as the bus uses it. */
export interface RedisLink {
  readonly library: 'ioredis' | 'node-redis';
  readonly isCluster: boolean;
  /** What the library puts before every key by itself. */
  readonly keyPrefix: string;
  /** Why a command would not reach a server now; undefined where it would. */
  problem(): string | undefined;
  /** `args`: the command and its arguments; `key`: the first key, by which a cluster finds the node. */
  send(args: string[], key: string): Promise<unknown>;
  /** Opens a connection to the node that has `key`. Rejects where that fails. */
  open(key: string, isSharded: boolean, handlers: SubscriberHandlers): Promise<Subscriber>;
  /** Calls `listener` whenever the client is connected again; returns its undo. */
  onReady(listener: () => void): () => void;
}

/** CRC16 (XMODEM) of the hash tag, as in the cluster specification: which of the 16 384 slots a key is in. */
export function slotOf(key: string): number {
  const open = key.indexOf('{');
  const close = key.indexOf('}', open + 1);
  const tag = open >= 0 && close > open + 1 ? key.slice(open + 1, close) : key;
  let crc = 0;
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000) === 0 ? crc << 1 : (crc << 1) ^ 0x1021;
    crc &= 0xffff;
  }
  return crc % 16_384;
}
