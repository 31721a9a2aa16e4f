// Streams in a Fastify application.
//
//   npm install sse-broker fastify
//   PORT=3000 node examples/fastify.mjs
import fastify from 'fastify';
import { Broker, queryTopicResolver } from 'sse-broker';
import { sseBroker } from 'sse-broker/fastify';

const broker = new Broker();
// Else a connection that a browser opened ahead, and never used, would hold app.close() for up to a minute.
const app = fastify({ forceCloseConnections: true, return503OnClosing: false });

// Stands for your login (@fastify/jwt, @fastify/passport, …): whatever sets request.user.
app.decorateRequest('user', null);
app.addHook('onRequest', async (request) => {
  if (request.query.user) request.user = { id: request.query.user };
});

app.register(sseBroker, {
  broker,
  path: '/events',
  authenticator: (_req, request) => (request.user ? { userId: request.user.id } : null),
  topicResolver: queryTopicResolver(),
});

app.post('/notify', async (request, reply) => {
  await broker.sendToUser(request.query.to, 'note', { text: request.query.text });
  return reply.code(202).send();
});

await app.listen({ port: Number(process.env.PORT ?? 3000) });
const url = `http://localhost:${app.server.address().port}`;
console.log(`curl -N '${url}/events?user=alice&topics=news'`);
console.log(`curl -X POST '${url}/notify?to=alice&text=hello'`);

// The plugin closes the broker: the streams end, and their clients are told when to come back.
process.once('SIGTERM', () => app.close());
