/** What a client is tied to: the broker that it tells everything, the replay that holds it, and why its stream ended. */
import type { Client } from './client.js';
import type { Encoded } from './frame.js';
import type { Gap } from './gap.js';
import type { ResolvedOptions } from './options.js';
import type { QueueTotals } from './queue.js';

/**
 * Why a stream ended; the table in docs/reference/events.md says who should come back.
 *
 * - `left`: the client went away. - `disconnected`: `disconnect()` or `disconnectUser()`. - `shutdown`: `close()`.
 * - `overflow`: its buffer was full and the policy is `disconnect`. - `timeout`: it took no byte for `clientTimeout`.
 * - `expired`: its identity expired. - `max-age`: `maxConnectionAge`. - `failed`: the carrier or the bus broke.
 */
export type DisconnectReason =
  | 'left'
  | 'disconnected'
  | 'shutdown'
  | 'overflow'
  | 'timeout'
  | 'expired'
  | 'max-age'
  | 'failed';

export const DISCONNECT_REASONS: readonly DisconnectReason[] = [
  'left',
  'disconnected',
  'shutdown',
  'overflow',
  'timeout',
  'expired',
  'max-age',
  'failed',
];

/** What a client tells the broker, and what it counts into. */
export interface ClientHost {
  readonly options: ResolvedOptions;
  /** Ticks of the heartbeat since start. */
  readonly tick: number;
  now(): number;
  /** The client has something to flush. */
  ready(client: Client): void;
  wrote(events: number, bytes: number): void;
  readonly queueTotals: QueueTotals;
  dropped(events: number): void;
  /** First drop since the queue was last empty. */
  overflowed(client: Client, limit: 'frames' | 'bytes'): void;
  gapTold(client: Client, gap: Gap): void;
  /** It is over for the application: take it out of every map. */
  ended(client: Client, reason: DisconnectReason, message: string | undefined, cause: Error | undefined): void;
  /** The carrier is gone. */
  closed(client: Client): void;
}

/** What holds live frames back while history is replayed: see replay.ts. */
export interface Holder {
  hold(encoded: Encoded): void;
  /** The sink takes bytes again. */
  proceed(): void;
}
