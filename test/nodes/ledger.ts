/**
 * What was published and what became of it, and the one judgement over it: each visitor has every event that it was owed,
 * once, in the one order of the bus, or was told a gap that covers it before it was shown anything later.
 */
import type { Outcome, Target } from './node-program.js';
import type { Person, Told, Visitor } from './visitor.js';

/**
 * How a bus counts: `ever` where sequences grow also over a new epoch, which then need not mean a loss (Redis); `per epoch`
 * where each epoch begins anew (NATS).
 */
export type Counting = 'ever' | 'per epoch';

/** An event id, taken apart: the epoch before the last hyphen, the sequence after it. */
interface Place {
  /** Empty where all epochs count as one. */
  readonly epoch: string;
  readonly sequence: number;
}

interface Entry {
  readonly target: Target;
  /** When it was about to be published, in ms: a gap told before that is none of its. */
  readonly since: number;
  /** Present where the publish resolved. */
  id: string | undefined;
}

/** What is known of the id of an event. */
interface Known {
  readonly id: string;
  /** False where only its publisher says so. */
  readonly isSeen: boolean;
}

export function isFor({ identity, topics }: Person, { kind, name, tenantId }: Target): boolean {
  if (tenantId !== undefined && tenantId !== identity.tenantId) return false;
  if (kind === 'user') return identity.userId === name;
  return kind === 'everybody' || topics.includes(name);
}

const sequenceOf = (id: string): number => Number(id.slice(id.lastIndexOf('-') + 1));

export class Ledger {
  readonly #counting: Counting;
  readonly #entries: Entry[] = [];
  /** Of publishes that failed in a way that an application should never see. */
  readonly #wrong: string[] = [];
  acknowledged = 0;
  rejected = 0;

  constructor(counting: Counting) {
    this.#counting = counting;
  }

  /** Notes one that is about to be published; its number. */
  add(target: Target): number {
    this.#entries.push({ target, since: performance.now(), id: undefined });
    return this.#entries.length - 1;
  }

  settle({ n, id, code, retryable }: Outcome): void {
    if (id !== undefined) {
      this.#entries[n]!.id = id;
      this.acknowledged++;
      return;
    }
    this.rejected++;
    // Loud and retryable, or it is a bug.
    if (code !== 'SSE_ERR_BUS_UNAVAILABLE' || retryable !== true) this.#wrong.push(`${n}: ${code}`);
  }

  isAcknowledged(n: number): boolean {
    return this.#entries[n]?.id !== undefined;
  }

  /** Whether a visitor has an event, or was told of a gap that covers it. */
  isAccountedFor(n: number, visitor: Visitor): boolean {
    const { id, since } = this.#entries[n]!;
    if (visitor.seen.some((one) => one.n === n)) return true;
    if (id === undefined) return false;
    const place = this.#placeOf(id);
    return visitor.told.some(
      (told) => told.time >= since && (this.#admits(told, place, visitor) || this.#mayAdmit(told, place)),
    );
  }

  /** What is wrong, in words; empty where everything holds. `upTo`: events from that number on are not owed yet. */
  faults(visitors: readonly Visitor[], upTo: number): string[] {
    const faults = this.#wrong.map((wrong) => `publish ${wrong}`);
    const ids = this.#ids(visitors, faults);
    for (const [who, visitor] of visitors.entries()) {
      const say = (what: string) => faults.push(`visitor ${who}: ${what}`);
      this.#judgeSeen(visitor, say);
      this.#judgeMissing(visitor, upTo, ids, say);
    }
    return faults;
  }

  /** The id of each event that has one: everybody sees it under the same, which is the one that its publisher was given. */
  #ids(visitors: readonly Visitor[], faults: string[]): Map<number, Known> {
    const ids = new Map<number, Known>();
    const numbers = new Map<string, number>();
    for (const { seen } of visitors) {
      for (const { n, id } of seen) {
        const known = ids.get(n)?.id;
        if (known !== undefined && known !== id) faults.push(`event ${n} is ${id} and ${known}`);
        if ((numbers.get(id) ?? n) !== n) faults.push(`${id} is event ${n} and ${numbers.get(id)}`);
        ids.set(n, { id, isSeen: true });
        numbers.set(id, n);
      }
    }
    for (const [n, { id }] of this.#entries.entries()) {
      if (id === undefined) continue;
      const seen = ids.get(n)?.id;
      if (seen === undefined) {
        ids.set(n, { id, isSeen: false });
        continue;
      }
      // A NATS node that has not noticed yet that the stream is another calls what it publishes after the lost one.
      const isSame = this.#counting === 'ever' ? seen === id : sequenceOf(seen) === sequenceOf(id);
      if (!isSame) faults.push(`event ${n} is ${seen}, and was published as ${id}`);
    }
    return ids;
  }

  /** Its own, once, in order; another epoch only behind a gap. */
  #judgeSeen({ seen, told, person }: Visitor, say: (what: string) => void): void {
    const numbers = new Set<number>();
    const epochsLeft = new Set<string>();
    let before: Place | undefined;
    for (const [i, { n, id }] of seen.entries()) {
      const entry = this.#entries[n];
      if (entry === undefined) say(`an event that nobody published: ${n}`);
      else if (!isFor(person, entry.target)) say(`an event of others: ${n} ${JSON.stringify(entry.target)}`);
      if (numbers.has(n)) say(`event ${n} twice`);
      numbers.add(n);
      const place = this.#placeOf(id);
      if (before !== undefined && before.epoch === place.epoch && place.sequence <= before.sequence) {
        say(`${id} after ${seen[i - 1]!.id}`);
      }
      if (before !== undefined && before.epoch !== place.epoch) {
        epochsLeft.add(before.epoch);
        if (!told.some(({ at }) => at === i)) say(`a new epoch with ${id} without a gap before it`);
      }
      if (epochsLeft.has(place.epoch)) say(`back in an epoch that was over: ${id}`);
      before = place;
    }
  }

  /** All that is its own and not among what it saw: told, and before anything later. */
  #judgeMissing(visitor: Visitor, upTo: number, ids: ReadonlyMap<number, Known>, say: (what: string) => void): void {
    const places = visitor.seen.map(({ id }) => this.#placeOf(id));
    const numbers = new Set(visitor.seen.map(({ n }) => n));
    for (let n = 0; n < upTo; n++) {
      const { target, since, id: acknowledged } = this.#entries[n]!;
      if (acknowledged === undefined || numbers.has(n) || !isFor(visitor.person, target)) continue;
      const { id, isSeen } = ids.get(n)!;
      const place = this.#placeOf(id);
      const told = visitor.told.filter(
        (one) => one.time >= since && (this.#admits(one, place, visitor) || (!isSeen && this.#mayAdmit(one, place))),
      );
      if (told.length === 0) {
        say(`event ${n} (${id}) is missing and nobody was told; ${visitor}`);
        continue;
      }
      const later = places.findIndex(({ epoch, sequence }) => epoch === place.epoch && sequence > place.sequence);
      const isInTime = later === -1 || told.some(({ at }) => at <= later);
      if (!isInTime) say(`event ${n} (${id}) is missing, and was told after ${visitor.seen[later]!.id}`);
    }
  }

  /** Whether a gap leaves the epoch of an event: its publisher's node may not have noticed that this one was over. */
  #mayAdmit({ gap, cursor }: Told, { epoch }: Place): boolean {
    if (this.#counting === 'ever' || gap.resumedFrom === null) return false;
    return this.#placeOf(gap.requested ?? cursor).epoch === epoch && this.#placeOf(gap.resumedFrom).epoch !== epoch;
  }

  #placeOf(id: string): Place {
    const at = id.lastIndexOf('-');
    return { epoch: this.#counting === 'ever' ? '' : id.slice(0, at), sequence: sequenceOf(id) };
  }

  /** Whether a gap covers an event: after the cursor of before, and up to where nothing is missing any more. */
  #admits({ gap, cursor, at }: Told, { epoch, sequence }: Place, visitor: Visitor): boolean {
    const from = this.#placeOf(gap.requested ?? cursor);
    // A bus that could not say where it is complete again: at the latest where the next event was.
    const end = gap.resumedFrom ?? visitor.seen[at]?.id;
    if (end === undefined) return true;
    const to = this.#placeOf(end);
    if (from.epoch === to.epoch) return epoch === from.epoch && sequence > from.sequence && sequence <= to.sequence;
    if (epoch === from.epoch) return sequence > from.sequence;
    return epoch !== to.epoch || sequence <= to.sequence;
  }
}
