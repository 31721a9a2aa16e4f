/**
 * Long polling on the same broker: a client that lives for one answer.
 *
 * It is connected like a stream, with a sink that collects instead of sending, so audiences, limits, replay and gaps are
 * the same code. What was collected for an answer that got lost is asked for again: the cursor moves with the answer.
 */
import type { Encoded, Frame } from '../core/frame.js';
import type { Gap } from '../core/gap.js';
import type { Sink, SinkOwner } from '../core/sink.js';
import type { Arrival, HandlerBroker } from './arrival.js';
import { parameterOf, type RequestLike } from './request.js';

/** Longest `wait`, in ms: proxies cut requests that take longer. */
const MAX_WAIT = 55_000;
/** Events and bytes of an answer; the rest is there for the next one. */
const MAX_EVENTS = 1_000;
const MAX_BYTES = 1024 * 1024;

/** Body of an answer, as text of JSON. */
export type PollAnswer = string;

/** The `wait` parameter: ms to wait for something to happen, 0 where absent or nonsense. */
export function waitOf(req: RequestLike): number {
  const wait = Number(parameterOf(req, 'wait') ?? 0);
  return Number.isFinite(wait) && wait > 0 ? Math.min(wait, MAX_WAIT) : 0;
}

/**
 * Connects, collects, and resolves as soon as there is something, or after `wait` ms. Resolves to undefined where the
 * signal of `request` says that the client left.
 *
 * @throws {SseError} as `Broker.connect`
 */
export async function poll(
  broker: HandlerBroker,
  arrival: Arrival,
  wait: number,
  request: Pick<Request, 'signal'>,
): Promise<PollAnswer | undefined> {
  const sink = new PollSink(wait);
  const leave = () => sink.destroy();
  request.signal.addEventListener('abort', leave, { once: true });
  try {
    broker.connect({ sink, ...arrival });
    await sink.isDone;
  } finally {
    request.signal.removeEventListener('abort', leave);
  }
  // Asked of the request, which so lives as long: Node's signal of one that nobody holds never aborts.
  return request.signal.aborted ? undefined : sink.answer(arrival.lastEventId);
}

class PollSink implements Sink {
  /** Resolves when there is an answer; the client is gone by then. */
  readonly isDone: Promise<void>;
  readonly #wait: number;
  #events: Frame[] = [];
  #bytes = 0;
  #gap: Gap | undefined = undefined;
  #lastEventId: string | undefined = undefined;
  #owner: SinkOwner | undefined = undefined;
  #immediate: NodeJS.Immediate | undefined = undefined;
  #timer: NodeJS.Timeout | undefined = undefined;
  #resolve!: () => void;

  constructor(wait: number) {
    this.#wait = wait;
    this.isDone = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  open(owner: SinkOwner): void {
    this.#owner = owner;
  }

  write(encoded: Encoded): boolean {
    for (const frame of encoded.frames) this.#take(frame);
    // At the end of the turn: what else comes in it belongs to the same answer.
    this.#immediate ??= setImmediate(() => this.#look());
    return this.#events.length < MAX_EVENTS && this.#bytes < MAX_BYTES;
  }

  end(last?: Encoded): void {
    if (last !== undefined) this.write(last);
    this.destroy();
  }

  destroy(): void {
    // Not from inside: see the contract.
    queueMicrotask(() => this.#finish());
  }

  progress(): number {
    return 0;
  }

  answer(requested: string | undefined): PollAnswer {
    const events = this.#events.map(({ source }) => {
      const { id, event, data } = source!;
      return `{"id":${JSON.stringify(id)},"type":${JSON.stringify(event)},"data":${jsonOf(data, source!.json)}}`;
    });
    const lastEventId = JSON.stringify(this.#lastEventId ?? requested ?? null);
    const gap = this.#gap === undefined ? '' : `,"gap":${JSON.stringify(this.#gap)}`;
    return `{"events":[${events.join(',')}],"lastEventId":${lastEventId}${gap}}`;
  }

  #take(frame: Frame): void {
    if (frame.source !== undefined) {
      this.#events.push(frame);
      this.#bytes += frame.bytes;
    } else if (frame.control?.event === 'gap') {
      // The first tells from where; a later one, from a loss while waiting, how far.
      const gap = JSON.parse(frame.control.data!) as Gap;
      this.#gap = this.#gap === undefined ? gap : { ...this.#gap, resumedFrom: gap.resumedFrom };
    }
    if (frame.lastId !== '') this.#lastEventId = frame.lastId;
  }

  /** Something was written: answer, or wait for more. */
  #look(): void {
    this.#immediate = undefined;
    if (this.#events.length > 0 || this.#gap !== undefined || this.#wait === 0) this.#finish();
    else this.#timer ??= setTimeout(() => this.#finish(), this.#wait);
  }

  #finish(): void {
    clearTimeout(this.#timer);
    if (this.#immediate !== undefined) clearImmediate(this.#immediate);
    const owner = this.#owner;
    this.#owner = undefined;
    owner?.closed();
    this.#resolve();
  }
}

/** Data as JSON: as it was published where that is JSON, else as a string. */
function jsonOf(data: string, isJson: boolean): string {
  if (isJson) {
    try {
      JSON.parse(data);
      return data;
    } catch {
      // Another serialiser than JSON.stringify.
    }
  }
  return JSON.stringify(data);
}
