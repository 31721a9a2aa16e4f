/**
 * Servers that are wrong in one way each, over real sockets: what a client meets behind broken proxies, during deploys and
 * on trains. Each counts its connections and writes down every request with its time, so a test can say how often and how
 * soon somebody came back.
 */
import http, { type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { onTestFinished } from 'vitest';
import { listen, type RunningServer } from './server.js';

/** One request, as it came. */
export interface FaultRequest {
  /** ms, of `performance.now()`. */
  readonly at: number;
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
}

/** What a behaviour has in its hands. */
export interface Exchange {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  /** 0 for the first request. */
  readonly index: number;
  /** Aborted as soon as the response is over, in whatever way. */
  readonly signal: AbortSignal;
}

/** One way to answer a request. It may keep the response for as long as it likes. */
export type Behaviour = (exchange: Exchange) => void;

export interface FaultServer extends RunningServer {
  readonly requests: FaultRequest[];
  /** Sockets ever accepted. */
  readonly connections: number;
  /** Sockets that are open now. */
  readonly openSockets: number;
  /** Responses that are under way now. */
  readonly openResponses: number;
  /** From the next request on it behaves like that. */
  become(behaviour: Behaviour): void;
  /** Cuts every socket, with a RST, and goes on listening. */
  cutAll(): void;
}

export interface FaultServerOptions {
  /** Default: a free one. */
  readonly port?: number;
  /** Lets a page of every origin read the answers, cookies and `Authorization` included. Default false. */
  readonly cors?: boolean;
}

/** Serves `behaviour` until the running test ends. */
export async function startFaultServer(
  behaviour: Behaviour,
  { port = 0, cors = false }: FaultServerOptions = {},
): Promise<FaultServer> {
  const requests: FaultRequest[] = [];
  const sockets = new Set<Socket>();
  let current = behaviour;
  let connections = 0;
  let openResponses = 0;
  let index = 0;
  const server = http.createServer((req, res) => {
    if (cors) {
      allow(req, res);
      if (req.method === 'OPTIONS') {
        res.writeHead(204).end();
        return;
      }
    }
    const { method = '', url = '', headers } = req;
    requests.push({ at: performance.now(), method, url, headers });
    const controller = new AbortController();
    openResponses++;
    res.once('close', () => {
      openResponses--;
      controller.abort();
    });
    // A client that leaves is no fault of ours.
    res.on('error', () => {});
    current({ req, res, index: index++, signal: controller.signal });
  });
  server.on('connection', (socket) => {
    connections++;
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
  });
  const running = await listen(server, 'http', port);
  const cutAll = () => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  const close = async () => {
    const closed = running.close();
    // closeAllConnections() leaves those alone whose bytes were taken over by a behaviour.
    cutAll();
    await closed;
  };
  onTestFinished(close);
  return {
    ...running,
    close,
    requests,
    cutAll,
    become: (next) => {
      current = next;
    },
    get connections() {
      return connections;
    },
    get openSockets() {
      return sockets.size;
    },
    get openResponses() {
      return openResponses;
    },
  };
}

function allow(req: IncomingMessage, res: ServerResponse): void {
  res.setHeader('Access-Control-Allow-Origin', req.headers.origin ?? '*');
  res.setHeader('Access-Control-Allow-Credentials', 'true');
  res.setHeader('Access-Control-Allow-Headers', 'authorization, last-event-id, cache-control, x-token');
  res.setHeader('Access-Control-Expose-Headers', 'retry-after');
}

const STREAM = { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' };

/** Text of one event; `id` and `event` where given. */
export function eventText(data: string, { id, event }: { id?: string; event?: string } = {}): string {
  const head = `${id === undefined ? '' : `id: ${id}\n`}${event === undefined ? '' : `event: ${event}\n`}`;
  return `${head}${data
    .split('\n')
    .map((line) => `data: ${line}\n`)
    .join('')}\n`;
}

/** A good stream: the head, these chunks at once, and then silence. */
export function stream(...chunks: readonly (string | Buffer)[]): Behaviour {
  return ({ res }) => {
    res.writeHead(200, STREAM);
    res.flushHeaders();
    for (const chunk of chunks) res.write(chunk);
  };
}

/** The nth request gets the nth of these; the last one answers all that follow. */
export function inTurn(...behaviours: readonly [Behaviour, ...Behaviour[]]): Behaviour {
  let next = 0;
  return (exchange) => behaviours[Math.min(next++, behaviours.length - 1)]!(exchange);
}

/** Paths to behaviours, without their query; 404 for others. */
export function byPath(paths: Readonly<Record<string, Behaviour>>): Behaviour {
  return (exchange) => {
    const behaviour = paths[(exchange.req.url ?? '').split('?')[0]!] ?? status(404);
    behaviour(exchange);
  };
}

/** Takes the connection and closes it without a byte. */
export const acceptAndClose: Behaviour = ({ res }) => {
  res.socket?.destroy();
};

/** A perfect head, and an end right behind it; with `chunks` in between. */
export function headThenEnd(...chunks: readonly (string | Buffer)[]): Behaviour {
  return ({ res }) => {
    res.writeHead(200, STREAM);
    for (const chunk of chunks) res.write(chunk);
    res.end();
  };
}

/** Takes the request and never answers. */
export const hangBeforeHead: Behaviour = () => {};

/** `chunks` after the head, and then not a byte more, not even a heartbeat; the connection stays. */
export function muteAfterHead(...chunks: readonly (string | Buffer)[]): Behaviour {
  return stream(...chunks);
}

/**
 * Cuts the connection (RST) in the middle of a character of several bytes, in the middle of an event: `before` arrives
 * whole.
 */
export function cutMidCharacter(before = ''): Behaviour {
  return ({ res }) => {
    res.writeHead(200, STREAM);
    const smile = Buffer.from('🙂');
    const bytes = Buffer.concat([Buffer.from(`${before}data: cut here: `), smile.subarray(0, 2)]);
    // Once the kernel has it: a RST takes what was not sent yet along.
    res.write(bytes, () => setImmediate(() => res.socket?.resetAndDestroy()));
  };
}

/** That status, with these headers and this body. */
export function status(code: number, headers: Readonly<Record<string, string>> = {}, body = ''): Behaviour {
  return ({ res }) => {
    res.writeHead(code, { ...(body === '' ? {} : { 'Content-Type': 'text/plain' }), ...headers }).end(body);
  };
}

/** Sends the client to `location`, on this origin or another. */
export function redirect(location: string, code: 301 | 302 | 303 | 307 | 308 = 307): Behaviour {
  return status(code, { Location: location });
}

/** 200, but a page: what a captive portal or a login redirect answers. */
export function wrongContentType(body = '<!doctype html><title>Sign in</title>', type = 'text/html'): Behaviour {
  return ({ res }) => {
    res.writeHead(200, { 'Content-Type': type }).end(body);
  };
}

/** Sends `text` byte by byte, one every `everyMs`, then keeps silent; with `atEnd`, ends. */
export function slowLoris(text: string, everyMs = 1, atEnd: 'stay' | 'end' = 'stay'): Behaviour {
  return ({ res, signal }) => {
    res.writeHead(200, STREAM);
    res.flushHeaders();
    res.socket?.setNoDelay(true);
    const bytes = Buffer.from(text);
    let at = 0;
    const timer = setInterval(() => {
      res.write(bytes.subarray(at, ++at));
      if (at < bytes.length) return;
      clearInterval(timer);
      if (atEnd === 'end') res.end();
    }, everyMs);
    signal.addEventListener('abort', () => clearInterval(timer));
  };
}

/**
 * One line that never ends, in pieces of `chunkBytes`, as fast as the reader takes them; after `maxBytes` it pauses for
 * good, so that a client without a limit does not fill the machine.
 */
export function endlessLine({ chunkBytes = 65_536, maxBytes = 64 * 1024 * 1024 } = {}): Behaviour {
  return ({ res, signal }) => {
    res.writeHead(200, STREAM);
    res.write('data: ');
    const piece = Buffer.alloc(chunkBytes, 'x');
    let sent = 0;
    const pump = () => {
      while (!signal.aborted && sent < maxBytes) {
        sent += piece.length;
        if (!res.write(piece)) {
          res.once('drain', pump);
          return;
        }
      }
    };
    pump();
  };
}

/** Goes up and down: a good stream with `chunks`, cut after `upMs`, each time. */
export function flapping(upMs: number, ...chunks: readonly (string | Buffer)[]): Behaviour {
  return (exchange) => {
    stream(...chunks)(exchange);
    const timer = setTimeout(() => exchange.res.socket?.destroy(), upMs);
    exchange.signal.addEventListener('abort', () => clearTimeout(timer));
  };
}

/** A proxy that reads whole responses first: of a stream, which never ends, not even the head arrives. */
export const bufferingProxy = hangBeforeHead;
