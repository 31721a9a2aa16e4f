/** A real HTTP client of an event stream, with an independent parser. */
import http, { type IncomingHttpHeaders } from 'node:http';
import https from 'node:https';
import type { Readable } from 'node:stream';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { onTestFinished } from 'vitest';
import { until } from './until.js';

export interface StreamClient {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Everything received, as text. */
  readonly text: () => string;
  /** Events in order, `connected` included. */
  readonly events: EventSourceMessage[];
  readonly comments: string[];
  /** The last `retry:` seen. */
  readonly retry: () => number | undefined;
  /** True when the response is over, in whatever way. */
  readonly isEnded: () => boolean;
  /** Waits for an event of that name and gives its data, parsed. */
  next<T = unknown>(event: string, count?: number): Promise<T>;
  /** Waits until `count` events of that name are there and gives their data, parsed. */
  all<T = unknown>(event: string, count: number): Promise<T[]>;
  ended(): Promise<void>;
  /** Leaves. */
  close(): void;
}

function parsed(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    return data;
  }
}

/** Reads `body` as an event stream; `leave` is how its client goes away. */
export function readStream(
  body: Readable,
  head: { readonly status: number; readonly headers: IncomingHttpHeaders },
  leave: () => void,
): StreamClient {
  const events: EventSourceMessage[] = [];
  const comments: string[] = [];
  let text = '';
  let retry: number | undefined;
  let isEnded = false;
  const parser = createParser({
    onEvent: (event) => events.push(event),
    onComment: (comment) => comments.push(comment),
    onRetry: (ms) => {
      retry = ms;
    },
  });
  body.setEncoding('utf8');
  body.on('data', (chunk: string) => {
    text += chunk;
    parser.feed(chunk);
  });
  body.on('error', () => {});
  body.on('close', () => {
    isEnded = true;
  });
  const all = async <T>(name: string, count: number): Promise<T[]> => {
    const matching = () => events.filter((event) => (event.event ?? 'message') === name);
    await until(() => matching().length >= count, `${count} × ${name}; have ${matching().length}`);
    return matching().map((event) => parsed(event.data) as T);
  };
  return {
    ...head,
    text: () => text,
    events,
    comments,
    retry: () => retry,
    isEnded: () => isEnded,
    all,
    next: async <T>(name: string, count = 1) => (await all<T>(name, count))[count - 1]!,
    ended: async () => {
      await until(() => isEnded, 'the end of the stream');
    },
    close: leave,
  };
}

/** Opens a stream and waits for its head; certificates are not looked at. The stream is closed when the test ends. */
export function openStream(
  url: string,
  options: { headers?: Record<string, string>; method?: string; agent?: http.Agent; signal?: AbortSignal } = {},
): Promise<StreamClient> {
  return new Promise((resolve, reject) => {
    const { request } = url.startsWith('https:') ? https : http;
    const req = request(
      url,
      {
        method: 'GET',
        agent: options.agent ?? false,
        rejectUnauthorized: false,
        ...options,
        headers: { accept: 'text/event-stream', ...options.headers },
      },
      (res) => {
        resolve(readStream(res, { status: res.statusCode ?? 0, headers: res.headers }, () => req.destroy()));
      },
    );
    req.on('error', reject);
    onTestFinished(() => {
      req.destroy();
    });
    req.end();
  });
}
