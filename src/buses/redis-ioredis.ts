/** ioredis: one connection, Sentinel, or Cluster. */
import type { IoredisClient, RedisLink, Subscriber, SubscriberHandlers } from './redis-client.js';
import { slotOf } from './redis-client.js';

type Listener = (...args: never[]) => void;

interface Emitter {
  on(event: string, listener: Listener): unknown;
  removeListener(event: string, listener: Listener): unknown;
}

/** The part of `Redis` that is used. */
interface Connection extends Emitter {
  readonly status: string;
  readonly options: { readonly keyPrefix?: unknown; readonly host?: string; readonly port?: number };
  call(command: string, args: string[]): Promise<unknown>;
  duplicate(override: object): Connection;
  connect(): Promise<unknown>;
  disconnect(): void;
  subscribe(...channels: string[]): Promise<unknown>;
  unsubscribe(...channels: string[]): Promise<unknown>;
  ssubscribe(...channels: string[]): Promise<unknown>;
  sunsubscribe(...channels: string[]): Promise<unknown>;
}

/** The part of `Cluster` that is used: `slots` says who has a slot, the master first. */
interface ClusterConnection extends Connection {
  readonly isCluster: true;
  readonly slots: readonly (readonly string[] | undefined)[];
  nodes(role: 'master'): Connection[];
}

/**
 * What a connection of ours does differently from the application's: the bus decides when to come back, and subscribes
 * again itself, because it must know that something may be missing.
 */
const OVERRIDES = Object.freeze({
  lazyConnect: true,
  retryStrategy: () => null,
  sentinelRetryStrategy: () => null,
  autoResubscribe: false,
  autoResendUnfulfilledCommands: false,
  enableOfflineQueue: true,
  readOnly: false,
  maxRetriesPerRequest: null,
  // Channels have the prefix already.
  keyPrefix: '',
});

export function ioredisLink(given: IoredisClient): RedisLink {
  const client = given as unknown as Connection;
  const isCluster = (given as { isCluster?: unknown }).isCluster === true;
  const { keyPrefix } = client.options ?? {};
  return {
    library: 'ioredis',
    isCluster,
    keyPrefix: keyPrefix === undefined || keyPrefix === null ? '' : String(keyPrefix),
    problem() {
      // `wait`: made with `lazyConnect`, and connects with the first command.
      if (client.status === 'ready' || client.status === 'wait') return undefined;
      return `the Redis client is not connected (${client.status})`;
    },
    send: ([command, ...args], _key) => client.call(command!, args),
    open(key, isSharded, handlers) {
      const node = isCluster ? masterOf(client as ClusterConnection, key) : client;
      return open(node.duplicate(OVERRIDES), isSharded, handlers);
    },
    onReady(listener) {
      client.on('ready', listener);
      return () => client.removeListener('ready', listener);
    },
  };
}

async function open(connection: Connection, isSharded: boolean, handlers: SubscriberHandlers): Promise<Subscriber> {
  let reason = 'the connection was closed';
  connection.on('error', ((error: Error) => {
    reason = error.message;
  }) as Listener);
  try {
    await connection.connect();
  } catch (error) {
    connection.disconnect();
    throw new Error(reason, { cause: error });
  }
  // A connection that is closed between two lines here is found by what is asked of it next.
  connection.on('close', () => handlers.closed(reason));
  // Its slot went to another node of the cluster.
  connection.on('moved', () => handlers.closed('the slot has moved'));
  connection.on(isSharded ? 'smessage' : 'message', handlers.message as Listener);
  return {
    subscribe: (channels) => (isSharded ? connection.ssubscribe(...channels) : connection.subscribe(...channels)),
    unsubscribe: (channels) => (isSharded ? connection.sunsubscribe(...channels) : connection.unsubscribe(...channels)),
    close: () => connection.disconnect(),
  };
}

/** The connection that the cluster client has to the master of a key. */
function masterOf(cluster: ClusterConnection, key: string): Connection {
  const address = cluster.slots[slotOf(key)]?.[0];
  const master = cluster.nodes('master').find(({ options: { host, port } }) => `${host}:${port}` === address);
  if (master === undefined) throw new Error(`no node of the cluster has the slot of ${key}`);
  return master;
}
