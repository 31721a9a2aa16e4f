/**
 * A bus that somebody else wrote, behind checks: what it gives is looked at before it comes near the wire.
 *
 * Names and ids are written into streams as they are, so a carrier that others can write to, or an implementation with a
 * mistake, must not be able to break the lines of a stream or to end the process. What is not an event is left out, counted
 * and told; a read with such events in it is served without them. The check of one event is a few comparisons.
 */
import {
  type Bus,
  type BusReceiver,
  type BusStatus,
  EVENT_ID,
  EVENT_TAG,
  type Head,
  type Loss,
  type LossReason,
  type ReadRequest,
  type ReadResult,
} from './bus.js';
import { isThenable } from './diagnostics.js';
import { isSseError, SseError, shown } from './errors.js';
import { type BusEvent, checkEventName, marked, type OutgoingEvent, RESERVED_EVENT_NAMES } from './event.js';
import { Frame } from './frame.js';

/** Longest channel key, in UTF-16 units: a kind, a percent-encoded tenant and a name, each of at most 256. */
const MAX_KEY_LENGTH = 4_096;

const LOSS_REASONS: ReadonlySet<unknown> = new Set<LossReason>(['evicted', 'epoch', 'unknown', 'disabled']);

export class CheckedBus implements Bus {
  readonly name: string;
  readonly isShared: boolean;
  /** Events that were left out because they were none, here or by the bus itself. */
  refused = 0;
  readonly #bus: Bus;
  #receiver: BusReceiver | undefined = undefined;

  constructor(bus: Bus) {
    this.#bus = bus;
    this.name = String(bus.name);
    this.isShared = bus.isShared === true;
  }

  start(receiver: BusReceiver): void | Promise<void> {
    this.#receiver = receiver;
    return this.#bus.start({
      deliver: (event) => {
        const problem = problemOf(event);
        if (problem !== undefined) {
          this.#refuse(problem);
          return;
        }
        // A copy, in the one shape that the rest of the broker knows; `frame` is the broker's own.
        const { id, sequence, key, event: name, data, json, timestamp, expiresAt, priority, tag } = event;
        const copy = { key, event: name, data, json, timestamp, expiresAt, id, sequence, frame: undefined };
        this.#safely(() => receiver.deliver(marked(copy, priority, tag)));
      },
      lost: (loss) => this.#safely(() => receiver.lost(checkedLoss(loss))),
      status: (status) => this.#safely(() => receiver.status(status)),
      error: (error) => {
        // A bus that looks at what its carrier brings has left something out by itself.
        if (isSseError(error) && error.code === 'SSE_ERR_INVALID_BUS_EVENT') this.refused++;
        receiver.error(error);
      },
    });
  }

  publish(event: OutgoingEvent): string | Promise<string> {
    return this.#bus.publish(event);
  }

  join(key: string): void | Promise<void> {
    return this.#bus.join(key);
  }

  leave(key: string): void {
    // Called where a client goes, who has to go all the same.
    this.#safely(() => {
      const left: unknown = this.#bus.leave(key);
      if (isThenable(left)) left.then(undefined, (error: unknown) => this.#receiver!.error(error));
    });
  }

  head(): Head | Promise<Head> {
    const head = this.#bus.head();
    return isThenable(head) ? head.then(checkHead) : checkHead(head);
  }

  read(request: ReadRequest): ReadResult | Promise<ReadResult> {
    const result = this.#bus.read(request);
    const check = (page: ReadResult) => this.#checkedPage(page);
    return isThenable(result) ? result.then(check) : check(result);
  }

  status(): BusStatus {
    return this.#bus.status();
  }

  close(): void | Promise<void> {
    return this.#bus.close();
  }

  #checkedPage(page: ReadResult): ReadResult {
    checkHead(page.head);
    const { completeAfter, loss } = page;
    if (completeAfter !== undefined && !isEventId(completeAfter)) {
      throw new TypeError(`the bus gave ${shown(completeAfter)} as completeAfter, which is no event id`);
    }
    const events = page.events.filter((event) => {
      const problem = problemOf(event);
      if (problem !== undefined) this.#refuse(problem);
      return problem === undefined;
    });
    const isWhole = events.length === page.events.length;
    if (isWhole && (loss === undefined || LOSS_REASONS.has(loss))) return page;
    // Something after the cursor cannot be served: that is a loss, wherever it was.
    return { ...page, events, loss: LOSS_REASONS.has(loss) ? loss! : 'unknown', completeAfter: page.head.id };
  }

  /** What the broker throws at a bus would end up where nobody expects it: in a socket's listener, say. */
  #safely(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#receiver!.error(error);
    }
  }

  #refuse(problem: string): void {
    this.refused++;
    this.#receiver!.error(new SseError('SSE_ERR_INVALID_BUS_EVENT', `bus ${this.name} gave no event: ${problem}`));
  }
}

/** Whether a head that goes with a loss says something: without one the loss is told all the same. */
const isHead = (head: Head | undefined): boolean =>
  isEventId(head?.id) && Number.isSafeInteger(head!.sequence) && isEpoch(head!.epoch);

const isEpoch = (epoch: unknown): boolean => epoch === undefined || typeof epoch === 'string';

const isPriority = (priority: unknown): boolean =>
  priority === undefined || priority === 0 || priority === 1 || priority === 2;

const isTag = (tag: unknown): boolean => tag === undefined || (typeof tag === 'string' && EVENT_TAG.test(tag));

const isEventId = (id: unknown): id is string => typeof id === 'string' && EVENT_ID.test(id);

/** Why `event` is none, or undefined where it is one. */
function problemOf(event: BusEvent): string | undefined {
  if (typeof event !== 'object' || event === null) return `got ${shown(event)}`;
  const { id, sequence, key, event: name, data, json, timestamp, expiresAt, frame } = event;
  if (!isEventId(id)) return `id is ${shown(id)}`;
  if (!Number.isSafeInteger(sequence) || sequence < 0) return `sequence is ${shown(sequence)}`;
  if (typeof key !== 'string' || key.length === 0 || key.length > MAX_KEY_LENGTH) return `key is ${shown(key)}`;
  if (typeof data !== 'string') return `data is ${shown(data)}`;
  if (typeof json !== 'boolean') return `json is ${shown(json)}`;
  if (!Number.isFinite(timestamp)) return `timestamp is ${shown(timestamp)}`;
  if (!Number.isFinite(expiresAt)) return `expiresAt is ${shown(expiresAt)}`;
  if (frame !== undefined && !(frame instanceof Frame)) return 'frame is set';
  if (!isPriority(event.priority)) return `priority is ${shown(event.priority)}`;
  if (!isTag(event.tag)) return `tag is ${shown(event.tag)}`;
  try {
    checkEventName(name);
  } catch {
    return RESERVED_EVENT_NAMES.has(name) ? `event ${shown(name)} is the broker's own` : `event is ${shown(name)}`;
  }
  return undefined;
}

function checkHead(head: Head): Head {
  if (!isEventId(head?.id) || !Number.isSafeInteger(head.sequence)) {
    throw new TypeError(`the bus gave ${shown(head?.id)} as its head, which is no event id`);
  }
  if (!isEpoch(head.epoch)) throw new TypeError(`the bus gave ${shown(head.epoch)} as an epoch, which is no text`);
  return head;
}

/** What is told of a loss, as far as it means something: a loss told in a strange way is still one. */
function checkedLoss(loss: Loss): Loss {
  const { reason, keys, head } = loss ?? ({} as Partial<Loss>);
  return {
    reason: LOSS_REASONS.has(reason) ? reason! : 'unknown',
    keys: Array.isArray(keys) && keys.every((key) => typeof key === 'string') ? keys : undefined,
    head: isHead(head) ? head : undefined,
  };
}
