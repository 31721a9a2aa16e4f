// Streams from a function (Request) => Response. Here @hono/node-server puts it on Node, where it is tested; Deno, Bun and
// others have a server of their own for such a function.
//
//   npm install sse-broker @hono/node-server
//   PORT=3000 node examples/fetch.mjs
import { serve } from '@hono/node-server';
import { Broker, createFetchHandler, queryAuthenticator, queryTopicResolver } from 'sse-broker';

const broker = new Broker();

const events = createFetchHandler(broker, {
  // Believes whatever the URL says, for a first try. Read a session or a token here.
  authenticator: queryAuthenticator({ userParameter: 'user' }),
  topicResolver: queryTopicResolver(),
});

async function fetch(request) {
  const { pathname, searchParams } = new URL(request.url);
  if (pathname === '/events') return events(request);
  if (pathname === '/notify' && request.method === 'POST') {
    const sent = broker.sendToUser(searchParams.get('to'), 'note', { text: searchParams.get('text') });
    return new Response(null, { status: await sent.then(() => 202).catch((error) => error.status ?? 500) });
  }
  return new Response('not found', { status: 404 });
}

const server = serve({ fetch, port: Number(process.env.PORT ?? 3000) }, ({ port }) => {
  const url = `http://localhost:${port}`;
  console.log(`curl -N '${url}/events?user=alice&topics=news'`);
  console.log(`curl -X POST '${url}/notify?to=alice&text=hello'`);
});

process.once('SIGTERM', async () => {
  server.close();
  // Ends the streams, which server.close() waits for, and tells their clients when to come back.
  await broker.close();
  // What is left would hold the process: kept-alive connections, and those that a browser opened ahead and never used.
  server.closeAllConnections();
});
