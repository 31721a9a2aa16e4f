/** What a bus told its receiver, and how the cases wait for more. */
import assert from 'node:assert/strict';
import type { Bus, BusReceiver, BusStatus, Loss, ReadRequest, ReadResult } from '../core/bus.js';
import type { BusEvent, OutgoingEvent } from '../core/event.js';

/** Waits for a condition, never for time. */
export async function eventually(condition: () => boolean, what: string, timeoutMs: number): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `waited ${timeoutMs} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export function outgoing(key: string, data: string, more: Partial<OutgoingEvent> = {}): OutgoingEvent {
  return { key, event: 'test', data, json: false, timestamp: 1_700_000_000_000, expiresAt: 0, ...more };
}

/** A started bus with everything it told. */
export class Recorder implements BusReceiver {
  readonly bus: Bus;
  readonly events: BusEvent[] = [];
  readonly losses: (Loss & { readonly before: number })[] = [];
  readonly statuses: BusStatus[] = [];
  readonly errors: unknown[] = [];
  /** How long it waits for anything. */
  readonly timeoutMs: number;

  private constructor(bus: Bus, timeoutMs: number) {
    this.bus = bus;
    this.timeoutMs = timeoutMs;
  }

  /** Starts `bus` and joins `keys`. */
  static async start(bus: Bus, keys: readonly string[], timeoutMs: number): Promise<Recorder> {
    const recorder = new Recorder(bus, timeoutMs);
    await bus.start(recorder);
    await recorder.eventually(() => bus.status().state === 'up', 'the bus to be up');
    for (const key of keys) await bus.join(key);
    return recorder;
  }

  deliver(event: BusEvent): void {
    this.events.push(event);
  }

  lost(loss: Loss): void {
    this.losses.push({ ...loss, before: this.events.length });
  }

  status(status: BusStatus): void {
    this.statuses.push(status);
  }

  error(error: unknown): void {
    this.errors.push(error);
  }

  /** Publishes one after the other; returns the ids. */
  async publish(key: string, ...data: string[]): Promise<string[]> {
    const ids: string[] = [];
    for (const one of data) ids.push(await this.bus.publish(outgoing(key, one)));
    return ids;
  }

  /** Events delivered for these keys; all where there are none. */
  of(...keys: string[]): BusEvent[] {
    return keys.length === 0 ? this.events : this.events.filter((event) => keys.includes(event.key));
  }

  dataOf(...keys: string[]): string[] {
    return this.of(...keys).map(({ data }) => data);
  }

  async delivered(count: number, ...keys: string[]): Promise<BusEvent[]> {
    await this.eventually(
      () => this.of(...keys).length >= count,
      `${count} events; ${this.of(...keys).length} were delivered`,
    );
    return this.of(...keys);
  }

  eventually(condition: () => boolean, what: string): Promise<void> {
    return eventually(condition, what, this.timeoutMs);
  }

  async read(keys: readonly string[], after: string, more: Partial<ReadRequest> = {}): Promise<ReadResult> {
    return this.bus.read({ keys, after, limit: 1_000, max: 0, ...more });
  }

  /** Reads page by page to the end, as a broker does: from the last event's id while there is more. */
  async readAll(keys: readonly string[], after: string, limit: number): Promise<ReadResult> {
    const events: BusEvent[] = [];
    let first: ReadResult | undefined;
    for (let cursor = after; ; ) {
      const page = await this.read(keys, cursor, { limit });
      first ??= page;
      assert.ok(page.events.length <= limit, `a page of at most ${limit}; got ${page.events.length}`);
      if (page !== first) assert.equal(page.loss, undefined, 'nothing is lost between two pages');
      events.push(...page.events);
      const last = page.events[page.events.length - 1];
      if (!page.more || last === undefined) {
        assert.equal(page.more, false, 'where more follow, a page is not empty');
        return { ...first, events, more: false, head: page.head };
      }
      cursor = last.id;
    }
  }
}
