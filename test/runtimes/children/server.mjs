// A broker served by this runtime, on a free port that it prints: server.mjs fetch|node <{ broker, serve }: options, as JSON>
// `/events`, `/poll` and `/api/…` are the handlers'; the rest is for server.test.ts.
import http from 'node:http';
import {
  Broker,
  createFetchHandler,
  createFetchPollHandler,
  createHandler,
  createPollHandler,
  queryAuthenticator,
} from 'sse-broker';
import { createApi, createFetchApi, tokenAuthorizer } from 'sse-broker/api';

const { Bun, Deno } = globalThis;
const [how, json] = process.argv.slice(2);
const options = JSON.parse(json);
const broker = new Broker({ historySize: 100, ...options.broker });
const reported = [];
broker.on('error', (error) => reported.push(`${error.code}: ${error.message}`));
for (const name of ['uncaughtException', 'unhandledRejection']) {
  process.on(name, (error) => reported.push(`${name}: ${error?.stack ?? error}`));
}
const ended = [];
broker.on('clientDisconnected', (_client, reason) => ended.push(reason));

const identify = queryAuthenticator({ userParameter: 'user' });

const handlerOptions = {
  authenticator: async (request) => {
    const identity = await identify(request);
    // Somebody may leave meanwhile.
    if (identity?.userId === 'late') await new Promise((resolve) => setTimeout(resolve, 10));
    return identity;
  },
  compression: 'gzip',
  cors: { origin: 'https://app.example' },
};
const apiOptions = {
  path: '/api',
  authorize: tokenAuthorizer([{ token: 'a-token-for-the-tests', scopes: ['publish'] }]),
};

/** Answers as JSON; undefined for what is not here. */
async function control({ pathname, searchParams }) {
  if (pathname === '/send') {
    const data = 'x'.repeat(searchParams.get('size') ?? 1);
    for (let n = Number(searchParams.get('count') ?? 1); n > 0; n--) await broker.broadcast('note', data);
    return {};
  }
  if (pathname === '/stats') return { ...broker.getStats(), ended, reported };
  if (pathname !== '/close') return undefined;
  await broker.close();
  // The connection of this answer included.
  setTimeout(stop);
  return {};
}

let stop;
const listening = ({ port }) => console.log(port);

if (how === 'fetch') {
  const paths = {
    '/events': createFetchHandler(broker, handlerOptions),
    '/poll': createFetchPollHandler(broker, handlerOptions),
  };
  const api = createFetchApi(broker, apiOptions);
  const serve = async (request) => {
    const url = new URL(request.url);
    const handler = paths[url.pathname] ?? (url.pathname.startsWith('/api/') ? api : undefined);
    if (handler !== undefined) return handler(request);
    const found = await control(url);
    return Response.json(found ?? null, { status: found === undefined ? 404 : 200, headers: { connection: 'close' } });
  };
  if (Bun === undefined) {
    const server = Deno.serve({ port: 0, hostname: '127.0.0.1', onListen: listening }, serve);
    stop = () => server.shutdown();
  } else {
    const server = Bun.serve({
      port: 0,
      hostname: '127.0.0.1',
      ...options.serve,
      fetch(request, self) {
        // As the guide says.
        if (request.url.includes('patient')) self.timeout(request, 0);
        return serve(request);
      },
    });
    listening(server);
    stop = () => server.stop();
  }
} else {
  const paths = {
    '/events': createHandler(broker, handlerOptions),
    '/poll': createPollHandler(broker, handlerOptions),
  };
  const api = createApi(broker, apiOptions);
  const server = http.createServer(async (req, res) => {
    const url = new URL(req.url, 'http://localhost');
    const handler = paths[url.pathname] ?? (url.pathname.startsWith('/api/') ? api : undefined);
    if (handler !== undefined) return handler(req, res);
    const found = await control(url);
    res.writeHead(found === undefined ? 404 : 200, { connection: 'close' }).end(JSON.stringify(found ?? null));
  });
  server.listen(0, '127.0.0.1', () => listening(server.address()));
  stop = () => server.close();
}
