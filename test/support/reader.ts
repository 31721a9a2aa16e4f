/**
 * A reader written from the HTML standard, section 9.2.6, for tests that must know exactly what an EventSource would
 * know: it keeps the last event id, also from blocks without data, and drops an unfinished block at the end.
 */
export interface ReadEvent {
  readonly type: string;
  readonly data: string;
  readonly lastEventId: string;
}

export class Reader {
  readonly events: ReadEvent[] = [];
  lastEventId: string;
  #decoder = new TextDecoder();
  #rest = '';
  #id: string;
  #type = '';
  #data: string[] = [];

  /** `lastEventId`: what an earlier connection left. */
  constructor(lastEventId = '') {
    this.lastEventId = lastEventId;
    this.#id = lastEventId;
  }

  feed(bytes: Uint8Array): void {
    this.#rest += this.#decoder.decode(bytes, { stream: true });
    // A CR at the end may be half of a CRLF: it waits for what follows.
    for (;;) {
      const match = /\r\n|\n|\r(?!$)/.exec(this.#rest);
      if (match === null) return;
      const line = this.#rest.slice(0, match.index);
      this.#rest = this.#rest.slice(match.index + match[0].length);
      this.#line(line);
    }
  }

  #line(line: string): void {
    if (line === '') {
      this.#dispatch();
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (field === 'event') this.#type = value;
    else if (field === 'data') this.#data.push(value);
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
  }

  #dispatch(): void {
    this.lastEventId = this.#id;
    if (this.#data.length > 0) {
      this.events.push({ type: this.#type || 'message', data: this.#data.join('\n'), lastEventId: this.lastEventId });
    }
    this.#type = '';
    this.#data = [];
  }
}
