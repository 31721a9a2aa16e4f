/**
 * From block to handler: duplicates are left out, events without a taker or while paused wait, and come in order.
 *
 * Nothing is allocated for an event but the event. Duplicates are told by id, and only where an event has data: the
 * server's own events carry ids of others (docs/reference/wire.md).
 */
import { MOST_IDS } from './constants.js';
import type { Cursor } from './cursor.js';
import { jsonOf, type Options } from './options.js';
import type { SSEEvent, SSEStats } from './types.js';

/** The server's own events: they are not counted as duplicates, and do not wait. */
const CONTROL = /^(connected|heartbeat|gap|closing)$/;

export interface DeliveryHost {
  /** Gives an event to those who take it; false where nobody does. */
  dispatch(event: SSEEvent): boolean;
  /** `parse` of the application threw: the event goes out with its text. */
  error(cause: unknown): void;
  /** Events up to `resumedFrom` were lost while paused. */
  gap(resumedFrom: string): void;
}

/** Part of what `getStats()` gives; the client counts on in it. */
export type Counts = {
  -readonly [Name in
    | 'messagesReceived'
    | 'lastMessageTime'
    | 'duplicates'
    | 'dropped'
    | 'gaps'
    | 'bytes'
    | 'reconnectCount']: SSEStats[Name];
};

export interface Delivery {
  /** A block; gives its event, undefined for a duplicate or an id without data. */
  block(type: string, text: string | undefined, id: string | undefined): SSEEvent | undefined;
  /** The blocks of so many bytes have been told, all at one time. */
  took(bytes: number): void;
  /** A connection, or a poll, is over: what it brought is a duplicate from now on. */
  renew(): void;
  /** Somebody takes more than before: what waits for that goes out with the next event, or with this turn. */
  wake(): void;
  /** What waits: 0 nothing; 1 events; 2 gaps, too. A gap comes through where a snapshot is loaded: it makes that one useless. */
  pause(level: 0 | 1 | 2): void;
  clear(): number;
  readonly counts: Counts;
}

export function createDelivery(settings: () => Options, cursor: Cursor, host: DeliveryHost): Delivery {
  const counts: Counts = {
    messagesReceived: 0,
    lastMessageTime: null,
    duplicates: 0,
    dropped: 0,
    gaps: 0,
    bytes: 0,
    reconnectCount: 0,
  };
  /** The ids of earlier connections: duplicates have one of these. Several events of one connection may have the same. */
  let earlier = new Set<string>();
  /**
   * The ids of this chunk after an empty one, and those of the chunks before it, in text: the last MOST_IDS at least. Joined,
   * because a slice keeps its whole chunk alive, which every collection of garbage then copies, and a copy of each takes
   * longer than all else that is done for an id. The empty one is there because a join of one alone would be that slice.
   */
  const fresh = [''];
  let recent = '';
  let older = '';
  /** How many are in `recent`. */
  let recentIds = 0;
  const queue = new Set<SSEEvent>();
  /** When the chunk came whose blocks are being told; 0 between chunks. Asking the clock costs as much as a handler. */
  let now = 0;
  /** With its handlers now: still in the queue, but it waits no more. */
  let current: SSEEvent | undefined;
  let paused = 0;
  let isDue = false;
  let isFlushing = false;
  /** The last event that was lost while paused. */
  let lost: SSEEvent | undefined;
  /** It was older than what waits. */
  let isOldestLost = false;

  function join(): string {
    const text = fresh.join('\n');
    fresh.length = 1;
    return text;
  }

  function hold(event: SSEEvent): void {
    const { messageQueueSize, messageQueuePolicy } = settings();
    isOldestLost = messageQueuePolicy === 'drop-oldest';
    queue.add(event);
    // What comes after a loss does not pass the gap that is to be told.
    if (queue.size <= messageQueueSize && (isOldestLost || !lost)) return;
    const [oldest] = queue;
    const one = isOldestLost ? oldest! : event;
    queue.delete(one);
    counts.dropped++;
    if (paused || lost) lost = one;
  }

  /** Where events were lost: before those that wait, or after them. */
  function tellLost(): void {
    const one = lost;
    lost = undefined;
    if (one) host.gap(one.lastEventId);
  }

  function flush(): void {
    // A handler may resume, subscribe or clear: the loop that is under way sees it.
    if (paused || isFlushing) return;
    isFlushing = true;
    do {
      isDue = false;
      if (isOldestLost) tellLost();
      for (const event of queue) {
        // A handler that registers another has called wake(): what was passed over may be for that, so again from the front.
        if (paused || isDue) break;
        current = event;
        if (host.dispatch(event)) queue.delete(event);
        current = undefined;
      }
      if (!paused && !isDue) tellLost();
      // Not later: an event that comes now is newer than what waits.
    } while (!paused && isDue);
    isFlushing = false;
  }

  return {
    counts,
    block(type, text, id) {
      const options = settings();
      const isControl = CONTROL.test(type);
      // The server's own events are JSON, whatever format the application has for its own.
      const parse = isControl ? jsonOf : options.parse;
      if (id && text !== undefined && options.enableDedup && !isControl) {
        if (earlier.size && earlier.has(id)) {
          counts.duplicates++;
          return undefined;
        }
        fresh.push(id);
      }
      cursor.id = id ?? cursor.id;
      if (text === undefined) return undefined;
      counts.messagesReceived++;
      counts.lastMessageTime = now ||= Date.now();
      type ||= 'message';
      const event = { type, data: text as unknown, id, lastEventId: cursor.id };
      try {
        event.data = parse(text, event);
      } catch (cause) {
        // Text that only looked like JSON stays text.
        if (parse !== jsonOf) host.error(cause);
      }
      if (isDue) flush();
      if (isControl && !(type === 'gap' && paused > 1)) host.dispatch(event);
      else if (paused || !host.dispatch(event)) hold(event);
      return event;
    },
    took(bytes) {
      counts.bytes += bytes;
      now = 0;
      recentIds += fresh.length - 1;
      recent += join();
      if (recentIds > MOST_IDS) {
        older = recent;
        recent = '';
        recentIds = 0;
      }
    },
    renew() {
      const ids = (older + recent + join()).split('\n');
      earlier = new Set([...earlier, ...ids].slice(-2 * MOST_IDS));
      earlier.delete('');
      older = recent = '';
      now = recentIds = 0;
    },
    wake() {
      isDue = queue.size > 0;
      // Not at once: `subscribe` has not returned its undo yet.
      if (isDue) queueMicrotask(flush);
    },
    pause(level) {
      paused = level;
      flush();
    },
    clear() {
      lost = undefined;
      queue.delete(current!);
      const { size } = queue;
      queue.clear();
      return size;
    },
  };
}
