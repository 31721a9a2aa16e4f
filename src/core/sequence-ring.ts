/** Growing numbers, added at one end and taken from the other: the sequences of one channel key. */
export class SequenceRing {
  /** Its length is a power of two: nothing is allocated while as many come as go. */
  #ring: number[] = [0, 0, 0, 0];
  #first = 0;
  length = 0;

  at(index: number): number {
    return this.#ring[(this.#first + index) & (this.#ring.length - 1)]!;
  }

  push(sequence: number): void {
    const ring = this.#ring;
    if (this.length === ring.length) {
      this.#ring = [...ring.slice(this.#first), ...ring.slice(0, this.#first), ...ring.fill(0)];
      this.#first = 0;
    }
    this.#ring[(this.#first + this.length++) & (this.#ring.length - 1)] = sequence;
  }

  /** Takes the oldest. */
  shift(): number {
    const sequence = this.#ring[this.#first]!;
    this.#first = (this.#first + 1) & (this.#ring.length - 1);
    this.length--;
    return sequence;
  }

  /** Index of the first one after `sequence`. */
  indexAfter(sequence: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.at(middle) <= sequence) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
