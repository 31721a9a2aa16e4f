/**
 * One round of a mailbox: what waits for a client's user, read page by page as its socket takes it, while live events are held.
 *
 * The ids of these events are the cursor of the stream as it will go on after the round, with how far the round got behind it:
 * a client that is cut in the middle comes back with both.
 */
import type { Client } from './client.js';
import { encodedOf, type Frame, frameOf, withoutId } from './frame.js';
import type { WaitingEvent } from './mailbox.js';
import { clientKey } from './topic.js';

/** Bytes written at once. */
const WRITE_BYTES = 64 * 1024;

export class Round {
  /** Id of the last event written; empty for none. */
  told = '';
  /** All of it was read. */
  isThrough = false;
  readonly #client: Client;
  readonly #base: string;
  #page: readonly WaitingEvent[] = [];
  #next = 0;
  #tag = '';

  /** `base`: what ids begin with; empty where the events can have none. */
  constructor(client: Client, base: string) {
    this.#client = client;
    this.#base = base;
  }

  /** Something was read that is not written. */
  get hasMore(): boolean {
    return this.#next < this.#page.length;
  }

  /** What the client's cursor must be before the first event: undefined where there can be none. */
  get cursor(): string | undefined {
    return this.#base === '' ? undefined : this.#base + this.#tag;
  }

  /** Begins, and reads the first events: where there are none, the cursor says so from the start. */
  async begin(isAfterLoss: boolean): Promise<void> {
    const mailbox = this.#client.mailbox!;
    await mailbox.begin(isAfterLoss);
    this.#tag = mailbox.tag;
    await this.read();
    if (this.isThrough) this.#tag = mailbox.tag;
  }

  async read(): Promise<void> {
    this.#page = await this.#client.mailbox!.next();
    this.#next = 0;
    this.isThrough = this.#page.length === 0;
  }

  /** Writes until the page is through or the socket is full. */
  write(now: number): void {
    while (this.hasMore && !this.#client.isBlocked) {
      const frames: Frame[] = [];
      let bytes = 0;
      while (this.hasMore && bytes < WRITE_BYTES) {
        const frame = this.#frameOf(this.#page[this.#next++]!);
        if (frame.hasExpired(now)) continue;
        frames.push(frame);
        bytes += frame.bytes;
      }
      if (frames.length === 0) continue;
      const encoded = encodedOf(frames);
      this.told = encoded.lastId;
      this.#client.write(encoded);
    }
  }

  #frameOf(waiting: WaitingEvent): Frame {
    const { event: name, data, json, timestamp, expiresAt, tag } = waiting;
    const key = clientKey(this.#client.id);
    const event = {
      key,
      event: name,
      data,
      json,
      timestamp,
      expiresAt,
      id: this.#base,
      sequence: 0,
      frame: undefined,
      tag,
    };
    const frame = this.#base === '' ? withoutId(event) : frameOf(event);
    frame.isForOne = true;
    return frame;
  }
}
