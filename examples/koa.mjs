// Streams in a Koa application.
//
//   npm install sse-broker koa
//   PORT=3000 node examples/koa.mjs
import Koa from 'koa';
import { Broker, queryTopicResolver } from 'sse-broker';
import { createKoaHandler } from 'sse-broker/koa';

const broker = new Broker();
const app = new Koa();

// Stands for your login (koa-session, koa-passport, …): whatever sets ctx.state.user.
app.use((ctx, next) => {
  if (ctx.query.user) ctx.state.user = { id: ctx.query.user };
  return next();
});

const events = createKoaHandler(broker, {
  authenticator: (_req, ctx) => (ctx.state.user ? { userId: ctx.state.user.id } : null),
  topicResolver: queryTopicResolver(),
});
app.use((ctx, next) => (ctx.path === '/events' ? events(ctx) : next()));

app.use(async (ctx) => {
  if (ctx.method !== 'POST' || ctx.path !== '/notify') return;
  await broker.sendToUser(ctx.query.to, 'note', { text: ctx.query.text });
  ctx.status = 202;
});

const server = app.listen(process.env.PORT ?? 3000, () => {
  const url = `http://localhost:${server.address().port}`;
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
