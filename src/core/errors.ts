/**
 * The one error class of the package and the table of its codes.
 *
 * A code is stable: programs branch on it, docs/reference/errors.md has a heading for each, and a test
 * compares the two. A message is for people: it names what was received and what to do, never a secret.
 */

interface ErrorKind {
  /** HTTP status that the handlers answer with when this error refuses a request. */
  readonly status?: number;
  /** True when the same call may succeed later without a change. */
  readonly retryable?: boolean;
}

/** Every code with its HTTP status and whether trying again can help. */
export const ERROR_CODES = Object.freeze({
  SSE_ERR_INVALID_OPTION: {},
  SSE_ERR_INVALID_USER: { status: 400 },
  SSE_ERR_INVALID_TOPIC: { status: 400 },
  SSE_ERR_INVALID_TENANT: { status: 400 },
  SSE_ERR_INVALID_CLIENT: { status: 400 },
  SSE_ERR_INVALID_EVENT_NAME: { status: 400 },
  SSE_ERR_RESERVED_EVENT_NAME: { status: 400 },
  SSE_ERR_INVALID_DATA: { status: 400 },
  SSE_ERR_EVENT_TOO_LARGE: { status: 413 },
  SSE_ERR_TOPICS_DISABLED: { status: 403 },
  SSE_ERR_TOO_MANY_TOPICS: { status: 403 },
  SSE_ERR_UNKNOWN_CLIENT: { status: 404 },
  SSE_ERR_UNKNOWN_MESSAGE: { status: 404 },
  SSE_ERR_BROKER_CLOSED: { status: 503 },
  SSE_ERR_BUS_UNAVAILABLE: { status: 503, retryable: true },
  SSE_ERR_HISTORY_UNUSABLE: { status: 503 },
  SSE_ERR_STORE_UNAVAILABLE: { status: 503, retryable: true },
  SSE_ERR_STORE_UNUSABLE: { status: 503 },
  SSE_ERR_INVALID_BUS_EVENT: { status: 500 },
  SSE_ERR_CLUSTER_TIMEOUT: { status: 503, retryable: true },
  SSE_ERR_UNAUTHENTICATED: { status: 401 },
  SSE_ERR_AUTHENTICATION_TIMEOUT: { status: 503, retryable: true },
  SSE_ERR_AUTHENTICATION_UNAVAILABLE: { status: 503, retryable: true },
  SSE_ERR_FORBIDDEN: { status: 403 },
  SSE_ERR_METHOD_NOT_ALLOWED: { status: 405 },
  SSE_ERR_NOT_ACCEPTABLE: { status: 406 },
  SSE_ERR_INVALID_REQUEST: { status: 400 },
  SSE_ERR_NOT_FOUND: { status: 404 },
  SSE_ERR_IDEMPOTENCY_CONFLICT: { status: 409 },
  SSE_ERR_BODY_TOO_LARGE: { status: 413 },
  SSE_ERR_UNSUPPORTED_MEDIA_TYPE: { status: 415 },
  SSE_ERR_RATE_LIMITED: { status: 429, retryable: true },
  SSE_ERR_TOO_MANY_CONNECTIONS: { status: 503, retryable: true },
  SSE_ERR_TOO_MANY_USER_CONNECTIONS: { status: 429, retryable: true },
  SSE_ERR_STREAM_FAILED: {},
  SSE_ERR_LISTENER_FAILED: {},
  SSE_ERR_PACKAGE_MISSING: { status: 500 },
  SSE_ERR_INTERNAL: { status: 500 },
} satisfies Record<string, ErrorKind>);

/** One of the stable error codes; each has its heading in docs/reference/errors.md. */
export type ErrorCode = keyof typeof ERROR_CODES;

const BRAND = Symbol.for('sse-broker.error');

/** What {@link SseError} takes besides code and message. */
export interface SseErrorOptions {
  /** The error underneath, for logs; it is never sent to a client. */
  cause?: unknown;
  /** HTTP status; the code's own by default. */
  status?: number;
  /** Whether trying again can help; the code's own answer by default. */
  retryable?: boolean;
}

/**
 * The error of this package. Recognise it with {@link isSseError}, not with `instanceof`: an application
 * may load the ESM and the CommonJS build side by side.
 */
export class SseError extends Error {
  override readonly name = 'SseError';
  readonly code: ErrorCode;
  /** The HTTP status that goes with it, where one does. */
  readonly status: number | undefined;
  /** True when the same call may succeed later without a change. */
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, options: SseErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    // JavaScript knows no types of codes.
    const kind: ErrorKind = ERROR_CODES[code] ?? {};
    this.code = code;
    this.status = options.status ?? kind.status;
    this.retryable = options.retryable ?? kind.retryable ?? false;
    Object.defineProperty(this, BRAND, { value: true });
  }
}

/** True for an {@link SseError} of any copy of this package. Throws for nothing, whatever an application throws. */
export function isSseError(value: unknown): value is SseError {
  try {
    return typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[BRAND] === true;
  } catch {
    return false;
  }
}

/** What a bus failed with: an error of ours as it is, any other as the cause of one that says that the bus did not do `what`. */
export function busFailure(what: string, cause: unknown): SseError {
  return isSseError(cause) ? cause : new SseError('SSE_ERR_BUS_UNAVAILABLE', `${what}; see cause`, { cause });
}

/** `value` as it may stand in a message: short, on one line, quoted where it is a string. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object';
  return typeof value === 'function' ? 'a function' : String(value);
}
