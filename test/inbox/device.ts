/**
 * A device of a user, in this process: a sink that takes and stalls as it is told, a network that loses what is under way when it
 * is cut, and a reader that knows what an EventSource would know.
 */
import { expect, onTestFinished } from 'vitest';
import type { Broker, Encoded, Sink, SinkOwner } from '../../src/index.js';
import { Reader } from '../support/reader.js';
import { until } from '../support/until.js';

/** One stream of a device. */
class Connection implements Sink {
  isOver = false;
  isStalled = false;
  readonly #underWay: Buffer[] = [];
  #owner: SinkOwner | undefined = undefined;
  #owesDrain = false;
  readonly #reader: Reader;

  constructor(reader: Reader) {
    this.#reader = reader;
  }

  open(owner: SinkOwner): void {
    this.#owner = owner;
  }

  write(encoded: Encoded): boolean {
    if (this.isOver) return true;
    this.#underWay.push(Buffer.from(encoded.payload));
    if (this.isStalled) this.#owesDrain = true;
    return !this.isStalled;
  }

  end(last?: Encoded): void {
    if (last !== undefined) this.write(last);
    this.isStalled = false;
    queueMicrotask(() => {
      this.arrive();
      this.#close();
    });
  }

  destroy(): void {
    queueMicrotask(() => this.#close());
  }

  progress(): number {
    return this.#underWay.length;
  }

  /** What is under way comes to the reader, unless the network stalls. */
  arrive(): void {
    if (this.isStalled || this.isOver) return;
    for (const bytes of this.#underWay.splice(0)) this.#reader.feed(bytes);
    if (!this.#owesDrain) return;
    this.#owesDrain = false;
    this.#owner?.drained();
  }

  /** The network is cut: `share` of the bytes under way still come, which may end in the middle of an event. */
  cut(share: number): void {
    const bytes = Buffer.concat(this.#underWay.splice(0));
    this.#reader.feed(bytes.subarray(0, Math.floor(bytes.length * share)));
    this.#close();
  }

  #close(): void {
    if (this.isOver) return;
    this.isOver = true;
    const owner = this.#owner;
    this.#owner = undefined;
    owner?.closed();
  }
}

export interface Got {
  readonly id: string | undefined;
  readonly type: string;
  readonly data: string;
  readonly eventId: string;
  /** Which of its device's streams brought it. */
  readonly stream: number;
}

export class Device {
  readonly userId: string;
  readonly tenantId: string | undefined;
  readonly name: string;
  /** Every event that it ever got. */
  readonly got: Got[] = [];
  /** With which Last-Event-ID each of its streams began. */
  readonly cursors: string[] = [];
  lastEventId = '';
  #reader = new Reader();
  #connection: Connection | undefined = undefined;

  constructor(userId: string, tenantId: string | undefined, name: string) {
    this.userId = userId;
    this.tenantId = tenantId;
    this.name = name;
  }

  get isConnected(): boolean {
    return this.#connection !== undefined && !this.#connection.isOver;
  }

  set isStalled(isStalled: boolean) {
    if (this.#connection !== undefined) this.#connection.isStalled = isStalled;
  }

  get isStalled(): boolean {
    return this.#connection?.isStalled ?? false;
  }

  /** `isNew`: as a page that was loaded anew, which knows no id. */
  connect(broker: Broker, isNew = false): void {
    this.cut(0);
    if (isNew) this.lastEventId = '';
    this.#reader = new Reader(this.lastEventId);
    this.#connection = new Connection(this.#reader);
    const { userId, tenantId, name: device } = this;
    this.cursors.push(this.lastEventId);
    const lastEventId = this.lastEventId || undefined;
    broker.connect({ sink: this.#connection, identity: { userId, tenantId }, lastEventId, device });
  }

  cut(share: number): void {
    this.#connection?.cut(share);
    this.take();
    this.#connection = undefined;
  }

  /** Until it has so many messages. */
  async has(count: number): Promise<void> {
    await until(() => {
      this.take();
      return this.messages.length === count;
    }, `${count} messages at ${this.userId}`);
  }

  /** Takes what has come. */
  take(): void {
    this.#connection?.arrive();
    this.lastEventId = this.#reader.lastEventId;
    for (const { type, data, lastEventId } of this.#reader.events.splice(0)) {
      const id = /~m([^~]+)/.exec(lastEventId)?.[1];
      this.got.push({ id, type, data, eventId: lastEventId, stream: this.cursors.length - 1 });
    }
  }

  /** The messages, by the numbers that their data are. */
  get messages(): number[] {
    return this.got.filter(({ type }) => MESSAGE_TYPES.has(type)).map(({ data }) => Number(data));
  }

  get unread(): number | undefined {
    const last = this.got.findLast(({ type }) => type === 'unread' || type === 'connected');
    return last?.type === 'unread' ? (JSON.parse(last.data) as { unread: number }).unread : undefined;
  }
}

/** Names of events that are messages in these tests. */
export const MESSAGE_TYPES: ReadonlySet<string> = new Set(['note', 'alarm']);

/** A phone of anna's that is connected, with nothing unread; `gets` waits until it has got these, and no others. */
export async function annasPhone(broker: Broker) {
  const phone = new Device('anna', undefined, 'phone');
  phone.connect(broker);
  onTestFinished(() => phone.cut(0));
  await until(() => {
    phone.take();
    return phone.unread === 0;
  }, 'the phone');
  const gets = async (...numbers: number[]): Promise<void> => {
    await until(() => {
      phone.take();
      return phone.messages.length >= numbers.length;
    }, `${numbers} on the phone`);
    expect(phone.messages).toEqual(numbers);
  };
  return { phone, gets };
}
