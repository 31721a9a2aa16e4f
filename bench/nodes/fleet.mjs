/** All clients, in a process of their own, and the load balancer before the nodes: who is in rotation is picked at random. */
import { answer } from '../shared/ipc.mjs';
import { createRandom } from '../shared/random.mjs';
import { Client } from './client.mjs';

const random = createRandom(7);
/** @type {number[]} */
let rotation = [];
/** @type {Client[]} */
let clients = [];
/** @type {number[]} how long each was without a stream, in µs */
let away = [];
/** @type {number[]} from a request to the first frame, in µs */
let opening = [];
/** @type {number[]} when each came back, in ms */
let returns = [];
/** @type {number[]} from publish to read, in µs */
let latencies = [];
let refused = 0;
let delivered = 0;

const host = {
  pickPort: () => (rotation.length === 0 ? undefined : rotation[Math.floor(random() * rotation.length)]),
  /** @param {number} awayMicros @param {number} openedMicros */
  connected(awayMicros, openedMicros) {
    opening.push(openedMicros);
    if (Number.isNaN(awayMicros)) return;
    away.push(awayMicros);
    returns.push(performance.now());
  },
  /** @param {number} lateMicros */
  seen(lateMicros) {
    // Every sixteenth: enough for a percentile, little enough to keep.
    if (++delivered % 16 === 0) latencies.push(lateMicros);
  },
  refused: () => refused++,
};

answer({
  /** @param {{ ports: number[], count: number, topics: number }} message */
  open({ ports, count, topics }) {
    rotation = ports;
    clients = Array.from({ length: count }, (_, i) => new Client(`topic-${i % topics}`, host));
    for (const client of clients) client.open();
  },
  /** @param {{ ports: number[] }} message */
  rotate({ ports }) {
    rotation = ports;
  },
  /** @param {{ ms: number, isSilent: boolean }} message */
  loseNetwork({ ms, isSilent }) {
    for (const client of clients) client.loseNetwork(ms, isSilent);
  },
  look: () => ({ streaming: clients.filter(({ isStreaming }) => isStreaming).length, delivered }),
  /** Forgets the times of before; accounts go on. */
  mark() {
    [away, opening, returns, latencies, refused] = [[], [], [], [], 0];
  },
  /** @param {{ published: number[] }} message events per topic */
  isThrough({ published }) {
    return clients.every(({ account }, i) => account.last >= (published[i % published.length] ?? 0));
  },
  /** @param {{ published: number[] }} message */
  report({ published }) {
    const sum = (/** @type {(client: Client, i: number) => number} */ of) =>
      clients.reduce((n, c, i) => n + of(c, i), 0);
    const due = (/** @type {number} */ i) => published[i % published.length] ?? 0;
    return {
      due: sum((_, i) => due(i)),
      delivered,
      lost: sum(({ account }, i) => account.lost + Math.max(0, due(i) - account.last)),
      repeated: sum(({ account }) => account.repeated),
      beyond: sum(({ account }, i) => Math.max(0, account.last - due(i))),
      gaps: sum(({ account }) => account.gaps),
      refused,
      returns: returns.length,
      peakPerSecond: peakPerSecond(returns),
      awayMs: percentiles(away),
      openMs: percentiles(opening),
      latencyMs: percentiles(latencies),
    };
  },
});

/** @param {number[]} micros */
function percentiles(micros) {
  const sorted = Float64Array.from(micros).sort();
  const at = (/** @type {number} */ share) =>
    Math.round((sorted[Math.floor((sorted.length - 1) * share)] ?? 0) / 100) / 10;
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}

/** Most within any second. @param {number[]} times in order */
function peakPerSecond(times) {
  let [most, from] = [0, 0];
  for (const [i, time] of times.entries()) {
    while (time - (times[from] ?? 0) >= 1_000) from++;
    most = Math.max(most, i - from + 1);
  }
  return most;
}
