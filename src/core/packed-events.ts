/**
 * Events kept where the garbage collector does not look.
 *
 * A history of a hundred thousand events as objects is copied twice while it is young and looked through ever after: it
 * made publishing cost more than twice as much (bench/replay.mjs). So 256 consecutive events are packed together: their
 * texts into one Buffer, their numbers into one array. An event becomes an object again when it is read, and then stays in
 * a cache for a while, with its encoded frame. The newest events, not yet packed, are the objects that were delivered.
 *
 * Dropped events leave holes. When too much is held for what is kept, packs that are mostly holes are made small.
 */
import type { BusEvent } from './event.js';
import { EventCache } from './event-cache.js';
import type { KeySequences } from './sequence-index.js';

const SLOTS = 256;
/** Packs of longer texts stay objects: joining megabytes gains nothing. */
const PACKED_CHARS = 4 * 1024 * 1024;
/** A pack of so few events keeps them as objects and nothing else. */
const SPARSE = 32;
/** What an event costs besides its text. */
const EVENT_OVERHEAD = 64;
/** What a pack costs besides the text. */
const PACK_OVERHEAD = SLOTS * 50;
/** For events that are read again and again. */
const CACHE_BYTES = 16 * 1024 * 1024;
/** Emptied packs whose arrays are used again. */
const SPARE_PACKS = 2;
/** Holes that are always allowed. */
const SLACK_BYTES = 128 * 1024;

const JSON_FLAG = 1;
const KEPT_FLAG = 2;
/** Numbers of one event: where its text ends, timestamp, expiresAt, storedAt. */
const NUMBERS = 4;

/** The arrays of a pack that is not sparse. */
class Arrays {
  readonly keys = new Array<KeySequences | undefined>(SLOTS).fill(undefined);
  readonly names = new Array<string>(SLOTS).fill('');
  readonly numbers = new Float64Array(SLOTS * NUMBERS);
  readonly flags = new Uint8Array(SLOTS);
  text: Buffer = Buffer.alloc(0);
}

/** An event of a sparse pack. */
interface Sparse {
  readonly event: BusEvent;
  readonly key: KeySequences;
  readonly storedAt: number;
}

class Pack {
  readonly number: number;
  arrays: Arrays | undefined;
  /** The events themselves, until they are packed. */
  events: (BusEvent | undefined)[] | undefined = new Array(SLOTS).fill(undefined);
  /** In order; instead of the arrays, when few are left. */
  sparse: Map<number, Sparse> | undefined = undefined;
  /** Bytes of `arrays.text` in use. */
  textBytes = 0;
  isAscii = true;
  length = 0;
  kept = 0;
  keptBytes = 0;
  /** Slots before it are dropped. */
  first = 0;
  previous: Pack | undefined = undefined;
  next: Pack | undefined = undefined;

  constructor(number: number, arrays: Arrays) {
    this.number = number;
    this.arrays = arrays;
  }
}

export class PackedEvents {
  readonly #idOf: (sequence: number) => string;
  readonly #packs = new Map<number, Pack>();
  readonly #cache = new EventCache(CACHE_BYTES);
  readonly #spare: Arrays[] = [];
  #oldest: Pack | undefined = undefined;
  #newest: Pack | undefined = undefined;
  /** What the packs hold, holes included, and above what they are made small. */
  #heldBytes = 0;
  #heldLimit = 0;
  /** Events kept. */
  length = 0;
  /** What they cost. */
  bytes = 0;

  constructor(idOf: (sequence: number) => string) {
    this.#idOf = idOf;
  }

  /** Adds the event after the newest; sequences may leave none out. `storedAt`: ms since 1970. */
  push(event: BusEvent, key: KeySequences, storedAt: number): void {
    const number = Math.floor(event.sequence / SLOTS);
    const slot = event.sequence % SLOTS;
    let pack = this.#newest;
    if (pack === undefined || pack.number !== number) pack = this.#open(number, slot);
    const { keys, names, numbers, flags } = pack.arrays!;
    const at = slot * NUMBERS;
    const chars = event.data.length;
    keys[slot] = key;
    names[slot] = event.event;
    numbers[at] = startOf(numbers, slot) + chars;
    numbers[at + 1] = event.timestamp;
    numbers[at + 2] = event.expiresAt;
    numbers[at + 3] = storedAt;
    flags[slot] = event.json ? JSON_FLAG | KEPT_FLAG : KEPT_FLAG;
    pack.events![slot] = event;
    pack.length = slot + 1;
    pack.kept++;
    pack.keptBytes += chars;
    this.length++;
    this.bytes += chars + EVENT_OVERHEAD;
    if (pack.length === SLOTS) this.#pack(pack);
  }

  /** The event of a sequence that was pushed and not deleted. */
  get(sequence: number): BusEvent {
    const pack = this.#packs.get(Math.floor(sequence / SLOTS))!;
    const slot = sequence % SLOTS;
    if (pack.sparse !== undefined) return pack.sparse.get(slot)!.event;
    if (pack.events !== undefined) return pack.events[slot]!;
    let event = this.#cache.get(sequence);
    if (event === undefined) {
      event = this.#unpack(pack, pack.arrays!, slot);
      this.#cache.set(event);
    }
    return event;
  }

  delete(sequence: number): void {
    const pack = this.#packs.get(Math.floor(sequence / SLOTS))!;
    const slot = sequence % SLOTS;
    let bytes: number;
    if (pack.sparse !== undefined) {
      bytes = pack.sparse.get(slot)!.event.data.length;
      pack.sparse.delete(slot);
    } else {
      const { numbers, flags } = pack.arrays!;
      bytes = numbers[slot * NUMBERS]! - startOf(numbers, slot);
      flags[slot] = 0;
      if (pack.events !== undefined) pack.events[slot] = undefined;
    }
    pack.kept--;
    pack.keptBytes -= bytes;
    this.length--;
    this.bytes -= bytes + EVENT_OVERHEAD;
    if (pack.kept === 0 && pack.length === SLOTS) this.#remove(pack);
    else if (this.#heldBytes > this.#heldLimit) this.#makeSmall();
  }

  /** The oldest event: its key, and when it was stored; undefined where there is none. */
  oldest(): { readonly key: KeySequences; readonly storedAt: number } | undefined {
    const pack = this.#oldest;
    if (pack === undefined || pack.kept === 0) return undefined;
    if (pack.sparse !== undefined) for (const event of pack.sparse.values()) return event;
    const { flags, keys, numbers } = pack.arrays!;
    while ((flags[pack.first]! & KEPT_FLAG) === 0) pack.first++;
    return { key: keys[pack.first]!, storedAt: numbers[pack.first * NUMBERS + 3]! };
  }

  #open(number: number, slot: number): Pack {
    const pack = new Pack(number, this.#spare.pop() ?? new Arrays());
    pack.first = slot;
    if (slot > 0) pack.arrays!.numbers[(slot - 1) * NUMBERS] = 0;
    pack.previous = this.#newest;
    if (this.#newest === undefined) this.#oldest = pack;
    else this.#newest.next = pack;
    this.#newest = pack;
    this.#packs.set(number, pack);
    return pack;
  }

  #remove(pack: Pack): void {
    this.#packs.delete(pack.number);
    if (pack.previous === undefined) this.#oldest = pack.next;
    else pack.previous.next = pack.next;
    if (pack.next === undefined) this.#newest = pack.previous;
    else pack.next.previous = pack.previous;
    this.#release(pack);
  }

  #release(pack: Pack): void {
    const { arrays } = pack;
    if (arrays === undefined) return;
    if (pack.events === undefined) this.#heldBytes -= pack.textBytes + PACK_OVERHEAD;
    pack.arrays = undefined;
    arrays.flags.fill(0);
    if (this.#spare.length < SPARE_PACKS) this.#spare.push(arrays);
  }

  /** Texts of a full pack into one Buffer. */
  #pack(pack: Pack): void {
    if (pack.keptBytes > PACKED_CHARS) return;
    const events = pack.events!;
    const arrays = pack.arrays!;
    const { numbers } = arrays;
    const parts: string[] = [];
    for (const event of events) if (event !== undefined) parts.push(event.data);
    const text = parts.join('');
    const bytes = Buffer.byteLength(text);
    const isAscii = bytes === text.length;
    if (!isAscii) {
      const sum = parts.reduce((total, part) => total + Buffer.byteLength(part), 0);
      // Halves of a surrogate pair met at the seam of two texts: such a pack stays as it is.
      if (sum !== bytes) return;
      this.bytes += bytes - pack.keptBytes;
      pack.keptBytes = bytes;
    }
    // Events that were dropped meanwhile have no text.
    let end = 0;
    for (let slot = 0; slot < SLOTS; slot++) {
      const data = events[slot]?.data;
      if (data !== undefined) end += isAscii ? data.length : Buffer.byteLength(data);
      numbers[slot * NUMBERS] = end;
    }
    if (arrays.text.length < bytes || arrays.text.length > bytes * 2) arrays.text = Buffer.allocUnsafeSlow(bytes);
    if (isAscii) arrays.text.write(text, 0, 'latin1');
    else arrays.text.write(text, 0, 'utf8');
    pack.isAscii = isAscii;
    pack.textBytes = bytes;
    pack.events = undefined;
    this.#heldBytes += bytes + PACK_OVERHEAD;
    this.#heldLimit = Math.max(this.#heldLimit, this.bytes + SLACK_BYTES);
    if (pack.kept === 0) this.#remove(pack);
  }

  #unpack(pack: Pack, { keys, names, numbers, flags, text }: Arrays, slot: number): BusEvent {
    const sequence = pack.number * SLOTS + slot;
    const end = numbers[slot * NUMBERS]!;
    return {
      id: this.#idOf(sequence),
      sequence,
      key: keys[slot]!.key,
      event: names[slot]!,
      data: text.toString(pack.isAscii ? 'latin1' : 'utf8', startOf(numbers, slot), end),
      json: (flags[slot]! & JSON_FLAG) !== 0,
      timestamp: numbers[slot * NUMBERS + 1]!,
      expiresAt: numbers[slot * NUMBERS + 2]!,
      frame: undefined,
    };
  }

  /** Packs that are mostly holes let go of them: all at once, so that it costs little per event that was dropped. */
  #makeSmall(): void {
    for (let pack = this.#oldest; pack !== undefined; pack = pack.next) {
      if (pack.arrays === undefined || pack.events !== undefined) continue;
      if (pack.kept <= SPARSE) this.#makeSparse(pack, pack.arrays);
      else if (pack.keptBytes * 2 < pack.textBytes) this.#closeHoles(pack, pack.arrays);
    }
    this.#heldLimit = Math.max(this.bytes, 1.25 * this.#heldBytes) + SLACK_BYTES;
  }

  #makeSparse(pack: Pack, arrays: Arrays): void {
    const sparse = new Map<number, Sparse>();
    let chars = 0;
    for (let slot = 0; slot < SLOTS; slot++) {
      if ((arrays.flags[slot]! & KEPT_FLAG) === 0) continue;
      const event = this.#unpack(pack, arrays, slot);
      const storedAt = arrays.numbers[slot * NUMBERS + 3]!;
      sparse.set(slot, { event: this.#cache.get(event.sequence) ?? event, key: arrays.keys[slot]!, storedAt });
      chars += event.data.length;
    }
    this.bytes += chars - pack.keptBytes;
    pack.keptBytes = chars;
    this.#release(pack);
    pack.sparse = sparse;
  }

  #closeHoles(pack: Pack, arrays: Arrays): void {
    const { numbers, flags } = arrays;
    const text = Buffer.allocUnsafeSlow(pack.keptBytes);
    let start = 0;
    let end = 0;
    for (let slot = 0; slot < SLOTS; slot++) {
      const oldEnd = numbers[slot * NUMBERS]!;
      if ((flags[slot]! & KEPT_FLAG) !== 0) {
        arrays.text.copy(text, end, start, oldEnd);
        end += oldEnd - start;
      }
      start = oldEnd;
      numbers[slot * NUMBERS] = end;
    }
    this.#heldBytes -= pack.textBytes - end;
    pack.textBytes = end;
    arrays.text = text;
  }
}

/** Where the text of `slot` begins: where the one before ends. */
function startOf(numbers: Float64Array, slot: number): number {
  return slot === 0 ? 0 : numbers[(slot - 1) * NUMBERS]!;
}
