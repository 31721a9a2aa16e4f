/** Cross-origin access (Fetch standard, section 3.3). Without the option no header is sent, so browsers refuse. */
import { SseError, shown } from '../core/errors.js';
import { headerOf, type RequestLike } from './request.js';
import { isHeaderName, NO_HEADERS } from './response-headers.js';

/** Which other origins may read the stream. */
export interface CorsOptions {
  /**
   * `'*'` for any origin, an origin (`https://app.example`), several, a pattern, or a function. A pattern is matched
   * against the whole origin: anchor it.
   */
  origin: '*' | string | readonly string[] | RegExp | ((origin: string) => boolean);
  /** Allows cookies and HTTP authentication (`withCredentials`). Not together with `'*'`. Default false. */
  credentials?: boolean | undefined;
  /**
   * Request headers a page may send, for the preflight. Default `Authorization`, `Cache-Control`, `Device-Id`. `Last-Event-ID` is
   * always among them: without it the first connection works, and browsers stop every client that comes back.
   */
  allowedHeaders?: readonly string[] | undefined;
  /** How long browsers remember a preflight, in seconds. Default 600. */
  maxAge?: number | undefined;
}

const KNOWN: readonly string[] = ['origin', 'credentials', 'allowedHeaders', 'maxAge'];
const DEFAULT_ALLOWED_HEADERS = ['Authorization', 'Cache-Control', 'Device-Id'];

/** Gives the CORS headers for a request; none where its origin is not allowed. */
export type Cors = (req: RequestLike, isPreflight: boolean) => Readonly<Record<string, string>>;

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
export function resolveCors(options: CorsOptions | undefined): Cors {
  if (options === undefined) return () => NO_HEADERS;
  if (typeof options !== 'object' || options === null) return refuse('cors', options, 'an object with origin');
  for (const name of Object.keys(options)) {
    if (!KNOWN.includes(name)) refuse('cors', name, `an object of ${KNOWN.join(', ')}`);
  }
  const { origin, credentials = false, allowedHeaders = DEFAULT_ALLOWED_HEADERS, maxAge = 600 } = options;
  if (typeof credentials !== 'boolean') refuse('cors.credentials', credentials, 'true or false');
  if (!Number.isSafeInteger(maxAge) || maxAge < 0)
    refuse('cors.maxAge', maxAge, 'a whole number of seconds, 0 or more');
  if (!Array.isArray(allowedHeaders) || !allowedHeaders.every(isHeaderName)) {
    refuse('cors.allowedHeaders', allowedHeaders, 'a list of header names');
  }
  if (origin === '*' && credentials) {
    throw new SseError(
      'SSE_ERR_INVALID_OPTION',
      "cors.origin '*' cannot go with cors.credentials: browsers refuse it; list the origins",
    );
  }
  const isAllowed = matcherOf(origin);
  const isCursorListed = allowedHeaders.some((name) => name.toLowerCase() === 'last-event-id');
  const headerList = [...allowedHeaders, ...(isCursorListed ? [] : ['Last-Event-ID'])].join(', ');
  return (req, isPreflight) => {
    const asked = headerOf(req, 'origin');
    // What is answered depends on the origin, so a cache must keep the answers apart.
    const headers: Record<string, string> = origin === '*' ? {} : { Vary: 'Origin' };
    if (asked === undefined || !isAllowed(asked)) return headers;
    headers['Access-Control-Allow-Origin'] = origin === '*' ? '*' : asked;
    if (credentials) headers['Access-Control-Allow-Credentials'] = 'true';
    if (isPreflight) {
      headers['Access-Control-Allow-Methods'] = 'GET';
      headers['Access-Control-Allow-Headers'] = headerList;
      headers['Access-Control-Max-Age'] = String(maxAge);
    } else {
      headers['Access-Control-Expose-Headers'] = 'Retry-After';
    }
    return headers;
  };
}

function matcherOf(origin: CorsOptions['origin']): (asked: string) => boolean {
  if (origin === '*') return () => true;
  if (typeof origin === 'function') return (asked) => origin(asked) === true;
  // A sticky or global pattern would remember where it stopped.
  if (origin instanceof RegExp) {
    const pattern = new RegExp(origin.source, origin.flags.replace(/[gy]/g, ''));
    return (asked) => pattern.test(asked);
  }
  const origins: unknown = typeof origin === 'string' ? [origin] : origin;
  if (!Array.isArray(origins) || origins.length === 0) {
    return refuse('cors.origin', origin, "'*', an origin, a list of origins, a RegExp or a function");
  }
  for (const one of origins) {
    if (!isOrigin(one))
      refuse('cors.origin', one, "scheme://host[:port] as browsers send it, '*' on its own, or a RegExp");
  }
  const allowed = new Set<string>(origins);
  return (asked) => allowed.has(asked);
}

/** Whether a browser could ever send it: with a path, a slash at its end or a default port it would match nothing. */
function isOrigin(value: unknown): boolean {
  if (typeof value !== 'string' || value.includes('*')) return false;
  // What sandboxed frames and files send (Fetch standard, section 3.2).
  if (value === 'null') return true;
  if (/^https?:/.test(value)) return URL.canParse(value) && new URL(value).origin === value;
  // Applications have schemes of their own: capacitor://localhost, chrome-extension://….
  return /^[a-z][a-z0-9+.-]*:\/\/[^/?#@\s]+$/.test(value);
}

function refuse(option: string, value: unknown, allowed: string): never {
  throw new SseError('SSE_ERR_INVALID_OPTION', `${option} must be ${allowed}; got ${shown(value)}`);
}
