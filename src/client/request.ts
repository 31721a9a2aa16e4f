/** One request: headers, credentials, and redirects that do not take them along. */
import type { Options } from './options.js';

/**
 * Fetches; `headers` and cookies stay with the origin of `url`.
 *
 * A page is not told where a redirect goes before it follows it. So redirects are not followed at first; where there is
 * one, a request without credentials finds out where it ends. At the same origin: once more, there, with everything. At
 * another: that answer is what there is.
 */
export async function request(
  { fetch, withCredentials }: Options,
  url: string,
  accept: string,
  lastEventId: string,
  headers: Headers,
  signal: AbortSignal,
): Promise<Response> {
  const send = (to: string, redirect: 'manual' | 'follow') => {
    const isFirst = redirect === 'manual';
    const all = new Headers(isFirst ? headers : {});
    if (!all.has('accept')) all.set('accept', accept);
    // The id as UTF-8, as EventSource sends it (HTML standard, section 9.2.3): `fetch` wants one character for each byte.
    // One that does not fit into a header would fail every attempt.
    if (canSend(lastEventId)) all.set('last-event-id', String.fromCharCode(...new TextEncoder().encode(lastEventId)));
    const init = {
      headers: all,
      signal,
      redirect,
      // Runtimes without these settings (workers at the edge) refuse requests that have them.
      ...('credentials' in Request.prototype && {
        credentials: isFirst && withCredentials ? 'include' : 'same-origin',
        cache: 'no-store',
      }),
    };
    return fetch(to, init as RequestInit);
  };

  const response = await send(url, 'manual');
  // Pages see 0 in place of a redirect's status (Fetch standard, "opaque-redirect filtered response").
  if (!/^0|30[12378]/.test(`${response.status}`)) return response;
  discard(response.body);
  const found = await send(url, 'follow');
  if (!found.redirected || new URL(found.url).origin !== new URL(url).origin) return found;
  discard(found.body);
  return send(found.url, 'manual');
}

/** True for an id that fits into a header. */
export const canSend = (id: string): boolean => /^\P{Cc}{1,4096}$/u.test(id);

/** An address, from where the page is, or says it is (`<base>`): as `fetch` sees it. Throws where it is none. */
export const hrefOf = (url: string | URL): string => new Request(url).url;

/** Takes the bytes of a body, one chunk after the other. */
export type BodyReader = ReadableStreamDefaultReader<Uint8Array>;

/** Lets go of a body, or of what reads it. */
export function discard(body: ReadableStream | BodyReader | null | undefined): void {
  body?.cancel().catch(() => {});
}

/**
 * What comes of a body, as text, up to `limit` characters. It is not let go of.
 *
 * @throws what the body fails with
 */
export async function textOf(reader: BodyReader | undefined, limit: number): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  while (reader && text.length < limit) {
    const { done, value } = await reader.read();
    if (done) break;
    text += decoder.decode(value, { stream: true });
  }
  return text.slice(0, limit);
}

/** `Retry-After` in ms from now (RFC 9110, section 10.2.3): seconds, or a date; not positive where there is none. */
export function retryAfterOf(headers: Headers | undefined): number {
  const value = headers?.get('retry-after') ?? '';
  return +value * 1_000 || Date.parse(value) - Date.now() || 0;
}
