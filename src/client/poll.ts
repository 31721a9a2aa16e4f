/** Polling, for where streams do not get through: `createPollHandler` of this package answers it. */
import { BODY_START } from './constants.js';
import { SSEClientError } from './errors.js';

/** A block of a stream; without `text` it has an id only. */
export type Block = readonly [type: string, text: string | undefined, id: string | undefined];

/** The address to poll; undefined where there is none: it is not guessed for addresses that are not of a `/stream`. */
export function pollUrlOf(streamUrl: string, given: string | URL | undefined, wait: number): string | undefined {
  const url = new URL(given ?? streamUrl, streamUrl);
  if (!given) url.pathname = url.pathname.replace(/\/stream(?=\/|$)/, '/poll');
  if (url.href === streamUrl) return undefined;
  url.searchParams.set('wait', `${wait}`);
  return url.href;
}

/**
 * Reads `{ events: [{ id, type, data }], lastEventId, gap? }`. The last block is the cursor.
 *
 * @throws {SSEClientError} `SSE_CLIENT_CONTENT_TYPE` where it is something else
 */
export function readPoll(body: string): Block[] {
  try {
    const { events, lastEventId, gap } = JSON.parse(body) as {
      events: { id?: string; type: string; data: unknown }[];
      lastEventId?: string | null;
      gap?: unknown;
    };
    if (gap) events.unshift({ type: 'gap', data: gap });
    const blocks = events.map(({ type, data, id }): Block => {
      // As it would stand in the stream, so that `parse` is given the same.
      return [type, typeof data === 'string' ? data : JSON.stringify(data), id];
    });
    return [...blocks, ['', undefined, lastEventId || undefined]];
  } catch (cause) {
    throw new SSEClientError('SSE_CLIENT_CONTENT_TYPE', 'poll failed', { body: body.slice(0, BODY_START), cause });
  }
}
