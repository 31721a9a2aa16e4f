/**
 * One timer for all clients: heartbeats, dead readers and deadlines.
 *
 * Clients sit in the slots of a wheel that turns once in half an interval, at most 15 seconds, so work is spread evenly
 * and a visit costs no look-up. A client is sent a heartbeat when it would be silent for longer than the interval at the
 * next visit: whoever has just received something is skipped.
 */
import type { Client } from './client.js';
import type { Clock } from './clock.js';
import { commentFrame, controlFrame, type Frame } from './frame.js';
import type { ResolvedOptions } from './options.js';

/** How long a stream that was told to end may take to hand over its last bytes, in ms. */
const ENDING_GRACE = 5_000;

const DEADLINE_STEP = 1_000;

/** Longest tick, in ms: a hundred thousand clients are then some hundreds per tick, which hold up nobody. */
const MAX_TICK = 100;

/** Longest turn of the wheel, in ms: rare heartbeats do not make dead readers and ends wait. */
const MAX_TURN = 15_000;

export class Heartbeat {
  /** Turns by one with every tick; what `lastWriteTick` and `stalledSince` are measured in. */
  tick = 0;
  readonly tickMs: number;
  readonly #slots: (Client | undefined)[];
  readonly #deadlines = new Map<number, Set<Client>>();
  readonly #options: ResolvedOptions;
  readonly #clock: Clock;
  readonly #comment = commentFrame();
  #nextSlot = 0;
  /** The last step whose deadlines were looked at. */
  #stepSeen = 0;
  #size = 0;
  #startedAt = 0;
  /** Ticks of silence after which a visit sends a heartbeat. */
  readonly #quietTicks: number;
  /** Tick at which the process last ran again after it had stood still: nobody could read meanwhile. */
  #resumedAt = 0;
  #stop: (() => void) | undefined = undefined;

  constructor(options: ResolvedOptions) {
    this.#options = options;
    this.#clock = options.clock;
    const { heartbeatInterval, clientTimeout } = options;
    const interval = heartbeatInterval || Math.min(clientTimeout / 2 || 30_000, 30_000);
    const turn = Math.min(interval / 2, MAX_TURN);
    this.tickMs = Math.max(10, Math.min(MAX_TICK, turn / 30));
    const slots = Math.max(1, Math.round(turn / this.tickMs));
    this.#slots = new Array(slots).fill(undefined);
    this.#quietTicks = Math.max(slots, Math.floor(heartbeatInterval / this.tickMs) - slots);
  }

  add(client: Client): void {
    const slot = this.#nextSlot;
    this.#nextSlot = (slot + 1) % this.#slots.length;
    const first = this.#slots[slot];
    client.slot = slot;
    client.after = first;
    if (first !== undefined) first.before = client;
    this.#slots[slot] = client;
    if (client.deadline !== 0) this.#deadlineSet(client).add(client);
    this.#size++;
    if (this.#stop === undefined) this.#start();
  }

  delete(client: Client): void {
    if (client.slot === -1) return;
    if (client.before === undefined) this.#slots[client.slot] = client.after;
    else client.before.after = client.after;
    if (client.after !== undefined) client.after.before = client.before;
    client.before = undefined;
    client.after = undefined;
    client.slot = -1;
    if (client.deadline !== 0) {
      const step = Math.ceil(client.deadline / DEADLINE_STEP);
      const set = this.#deadlines.get(step);
      if (set?.delete(client) && set.size === 0) this.#deadlines.delete(step);
    }
    if (--this.#size === 0) this.close();
  }

  close(): void {
    this.#stop?.();
    this.#stop = undefined;
  }

  #start(): void {
    this.#startedAt = this.#clock.monotonic() - this.tick * this.tickMs;
    this.#stop = this.#clock.every(this.tickMs, () => this.#onTimer());
  }

  #deadlineSet(client: Client): Set<Client> {
    const step = Math.ceil(client.deadline / DEADLINE_STEP);
    let set = this.#deadlines.get(step);
    if (set === undefined) {
      set = new Set();
      this.#deadlines.set(step, set);
    }
    return set;
  }

  #onTimer(): void {
    // Timers come late in a busy or suspended process; at most one whole turn is made up for.
    const due = Math.floor((this.#clock.monotonic() - this.#startedAt) / this.tickMs);
    if (due - this.tick > this.#slots.length) {
      this.tick = due - this.#slots.length;
      this.#resumedAt = due;
    }
    const frame = this.#frame();
    while (this.tick < due) {
      this.tick++;
      for (let client = this.#slots[this.tick % this.#slots.length]; client !== undefined; ) {
        const { after } = client;
        this.#visit(client, frame);
        client = after;
      }
    }
    this.#endExpired();
  }

  #visit(client: Client, frame: Frame): void {
    const { clientTimeout, heartbeatInterval } = this.#options;
    const stalledFor = (this.tick - Math.max(client.stalledSince, this.#resumedAt)) * this.tickMs;
    if (client.isOver) {
      if (stalledFor >= ENDING_GRACE) client.fail('failed');
    } else if (client.isBlocked) {
      if (client.hasProgressed()) client.stalledSince = this.tick;
      else if (clientTimeout > 0 && stalledFor >= clientTimeout) client.fail('timeout');
    } else if (heartbeatInterval > 0 && this.tick - client.lastWriteTick > this.#quietTicks) {
      client.write(frame);
    }
  }

  #endExpired(): void {
    if (this.#deadlines.size === 0) return;
    const step = Math.floor(this.#clock.now() / DEADLINE_STEP);
    if (step === this.#stepSeen) return;
    this.#stepSeen = step;
    const due = [...this.#deadlines.keys()].filter((key) => key <= step);
    for (const key of due) {
      const clients = this.#deadlines.get(key);
      this.#deadlines.delete(key);
      if (clients !== undefined) for (const client of clients) client.end(client.deadlineReason);
    }
  }

  #frame(): Frame {
    if (this.#options.heartbeatMode === 'comment') return this.#comment;
    return controlFrame({ event: 'heartbeat', data: JSON.stringify({ timestamp: this.#clock.now() }) });
  }
}
