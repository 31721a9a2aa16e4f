/**
 * What became of sequences that were not republished to this node: whether they are of keys that it listens to. For
 * nats-reorder.ts, at the price of one short question for few, of one listing for many.
 */
import { isLiveOnly } from '../core/topic.js';
import { unavailable } from './nats-failure.js';
import type { Entry } from './nats-history.js';
import type { Range } from './nats-reorder.js';
import type { NatsStream } from './nats-stream.js';
import type { NatsSubjects } from './nats-subjects.js';

/** So many are asked for one by one; for more a consumer is cheaper (0.7 ms against 0.2 ms, nats-server 2.9). */
const SINGLE_READS = 4;
/** A listing reads a header per sequence, a recovery asks one question per key: that costs as much as so many headers. */
const HEADERS_PER_QUESTION = 20;

export class NatsMissing {
  readonly #stream: NatsStream;
  readonly #subjects: NatsSubjects;
  /** The keys that are listened to, by the subject of their events. */
  readonly #keys = new Map<string, string>();

  constructor(stream: NatsStream, subjects: NatsSubjects) {
    this.#stream = stream;
    this.#subjects = subjects;
  }

  joined(key: string): void {
    this.#keys.set(this.#subjects.event(key), key);
  }

  left(key: string): void {
    this.#keys.delete(this.#subjects.event(key));
  }

  isWanted(key: string): boolean {
    return this.#keys.has(this.#subjects.event(key));
  }

  /**
   * What the stream has of these sequences for keys that are listened to, in order. `seen`: through which sequence a key is
   * complete. Rejects where that cannot be told, or not cheaply: then a recovery tells it.
   */
  async find(missing: readonly Range[], seen: (key: string) => number | undefined): Promise<Entry[]> {
    const count = missing.reduce((sum, { first, last }) => sum + last - first + 1, 0);
    if (count === 0) return [];
    if (count > Math.max(SINGLE_READS, HEADERS_PER_QUESTION * this.#keys.size)) {
      throw unavailable('so much is missing that asking for each key is cheaper');
    }
    const subjects = await this.#stream.subjects(missing, count <= SINGLE_READS);
    const entries: Entry[] = [];
    let newestAbsent = 0;
    for (const { first, last } of missing) {
      for (let sequence = first; sequence <= last; sequence++) {
        const subject = subjects.get(sequence);
        const key = subject === undefined ? undefined : this.#keys.get(subject);
        if (subject === undefined) newestAbsent = sequence;
        if (key === undefined) continue;
        // What is not there any more may have been of this key, and with what is read now nobody would notice. Alone it may
        // stay untold: the event that came after it on its key says that there was one, and so does a late copy.
        if (!isLiveOnly(key) && newestAbsent > (seen(key) ?? sequence)) {
          throw unavailable('history was dropped while it was read');
        }
        entries.push({ sequence, key });
      }
    }
    return entries;
  }
}
