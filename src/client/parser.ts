/**
 * Bytes of an event stream → blocks, by the HTML standard, sections 9.2.5 and 9.2.6, wherever the bytes are cut.
 *
 * Why not `eventsource-parser`, which we test against: it takes the text "ï»¿" at the start of a stream for a byte order mark
 * that nobody decoded, and drops it; its limit is not looked at where an event lies in one chunk; and it is 1.8 kB of the 8
 * that the client may have. This one does no more work per event (bench/client.mjs).
 *
 * Linear in the bytes: no search looks past the line that it is about, and a line that comes in pieces is put together once,
 * when its end is here: until then `rest` is a rope, in which engines only note what is to be joined.
 */
import { COLON, SPACE } from './constants.js';
import { SSEClientError } from './errors.js';

/** Takes the next bytes of a stream. */
export type Parser = (bytes: Uint8Array) => void;

export interface ParserHost {
  /** A block is complete: `data` is undefined where it has an id only. */
  block(type: string, data: string | undefined, id: string | undefined): void;
  /** A `retry` field, in ms. */
  retry(delay: number): void;
}

/** By their first letters. */
const FIELDS: Readonly<Record<string, string>> = { d: 'data', e: 'event', i: 'id', r: 'retry' };

/** @throws {SSEClientError} while fed: `SSE_CLIENT_TOO_LARGE`; it takes no more after that */
export function createParser(maxEventBytes: number, host: ParserHost): Parser {
  // Makes U+FFFD of what is not UTF-8, as the standard says.
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  /** A line of which the end has not come. */
  let rest = '';
  /** Bytes of the unfinished block that came with earlier chunks. */
  let earlier = 0;
  /** Left out where it comes next: one byte order mark at the start, and an LF after a chunk that ended with CR. */
  let skipped = '\ufeff';
  let type = '';
  let data: string | undefined;
  let id: string | undefined;

  return (bytes) => {
    // Nothing is cut where the last byte is ASCII. Without `stream` Node decodes much faster, and into strings of one byte
    // for each character (bench/client.mjs).
    const text = decoder.decode(bytes, { stream: !(bytes[bytes.length - 1]! < 128) });
    if (!text) return;
    // Exact where a chunk is ASCII, or all of one block; so it is for large blocks.
    const bytesPerUnit = bytes.length / text.length;
    let at = text[0] === skipped ? 1 : 0;
    let blockStart = at;
    skipped = '';
    const size = (end: number) => {
      earlier += (end - blockStart) * bytesPerUnit;
      if (earlier > maxEventBytes) {
        throw new SSEClientError('SSE_CLIENT_TOO_LARGE', `over ${maxEventBytes} bytes`);
      }
    };
    let lf = text.indexOf('\n', at);
    let cr = text.indexOf('\r', at);
    for (;;) {
      const end = cr === -1 || (lf !== -1 && lf < cr) ? lf : cr;
      if (end === -1) break;
      const isBlank = end === at && !rest;
      if (isBlank) {
        size(end);
        earlier = 0;
        if (data !== undefined || id !== undefined) host.block(type, data, id);
        type = '';
        data = id = undefined;
      } else if (rest) {
        rest += text.slice(at, end);
        takeLine(rest, 0, rest.length);
        rest = '';
      } else takeLine(text, at, end);
      at = end + 1;
      if (end === cr) {
        if (lf === at) at++;
        else if (at === text.length) skipped = '\n';
        cr = text.indexOf('\r', at);
      }
      if (lf !== -1 && lf < at) lf = text.indexOf('\n', at);
      if (isBlank) blockStart = at;
    }
    rest += text.slice(at);
    size(text.length);
  };

  function takeLine(text: string, at: number, end: number): void {
    const name = FIELDS[text[at]!];
    // A name that is sliced out to be looked at costs more than the rest of a line (bench/client.mjs).
    if (!name || !text.startsWith(name, at)) return;
    const colon = at + name.length;
    if (colon < end && text.charCodeAt(colon) !== COLON) return;
    const value = text.slice(colon + (text.charCodeAt(colon + 1) === SPACE ? 2 : 1), end);
    if (name === 'data') data = data === undefined ? value : `${data}\n${value}`;
    else if (name === 'event') type = value;
    else if (name === 'id') {
      if (!value.includes('\0')) id = value;
    } else if (/^\d+$/.test(value)) host.retry(+value);
  }
}
