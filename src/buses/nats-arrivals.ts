/**
 * What comes in: one republished message per stored event of a key that is listened to, checked, decoded, and put back into
 * the order of the stream where the server does not keep it (nats-reorder.ts).
 */
import { SseError, shown } from '../core/errors.js';
import type { BusEvent } from '../core/event.js';
import { isLiveOnly } from '../core/topic.js';
import { decodeEvent } from './envelope.js';
import type { NatsConnection, NatsMessage } from './nats-client.js';
import type { NatsEpochs } from './nats-epochs.js';
import type { NatsHistory } from './nats-history.js';
import { NatsMissing } from './nats-missing.js';
import { type Range, Reorder, type Waiting } from './nats-reorder.js';
import { type NatsStream, replaced } from './nats-stream.js';
import type { NatsSubjects } from './nats-subjects.js';
import type { Sequencer } from './sequencer.js';

/** What arrivals need of their bus. */
export interface ArrivalsHost {
  /** Something is not as this node believes; a check finds out what. */
  suspicious(): void;
  /** What came in may have holes anywhere. */
  doubt(): void;
  /** Somebody wrote what is no event. */
  error(error: SseError): void;
}

export interface ArrivalsParts {
  readonly connection: NatsConnection;
  readonly subjects: NatsSubjects;
  readonly stream: NatsStream;
  readonly history: NatsHistory;
  readonly sequencer: Sequencer;
  readonly epochs: NatsEpochs;
  /** ms; 0: nothing waits for what is missing. */
  readonly reorderWindow: number;
}

export class NatsArrivals {
  readonly #host: ArrivalsHost;
  readonly #parts: ArrivalsParts;
  readonly #missing: NatsMissing;
  readonly #reorder: Reorder;
  /** Whether what the stream republishes comes in its order by itself, or nobody wants it to. */
  #isOrdered = true;

  constructor(host: ArrivalsHost, parts: ArrivalsParts) {
    this.#host = host;
    this.#parts = parts;
    this.#missing = new NatsMissing(parts.stream, parts.subjects);
    const reorderHost = { find: (missing: readonly Range[]) => this.#find(missing), doubt: () => host.doubt() };
    this.#reorder = new Reorder(reorderHost, parts.reorderWindow);
  }

  /** Messages of a key are about to come. */
  expect(key: string): void {
    this.#missing.joined(key);
  }

  leave(key: string): void {
    this.#missing.left(key);
  }

  /** An event of this node was stored: where nobody here listens to it, it does not come. */
  stored(key: string, sequence: number): void {
    if (!this.#missing.isWanted(key)) this.#reorder.account(sequence);
  }

  /** Everything through `sequence` is cared for: begins, or goes on, after it. */
  begin(sequence: number): void {
    const { connection, epochs, reorderWindow } = this.#parts;
    // With replicas, and from 2.10 on, one after the other is stored and republished (server/stream.go).
    this.#isOrdered = reorderWindow === 0 || epochs.view.replicas > 1 || isQueueing(connection.info?.version);
    this.#reorder.begin(sequence);
  }

  /** Nothing is known any more of what comes: what waits goes on as it is, and what comes waits for {@link begin}. */
  flush(): void {
    this.#reorder.flush();
  }

  arrived(key: string, { subject, data, headers }: NatsMessage): void {
    const { subjects, sequencer, epochs } = this.#parts;
    const sequence = Number(headers?.get('Nats-Sequence') || Number.NaN);
    const previous = Number(headers?.get('Nats-Last-Sequence') || Number.NaN);
    // Whoever may publish to the subject can write this; only the server republishes with sequences.
    if (!(Number.isSafeInteger(sequence) && Number.isSafeInteger(previous) && previous >= 0 && previous < sequence)) {
      const message = `a message on ${shown(subject)} was dropped: it does not come from the stream`;
      this.#host.error(new SseError('SSE_ERR_INVALID_BUS_EVENT', message));
      return;
    }
    const token = subjects.tokenIn(subject);
    // An epoch that nobody knows makes the sequencer ask.
    const epoch = token === epochs.view.token ? epochs.of(epochs.view) : token;
    const event = this.decode(data, key, sequence, epoch);
    if (event === undefined) return;
    // What a recovery has read comes in again; but also what comes from a stream with the same token (an admin's) that has
    // replaced the one before, and counts from one again.
    if (sequence <= sequencer.position && sequencer.isLive && !this.#reorder.hasFound(sequence)) {
      this.#host.suspicious();
    }
    const accept = () => sequencer.accept(event, isLiveOnly(key) ? undefined : previous, epoch);
    // What waits there comes first, also when the stream begins to keep the order itself.
    if ((this.#isOrdered && this.#reorder.size === 0) || epoch !== sequencer.epoch) accept();
    else this.#reorder.push(sequence, event.data.length, accept);
  }

  /** The event of what the stream has at `sequence`; undefined, and told, where it is none. */
  decode(data: Uint8Array, key: string, sequence: number, epoch: string): BusEvent | undefined {
    const text = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString();
    return decodeEvent(text, { key, sequence, id: `${epoch}-${sequence}` }, (error) => this.#host.error(error));
  }

  /** What the stream has at these places for keys of this node: late, or lost on the way. */
  async #find(missing: readonly Range[]): Promise<Waiting[]> {
    const { stream, history, sequencer, epochs } = this.#parts;
    const { epoch } = sequencer;
    const entries = await this.#missing.find(missing, (key) => sequencer.seen(key));
    if (entries.length === 0) return [];
    const events = await history.load(entries.filter(({ key }) => !isLiveOnly(key)));
    for (const { sequence, key } of entries) {
      const message = isLiveOnly(key) ? await stream.body(sequence, key) : undefined;
      const event = message && this.decode(message.data, key, sequence, epoch);
      if (event !== undefined) events.push(event);
    }
    // What was read may be of a stream that has replaced the one that was asked for.
    if (epochs.of(await stream.view()) !== epoch) throw replaced();
    return events
      .sort((a, b) => a.sequence - b.sequence)
      .map((event) => ({
        sequence: event.sequence,
        // Everything before it on its key has been found too.
        release: () => sequencer.accept(event, isLiveOnly(event.key) ? undefined : 0, epoch),
      }));
  }
}

/** Whether a server puts what comes in into one queue before it stores it (nats-server 2.10; 2.9 does so only in part). */
function isQueueing(version: string | undefined): boolean {
  const [major = 0, minor = 0] = (version ?? '').split('.').map(Number);
  return major > 2 || (major === 2 && minor >= 10);
}
