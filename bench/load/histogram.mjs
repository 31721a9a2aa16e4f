/**
 * Latencies in buckets that grow with the value: exact below 128 µs, then 64 buckets per doubling (1.6 % wide), so a
 * delivery costs one increment and millions of them a few kilobytes.
 */
const LINEAR = 128;
const PER_DOUBLING = 64;
const BUCKETS = LINEAR + PER_DOUBLING * 25; // up to 2^32 µs, more than an hour

export class Histogram {
  count = 0;
  max = 0;
  #buckets = new Float64Array(BUCKETS);

  /** @param {number} micros */
  record(micros) {
    const value = micros < 0 ? 0 : micros > 4294967295 ? 4294967295 : Math.floor(micros);
    this.count++;
    if (value > this.max) this.max = value;
    this.#buckets[bucketOf(value)]++;
  }

  reset() {
    this.count = 0;
    this.max = 0;
    this.#buckets.fill(0);
  }

  /**
   * The upper edge of the bucket that holds the quantile; 0 without values.
   *
   * @param {number} quantile 0.99 for p99
   */
  quantile(quantile) {
    let left = Math.max(1, Math.ceil(this.count * quantile));
    if (this.count === 0) return 0;
    for (let i = 0; i < BUCKETS; i++) {
      left -= this.#buckets[i];
      if (left <= 0) return Math.min(upperEdge(i), this.max);
    }
    return this.max;
  }

  summary() {
    return {
      count: this.count,
      p50: this.quantile(0.5),
      p99: this.quantile(0.99),
      p999: this.quantile(0.999),
      max: this.max,
    };
  }
}

/** @param {number} value */
function bucketOf(value) {
  if (value < LINEAR) return value;
  const exponent = 31 - Math.clz32(value);
  return LINEAR + (exponent - 7) * PER_DOUBLING + (Math.floor(value / 2 ** (exponent - 6)) - PER_DOUBLING);
}

/** @param {number} bucket */
function upperEdge(bucket) {
  if (bucket < LINEAR) return bucket;
  const exponent = Math.floor((bucket - LINEAR) / PER_DOUBLING) + 7;
  const within = (bucket - LINEAR) % PER_DOUBLING;
  return (PER_DOUBLING + within + 1) * 2 ** (exponent - 6) - 1;
}
