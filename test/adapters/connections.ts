/** What the conformance suite asks of a Node server. */
import type { Server } from 'node:net';
import { promisify } from 'node:util';

/** Counts the connections of `server`, and closes it without cutting one. */
export function connectionsOf(server: Server): { connections: () => Promise<number>; close: () => Promise<void> } {
  return {
    connections: () => promisify(server.getConnections.bind(server))(),
    close: () => promisify(server.close.bind(server))(),
  };
}
