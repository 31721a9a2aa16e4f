/** One page of history: the sequences of several channel keys after a cursor, as one list in order. */
import type { SequenceRing } from './sequence-ring.js';

export interface PageRequest {
  readonly after: number;
  /** Most sequences now. */
  readonly limit: number;
  /** Most sequences in all; of more only the newest are served. 0 for no limit. */
  readonly max: number;
  /** True where an event is past its ttl: such a one does not count for `max`, and nobody misses it. */
  isExpired(sequence: number): boolean;
}

export interface Page {
  /** In order. */
  readonly sequences: readonly number[];
  readonly more: boolean;
  /** Newest sequence that was left out because of `max`; 0 where none was. */
  readonly skippedThrough: number;
}

interface Cursor {
  readonly ring: SequenceRing;
  index: number;
}

/** `rings`: of each key what it keeps, or at least what it keeps after the cursor. */
export function pageOf(rings: readonly SequenceRing[], { after, limit, max, isExpired }: PageRequest): Page {
  const cursors: Cursor[] = [];
  let count = 0;
  for (const ring of rings) {
    const index = ring.indexAfter(after);
    if (index === ring.length) continue;
    cursors.push({ ring, index });
    count += ring.length - index;
  }
  let skip = max > 0 && count > max ? countUnexpired(cursors, isExpired) - max : 0;
  const sequences: number[] = [];
  let skippedThrough = 0;
  while (cursors.length > 0 && sequences.length < limit) {
    // A run: what the key with the oldest sequence has before any other key's.
    const { cursor, until } = oldestOf(cursors);
    const { ring } = cursor;
    do {
      const sequence = ring.at(cursor.index++);
      if (skip <= 0) {
        sequences.push(sequence);
      } else if (!isExpired(sequence)) {
        skip--;
        skippedThrough = sequence;
      }
    } while (cursor.index < ring.length && sequences.length < limit && ring.at(cursor.index) < until);
    if (cursor.index === ring.length) {
      cursors[cursors.indexOf(cursor)] = cursors[cursors.length - 1]!;
      cursors.pop();
    }
  }
  return { sequences, more: cursors.length > 0, skippedThrough };
}

function countUnexpired(cursors: readonly Cursor[], isExpired: (sequence: number) => boolean): number {
  let count = 0;
  for (const { ring, index } of cursors) {
    for (let i = index; i < ring.length; i++) if (!isExpired(ring.at(i))) count++;
  }
  return count;
}

/** The cursor at the oldest sequence, and the next one of another. A client has few keys: a scan beats a heap. */
function oldestOf(cursors: readonly Cursor[]): { cursor: Cursor; until: number } {
  let best = cursors[0]!;
  let oldest = best.ring.at(best.index);
  let until = Number.POSITIVE_INFINITY;
  for (let i = 1; i < cursors.length; i++) {
    const cursor = cursors[i]!;
    const sequence = cursor.ring.at(cursor.index);
    if (sequence < oldest) {
      until = oldest;
      oldest = sequence;
      best = cursor;
    } else if (sequence < until) {
      until = sequence;
    }
  }
  return { cursor: best, until };
}
