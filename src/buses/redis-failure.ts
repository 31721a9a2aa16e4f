/** What Redis and its clients throw, as errors of ours. */
import { SseError } from '../core/errors.js';

/** "Unavailable", with the reason in words. */
export function failureOf(what: string, cause?: unknown): SseError {
  const reason = cause instanceof Error ? cause.message : cause === undefined ? '' : String(cause);
  return new SseError('SSE_ERR_BUS_UNAVAILABLE', reason === '' ? what : `${what}: ${reason}`, { cause });
}

/** Answers of a server that works and will give the same answer again: a right that is missing, a key of another type. */
const LASTING = /^(NOPERM|NOAUTH|WRONGTYPE|ERR|STALE|CROSSSLOT)\b/;
/** A state that passes, which Redis 6 tells behind the ERR of the script that met it. */
const PASSING = /\b(OOM|READONLY|MISCONF|LOADING|MASTERDOWN|NOREPLICAS|CLUSTERDOWN|TRYAGAIN|max number of clients)\b/;

/** True where sending the same once more cannot help. */
export function isLasting(error: SseError): boolean {
  return error.cause instanceof Error && LASTING.test(error.cause.message) && !PASSING.test(error.cause.message);
}
