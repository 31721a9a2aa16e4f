/** The headers of a response that is not a refusal, and which of them are the application's to choose. */
import { SseError, shown } from '../core/errors.js';
import type { ResolvedHandlerOptions } from './options.js';
import { acceptsGzip, type MediaType, type RequestLike } from './request.js';

/** Gives a stream's or an answer's headers. What it gives may be shared by many: {@link addVary} makes a copy. */
export type HeadersFor = (req: RequestLike, cors: Readonly<Record<string, string>>) => Headers;

/** Field names and values. */
type Headers = Readonly<Record<string, string>>;

/** The service's own, CORS, compression, and what the application adds. */
export function headersFor<Req, Context>(
  service: { readonly mediaType: MediaType; readonly headers: Headers },
  { compression, headers }: ResolvedHandlerOptions<Req, Context>,
): HeadersFor {
  const isCompressing = compression === 'gzip' && service.mediaType === 'text/event-stream';
  // Without CORS and compression all requests are answered alike.
  const plain = Object.freeze(withApplications(headers, { ...service.headers }));
  return (req, cors) => {
    if (cors === NO_HEADERS && !isCompressing) return plain;
    let all: Record<string, string> = { ...service.headers, ...cors };
    if (isCompressing) {
      all = addVary(all, 'Accept-Encoding');
      if (acceptsGzip(req)) all['Content-Encoding'] = 'gzip';
    }
    return withApplications(headers, all);
  };
}

/** No headers at all: what there is to add for CORS where that is off. */
export const NO_HEADERS: Headers = Object.freeze({});

function withApplications(headers: Headers, ours: Record<string, string>): Record<string, string> {
  let all = ours;
  for (const [name, value] of Object.entries(headers)) {
    if (name.toLowerCase() === 'vary') {
      all = addVary(all, value);
    } else {
      const known = Object.keys(all).find((one) => one.toLowerCase() === name.toLowerCase());
      all[known ?? name] = value;
    }
  }
  return all;
}

/** With one more reason for caches to keep answers apart; those that are there stay. */
export function addVary(headers: Headers, vary: string): Record<string, string> {
  return { ...headers, Vary: headers.Vary === undefined ? vary : `${headers.Vary}, ${vary}` };
}

/** What the handlers say about the body, and what belongs to the connection (RFC 9110, section 7.6.1). */
const NOT_TO_CHOOSE: ReadonlySet<string> = new Set([
  'content-type',
  'content-length',
  'content-encoding',
  'transfer-encoding',
  'connection',
  'keep-alive',
  'upgrade',
  'trailer',
]);

/** Whether `name` is a field name (RFC 9110, section 5.1). */
export const isHeaderName = (name: unknown): boolean =>
  typeof name === 'string' && /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(name);

/** @throws {SseError} `SSE_ERR_INVALID_OPTION` */
export function checkHeaders(headers: unknown): void {
  if (typeof headers !== 'object' || headers === null || Array.isArray(headers)) {
    refuse(`must be an object of names and values; got ${shown(headers)}`);
  }
  for (const [name, value] of Object.entries(headers)) {
    if (!isHeaderName(name)) refuse(`must have header names; got ${shown(name)}`);
    if (NOT_TO_CHOOSE.has(name.toLowerCase())) refuse(`must not have ${name}: it is the handler's to set`);
    // What Node sends (RFC 9110, section 5.5).
    if (typeof value !== 'string' || !/^[\t -~\x80-\xff]*$/.test(value)) {
      refuse(`must have values of printable characters; got ${shown(value)} for ${name}`);
    }
  }
}

function refuse(what: string): never {
  throw new SseError('SSE_ERR_INVALID_OPTION', `headers ${what}`);
}

/** Whether a response with these headers carries gzip. */
export const isGzip = (headers: Readonly<Record<string, string>>): boolean => headers['Content-Encoding'] === 'gzip';
