/** A page whose native EventSource writes down all that it sees. */
import { until } from './until.js';

/** One thing that happened to an EventSource. */
export interface Seen {
  readonly type: string;
  /** ms since the page was loaded. */
  readonly at: number;
  /** 0 connecting, 1 open, 2 closed for good. */
  readonly readyState: number;
  readonly data?: string;
  readonly lastEventId?: string;
}

/** Serve this as the page; then {@link listenIn} opens a stream in it. */
export const PAGE = '<!doctype html><meta charset="utf-8"><title>EventSource</title>';

/** A page of whichever browser. */
export interface ScriptablePage {
  evaluateHandle(script: string): Promise<{ jsonValue(): Promise<unknown> }>;
}

export interface PageStream {
  /** All so far, in order. */
  seen(): Promise<Seen[]>;
  /** Waits for the `count`th of that type. */
  next(type: string, count?: number): Promise<Seen>;
}

/** `new EventSource(url)` in `page`, with listeners for these event names, `open` and `error`. */
export async function listenIn(
  page: ScriptablePage,
  url: string,
  names: readonly string[] = [],
  init: { withCredentials?: boolean } = {},
): Promise<PageStream> {
  const types = ['open', 'error', 'message', 'connected', 'closing', 'gap', ...names];
  const handle = await page.evaluateHandle(`(() => {
    const seen = [];
    const source = new EventSource(${JSON.stringify(url)}, ${JSON.stringify(init)});
    for (const type of ${JSON.stringify(types)}) {
      source.addEventListener(type, ({ data, lastEventId }) => {
        seen.push({ type, at: performance.now(), readyState: source.readyState, data, lastEventId });
      });
    }
    return seen;
  })()`);
  const seen = () => handle.jsonValue() as Promise<Seen[]>;
  return {
    seen,
    next: (type, count = 1) =>
      until(async () => (await seen()).filter((one) => one.type === type)[count - 1], `${count} × ${type} in the page`),
  };
}
