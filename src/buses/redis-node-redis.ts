/** node-redis (`redis`): `createClient`, `createSentinel`, `createCluster`. */
import type { NodeRedisClient, RedisLink, Subscriber, SubscriberHandlers } from './redis-client.js';
import { slotOf } from './redis-client.js';

type Listener = (...args: never[]) => void;
type OnMessage = (text: string, channel: string) => void;

/** What clients, clusters and sentinels have in common; `isReady` came later to some than to others. */
interface Common {
  readonly isOpen?: boolean;
  readonly isReady?: boolean;
  on(event: string, listener: Listener): unknown;
  off(event: string, listener: Listener): unknown;
}

interface Connection extends Common {
  readonly options?: { readonly socket?: object };
  sendCommand(args: string[]): Promise<unknown>;
  duplicate(override?: object): Connection;
  connect(): Promise<unknown>;
  /** From version 5 on; `disconnect` before. */
  destroy?(): unknown;
  disconnect?(): unknown;
  subscribe(channels: string[], listener: OnMessage): Promise<unknown>;
  unsubscribe(channels: string[], listener?: OnMessage): Promise<unknown>;
  sSubscribe(channels: string[], listener: OnMessage): Promise<unknown>;
  sUnsubscribe(channels: string[], listener?: OnMessage): Promise<unknown>;
}

interface Cluster extends Common {
  readonly slots: readonly ({ readonly master: unknown } | undefined)[];
  sendCommand(firstKey: string, isReadonly: boolean, args: string[]): Promise<unknown>;
  /** A promise in some versions. */
  nodeClient(node: unknown): Connection | Promise<Connection>;
}

interface Sentinel extends Common {
  sendCommand(isReadonly: boolean, args: string[]): Promise<unknown>;
  duplicate(): Connection;
  getMasterNode(): unknown;
}

export function nodeRedisLink(given: NodeRedisClient): RedisLink {
  const client = given as unknown as Connection & Cluster & Sentinel;
  const isCluster = typeof client.nodeClient === 'function';
  const isSentinel = !isCluster && typeof client.getMasterNode === 'function';
  return {
    library: 'node-redis',
    isCluster,
    // Commands that are sent raw get no prefix.
    keyPrefix: '',
    problem() {
      if (client.isReady ?? client.isOpen ?? true) return undefined;
      return client.isOpen === false
        ? 'the Redis client is closed; call connect()'
        : 'the Redis client is not connected';
    },
    send(args, key) {
      if (isCluster) return (client as Cluster).sendCommand(key, false, args);
      return isSentinel ? (client as Sentinel).sendCommand(false, args) : (client as Connection).sendCommand(args);
    },
    async open(key, isSharded, handlers) {
      if (isSentinel) return open((client as Sentinel).duplicate(), isSharded, handlers);
      const node = isCluster ? await (client as Cluster).nodeClient(masterOf(client, key)) : (client as Connection);
      // The bus decides when to come back: it must know that something may be missing.
      const socket = { ...node.options?.socket, reconnectStrategy: false };
      return open(node.duplicate({ socket }), isSharded, handlers);
    },
    onReady(listener) {
      client.on('ready', listener);
      return () => client.off('ready', listener);
    },
  };
}

async function open(connection: Connection, isSharded: boolean, handlers: SubscriberHandlers): Promise<Subscriber> {
  let isOpened = false;
  const failed = (reason: unknown) => {
    if (isOpened) handlers.closed(reason instanceof Error ? reason.message : 'the connection was closed');
  };
  for (const event of ['error', 'end', 'reconnecting']) connection.on(event, failed as Listener);
  // A sentinel client moves its subscriptions to the new master by itself; what was published meanwhile is missing.
  connection.on('topology-change', (({ type }: { type?: string }) => {
    if (type === 'MASTER_CHANGE') failed(new Error('the master has changed'));
  }) as Listener);
  // Its slot went to another node of the cluster.
  connection.on('sharded-channel-moved', () => failed(new Error('the slot has moved')));
  try {
    await connection.connect();
  } catch (error) {
    close(connection);
    throw error;
  }
  isOpened = true;
  const onMessage: OnMessage = (text, channel) => handlers.message(channel, text);
  return {
    subscribe: (channels) =>
      isSharded ? connection.sSubscribe(channels, onMessage) : connection.subscribe(channels, onMessage),
    // Named with its listener a channel counts as leaving at once. Without, a subscription before the answer would be taken for
    // one that stands already and send nothing, and the answer would end it.
    unsubscribe: (channels) =>
      isSharded ? connection.sUnsubscribe(channels, onMessage) : connection.unsubscribe(channels, onMessage),
    close: () => {
      isOpened = false;
      close(connection);
    },
  };
}

/** Without waiting for answers. One that is closed already throws or rejects, by version. */
function close(connection: Connection): void {
  try {
    const closing = connection.destroy === undefined ? connection.disconnect?.() : connection.destroy();
    (closing as Promise<unknown> | undefined)?.then?.(undefined, () => {});
  } catch {
    // It was closed.
  }
}

function masterOf({ slots }: Cluster, key: string): unknown {
  const master = slots[slotOf(key)]?.master;
  if (master === undefined) throw new Error(`no node of the cluster has the slot of ${key}`);
  return master;
}
