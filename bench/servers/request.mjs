/** How the hand-written servers read who asks and for what: the least an application could do. */

/** @param {string} url */
export function userOf(url) {
  const at = url.indexOf('user_id=');
  if (at === -1) return '';
  const end = url.indexOf('&', at);
  return url.slice(at + 8, end === -1 ? undefined : end);
}

/** @param {string} url */
export function topicsOf(url) {
  const at = url.indexOf('topics=');
  if (at === -1) return [];
  const end = url.indexOf('&', at);
  return url.slice(at + 7, end === -1 ? undefined : end).split(',');
}

/** A map from a name to those who listen to it; the last to leave takes the entry along. */
export class Listeners {
  /** @type {Map<string, Set<any>>} */
  #sets = new Map();

  /** @param {string} name @param {unknown} listener */
  add(name, listener) {
    const set = this.#sets.get(name);
    if (set === undefined) this.#sets.set(name, new Set([listener]));
    else set.add(listener);
  }

  /** @param {string} name @param {unknown} listener */
  delete(name, listener) {
    const set = this.#sets.get(name);
    if (set === undefined) return;
    set.delete(listener);
    if (set.size === 0) this.#sets.delete(name);
  }

  /** @param {string} name @returns {Iterable<any>} */
  of(name) {
    return this.#sets.get(name) ?? NOBODY;
  }
}

/** @type {never[]} */
const NOBODY = [];

export const EVENT_STREAM_HEADERS = {
  'Content-Type': 'text/event-stream',
  'Cache-Control': 'no-cache, no-transform',
  Connection: 'keep-alive',
};
