/**
 * Who is due when: a set per quarter of a second, so that looking costs nothing for those who are not. Each is in it once, with the
 * earliest time that was set since they were due last.
 */

/** Width of a set, in ms. */
const WIDTH_MS = 250;

export class DueTimes<T> {
  readonly #sets = new Map<number, Set<T>>();
  readonly #places = new Map<T, number>();
  /** The first set that may be there; Infinity where there is none. */
  #first = Number.POSITIVE_INFINITY;

  get size(): number {
    return this.#places.size;
  }

  /** Due at `time` at the latest; Infinity: not for this. */
  set(who: T, time: number): void {
    if (time === Number.POSITIVE_INFINITY) return;
    const place = Math.floor(time / WIDTH_MS);
    const known = this.#places.get(who);
    if (known !== undefined) {
      if (known <= place) return;
      this.#remove(who, known);
    }
    const set = this.#sets.get(place);
    if (set) set.add(who);
    else this.#sets.set(place, new Set([who]));
    this.#places.set(who, place);
    if (place < this.#first) this.#first = place;
  }

  delete(who: T): void {
    const place = this.#places.get(who);
    if (place !== undefined) this.#remove(who, place);
  }

  /** Takes out all who may be due by `now`: some a quarter of a second early, who are to be set anew. */
  take(now: number): T[] {
    const last = Math.floor(now / WIDTH_MS);
    if (last < this.#first) return [];
    // Where much time has passed, or the first went, what is there is less than what may be.
    const isFar = last - this.#first >= this.#sets.size;
    const due = isFar ? [...this.#sets.keys()].filter((place) => place <= last) : range(this.#first, last);
    const taken: T[] = [];
    for (const place of due) {
      for (const who of this.#sets.get(place) ?? []) {
        taken.push(who);
        this.#places.delete(who);
      }
      this.#sets.delete(place);
    }
    this.#first = this.#sets.size === 0 ? Number.POSITIVE_INFINITY : last + 1;
    return taken;
  }

  #remove(who: T, place: number): void {
    this.#places.delete(who);
    const set = this.#sets.get(place);
    set?.delete(who);
    if (set?.size === 0) this.#sets.delete(place);
  }
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
