/** What the browser says about the page and the network. Outside of pages nothing is said, and nothing is listened to. */
import { web } from './web.js';

/**
 * - `online`, `offline`: the network is back, or gone
 * - `visibilitychange`
 * - `freeze`, `pagehide`: the page is about to stand still; nothing of it runs until `resume` or `pageshow`
 */
export type PageSignal = 'online' | 'offline' | 'visibilitychange' | 'freeze' | 'resume' | 'pagehide' | 'pageshow';

/** Listens until the returned function is called. */
export function watchPage(handler: (signal: PageSignal) => void): () => void {
  const own = new AbortController();
  // Pages and web workers have it; at the edge, listeners beyond the first turn are forbidden.
  if (web.navigator?.onLine !== undefined) {
    for (const name of ['online', 'offline', 'pagehide', 'pageshow', 'visibilitychange', 'freeze', 'resume'] as const) {
      // What happens at the document comes by the window first.
      web.addEventListener(name, () => handler(name), { signal: own.signal, capture: true });
    }
  }
  return () => own.abort();
}

/** What browsers call offline is; what they call online may be anything (HTML standard, section 8.8). */
export function isOffline(): boolean {
  return web.navigator?.onLine === false;
}

export function isHidden(): boolean {
  return web.document?.visibilityState === 'hidden';
}
