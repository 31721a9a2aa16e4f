/**
 * Bytes to an idle socket, past the bookkeeping of Node's streams.
 *
 * For an idle socket `socket.write` is a call of `socket._write`, with what buffering and `drain` need around it, part of
 * which waits in a callback behind the turn. A fan-out pays for that once per client, and where there are thousands of
 * them all of it is in no cache: a tenth of what a delivery costs (bench/README.md, "Past the stream").
 *
 * Node documents `_write` for those who implement a stream, as something that programs do not call. What is relied upon is
 * no more than the contract that it has for them: bytes, encoding, and a callback, called once, now or later. It is called
 * where `write` would do just that: nothing waits in the stream, and nobody has put himself between. What is
 * written to the stream while such a write is under way follows it, since the order is kept beneath both.
 */
import { Socket } from 'node:net';
import { Writable } from 'node:stream';

/** Whom to tell when the system has taken what it did not take at once. */
export interface Waiting {
  drained(): void;
}

/** Whether `socket` may be written to directly now. With TLS bytes never go out at once, so nothing could be told from it. */
export function isDirect(socket: Socket): boolean {
  return (
    socket.writableLength === 0 &&
    socket.writableCorked === 0 &&
    Object.getPrototypeOf(socket) === Socket.prototype &&
    socket.write === Writable.prototype.write
  );
}

/** True where the system took all of it, or the socket broke, which its `close` tells. A string must be ASCII. */
export function writeDirectly(socket: Socket, bytes: Buffer | string, waiting: Waiting): boolean {
  let isThrough = false;
  let isLate = false;
  const callback = (error?: Error | null): void => {
    isThrough = true;
    if (error) socket.destroy(error);
    else if (isLate && !socket.destroyed) waiting.drained();
  };
  // Of a Buffer the encoding is this word, which the types do not know.
  socket._write(bytes, typeof bytes === 'string' ? 'latin1' : ('buffer' as BufferEncoding), callback);
  isLate = true;
  return isThrough;
}
