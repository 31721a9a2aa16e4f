/**
 * Sink for Node's HTTP/1 responses.
 *
 * Where nothing stands between the response and its socket, bytes go straight to the socket, already framed as HTTP/1.1
 * chunks: the same Buffer for every client, and one stream operation instead of four, or none where the socket is idle
 * (direct-write.ts; bench/README.md). Where something does (compression middleware, a patched method, HTTP/1.0, a pipelined
 * request that is not served yet), they go through `res.write`. Node's own state stays right either way: the terminating
 * chunk is written by `res.end`.
 */
import { type IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import type { Bytes, GzipStream } from '../core/deflate.js';
import type { Encoded } from '../core/frame.js';
import type { Sink, SinkOwner } from '../core/sink.js';
import { isDirect, type Waiting, writeDirectly } from './direct-write.js';
import { onConnectionClose } from './leaving.js';

/** The socket of a response that nobody wrapped, once its head is written; undefined where unsure. */
export function unwrappedSocket(req: IncomingMessage, res: ServerResponse): Socket | undefined {
  const { socket } = res;
  const isPlain =
    socket !== null &&
    socket === req.socket &&
    req.httpVersion === '1.1' &&
    res.write === ServerResponse.prototype.write &&
    res.end === ServerResponse.prototype.end &&
    socket.write === Socket.prototype.write &&
    res.chunkedEncoding &&
    // Anything still held by the response would be overtaken.
    res.writableLength === socket.writableLength;
  return isPlain ? socket : undefined;
}

/** Node's own, of a socket; not documented, so nothing of it is taken for granted. */
interface Handle {
  readonly writeQueueSize?: number;
}

// On the response, so that one listener function serves all of them and pins nothing.
const SINK = Symbol('sse-broker.sink');
type WithSink = ServerResponse & { [SINK]?: NodeSink | undefined };

function onClose(this: WithSink): void {
  this[SINK]?.closed(true);
}

// A response that broke also closes; without a listener its error would end the process.
function onError(): void {}

/** What most streams never need, and so do not carry. */
interface Extras {
  readonly gzip?: GzipStream | undefined;
  /** Set for a response that has no socket yet: only its connection tells that the client left. */
  readonly connection?: Socket | undefined;
  /** Undoes listening to that. */
  leaveConnection?: (() => void) | undefined;
  /** For the stream to drain. */
  isWaiting: boolean;
  /** Direct writes that the system has not taken yet. */
  underWay: number;
  /** Made when first needed, and then kept: `once` on a response that compression has wrapped is never removed. */
  onDrain?: (() => void) | undefined;
}

export class NodeSink implements Sink, Waiting {
  readonly #res: WithSink;
  readonly #socket: Socket | undefined;
  #owner: SinkOwner | undefined = undefined;
  #extras: Extras | undefined = undefined;

  /** `res` has its head written; `gzip` where that says so. */
  constructor(req: IncomingMessage, res: ServerResponse, gzip?: GzipStream) {
    this.#res = res;
    this.#socket = unwrappedSocket(req, res);
    const connection = res.socket === null ? req.socket : undefined;
    if (gzip !== undefined || connection !== undefined)
      this.#extras = { gzip, connection, isWaiting: false, underWay: 0 };
  }

  open(owner: SinkOwner): void {
    this.#owner = owner;
    this.#res[SINK] = this;
    this.#res.on('close', onClose);
    this.#res.on('error', onError);
    const extras = this.#extras;
    if (extras?.connection !== undefined) {
      extras.leaveConnection = onConnectionClose(extras.connection, () => this.closed());
    }
    const header = extras?.gzip?.header;
    if (header === undefined) return;
    if (this.#socket === undefined) this.#res.write(header.payload);
    else this.#socket.write(header.chunk);
  }

  write(encoded: Encoded): boolean {
    const socket = this.#socket;
    const gzip = this.#extras?.gzip;
    if (socket === undefined) return this.#writeToResponse(bytesOf(encoded, gzip).payload);
    // Somebody else has ended the response: what came now would stand behind its last chunk, where the next response begins.
    if (this.#res.writableEnded) return true;
    if (!socket.writable) return this.#cutOff();
    const bytes = (gzip === undefined ? encoded.chunkText : undefined) ?? bytesOf(encoded, gzip).chunk;
    if (isDirect(socket)) {
      if (writeDirectly(socket, bytes, this)) return true;
      this.#slow().underWay++;
      return false;
    }
    if (typeof bytes === 'string' ? socket.write(bytes, 'latin1') : socket.write(bytes)) return true;
    // False says that the chunk was large, not that the kernel did not take it.
    if (socket.writableLength === 0) return true;
    this.#awaitDrain(socket);
    return false;
  }

  end(last?: Encoded): void {
    const res = this.#res;
    if (this.#owner === undefined || res.writableEnded) return;
    const socket = this.#socket;
    if (last !== undefined) this.write(last);
    const trailer = this.#extras?.gzip?.trailer;
    if (socket === undefined) {
      res.end(trailer?.payload);
    } else {
      socket.cork();
      if (trailer !== undefined && socket.writable) socket.write(trailer.chunk);
      res.end();
      socket.uncork();
    }
  }

  destroy(): void {
    if (this.#owner === undefined) return;
    this.#res.destroy();
    this.#extras?.connection?.destroy();
  }

  /** The system has taken a direct write that it did not take at once. */
  drained(): void {
    this.#slow().underWay--;
    this.#tellDrained();
  }

  progress(): number {
    const socket = this.#socket ?? this.#res.socket;
    if (socket === null) return 0;
    // What the kernel took of a write that is under way shows in the handle only, as Node's own timeout looks at it; with
    // TLS in the handle below, since a record counts as waiting until the whole write is through.
    const handle = (socket as unknown as { _handle?: (Handle & { _parent?: Handle | null }) | null })._handle;
    const waiting = handle?._parent?.writeQueueSize ?? handle?.writeQueueSize ?? 0;
    return socket.bytesWritten - socket.writableLength - waiting;
  }

  /** The carrier is gone; `isToldByResponse` where its `close` says so, which comes once: that listener is spent. */
  closed(isToldByResponse = false): void {
    const owner = this.#owner;
    this.#owner = undefined;
    this.#res[SINK] = undefined;
    if (!isToldByResponse) this.#res.off('close', onClose);
    this.#extras?.leaveConnection?.();
    const onDrain = this.#extras?.onDrain;
    if (onDrain !== undefined) (this.#socket ?? this.#res).off('drain', onDrain);
    owner?.closed();
  }

  /**
   * The client has closed its half, so Node has closed ours: nothing can follow. With a reader that takes nothing, what is
   * under way would keep the connection for ever; it is cut here, and a client that comes back gets what it has not read.
   */
  #cutOff(): true {
    this.destroy();
    return true;
  }

  #writeToResponse(payload: Buffer): boolean {
    const res = this.#res as WithSink & { flush?: () => void };
    if (res.destroyed || res.writableEnded) return true;
    if (res.socket?.writable === false) return this.#cutOff();
    const hasRoom = res.write(payload);
    // Compression middleware collects until it is told not to.
    if (typeof res.flush === 'function') res.flush();
    if (!hasRoom) this.#awaitDrain(res);
    return hasRoom;
  }

  #awaitDrain(stream: Socket | ServerResponse): void {
    const extras = this.#slow();
    if (extras.isWaiting) return;
    extras.isWaiting = true;
    if (extras.onDrain !== undefined) return;
    extras.onDrain = () => {
      if (!extras.isWaiting) return;
      extras.isWaiting = false;
      this.#tellDrained();
    };
    stream.on('drain', extras.onDrain);
  }

  #slow(): Extras {
    this.#extras ??= { isWaiting: false, underWay: 0 };
    return this.#extras;
  }

  /** Not before all is through: an owner that writes on at each would have more and more under way. */
  #tellDrained(): void {
    const { isWaiting, underWay } = this.#slow();
    if (!isWaiting && underWay === 0) this.#owner?.drained();
  }
}

const bytesOf = (encoded: Encoded, gzip: GzipStream | undefined): Bytes =>
  gzip === undefined ? encoded : gzip.next(encoded);
