/**
 * What one client was shown, against what it was due: the events of its topic are numbered from 1, so each must be one more
 * than the last. Everything else is a fault, a gap included: history reaches back far enough in these benchmarks.
 */
export class Account {
  /** Number of the last event. */
  last = 0;
  lost = 0;
  repeated = 0;
  gaps = 0;

  /** @param {number} number */
  event(number) {
    if (number <= this.last) {
      this.repeated++;
      return;
    }
    this.lost += number - this.last - 1;
    this.last = number;
  }
}
