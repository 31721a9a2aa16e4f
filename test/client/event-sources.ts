/** Every EventSource that people use, behind one face: those of Node here, those of a browser as scripts for a page. */
import { EventSource as EventSourcePackage } from 'eventsource';
import { createEventSource } from 'eventsource-client';
import type { Page } from 'playwright-core';
import { EventSource as EventSourceOfUndici } from 'undici';
import { bundle } from '../support/bundle.js';

/** An event as the application sees it. */
export interface SeenEvent {
  readonly type: string;
  readonly data: string;
  readonly id: string | undefined;
}

/** An open one. */
export interface OpenedSource {
  /** All events so far, in order. */
  seen(): Promise<readonly SeenEvent[]>;
  close(): Promise<void>;
}

/** Opens `url` and listens to `types`. */
export type OpenSource = (url: string, types: readonly string[]) => Promise<OpenedSource>;

/** The part of the DOM's EventSource that listening needs. */
interface EventTargetLike {
  addEventListener(type: string, listener: (event: { data: string; lastEventId: string }) => void): void;
  close(): void;
}

function listenTo(source: EventTargetLike, types: readonly string[]): OpenedSource {
  const seen: SeenEvent[] = [];
  for (const type of types) {
    source.addEventListener(type, ({ data, lastEventId }) => seen.push({ type, data, id: lastEventId }));
  }
  return { seen: async () => seen, close: async () => source.close() };
}

export const NODE_SOURCES: Readonly<Record<string, OpenSource>> = {
  eventsource: async (url, types) => listenTo(new EventSourcePackage(url) as EventTargetLike, types),
  undici: async (url, types) => listenTo(new EventSourceOfUndici(url) as unknown as EventTargetLike, types),
  'eventsource-client': async (url, types) => {
    const seen: SeenEvent[] = [];
    const source = createEventSource({
      url,
      onMessage: ({ event = 'message', data, id }) => {
        if (types.includes(event)) seen.push({ type: event, data, id });
      },
    });
    return { seen: async () => seen, close: async () => source.close() };
  },
};

/** Scripts that define `open(url, types, push)` and return how to close. */
const PAGE_SCRIPTS: Readonly<Record<string, string>> = {
  '@microsoft/fetch-event-source': `
    import { fetchEventSource } from '@microsoft/fetch-event-source';
    globalThis.open = (url, types, push) => {
      const controller = new AbortController();
      fetchEventSource(url, {
        signal: controller.signal,
        openWhenHidden: true,
        // It takes the empty line behind a comment for an event without a name and without data; so its users pass over those.
        onmessage: ({ event, data, id }) => {
          if (event === '' && data === '') return;
          const type = event || 'message';
          if (types.includes(type)) push({ type, data, id });
        },
        // Its way to reconnect after an end: its readme says to throw.
        onclose: () => { throw new Error('ended'); },
      });
      return () => controller.abort();
    };`,
  'reconnecting-eventsource': `
    import ReconnectingEventSource from 'reconnecting-eventsource';
    globalThis.open = (url, types, push) => {
      const source = new ReconnectingEventSource(url, { max_retry_time: 500 });
      for (const type of types) source.addEventListener(type, ({ data, lastEventId }) => push({ type, data, id: lastEventId }));
      return () => source.close();
    };`,
  'event-source-polyfill': `
    import { EventSourcePolyfill } from 'event-source-polyfill';
    globalThis.open = (url, types, push) => {
      const source = new EventSourcePolyfill(url);
      for (const type of types) source.addEventListener(type, ({ data, lastEventId }) => push({ type, data, id: lastEventId }));
      return () => source.close();
    };`,
};

export const PAGE_SOURCES = Object.keys(PAGE_SCRIPTS);

/** Loads the library of that name into `page`, which is on the origin of the stream already. */
export async function sourceInPage(page: Page, name: string): Promise<OpenSource> {
  await page.addScriptTag({ content: await bundle(PAGE_SCRIPTS[name]!) });
  return async (url, types) => {
    const handle = await page.evaluateHandle(
      `(() => {
        const seen = [];
        const close = globalThis.open(${JSON.stringify(url)}, ${JSON.stringify(types)}, (event) => seen.push(event));
        return { seen, close };
      })()`,
    );
    return {
      seen: () => handle.evaluate(({ seen }) => seen as SeenEvent[]),
      close: () => handle.evaluate(({ close }) => close()) as Promise<void>,
    };
  };
}
