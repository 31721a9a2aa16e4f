/**
 * From block to handler: duplicates are left out, events without a taker or while paused wait, and come in order.
 *
 * Nothing is allocated for an event but the event. Duplicates are told by id, and only where an event has data: the
 * server's own events carry ids of others (docs/reference/wire.md).
 */
import { ID_BLOCK, ID_BLOCKS } from './constants.js';
import type { Cursor } from './cursor.js';
import { jsonOf, type Options } from './options.js';
import type { SSEEvent, SSEStats } from './types.js';

/** The server's own events: they are not counted as duplicates, and do not wait. */
const CONTROL = /^(connected|heartbeat|gap|closing)$/;

export interface DeliveryHost {
  /** Gives an event to those who take it; false where nobody does. */
  dispatch(event: SSEEvent): boolean;
  takes(event: SSEEvent): boolean;
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
    | 'bytes']: SSEStats[Name];
};

export interface Delivery {
  /** A block; gives its event, undefined for a duplicate or an id without data. */
  block(type: string, text: string | undefined, id: string | undefined): SSEEvent | undefined;
  /** A connection, or a poll, is over: what it brought is a duplicate from now on. */
  renew(): void;
  /** Somebody takes more than before: what waits for that goes out with the next event, or with this turn. */
  wake(): void;
  pause(isPaused: boolean): void;
  clear(): number;
  readonly counts: Counts;
}

export function createDelivery(settings: () => Options, cursor: Cursor, host: DeliveryHost): Delivery {
  const counts: Counts = { messagesReceived: 0, lastMessageTime: null, duplicates: 0, dropped: 0, gaps: 0, bytes: 0 };
  /** The ids of earlier connections: duplicates have one of these. Several events of one connection may have the same. */
  let earlier = new Set<string>();
  /**
   * The ids of this one, the newest last, and in blocks those before. Joined, because a slice of a chunk keeps the whole
   * chunk alive, and a copy of each takes longer than all else that is done for an id.
   */
  const fresh: string[] = [];
  const blocks: string[] = [];
  const queue = new Set<SSEEvent>();
  let isPaused = false;
  let isDue = false;
  let isFlushing = false;
  /** The last event that was lost while paused. */
  let lost: SSEEvent | undefined;

  function isKnown(id: string): boolean {
    if (earlier.size && earlier.has(id)) return true;
    if (fresh.push(id) === ID_BLOCK) {
      if (blocks.push(fresh.join('\n')) > ID_BLOCKS) blocks.shift();
      fresh.length = 0;
    }
    return false;
  }

  function hold(event: SSEEvent): void {
    const { messageQueueSize, messageQueuePolicy } = settings();
    queue.add(event);
    if (queue.size <= messageQueueSize) return;
    const [oldest] = queue;
    const one = messageQueuePolicy === 'drop-oldest' ? oldest! : event;
    queue.delete(one);
    counts.dropped++;
    if (isPaused) lost = one;
  }

  function flush(): void {
    isDue = false;
    // A handler may resume, subscribe or clear: the loop that is under way sees it.
    if (isPaused || isFlushing) return;
    isFlushing = true;
    const one = lost;
    lost = undefined;
    if (one) host.gap(one.lastEventId);
    for (const event of queue) {
      // A handler that registers another has called wake(): what was passed over may be for that, so again from the front.
      if (isPaused || isDue) break;
      if (host.takes(event)) {
        queue.delete(event);
        host.dispatch(event);
      }
    }
    isFlushing = false;
  }

  return {
    counts,
    block(type, text, id) {
      const { enableDedup, parse } = settings();
      const isControl = CONTROL.test(type);
      if (id !== undefined) {
        if (text !== undefined && enableDedup && id && !isControl && isKnown(id)) {
          counts.duplicates++;
          return undefined;
        }
        cursor.set(id);
      }
      if (text === undefined) return undefined;
      counts.messagesReceived++;
      counts.lastMessageTime = Date.now();
      type ||= 'message';
      const event = { type, data: text as unknown, id, lastEventId: cursor.get() };
      try {
        event.data = parse(text, event);
      } catch (cause) {
        // Text that only looked like JSON stays text.
        if (parse !== jsonOf) host.error(cause);
      }
      if (isDue) flush();
      if (isControl) host.dispatch(event);
      else if (isPaused || !host.dispatch(event)) hold(event);
      return event;
    },
    renew() {
      const ids = [...blocks, ...fresh].join('\n').split('\n');
      earlier = new Set([...earlier, ...ids].slice(-2 * ID_BLOCK * ID_BLOCKS));
      blocks.length = fresh.length = 0;
    },
    wake() {
      isDue = queue.size > 0;
      // Not at once: `subscribe` has not returned its undo yet.
      if (isDue) queueMicrotask(flush);
    },
    pause(next) {
      isPaused = next;
      flush();
    },
    clear() {
      lost = undefined;
      const { size } = queue;
      queue.clear();
      return size;
    },
  };
}
