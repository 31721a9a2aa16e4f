/**
 * One person over all its streams: an EventSource behind a load balancer. Whenever its stream ends it comes back, with its
 * last id, to whichever node lives; and it remembers exactly what it was told, in order.
 */
import http, { type ClientRequest } from 'node:http';
import type { Gap, Identity } from '../../src/index.js';
import { Reader } from '../support/reader.js';

export interface Person {
  readonly identity: Identity;
  readonly topics: readonly string[];
}

/** An event as it was seen. */
export interface Seen {
  readonly n: number;
  readonly id: string;
}

/** A gap as it was told. */
export interface Told {
  readonly gap: Gap;
  /** The cursor at that moment: what the gap admits begins there. */
  readonly cursor: string;
  /** Events seen before it. */
  readonly at: number;
  /** When, in ms of the monotonic clock. */
  readonly time: number;
}

/** Silence that a connect may last: its node may have been stopped a moment ago. */
const HEAD_WITHIN_MS = 2_000;

/** What is kept of its latest happenings, for messages. */
const JOURNAL = 60;

export class Visitor {
  readonly person: Person;
  readonly seen: Seen[] = [];
  readonly told: Told[] = [];
  cursor = '';
  /** Streams that have begun. */
  streams = 0;
  /** Answers other than a stream. */
  readonly refusals: string[] = [];
  readonly #journal: string[] = [];
  readonly #pickPort: () => number | undefined;
  readonly #pauseMs: () => number;
  #request: ClientRequest | undefined = undefined;
  #isStreaming = false;
  #timer: NodeJS.Timeout | undefined = undefined;
  #isGone = false;

  /** `pickPort`: a node that lives, undefined where none does; `pauseMs`: how long until it comes back. */
  constructor(person: Person, pickPort: () => number | undefined, pauseMs: () => number) {
    this.person = person;
    this.#pickPort = pickPort;
    this.#pauseMs = pauseMs;
  }

  /** True while it has a stream that has begun. */
  get isStreaming(): boolean {
    return this.#isStreaming;
  }

  /** For messages: who it is, and what it went through lately. */
  toString(): string {
    return `${JSON.stringify(this.person)} ${this.#isStreaming ? 'streaming' : 'away'}\n${this.#journal.join('\n')}\n`;
  }

  come(): void {
    if (this.#isGone || this.#request !== undefined) return;
    const port = this.#pickPort();
    if (port === undefined) {
      this.#comeLater();
      return;
    }
    const { identity, topics } = this.person;
    const headers: Record<string, string> = {
      accept: 'text/event-stream',
      'x-identity': JSON.stringify(identity),
      'x-topics': topics.join(' '),
    };
    if (this.cursor !== '') headers['last-event-id'] = this.cursor;
    this.#note(`opens ${port} after ${this.cursor}`);
    const request = http.get({ port, host: '127.0.0.1', headers, agent: false });
    this.#request = request;
    const impatience = setTimeout(() => request.destroy(), HEAD_WITHIN_MS);
    const reader = new Reader(this.cursor);
    let taken = 0;
    request.on('error', () => {});
    request.on('response', (response) => {
      clearTimeout(impatience);
      if (response.statusCode !== 200) this.refusals.push(`${response.statusCode}`);
      response.on('error', () => {});
      response.on('data', (bytes: Uint8Array) => {
        // What was under way when it left is lost, as in a browser.
        if (this.#request !== request) return;
        reader.feed(bytes);
        for (; taken < reader.events.length; taken++) this.#take(reader.events[taken]!);
        this.cursor = reader.lastEventId;
      });
    });
    request.on('close', () => {
      clearTimeout(impatience);
      if (this.#request !== request) return;
      this.#request = undefined;
      this.#isStreaming = false;
      this.#comeLater();
    });
  }

  /** Leaves its stream where it is, in the middle of a frame maybe, and goes elsewhere. */
  hop(): void {
    const request = this.#request;
    this.#request = undefined;
    this.#isStreaming = false;
    request?.destroy();
    this.#comeLater();
  }

  leave(): void {
    this.#isGone = true;
    clearTimeout(this.#timer);
    this.#request?.destroy();
  }

  #note(what: string): void {
    this.#journal.push(what);
    if (this.#journal.length > JOURNAL) this.#journal.shift();
  }

  #comeLater(): void {
    if (this.#isGone) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.come(), this.#pauseMs());
  }

  #take(event: { readonly type: string; readonly data: string; readonly lastEventId: string }): void {
    this.#note(event.type === 'gap' ? `gap ${event.data} ${event.lastEventId}` : `${event.type} ${event.lastEventId}`);
    if (event.type === 'connected') {
      this.#isStreaming = true;
      this.streams++;
    } else if (event.type === 'gap') {
      this.told.push({
        gap: JSON.parse(event.data) as Gap,
        cursor: this.cursor,
        at: this.seen.length,
        time: performance.now(),
      });
    } else if (event.type === 'e') {
      this.seen.push({ n: (JSON.parse(event.data) as { n: number }).n, id: event.lastEventId });
    }
    this.cursor = event.lastEventId;
  }
}
