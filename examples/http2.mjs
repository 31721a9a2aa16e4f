// Streams over HTTP/2: all tabs of a browser share one connection, where HTTP/1.1 allows six per host.
//
//   npm install sse-broker
//   PORT=3000 TLS_KEY=key.pem TLS_CERT=cert.pem node examples/http2.mjs
//
// Browsers speak HTTP/2 over TLS only. Without a certificate this server speaks it in clear text, for curl and proxies.
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import { Broker, createHandler, queryAuthenticator, queryTopicResolver } from 'sse-broker';

const broker = new Broker();

const events = createHandler(broker, {
  // Believes whatever the URL says, for a first try. Read a session or a token here.
  authenticator: queryAuthenticator({ userParameter: 'user' }),
  topicResolver: queryTopicResolver(),
});

async function listener(req, res) {
  // Not new URL(req.url, 'http://localhost'): anybody may ask for //, which is no URL, and that would end the process.
  const { pathname, searchParams } = new URL(`http://localhost${req.url}`);
  if (pathname === '/events') {
    events(req, res);
  } else if (pathname === '/notify' && req.method === 'POST') {
    const sent = broker.sendToUser(searchParams.get('to'), 'note', { text: searchParams.get('text') });
    res.writeHead(await sent.then(() => 202).catch((error) => error.status ?? 500));
    res.end();
  } else {
    res.writeHead(404);
    res.end();
  }
}

const { TLS_KEY, TLS_CERT, PORT = 3000 } = process.env;
const server = TLS_KEY
  ? // allowHTTP1: clients that know no HTTP/2 get their streams over HTTP/1.1.
    http2.createSecureServer({ key: readFileSync(TLS_KEY), cert: readFileSync(TLS_CERT), allowHTTP1: true }, listener)
  : http2.createServer(listener);

// Before Node 24, server.close() waits for sessions that carry no stream any more, so they are closed by hand.
const sessions = new Set();
server.on('session', (session) => {
  sessions.add(session);
  session.once('close', () => sessions.delete(session));
});

server.listen(PORT, () => {
  const curl = TLS_KEY ? 'curl -k --http2' : 'curl --http2-prior-knowledge';
  const url = `${TLS_KEY ? 'https' : 'http'}://localhost:${server.address().port}`;
  console.log(`${curl} -N '${url}/events?user=alice&topics=news'`);
  console.log(`${curl} -X POST '${url}/notify?to=alice&text=hello'`);
});

process.once('SIGTERM', async () => {
  server.close();
  await broker.close();
  for (const session of sessions) session.close();
  // Those that spoke HTTP/1.1 and were kept alive.
  server.closeIdleConnections?.();
});
