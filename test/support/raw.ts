/**
 * An HTTP client of bare bytes: what a library would hide (framing, half-open connections, pipelining, a reader that does
 * not read) is exactly what some tests are about.
 */
import net from 'node:net';
import tls from 'node:tls';
import { onTestFinished } from 'vitest';
import { until } from './until.js';

/** One HTTP/1 response taken apart by {@link readResponse}. */
export interface RawResponse {
  readonly status: number;
  /** The head as it came, without the empty line. */
  readonly head: string;
  /** Header values by lower-case name; repeated ones joined by a comma. */
  readonly headers: Readonly<Record<string, string>>;
  /** The body so far, without its framing. */
  readonly body: Buffer;
  /** Chunks of a chunked body. */
  readonly chunks: number;
  /** True where the framing says that this was all of it. */
  readonly isComplete: boolean;
  /** Bytes after the response: the next one's. */
  readonly rest: Buffer;
}

/**
 * Reads one response strictly by RFC 9112 and throws at the first byte that is not as it must be. Undefined while the head
 * is not complete.
 */
export function readResponse(bytes: Buffer, { isHead = false, isEnded = false } = {}): RawResponse | undefined {
  const headEnd = bytes.indexOf('\r\n\r\n');
  if (headEnd === -1) return undefined;
  const head = bytes.toString('latin1', 0, headEnd);
  const [statusLine = '', ...lines] = head.split('\r\n');
  const matched = /^HTTP\/1\.1 ([1-5]\d\d) [^\r\n]*$/.exec(statusLine);
  if (matched === null) throw new Error(`not a status line: ${JSON.stringify(statusLine)}`);
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const field = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([^\r\n]*)$/.exec(line);
    if (field === null) throw new Error(`not a header: ${JSON.stringify(line)}`);
    const name = field[1]!.toLowerCase();
    headers[name] = name in headers ? `${headers[name]}, ${field[2]}` : field[2]!;
  }
  const status = Number(matched[1]);
  const after = bytes.subarray(headEnd + 4);
  const common = { status, head, headers };
  const none = Buffer.alloc(0);
  if (isHead || status < 200 || status === 204 || status === 304) {
    return { ...common, body: none, chunks: 0, isComplete: true, rest: after };
  }
  if (headers['transfer-encoding'] === 'chunked') {
    if ('content-length' in headers) throw new Error('both chunked and of a known length');
    return { ...common, ...readChunks(after) };
  }
  if ('content-length' in headers) {
    const length = Number(headers['content-length']);
    const isComplete = after.length >= length;
    return { ...common, body: after.subarray(0, length), chunks: 0, isComplete, rest: after.subarray(length) };
  }
  return { ...common, body: after, chunks: 0, isComplete: isEnded, rest: none };
}

/** A chunked body, strictly (RFC 9112, section 7.1): no extensions, no trailers, no empty chunk but the last. */
function readChunks(bytes: Buffer): Pick<RawResponse, 'body' | 'chunks' | 'isComplete' | 'rest'> {
  const parts: Buffer[] = [];
  let at = 0;
  for (;;) {
    const lineEnd = bytes.indexOf('\r\n', at);
    if (lineEnd === -1) break;
    const line = bytes.toString('latin1', at, lineEnd);
    if (!/^(0|[1-9a-fA-F][0-9a-fA-F]*)$/.test(line)) {
      throw new Error(`not a chunk size: ${JSON.stringify(line.slice(0, 60))}`);
    }
    const size = Number.parseInt(line, 16);
    const start = lineEnd + 2;
    if (bytes.length < start + size + 2) break;
    if (bytes[start + size] !== 13 || bytes[start + size + 1] !== 10) throw new Error('a chunk without its CRLF');
    at = start + size + 2;
    if (size === 0)
      return { body: Buffer.concat(parts), chunks: parts.length, isComplete: true, rest: bytes.subarray(at) };
    parts.push(bytes.subarray(start, start + size));
  }
  return { body: Buffer.concat(parts), chunks: parts.length, isComplete: false, rest: bytes.subarray(at) };
}

export interface RawOptions {
  /** Connects with TLS, without looking at the certificate. */
  readonly secure?: boolean;
  /** Does not read until `resume()`: the stalled reader. */
  readonly paused?: boolean;
  /** Keeps the own half open when the server closes its half. */
  readonly allowHalfOpen?: boolean;
}

/** A connection that is written to as text and gives what came back as bytes. */
export class RawConnection {
  readonly socket: net.Socket;
  /** What came in one 'data' event each. */
  readonly packets: Buffer[] = [];
  /** True when the server has closed its half, in whatever way. */
  isEnded = false;
  error: Error | undefined = undefined;
  #joined = Buffer.alloc(0);
  #joinedPackets = 0;

  constructor(socket: net.Socket, paused: boolean) {
    this.socket = socket;
    socket.on('error', (error) => {
      this.error = error;
    });
    if (!paused) this.resume();
    socket.on('end', () => {
      this.isEnded = true;
    });
    socket.on('close', () => {
      this.isEnded = true;
    });
  }

  /** Everything received. */
  get bytes(): Buffer {
    if (this.#joinedPackets < this.packets.length) {
      this.#joined = Buffer.concat([this.#joined, ...this.packets.slice(this.#joinedPackets)]);
      this.#joinedPackets = this.packets.length;
    }
    return this.#joined;
  }

  get text(): string {
    return this.bytes.toString('utf8');
  }

  /** Starts reading. */
  resume(): void {
    this.socket.on('data', (packet: Buffer) => this.packets.push(packet));
    this.socket.resume();
  }

  write(text: string | Buffer): void {
    this.socket.write(text);
  }

  /** A GET for an event stream. `headers`: lines, each with its CRLF. */
  get(path = '/', headers = ''): void {
    this.write(`GET ${path} HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n${headers}\r\n`);
  }

  /** The responses so far, one after the other; the last may be incomplete. `heads`: how many answer a HEAD. */
  responses(isHead: (index: number) => boolean = () => false): RawResponse[] {
    const all: RawResponse[] = [];
    let rest: Buffer = this.bytes;
    while (rest.length > 0) {
      const response = readResponse(rest, { isHead: isHead(all.length), isEnded: this.isEnded });
      if (response === undefined) break;
      all.push(response);
      if (!response.isComplete) break;
      rest = response.rest;
    }
    return all;
  }

  /** Waits until `text` has come. */
  async has(text: string, deadlineMs?: number): Promise<void> {
    await until(
      () => this.bytes.includes(text),
      `${JSON.stringify(text)} in ${JSON.stringify(this.text.slice(-300))}`,
      deadlineMs,
    );
  }

  /** Waits for complete responses. */
  async completed(count: number, isHead?: (index: number) => boolean): Promise<RawResponse[]> {
    const complete = () => this.responses(isHead).filter((response) => response.isComplete);
    await until(
      () => complete().length >= count,
      `${count} complete responses; have ${complete().length}: ${this.text.slice(-300)}`,
    );
    return complete();
  }

  async ended(deadlineMs?: number): Promise<void> {
    await until(() => this.isEnded, 'the end of the connection', deadlineMs);
  }

  /** Leaves without a word more than a RST or FIN. */
  destroy(): void {
    this.socket.destroy();
  }
}

/** Connects; the connection is closed when the test ends. */
export async function connectRaw(port: number, options: RawOptions = {}): Promise<RawConnection> {
  const { secure = false, paused = false, allowHalfOpen = false } = options;
  const address = { port, host: '127.0.0.1' };
  const plain = net.connect({ ...address, allowHalfOpen });
  // A stalled reader must not read ahead into its own buffer either.
  if (paused) plain.pause();
  await new Promise<void>((resolve, reject) => {
    plain.once('connect', resolve);
    plain.once('error', reject);
  });
  plain.setNoDelay(true);
  const socket = secure ? tls.connect({ socket: plain, rejectUnauthorized: false }) : plain;
  onTestFinished(() => {
    socket.destroy();
  });
  const connection = new RawConnection(socket, paused);
  if (secure) await new Promise<void>((resolve) => socket.once('secureConnect', resolve));
  return connection;
}
