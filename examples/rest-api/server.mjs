// The REST API of a broker with an inbox: what a backend posts waits for its user, whatever language the backend is in.
//
//   npm install sse-broker zod
//   PORT=3000 node examples/rest-api/server.mjs
import { randomBytes } from 'node:crypto';
import http from 'node:http';
import { Broker, queryAuthenticator } from 'sse-broker';
import { createApi, tokenAuthorizer } from 'sse-broker/api';
import { Inbox, MemoryStore } from 'sse-broker/inbox';

const broker = new Broker();
// Forgets everything when the process ends; SqlStore does not.
const inbox = new Inbox({ broker, store: new MemoryStore() });
// The backend has it from where it has its other secrets.
const token = process.env.API_TOKEN ?? randomBytes(24).toString('base64url');

const api = createApi(broker, {
  path: '/api',
  inbox,
  // Believes whatever the URL says, for a first try. Read a session or a token here.
  authenticator: queryAuthenticator(),
  // Who may open /stream/news/… and subscribe to news:…
  authorizeTopic: (_identity, topic) => topic.startsWith('news:'),
  authorize: tokenAuthorizer([{ token, scopes: ['publish', 'read', 'admin'] }]),
});

const server = http.createServer(api).listen(process.env.PORT ?? 3000, () => {
  const url = `http://localhost:${server.address().port}/api`;
  const headers = `-H 'Authorization: Bearer ${token}' -H 'Content-Type: application/json'`;
  console.log(`curl -N '${url}/stream?user_id=alice'`);
  console.log(`curl '${url}/send' ${headers} -d '{"user_id":"alice","event_type":"note","data":{"text":"hello"}}'`);
});

process.once('SIGTERM', async () => {
  server.close();
  await inbox.close();
  // Ends the streams, which server.close() waits for, and tells their clients when to come back.
  await broker.close();
  // What is left would hold the process: kept-alive connections, and those that a browser opened ahead and never used.
  server.closeAllConnections();
});
