/** The server of stalled-reader.test.ts, in a process of its own: it publishes, and gives an account of its memory. */
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { Broker, createHandler, type OverflowPolicy, queryAuthenticator } from '../../../src/index.js';

/** Bytes of the process at one moment. */
export interface Memory {
  readonly rss: number;
  readonly heap: number;
  readonly buffers: number;
}

export type FromServer =
  | { readonly port: number }
  | {
      readonly published: number;
      readonly bytes: number;
      /** After a collection, with every client still there. */
      readonly after: Memory;
      /** The most of each that was seen. */
      readonly peak: Memory;
      readonly queuedBytes: number;
      readonly stats: ReturnType<Broker['getStats']>;
      readonly overflowed: readonly string[];
    };

const SIZES = [100, 1_000, 16_000, 60_000];

const broker = new Broker({ overflow: process.argv[2] as OverflowPolicy });
const overflowed: string[] = [];
broker.on('clientOverflowed', ({ id, userId }, { policy, limit }) =>
  overflowed.push(`${userId} ${policy} ${limit} ${id}`),
);
broker.on('error', (error) => {
  throw error;
});
const server = http.createServer(createHandler(broker, { authenticator: queryAuthenticator() }));

const turn = () => new Promise((resolve) => setImmediate(resolve));

function memory(): Memory {
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
  return { rss, heap: heapUsed, buffers: arrayBuffers };
}

/** As fast as those who read can: a publisher that wants to lose nobody looks at what they have not taken yet. */
async function publish(from: number, total: number): Promise<{ published: number; bytes: number; peak: Memory }> {
  let bytes = 0;
  let n = from;
  let peak = memory();
  while (bytes < total) {
    const length = SIZES[n % SIZES.length]!;
    void broker.broadcast('note', `${n} ${length} ${'x'.repeat(length)}`);
    bytes += length;
    if (++n % 8 > 0) continue;
    do await turn();
    while (isAnyBehind());
    const now = memory();
    peak = {
      rss: Math.max(peak.rss, now.rss),
      heap: Math.max(peak.heap, now.heap),
      buffers: Math.max(peak.buffers, now.buffers),
    };
  }
  // What waits then waits for the one that stands still.
  while (isAnyBehind()) await turn();
  return { published: n, bytes, peak };
}

function isAnyBehind(): boolean {
  for (const { userId, queuedFrames } of broker.getClients()) if (userId !== 'stalled' && queuedFrames > 0) return true;
  return false;
}

const send = (message: FromServer) => process.send!(message);

process.on('message', async ({ from, total, clients }: { from: number; total: number; clients: number }) => {
  while (broker.getStats().totalClients < clients) await turn();
  const { published, bytes, peak } = await publish(from, total);
  globalThis.gc!();
  await turn();
  globalThis.gc!();
  const { queuedBytes } = broker.getStats();
  send({ published, bytes, after: memory(), peak, queuedBytes, stats: broker.getStats(), overflowed });
});

server.listen(0, '127.0.0.1', () => send({ port: (server.address() as AddressInfo).port }));
