/**
 * `for await` over events. It holds the stream back: when a loop is slower than its events, nothing more is read until it has
 * caught up, so nothing is lost and memory stays bounded. Only a stream that tabs share is not held back; there the oldest go.
 */
import type { SSEEvent } from './types.js';

/** Events that may wait before the stream is held back. */
const HIGH = 256;
/** Events that may wait where it cannot be. */
const MOST = 10_000;

/** The client's side of an iteration. */
export interface Tap {
  takes(type: string): boolean;
  /** False where an older event had to go. */
  push(event: SSEEvent): boolean;
  /** No more: the iteration ends after what waits, with `error` where there is one. */
  end(error?: Error | null): void;
  /** Resolves when there is room again; undefined where there is. */
  room(): Promise<void> | undefined;
}

/** An iteration that is one of `taps` until it is over. */
export function iterate(
  taps: Set<Tap>,
  types: readonly string[] | undefined,
  signal: AbortSignal | undefined,
): AsyncIterableIterator<SSEEvent> {
  const waiting: SSEEvent[] = [];
  let isOver = false;
  let failure: Error | null | undefined;
  let onEvent = () => {};
  let onRoom = () => {};
  const isFull = () => waiting.length > HIGH;

  const tap: Tap = {
    takes: (type) => !types || types.includes(type),
    push(event) {
      waiting.push(event);
      onEvent();
      return waiting.length <= MOST || !waiting.shift();
    },
    end(error) {
      isOver = true;
      failure = error;
      taps.delete(tap);
      signal?.removeEventListener('abort', stop);
      onEvent();
      onRoom();
    },
    room() {
      if (isFull())
        return new Promise((resolve) => {
          onRoom = resolve;
        });
    },
  };

  async function* run(): AsyncGenerator<SSEEvent, undefined> {
    for (;;) {
      const event = waiting.shift();
      if (event) {
        if (!isFull()) onRoom();
        yield event;
      } else if (isOver) {
        if (failure) throw failure;
        return;
      } else {
        await new Promise<void>((resolve) => {
          onEvent = resolve;
        });
      }
    }
  }

  const events = run();
  /** What waits is not wanted. A generator that waits cannot be ended from outside: it is woken, and ends by itself. */
  const fail = (cause?: Error) => {
    waiting.length = 0;
    tap.end(cause);
    return events.next();
  };
  const stop = () => fail();
  events.return = stop;
  events.throw = fail;
  taps.add(tap);
  signal?.addEventListener('abort', stop);
  if (signal?.aborted) stop();
  return events;
}
