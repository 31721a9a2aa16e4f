/**
 * One way to read a request, whatever brought it: Node's `IncomingMessage` (HTTP/1 and 2), a Fetch `Request`, or the
 * objects that frameworks build on them.
 */

import { SseError, shown } from '../core/errors.js';
import { checkOptionNames } from '../core/option-names.js';

/** What the ready-made authenticators and resolvers need of a request. Node's and Fetch's have it. */
export interface RequestLike {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
  readonly headers: object;
}

/** Checks options that are names of query parameters. @throws {SseError} `SSE_ERR_INVALID_OPTION` */
export function checkParameters(maker: string, options: object, known: readonly string[]): void {
  checkOptionNames(maker, options, known);
  for (const [name, value] of Object.entries(options)) {
    if (value !== undefined && (typeof value !== 'string' || value === '')) {
      throw new SseError('SSE_ERR_INVALID_OPTION', `${name} must be a query parameter's name; got ${shown(value)}`);
    }
  }
}

const isFetchHeaders = (headers: object): headers is { get(name: string): string | null } =>
  typeof (headers as { get?: unknown }).get === 'function';

/** A header by its lower-case name; the values of a repeated one are joined by a comma. */
export function headerOf(req: RequestLike, name: string): string | undefined {
  if (isFetchHeaders(req.headers)) return req.headers.get(name) ?? undefined;
  const value = (req.headers as Record<string, string | string[] | undefined>)[name];
  return Array.isArray(value) ? value.join(', ') : value;
}

/** The query of a request's URL, as it stands there. */
function queryTextOf(req: RequestLike): string {
  const url = req.url ?? '';
  const mark = url.indexOf('?');
  if (mark === -1) return '';
  const hash = url.indexOf('#', mark);
  return url.slice(mark + 1, hash === -1 ? undefined : hash);
}

/** The query of a request's URL. */
export function queryOf(req: RequestLike): URLSearchParams {
  return new URLSearchParams(queryTextOf(req));
}

/** A query that means what it says: ASCII without escapes. (`URLSearchParams` passes over a `?` at its front.) */
const PLAIN = /^(?!\?)[!-$&-*,-~]*$/;

const NO_VALUES: readonly string[] = [];

/**
 * All values of a query parameter, as `URLSearchParams.getAll` gives them. Most queries need no decoding; taking one
 * apart as a whole was the dearest step of a connect (bench/README.md).
 */
export function parametersOf(req: RequestLike, name: string): readonly string[] {
  const query = queryTextOf(req);
  if (!PLAIN.test(query)) return new URLSearchParams(query).getAll(name);
  let values: string[] | undefined;
  for (let at = 0; at < query.length; ) {
    const ampersand = query.indexOf('&', at);
    const end = ampersand === -1 ? query.length : ampersand;
    const equals = query.indexOf('=', at);
    const nameEnd = equals === -1 || equals > end ? end : equals;
    // Two ampersands in a row hold nothing between them, not even a parameter without a name.
    if (end > at && nameEnd - at === name.length && query.startsWith(name, at)) {
      const value = query.slice(nameEnd + 1, end);
      if (values === undefined) values = [value];
      else values.push(value);
    }
    at = end + 1;
  }
  return values ?? NO_VALUES;
}

/** The first value of a query parameter; null where there is none. */
export function parameterOf(req: RequestLike, name: string): string | null {
  return parametersOf(req, name)[0] ?? null;
}

/**
 * A cookie by name (RFC 6265, section 4.2.1), percent-decoded where that is possible. Of several of that name the first,
 * which is the one with the longest path.
 */
export function cookieOf(req: RequestLike, name: string): string | undefined {
  for (const pair of (headerOf(req, 'cookie') ?? '').split(';')) {
    const equals = pair.indexOf('=');
    if (equals === -1 || trimmed(pair.slice(0, equals)) !== name) continue;
    const value = trimmed(pair.slice(equals + 1)).replace(/^"(.*)"$/, '$1');
    try {
      return decodeURIComponent(value);
    } catch {
      return value;
    }
  }
  return undefined;
}

/**
 * Without the white space of HTTP around it, which is less than `trim()` takes: a browser guards `__Host-token`, but lets
 * a sibling domain set "\u00a0__Host-token", and the two must not be the same here.
 */
const trimmed = (text: string): string => text.replace(/^[ \t]+/, '').replace(/(?<![ \t])[ \t]+$/, '');

/**
 * The cursor that a client comes with: the `Last-Event-ID` header, else the query parameters `lastEventId` and
 * `last_event_id`, which polyfills and first connects use. Empty means none (HTML standard, section 9.2.6).
 */
export function lastEventIdOf(req: RequestLike): string | undefined {
  const header = headerOf(req, 'last-event-id');
  if (header !== undefined && header !== '') return header;
  // Most have neither.
  if (!/last_?event_?id/i.test(req.url ?? '')) return undefined;
  return parameterOf(req, 'lastEventId') || parameterOf(req, 'last_event_id') || undefined;
}

/** How a client names its device, for an inbox: the header `Device-Id`, else the query parameter `device`. Empty means not. */
export function deviceOf(req: RequestLike): string | undefined {
  const header = headerOf(req, 'device-id');
  if (header !== undefined && header !== '') return header;
  // Most have neither.
  if (!req.url?.includes('device=')) return undefined;
  return parameterOf(req, 'device') || undefined;
}

/** What a handler answers with. */
export type MediaType = 'text/event-stream' | 'application/json';

/**
 * Whether the Accept header allows `mediaType` (RFC 9110, section 12.5.1); no header allows everything. The most specific
 * range that matches decides. Parameters other than the weight are not looked at.
 */
export function accepts(req: RequestLike, mediaType: MediaType): boolean {
  const accept = headerOf(req, 'accept');
  if (accept === undefined || accept === mediaType || accept === '*/*' || accept.trim() === '') return true;
  const ranges = ['*/*', `${mediaType.slice(0, mediaType.indexOf('/'))}/*`, mediaType];
  let decided = -1;
  let isAllowed = false;
  // A quoted parameter may hold commas and semicolons.
  for (const part of accept
    .toLowerCase()
    .replace(/"[^"]*"?/g, '')
    .split(',')) {
    const [range = '', ...parameters] = part.split(';').map((one) => one.trim());
    const precision = ranges.indexOf(range);
    if (precision === -1 || precision < decided) continue;
    const isRefused = parameters.some((parameter) => /^q=0(\.0{0,3})?$/.test(parameter));
    // The same range twice: one yes is enough.
    isAllowed = !isRefused || (precision === decided && isAllowed);
    decided = precision;
  }
  return isAllowed;
}

/** Whether the client takes gzip (RFC 9110, section 12.5.3). */
export function acceptsGzip(req: RequestLike): boolean {
  const weights = new Map<string, number>();
  for (const coding of (headerOf(req, 'accept-encoding') ?? '').toLowerCase().split(',')) {
    const [name = '', parameter = ''] = coding.split(';').map((part) => part.trim());
    weights.set(name, parameter.startsWith('q=') ? Number(parameter.slice(2)) : 1);
  }
  return (weights.get('gzip') ?? weights.get('*') ?? 0) > 0;
}

/**
 * Whether this looks like a browser's EventSource, which reads no status but 200 and gives up for good on every other.
 * It asks for nothing but an event stream, uncached; libraries on top of `fetch` do one or the other.
 */
export function isEventSource(req: RequestLike): boolean {
  return (
    headerOf(req, 'accept')?.trim().toLowerCase() === 'text/event-stream' &&
    /(^|,)\s*no-cache\s*(,|$)/i.test(headerOf(req, 'cache-control') ?? '')
  );
}
