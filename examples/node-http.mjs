// Streams on a bare node:http server.
//
//   npm install sse-broker
//   PORT=3000 node examples/node-http.mjs
import http from 'node:http';
import { Broker, createHandler, queryAuthenticator, queryTopicResolver } from 'sse-broker';

const broker = new Broker();

const events = createHandler(broker, {
  // Believes whatever the URL says, for a first try. Read a session or a token here.
  authenticator: queryAuthenticator({ userParameter: 'user' }),
  topicResolver: queryTopicResolver(),
});

const server = http.createServer(async (req, res) => {
  // Not new URL(req.url, 'http://localhost'): anybody may ask for //, which is no URL, and that would end the process.
  const { pathname, searchParams } = new URL(`http://localhost${req.url}`);
  if (pathname === '/events') {
    events(req, res);
  } else if (pathname === '/notify' && req.method === 'POST') {
    const sent = broker.sendToUser(searchParams.get('to'), 'note', { text: searchParams.get('text') });
    res.writeHead(await sent.then(() => 202).catch((error) => error.status ?? 500)).end();
  } else {
    res.writeHead(404).end();
  }
});

server.listen(process.env.PORT ?? 3000, () => {
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
