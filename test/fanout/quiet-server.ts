/**
 * The server of quiet-connection.test.ts, in a process of its own with `--expose-gc`: it looks at what a stream that only
 * waits holds on to.
 */
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Broker, createHandler } from '../../src/index.js';

export type FromQuietServer =
  | { readonly port: number }
  | {
      /** Names of what is still there after a collection. */
      readonly held: readonly string[];
      readonly clients: number;
      readonly timers: number;
    };

const watched = new Map<string, WeakRef<object>>();
const watch = (name: string, object: object): void => {
  watched.set(name, new WeakRef(object));
};

const broker = new Broker({ historySize: 10 });
let streams = 0;

/** What a framework would pass along: it has the body, the session, and everything else of a request. */
class Context {
  readonly session = new Array(1_000).fill(0);
}

const handler = createHandler<IncomingMessage, Context>(broker, {
  authenticator: async (req) => ({ userId: req.headers['x-user'] as string }),
  topicResolver: async () => {
    const topics = ['a', 'b'];
    watch('the list of the topic resolver', topics);
    return topics;
  },
  authorizeTopic: async () => true,
  cors: { origin: '*' },
  onConnect: (client) => watch('what onConnect was given', client),
});

const server = http.createServer((req: IncomingMessage, res: ServerResponse) => {
  const { writeHead } = res;
  res.writeHead = function watched(this: ServerResponse, ...args: unknown[]) {
    watch('the headers of the response', args[1] as object);
    // Wrapping it is not what is looked at here.
    delete (this as { writeHead?: unknown }).writeHead;
    return (writeHead as (...args: unknown[]) => ServerResponse).apply(this, args);
  } as typeof res.writeHead;
  const context = new Context();
  watch('the context', context);
  const done = handler(req, res, context);
  watch('the promise of the handler', done);
  streams++;
});

const turn = () => new Promise((resolve) => setTimeout(resolve, 10));

process.on('message', async ({ streams: expected }: { streams: number }) => {
  while (streams < expected || broker.getStats().totalClients < expected) await turn();
  let held: string[] = [];
  // A weak reference lives until the end of the job that made or read it.
  for (let round = 0; round < 20; round++) {
    await turn();
    globalThis.gc!();
    held = [...watched].filter(([, reference]) => reference.deref() !== undefined).map(([name]) => name);
    if (held.length === 0) break;
  }
  const timers = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  process.send!({ held, clients: broker.getStats().totalClients, timers } satisfies FromQuietServer);
});

server.listen(0, '127.0.0.1', () => {
  process.send!({ port: (server.address() as AddressInfo).port } satisfies FromQuietServer);
});
