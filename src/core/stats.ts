/** What a broker counts, and the figures an operator sees. */
import type { BusStatus } from './bus.js';
import { DISCONNECT_REASONS, type DisconnectReason } from './client.js';
import type { NodeStats } from './cluster.js';

/** Figures of `Broker.getStats()`; counters count since the broker was made, on this node. */
export interface BrokerStats {
  readonly totalClients: number;
  /** A user is a userId within its tenant. */
  readonly totalUsers: number;
  /** The same topic in two tenants counts once. */
  readonly totalTopics: number;
  readonly isRunning: boolean;
  /** `clientBufferSize`. */
  readonly bufferSize: number;
  /** `maxConnections`; 0 for no limit. */
  readonly maxConnections: number;
  /** Events published on this node. */
  readonly published: number;
  /** Events handed to sockets, counted per recipient; `replayed` ones included. */
  readonly delivered: number;
  /** Events dropped by the overflow policy, counted per recipient. */
  readonly dropped: number;
  /** Events handed over from history. */
  readonly replayed: number;
  /** Bytes of SSE text handed to sockets. */
  readonly bytes: number;
  /** Writes to sockets: one per client and turn, however many events. */
  readonly writes: number;
  /** `gap` events told. */
  readonly gaps: number;
  /** Frames that wait in all queues. */
  readonly queuedFrames: number;
  /** Bytes that wait in all queues. */
  readonly queuedBytes: number;
  /** Streams that were opened. */
  readonly connects: number;
  /** Requests refused before they became streams. */
  readonly refused: number;
  /** Streams that ended, by reason. */
  readonly disconnects: Readonly<Record<DisconnectReason, number>>;
  /** Streams that were told to end and are handing over their last bytes. */
  readonly ending: number;
  /** Errors that reached the `error` event, or nobody. */
  readonly errors: number;
  /** The bus, by name, with its state, and how much it gave that was no event. */
  readonly bus: BusStatus & { readonly name: string; readonly refused: number };
}

/** Figures of `Broker.getClusterStats()`. */
export interface ClusterStats {
  /** All nodes that live, the one that was asked first. */
  readonly nodes: readonly NodeStats[];
  readonly totalNodes: number;
  readonly totalClients: number;
  /** A user who is connected to several nodes counts once. */
  readonly totalUsers: number;
  /** A topic that several nodes have counts once for each. */
  readonly totalTopics: number;
}

export function clusterStatsOf(nodes: readonly NodeStats[], totalUsers: number): ClusterStats {
  let totalClients = 0;
  let totalTopics = 0;
  for (const { clients, topics } of nodes) {
    totalClients += clients;
    totalTopics += topics;
  }
  return { nodes, totalNodes: nodes.length, totalClients, totalUsers, totalTopics };
}

/** Counts since the broker was made. */
export class Counters {
  published = 0;
  delivered = 0;
  dropped = 0;
  bytes = 0;
  writes = 0;
  connects = 0;
  refused = 0;
  gaps = 0;
  firstFrames = 0;
  replayed = 0;
  readonly queue = { frames: 0, bytes: 0 };
  readonly disconnects = Object.fromEntries(DISCONNECT_REASONS.map((reason) => [reason, 0])) as Record<
    DisconnectReason,
    number
  >;
}
