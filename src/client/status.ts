/** The object that says how things are; a new one for each change. */
import type { SSEStatusInfo } from './types.js';

/** Before anything has happened. */
export const idle = (): SSEStatusInfo => ({
  status: 'disconnected',
  connected: false,
  reconnecting: false,
  reason: 'requested',
  attempt: 0,
  nextDelay: null,
  transport: null,
  error: null,
});

/** `before` with changes, frozen. */
export function changed(before: SSEStatusInfo, changes: Partial<SSEStatusInfo>): SSEStatusInfo {
  const { status } = { ...before, ...changes };
  return Object.freeze({
    ...before,
    ...changes,
    connected: status === 'connected',
    reconnecting: status === 'reconnecting',
  });
}
