/**
 * Reads a stream's bytes fast and strictly: chunk framing, then blocks, then the number at the start of each event's data.
 * For tests that move more than a parser in JavaScript should have to look at.
 */
export class SequenceReader {
  /** Numbers of the `note` events, in order. */
  readonly numbers: number[] = [];
  /** Blocks of other events: `connected`, `gap`, `closing`, comments. */
  readonly others: string[] = [];
  /** Where in `numbers` each `gap` came. */
  readonly gaps: { readonly at: number; readonly data: { reason: string; requested: string; resumedFrom: string } }[] =
    [];
  readonly ids: string[] = [];
  /** The last event id of anything, as an EventSource would come back with it. */
  lastId: string | undefined = undefined;
  /** True after the terminating chunk. */
  isComplete = false;
  #head: string | undefined = undefined;
  #raw: Buffer = Buffer.alloc(0);
  #text: Buffer = Buffer.alloc(0);

  feed(bytes: Buffer): void {
    this.#raw = this.#raw.length === 0 ? bytes : Buffer.concat([this.#raw, bytes]);
    if (this.#head === undefined) {
      const end = this.#raw.indexOf('\r\n\r\n');
      if (end === -1) return;
      this.#head = this.#raw.toString('latin1', 0, end);
      if (!this.#head.startsWith('HTTP/1.1 200 OK\r\n')) throw new Error(`not a stream: ${this.#head}`);
      this.#raw = this.#raw.subarray(end + 4);
    }
    const parts = this.#text.length === 0 ? [] : [this.#text];
    let at = 0;
    for (;;) {
      const lineEnd = this.#raw.indexOf('\r\n', at);
      if (lineEnd === -1) break;
      const line = this.#raw.toString('latin1', at, lineEnd);
      if (this.isComplete || !/^(0|[1-9a-f][0-9a-f]*)$/.test(line))
        throw new Error(`not a chunk: ${line.slice(0, 60)}`);
      const size = Number.parseInt(line, 16);
      const start = lineEnd + 2;
      if (this.#raw.length < start + size + 2) break;
      if (this.#raw.toString('latin1', start + size, start + size + 2) !== '\r\n')
        throw new Error('a chunk without CRLF');
      at = start + size + 2;
      if (size === 0) this.isComplete = true;
      else parts.push(this.#raw.subarray(start, start + size));
    }
    this.#raw = this.#raw.subarray(at);
    if (parts.length > 0) this.#read(parts.length === 1 ? parts[0]! : Buffer.concat(parts));
  }

  #read(text: Buffer): void {
    let at = 0;
    for (;;) {
      const end = text.indexOf('\n\n', at);
      if (end === -1) break;
      this.#block(text.toString('latin1', at, end));
      at = end + 2;
    }
    this.#text = text.subarray(at);
  }

  #block(block: string): void {
    const note = /^id: (\S+)\nevent: note\ndata: (\d+) (\d+) (x*)$/.exec(block);
    if (note !== null) {
      // The length is told in the data: nothing was cut out of the middle.
      if (note[4]!.length !== Number(note[3])) throw new Error(`event ${note[2]} is damaged`);
      this.lastId = note[1]!;
      this.ids.push(note[1]!);
      this.numbers.push(Number(note[2]));
      return;
    }
    this.others.push(block);
    this.lastId = /^id: (\S+)$/m.exec(block)?.[1] ?? this.lastId;
    const gap = /event: gap\ndata: (.*)$/.exec(block);
    if (gap !== null) this.gaps.push({ at: this.numbers.length, data: JSON.parse(gap[1]!) });
  }
}

/** Data for {@link SequenceReader}: the number, and how much follows. */
export const numbered = (n: number, length: number): string => `${n} ${length} ${'x'.repeat(length)}`;

/** The first index at which `numbers` is not its own index, or -1 where it is 0, 1, 2 … to its end. */
export function firstWrong(numbers: readonly number[], from = 0): number {
  return numbers.findIndex((number, i) => number !== from + i);
}
