/**
 * Event → bytes. Pure: text in, Buffers out.
 *
 * An event is encoded once, when it is first written. Its Buffer holds the SSE text inside one HTTP/1.1 chunk, so a sink
 * that writes to the raw socket takes the whole Buffer and every other sink takes the text in the middle: one allocation
 * serves both, and every recipient (bench/README.md: the framing itself is free). What has one recipient is handed over
 * as a string instead, which spares the Buffer altogether.
 */

import type { BusEvent } from './event.js';

/** Bytes that are ready to be written: one event, or several that go out together. */
export interface Encoded {
  /** Events in it; 0 for a comment or another frame of the broker's own. */
  readonly count: number;
  /** Bytes of SSE text. */
  readonly bytes: number;
  /** The SSE text as one HTTP/1.1 chunk (RFC 9112, section 7.1). */
  readonly chunk: Buffer;
  /** The SSE text. */
  readonly payload: Buffer;
  /** The chunk as a string, where that is the cheaper form: ASCII, for one recipient. */
  readonly chunkText: string | undefined;
  /** The frames in it, in order. */
  readonly frames: readonly Frame[];
  /** Event id of the last event in it; empty where none has one. */
  readonly lastId: string;
}

const CR = 13;
const LF = 10;

/**
 * `text`'s room in a fresh Buffer, with the chunk's size line before and its CRLF after. Not out of Node's pool: an event
 * that history or a queue keeps would keep 8 KiB of others' bytes with it, which no limit counts.
 */
function allocateChunk(bytes: number): { chunk: Buffer; start: number } {
  const size = bytes.toString(16);
  const start = size.length + 2;
  const chunk = Buffer.allocUnsafeSlow(start + bytes + 2);
  chunk.write(size, 0, 'latin1');
  chunk[start - 2] = CR;
  chunk[start - 1] = LF;
  chunk[start + bytes] = CR;
  chunk[start + bytes + 1] = LF;
  return { chunk, start };
}

/** `payload` as one HTTP/1.1 chunk; what is returned as payload lies inside it. */
export function chunked(payload: Buffer): { chunk: Buffer; payload: Buffer } {
  const { chunk, start } = allocateChunk(payload.length);
  payload.copy(chunk, start);
  return { chunk, payload: chunk.subarray(start, start + payload.length) };
}

/** `text` of so many bytes as one HTTP/1.1 chunk. */
const chunkedText = (text: string, bytes: number): string => `${bytes.toString(16)}\r\n${text}\r\n`;

// Most events have the name of the one before.
let lastName = '';
let beyondLastName = 0;

/**
 * Bytes that the text of an event has beyond one for each character. Only data and names may have any, and they are counted
 * before they are put together: to look into what is, V8 would copy it.
 */
function bytesBeyondAscii({ event, data }: BusEvent): number {
  if (event !== lastName) {
    lastName = event;
    beyondLastName = Buffer.byteLength(event) - event.length;
  }
  return beyondLastName + Buffer.byteLength(data) - data.length;
}

/** The encoded bytes of one event, shared by every recipient. */
export class Frame implements Encoded {
  readonly count: number;
  readonly bytes: number;
  readonly lastId: string;
  /** The event it encodes; undefined for frames of the broker's own. */
  readonly source: BusEvent | undefined;
  /** What a frame of the broker's own says; undefined for events and comments. */
  readonly control: EventText | undefined;
  /** Place in the order in which this node dispatched; what merging sorts by. */
  order = 0;
  /** True where it was dispatched to one client only. */
  isForOne = false;
  /** Let go of when there is a chunk. */
  #text: string;
  #chunk: Buffer | undefined = undefined;
  #payload: Buffer | undefined = undefined;

  /** `id`: what it sets the client's cursor to, where that is not the event's own. */
  constructor(text: string, source?: BusEvent, control?: EventText, id?: string) {
    this.count = source === undefined ? 0 : 1;
    this.bytes = source === undefined ? Buffer.byteLength(text) : text.length + bytesBeyondAscii(source);
    this.#text = text;
    this.lastId = id ?? (source === undefined ? (control?.id ?? '') : idOf(source));
    this.source = source;
    this.control = control;
  }

  get chunk(): Buffer {
    return this.#chunk ?? this.#encode();
  }

  get payload(): Buffer {
    if (this.#payload === undefined) {
      const { chunk } = this;
      // Between the size line and the CRLF at the end.
      const end = chunk.length - 2;
      this.#payload = chunk.subarray(end - this.bytes, end);
    }
    return this.#payload;
  }

  /** The SSE text, where a string is the cheaper form. */
  get ownText(): string | undefined {
    // As many bytes as characters: ASCII.
    return this.isForOne && this.#chunk === undefined && this.#text.length === this.bytes ? this.#text : undefined;
  }

  get chunkText(): string | undefined {
    const text = this.ownText;
    return text === undefined ? undefined : chunkedText(text, this.bytes);
  }

  get frames(): readonly Frame[] {
    return [this];
  }

  /** True where a mailbox must be asked whether its client gets it: see mailbox.ts. */
  get hasMail(): boolean {
    return this.source?.tag !== undefined;
  }

  /** True where the event is not worth delivering any more. */
  hasExpired(now: number): boolean {
    const expiresAt = this.source?.expiresAt;
    return expiresAt !== undefined && expiresAt !== 0 && expiresAt <= now;
  }

  #encode(): Buffer {
    const { chunk, start } = allocateChunk(this.bytes);
    chunk.write(this.#text, start, 'utf8');
    this.#text = '';
    this.#chunk = chunk;
    return chunk;
  }
}

/** Several events as one Buffer, made when it is first written and then shared. */
export class Batch implements Encoded {
  readonly frames: readonly Frame[];
  readonly count: number;
  readonly bytes: number;
  #chunk: Buffer | undefined = undefined;
  #payload: Buffer | undefined = undefined;
  #hasMail: boolean | undefined = undefined;

  constructor(frames: readonly Frame[]) {
    let count = 0;
    let bytes = 0;
    for (const frame of frames) {
      count += frame.count;
      bytes += frame.bytes;
    }
    this.frames = frames;
    this.count = count;
    this.bytes = bytes;
  }

  get lastId(): string {
    for (let i = this.frames.length - 1; i >= 0; i--) {
      const { lastId } = this.frames[i]!;
      if (lastId !== '') return lastId;
    }
    return '';
  }

  /** True where one of its frames has. */
  get hasMail(): boolean {
    this.#hasMail ??= this.frames.some(({ hasMail }) => hasMail);
    return this.#hasMail;
  }

  get chunk(): Buffer {
    return this.#chunk ?? this.#encode();
  }

  get payload(): Buffer {
    if (this.#payload === undefined) this.#encode();
    return this.#payload!;
  }

  get chunkText(): string | undefined {
    if (this.#chunk !== undefined) return undefined;
    let text = '';
    for (const { ownText } of this.frames) {
      if (ownText === undefined) return undefined;
      text += ownText;
    }
    return chunkedText(text, this.bytes);
  }

  #encode(): Buffer {
    const { chunk, start } = allocateChunk(this.bytes);
    let at = start;
    for (const frame of this.frames) {
      frame.payload.copy(chunk, at);
      at += frame.bytes;
    }
    this.#chunk = chunk;
    this.#payload = chunk.subarray(start, at);
    return chunk;
  }
}

/** One frame as it is, several as a {@link Batch}. */
export function encodedOf(frames: readonly Frame[]): Encoded {
  return frames.length === 1 ? frames[0]! : new Batch(frames);
}

/** Both, in the order of dispatch. Neither changes. */
export function merge(first: Encoded, second: Encoded): Encoded {
  return new Batch(inOrder(first.frames, second.frames));
}

/** Frames of both, each in the order of dispatch, in that order. */
export function inOrder(left: readonly Frame[], right: readonly Frame[]): readonly Frame[] {
  if (left.length === 0) return right;
  const frames: Frame[] = [];
  let i = 0;
  let j = 0;
  while (i < left.length && j < right.length) {
    frames.push(left[i]!.order <= right[j]!.order ? left[i++]! : right[j++]!);
  }
  while (i < left.length) frames.push(left[i++]!);
  while (j < right.length) frames.push(right[j++]!);
  return frames;
}

/** What the text of an event is made of. */
export interface EventText {
  readonly id?: string | undefined;
  readonly event?: string | undefined;
  readonly data?: string | undefined;
  /** ms, a whole number. */
  readonly retry?: number | undefined;
}

const LINE_BREAK = /\r\n|\r|\n/;

/**
 * The SSE text of an event (HTML standard, section 9.2.5). Data is split on CR, LF and CRLF, one `data:` line
 * each. Names and ids must have been checked: they are written as they are.
 */
export function eventText({ id, event, data, retry }: EventText): string {
  let text = '';
  if (retry !== undefined) text += `retry: ${retry}\n`;
  if (id !== undefined) text += `id: ${id}\n`;
  if (event !== undefined) text += `event: ${event}\n`;
  if (data !== undefined) {
    if (data.includes('\n') || data.includes('\r')) {
      for (const line of data.split(LINE_BREAK)) text += `data: ${line}\n`;
    } else {
      text += `data: ${data}\n`;
    }
  }
  return `${text}\n`;
}

/** {@link eventText} for what is published most: one line of data. */
function textOf(id: string, { event, data }: BusEvent): string {
  if (data.includes('\n') || data.includes('\r')) return eventText({ id, event, data });
  return `id: ${id}\nevent: ${event}\ndata: ${data}\n\n`;
}

/** The id as clients get it: see tagged-id.ts. */
function idOf({ id, tag }: BusEvent): string {
  return tag === undefined ? id : id + tag;
}

/** The frame of an event, made when it is first needed and kept with it. */
export function frameOf(event: BusEvent): Frame {
  event.frame ??= frameWithId(event, idOf(event));
  return event.frame as Frame;
}

/** One with another id, which replays do not repeat. */
export function frameWithId(event: BusEvent, id: string): Frame {
  return new Frame(textOf(id, event), event, undefined, id);
}

/**
 * An event out of its place: it came after later ones, so its id must not become the client's cursor, which would go
 * backwards.
 */
export function withoutId(event: BusEvent): Frame {
  const { event: name, data } = event;
  const frame = new Frame(eventText({ event: name, data }), { ...event, id: '', tag: undefined });
  frame.isForOne = true;
  return frame;
}

/** A frame of the broker's own: it has no place in the order. */
export function controlFrame(parts: EventText): Frame {
  const frame = new Frame(eventText(parts), undefined, parts);
  frame.isForOne = true;
  return frame;
}

/** A comment: bytes that every client ignores (HTML standard, section 9.2.6). */
export function commentFrame(comment = ''): Frame {
  return new Frame(`:${comment}\n\n`);
}
