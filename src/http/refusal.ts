/** What a client is answered when it does not get a stream. */
import { shedDelay } from '../core/admission.js';
import { isSseError, SseError } from '../core/errors.js';
import type { HandlerBroker } from './arrival.js';
import type { RefusalStyle } from './options.js';

/** An answer that any kind of handler can send. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Methods of an event stream. */
export const ALLOW = 'GET, HEAD, OPTIONS';

/** Refusals that come again later: an EventSource must not take them for good. */
const SHEDDING: ReadonlySet<string> = new Set([
  'SSE_ERR_TOO_MANY_CONNECTIONS',
  'SSE_ERR_TOO_MANY_USER_CONNECTIONS',
  'SSE_ERR_BROKER_CLOSED',
  'SSE_ERR_BUS_UNAVAILABLE',
  'SSE_ERR_AUTHENTICATION_TIMEOUT',
  'SSE_ERR_AUTHENTICATION_UNAVAILABLE',
]);

/** Response headers of every stream. */
export const STREAM_HEADERS: Readonly<Record<string, string>> = Object.freeze({
  'Content-Type': 'text/event-stream; charset=utf-8',
  // no-transform keeps compression middleware and proxies from holding events back.
  'Cache-Control': 'no-cache, no-transform',
  'X-Accel-Buffering': 'no',
});

/** Statuses that refuse, and 204, after which a browser's EventSource stays away (HTML standard, section 9.2.3). */
const canRefuse = (status: number | undefined): boolean =>
  status === 204 || (Number.isInteger(status) && status! >= 400 && status! <= 599);

/**
 * What `error` becomes for the client; errors of unknown kind are reported and become a 500 that says nothing. Never
 * throws, whatever the application made of the error and of `style`.
 */
export function refusalOf(broker: HandlerBroker, error: unknown, style: () => RefusalStyle): Answer {
  let known: SseError;
  if (isSseError(error) && canRefuse(error.status)) {
    known = error;
  } else {
    broker.reportError(error, 'handler');
    known = new SseError('SSE_ERR_INTERNAL', 'the stream could not be opened');
  }
  broker.refused(known);
  const delay = shedDelay(broker.options);
  if (SHEDDING.has(known.code) && styleOf(broker, style) === 'stream') {
    return { status: 200, headers: { ...STREAM_HEADERS }, body: `retry: ${delay}\n: ${known.code}\n\n` };
  }
  const { code, message, status = 500 } = known;
  if (status === 204) return { status, headers: { 'Cache-Control': 'no-store' }, body: '' };
  const headers: Record<string, string> = {
    'Content-Type': 'application/json; charset=utf-8',
    'Cache-Control': 'no-store',
  };
  if (status === 401) headers['WWW-Authenticate'] = 'Bearer';
  if (status === 405) headers.Allow = ALLOW;
  if (status === 429 || status === 503) headers['Retry-After'] = String(Math.ceil(delay / 1_000));
  return { status, headers, body: JSON.stringify({ error: { code, message } }) };
}

function styleOf(broker: HandlerBroker, style: () => RefusalStyle): RefusalStyle {
  try {
    return style();
  } catch (error) {
    broker.reportError(error, 'handler');
    return 'status';
  }
}
