/** The texts of a pack: joined in one Buffer, out of it again as events, and without what was dropped. */
import { type BusEvent, marked } from './event.js';
import type { EventCache } from './event-cache.js';
import {
  AFTER,
  type Arrays,
  type Chain,
  FLAGS,
  IS_JSON,
  LINKS,
  MARKS,
  NUMBERS,
  type Pack,
  SIZE,
  SLOTS,
  type Sparse,
  START,
  TIMESTAMP,
} from './event-pack.js';

/** Packs of longer texts stay objects: joining megabytes gains nothing. */
const PACKED_CHARS = 4 * 1024 * 1024;
/** Texts differ a little from pack to pack: a Buffer that fits one more kind is used again more often. */
const TEXT_STEP = 4 * 1024;
/** Bytes of a character in UTF-8. */
const LONGEST_CHARACTER = 4;
const NO_TEXT = Buffer.alloc(0);

/** Puts the texts of a pack into one Buffer; false where they stay as they are. */
export function joinTexts(pack: Pack<Chain>): boolean {
  if (pack.keptBytes > PACKED_CHARS) return false;
  const arrays = pack.arrays!;
  const text = pack.texts!.join('');
  let bytes = text.length;
  makeRoom(arrays, bytes);
  // As many bytes as characters: so it is ASCII. To count the bytes first would cost as much as this.
  const isAscii = arrays.text.write(text, 0, 'utf8') === bytes;
  if (!isAscii) bytes = Buffer.byteLength(text);
  if ((!isAscii || pack.hasEarlyHoles) && !place(pack, arrays, bytes)) {
    arrays.text = NO_TEXT;
    return false;
  }
  if (!isAscii) {
    makeRoom(arrays, bytes);
    arrays.text.write(text, 0, 'utf8');
  }
  pack.isAscii = isAscii;
  pack.textBytes = bytes;
  pack.texts = undefined;
  return true;
}

/**
 * Room for so many bytes, and one character more: of a text with more bytes than characters, more of them are written than
 * it has characters, also where there is not room for all.
 */
function makeRoom(arrays: Arrays<Chain>, bytes: number): void {
  const room = Math.ceil((bytes + LONGEST_CHARACTER) / TEXT_STEP) * TEXT_STEP;
  const { length } = arrays.text;
  if (length < room || length > 2 * room) arrays.text = Buffer.allocUnsafeSlow(room);
}

/** Where texts are in bytes of UTF-8, without what was dropped; false where they cannot be told apart in it. */
function place(pack: Pack<Chain>, { marks, links }: Arrays<Chain>, bytes: number): boolean {
  const sizes = pack.texts!.map((text) => Buffer.byteLength(text));
  // Halves of a surrogate pair met at the seam of two texts: such a pack stays as it is.
  if (sizes.reduce((total, size) => total + size, 0) !== bytes) return false;
  let end = 0;
  for (let slot = 0; slot < SLOTS; slot++) {
    if (links[slot * LINKS + SIZE]! < 0) continue;
    marks[slot * MARKS + START] = end;
    links[slot * LINKS + SIZE] = sizes[slot]!;
    end += sizes[slot]!;
  }
  pack.keptBytes = bytes;
  return true;
}

/** The event in a slot, as an object. */
export function unpack(
  { base, texts, isAscii }: Pack<Chain>,
  { chains, names, marks, links, numbers, expiries, extras, text }: Arrays<Chain>,
  slot: number,
  idOf: (sequence: number) => string,
): BusEvent {
  const sequence = base + slot;
  const start = marks[slot * MARKS + START]!;
  const event: BusEvent = {
    id: idOf(sequence),
    sequence,
    key: chains[slot]!.key,
    event: names[slot]!,
    data: texts?.[slot] ?? text.toString(isAscii ? 'latin1' : 'utf8', start, start + links[slot * LINKS + SIZE]!),
    json: (marks[slot * MARKS + FLAGS]! & IS_JSON) !== 0,
    timestamp: numbers[slot * NUMBERS + TIMESTAMP]!,
    expiresAt: expiries?.[slot] ?? 0,
    frame: undefined,
  };
  const extra = extras?.get(slot);
  return marked(event, extra?.priority, extra?.tag);
}

/** What is left in a pack as objects, those of `cache` where it has them, and how many characters of text that is. */
export function sparseOf<C extends Chain>(
  pack: Pack<C>,
  arrays: Arrays<C>,
  idOf: (sequence: number) => string,
  cache: EventCache,
): { readonly sparse: Map<number, Sparse<C>>; readonly chars: number } {
  const sparse = new Map<number, Sparse<C>>();
  let chars = 0;
  for (let slot = 0; slot < SLOTS; slot++) {
    if (arrays.links[slot * LINKS + SIZE]! < 0) continue;
    const event = unpack(pack, arrays, slot, idOf);
    const { sequence } = event;
    sparse.set(slot, {
      event: cache.get(sequence) ?? event,
      chain: arrays.chains[slot]!,
      storedAt: arrays.storedAt?.[slot] ?? 0,
      before: arrays.before(slot),
      after: sequence + arrays.links[slot * LINKS + AFTER]!,
    });
    chars += event.data.length;
  }
  return { sparse, chars };
}

/** Takes what was dropped out of the Buffer; gives how many bytes that frees. */
export function closeHoles(pack: Pack<Chain>, arrays: Arrays<Chain>): number {
  const { marks, links } = arrays;
  const text = Buffer.allocUnsafeSlow(pack.keptBytes);
  let end = 0;
  for (let slot = 0; slot < SLOTS; slot++) {
    const size = links[slot * LINKS + SIZE]!;
    if (size < 0) continue;
    const start = marks[slot * MARKS + START]!;
    marks[slot * MARKS + START] = end;
    end += arrays.text.copy(text, end, start, start + size);
  }
  const freed = pack.textBytes - end;
  pack.textBytes = end;
  arrays.text = text;
  return freed;
}
