/** What the API refuses with, and how that looks to its caller: `{ "error": { "code", "message", "field"? } }`. */
import { type ErrorCode, isSseError, SseError } from '../core/errors.js';
import type { HandlerBroker } from '../http/arrival.js';
import type { Answer } from '../http/refusal.js';

/** A refusal with what only HTTP has. */
export class ApiError extends SseError {
  /** The part of the request that is wrong, as its sender calls it. */
  readonly field: string | undefined;
  /** ms after which to try again. */
  readonly retryAfter: number | undefined;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    code: ErrorCode,
    message: string,
    more: { field?: string; retryAfter?: number; headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(code, message);
    this.field = more.field;
    this.retryAfter = more.retryAfter;
    this.headers = more.headers ?? {};
  }
}

/** 400, naming the field. */
export function invalid(field: string, problem: string): ApiError {
  return new ApiError('SSE_ERR_INVALID_REQUEST', `${field} ${problem}`, { field });
}

/** 403. */
export function forbidden(message: string): SseError {
  return new SseError('SSE_ERR_FORBIDDEN', message);
}

/** Headers of everything that the API itself answers. */
export const JSON_HEADERS: Readonly<Record<string, string>> = Object.freeze({
  'Content-Type': 'application/json; charset=utf-8',
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
});

/** What of a request an error is about that the core found. */
const FIELDS: Readonly<Partial<Record<ErrorCode, string>>> = { SSE_ERR_INVALID_DATA: 'data' };

/** Their messages carry what a driver said, and what is for operators: addresses, names of tables and files, versions. */
const INNER: ReadonlySet<string> = new Set([
  'SSE_ERR_STORE_UNAVAILABLE',
  'SSE_ERR_STORE_UNUSABLE',
  'SSE_ERR_BUS_UNAVAILABLE',
  'SSE_ERR_HISTORY_UNUSABLE',
]);

/**
 * What `error` becomes for the caller. What is not ours, or has no status, is the application's or our own mistake: it is
 * reported, and becomes a 500 that says nothing.
 */
export function errorAnswer(broker: HandlerBroker, thrown: unknown): Answer {
  // "Stay away" of a stream, which an Authenticator says to an EventSource: here it is the refusal that it stands for.
  const error = isSseError(thrown) && thrown.status === 204 ? new SseError(thrown.code, thrown.message) : thrown;
  const isKnown = isSseError(error) && error.status !== undefined && error.status >= 400 && error.status <= 599;
  if (!isKnown) broker.reportError(error, 'handler');
  const known = isKnown ? error : new SseError('SSE_ERR_INTERNAL', 'the request could not be served');
  broker.refused(known);
  const { code, status = 500 } = known;
  // Operators are told what failed; a stranger need not know where the database is.
  if (code.startsWith('SSE_ERR_STORE_')) broker.reportError(error, 'handler');
  const isInner = INNER.has(code) || (status >= 500 && known.cause !== undefined);
  const message = isInner ? 'not available now; try again later' : known.message;
  const { field = FIELDS[code], retryAfter, headers: own = {} } = known as Partial<ApiError>;
  const headers: Record<string, string> = { ...JSON_HEADERS, ...own };
  if (status === 401) headers['WWW-Authenticate'] = 'Bearer';
  if (status === 429 || status === 503) {
    headers['Retry-After'] = String(Math.max(1, Math.ceil((retryAfter ?? usualDelay(broker)) / 1_000)));
  }
  return { status, headers, body: JSON.stringify({ error: { code, message, field } }) };
}

/** One to three times the usual wait, so that those who were turned away do not return as one. */
const usualDelay = (broker: HandlerBroker): number => (broker.options.retry || 3_000) * (1 + Math.random() * 2);
