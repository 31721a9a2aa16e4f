/**
 * A broker behind a real HTTP server that goes away and comes back on the same port with the same history, as a deploy or
 * a crash does.
 */
import http, { type IncomingMessage, type RequestListener } from 'node:http';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { SqliteBus } from '../../src/buses/sqlite.js';
import {
  Broker,
  type BrokerOptions,
  createHandler,
  createPollHandler,
  type HandlerOptions,
  type SseError,
} from '../../src/index.js';
import { temporaryFolder } from '../buses/sqlite-files.js';
import { listen } from './server.js';

export interface RestartableServer {
  readonly url: string;
  /** The one that runs now. */
  readonly broker: Broker;
  /** Requests for the stream, of all lives. */
  readonly requests: readonly IncomingMessage[];
  /** Requests for the poll. */
  readonly polls: readonly IncomingMessage[];
  /** What the brokers reported. */
  readonly reported: readonly SseError[];
  /** Sockets that are open now. */
  readonly openSockets: number;
  /** Ends in an orderly way, as on SIGTERM; or, with `'crash'`, in the middle of a stream. Nobody listens afterwards. */
  stop(how?: 'deploy' | 'crash'): Promise<void>;
  /** Listens again, on the same port. */
  start(): Promise<void>;
}

export interface RestartableOptions {
  readonly broker?: Omit<BrokerOptions, 'bus'>;
  readonly handler?: HandlerOptions;
  /** Answers what is neither `/events` nor `/poll`: a page, say. Default 404. */
  readonly other?: RequestListener;
}

/** The last id that a request came with, wherever an EventSource may put it. */
export function cursorOf(req: IncomingMessage | undefined): string | undefined {
  const header = req?.headers['last-event-id'];
  if (typeof header === 'string') return header;
  return new URL(req?.url ?? '/', 'http://localhost').searchParams.get('lastEventId') ?? undefined;
}

/** Serves a stream at `/events` and long polling at `/poll`, from an SQLite file, until the running test ends. */
export async function startRestartable(options: RestartableOptions = {}): Promise<RestartableServer> {
  const { folder, remove } = temporaryFolder();
  const database = path.join(folder, 'events.sqlite');
  const other: RequestListener = options.other ?? ((_, res) => res.writeHead(404).end());
  const requests: IncomingMessage[] = [];
  const polls: IncomingMessage[] = [];
  const reported: SseError[] = [];
  const sockets = new Set<object>();
  let port = 0;
  let life: { broker: Broker; server: http.Server; close(): Promise<void> } | undefined;

  const start = async (): Promise<void> => {
    const broker = new Broker({ retry: 100, ...options.broker, bus: new SqliteBus({ database, historySize: 1_000 }) });
    broker.on('error', (error) => reported.push(error));
    await broker.start();
    const stream = createHandler(broker, options.handler);
    const poll = createPollHandler(broker, options.handler);
    const server = http.createServer((req, res) => {
      const { pathname } = new URL(req.url ?? '/', 'http://localhost');
      if (pathname === '/events') {
        requests.push(req);
        void stream(req, res);
      } else if (pathname === '/poll') {
        polls.push(req);
        void poll(req, res);
      } else {
        other(req, res);
      }
    });
    server.on('connection', (socket) => {
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
    });
    const running = await listen(server, 'http', port);
    port = running.port;
    life = { broker, server, close: running.close };
  };

  const stop = async (how: 'deploy' | 'crash' = 'deploy'): Promise<void> => {
    if (life === undefined) return;
    const { broker, close } = life;
    life = undefined;
    if (how === 'crash') await close();
    await broker.close({ timeoutMs: 1_000, reconnectWithinMs: 100 });
    if (how === 'deploy') await close();
  };

  await start();
  onTestFinished(async () => {
    await stop('crash');
    remove();
  });
  return {
    url: `http://127.0.0.1:${port}`,
    get broker() {
      if (life === undefined) throw new Error('the server is stopped');
      return life.broker;
    },
    requests,
    polls,
    reported,
    get openSockets() {
      return sockets.size;
    },
    stop,
    start,
  };
}
