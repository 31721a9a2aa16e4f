/**
 * Seeded randomness: two servers in one round get the same users, topics and order of publishes.
 *
 * @param {number} seed
 * @returns {() => number} uniform in [0, 1): mulberry32
 */
export function createRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/**
 * `count` different integers below `limit`.
 *
 * @param {() => number} random
 * @param {number} count
 * @param {number} limit
 */
export function pickDistinct(random, count, limit) {
  const picked = new Set();
  while (picked.size < Math.min(count, limit)) picked.add(Math.floor(random() * limit));
  return [...picked];
}
