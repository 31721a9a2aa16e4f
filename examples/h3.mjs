// Streams in an h3 application.
//
//   npm install sse-broker h3
//   PORT=3000 node examples/h3.mjs
import { getQuery, H3, serve } from 'h3';
import { Broker, queryTopicResolver } from 'sse-broker';
import { createH3Handler } from 'sse-broker/h3';

const broker = new Broker();
const app = new H3();

// Stands for your login (sessions, tokens, …): whatever sets a value of the event's context.
app.use((event) => {
  const { user } = getQuery(event);
  if (user) event.context.user = { id: user };
});

app.get(
  '/events',
  createH3Handler(broker, {
    authenticator: (_request, event) => (event.context.user ? { userId: event.context.user.id } : null),
    topicResolver: queryTopicResolver(),
  }),
);

app.post('/notify', async (event) => {
  const { to, text } = getQuery(event);
  await broker.sendToUser(to, 'note', { text });
  event.res.status = 202;
  return null;
});

// h3 closes the server by itself on SIGTERM, and would cut the streams after five seconds.
const server = serve(app, { port: process.env.PORT ?? 3000, silent: true, gracefulShutdown: false });
await server.ready();
const url = `http://localhost:${new URL(server.url).port}`;
console.log(`curl -N '${url}/events?user=alice&topics=news'`);
console.log(`curl -X POST '${url}/notify?to=alice&text=hello'`);

process.once('SIGTERM', async () => {
  // Ends the streams, which server.close() waits for, and tells their clients when to come back.
  await broker.close();
  // true: with the connections that a browser opened ahead and never used.
  await server.close(true);
});
