/** What a client is answered when it does not get a stream. */
import { shedDelay } from '../core/admission.js';
import { isSseError, SseError } from '../core/errors.js';
import { closingOf, type HandlerBroker } from './arrival.js';
import type { RefusalStyle } from './options.js';

/** An answer that any kind of handler can send. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Methods of an event stream. */
export const ALLOW = 'GET, HEAD, OPTIONS';

/** Whether it may be the callbacks that failed, not the client. */
const isFailing = (status = 500): boolean => status === 401 || status >= 500;

/** Whether a status says "later": an EventSource must not take that for good, whatever the reason is. */
const isLater = (status: number): boolean => status === 429 || status === 503;

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
  // What the application asks may be closed along with the broker, and the next node knows better.
  if (isFailing(known.status)) known = closingOf(broker) ?? known;
  broker.refused(known);
  const { code, message, status = 500 } = known;
  const delay = shedDelay(broker.options);
  if (isLater(status) && styleOf(broker, style) === 'stream') {
    return { status: 200, headers: { ...STREAM_HEADERS }, body: `retry: ${delay}\n: ${code}\n\n` };
  }
  if (status === 204) return { status, headers: { 'Cache-Control': 'no-store' }, body: '' };
  const headers: Record<string, string> = {
    'Content-Type': 'application/json; charset=utf-8',
    'Cache-Control': 'no-store',
  };
  if (status === 401) headers['WWW-Authenticate'] = 'Bearer';
  if (status === 405) headers.Allow = ALLOW;
  if (isLater(status)) headers['Retry-After'] = String(Math.ceil(delay / 1_000));
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
