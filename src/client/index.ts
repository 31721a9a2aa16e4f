/** `sse-broker/client`: the browser's end of the stream, for browsers, Node, Deno, Bun and workers. */
export { SSEClient } from './client.js';
export type { SSEClientErrorCode, SSEClientErrorOptions } from './errors.js';
export { SSEClientError } from './errors.js';
export type {
  SSEAttempt,
  SSEClientConfig,
  SSEClientEvents,
  SSEDataOf,
  SSEDecision,
  SSEEvent,
  SSEEventMap,
  SSEEventName,
  SSEFailure,
  SSEFetch,
  SSEGap,
  SSEHandler,
  SSEIterateOptions,
  SSEOutcome,
  SSEQueuePolicy,
  SSEReason,
  SSEStats,
  SSEStatus,
  SSEStatusChange,
  SSEStatusInfo,
  SSETransport,
  SSEValue,
} from './types.js';
