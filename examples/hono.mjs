// Streams in a Hono application on Node.
//
//   npm install sse-broker hono @hono/node-server
//   PORT=3000 node examples/hono.mjs
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import { Broker, queryTopicResolver } from 'sse-broker';
import { createHonoHandler } from 'sse-broker/hono';

const broker = new Broker();
const app = new Hono();

// Stands for your login (hono/jwt, sessions, …): whatever sets a variable of the context.
app.use(async (c, next) => {
  if (c.req.query('user')) c.set('user', { id: c.req.query('user') });
  await next();
});

app.get(
  '/events',
  createHonoHandler(broker, {
    authenticator: (_request, c) => (c.get('user') ? { userId: c.get('user').id } : null),
    topicResolver: queryTopicResolver(),
  }),
);

app.post('/notify', async (c) => {
  await broker.sendToUser(c.req.query('to'), 'note', { text: c.req.query('text') });
  return c.body(null, 202);
});

const server = serve({ fetch: app.fetch, port: Number(process.env.PORT ?? 3000) }, ({ port }) => {
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
