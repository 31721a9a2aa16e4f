/** Where a request carries its token (RFC 6750, section 2, and cookies). Nothing here looks into the token. */
import { SseError, shown } from '../core/errors.js';
import { cookieOf, headerOf, parametersOf, type RequestLike } from '../http/request.js';

/**
 * One place to look for a token.
 *
 * - `'header'`: `Authorization: Bearer …` (RFC 6750, section 2.1). For `fetch` and our own client.
 * - `{ cookie: name }`: for a browser's EventSource, which cannot set headers.
 * - `{ query: name }`: a parameter of the URL (RFC 6750, section 2.3). **It ends up in access logs, in the browser's
 *   history and in whatever else records URLs**; only for short-lived tokens made for this purpose.
 */
export type TokenSource = 'header' | { readonly cookie: string } | { readonly query: string };

/** Gives the token of a request; undefined where it carries none. */
export type TokenReader = (req: RequestLike) => string | undefined;

// RFC 9110, section 5.6.2: what a cookie name is made of (RFC 6265, section 4.1.1).
const COOKIE_NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/**
 * Reads from the first of `sources` that has something: a request is to carry its token in one way only (RFC 6750,
 * section 2), so what stands in a later place is not looked at, not even when the first is refused.
 *
 * @throws {SseError} `SSE_ERR_INVALID_OPTION`
 */
export function tokenReader(sources: unknown): TokenReader {
  if (!Array.isArray(sources) || sources.length === 0) return refuse(sources);
  const readers = sources.map(readerOf);
  return (req) => {
    for (const read of readers) {
      const token = read(req);
      if (token !== undefined && token !== '') return token;
    }
    return undefined;
  };
}

function readerOf(source: unknown): TokenReader {
  if (source === 'header') return bearerOf;
  if (typeof source !== 'object' || source === null || Object.keys(source).length !== 1) return refuse(source);
  const { cookie, query } = source as { cookie?: unknown; query?: unknown };
  if (typeof cookie === 'string' && COOKIE_NAME.test(cookie)) return (req) => cookieOf(req, cookie);
  if (typeof query !== 'string' || query === '') return refuse(source);
  return (req) => {
    const [token, ...more] = parametersOf(req, query);
    // Which of them an earlier proxy looked at is anybody's guess.
    if (more.length > 0) throw new SseError('SSE_ERR_UNAUTHENTICATED', `${shown(query)} stands in the URL twice`);
    return token;
  };
}

function bearerOf(req: RequestLike): string | undefined {
  const header = headerOf(req, 'authorization');
  // The scheme is case-insensitive (RFC 9110, section 11.1). Another scheme is somebody else's.
  return header !== undefined && /^bearer(?: |$)/i.test(header) ? header.slice('bearer'.length).trim() : undefined;
}

function refuse(value: unknown): never {
  throw new SseError(
    'SSE_ERR_INVALID_OPTION',
    `tokenFrom must be a list of 'header', { cookie: name } and { query: name }; got ${shown(value)} in it`,
  );
}
