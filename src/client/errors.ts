/**
 * The error of the client. It has a class of its own, because nothing of the server may end in a page; codes begin with
 * `SSE_CLIENT_`, and docs/reference/client.md has a heading for each.
 */

/** What can go wrong, as a stable code. */
export type SSEClientErrorCode =
  | 'SSE_CLIENT_NETWORK'
  | 'SSE_CLIENT_TIMEOUT'
  | 'SSE_CLIENT_SILENT'
  | 'SSE_CLIENT_STATUS'
  | 'SSE_CLIENT_CONTENT_TYPE'
  | 'SSE_CLIENT_TOO_LARGE'
  | 'SSE_CLIENT_CALLBACK'
  | 'SSE_CLIENT_HANDLER'
  | 'SSE_CLIENT_OPTION'
  | 'SSE_CLIENT_DESTROYED';

/** What {@link SSEClientError} takes besides code and message. */
export interface SSEClientErrorOptions {
  /** HTTP status. */
  status?: number | undefined;
  /** Start of the response's body. */
  body?: string | undefined;
  /** Whether the client tries again by itself; by default what goes with the code. */
  retryable?: boolean | undefined;
  /** The error underneath. */
  cause?: unknown;
}

/** The error of this client. Recognise it by `name` or `code`: a page may hold two copies of the class. */
export class SSEClientError extends Error {
  override readonly name = 'SSEClientError';
  // Declared, for without that each is assigned twice.
  declare readonly code: SSEClientErrorCode;
  /** HTTP status, where a response came. */
  declare readonly status: number | undefined;
  /** The first 1024 characters of a response that is not a stream. */
  declare readonly body: string | undefined;
  /** True where trying again can help; the client does so by itself, unless `reconnect` is false. */
  declare readonly retryable: boolean;

  constructor(code: SSEClientErrorCode, message: string, options: SSEClientErrorOptions = {}) {
    super(message, options);
    Object.assign(this, { retryable: /NET|TIME|SIL|LAR|CAL/.test(code), ...options, code });
  }
}
