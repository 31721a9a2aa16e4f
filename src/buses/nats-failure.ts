/** What the NATS client throws, as errors of ours. It is known by name: there may be several copies of its packages. */
import { isSseError, SseError } from '../core/errors.js';

/** JetStream's number for "stream not found". */
const STREAM_NOT_FOUND = 10_059;
/** A stream of that name is there, with another configuration. */
const STREAM_EXISTS = 10_058;

/** The stream has a `max_msg_size`, or less room than that in all. */
const MESSAGE_TOO_LARGE = 10_054;
/** JetStream's "insufficient storage resources" and "insufficient memory resources": it has less room than a stream reserves. */
const ROOM_EXCEEDED = [10_047, 10_028];

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function unavailable(message: string, cause?: unknown): SseError {
  return new SseError('SSE_ERR_BUS_UNAVAILABLE', message, { cause });
}

/** `error` as it is told to who waits: ours as it is, theirs as "unavailable", unless trying again cannot help. */
export function failureOf(what: string, error: unknown): SseError {
  if (isSseError(error)) return error;
  const message = `${what}: ${reasonOf(error)}`;
  if (codeOf(error) === MESSAGE_TOO_LARGE) return new SseError('SSE_ERR_EVENT_TOO_LARGE', message, { cause: error });
  return unavailable(message, error);
}

/** The failure in words that help: the client calls all of them by what it sees. */
function reasonOf(error: unknown): string {
  const { name } = (error ?? {}) as { name?: string };
  if (name === 'TimeoutError') return 'NATS gave no answer in time';
  if (name === 'JetStreamNotEnabled') return 'no stream listens, or JetStream is off (jetstream is not enabled)';
  if (ROOM_EXCEEDED.includes(codeOf(error) as number)) {
    return `${messageOf(error)}; a stream reserves its historyBytes: give less of these, or JetStream more room`;
  }
  return messageOf(error);
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown } | null | undefined)?.code;
}

export function isStreamMissing(error: unknown): boolean {
  return codeOf(error) === STREAM_NOT_FOUND;
}

export function isStreamThere(error: unknown): boolean {
  return codeOf(error) === STREAM_EXISTS;
}
