/** The last id: above every connection, and over page loads where that is asked for. */
import { nameOf, type Options } from './options.js';
import { type Store, web } from './web.js';

export interface Cursor {
  /** Empty where there is none yet. */
  id: string;
  /** Reads what an earlier page left, unless there is an id already. */
  load(): void;
  /** Leaves it to the next page. */
  save(): void;
}

export function createCursor(settings: () => Options): Cursor {
  // Storage may be missing, full, or forbidden to the page; the stream works without.
  const use = (how: (storage: Store, key: string) => void) => {
    const options = settings();
    const kind = options.persistLastEventId;
    try {
      if (kind) how(web[`${kind}Storage`], nameOf(options));
    } catch {}
  };
  const cursor: Cursor = {
    id: settings().lastEventId,
    load: () =>
      use((storage, key) => {
        cursor.id ||= storage.getItem(key) ?? '';
      }),
    save: () => use((storage, key) => storage.setItem(key, cursor.id)),
  };
  return cursor;
}
