/**
 * CONTRACT: where a client's bytes go. Node HTTP/1.1, Node HTTP/2 and web streams have one each; an application may
 * bring its own (a WebSocket, a test).
 *
 * Obligations of a sink:
 * - `write` takes the bytes at once, in order, and never throws. It returns false when the carrier is full; the
 *   caller then holds further events back until the sink calls `owner.drained()`, exactly once per false. (A caller
 *   may still write frames of its own, which are few and small.)
 * - It reports the end of the carrier by `owner.closed(cause?)`, exactly once, whoever ended it, also after `end` and
 *   `destroy`. After that nothing is called any more, and `write`, `end` and `destroy` do nothing.
 * - `drained` and `closed` are never called from inside `open`, `write`, `end` or `destroy`.
 * - `end` sends what was written, then closes in the carrier's orderly way; it may take for ever with a stalled
 *   reader. `destroy` closes now. Both may be called twice.
 * - It holds no timer, and after `closed` no listener.
 */
import type { Encoded } from './frame.js';

/** What a sink tells. */
export interface SinkOwner {
  /** The carrier takes bytes again. */
  drained(): void;
  /** The carrier is gone; `cause` where it broke rather than ended. */
  closed(cause?: Error): void;
}

/** Where a client's bytes go. See the head of this file for its obligations. */
export interface Sink {
  /** Called once, before anything else. */
  open(owner: SinkOwner): void;
  /** Takes the bytes; false when the carrier is full. */
  write(encoded: Encoded): boolean;
  /** Orderly end, after `last` where given. */
  end(last?: Encoded): void;
  /** End now. */
  destroy(): void;
  /**
   * A number that changes whenever a full carrier took bytes. The broker compares it from time to time to tell a slow
   * reader from a dead one.
   */
  progress(): number;
}
