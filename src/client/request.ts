/** One request: headers, credentials, and redirects that do not take them along. */
import type { Options } from './options.js';
import { web } from './web.js';

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
  headers: Readonly<Record<string, string>> | undefined,
  signal: AbortSignal,
): Promise<Response> {
  const send = (to: string, redirect: 'manual' | 'follow') => {
    const isFirst = redirect === 'manual';
    const all = new Headers(isFirst ? headers : {});
    if (!all.has('accept')) all.set('accept', accept);
    // The id as UTF-8, as EventSource sends it (HTML standard, section 9.2.3): `fetch` wants one character for each byte.
    // One that does not fit into a header would fail every attempt.
    if (/^[ -~-￿]{1,4096}$/.test(lastEventId))
      all.set('last-event-id', String.fromCharCode(...new TextEncoder().encode(lastEventId)));
    const init = {
      headers: all,
      signal,
      redirect,
      // Runtimes without these settings (workers at the edge) refuse requests that have them.
      ...(typeof Request === 'function' &&
        'credentials' in Request.prototype && {
          credentials: isFirst && withCredentials ? 'include' : 'same-origin',
          cache: 'no-store',
        }),
    };
    return fetch(to, init as RequestInit);
  };

  const response = await send(url, 'manual');
  // Pages see no status of a redirect (Fetch standard, "opaque-redirect filtered response").
  if (response.type !== 'opaqueredirect' && !/30[12378]/.test(String(response.status))) return response;
  discard(response);
  const found = await send(url, 'follow');
  if (!found.redirected || new URL(found.url).origin !== new URL(url).origin) return found;
  discard(found);
  return send(found.url, 'manual');
}

/** An address, from where the page is. Throws where it is none. */
export const hrefOf = (url: string | URL): string => new URL(url, web.location?.href).href;

/** Lets go of a body that nobody reads. */
export function discard(response: Response): void {
  response.body?.cancel().catch(() => {});
}

/**
 * A body as text, up to `limit` characters; the rest is let go. `onReader` is given what ends the reading earlier.
 *
 * @throws what the body fails with
 */
export async function textOf(
  response: Response,
  limit: number,
  onReader?: (cancel: () => void) => void,
): Promise<string> {
  const reader = response.body?.getReader();
  const cancel = () => void reader?.cancel().catch(() => {});
  onReader?.(cancel);
  const decoder = new TextDecoder();
  let text = '';
  try {
    while (reader && text.length < limit) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
    }
  } finally {
    cancel();
  }
  return text.slice(0, limit);
}

/** `Retry-After` in ms from now (RFC 9110, section 10.2.3): seconds, or a date; not positive where there is none. */
export function retryAfterOf(headers: Headers | undefined): number {
  const value = headers?.get('retry-after') ?? '';
  return +value * 1_000 || Date.parse(value) - Date.now() || 0;
}
