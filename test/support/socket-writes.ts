/** Counts what a server really hands to its sockets: one count is one write or writev. */
import type { Server, Socket } from 'node:net';

type Writable = Socket & {
  _write(chunk: unknown, encoding: string, callback: (error?: Error) => void): void;
  _writev(chunks: unknown, callback: (error?: Error) => void): void;
};

export interface SocketWrites {
  /** Writes on all connections since the last `reset()`. */
  readonly total: () => number;
  /** The connections so far, server side. */
  readonly sockets: Socket[];
  reset(): void;
}

/** Watches every connection that `server` accepts from now on. */
export function countSocketWrites(server: Server): SocketWrites {
  let total = 0;
  const sockets: Socket[] = [];
  server.on('connection', (accepted: Socket) => {
    const socket = accepted as Writable;
    sockets.push(socket);
    const { _write, _writev } = socket;
    socket._write = function counted(...args) {
      total++;
      _write.apply(this, args);
    };
    socket._writev = function counted(...args) {
      total++;
      _writev.apply(this, args);
    };
  });
  return {
    total: () => total,
    sockets,
    reset: () => {
      total = 0;
    },
  };
}
