/** Servers of event streams that are not ours: bare ones with every habit the standard allows, and those of frameworks. */
import http, { type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createAdaptorServer } from '@hono/node-server';
import express from 'express';
import fastify from 'fastify';
import { createEventStream, H3, toNodeHandler } from 'h3';
import { Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import { onTestFinished } from 'vitest';
import { listen } from '../support/server.js';

/** What a server sends: everything as text. */
export interface ForeignEvent {
  readonly id: string;
  readonly event: string;
  readonly data: string;
}

/** A server under test: how it sends what `script` gives. A connection ends where its script ends. */
export type StartForeign = (script: Script) => Promise<{ url: string }>;

/** Events for one connection, the nth (from 1) of this server. */
export type Script = (headers: IncomingHttpHeaders) => AsyncIterable<ForeignEvent>;

/** How the lines of an event are written. */
type Encode = (event: ForeignEvent) => string;

/** node:http, with bytes of its own; `before` is sent first. */
const bare =
  (encode: Encode, before = ''): StartForeign =>
  async (script) => {
    const server = http.createServer(async (req, res) => {
      res.on('error', () => {});
      res.writeHead(200, { 'Content-Type': 'text/event-stream' });
      res.flushHeaders();
      if (before !== '') res.write(before);
      for await (const event of script(req.headers)) {
        if (res.destroyed) return;
        res.write(encode(event));
        // Another packet for another event.
        await nextTurn();
      }
      res.end();
    });
    return started(server);
  };

async function started(server: http.Server): Promise<{ url: string }> {
  const { url, close } = await listen(server);
  onTestFinished(close);
  return { url: `${url}/events` };
}

async function* textOf(script: Script, headers: IncomingHttpHeaders, encode: Encode): AsyncGenerator<string> {
  for await (const event of script(headers)) yield encode(event);
}

const plain: Encode = ({ id, event, data }) => `id: ${id}\nevent: ${event}\ndata: ${data}\n\n`;

/** By its name; `hasIds` is false for those that send none. */
export const FOREIGN_SERVERS: Readonly<Record<string, { readonly start: StartForeign; readonly hasIds: boolean }>> = {
  'node:http without ids': { start: bare(({ event, data }) => `event: ${event}\ndata: ${data}\n\n`), hasIds: false },
  'node:http with CR only': { start: bare((event) => plain(event).replaceAll('\n', '\r')), hasIds: true },
  'node:http with CRLF, a BOM, comments and unknown fields': {
    start: bare(
      (event) => `: comment\n:\nfoo: bar\nretry: x\n${plain(event)}`.replaceAll('\n', '\r\n'),
      '\uFEFF: hello\r\n\r\n',
    ),
    hasIds: true,
  },
  'node:http, no space behind the colon, data before the id, padding first (as better-sse writes it)': {
    start: bare(
      ({ id, event, data }) => `event:${event}\ndata:${data}\nid:${id}\n\n`,
      `retry:250\n\n:${' '.repeat(2_048)}\n\n`,
    ),
    hasIds: true,
  },
  'Express, res.write': {
    start: async (script) => {
      const app = express();
      app.get('/events', async (req: IncomingMessage, res: http.ServerResponse) => {
        res.writeHead(200, { 'Content-Type': 'text/event-stream; charset=UTF-8' });
        for await (const text of textOf(script, req.headers, plain)) res.write(text);
        res.end();
      });
      return started(http.createServer(app));
    },
    hasIds: true,
  },
  'Fastify, a Readable': {
    start: async (script) => {
      const app = fastify();
      app.get('/events', (req, reply) => {
        const body = Readable.from(textOf(script, req.headers, plain));
        return reply.type('text/event-stream').send(body);
      });
      await app.ready();
      onTestFinished(() => app.close());
      return started(app.server);
    },
    hasIds: true,
  },
  'Hono, streamSSE': {
    start: async (script) => {
      const app = new Hono();
      app.get('/events', (c) =>
        streamSSE(c, async (stream) => {
          for await (const event of script(Object.fromEntries(c.req.raw.headers))) await stream.writeSSE(event);
        }),
      );
      return started(createAdaptorServer(app) as http.Server);
    },
    hasIds: true,
  },
  'h3, createEventStream': {
    start: async (script) => {
      const app = new H3();
      app.get('/events', (event) => {
        const stream = createEventStream(event);
        void (async () => {
          for await (const one of script(Object.fromEntries(event.req.headers))) await stream.push(one);
          await stream.close();
        })();
        return stream.send();
      });
      return started(http.createServer(toNodeHandler(app)));
    },
    hasIds: true,
  },
};
