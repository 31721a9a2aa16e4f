/**
 * What is published: names, data and options are checked and data becomes text here, once, at the call; from
 * then on an event does not change.
 */
import { SseError, shown } from './errors.js';

/**
 * The events of an application, name to data: `{ 'job.progress': { jobId: string; progress: number } }`.
 * An interface or a type; `Broker` without one accepts any name and any data.
 */
export type EventMap = object;

/** The event names of a map. */
export type EventName<Events extends EventMap> = keyof Events & string;

/** How urgent an event is: what a slow client's queue goes by, and an inbox. */
export type Priority = 'normal' | 'high' | 'urgent';

/** 0 normal, 1 high, 2 urgent. */
export type PriorityLevel = 0 | 1 | 2;

/** By {@link PriorityLevel}. */
export const PRIORITIES: readonly Priority[] = ['normal', 'high', 'urgent'];

/** Options of every send method. */
export interface PublishOptions {
  /** Only clients of this tenant; without it, clients of every tenant and of none. */
  tenantId?: string | undefined;
  /** When it happened, in ms since 1970 or as a Date. Default: now, by the broker's clock. */
  timestamp?: number | Date | undefined;
  /**
   * How long the event is worth delivering, in ms from the call; 0 is for ever. Default 0. A client whose
   * queue or replay reaches the event later than that does not get it, and no gap is told for it.
   */
  ttl?: number | undefined;
  /**
   * Where events wait for a client whose socket is full, the more urgent go first, and the less urgent are dropped first. Who
   * keeps up gets everything in order. Default `normal`.
   */
  priority?: Priority | undefined;
}

/** An event as a bus carries it between nodes, before it has its place in the order. */
export interface OutgoingEvent {
  /** The channel key of its audience. */
  readonly key: string;
  /** The event name. */
  readonly event: string;
  /** The data as text. */
  readonly data: string;
  /** True where `data` is JSON text, false where a string was published as it is. */
  readonly json: boolean;
  /** ms since 1970. */
  readonly timestamp: number;
  /** ms since 1970 after which nobody should get it; 0 for never. */
  readonly expiresAt: number;
  /** Absent: 0. A bus carries it along. */
  readonly priority?: PriorityLevel | undefined;
  /**
   * What is written behind the id on its way to clients, and comes back with it: `~` and more of what an id may have. A bus
   * carries it along; absent on most events.
   */
  readonly tag?: string | undefined;
}

/** An event with its place in the order, as a bus delivers it. */
export interface BusEvent extends OutgoingEvent {
  /** The event id: opaque to everyone but the bus that made it. */
  readonly id: string;
  /** Position in the one order of the namespace; grows with every event for as long as the epoch lasts. */
  readonly sequence: number;
  /** The broker keeps the encoded form here so that replays share it; a bus neither sets nor reads it. */
  frame?: unknown;
}

/**
 * The event with what few have; itself where it has neither. Written out: V8 makes each property that stands behind a spread at
 * run time, for 1.7 µs (Node 20).
 */
export function marked(plain: BusEvent, priority: PriorityLevel | undefined, tag: string | undefined): BusEvent {
  if (priority === undefined && tag === undefined) return plain;
  const { key, event, data, json, timestamp, expiresAt, id, sequence, frame } = plain;
  return { key, event, data, json, timestamp, expiresAt, id, sequence, frame, priority, tag };
}

/** Event names that only the broker sends. */
export const RESERVED_EVENT_NAMES: ReadonlySet<string> = new Set(['connected', 'heartbeat', 'gap', 'closing']);

/** Longest event name, in UTF-16 units. */
export const MAX_EVENT_NAME_LENGTH = 256;

// The three characters that end a field line or truncate it (HTML standard, section 9.2.6: a line ends at
// CR, LF or CRLF; an id with NUL is ignored).
// biome-ignore lint/suspicious/noControlCharactersInRegex: refusing them is what it is for
const BREAKS_THE_WIRE = /[\u0000\r\n]/;

// Most programs use few names, over and over; a bounded memory of good ones makes the check one look-up.
const knownNames = new Set<string>();
const KNOWN_NAMES_LIMIT = 1_000;

/** @throws {SseError} `SSE_ERR_INVALID_EVENT_NAME`, `SSE_ERR_RESERVED_EVENT_NAME` */
export function checkEventName(name: unknown): string {
  if (knownNames.has(name as string)) return name as string;
  if (typeof name !== 'string' || name.length === 0) {
    throw new SseError('SSE_ERR_INVALID_EVENT_NAME', `event name must be a non-empty string; got ${shown(name)}`);
  }
  if (name.length > MAX_EVENT_NAME_LENGTH || BREAKS_THE_WIRE.test(name) || !name.isWellFormed()) {
    throw new SseError(
      'SSE_ERR_INVALID_EVENT_NAME',
      `event name must have at most ${MAX_EVENT_NAME_LENGTH} characters, be well-formed and contain no CR, LF or NUL; got ${shown(name)}`,
    );
  }
  if (RESERVED_EVENT_NAMES.has(name)) {
    throw new SseError(
      'SSE_ERR_RESERVED_EVENT_NAME',
      `event name ${shown(name)} is sent by the broker itself (reserved: ${[...RESERVED_EVENT_NAMES].join(', ')}); choose another`,
    );
  }
  if (knownNames.size < KNOWN_NAMES_LIMIT) knownNames.add(name);
  return name;
}

/** Turns published data into text. Returning undefined, or throwing, refuses the data. */
export type Serializer = (data: unknown) => string | undefined;

/** Data as text: a string as it is, everything else by `serialize`. */
export function serializeData(data: unknown, serialize: Serializer, maxBytes: number): string {
  let text: string | undefined;
  if (typeof data === 'string') {
    text = data;
  } else {
    try {
      text = serialize(data);
    } catch (cause) {
      throw new SseError(
        'SSE_ERR_INVALID_DATA',
        'data could not be serialised (BigInt, a circular reference, or a toJSON that threw); pass plain data',
        { cause },
      );
    }
    if (typeof text !== 'string') {
      throw new SseError(
        'SSE_ERR_INVALID_DATA',
        `data has no serialised form (undefined, a function or a symbol); got ${shown(data)}; use null for "nothing"`,
      );
    }
  }
  // UTF-8 takes one to three bytes per UTF-16 unit: most texts need no count.
  if (maxBytes > 0 && text.length * 3 > maxBytes && Buffer.byteLength(text) > maxBytes) {
    throw new SseError(
      'SSE_ERR_EVENT_TOO_LARGE',
      `data has ${Buffer.byteLength(text)} bytes, maxEventBytes allows ${maxBytes}; send a reference, or raise the option`,
    );
  }
  return text;
}

/** `timestamp` of {@link PublishOptions} as ms since 1970. */
export function checkTimestamp(timestamp: number | Date | undefined, now: number): number {
  if (timestamp === undefined) return now;
  const ms = typeof timestamp === 'number' ? timestamp : timestamp instanceof Date ? timestamp.getTime() : Number.NaN;
  if (!Number.isFinite(ms)) {
    throw new SseError(
      'SSE_ERR_INVALID_OPTION',
      `timestamp must be ms since 1970 or a valid Date; got ${shown(timestamp)}`,
    );
  }
  return ms;
}

/** `priority` of {@link PublishOptions} as a number. */
export function checkPriority(priority: Priority | undefined): PriorityLevel {
  if (priority === undefined || priority === 'normal') return 0;
  const level = PRIORITIES.indexOf(priority);
  if (level === -1) {
    throw new SseError('SSE_ERR_INVALID_OPTION', `priority must be normal, high or urgent; got ${shown(priority)}`);
  }
  return level as PriorityLevel;
}

/** `ttl` of {@link PublishOptions} as a point in time; 0 for never. */
export function checkTtl(ttl: number | undefined, now: number): number {
  if (ttl === undefined || ttl === 0) return 0;
  if (typeof ttl !== 'number' || !Number.isFinite(ttl) || ttl < 0) {
    throw new SseError('SSE_ERR_INVALID_OPTION', `ttl must be a number of ms, 0 or more; got ${shown(ttl)}`);
  }
  return now + ttl;
}
