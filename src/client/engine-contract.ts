/**
 * What an engine is to the client: `createEngine` makes one for a connection of its own, `createGroup` one for a connection
 * that tabs share.
 */
import type { Cursor } from './cursor.js';
import type { SSEClientError } from './errors.js';
import type { SSEReason, SSEStatusInfo } from './types.js';

/** What the engine tells. */
export interface EngineHost {
  readonly cursor: Cursor;
  /** A block; `text` is undefined where it has an id only. */
  block(type: string, text: string | undefined, id: string | undefined): void;
  /** The blocks of a chunk have been told; `bytes` came. Where it returns a promise nothing is read until that resolves. */
  flush(bytes: number): Promise<void> | undefined;
  /** Something changed; a call for each change, also where the status itself stays. */
  status(info: SSEStatusInfo): void;
  error(error: SSEClientError): void;
}

/** Outlives engines, so that changing settings does not bring attempts closer together. */
export interface Pace {
  /** When the last request was sent, in ms of `performance.now()`. */
  last: number;
}

export interface Engine {
  /** Begins anew, with a new budget. */
  start(reason?: SSEReason): void;
  /** Ends at once. Twice is once. */
  stop(reason: SSEReason): void;
  /** The page is awake, or the network is back, or gone. */
  check(): void;
  /** The server's heartbeats come every `interval` ms; 0: never. */
  learn(interval: number): void;
}
