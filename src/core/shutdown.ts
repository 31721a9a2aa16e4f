/** Ends all streams of a broker within a deadline. */
import type { Client } from './client.js';
import type { Clock } from './clock.js';
import { SseError, shown } from './errors.js';
import { checkOptionNames } from './option-names.js';

/** Options of `Broker.close()`. */
export interface CloseOptions {
  /** Deadline in ms, after which streams that still have not ended are cut. Default 5 000. */
  timeoutMs?: number | undefined;
  /** Clients are told to come back at a random moment in the last four fifths of this many ms. Default 5 000. */
  reconnectWithinMs?: number | undefined;
}

/** Close options with defaults. */
export type ResolvedCloseOptions = { readonly [K in keyof CloseOptions]-?: number };

/** What `Broker.close()` did. */
export interface CloseResult {
  /** Streams that ended in an orderly way. */
  readonly ended: number;
  /** Streams that had to be cut at the deadline. */
  readonly cut: number;
}

/** The streams to end; both collections change while they do. */
export interface OpenStreams {
  readonly clients: ReadonlyMap<string, Client>;
  readonly ending: ReadonlySet<Client>;
  /** Calls back once, when both are empty. */
  onceEmpty(callback: () => void): void;
  end(client: Client, reconnectIn: number): void;
}

/** Clients told to end between two looks at the event loop. */
const SLICE = 200;

/** Destroyed sockets report their end a turn later. */
const CUT_GRACE = 1_000;

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
export function resolveCloseOptions(options: CloseOptions): ResolvedCloseOptions {
  checkOptionNames('close', options, ['timeoutMs', 'reconnectWithinMs']);
  const { timeoutMs = 5_000, reconnectWithinMs = 5_000 } = options;
  for (const [option, value] of Object.entries({ timeoutMs, reconnectWithinMs })) {
    if (!Number.isFinite(value) || value < 0 || value >= 2 ** 31) {
      throw new SseError('SSE_ERR_INVALID_OPTION', `${option} must be a number of ms, 0 or more; got ${shown(value)}`);
    }
  }
  return { timeoutMs, reconnectWithinMs };
}

/** Tells everybody to come back later, waits, and cuts what has not ended at the deadline. */
export async function endStreams(
  streams: OpenStreams,
  clock: Clock,
  timeoutMs: number,
  reconnectWithinMs: number,
): Promise<CloseResult> {
  const { clients, ending } = streams;
  const deadline = clock.monotonic() + timeoutMs;
  const open = clients.size + ending.size;
  let told = 0;
  for (const client of [...clients.values()]) {
    if (clock.monotonic() >= deadline) break;
    // Not sooner than a fifth of it: a browser keeps this delay between all its attempts, and with next to none it would
    // hammer at a server that is still starting.
    streams.end(client, Math.round((0.2 + Math.random() * 0.8) * reconnectWithinMs));
    if (++told % SLICE === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await untilEmpty(streams, deadline - clock.monotonic());
  const rest = [...clients.values(), ...ending];
  for (const client of rest) client.fail('shutdown');
  await untilEmpty(streams, CUT_GRACE);
  return { ended: open - rest.length, cut: rest.length };
}

function untilEmpty(streams: OpenStreams, timeoutMs: number): Promise<void> {
  if ((streams.clients.size === 0 && streams.ending.size === 0) || timeoutMs <= 0) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, timeoutMs);
    streams.onceEmpty(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
