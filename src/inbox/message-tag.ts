/**
 * What an inbox writes behind the ids of events (core/tagged-id.ts), so that a client's cursor says what it has:
 *
 *     ~m<id>~p<position>.<settled>     a message, live
 *     ~w<settled>                      an event of somebody else
 *     ~m<id>~w<settled>               a message out of the store, on a stream that is live
 *     ~m<id>~b<from>.<through>.<priority>.<position>    a message of a round, in the middle of it
 *     ~b<from>.<through>.3.0           nothing of the round yet
 *     ~b…~p<position>.<from>           a round, and a message above `from` that the client had before
 *
 * `settled`: every message up to this position was published before this event, so whoever has all events up to here has
 * those. Numbers have base 36.
 */
import type { BacklogCursor, PriorityLevel } from './store.js';

/** Where a live message stands. */
export interface MessagePlace {
  readonly position: number;
  readonly settled: number;
}

/** How far a round got. */
export interface RoundProgress {
  readonly from: number;
  readonly through: number;
  /** Undefined: nothing yet. */
  readonly after: BacklogCursor | undefined;
  /** A message above `from` that came before the round. */
  readonly one?: number | undefined;
}

/** What a cursor says of messages. */
export interface CursorSections {
  readonly settled: number | undefined;
  /** A message above `settled` that the client has. */
  readonly position: number | undefined;
  readonly round: RoundProgress | undefined;
}

const MESSAGE = /~m([A-Za-z0-9.-]{1,64})/;
const PLACE = /~p([0-9a-z]{1,11})\.([0-9a-z]{1,11})(?![0-9a-z.])/;
const SETTLED = /~w([0-9a-z]{1,11})(?![0-9a-z.])/;
const ROUND = /~b([0-9a-z]{1,11})\.([0-9a-z]{1,11})\.([0-3])\.([0-9a-z]{1,11})(?![0-9a-z.])/;

// One event is looked at for every stream that gets it, one after the other; first by whoever has just made its tag.
let lastTag = '';
let lastPlace: MessagePlace | undefined;

// What is settled with one message is mostly the position of the one before.
let lastNumber = 0;
let lastText = '0';

function text(number: number): string {
  if (number !== lastNumber) {
    lastText = number.toString(36);
    lastNumber = number;
  }
  return lastText;
}

const numberOf = (digits: string): number => Number.parseInt(digits, 36);

/**
 * The id of the inbox's message that an event brought, from the id of the event as a page sees it (`event.lastEventId`);
 * undefined where the event was none. It works on any id, so a page may do without this function:
 *
 *     const id = /~m([^~]+)/.exec(event.lastEventId)?.[1];
 */
export function messageIdOf(lastEventId: string): string | undefined {
  return MESSAGE.exec(lastEventId)?.[1];
}

export function messageTag(id: string, place: MessagePlace): string {
  // In this order: see `text`.
  const settled = text(place.settled);
  lastTag = `~m${id}~p${text(place.position)}.${settled}`;
  lastPlace = place;
  return lastTag;
}

/** Of a message out of the store, on a stream that is live: it has a place in the stream, and none in the order of positions. */
export function storedTag(id: string, settled: number): string {
  return `~m${id}${settledTag(settled)}`;
}

export function settledTag(settled: number): string {
  return `~w${text(settled)}`;
}

export function roundTag({ from, through, after, one }: RoundProgress, id?: string): string {
  const { priority, position } = after ?? { priority: 3, position: 0 };
  const message = id === undefined ? '' : `~m${id}`;
  const place = one === undefined ? '' : `~p${text(one)}.${text(from)}`;
  return `${message}~b${text(from)}.${text(through)}.${priority}.${text(position)}${place}`;
}

/** Undefined for the tag of an event that is no message. */
export function placeIn(tag: string): MessagePlace | undefined {
  if (tag === lastTag) return lastPlace;
  lastTag = tag;
  lastPlace = placeAtEnd(tag) ?? placeAnywhere(tag);
  return lastPlace;
}

function placeAnywhere(tag: string): MessagePlace | undefined {
  const match = PLACE.exec(tag);
  return match === null ? undefined : { position: numberOf(match[1]!), settled: numberOf(match[2]!) };
}

/** The same where it comes last, as {@link messageTag} has it, at a fraction of the time: each stream looks at each of its messages. */
function placeAtEnd(tag: string): MessagePlace | undefined {
  const at = tag.lastIndexOf('~p') + 2;
  const dot = tag.indexOf('.', at);
  if (at < 2 || dot === -1) return undefined;
  const [position, settled] = [digitsIn(tag, at, dot), digitsIn(tag, dot + 1, tag.length)];
  return position === undefined || settled === undefined ? undefined : { position, settled };
}

/** Undefined where it is no number as {@link PLACE} has them. */
function digitsIn(tag: string, from: number, to: number): number | undefined {
  if (from === to || to - from > 11) return undefined;
  let number = 0;
  for (let i = from; i < to; i++) {
    const code = tag.charCodeAt(i);
    if (code >= 0x30 && code <= 0x39) number = number * 36 + (code - 0x30);
    else if (code >= 0x61 && code <= 0x7a) number = number * 36 + (code - 0x57);
    else return undefined;
  }
  return number;
}

export function cursorIn(sections: string): CursorSections {
  const place = placeIn(sections);
  const settled = SETTLED.exec(sections)?.[1];
  const round = ROUND.exec(sections);
  return {
    settled: place?.settled ?? (settled === undefined ? undefined : numberOf(settled)),
    position: place?.position,
    round: round === null ? undefined : roundOf(round),
  };
}

function roundOf([, from, through, priority, position]: RegExpExecArray): RoundProgress {
  const isBegun = priority !== '3';
  const after = { priority: Number(priority) as PriorityLevel, position: numberOf(position!) };
  return { from: numberOf(from!), through: numberOf(through!), after: isBegun ? after : undefined };
}
