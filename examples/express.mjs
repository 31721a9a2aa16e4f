// Streams beside the other routes of an Express application.
//
//   npm install sse-broker express
//   PORT=3000 node examples/express.mjs
import express from 'express';
import { Broker, createHandler, queryTopicResolver } from 'sse-broker';

const broker = new Broker();
const app = express();

// Stands for your login (express-session, Passport, …): whatever sets req.user.
app.use((req, _res, next) => {
  if (req.query.user) req.user = { id: req.query.user };
  next();
});

app.get(
  '/events',
  createHandler(broker, {
    authenticator: (req) => (req.user ? { userId: req.user.id } : null),
    topicResolver: queryTopicResolver(),
  }),
);

app.post('/notify', async (req, res) => {
  await broker.sendToUser(req.query.to, 'note', { text: req.query.text });
  res.sendStatus(202);
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
