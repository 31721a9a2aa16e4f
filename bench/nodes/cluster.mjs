/**
 * Three node processes over one Redis, a process full of clients, and a publisher that holds its pace whatever happens to
 * the nodes.
 */
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { createPublisher } from 'sse-broker';
import { RedisBus } from 'sse-broker/redis';
import { Child } from '../driver/child.mjs';
import { nowMicros, sleep } from '../shared/clock.mjs';

const NODE = fileURLToPath(new URL('./node.mjs', import.meta.url));
const FLEET = fileURLToPath(new URL('./fleet.mjs', import.meta.url));
const NODES = 3;
/** How long clients may take to have everything after the last publish. */
const PATIENCE_MS = 30_000;

export class Cluster {
  /** Events per topic. @type {number[]} */
  published = [];
  /** Publishes that were rejected. */
  rejected = 0;
  fleet = new Child('clients', FLEET);
  #redisPort = Number(process.env.REDIS_PORT ?? 6379);
  #namespace = `bench-nodes-${process.pid}`;
  #client = new Redis(this.#redisPort);
  #publisher = createPublisher({ bus: new RedisBus({ client: this.#client, namespace: this.#namespace }) });
  /** @type {{ child: Child, port: number, isInRotation: boolean }[]} */
  #nodes = [];

  /** @param {{ clients: number, topics: number }} options */
  async start({ clients, topics }) {
    this.published = new Array(topics).fill(0);
    for (let i = 0; i < NODES; i++) this.#nodes.push(await this.#startNode(i, 0));
    await this.fleet.ask('open', { ports: this.#ports(), count: clients, topics });
    await this.whenStreaming(clients);
    await this.fleet.ask('mark');
  }

  get size() {
    return this.#nodes.length;
  }

  /**
   * Publishes `rate` events a second, the topics in turn, until `during` is over; what is late is caught up with.
   *
   * @param {number} rate
   * @param {() => Promise<void>} during
   */
  async publishWhile(rate, during) {
    let isOver = false;
    const done = during().finally(() => {
      isOver = true;
    });
    const startedAt = performance.now();
    /** @type {Promise<unknown>[]} */
    const pending = [];
    for (let n = 0; !isOver; ) {
      const due = ((performance.now() - startedAt) / 1_000) * rate;
      for (; n < due; n++) pending.push(this.#publish(n % this.published.length));
      await sleep(2);
    }
    await done;
    await Promise.all(pending);
    const seconds = (performance.now() - startedAt) / 1_000;
    return { seconds, events: pending.length };
  }

  /** Every client is streaming. @param {number} clients */
  async whenStreaming(clients) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const { streaming } = await this.fleet.ask('look');
      if (streaming === clients) return;
      if (Date.now() > deadline) throw new Error(`${streaming} of ${clients} clients have a stream`);
      await sleep(50);
    }
  }

  /**
   * One node goes and another comes in its place, as in a deploy: out of rotation, closed, started, in rotation.
   *
   * @param {number} i
   * @param {number} clients
   * @param {number} reconnectWithinMs
   */
  async redeploy(i, clients, reconnectWithinMs) {
    const node = this.#nodes[i];
    if (node === undefined) throw new RangeError(`no node ${i}`);
    node.isInRotation = false;
    await this.fleet.ask('rotate', { ports: this.#ports() });
    await node.child.ask('close', { reconnectWithinMs });
    await node.child.stop();
    this.#nodes[i] = await this.#startNode(i, node.port);
    await this.fleet.ask('rotate', { ports: this.#ports() });
    await this.whenStreaming(clients);
  }

  /** Waits until every client has everything, or for long; then the accounts. */
  async report() {
    const deadline = Date.now() + PATIENCE_MS;
    while (!(await this.fleet.ask('isThrough', { published: this.published })) && Date.now() < deadline)
      await sleep(50);
    const report = await this.fleet.ask('report', { published: this.published });
    const stats = await Promise.all(this.#nodes.map(({ child }) => child.ask('stats')));
    return { ...report, rejected: this.rejected, replayed: stats.reduce((sum, { replayed }) => sum + replayed, 0) };
  }

  async stop() {
    await Promise.all([this.fleet.stop(), ...this.#nodes.map(({ child }) => child.stop())]);
    await this.#publisher.close();
    for await (const keys of this.#client.scanStream({ match: `*{${this.#namespace}}*`, count: 1_000 })) {
      if (keys.length > 0) await this.#client.unlink(...keys);
    }
    this.#client.disconnect();
  }

  #ports() {
    return this.#nodes.filter(({ isInRotation }) => isInRotation).map(({ port }) => port);
  }

  /** @param {number} i @param {number} port */
  async #startNode(i, port) {
    const child = new Child(`node ${i}`, NODE);
    const started = await child.ask('start', { port, redisPort: this.#redisPort, namespace: this.#namespace });
    return { child, port: started.port, isInRotation: true };
  }

  /** @param {number} topic */
  async #publish(topic) {
    const n = (this.published[topic] ?? 0) + 1;
    this.published[topic] = n;
    try {
      await this.#publisher.sendToTopic(`topic-${topic}`, 'tick', { n, at: nowMicros() });
    } catch {
      this.rejected++;
    }
  }
}

/**
 * What is wrong with a report, in words.
 *
 * @param {Record<string, number>} report
 */
export function faultsOf({ due, delivered, lost, repeated, beyond, gaps, rejected, refused }) {
  const faults = Object.entries({ lost, repeated, beyond, gaps, rejected, refused }).filter(([, count]) => count !== 0);
  const words = faults.map(([name, count]) => `${count} ${name}`);
  if (delivered !== due) words.push(`${delivered} deliveries, ${due} were due`);
  return words;
}
