/** The object that says how things are; a new one for each change. */
import type { SSEReason, SSEStatusInfo } from './types.js';

/** `before` with changes, frozen. */
export function changed<Info extends Partial<SSEStatusInfo>>(before: Info, changes?: Partial<SSEStatusInfo>) {
  const next = { ...before, ...changes };
  return Object.freeze({
    ...next,
    connected: next.status === 'connected',
    reconnecting: next.status === 'reconnecting',
  });
}

/** Before anything has happened, and after all is over. */
export const idle = (reason: SSEReason = 'requested'): SSEStatusInfo =>
  changed({ status: 'disconnected', reason, attempt: 0, nextDelay: null, transport: null, error: null });
