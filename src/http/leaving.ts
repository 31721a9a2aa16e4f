/**
 * Tells when the connection of a response closes that has no socket of its own yet: one that is pipelined behind another gets
 * no `close` when its client leaves. Any number of them wait on one connection: one listener for all.
 */
import type { Socket } from 'node:net';

const WAITING = Symbol('sse-broker.waiting');
type WithWaiting = Socket & { [WAITING]?: Set<() => void> | undefined };

function onClose(this: WithWaiting): void {
  const waiting = this[WAITING];
  if (waiting !== undefined) for (const callback of [...waiting]) callback();
}

/** Calls `callback`, a function of its own for each call of this, when `connection` closes; returns its undo. */
export function onConnectionClose(connection: WithWaiting, callback: () => void): () => void {
  let waiting = connection[WAITING];
  if (waiting === undefined) {
    waiting = new Set();
    connection[WAITING] = waiting;
    connection.on('close', onClose);
  }
  waiting.add(callback);
  return () => {
    if (!waiting.delete(callback) || waiting.size > 0) return;
    connection[WAITING] = undefined;
    connection.off('close', onClose);
  };
}
