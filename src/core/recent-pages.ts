/**
 * The last pages that were read, as long as nothing changes: clients that come back together ask for the same ones, and
 * get the same lists (see page-slices.ts).
 */
import type { BusEvent } from './event.js';

export interface RecentPage<Key> {
  /** The keys that have something after the cursor. */
  readonly keys: readonly Key[];
  readonly after: number;
  readonly limit: number;
  readonly max: number;
  readonly events: readonly BusEvent[];
  readonly more: boolean;
}

/** Pages that are remembered, and most characters of text of each: they keep events from being let go. */
const REMEMBERED = 16;
const PAGE_CHARS = 256 * 1024;

export class RecentPages<Key> {
  #pages: RecentPage<Key>[] = [];

  find(keys: readonly Key[], after: number, limit: number, max: number): RecentPage<Key> | undefined {
    for (const page of this.#pages) {
      if (page.after === after && page.limit === limit && page.max === max && isSame(page.keys, keys)) return page;
    }
    return undefined;
  }

  add(page: RecentPage<Key>): void {
    let chars = 0;
    for (const { data } of page.events) chars += data.length;
    if (page.events.length === 0 || chars > PAGE_CHARS) return;
    if (this.#pages.length === REMEMBERED) this.#pages.shift();
    this.#pages.push(page);
  }

  /** Something was added or dropped. */
  clear(): void {
    if (this.#pages.length > 0) this.#pages = [];
  }
}

function isSame<T>(left: readonly T[], right: readonly T[]): boolean {
  if (left.length !== right.length) return false;
  for (let i = 0; i < left.length; i++) if (left[i] !== right[i]) return false;
  return true;
}
