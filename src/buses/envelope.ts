/**
 * An event as text for a carrier, and back: what a node puts into Redis or NATS and another takes out.
 *
 * The text holds what the application published; place (key, sequence, id) travels beside it, as each carrier can. It is
 * one line of header and then the data, so that nothing is escaped and nothing is copied but the data itself:
 *
 *     1j 1700000000000 0 job.progress\n{"progress":0.5}
 *
 * version, `j` (JSON) or `t` (text), timestamp, expiresAt, event name. An event with a priority or a tag has `J` or `T` and both
 * before the timestamp, `-` for no tag. What comes in was written by whoever can write to
 * the carrier: everything is checked here, and what is wrong is told and dropped, never thrown at the caller and never
 * passed on (a line end in an event name would write into the streams of clients).
 */
import { EVENT_ID, EVENT_TAG } from '../core/bus.js';
import { isSseError, SseError, shown } from '../core/errors.js';
import { type BusEvent, checkEventName, marked, type OutgoingEvent, type PriorityLevel } from '../core/event.js';

/** The version of the text. A node that meets another one drops the event: mixed versions are told, not guessed at. */
const VERSION = '1';

/** Longest channel key: kind, percent-encoded tenant (at most 256 × 9) and name (at most 256), with room. */
const MAX_KEY_LENGTH = 4_096;

/** Longest data, in UTF-16 units. What a broker publishes is limited by its own `maxEventBytes`, which is far less. */
const MAX_DATA_LENGTH = 64 * 1024 * 1024;

// biome-ignore lint/suspicious/noControlCharactersInRegex: refusing control characters is what it is for
const CHANNEL_KEY = /^[a-z]:[^\u0000-\u001f\u007f]*$/;

/** Where an event stands: what the carrier says of it. */
export interface Place {
  readonly key: string;
  readonly sequence: number;
  readonly id: string;
}

/** The event as text. Its place travels beside it. */
export function encodeEvent({ event, data, json, timestamp, expiresAt, priority, tag }: OutgoingEvent): string {
  if (priority !== undefined || tag !== undefined) {
    return `${VERSION}${json ? 'J' : 'T'} ${priority ?? 0} ${tag ?? '-'} ${timestamp} ${expiresAt} ${event}\n${data}`;
  }
  return `${VERSION}${json ? 'j' : 't'} ${timestamp} ${expiresAt} ${event}\n${data}`;
}

/** The event of a text that came from another node; undefined, and `report` told, where it is none. */
export function decodeEvent(text: unknown, place: Place, report: (error: SseError) => void): BusEvent | undefined {
  try {
    return decoded(text, place);
  } catch (error) {
    const cause = isSseError(error) ? error.message : String(error);
    report(
      new SseError('SSE_ERR_INVALID_BUS_EVENT', `an event of another node was dropped: ${cause}`, { cause: error }),
    );
    return undefined;
  }
}

/** Why `key` cannot be a channel key, or undefined where it can. */
export function keyProblem(key: unknown): string | undefined {
  if (typeof key !== 'string') return 'must be a string';
  if (key.length > MAX_KEY_LENGTH) return `must have at most ${MAX_KEY_LENGTH} characters`;
  if (!CHANNEL_KEY.test(key) || !key.isWellFormed()) return 'must be a kind, a colon and a name';
  return undefined;
}

function decoded(text: unknown, { key, sequence, id }: Place): BusEvent {
  if (typeof text !== 'string') throw invalid(`it must be text; got ${shown(text)}`);
  const problem = keyProblem(key);
  if (problem !== undefined) throw invalid(`its channel key ${problem}; got ${shown(key)}`);
  if (!Number.isSafeInteger(sequence) || sequence < 1) throw invalid(`its sequence is ${shown(sequence)}`);
  if (typeof id !== 'string' || !EVENT_ID.test(id)) throw invalid(`its id is ${shown(id)}`);
  if (text[0] !== VERSION) throw invalid(`its version is ${shown(text.slice(0, 1))}, this node knows ${VERSION}`);
  const kind = text[1];
  const isMarked = kind === 'J' || kind === 'T';
  if ((kind !== 'j' && kind !== 't' && !isMarked) || text[2] !== ' ') {
    throw invalid(`its header begins with ${shown(text.slice(0, 3))}`);
  }
  const mark = isMarked ? markOf(text) : undefined;
  const start = mark?.end ?? 3;
  const first = text.indexOf(' ', start);
  const second = text.indexOf(' ', first + 1);
  const end = text.indexOf('\n', second + 1);
  // Three fields on the first line; a field that is missing makes one of these wrong.
  if (first < 0 || second < 0 || end < 0) throw invalid('its header is not complete');
  if (text.length - end - 1 > MAX_DATA_LENGTH) throw invalid(`its data has more than ${MAX_DATA_LENGTH} characters`);
  const event: BusEvent = {
    id,
    sequence,
    key,
    event: checkEventName(text.slice(second + 1, end)),
    data: text.slice(end + 1),
    json: kind === 'j' || kind === 'J',
    timestamp: numberOf(text.slice(start, first), 'timestamp'),
    expiresAt: numberOf(text.slice(first + 1, second), 'expiresAt'),
    frame: undefined,
  };
  return marked(event, mark?.priority, mark?.tag);
}

/** Priority and tag, and where the header goes on. */
function markOf(text: string): { priority: PriorityLevel; tag: string | undefined; end: number } {
  const priority = Number(text[3]);
  const after = text.indexOf(' ', 5);
  const tag = text.slice(5, after);
  if ((priority !== 0 && priority !== 1 && priority !== 2) || text[4] !== ' ') {
    throw invalid(`its priority is ${shown(text.slice(3, 5))}`);
  }
  if (after < 0 || (tag !== '-' && !EVENT_TAG.test(tag))) throw invalid(`its tag is ${shown(tag)}`);
  return { priority, tag: tag === '-' ? undefined : tag, end: after + 1 };
}

function numberOf(text: string, name: string): number {
  const number = text.length > 0 && text.length < 32 ? Number(text) : Number.NaN;
  if (!Number.isFinite(number)) throw invalid(`its ${name} is ${shown(text)}`);
  return number;
}

const invalid = (message: string): SseError => new SseError('SSE_ERR_INVALID_BUS_EVENT', message);
