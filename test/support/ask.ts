/** One request and its whole answer, by Node's handler over real HTTP or by the Fetch handler. */
import http, { type OutgoingHttpHeaders } from 'node:http';
import type { HandlerBroker } from '../../src/http/arrival.js';
import { createFetchHandler, createHandler, type HandlerOptions, type RequestLike } from '../../src/index.js';
import { serve } from './server.js';

export interface Asked {
  readonly status: number;
  /** By lower-case name; repeated ones joined. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: string;
  /** The `error` of a JSON body. */
  readonly error: { code: string; message: string } | undefined;
}

export interface AskInit {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

/** Asks for `path`; headers of its own only. Resolves at the end of the answer, which a stream that opens has not. */
export type Ask = (path?: string, init?: AskInit) => Promise<Asked>;

function asked(status: number, headers: Asked['headers'], body: string): Asked {
  const isJson = headers['content-type']?.startsWith('application/json') === true && body !== '';
  return { status, headers, body, error: isJson ? JSON.parse(body).error : undefined };
}

/** Asks a server over HTTP/1.1. */
export function asking(url: string): Ask {
  return (path = '/', { method = 'GET', headers = {}, body } = {}) =>
    new Promise((resolve, reject) => {
      const req = http.request(url + path, { method, headers, agent: false }, (res) => {
        let text = '';
        res.setEncoding('utf8');
        res.on('data', (chunk: string) => {
          text += chunk;
        });
        res.on('end', () => {
          const all: OutgoingHttpHeaders = res.headers;
          const flat = Object.entries(all).map(([name, value]) => [name, String(value)]);
          resolve(asked(res.statusCode!, Object.fromEntries(flat), text));
        });
        res.on('error', reject);
      });
      req.on('error', reject);
      req.end(body);
    });
}

/** Serves `broker` with both handlers and gives, for each, a way to ask it. */
export const carriers: Record<string, (broker: HandlerBroker, options?: HandlerOptions<RequestLike>) => Promise<Ask>> =
  {
    'Node handler': async (broker, options = {}) => asking((await serve(createHandler(broker, options))).url),
    'Fetch handler': async (broker, options = {}) => {
      const handler = createFetchHandler(broker, options);
      return async (path = '/', init = {}) => {
        const response = await handler(new Request(`http://localhost${path}`, init));
        return asked(response.status, Object.fromEntries(response.headers), await response.text());
      };
    },
  };
